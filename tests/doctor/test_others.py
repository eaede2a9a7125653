"""Other users of the radio."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from exporter.ble.direct.kernel import Kernel
from exporter.ble.direct.sockets import CONNECTED, CONNECTING
from exporter.doctor.bluetoothd import Bluetoothd, ConnectedDevice
from exporter.doctor.check import State
from exporter.doctor.others import Others, check_others, read_others
from tests.support.machines import LAPTOP, PI_4, FakeMachine
from tests.support.virtual import ADDRESS

BATTERIES = {ADDRESS: "camper"}
KEYBOARD = "00:1F:20:00:00:09"


def kernel(*connections: tuple[str, int]) -> Kernel:
    return replace(PI_4.kernel(), connections=lambda _: list(connections))


def test_connections_come_from_the_kernel_and_bluetoothd(tmp_path: Path) -> None:
    daemon = Bluetoothd(connected=[ConnectedDevice(address=ADDRESS, adapter="hci0")])

    others = read_others(LAPTOP.write(tmp_path), kernel((KEYBOARD, CONNECTED)), daemon)

    assert others.holds(ADDRESS)
    assert others.holds(KEYBOARD)
    assert not others.holds("A4:C1:38:00:00:02")


def test_machine_without_sockets_has_no_connections(tmp_path: Path) -> None:
    def refuse() -> Any:
        raise OSError(97, "Address family not supported by protocol")

    others = read_others(
        LAPTOP.write(tmp_path), replace(PI_4.kernel(), adapters=refuse), Bluetoothd()
    )

    assert others.connections == []


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("python3\0-m\0homeassistant\0--config\0/config\0", "Home Assistant"),
        ("/usr/bin/python3\0/srv/homeassistant/bin/start\0", "Home Assistant"),
        (
            "python\0/opt/victronenergy/dbus-serialbattery/dbus-serialbattery.py\0",
            "dbus-serialbattery",
        ),
        ("/usr/bin/bluetoothctl\0", "bluetoothctl"),
        ("/usr/bin/python3\0/usr/bin/bms-exporter\0", "another bms-exporter"),
        ("vim\0a\0b\0notes-about-bluetoothctl.txt\0", None),
    ],
)
def test_program_that_uses_the_radio_is_recognised(
    line: str, name: str | None, tmp_path: Path
) -> None:
    machine = FakeMachine(files={"proc/4242/cmdline": line})

    others = read_others(machine.write(tmp_path), kernel(), Bluetoothd())

    assert others.programs == ([name] if name else [])


def test_own_process_and_its_parents_are_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.getpid", lambda: 50)
    machine = FakeMachine(
        files={
            "proc/50/cmdline": "python3\0bms-exporter\0",
            "proc/50/status": "PPid:\t40\n",
            "proc/40/cmdline": "sudo\0bms-exporter\0",
            "proc/40/status": "PPid:\t1\n",
            "proc/60/cmdline": "python3\0bms-exporter\0",
        }
    )

    files = machine.write(tmp_path)
    assert read_others(files, kernel(), Bluetoothd()).programs == ["another bms-exporter"]
    files.root.joinpath("proc/60/cmdline").unlink()
    assert read_others(files, kernel(), Bluetoothd()).programs == []


@pytest.mark.parametrize(
    ("others", "state", "text"),
    [
        (Others(), State.OK, "no other connection"),
        (Others(connections=[(KEYBOARD, CONNECTED)]), State.OK, "1 other connection"),
        (Others(by_bluetoothd=frozenset({KEYBOARD})), State.OK, "1 other connection"),
        (
            Others(programs=["Home Assistant"]),
            State.NOTE,
            "no other connection; running: Home Assistant",
        ),
        (
            Others(sees_all=False),
            State.UNKNOWN,
            "no other connection; only root sees the programs of other users",
        ),
        (
            Others(connections=[(ADDRESS, CONNECTED)], programs=["bluetoothctl"]),
            State.FAIL,
            "another program on this machine is connected to camper; running: bluetoothctl",
        ),
        (
            Others(connections=[(KEYBOARD, CONNECTING)]),
            State.WARN,
            f"something connects to {KEYBOARD}",
        ),
    ],
)
def test_battery_that_is_held_fails(others: Others, state: State, text: str) -> None:
    check = check_others(others, BATTERIES)

    assert check.state is state
    assert check.text == text


def test_connections_of_the_running_exporter_are_no_others() -> None:
    others = Others(connections=[(ADDRESS, CONNECTED), (KEYBOARD, CONNECTING)])

    check = check_others(others, BATTERIES, {ADDRESS, KEYBOARD})

    assert check.state is State.OK


def test_facts_hold_no_address() -> None:
    check = check_others(Others(connections=[(KEYBOARD, CONNECTING)]), BATTERIES)

    assert KEYBOARD not in str(check.facts)
