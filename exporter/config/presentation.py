"""The options that change what is shown of a battery, but not how it is read."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from exporter.config.yaml_document import Complaint, Document, shown

THRESHOLD: Final = re.compile(r"(?P<amount>\d+(?:\.\d+)?) ?(?P<unit>Ah|%)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Threshold:
    """A charge: in ampere-hours, or as a ratio of the nominal capacity."""

    amount: float
    is_ratio: bool

    def __str__(self) -> str:
        """Return it as in the file."""
        return f"{self.amount * 100:g}%" if self.is_ratio else f"{self.amount:g}Ah"

    def in_ah(self, nominal_ah: float | None) -> float | None:
        """Return it in ampere-hours; None: that needs a nominal capacity, which is not known."""
        if not self.is_ratio:
            return self.amount
        # Some BMS report 0: nobody has configured their nominal capacity.
        return round(self.amount * nominal_ah, 3) if nominal_ah else None

    def is_above(self, other: "Threshold") -> bool:
        """Return whether it is above `other` for every nominal capacity."""
        return self.is_ratio == other.is_ratio and self.amount > other.amount


LOW: Final = Threshold(0.2, is_ratio=True)
CRITICAL: Final = Threshold(0.1, is_ratio=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Presentation:
    """What is shown of one battery besides its readings."""

    low: Threshold = LOW
    critical: Threshold = CRITICAL
    sensors: tuple[str | None, ...] = ()  # of the first NTCs; None: an empty socket

    def sensor_names(self, count: int) -> tuple[str | None, ...]:
        """Return the names of this number of NTCs, in the BMS's order; None: an empty socket."""
        named = self.sensors[:count]
        return *named, *(f"ntc{number}" for number in range(len(named) + 1, count + 1))


def parse_threshold(value: object) -> Threshold:
    """Return the threshold in "60Ah" or "30%". Raises ValueError for anything else."""
    match = THRESHOLD.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"expected a charge with its unit like 60Ah or 30%, got {shown(value)}")
    amount = float(match["amount"])
    if match["unit"] == "Ah":
        return Threshold(amount, is_ratio=False)
    ratio = amount / 100
    if ratio > 1:
        raise ValueError(f"expected at most 100%, got {shown(value)}")
    return Threshold(ratio, is_ratio=True)


def threshold_complaints(document: Document) -> Iterator[Complaint]:
    """Find thresholds `critical` that are above `low`: of the file, and of each battery."""
    inherited: dict[str, tuple[Threshold | None, str]] = {
        "low": (LOW, "the default"),
        "critical": (CRITICAL, "the default"),
    }
    yield from _order_complaints(document, "", document.data, inherited)
    inherited |= {key: (one, "of all batteries") for key, one in _own(document.data).items()}
    for index, battery in enumerate(document.mappings("batteries")):
        given = {key: value for key, value in battery.items() if value is not None}
        yield from _order_complaints(document, f"batteries[{index}].", given, inherited)


def _order_complaints(
    document: Document,
    prefix: str,
    data: Mapping[str, Any],
    inherited: Mapping[str, tuple[Threshold | None, str]],
) -> Iterator[Complaint]:
    own = _own(data)
    low, critical = (own.get(key, inherited[key][0]) for key in ("low", "critical"))
    if not (own and low and critical and critical.is_above(low)):
        return
    if "critical" in own:
        source = "" if "low" in own else f", {inherited['low'][1]}"
        text = f"expected at most low ({low}{source}), got {critical}"
        yield document.complaint(f"{prefix}critical", text)
    else:
        source = inherited["critical"][1]
        text = f"expected at least critical ({critical}, {source}), got {low}: set critical, too"
        yield document.complaint(f"{prefix}low", text)


def _own(data: Mapping[str, Any]) -> dict[str, Threshold | None]:
    """Return the thresholds of one mapping; None: it is wrong, and others complain about it."""
    found: dict[str, Threshold | None] = {}
    for key in {"low", "critical"} & data.keys():
        try:
            found[key] = parse_threshold(data[key])
        except ValueError:
            found[key] = None
    return found
