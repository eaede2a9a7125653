"""The last hours of one battery, in memory only: lost at a restart."""

from collections import deque
from typing import Final, NamedTuple

SPACING_S: Final = 120.0  # a curve as wide as a phone has 390 pixels
HOURS: Final = 12
LENGTH: Final = int(HOURS * 3600 / SPACING_S)
MEAN_S: Final = 900.0  # a fridge switches more often


class Sample(NamedTuple):
    """One reading, as much of it as a curve needs. Current is positive while charging."""

    unix_s: float
    remaining_ah: float
    current_a: float


class History:
    """Readings of the last hours, at most one every two minutes."""

    def __init__(self) -> None:
        """Begin without any."""
        self._samples: deque[Sample] = deque(maxlen=LENGTH)
        self._newest: Sample | None = None
        self.kept = 0
        """How many samples were ever kept: the same, and nothing has changed."""

    def add(self, sample: Sample) -> None:
        """Keep a reading."""
        self._newest = sample
        last = self._samples[-1] if self._samples else None
        if last is not None and sample.unix_s < last.unix_s:
            self._samples.clear()  # the clock was set back: no curve goes backwards
            last = None
        if last is None or sample.unix_s - last.unix_s >= SPACING_S:
            self._samples.append(sample)
            self.kept += 1

    def samples(self, now_unix_s: float) -> list[Sample]:
        """Return those of the last hours, the oldest first."""
        oldest_s = now_unix_s - HOURS * 3600
        return [sample for sample in self._samples if sample.unix_s >= oldest_s]

    def mean_current_a(self, now_unix_s: float) -> float | None:
        """Return the mean current of the last quarter of an hour; None: nothing was read in it."""
        newest = self._newest
        currents = [newest.current_a] if newest and now_unix_s - newest.unix_s <= MEAN_S else []
        for sample in reversed(self._samples):
            if now_unix_s - sample.unix_s > MEAN_S:
                break
            if sample is not newest:
                currents.append(sample.current_a)
        return sum(currents) / len(currents) if currents else None
