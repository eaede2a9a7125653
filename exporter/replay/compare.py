"""Compares the end of a replay with what was recorded."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from exporter.recording.session import RecordedSession

# The register of each part of a reading; the identity has those of several.
PARTS: Final = {"basic": 0x03, "cell_voltages_v": 0x04, "counters": 0xAA, "identity": None}
IDENTITY: Final = {"hardware": 0x05, "software": 0x03, "manufactured": 0x03}


def compare(session: RecordedSession, result: Mapping[str, Any]) -> Iterator[str]:
    """Yield what differs from the recorded result, except for what redaction has changed."""
    if session.result is None:
        return
    recorded = session.result.facts
    for name in ("error", "reason", "cause", "counters"):
        if recorded.get(name) != result.get(name):
            yield f"{name}: recorded {recorded.get(name)}, replayed {result.get(name)}"
    was, now = recorded.get("reading") or {}, result.get("reading") or {}
    edited = session.edited
    for part in PARTS:
        before, after = _part(was, part, edited), _part(now, part, edited)
        if before != after:
            yield f"{part}: recorded {before}, replayed {after}"


def _part(reading: Mapping[str, Any], part: str, edited: Sequence[object]) -> object:
    value = reading.get(part)
    if PARTS[part] in edited:
        return value is None
    if part == "identity" and isinstance(value, Mapping):
        hidden = {name for name, register in IDENTITY.items() if register in edited}
        return {name: one for name, one in value.items() if name not in hidden}
    return value
