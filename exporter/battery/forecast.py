"""When a battery will be empty or full, and whether it lasts until the morning: docs/metrics.md."""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from exporter.reading import BasicInfo

MEAN_S: Final = 1800.0  # a coffee machine of four minutes says nothing about the night
SPACING_S: Final = 10.0  # bounds the memory; the mean stays exact
AT_REST_A: Final = 0.05  # a smaller mean may be noise
LONGEST_S: Final = 30 * 86400.0  # a later time is not shown
HOUR_S: Final = 3600.0


class _Mark(NamedTuple):
    """What was added up until one reading."""

    at_s: float
    ampere_s: float
    known_s: float


class MeanCurrent:
    """The mean current of the half hour before the newest reading.

    A reading counts until the next one, but not for longer than it is shown: so the mean is that
    of the values which a regular scrape sees.
    """

    def __init__(self) -> None:
        self.value_a: float | None = None  # None: there was no reading yet
        self._marks: deque[_Mark] = deque()
        self._newest = _Mark(0.0, 0.0, 0.0)
        self._current_a = 0.0

    def add(self, at_s: float, current_a: float, max_age_s: float) -> None:
        """Add a reading; the one before was shown for at most `max_age_s`."""
        _, ampere_s, known_s = self._newest
        if self._marks:
            shown_s = min(at_s - self._newest.at_s, max_age_s)
            ampere_s += self._current_a * shown_s
            known_s += shown_s
        self._newest, self._current_a = _Mark(at_s, ampere_s, known_s), current_a
        while self._marks and self._marks[0].at_s < at_s - MEAN_S:
            self._marks.popleft()
        if not self._marks or at_s - self._marks[-1].at_s >= SPACING_S:
            self._marks.append(self._newest)
        oldest = self._marks[0]
        mean_s = known_s - oldest.known_s
        self.value_a = (ampere_s - oldest.ampere_s) / mean_s if mean_s > 0 else current_a


def time_to_empty_s(basic: BasicInfo, mean_a: float) -> float | None:
    """Return how long the charge lasts; None: at rest, charging, or beyond 30 days."""
    if basic.current_a > 0:
        return None  # the current has changed its direction: its mean predicts nothing
    return _time_s(basic.remaining_ah, -mean_a)


def time_to_full_s(basic: BasicInfo, mean_a: float) -> float | None:
    """Return how long charging takes; None: full, at rest, discharging, or beyond 30 days."""
    capacity_ah = basic.full_ah or basic.nominal_ah  # 0: nobody has configured it
    if basic.current_a < 0 or basic.rsoc_ratio >= 1 or not capacity_ah:
        return None
    return _time_s(capacity_ah - basic.remaining_ah, mean_a)


def _time_s(charge_ah: float, current_a: float) -> float | None:
    if current_a < AT_REST_A or charge_ah < 0:
        return None
    time_s = charge_ah / current_a * HOUR_S
    return time_s if time_s <= LONGEST_S else None


class Enough(StrEnum):
    """Whether the charge lasts until the morning."""

    YES = "yes"
    LOW = "low"  # yes, but then the battery is low
    NO = "no"  # then it is critical, or empty before


@dataclass(frozen=True, slots=True, kw_only=True)
class Morning:
    """What will be left in the morning if the night is like the last one."""

    left_ah: float
    enough: Enough


def night_current_a(
    currents: Iterable[tuple[float, float]], is_night: Callable[[float], bool]
) -> float | None:
    """Return the mean current that was drawn at night; None: no reading is of a night.

    `currents` are pairs of unix time and A, positive while charging, which counts as 0.
    """
    drawn_a = [max(-current_a, 0.0) for unix_s, current_a in currents if is_night(unix_s)]
    return sum(drawn_a) / len(drawn_a) if drawn_a else None


def make_morning(
    remaining_ah: float, night_a: float, night_s: float, *, low_ah: float, critical_ah: float
) -> Morning:
    """Return what `night_s` seconds at `night_a` leave of the charge."""
    left_ah = max(remaining_ah - night_a * night_s / HOUR_S, 0.0)
    enough = Enough.YES if left_ah >= low_ah else Enough.LOW
    return Morning(left_ah=left_ah, enough=enough if left_ah >= critical_ah else Enough.NO)
