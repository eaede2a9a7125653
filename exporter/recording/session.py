"""Reads recordings, which may come from anybody: every line is checked before anything is replayed.

docs/recordings.md describes the lines.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn, TypeVar

from exporter.errors import ConfigError
from exporter.recording.recorder import FORMAT

NO_RECORDING: Final = "expected a recording, as bms-exporter read --record writes it"
MAX_TEXT: Final = 2_000_000  # characters: `doctor` writes 100 kB
MAX_LINE: Final = 50_000
MAX_SESSIONS: Final = 100
MAX_BYTES: Final = 1_024  # of a PDU or value
MAX_DEPTH: Final = 10  # of objects and lists in each other; a reading has 5
LONGEST_S: Final = 3600.0

FIRST: Final = re.compile(r'\s*\{\s*"record"\s*:')

T = TypeVar("T")


class RecordingError(ConfigError):
    """A recording cannot be read, or the exporter asks for what it does not hold."""


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a recording; its methods raise RecordingError with the line."""

    where: str  # FILE: line N
    t: float
    facts: Mapping[str, Any]

    def refuse(self, why: str) -> NoReturn:
        """Raise RecordingError for this line."""
        raise RecordingError([f"{self.where}: {why}"])

    @property
    def name(self) -> str:
        """The kind of event: tx, rx, adv, or the name of another one."""
        for name in ("tx", "rx", "adv"):
            if name in self.facts:
                return name
        return self.get("ev", str, "")

    def get(self, key: str, kind: type[T], default: T) -> T:
        """Return a value of this type; null and a key that is not there give the default."""
        value = self.facts.get(key)
        if value is None:
            return default
        if kind is float and type(value) is int:
            value = float(value)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            self.refuse(f"{key}: expected {NAMES[kind]}, got {json.dumps(value)[:40]}")
        return value

    def at(self, key: str) -> "Event":
        """Return an object in this line as an event of its own."""
        return Event(self.where, self.t, self.get(key, dict, {}))

    def texts(self, key: str) -> Sequence[str]:
        """Return a list of texts."""
        values = self.get(key, list, [])
        if not all(isinstance(value, str) for value in values):
            self.refuse(f"{key}: expected a list of texts")
        return values

    def data(self, key: str) -> bytes:
        """Return bytes that are written in hex."""
        text = self.get(key, str, "")
        try:
            data = bytes.fromhex(text)
        except ValueError:
            self.refuse(f"{key}: expected hex, got {text[:40]!r}")
        if len(data) > MAX_BYTES:
            self.refuse(f"{key}: {len(data)} bytes, at most {MAX_BYTES} are possible")
        return data

    @property
    def password(self) -> "Event | None":
        """The frame of the password exchange that was here; None: there was none."""
        return self.at("password") if self.facts.get("password") is not None else None


NAMES: Final[Mapping[type, str]] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "an object",
    list: "a list",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedSession:
    """One session of a recording."""

    header: Event
    events: Sequence[Event]
    result: Event | None  # None: the recording ends before the session did

    @property
    def edited(self) -> Sequence[object]:
        """What redaction has changed: registers, and names of other parts."""
        return () if self.result is None else self.result.get("edited", list, [])


def parse_sessions(text: str, source: str) -> list[RecordedSession]:
    """Return the sessions of a recording; `source` is the name of the file, for messages.

    Raises:
        RecordingError: It is no recording, or a line is malformed.
    """
    if len(text) > MAX_TEXT:
        raise RecordingError([f"{source}: more than {MAX_TEXT} characters"])
    sessions: list[list[Event]] = []
    for event in _events(text, source):
        if "record" in event.facts:
            if event.get("record", int, 0) != FORMAT:
                event.refuse(f"expected a recording of format {FORMAT}")
            if len(sessions) == MAX_SESSIONS:
                event.refuse(f"more than {MAX_SESSIONS} sessions")
            sessions.append([event])
        elif not sessions:
            event.refuse('expected {"record":1, ...: the first line of a recording')
        elif event.t < sessions[-1][-1].t:
            event.refuse("its time is before that of the line above")
        else:
            sessions[-1].append(event)
    if not sessions:
        raise RecordingError([f"{source}:1: expected a recording, got nothing"])
    return [_session(events) for events in sessions]


def _session(events: Sequence[Event]) -> RecordedSession:
    results = [event for event in events if "result" in event.facts]
    for event in results:
        event.at("result").at("reading")  # refused here, with the number of the line
    return RecordedSession(
        header=events[0],
        events=[event for event in events[1:] if "result" not in event.facts],
        result=results[-1].at("result") if results else None,
    )


def _events(text: str, source: str) -> Iterator[Event]:
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        where = f"{source}:{number}"
        if not line.strip():
            continue
        if len(line) > MAX_LINE:
            raise RecordingError([f"{where}: more than {MAX_LINE} characters"])
        try:
            facts = json.loads(line, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            if number == len(lines):  # without its end: the recorder was killed in mid-line
                return
            raise RecordingError([f"{where}: {NO_RECORDING}"]) from None
        if not isinstance(facts, dict):
            raise RecordingError([f"{where}: {NO_RECORDING}"])
        if _is_deeper(facts, MAX_DEPTH):
            raise RecordingError([f"{where}: more than {MAX_DEPTH} levels"])
        t = facts.get("t", 0.0)
        if isinstance(t, bool) or not isinstance(t, int | float) or not 0 <= t <= LONGEST_S:
            raise RecordingError([f"{where}: t: expected seconds, at most {LONGEST_S:.0f}"])
        yield Event(where, float(t), facts)


def _is_deeper(value: object, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    parts = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deeper(part, levels - 1) for part in parts)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def is_recording(text: str) -> bool:
    """Return whether a text begins as a recording does."""
    return FIRST.match(text) is not None
