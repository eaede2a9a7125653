"""The recorded frames and advertisements of tests/frames/, loaded once."""

import json
from typing import Any, Final

from tests.support.paths import FRAMES_FOLDER


def _load(name: str) -> Any:
    return json.loads((FRAMES_FOLDER / name).read_text(encoding="utf-8"))


_FILE: Final = _load("jbd-frames.json")

FRAMES: Final[list[dict[str, Any]]] = _FILE["frames"]
REFUSE: Final[list[dict[str, Any]]] = _FILE["refuse"]
AUTH: Final[list[dict[str, Any]]] = _FILE["ffaa_auth"]
SETTINGS: Final[list[dict[str, Any]]] = _load("jbd-settings.json")["frames"]
ADVERTISEMENTS: Final[list[dict[str, Any]]] = _load("jbd-advertisements.json")
FIELD_REPORTS: Final[dict[str, list[bytes]]] = {
    report["id"]: [bytes.fromhex(part) for part in report["hex"]]
    for report in _load("field-reports.json")["reports"]
}
# Batteries of other makes that have JBD's Bluetooth module.
FOREIGN_ADVERTISEMENTS: Final[list[dict[str, Any]]] = _load("foreign-advertisements.json")


def frames_of_register(register: int) -> list[dict[str, Any]]:
    """Return the recorded frames of one register."""
    return [frame for frame in FRAMES if int(frame["register"], 16) == register]


# The reference battery, a MOBILEKTRO MLB-12200-NT; source: jbd-frames.json, first entry.
MOBILEKTRO: Final = bytes.fromhex(
    "dd03001d052900004f8255ac00132d0c000000000000835d0304030ac80ac40ac3fa4077"
)
# Four LiFePO4 cells; source: jbd-frames.json, bootswithdefer/prometheus-jbd-bms-exporter.
CELLS: Final = bytes.fromhex("dd0400080d420d3c0d400d3afecc77")
HARDWARE: Final = bytes.fromhex("dd0500194a42442d53503034533033342d4c34532d323030412d422d55fa0877")
COUNTERS: Final = bytes.fromhex("ddaa0018000000000000007a00020000000000000000000000000001ff6b77")
