"""Whether the charge lasts until the morning: the rule in docs/metrics.md, Until the morning."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

HOUR_S: Final = 3600.0


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
