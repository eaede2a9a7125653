"""The last hours of one battery, in memory only: lost at a restart."""

from collections import deque
from collections.abc import Hashable
from typing import Final, NamedTuple

from exporter.clock import WallClock

SPACING_S: Final = 120.0  # a curve as wide as a phone has 390 pixels
HOURS: Final = 12
LENGTH: Final = int(HOURS * 3600 / SPACING_S)


class Sample(NamedTuple):
    """One reading, as much of it as a curve needs. Current is positive while charging."""

    at_s: float  # by the boot clock
    remaining_ah: float
    current_a: float


class History:
    """Readings of the last twelve hours, at most one every two minutes."""

    def __init__(self, wall: WallClock) -> None:
        self._wall = wall
        self._samples: deque[Sample] = deque(maxlen=LENGTH)

    def add(self, sample: Sample) -> None:
        """Add a reading to the curve if two minutes have passed since the last one in it."""
        if not self._samples or sample.at_s - self._samples[-1].at_s >= SPACING_S:
            self._samples.append(sample)

    @property
    def revision(self) -> Hashable:
        """A value that changes with the curve."""
        self._drop_old()
        newest = self._samples[-1] if self._samples else None
        return newest, len(self._samples), self._wall.difference_s()

    def curve(self) -> list[tuple[float, float, float]]:
        """Return (unix time, Ah, A) of the last hours, the oldest first."""
        self._drop_old()
        difference_s = self._wall.difference_s()
        return [(at_s + difference_s, ah, a) for at_s, ah, a in self._samples]

    def _drop_old(self) -> None:
        oldest_s = self._wall.now_s() - HOURS * 3600
        while self._samples and self._samples[0].at_s < oldest_s:
            self._samples.popleft()
