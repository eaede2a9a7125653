"""Writes the sessions of virtual batteries into this folder, but replaces none.

Run it from the project: PYTHONPATH=. .venv/bin/python tests/sessions/make.py
"""

import json
from collections.abc import Sequence
from typing import Any, Final

from exporter.demo.battery import Faults, encode_reply
from exporter.protocol.profiles import PROFILES
from tests.support.paths import PROJECT
from tests.support.recorded import CELLS, MOBILEKTRO
from tests.support.sessions import (
    PASSWORD,
    GuardedBattery,
    Refusing,
    record_bluez,
    record_direct,
)
from tests.support.virtual import ANSWERS, answering

FOLDER: Final = PROJECT / "tests/sessions"
LINKS: Final = {"direct": record_direct, "bluez": record_bluez}
FF00: Final = PROFILES["ff00"]
FFF0: Final = PROFILES["fff0"]

SESSIONS: Final[dict[str, dict[str, Any]]] = {
    "silent": {"faults": Faults(silent=True)},
    "speaks-another-profile": {"gatt": (FF00,), "speaks": FFF0},
    "second-profile-answers": {"gatt": (FF00, FFF0), "speaks": FFF0},
    "has-no-jbd-service": {"gatt": ()},
    "lost-in-mid-frame": {"faults": Faults(cut=True)},
    "away": {"faults": Faults(gone=True)},
    "damaged-frames": {"faults": Faults(bad_checksum=True)},
    "loses-two-requests": {"faults": Faults(lose_first=2)},
    "leftover-of-another-connection": {"faults": Faults(leftover=MOBILEKTRO)},
    "writes-with-response": {"write_properties": ("write",)},
    "serial-number-in-0x05": {
        "answers": answering({**ANSWERS, 0x05: encode_reply(0x05, b"JBD-SP04S034-20240912")})
    },
    "only-0x03-and-0x04": {"answers": answering({0x03: MOBILEKTRO, 0x04: CELLS})},
    "another-protocol": {"answers": lambda _register: bytes.fromhex("3a30303132333435363738397e")},
    "password": {"kind": GuardedBattery, "answers": answering(ANSWERS), "password": PASSWORD},
    "wrong-password": {"kind": Refusing, "answers": answering(ANSWERS), "password": PASSWORD},
    "second-poll-silent": {"polls": 2, "later": Faults(silent=True)},
}
DIRECT: Final[dict[str, dict[str, Any]]] = {
    "not-established-twice": {"air": {"errors": [OSError(38, ""), OSError(110, "")]}},
    "held": {"air": {"errors": [OSError(16, "")]}},
    "no-adapter": {"air": {"adapters": []}},
    "wants-pairing": {"air": {"options": {"refuse": {0x12: 0x05}}}},
    "answers-no-att-request": {"air": {"options": {"deaf_to": {0x10}}}},
    "random-address": {"air": {"address_type": 2}},
}
BLUEZ: Final[dict[str, dict[str, Any]]] = {
    "connect-refused": {"faults": Faults(refuses=True)},
    "scan-refused": {"air": {"scan_error": PermissionError(13, "Permission denied")}},
}


def write(name: str, texts: Sequence[str]) -> None:
    """Write the last session of a battery, unless it is there."""
    path = FOLDER / f"{name}.jsonl"
    if not path.exists():
        header, rest = texts[-1].split("\n", 1)
        facts = json.loads(header) | {"kernel": "virtual", "machine": "virtual"}
        path.write_text(f"{json.dumps(facts)}\n{rest}", encoding="utf-8")


for link, record in LINKS.items():
    for profile in PROFILES.values():
        faults = Faults(lose_first=1)
        write(
            f"virtual-{link}-{profile.name}",
            record(gatt=(profile,), speaks=profile, advertises=(profile.service,), faults=faults),
        )
    for title, options in {**SESSIONS, **(DIRECT if link == "direct" else BLUEZ)}.items():
        write(f"virtual-{link}-{title}", record(**options))
