"""One result of `doctor`: what was checked, its state, the facts and what to do."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Union

Fact = Union[str, float, bool, None, Sequence["Fact"], Mapping[str, "Fact"]]  # noqa: UP007 - recursive


class State(StrEnum):
    """How a check ended."""

    OK = "ok"
    NOTE = "note"
    WARN = "warn"
    FAIL = "FAIL"
    UNKNOWN = "?"


# By id: what the text calls it, where that is not its subject. The order is that of cause: what
# stands first can explain what follows. docs/doctor.md lists the ids; they never change.
LABELS: Final[Mapping[str, str]] = {
    "machine": "machine",
    "kernel": "kernel",
    "sockets": "sockets",
    "rfkill": "rfkill",
    "adapters": "adapters",
    "bluetoothd": "bluetoothd",
    "adapter": "",
    "adapter.chip": "  chip",
    "adapter.settings": "  settings",
    "adapter.power": "  power",
    "wifi": "wifi",
    "kernel_log": "kernel log",
    "rights": "rights",
    "proxy": "proxy",
    "others": "others",
    "configuration": "config",
    "exporter": "exporter",
    "wedge": "  answers",
    "battery": "  verdict",
    "battery.heard": "  heard",
    "battery.direct": "  direct",
    "battery.gentle": "  gentle",
    "battery.bluez": "  bluez",
    "battery.heard_again": "  again",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One result; `facts` are for programs, `text` and `advice` for people."""

    id: str  # one of LABELS
    state: State
    text: str
    subject: str = ""  # an adapter or a battery
    facts: Mapping[str, Fact] = field(default_factory=dict)
    advice: str | None = None  # what to do, if that is not in the text


def first_to_do(checks: Iterable[Check]) -> Check | None:
    """Return the first FAIL in the order of cause, else the first warning; None: all is well."""
    order = list(LABELS)
    for state in (State.FAIL, State.WARN):
        found = [check for check in checks if check.state is state]
        if found:
            return min(found, key=lambda check: order.index(check.id))
    return None
