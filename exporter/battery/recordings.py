"""Records the polls of one battery, and keeps the last failed ones in memory."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from exporter.errors import BmsError
from exporter.link_stats import LinkStats, LinkTotals
from exporter.reading import Reading
from exporter.recording.lines import Write
from exporter.recording.recorder import Recorder
from exporter.recording.redact import Redactor

FAILURES: Final = 3
MAX_BYTES: Final = 30_000  # of one recording in memory; a poll with many resends has 10 kB
RESERVED: Final = 2_000  # of them for the last line, which says how the poll ended
MAX_ADDRESSES: Final = 8  # that messages of errors named

COUNTED: Final = ("connection_attempts", "requests", "resends", "discarded_bytes")
COUNTED_BY_REASON: Final = ("connection_failures", "frame_errors")

Facts = Callable[[], Mapping[str, Any]]
"""Returns facts of machine and configuration for the first line of a recording."""


class MemoryLines:
    """The lines of one recording, as far as there is room for them."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._bytes = 0
        self._left_out = 0

    def write(self, line: str) -> None:
        """Keep a line, or count it: the result is always kept."""
        size = len(line) + 1
        if not self._left_out and self._bytes + size <= MAX_BYTES - RESERVED:
            self._lines.append(line)
            self._bytes += size
        else:
            self._left_out += 1
            self._last = line

    def text(self) -> str:
        """Return all lines; a cut recording says how many are left out before its last one."""
        lines = self._lines
        if self._left_out:
            lines = [*lines, f'{{"cut":{self._left_out - 1}}}', self._last]
        return "".join(f"{line}\n" for line in lines)


class Recordings:
    """Records each poll; keeps the last failed ones, or writes all lines as they come."""

    def __init__(self, stats: LinkStats, write: Write | None = None) -> None:
        """Record nothing yet.

        Args:
            stats: Those of the battery's target, which pass events on.
            write: Takes each line at once; None: failed polls are kept.
        """
        self._address = ""
        self._facts: Facts = dict
        self._stats = stats
        self._write = write
        self._failed: deque[str] = deque(maxlen=FAILURES)
        self._redactor = Redactor()

    def change(self, address: str, facts: Facts) -> None:
        """Replace the address, and what is called at the beginning of each poll."""
        self._address = address
        self._redactor = Redactor([address])
        self._facts = facts

    @property
    def failed(self) -> Sequence[str]:
        """The recordings of the last failed polls, the oldest first."""
        return tuple(self._failed)

    @contextmanager
    def record(self) -> Iterator[Callable[[Reading], None]]:
        """Record a poll until the context ends; the context yields what takes its reading.

        The error that ends it is its outcome. Without one and a reading it was cancelled.
        """
        lines = MemoryLines()
        outcome: Reading | BmsError | None = None

        def note(reading: Reading) -> None:
            nonlocal outcome
            outcome = reading

        before = self._stats.totals()
        recorder = Recorder(
            self._write or lines.write,
            address=self._address,
            clock=asyncio.get_running_loop().time,
            facts=self._facts(),
            redactor=self._redactor,
        )
        self._stats.recorder = recorder
        try:
            yield note
        except BmsError as error:
            outcome = error
            raise
        finally:
            self._stats.recorder = None
            if self._write is not None or isinstance(outcome, BmsError):
                recorder.finish(outcome, count(before, self._stats.totals()))
            if isinstance(outcome, BmsError):
                self._failed.append(lines.text())
            if len(self._redactor) > MAX_ADDRESSES:
                self._redactor = Redactor([self._address])


def count(before: LinkTotals, after: LinkTotals) -> dict[str, Any]:
    """Return what was counted between two moments, without zeros."""
    counted: dict[str, Any] = {
        name: getattr(after, name) - getattr(before, name) for name in COUNTED
    }
    for name in COUNTED_BY_REASON:
        counted[name] = _more(getattr(before, name), getattr(after, name))
    return {name: value for name, value in counted.items() if value}


def _more(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    more = {str(key): value - before.get(key, 0) for key, value in after.items()}
    return {key: value for key, value in more.items() if value}
