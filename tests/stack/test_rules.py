"""The rules and configurations pass promtool and amtool."""

import subprocess
from pathlib import Path

import pytest
from servers import program

from tests.support.paths import PROJECT

TESTS = sorted((PROJECT / "prometheus" / "tests").glob("*.yml"))
RULES = sorted(str(path) for path in (PROJECT / "prometheus" / "rules").glob("*.yml"))


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=PROJECT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_accepts_the_rules() -> None:
    run(program("promtool"), "check", "rules", "--lint=duplicate-rules", "--lint-fatal", *RULES)


def test_promtool_and_amtool_accept_the_configurations() -> None:
    run(program("promtool"), "check", "config", "prometheus/prometheus.yml")
    run(program("promtool"), "check", "config", "--agent", "deploy/agent/prometheus-agent.yml")
    run(program("amtool"), "check-config", "prometheus/alertmanager.yml")


@pytest.mark.parametrize("file", TESTS, ids=lambda path: path.stem)
def test_alerts_fire_resolve_and_survive_gaps(file: Path) -> None:
    run(program("promtool"), "test", "rules", str(file))
