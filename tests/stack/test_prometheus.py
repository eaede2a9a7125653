"""The demo, scraped by real Prometheus servers, with alerts to a real Alertmanager."""

import re
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from servers import (
    Server,
    Webhook,
    alertmanager,
    demo,
    prometheus,
    wait_for,
)

from tests.support.paths import PROJECT

SPEED = 60  # the cold battery's morning takes four minutes: longer than the rules' `for`


def scraping(exporter: Server, *, interval: str = "5s", timeout: str = "5s", more: str = "") -> str:
    return (
        f"global: {{scrape_interval: {interval}, scrape_timeout: {timeout},"
        f" evaluation_interval: 5s}}\n{more}"
        "scrape_configs:\n  - job_name: bms\n    static_configs:\n"
        f"      - targets: ['127.0.0.1:{exporter.port}']\n"
    )


def test_alert_of_a_low_battery_fires_and_resolves_when_it_is_charged(tmp_path: Path) -> None:
    config = yaml.safe_load((PROJECT / "prometheus" / "alertmanager.yml").read_text())
    config["route"] |= {"group_wait": "0s", "group_interval": "1s"}
    config["inhibit_rules"] = []  # so that both alerts arrive
    for rules_file in (PROJECT / "prometheus" / "rules").glob("*.yml"):  # with shorter intervals
        text = rules_file.read_text().replace("interval: 1m", "interval: 5s")
        text = text.replace("keep_firing_for: 10m", "keep_firing_for: 20s")
        (tmp_path / rules_file.name.replace("bms", "rules")).write_text(text)
    with Webhook() as webhook:
        config["receivers"][1]["webhook_configs"][0]["url"] = webhook.url
        with (
            demo(tmp_path, "--speed", str(SPEED)) as exporter,
            alertmanager(tmp_path, yaml.safe_dump(config)) as manager,
            prometheus(
                tmp_path,
                scraping(
                    exporter,
                    more=f"rule_files: ['{tmp_path}/rules-*.yml']\n"
                    "alerting: {alertmanagers: [{static_configs: "
                    f"[{{targets: ['127.0.0.1:{manager.port}']}}]}}]}}\n",
                ),
            ) as server,
        ):
            for battery in ("camper", "camper2", "flaky", "cold"):
                sample = f'bms_remaining_capacity_amperehours{{battery="{battery}"}}'
                wait_for(
                    partial(server.query, sample), timeout_s=120, what=f"a sample of {battery}"
                )
            for state in ("firing", "resolved"):
                for name in ("BmsRemainingCritical", "BmsRemainingLow"):
                    alert = (name, "cold", state)
                    wait_for(partial(webhook.has, *alert), timeout_s=400, what=" ".join(alert))
            assert not webhook.has("BmsRemainingLow", "camper", "firing")
            recorded = {rule["name"] for rule in rules(server, "recording")}
            silent = {name for name in recorded if not server.query(f"last_over_time({name}[1h])")}
    # In this demo it is morning: there was no night, and the batteries are being charged.
    assert {name for name in silent if "night" not in name} <= {"bms:time_to_empty_seconds"}


def rules(server: Server, kind: str) -> list[Any]:
    groups = server.api("rules")["groups"]
    return [rule for group in groups for rule in group["rules"] if rule["type"] == kind]


def test_relabelling_of_the_document_scrapes_one_battery_by_its_name(tmp_path: Path) -> None:
    document = (PROJECT / "docs" / "prometheus.md").read_text(encoding="utf-8")
    (block,) = re.findall(
        r"^```yaml\n([^`]*metrics_path: /probe.*?)^```", document, re.DOTALL | re.MULTILINE
    )
    with demo(tmp_path) as exporter:
        config = block.replace("camper.local:12200", f"127.0.0.1:{exporter.port}")
        config = config.replace("[camper, trailer]", "[camper, cold]").replace("2m", "5s")
        with prometheus(tmp_path, config.replace("30s", "5s")) as server:
            for battery in ("camper", "cold"):
                sample = f'bms_up{{job="bms-probe",instance="{battery}",battery="{battery}"}} == 1'
                wait_for(partial(server.query, sample), timeout_s=120, what=sample)
            assert server.value("count(bms_up)") == 2


def test_one_poll_serves_two_prometheus_servers(tmp_path: Path) -> None:
    with demo(tmp_path) as exporter:
        config = scraping(exporter, interval="2s", timeout="2s")
        with prometheus(tmp_path, config) as one, prometheus(tmp_path, config) as two:
            # A busy machine may be late once: 15 scrapes in a row must be answered in time.
            gapless = "min_over_time(up[30s]) == 1 and count_over_time(up[30s]) >= 14"
            for server in (one, two):
                wait_for(partial(server.query, gapless), timeout_s=240, what="30 s without a gap")
            served = one.value('bms_readings_served_total{battery="camper"}')
            polls = one.value('bms_polls_total{battery="camper"}')
            coalesced = one.value("sum(bms_readings_coalesced_total)")
    assert served
    assert polls
    assert coalesced
    assert served > 5 * polls  # a reading is young for 10 s


def test_scrape_timeout_shorter_than_a_poll_leaves_no_gap(tmp_path: Path) -> None:
    with (
        demo(tmp_path) as exporter,  # a poll of the camper takes 1.5 s
        prometheus(tmp_path, scraping(exporter, interval="2s", timeout="1s")) as server,
    ):
        # A busy machine may be late once: 20 scrapes in a row must be answered in time.
        gapless = (
            "min_over_time(up[40s]) == 1 and count_over_time(up[40s]) >= 19 and on (job, instance) "
            'count_over_time(bms_polls_total{battery="camper"}[40s]) >= 19'
        )
        wait_for(partial(server.query, gapless), timeout_s=240, what="40 s without a gap")
        assert server.value('increase(bms_polls_total{battery="camper"}[30s])')
        assert server.query('bms_remaining_capacity_amperehours{battery="camper"}')
