"""The scripts of the Debian package end well although systemd refuses something."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.paths import PROJECT

SCRIPTS = PROJECT / "deploy" / "debian"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a folder in place of / with a systemd that refuses every job."""
    for folder in ("bin", "run/systemd/system", "etc/bms-exporter", "usr/lib/bms-exporter"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "etc/bms-exporter/config.yaml").touch()
    for name, command in (
        ("bin/systemctl", "exit 1"),
        ("bin/deb-systemd-invoke", "exit 1"),
        ("bin/deb-systemd-helper", "exit 0"),
        ("bin/systemd-sysusers", "exit 0"),
        ("usr/lib/bms-exporter/configured", "exit 1"),
    ):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho "${{0##*/}} $*" >>{tmp_path}/calls\n{command}\n')
        program.chmod(0o755)
    rm = shutil.which("rm")
    assert rm
    (tmp_path / "bin/rm").symlink_to(rm)
    return tmp_path


def run(root: Path, name: str, arguments: list[str]) -> int:
    """Run one of the scripts in `root` and return its exit status."""
    script = (SCRIPTS / name).read_text(encoding="utf-8")
    for folder in ("/run/", "/etc/", "/usr/"):
        script = script.replace(folder, f"{root}{folder}")
    return subprocess.run(
        ["/bin/sh", "-c", script, name, *arguments], env={"PATH": str(root / "bin")}, check=False
    ).returncode


@pytest.mark.parametrize(
    ("name", "arguments", "call"),
    [
        ("prerm", ["remove"], "deb-systemd-invoke stop"),
        ("postinst", ["configure", "0.1.0"], "deb-systemd-invoke restart"),
        (
            "postinst",
            ["abort-remove"],
            "deb-systemd-invoke start bms-exporter.socket bms-exporter.service",
        ),
        ("postrm", ["remove"], "systemctl daemon-reload"),
        ("postrm", ["purge"], "systemctl daemon-reload"),
    ],
)
def test_script_succeeds_although_systemd_refuses(
    root: Path, name: str, arguments: list[str], call: str
) -> None:
    assert run(root, name, arguments) == 0
    assert call in (root / "calls").read_text(encoding="utf-8")
    assert (root / "etc/bms-exporter").exists() == (arguments != ["purge"])


@pytest.mark.parametrize(
    "arguments",
    [["abort-upgrade", "0.2.0"], ["abort-deconfigure", "in-favour", "other", "1.0"]],
)
def test_aborted_upgrade_leaves_the_running_service_alone(root: Path, arguments: list[str]) -> None:
    assert run(root, "postinst", arguments) == 0
    assert not (root / "calls").exists()


def test_aborted_removal_writes_no_configuration(root: Path) -> None:
    config = root / "etc/bms-exporter/config.yaml"
    config.unlink()

    assert run(root, "postinst", ["abort-remove"]) == 0
    assert not config.exists()
