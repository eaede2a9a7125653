"""What D-Bus and the files of bluetoothd tell."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from dbus_fast import Variant

from exporter.doctor.bluetoothd import Bluetoothd, check_bluetoothd, read_bluetoothd
from exporter.doctor.check import State
from exporter.doctor.files import Files

UP = {"hci0": {"Powered": True, "Discovering": False}}


async def versions(arguments: Sequence[str], _timeout_s: float) -> str | None:
    return "bluetoothctl: 5.82\n" if arguments[0] == "bluetoothctl" else None


async def nothing(_arguments: Sequence[str], _timeout_s: float) -> str | None:
    return None


@pytest.mark.looptime(False)  # noqa: FBT003 - it opens a socket
async def test_machine_without_a_bus_has_no_bluetoothd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/none")

    daemon = await read_bluetoothd(Files(tmp_path), versions)

    assert daemon.problem == "no_bus"
    assert daemon.version == "5.82"
    assert daemon.is_installed


@pytest.mark.looptime(False)  # noqa: FBT003 - it opens a socket
async def test_options_that_matter_are_read_from_main_conf(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/none")
    (tmp_path / "etc/bluetooth").mkdir(parents=True)
    (tmp_path / "etc/bluetooth/main.conf").write_text(
        "[General]\n#Privacy = off\nControllerMode = bredr \nName = camper of Ann\n"
        "[Policy]\nAutoEnable=true\n"
    )

    daemon = await read_bluetoothd(Files(tmp_path), nothing)

    assert daemon.options == {"ControllerMode": "bredr", "AutoEnable": "true"}
    assert not daemon.is_installed


@pytest.mark.parametrize(
    ("daemon", "advice"),
    [
        (Bluetoothd(problem="no_bus"), "apt install dbus bluez"),
        (Bluetoothd(problem="no_permission", is_installed=True), "usermod -aG bluetooth"),
        (Bluetoothd(problem="not_running", is_installed=True), "enable --now bluetooth"),
        (Bluetoothd(problem="not_running"), "apt install bluez"),
        (Bluetoothd(problem="no_answer", is_installed=True), "restart bluetooth"),
    ],
)
@pytest.mark.parametrize(
    ("needed", "used", "state"),
    [(True, True, State.FAIL), (False, True, State.WARN), (False, False, State.NOTE)],
)
def test_unusable_bluetoothd_fails_only_where_it_is_needed(
    daemon: Bluetoothd, advice: str, needed: bool, used: bool, state: State
) -> None:
    check = check_bluetoothd(daemon, is_needed=needed, is_used=used, in_container=False)

    assert check.state is state
    assert advice in (check.advice or "")
    assert check.facts["problem"] == daemon.problem


@pytest.mark.parametrize(
    ("options", "state", "text"),
    [
        ({}, State.OK, "5.82"),
        ({"version": "5.50"}, State.WARN, "older than 5.63"),
        ({"version": None}, State.OK, "running"),
        ({"options": {"ControllerMode": "bredr"}}, State.WARN, "switches Low Energy off"),
        (
            {"adapters": {"hci0": {"Powered": True, "Discovering": True}}},
            State.WARN,
            "another program scans over hci0",
        ),
    ],
)
def test_running_bluetoothd_is_well_unless_something_is_known(
    options: dict[str, Any], state: State, text: str
) -> None:
    daemon = Bluetoothd(**{"version": "5.82", "adapters": UP} | options)

    check = check_bluetoothd(daemon, is_needed=True, is_used=True, in_container=False)

    assert check.state is state
    assert text in check.text


class FakeBus:
    """A D-Bus whose answers are given by member."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.asked: list[Any] = []

    def disconnect(self) -> None:
        """Do nothing: there is no socket."""

    async def call(self, message: Any) -> Any:
        self.asked.append(message)
        answer = self.answers[message.member]
        error = answer if isinstance(answer, str) and "." in answer else None
        return type("Reply", (), {"body": [] if error else [answer], "error_name": error})()


OBJECTS = {
    "/org/bluez/hci0": {
        "org.bluez.Adapter1": {
            "Powered": Variant("b", True),  # noqa: FBT003 - its interface
            "Discovering": Variant("b", False),  # noqa: FBT003
        }
    },
    "/org/bluez/hci0/dev_A4_C1_38_00_00_01": {
        "org.bluez.Device1": {
            "Address": Variant("s", "A4:C1:38:00:00:01"),
            "Connected": Variant("b", True),  # noqa: FBT003
        }
    },
    "/org/bluez/hci0/dev_A4_C1_38_00_00_02": {
        "org.bluez.Device1": {"Address": Variant("s", "A4:C1:38:00:00:02")}
    },
}


@pytest.mark.parametrize(
    ("answers", "problem"),
    [
        ({"NameHasOwner": False}, "not_running"),
        ({"GetManagedObjects": "org.freedesktop.DBus.Error.AccessDenied"}, "no_permission"),
        ({"GetManagedObjects": "org.freedesktop.DBus.Error.NoReply"}, "no_answer"),
        ({}, None),
    ],
)
async def test_bus_is_asked_without_starting_bluetoothd(
    answers: dict[str, Any],
    problem: str | None,
    tmp_path: Path,
) -> None:
    bus = FakeBus(
        **{
            "ListActivatableNames": ["org.bluez"],
            "NameHasOwner": True,
            "GetConnectionUnixProcessID": 77,
            "GetManagedObjects": OBJECTS,
        }
        | answers
    )
    (tmp_path / "proc/77").mkdir(parents=True)
    (tmp_path / "proc/77/cmdline").write_text("/usr/libexec/bluetooth/bluetoothd\0-E\0")

    async def connect() -> Any:
        return bus

    daemon = await read_bluetoothd(Files(tmp_path), nothing, connect=connect)

    assert daemon.problem == problem
    assert daemon.is_installed
    assert all(message.flags.name == "NO_AUTOSTART" for message in bus.asked)
    if problem is None:
        assert daemon.has_adapter_on
        assert daemon.arguments == ["-E"]
        assert [one.address for one in daemon.connected] == ["A4:C1:38:00:00:01"]


@pytest.mark.parametrize(
    ("greeting", "problem"), [(b"", "no_answer"), (b"\xff\r\n", "no_bus"), (b"NO\r\n", "no_bus")]
)
@pytest.mark.looptime(False)  # noqa: FBT003 - it opens sockets
async def test_silent_or_foreign_bus_is_bounded_and_named(
    greeting: bytes, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writers = []

    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        writer.write(greeting)

    path = tmp_path / "bus"
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={path}")
    async with await asyncio.start_unix_server(greet, path):
        async with asyncio.timeout(30.0):
            daemon = await read_bluetoothd(Files(tmp_path), nothing, 0.2 if not greeting else 20.0)
        for writer in writers:
            writer.close()

    assert daemon.problem == problem
