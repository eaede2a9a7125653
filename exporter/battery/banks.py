"""The totals of banks: batteries that are wired in parallel or in series."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from exporter.battery.snapshot import Snapshot
from exporter.config.schema import BankConfig, Wiring
from exporter.reading import BasicInfo

DIGITS: Final = 6  # sums of what the BMS rounds to 0.01 show no more


@dataclass(frozen=True, slots=True, kw_only=True)
class BankTotal:
    """The batteries of a bank as one battery. Current is positive while charging."""

    remaining_ah: float
    nominal_ah: float | None  # None: a BMS reports 0, so nobody has configured it
    rsoc_ratio: float | None  # None: parallel, and without the nominal capacities
    voltage_v: float
    current_a: float
    power_w: float
    rsoc_difference_ratio: float  # the highest minus the lowest of its batteries
    current_difference_a: float  # the same


@dataclass(frozen=True, slots=True, kw_only=True)
class BankSnapshot:
    """What one scrape may show of one bank."""

    bank: str
    wiring: Wiring
    batteries: tuple[str, ...]
    batteries_read: int  # how many have a reading that may be shown
    total: BankTotal | None  # None: not all of them have


def make_bank_snapshot(bank: BankConfig, snapshots: Mapping[str, Snapshot]) -> BankSnapshot:
    """Combine the snapshots of a bank's batteries; `snapshots` are by name."""
    found = (snapshots.get(name) for name in bank.batteries)
    readings = (snapshot.reading for snapshot in found if snapshot is not None)
    infos = [reading.basic for reading in readings if reading is not None and reading.basic]
    is_complete = len(infos) == len(bank.batteries)
    return BankSnapshot(
        bank=bank.name,
        wiring=bank.wiring,
        batteries=bank.batteries,
        batteries_read=len(infos),
        total=_total(bank.wiring, infos) if is_complete else None,
    )


def _total(wiring: Wiring, infos: Sequence[BasicInfo]) -> BankTotal:
    is_parallel = wiring is Wiring.PARALLEL
    remaining_ah = [one.remaining_ah for one in infos]
    nominal_ah = [one.nominal_ah for one in infos]
    voltage_v = [one.voltage_v for one in infos]
    current_a = [one.current_a for one in infos]
    rsoc = [one.rsoc_ratio for one in infos]
    # In series, the battery with the least charge ends every discharge.
    charge: Callable[[Sequence[float]], float] = sum if is_parallel else min
    has_nominal = all(nominal_ah)
    rsoc_ratio: float | None = min(rsoc)
    if is_parallel:
        weighted = sum(ratio * ah for ratio, ah in zip(rsoc, nominal_ah, strict=True))
        rsoc_ratio = weighted / sum(nominal_ah) if has_nominal else None
    return BankTotal(
        remaining_ah=round(charge(remaining_ah), DIGITS),
        nominal_ah=round(charge(nominal_ah), DIGITS) if has_nominal else None,
        rsoc_ratio=None if rsoc_ratio is None else round(rsoc_ratio, DIGITS),
        voltage_v=round((_mean if is_parallel else sum)(voltage_v), DIGITS),
        current_a=round((sum if is_parallel else _mean)(current_a), DIGITS),
        power_w=round(sum(one.voltage_v * one.current_a for one in infos), DIGITS),
        rsoc_difference_ratio=round(max(rsoc) - min(rsoc), DIGITS),
        current_difference_a=round(max(current_a) - min(current_a), DIGITS),
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
