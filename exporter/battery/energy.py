"""Counts the charge and energy of one battery between its readings."""

from dataclasses import dataclass, replace
from typing import Final, NamedTuple

HOUR_S: Final = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyTotals:
    """What was counted since the start of the process; no number ever decreases."""

    charged_ah: float = 0.0
    discharged_ah: float = 0.0
    charged_wh: float = 0.0
    discharged_wh: float = 0.0
    gap_s: float = 0.0  # in which nothing was counted: its readings are too far apart


class Flow(NamedTuple):
    """Voltage and current of one reading. Current is positive while charging."""

    at_s: float  # by the boot clock
    voltage_v: float
    current_a: float


class EnergyMeter:
    """Integrates current and power; between two readings both change in a straight line."""

    def __init__(self) -> None:
        self.totals: EnergyTotals | None = None  # None: there was no reading yet
        self._newest: Flow | None = None

    def add(self, flow: Flow, longest_s: float) -> None:
        """Count from the last reading to this one, if they are at most `longest_s` apart."""
        before, self._newest = self._newest, flow
        totals = self.totals or EnergyTotals()
        if before is not None:
            totals = _add(totals, before, flow, longest_s)
        self.totals = totals


def _add(totals: EnergyTotals, before: Flow, after: Flow, longest_s: float) -> EnergyTotals:
    duration_s = after.at_s - before.at_s
    if duration_s > longest_s:
        return replace(totals, gap_s=totals.gap_s + duration_s)
    hours = duration_s / HOUR_S
    charged_ah, discharged_ah = areas(before.current_a, after.current_a)
    charged_wh, discharged_wh = areas(
        before.voltage_v * before.current_a, after.voltage_v * after.current_a
    )
    return replace(
        totals,
        charged_ah=totals.charged_ah + charged_ah * hours,
        discharged_ah=totals.discharged_ah + discharged_ah * hours,
        charged_wh=totals.charged_wh + charged_wh * hours,
        discharged_wh=totals.discharged_wh + discharged_wh * hours,
    )


def areas(before: float, after: float) -> tuple[float, float]:
    """Return the areas above and below zero of a straight line of length 1, both positive."""
    if before * after >= 0:
        area = (before + after) / 2
        return max(area, 0.0), max(-area, 0.0)
    crossing = before / (before - after)  # where the line is zero, 0 to 1
    first, second = before * crossing / 2, after * (1 - crossing) / 2
    return max(first, second), -min(first, second)
