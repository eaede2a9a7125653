"""The files of .github: valid by their schemas, and every action pinned by its commit."""

import re
from pathlib import Path

import pytest

from tests.support.json_schema import check_schema
from tests.support.paths import PROJECT

GITHUB = PROJECT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
CASES = [
    *((path, "vendor.github-workflows") for path in WORKFLOWS),
    *((path, "custom.github-workflows-require-timeout") for path in WORKFLOWS),
    (GITHUB / "dependabot.yml", "vendor.dependabot"),
    (GITHUB / "ISSUE_TEMPLATE" / "my-battery.yml", "vendor.github-issue-forms"),
    (GITHUB / "ISSUE_TEMPLATE" / "config.yml", "vendor.github-issue-config"),
]


@pytest.mark.parametrize(
    ("path", "schema"), [pytest.param(*case, id=f"{case[0].name} {case[1]}") for case in CASES]
)
def test_github_file_is_valid_by_its_schema(path: Path, schema: str) -> None:
    result = check_schema(path, schema)

    assert result.returncode == 0, result.stdout + result.stderr


def test_workflow_with_an_unknown_key_is_not_valid(tmp_path: Path) -> None:
    path = tmp_path / "ci.yml"
    path.write_text(WORKFLOWS[0].read_text().replace("runs-on:", "runs-at:"))

    assert check_schema(path, "vendor.github-workflows").returncode != 0


def test_every_action_is_pinned_by_commit_with_its_version_in_a_comment() -> None:
    uses = [line for path in WORKFLOWS for line in path.read_text().splitlines() if "uses:" in line]

    assert uses
    for line in uses:
        assert re.fullmatch(r" +- uses: [\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line


def test_ci_tests_every_python_of_the_classifiers() -> None:
    project = (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
    pythons = re.findall(r"Programming Language :: Python :: (3\.\d+)", project)
    ci = (GITHUB / "workflows" / "ci.yml").read_text(encoding="utf-8")

    assert f"python: {pythons}".replace("'", '"') in ci
