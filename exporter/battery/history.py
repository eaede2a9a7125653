"""The last day of one battery, in memory only: lost at a restart."""

from collections import deque
from collections.abc import Hashable
from typing import Final, NamedTuple

from exporter.clock import WallClock

SPACING_S: Final = 120.0  # a curve as wide as a phone has 390 pixels
HOURS: Final = 12  # of the curve
LENGTH: Final = int(HOURS * 3600 / SPACING_S)
KEPT_HOURS: Final = 24  # so that the last night is known until the next one
KEPT: Final = int(KEPT_HOURS * 3600 / SPACING_S)


class Sample(NamedTuple):
    """One reading, as much of it as a curve needs. Current is positive while charging."""

    at_s: float  # by the boot clock
    remaining_ah: float
    current_a: float


class History:
    """Readings of the last day, at most one every two minutes."""

    def __init__(self, wall: WallClock) -> None:
        self._wall = wall
        self._samples: deque[Sample] = deque(maxlen=KEPT)

    def add(self, sample: Sample) -> None:
        """Keep a reading if two minutes have passed since the last one that was kept."""
        if not self._samples or sample.at_s - self._samples[-1].at_s >= SPACING_S:
            self._samples.append(sample)

    @property
    def revision(self) -> Hashable:
        """A value that changes with the curve."""
        newest = self._samples[-1] if self._samples else None
        return newest, len(self._last(HOURS)), self._wall.difference_s()

    def curve(self) -> list[tuple[float, float, float]]:
        """Return (unix time, Ah, A) of the last hours, the oldest first."""
        difference_s = self._wall.difference_s()
        return [(at_s + difference_s, ah, a) for at_s, ah, a in self._last(HOURS)]

    def currents(self) -> list[tuple[float, float]]:
        """Return (unix time, A) of the last day, the oldest first."""
        difference_s = self._wall.difference_s()
        return [(at_s + difference_s, a) for at_s, _, a in self._last(KEPT_HOURS)]

    def _last(self, hours: float) -> list[Sample]:
        oldest_s = self._wall.now_s() - hours * 3600
        return [sample for sample in self._samples if sample.at_s >= oldest_s]
