"""The totals of banks: batteries that are wired in parallel or in series."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from exporter.battery.forecast import time_to_empty_s, time_to_full_s
from exporter.battery.snapshot import Snapshot
from exporter.config.schema import BankConfig, Wiring
from exporter.reading import BasicInfo

DIGITS: Final = 6  # sums of what the BMS rounds to 0.01 show no more


@dataclass(frozen=True, slots=True, kw_only=True)
class BankTotal:
    """The batteries of a bank as one battery. Current is positive while charging."""

    remaining_ah: float
    nominal_ah: float | None  # None: a BMS reports 0, so nobody has configured it
    full_ah: float | None  # None: in parallel, and no BMS has learned one; `_full_ah`
    rsoc_ratio: float | None  # None: parallel, and without the nominal capacities
    voltage_v: float
    current_a: float
    power_w: float
    time_to_empty_s: float | None  # as of a battery, at the mean current of half an hour
    time_to_full_s: float | None
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
    found = [snapshots[name] for name in bank.batteries if name in snapshots]
    infos = [one.reading.basic for one in found if one.reading and one.reading.basic]
    means_a = [one.mean_current_a or 0.0 for one in found]
    is_complete = len(infos) == len(bank.batteries)
    return BankSnapshot(
        bank=bank.name,
        wiring=bank.wiring,
        batteries=bank.batteries,
        batteries_read=len(infos),
        total=_total(bank.wiring, infos, means_a) if is_complete else None,
    )


def _total(wiring: Wiring, infos: Sequence[BasicInfo], means_a: Sequence[float]) -> BankTotal:
    is_parallel = wiring is Wiring.PARALLEL
    remaining_ah = [one.remaining_ah for one in infos]
    nominal_ah = [one.nominal_ah for one in infos]
    voltage_v = [one.voltage_v for one in infos]
    current_a = [one.current_a for one in infos]
    rsoc = [one.rsoc_ratio for one in infos]
    # In series, the battery with the least charge ends every discharge.
    charge: Callable[[Sequence[float]], float] = sum if is_parallel else min
    has_nominal = all(nominal_ah)
    full_ah = _full_ah(infos, is_parallel=is_parallel)
    rsoc_ratio: float | None = min(rsoc)
    if is_parallel:
        weighted = sum(ratio * ah for ratio, ah in zip(rsoc, nominal_ah, strict=True))
        rsoc_ratio = weighted / sum(nominal_ah) if has_nominal else None
    combine_a: Callable[[Sequence[float]], float] = sum if is_parallel else _mean
    whole = replace(  # the bank as one battery
        infos[0],
        remaining_ah=round(charge(remaining_ah), DIGITS),
        nominal_ah=round(charge(nominal_ah), DIGITS) if has_nominal else 0.0,
        full_ah=None if full_ah is None else round(full_ah, DIGITS),
        current_a=round(combine_a(current_a), DIGITS),
        rsoc_ratio=rsoc_ratio or 0.0,
    )
    mean_a = combine_a(means_a)
    return BankTotal(
        remaining_ah=whole.remaining_ah,
        nominal_ah=whole.nominal_ah if has_nominal else None,
        full_ah=whole.full_ah,
        rsoc_ratio=None if rsoc_ratio is None else round(rsoc_ratio, DIGITS),
        voltage_v=round((_mean if is_parallel else sum)(voltage_v), DIGITS),
        current_a=whole.current_a,
        power_w=round(sum(one.voltage_v * one.current_a for one in infos), DIGITS),
        time_to_empty_s=time_to_empty_s(whole, mean_a),
        time_to_full_s=time_to_full_s(whole, mean_a),
        rsoc_difference_ratio=round(max(rsoc) - min(rsoc), DIGITS),
        current_difference_a=round(max(current_a) - min(current_a), DIGITS),
    )


def _full_ah(infos: Sequence[BasicInfo], *, is_parallel: bool) -> float | None:
    """Return the charge of the bank when charging ends.

    A battery that has learned no capacity counts with its nominal one. In series, charging ends
    with the first full battery, and the one with the least charge may not be full by then.
    """
    capacities_ah = [one.full_ah or one.nominal_ah for one in infos]
    if not all(capacities_ah):
        return None
    if is_parallel:
        return sum(capacities_ah) if any(one.full_ah for one in infos) else None
    remaining_ah = [one.remaining_ah for one in infos]
    missing_ah = (full - left for full, left in zip(capacities_ah, remaining_ah, strict=True))
    return min(remaining_ah) + min(missing_ah)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
