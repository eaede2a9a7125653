"""The lines of a recording, in order; those behind an unfinished frame wait for its end."""

import json
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from exporter.recording.redact import Redactor
from exporter.recording.values import NOISE, Piece, Values

Write = Callable[[str], None]
"""Takes one line without its end."""

_to_json: Final = json.JSONEncoder(separators=(",", ":")).encode


@dataclass(slots=True)
class _Line:
    facts: dict[str, Any]
    name: str = ""  # of the bytes that it waits for; empty: it is complete
    before: bytes = b""  # the bytes that need no redaction


class Lines:
    """Writes lines as soon as nothing before them waits for the end of a frame."""

    def __init__(self, write: Write, header: dict[str, Any], redactor: Redactor) -> None:
        """Write `header` before the first line."""
        self._write = write
        self._redactor = redactor
        self.header: dict[str, Any] | None = header
        """The first line, which may be changed until it is written; None: it is."""
        self.edited: set[str | int] = set()
        """What redaction has changed in any line."""
        self._values: dict[tuple[str, object], Values] = {}
        self._waiting: dict[tuple[str, object], deque[_Line]] = {}
        self._queue: deque[_Line] = deque()

    def add(self, facts: dict[str, Any], edited: Iterable[str | int] = ()) -> None:
        """Add a complete line, in which these parts were changed."""
        line = _Line(facts)
        self._mark(line, edited)
        self._queue.append(line)
        self._drain()

    def add_value(
        self, key: tuple[str, object], facts: dict[str, Any], name: str, before: bytes, value: bytes
    ) -> None:
        """Add a line with a value, which may be a piece of a frame.

        Args:
            key: Of the characteristic and direction whose values belong together.
            facts: The rest of the line.
            name: The key of the bytes in the line.
            before: What is written before the value.
            value: Is redacted.
        """
        line = _Line(facts, name, before)
        self._queue.append(line)
        if key not in self._values:
            self._values[key] = Values(self._redactor)
            self._waiting[key] = deque()
        self._waiting[key].append(line)
        self._fill(key, self._values[key].add(value))
        self._drain()

    def flush(self, only: tuple[str, object] | None = None) -> None:
        """Write what waits for the end of a frame; `only` that of these values."""
        for key, values in self._values.items():
            if only in {None, key}:
                self._fill(key, values.flush())
        self._drain()

    def _fill(self, key: tuple[str, object], pieces: Iterable[Piece]) -> None:
        for piece in pieces:
            line = self._waiting[key].popleft()
            line.facts[line.name] = (line.before + piece.data).hex()
            line.name = ""
            if piece.password is not None:
                line.facts["password"] = piece.password._asdict()
            self._mark(line, ("bytes" if one == NOISE else one for one in piece.edited))

    def _mark(self, line: _Line, edited: Iterable[str | int]) -> None:
        if changed := order(edited):
            self.edited.update(changed)
            line.facts["edited"] = changed

    def _drain(self) -> None:
        while self._queue and not self._queue[0].name:
            if self.header is not None:
                self._write(_to_json(self.header))
                self.header = None
            self._write(_to_json(self._queue.popleft().facts))


def order(edited: Iterable[str | int]) -> list[str | int]:
    """Return registers and names of parts in the order in which a line has them."""
    return sorted(edited, key=str)
