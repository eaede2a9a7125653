"""What promtool and amtool say about our files."""

import subprocess

import pytest
from servers import program

from tests.support.paths import PROJECT

RULES = sorted(str(path) for path in (PROJECT / "prometheus" / "rules").glob("*.yml"))


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=PROJECT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_rules_are_well_formed() -> None:
    run(program("promtool"), "check", "rules", "--lint=duplicate-rules", "--lint-fatal", *RULES)


def test_the_configurations_are_well_formed() -> None:
    run(program("promtool"), "check", "config", "prometheus/prometheus.yml")
    run(program("promtool"), "check", "config", "--agent", "deploy/agent/prometheus-agent.yml")
    run(program("amtool"), "check-config", "prometheus/alertmanager.yml")


@pytest.mark.parametrize("file", ["energy", "pack", "link", "fleet", "thresholds"])
def test_every_alert_fires_resolves_and_meets_a_gap(file: str) -> None:
    run(program("promtool"), "test", "rules", f"prometheus/tests/{file}.yml")
