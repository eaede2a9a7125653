"""The systemd unit: well-formed, and little to attack."""

import subprocess

from servers import PROJECT, program

UNIT = PROJECT / "deploy" / "systemd" / "bms-exporter.service"


def test_little_is_exposed() -> None:
    result = subprocess.run(
        [program("systemd-analyze"), "security", "--offline=true", "--threshold=20", str(UNIT)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 0, result.stdout[-500:]


def test_systemd_understands_every_line() -> None:
    result = subprocess.run(
        [program("systemd-analyze"), "verify", str(UNIT), str(UNIT.with_suffix(".socket"))],
        capture_output=True,
        text=True,
        check=False,
    )
    complaints = [line for line in result.stderr.splitlines() if "bms-exporter" in line]

    assert all("is not executable" in line for line in complaints), complaints
