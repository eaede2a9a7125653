"""Dashboards, rules and documents name only what exists."""

import re
import subprocess
from pathlib import Path
from typing import Any

import configuration_doc
import dashboards
import metrics_doc
import pytest
import yaml
from metrics_questions import QUESTIONS, Question
from promql_parser import parse

from exporter.bank_metrics import BANK_ROWS, INFO, MEMBER
from exporter.metrics import COUNTER, INFOS, PROXY_ROWS, ROWS
from exporter.reading import Protection
from tests.support.expressions import EXPRESSIONS, RULE_FILES
from tests.support.paths import PROJECT

DOCUMENTS = [
    path
    for path in sorted(PROJECT.glob("*.md")) + sorted((PROJECT / "docs").rglob("*.md"))
    if path.name != "CHANGELOG.md"
]
USER_DOCUMENTS = [path for path in DOCUMENTS if path.name not in {"CONTRIBUTING.md", "SECURITY.md"}]
ALERTS = [
    rule
    for path in RULE_FILES
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
    if "alert" in rule
]
RECORDED = {
    rule["record"]
    for path in RULE_FILES
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
    if "record" in rule
}
OF_SCRAPES = {"job", "instance", "vehicle"}
LABELS = {
    **{
        row.name + ("_total" if row.kind is COUNTER else ""): {"battery"}
        | ({row.label} if row.label else set())
        for row in ROWS
    },
    **{f"{info.name}_info": {"battery", *info.labels} for info in INFOS},
    **{row.name: {"bank"} for row in BANK_ROWS},
    MEMBER[0]: {"bank", "battery"},
    f"{INFO[0]}_info": {"bank", "wiring"},
    "bms_exporter_build_info": {"version", "python"},
    "bms_exporter_config_last_reload_successful": set(),
    "bms_exporter_config_last_reload_success_timestamp_seconds": set(),
    "bms_exporter_log_lines_lost_total": set(),
    "bms_adapter_restarts_total": {"adapter", "reason"},
    **{name: {"proxy"} for name, _, _ in PROXY_ROWS},
    "bms_exporter_utc_offset_seconds": set(),
    "bms_exporter_morning_seconds": set(),
    "bms_exporter_next_morning_timestamp_seconds": set(),
    "bms_exporter_night_start_seconds": set(),
    "bms_exporter_night_end_seconds": set(),
    "up": set(),
    **{key: {"battery", "cell", "sensor"} for key in RECORDED},
}


@pytest.mark.parametrize("place", EXPRESSIONS)
def test_expression_is_promql_with_existing_metrics_and_labels(place: str) -> None:
    expr = EXPRESSIONS[place]
    parse(expr)

    for name, labels in re.findall(r"\b([a-z_:]+(?<!_))\{([^}]*)\}", expr):
        used = set(re.findall(r"(\w+)\s*[!=]", labels))
        assert used <= LABELS[name] | OF_SCRAPES, (name, used)
    for name in re.findall(r"\bbms[_:][\w:]+", expr):
        assert name in LABELS, name
    for protection in re.findall(r'protection!?="(\w+)"', expr):
        assert protection in set(Protection)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(PROJECT)))
def test_metric_named_in_a_document_exists(path: Path) -> None:
    named = set(re.findall(r"\bbms(?::\w+)+|\bbms_[a-z_]+[a-z]", path.read_text(encoding="utf-8")))

    assert {name for name in named if name not in LABELS} <= {"bms_exporter"}


def anchors(path: Path) -> set[str]:
    """Return the anchors of the headings of a document, as GitHub makes them."""
    text = re.sub(
        r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )
    headings = re.findall(r"^#+ (.*)", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(PROJECT)))
def test_link_of_a_document_leads_to_a_file_and_a_heading(path: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = path.parent / file if file else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


CONFIGURATIONS = {
    f"{path.relative_to(PROJECT)} {number}": block
    for path in DOCUMENTS
    for number, block in enumerate(
        re.findall(
            r"^```yaml\n(scrape_configs:.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE
        )
    )
}


@pytest.mark.parametrize("place", CONFIGURATIONS)
def test_promtool_accepts_the_scrape_configuration_of_a_document(
    place: str, promtool: str, tmp_path: Path
) -> None:
    config = tmp_path / "prometheus.yml"
    config.write_text(CONFIGURATIONS[place])

    done = subprocess.run(  # the files with certificate and password are not there
        [promtool, "check", "config", "--syntax-only", config],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_rules_become_resources_of_the_operator_as_the_document_says() -> None:
    document = (PROJECT / "docs" / "dashboards.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^```sh\n(.*?)^```", document, re.DOTALL | re.MULTILINE)

    printed = subprocess.run(
        ["/bin/sh", "-c", command], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout

    resources = list(yaml.safe_load_all(printed))
    assert [one["metadata"]["name"] for one in resources] == [path.stem for path in RULE_FILES]
    for resource, path in zip(resources, RULE_FILES, strict=True):
        assert resource["kind"] == "PrometheusRule"
        assert resource["spec"] == yaml.safe_load(path.read_text())


def test_index_links_every_document() -> None:
    index = (PROJECT / "docs" / "README.md").read_text(encoding="utf-8")

    for path in (PROJECT / "docs").glob("*.md"):
        assert path.name == "README.md" or f"]({path.name})" in index, path.name


def test_reference_of_the_configuration_is_what_its_script_writes() -> None:
    written = (PROJECT / "docs" / "configuration.md").read_text(encoding="utf-8")

    assert written == configuration_doc.text(), "make docs"
    for line in written.splitlines():
        assert not re.search(r"\| +\|$", line), f"no comment in config.example.yaml: {line}"


def test_reference_of_the_metrics_is_what_its_script_writes() -> None:
    written = (PROJECT / "docs" / "metrics.md").read_text(encoding="utf-8")

    assert written == metrics_doc.text(), "make docs"


def test_every_metric_answers_one_question() -> None:
    named = [name for question in QUESTIONS for name in question.metrics]

    assert sorted(named) == sorted(entry.name for entry in metrics_doc.entries())


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.title)
def test_query_of_a_question_uses_one_of_its_metrics(question: Question) -> None:
    assert set(re.findall(r"bms_\w+", question.query)) & set(question.metrics)


def test_readme_stays_short() -> None:
    assert len((PROJECT / "README.md").read_text(encoding="utf-8").split()) <= 1400


def test_files_named_by_symptom_exist() -> None:
    text = (PROJECT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = text.partition("| symptom | file |")[2].partition("## ")[0]
    named = set(re.findall(r"`([\w/]+\.(?:py|js|css))`", table))

    assert len(named) > 50
    assert [name for name in sorted(named) if not (PROJECT / "exporter" / name).is_file()] == []


@pytest.mark.parametrize("name", dashboards.DASHBOARDS)
def test_dashboard_is_what_its_script_writes(name: str) -> None:
    written = (PROJECT / "grafana" / "dashboards" / name).read_text(encoding="utf-8")

    assert written == dashboards.text(name), "make docs"


def test_counts_of_batteries_leave_room_for_their_table_on_a_phone() -> None:
    counts, table, *_ = dashboards.DASHBOARDS["fleet.json"]()["panels"]

    assert (counts["type"], table["type"]) == ("stat", "table")
    assert table["gridPos"]["y"] <= 4


def test_page_dashboards_and_alerts_agree_which_protections_are_usual() -> None:
    rules = (PROJECT / "prometheus" / "rules" / "bms-alerts.yml").read_text(encoding="utf-8")
    page = (PROJECT / "exporter" / "web" / "page" / "problems.js").read_text(encoding="utf-8")
    listed = re.search(r"const USUAL = \[(.*)\]", page)

    assert listed is not None
    assert sorted(re.findall(r'"(\w+)"', listed[1])) == sorted(
        one for one in Protection if re.fullmatch(dashboards.USUAL, one)
    )
    assert set(re.findall(r'protection[=!]~"(.*?)"', rules)) == {dashboards.USUAL}


def test_page_and_dashboard_warn_of_unequal_batteries_as_the_alert_does() -> None:
    page = (PROJECT / "exporter" / "web" / "page" / "problems.js").read_text(encoding="utf-8")
    rules = (PROJECT / "prometheus" / "rules" / "bms-alerts.yml").read_text(encoding="utf-8")

    assert "const UNEQUAL = 0.1;" in page
    assert "min_over_time(bms_bank_state_of_charge_difference_ratio[2h:1m]) > 0.1" in rules
    assert "bms_bank_state_of_charge_difference_ratio{" in dashboards.text("camper-energy.json")
    assert "} > 0.1 and on" in dashboards.text("camper-energy.json")


@pytest.mark.parametrize("name", dashboards.DASHBOARDS)
def test_dashboard_can_be_imported_and_describes_its_panels(name: str) -> None:
    board: dict[str, Any] = dashboards.DASHBOARDS[name]()
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]

    assert "__inputs" not in board
    assert {one["name"] for one in board["templating"]["list"]} == {
        "datasource",
        "job",
        "instance",
        "vehicle",
        "battery",
    }
    for variable in board["templating"]["list"][1:]:
        assert variable["allValue"] == (".*" if variable["name"] == "vehicle" else ".+")
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    for panel in panels:
        assert panel["title"]
        assert len(panel["description"]) > 10
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["fieldConfig"]["defaults"]["noValue"]
        assert panel["datasource"] == dashboards.SOURCE


@pytest.mark.parametrize("alert", sorted({rule["alert"] for rule in ALERTS}))
def test_alert_has_severity_summary_and_runbook(alert: str) -> None:
    for rule in (rule for rule in ALERTS if rule["alert"] == alert):
        assert rule["labels"]["severity"] in ("info", "warning", "critical")
        assert rule["annotations"]["summary"]
        description = re.sub(r"{{.*?}}", "", rule["annotations"]["description"])  # actions
        assert description.rstrip().endswith(".")
        assert rule["annotations"]["runbook_url"] == (
            f"{{{{ $externalLabels.runbooks }}}}/{alert}.md"
        )
    runbook = (PROJECT / "docs" / "runbooks" / f"{alert}.md").read_text(encoding="utf-8")

    assert runbook.startswith(f"# {alert}\n")
    headings = re.findall(r"^## (.*)", runbook, re.MULTILINE)
    assert headings == ["Meaning", "Impact", "Diagnosis", "Mitigation"]


ALERT_TESTS = [
    case
    for path in sorted((PROJECT / "prometheus" / "tests").glob("*.yml"))
    for test in yaml.safe_load(path.read_text())["tests"]
    for case in test.get("alert_rule_test", [])
]


def test_alerts_have_runbooks_and_tests() -> None:
    alerts = {rule["alert"] for rule in ALERTS}

    assert {path.stem for path in (PROJECT / "docs" / "runbooks").glob("*.md")} == alerts
    for alert in alerts:
        outcomes = [bool(case["exp_alerts"]) for case in ALERT_TESTS if case["alertname"] == alert]
        assert False in outcomes, alert


@pytest.mark.parametrize(
    "rule", ALERTS, ids=[f"{rule['alert']} {' '.join(rule['labels'].values())}" for rule in ALERTS]
)
def test_text_of_alert_is_tested(rule: dict[str, Any]) -> None:
    # promtool compares the texts of every alert that a test expects.
    assert any(
        rule["labels"].items() <= alert["exp_labels"].items() and alert["exp_annotations"]
        for case in ALERT_TESTS
        if case["alertname"] == rule["alert"]
        for alert in case["exp_alerts"]
    )


@pytest.mark.parametrize("protection", Protection)
def test_text_of_protection_is_tested(protection: Protection) -> None:
    assert any(
        alert["exp_labels"].get("protection") == protection
        for case in ALERT_TESTS
        if case["alertname"] == "BmsProtectionTripped"
        for alert in case["exp_alerts"]
    )


@pytest.mark.parametrize("alert", sorted({rule["alert"] for rule in ALERTS}))
def test_summary_names_the_vehicle_of_the_series_or_of_this_prometheus(alert: str) -> None:
    for rule in (rule for rule in ALERTS if rule["alert"] == alert):
        assert rule["annotations"]["summary"].startswith(
            "{{ with or $labels.vehicle $externalLabels.vehicle }}{{ . }}: {{ end }}"
        )


def sentences(text: str) -> list[str]:
    """Return the sentences of a document, without code, links and marks."""
    text = re.sub(r"^```.*?^```|<!--.*?-->", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"\]\([^)]*\)", "", text)
    blocks = re.split(r"\n\s*\n|^\s*[-*#]+ |^\d+\. | \| |^\|", text, flags=re.MULTILINE)
    return [one for block in blocks for one in re.split(r"(?<=[.!?:;])\s", block)]


@pytest.mark.parametrize("path", USER_DOCUMENTS, ids=lambda path: str(path.relative_to(PROJECT)))
def test_sentence_has_at_most_30_words(path: Path) -> None:
    text = path.read_text(encoding="utf-8")

    assert [one for one in sentences(text) if len(one.split()) > 30] == []
