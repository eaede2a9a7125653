"""Checks of bluetoothd and D-Bus."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from exporter.doctor.check import Check, State
from exporter.doctor.files import Files
from exporter.doctor.programs import RunProgram

NAME: Final = "org.bluez"
ADAPTER: Final = "org.bluez.Adapter1"
DEVICE: Final = "org.bluez.Device1"
BUS: Final = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
OBJECTS: Final = (NAME, "/", "org.freedesktop.DBus.ObjectManager")
ANSWER_S: Final = 5.0
PROGRAM_S: Final = 1.0
VERSION_PROGRAMS: Final = (
    ("bluetoothctl", "--version"),
    ("/usr/libexec/bluetooth/bluetoothd", "-v"),
    ("/usr/lib/bluetooth/bluetoothd", "-v"),
)
CONFIGURATION: Final = "etc/bluetooth/main.conf"
OPTIONS: Final = (  # of main.conf: those that change how batteries are found and connected
    "ControllerMode", "AutoEnable", "Privacy", "JustWorksRepairing", "TemporaryTimeout",
    "MinConnectionInterval", "MaxConnectionInterval",
)  # fmt: skip
OLDEST: Final = (5, 63)  # what Home Assistant's Bluetooth integration asks for

Connect = Callable[[], Awaitable[Any]]
"""Connects to D-Bus. Raises OSError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectedDevice:
    """A device that bluetoothd has connected."""

    address: str
    adapter: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bluetoothd:
    """What D-Bus and the files of bluetoothd say."""

    problem: str | None = None  # no_bus, no_permission, not_running or no_answer
    is_installed: bool = False
    version: str | None = None
    arguments: Sequence[str] = ()
    options: Mapping[str, str] = field(default_factory=dict)  # set in main.conf
    adapters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # properties by name
    connected: Sequence[ConnectedDevice] = ()

    @property
    def has_adapter_on(self) -> bool:
        """Whether bluetoothd can use an adapter now."""
        return any(one.get("Powered") for one in self.adapters.values())


async def connect_to_bus() -> Any:
    """Return a connection to the system's D-Bus. Raises OSError."""
    # Only `doctor` needs these here; `link: direct` does without D-Bus.
    from dbus_fast import BusType  # noqa: PLC0415
    from dbus_fast.aio import MessageBus  # noqa: PLC0415
    from dbus_fast.errors import DBusFastError  # noqa: PLC0415

    try:
        return await MessageBus(bus_type=BusType.SYSTEM).connect()
    # A wrong address, it refused this user, or it does not speak D-Bus (no UTF-8).
    except (DBusFastError, ValueError) as error:
        raise ConnectionError(str(error)) from error


async def read_bluetoothd(
    files: Files,
    run_program: RunProgram,
    answer_s: float = ANSWER_S,
    connect: Connect = connect_to_bus,
) -> Bluetoothd:
    """Ask D-Bus about bluetoothd, for at most `answer_s`; it is never started by this."""
    options = _read_options(files.text(CONFIGURATION) or "")
    version, (answers, problem) = await asyncio.gather(
        _read_version(run_program, min(PROGRAM_S, answer_s / len(VERSION_PROGRAMS))),
        _ask(files, connect, answer_s),
    )
    objects = answers.get("objects", {})
    return Bluetoothd(
        problem=problem,
        is_installed=version is not None or answers.get("is_activatable", False),
        version=version,
        arguments=answers.get("arguments", ()),
        options=options,
        adapters={
            path.rpartition("/")[2]: _plain(interfaces[ADAPTER])
            for path, interfaces in objects.items()
            if ADAPTER in interfaces
        },
        connected=[
            ConnectedDevice(address=device["Address"].upper(), adapter=path.split("/")[3])
            for path, interfaces in objects.items()
            if (device := _plain(interfaces.get(DEVICE, {}))).get("Connected")
        ],
    )


def _plain(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {name: variant.value for name, variant in properties.items()}


def _read_options(text: str) -> dict[str, str]:
    """Return the options of main.conf that are set and change how batteries are connected."""
    found = re.findall(r"^\s*([A-Za-z]+)\s*=\s*(\S.*?)\s*$", text, re.MULTILINE)
    return {name: value for name, value in found if name in OPTIONS}


async def _read_version(run_program: RunProgram, each_s: float) -> str | None:
    for arguments in VERSION_PROGRAMS:
        found = re.search(r"(\d+\.\d+)\s*$", await run_program(arguments, each_s) or "")
        if found:
            return found[1]
    return None


async def _ask(
    files: Files, connect: Connect, answer_s: float
) -> tuple[dict[str, Any], str | None]:
    """Return what D-Bus answered, and what kept it from answering more."""
    answers: dict[str, Any] = {}
    bus = None
    try:
        async with asyncio.timeout(answer_s):
            bus = await connect()
            return answers, await _converse(bus, files, answers)
    except TimeoutError:
        return answers, "no_answer"
    except PermissionError:
        return answers, "no_permission"
    except (OSError, EOFError):
        return answers, "no_bus"
    finally:
        if bus is not None:
            bus.disconnect()


async def _converse(bus: Any, files: Files, answers: dict[str, Any]) -> str | None:
    activatable = await _call(bus, *BUS, "ListActivatableNames")
    answers["is_activatable"] = NAME in (activatable.body[0] if activatable.body else [])
    has_owner = await _call(bus, *BUS, "NameHasOwner", NAME)
    if not (has_owner.body and has_owner.body[0]):
        return "not_running"
    process = await _call(bus, *BUS, "GetConnectionUnixProcessID", NAME)
    if process.body and isinstance(process.body[0], int):
        arguments = (files.text(f"proc/{process.body[0]}/cmdline") or "").split()
        answers["arguments"] = [one for one in arguments if one.startswith("-")]
    managed = await _call(bus, *OBJECTS, "GetManagedObjects")
    if managed.error_name == "org.freedesktop.DBus.Error.AccessDenied":
        return "no_permission"
    if managed.error_name is not None or not managed.body:
        return "no_answer"
    answers["objects"] = managed.body[0]
    return None


async def _call(bus: Any, to: str, path: str, interface: str, member: str, *body: str) -> Any:
    from dbus_fast import Message  # noqa: PLC0415 - see above
    from dbus_fast.constants import MessageFlag  # noqa: PLC0415

    return await bus.call(
        Message(
            destination=to,
            path=path,
            interface=interface,
            member=member,
            flags=MessageFlag.NO_AUTOSTART,
            signature="s" * len(body),
            body=list(body),
        )
    )


PROBLEMS: Final[Mapping[str, tuple[str, str]]] = {
    "no_bus": (
        "no D-Bus",
        "run sudo apt install dbus bluez, then reboot",
    ),
    "no_permission": (
        "no permission to talk to it",
        "run sudo usermod -aG bluetooth $USER, then log in again",
    ),
    "not_running": ("not running", "run sudo systemctl enable --now bluetooth"),
    "no_answer": ("does not answer", "run sudo systemctl restart bluetooth"),
}

CURES_IN_CONTAINER: Final[Mapping[str, str]] = {
    "no_bus": "run the container with the host's D-Bus: "
    "-v /run/dbus/system_bus_socket:/run/dbus/system_bus_socket",
    "not_running": "on the host, run sudo apt install bluez, then "
    "sudo systemctl enable --now bluetooth",
    "no_answer": "on the host, run sudo systemctl restart bluetooth",
}


def check_bluetoothd(
    daemon: Bluetoothd, *, is_needed: bool, is_used: bool, in_container: bool
) -> Check:
    """Check that bluetoothd can be used.

    Args:
        daemon: What is known of it.
        is_needed: Nothing can be read without it, or no adapter is on.
        is_used: It is one of the ways to the batteries.
        in_container: It runs outside, on the host.
    """
    scanning = [name for name, one in daemon.adapters.items() if one.get("Discovering")]
    facts = {
        "problem": daemon.problem,
        "version": daemon.version,
        "installed": daemon.is_installed,
        "arguments": list(daemon.arguments),
        "options": dict(daemon.options),
        "powered": {name: bool(one.get("Powered")) for name, one in daemon.adapters.items()},
        "discovering": scanning,
    }
    if daemon.problem is not None:
        text, advice = PROBLEMS[daemon.problem]
        if in_container and daemon.problem in CURES_IN_CONTAINER:
            advice = CURES_IN_CONTAINER[daemon.problem]
        elif not daemon.is_installed and daemon.problem == "not_running":
            text, advice = "not installed", "run sudo apt install bluez"
        if not is_needed:
            text += ": scan does not work"
            text += ", and link: auto has no second way to a battery" * is_used
        unused = State.WARN if is_used else State.NOTE
        state = State.FAIL if is_needed else unused
        return Check(id="bluetoothd", state=state, text=text, facts=facts, advice=advice)
    notes = []
    if daemon.version and tuple(map(int, daemon.version.split("."))) < OLDEST:
        notes.append("older than 5.63, which has known faults: update the system")
    if daemon.options.get("ControllerMode") == "bredr":
        notes.append("ControllerMode = bredr in main.conf switches Low Energy off: remove it")
    if scanning:
        notes.append(
            f"another program scans over {', '.join(scanning)}: connecting may take 10 s longer"
        )
    return Check(
        id="bluetoothd",
        state=State.WARN if notes else State.OK,
        text="; ".join([", ".join([daemon.version or "running"]), *notes]),
        facts=facts,
    )
