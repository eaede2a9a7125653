"""The GATT profiles through which batteries speak JBD."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Profile:
    """The UUIDs of one GATT profile."""

    name: str
    service: str
    notify: str
    write: str


def _sig(short: str) -> str:
    return f"0000{short}-0000-1000-8000-00805f9b34fb"


def _nordic(number: int) -> str:
    return f"6e40{number:04x}-b5a3-f393-e0a9-e50e24dcca9e"


PROFILES: Final = {
    profile.name: profile
    for profile in (
        Profile("ff00", _sig("ff00"), _sig("ff01"), _sig("ff02")),  # nearly all
        Profile("nus", _nordic(1), _nordic(3), _nordic(2)),  # MOBILEKTRO MLB-12200-NT
        Profile("fff0", _sig("fff0"), _sig("fff1"), _sig("fff2")),  # DH04SC02, WattCycle
        Profile("ff06", _sig("ff06"), _sig("ff07"), _sig("ff08")),  # Eleksol
    )
}
"""The four known profiles by name, in the order of trial."""
