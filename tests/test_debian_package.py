"""Scripts of the Debian package that need no installation; tests/systemd installs it."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.support.paths import PROJECT

SCRIPT: Final = PROJECT / "deploy" / "debian" / "configured"
CONFIG: Final = "/etc/bms-exporter/config.yaml"


def no_file(path: Path) -> None:
    pass


def written(text: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(text, newline="")


def run_configured(config: Path) -> tuple[int, str]:
    script = SCRIPT.read_text(encoding="utf-8")
    assert CONFIG in script
    done = subprocess.run(
        ["/bin/sh", "-c", script.replace(CONFIG, str(config))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(no_file, id="no file"),
        pytest.param(written(""), id="empty"),
        pytest.param(written("# batteries:\n\n   # - name: camper\n\t\n"), id="comments"),
        pytest.param(written("# batteries:\r\n\r\n"), id="comments and CRLF"),
    ],
)
def test_service_without_a_configuration_is_skipped_with_the_next_step(
    make: Callable[[Path], object], tmp_path: Path
) -> None:
    make(tmp_path / "config.yaml")

    status, output = run_configured(tmp_path / "config.yaml")

    assert status == 1  # systemd: skipped; 255 would be a failure
    assert "sudo bms-exporter scan" in output


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(written("# mine\nbatteries: []\n"), id="invalid"),
        pytest.param(written("low: 20%"), id="one line"),
        pytest.param(Path.mkdir, id="not readable"),
    ],
)
def test_service_with_a_configuration_starts_even_if_it_will_complain(
    make: Callable[[Path], object], tmp_path: Path
) -> None:
    make(tmp_path / "config.yaml")

    assert run_configured(tmp_path / "config.yaml") == (0, "")
