"""Checks for other users of the radio: connections, and programs that are known to make them."""

import os
import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from exporter.ble.direct.kernel import Kernel
from exporter.ble.direct.sockets import CONNECTED, CONNECTING
from exporter.doctor.bluetoothd import Bluetoothd
from exporter.doctor.check import Check, Fact, State
from exporter.doctor.files import Files

# Programs that scan or keep connections: a part of their command line, and their name.
PROGRAMS: Final[Mapping[str, str]] = {
    "homeassistant": "Home Assistant",
    "/hass": "Home Assistant",  # codespell:ignore hass
    "dbus-serialbattery": "dbus-serialbattery",
    "batmon": "batmon",
    "bluetoothctl": "bluetoothctl",
    "blueman": "blueman",
    "bms-exporter": "another bms-exporter",
}
WORDS: Final = 3  # of a command line: the program, perhaps after its interpreter


@dataclass(frozen=True, slots=True, kw_only=True)
class Others:
    """Who else uses the radio."""

    connections: Sequence[tuple[str, int]] = ()  # address and state, by the kernel
    programs: Sequence[str] = ()
    sees_all: bool = True  # the processes of every user
    by_bluetoothd: frozenset[str] = field(default_factory=frozenset)  # connected addresses

    def holds(self, address: str) -> bool:
        """Return whether something on this machine is connected to a battery."""
        return (address, CONNECTED) in self.connections or address in self.by_bluetoothd


def read_others(files: Files, kernel: Kernel, daemon: Bluetoothd) -> Others:
    """Read the kernel's connections, bluetoothd's, and the processes that may be seen."""
    connections: list[tuple[str, int]] = []
    try:
        for adapter in kernel.adapters():
            connections += kernel.connections(adapter.index)
    except OSError:  # no sockets, or pulled out: other checks report it
        pass
    own = _own_processes(files)
    lines = [
        " ".join((files.text(path) or "").split()[:WORDS])
        for path in files.matching("proc/[0-9]*/cmdline")
        if path.split("/")[1] not in own
    ]
    found = {name for part, name in PROGRAMS.items() for line in lines if part in line}
    return Others(
        connections=connections,
        programs=sorted(found),
        sees_all=bool(files.text("proc/1/cmdline")),
        by_bluetoothd=frozenset(one.address for one in daemon.connected),
    )


def _own_processes(files: Files) -> set[str]:
    """Return this process and those that started it, a shell or sudo."""
    process, own = str(os.getpid()), set[str]()
    while process not in own | {"0"}:
        own.add(process)
        status = files.text(f"proc/{process}/status") or ""
        parent = re.search(r"^PPid:\s*(\d+)", status, re.MULTILINE)
        process = parent[1] if parent else "0"
    return own


def check_others(
    others: Others, batteries: Mapping[str, str], exporters: Container[str] = ()
) -> Check:
    """Check that nothing else holds a battery.

    Args:
        others: Who uses the radio.
        batteries: Names by address.
        exporters: The addresses of the batteries of the running exporter.
    """
    held = [
        name
        for address, name in batteries.items()
        if others.holds(address) and address not in exporters
    ]
    connecting = [
        address
        for address, state in others.connections
        if state == CONNECTING and address not in exporters
    ]
    count = len({address for address, state in others.connections if state == CONNECTED})
    count = max(count, len(others.by_bluetoothd))
    running = f"; running: {', '.join(others.programs)}" if others.programs else ""
    facts: dict[str, Fact] = {
        "held": held,
        "connections": count,
        "connecting": len(connecting),
        "programs": list(others.programs),
        "sees_all_programs": others.sees_all,
    }
    if held:
        return Check(
            id="others",
            state=State.FAIL,
            text=f"another program on this machine is connected to {', '.join(held)}{running}",
            facts=facts,
            advice="stop that program, or run bluetoothctl disconnect with the battery's address",
        )
    if connecting:
        return Check(
            id="others",
            state=State.WARN,
            text=f"something connects to {', '.join(connecting)}{running}",
            facts=facts,
            advice="if that stays, nothing else connects: run bluetoothctl power off, then "
            "bluetoothctl power on",
        )
    text = f"{count or 'no'} other connection{'s' * (count > 1)}{running}"
    state = State.NOTE if others.programs else State.OK
    if not others.sees_all:
        state, text = State.UNKNOWN, f"{text}; only root sees the programs of other users"
    return Check(id="others", state=state, text=text, facts=facts)
