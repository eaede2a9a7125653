"""Totals of batteries that are wired together."""

from dataclasses import replace
from typing import Any

import pytest

from exporter.battery.banks import BankSnapshot, BankTotal, make_bank_snapshot
from exporter.battery.forecast import time_to_full_s
from exporter.battery.snapshot import Snapshot
from exporter.config.schema import BankConfig, Name, Wiring
from exporter.protocol.jbd import decode_basic
from exporter.reading import Reading
from tests.support.recorded import MOBILEKTRO

BASIC = decode_basic(MOBILEKTRO[4:-3])
SMALL = {
    "remaining_ah": 40.0,
    "nominal_ah": 100.0,
    "rsoc_ratio": 0.4,
    "voltage_v": 13.1,
    "current_a": -2.0,
}
LARGE = {
    "remaining_ah": 240.0,
    "nominal_ah": 300.0,
    "rsoc_ratio": 0.8,
    "voltage_v": 13.2,
    "current_a": -7.0,
}


def shot(battery: str, mean_a: float | None = None, **basic: Any) -> Snapshot:
    info = replace(BASIC, **basic)
    return Snapshot(
        battery=battery,
        address="A4:C1:38:00:00:01",
        reading=Reading(basic=info),
        mean_current_a=info.current_a if mean_a is None else mean_a,
    )


def bank_of(wiring: Wiring, *snapshots: Snapshot, batteries: str = "small large") -> BankSnapshot:
    names = tuple(Name(name) for name in batteries.split())
    config = BankConfig(name=Name("both"), batteries=names, wiring=wiring)
    return make_bank_snapshot(config, {one.battery: one for one in snapshots})


def total_of(wiring: Wiring, small: Any = SMALL, large: Any = LARGE) -> BankTotal:
    total = bank_of(wiring, shot("small", **small), shot("large", **large)).total
    assert total is not None
    return total


def test_parallel_adds_charge_and_current_and_averages_voltage() -> None:
    assert total_of(Wiring.PARALLEL) == BankTotal(
        remaining_ah=280.0,
        nominal_ah=400.0,
        full_ah=None,
        rsoc_ratio=0.7,  # by nominal capacity
        voltage_v=13.15,
        current_a=-9.0,
        power_w=-118.6,
        time_to_empty_s=112_000.0,  # 280 Ah at 9 A
        time_to_full_s=None,
        rsoc_difference_ratio=0.4,
        current_difference_a=5.0,
    )


def test_series_adds_voltage_and_averages_current_and_has_the_least_charge() -> None:
    assert total_of(Wiring.SERIES, large=LARGE | {"current_a": -2.1}) == BankTotal(
        remaining_ah=40.0,
        nominal_ah=100.0,
        full_ah=100.0,
        rsoc_ratio=0.4,
        voltage_v=26.3,
        current_a=-2.05,
        power_w=-53.92,
        time_to_empty_s=40.0 / 2.05 * 3600,
        time_to_full_s=None,
        rsoc_difference_ratio=0.4,
        current_difference_a=0.1,
    )


def test_time_to_empty_of_a_bank_uses_the_mean_of_half_an_hour() -> None:
    coffee = shot("small", -2.0, **SMALL | {"current_a": -52.0})

    total = bank_of(Wiring.PARALLEL, coffee, shot("large", **LARGE)).total

    assert total is not None
    assert (total.current_a, total.time_to_empty_s) == (-59.0, 112_000.0)


def test_charged_bank_has_a_time_to_full() -> None:
    total = total_of(Wiring.PARALLEL, SMALL | {"current_a": 3.0}, LARGE | {"current_a": 9.0})

    assert (total.time_to_empty_s, total.time_to_full_s) == (None, 36_000.0)  # 120 Ah at 12 A


@pytest.mark.parametrize("wiring", list(Wiring))
def test_bank_is_full_when_its_equal_batteries_are(wiring: Wiring) -> None:
    aged = SMALL | {"remaining_ah": 70.0, "rsoc_ratio": 0.875, "full_ah": 80.0, "current_a": 10.0}
    one = shot("aged", **aged).reading

    total = total_of(wiring, aged, aged)

    assert one is not None
    assert one.basic is not None
    assert total.time_to_full_s == time_to_full_s(one.basic, 10.0) == 3600.0


def test_time_to_full_uses_the_nominal_capacity_of_a_battery_that_has_learned_none() -> None:
    aged = SMALL | {"full_ah": 80.0, "current_a": 4.0}

    total = total_of(Wiring.PARALLEL, aged, LARGE | {"current_a": 6.0})

    assert total.full_ah == 380.0
    assert total.time_to_full_s == 36_000.0  # 100 Ah at 10 A


def test_bank_in_series_is_full_with_its_first_full_battery() -> None:
    emptier = SMALL | {"remaining_ah": 100.0, "nominal_ah": 200.0, "current_a": 10.0}
    fuller = SMALL | {"remaining_ah": 130.0, "nominal_ah": 200.0, "full_ah": 150.0}

    total = total_of(Wiring.SERIES, emptier, fuller | {"current_a": 10.0})

    assert total.full_ah == 120.0
    assert total.time_to_full_s == 7200.0  # 20 Ah at 10 A


@pytest.mark.parametrize("wiring", list(Wiring))
def test_single_battery_is_its_own_total(wiring: Wiring) -> None:
    total = bank_of(wiring, shot("small", **SMALL), batteries="small").total

    assert total is not None
    assert {key: getattr(total, key) for key in SMALL} == SMALL
    assert (total.rsoc_difference_ratio, total.current_difference_a) == (0.0, 0.0)


def test_sums_show_no_more_digits_than_the_bms() -> None:
    total = total_of(Wiring.PARALLEL, SMALL | {"remaining_ah": 0.1}, LARGE | {"remaining_ah": 0.2})

    assert 0.1 + 0.2 != 0.3
    assert total.remaining_ah == 0.3


def test_parallel_without_a_nominal_capacity_has_no_state_of_charge() -> None:
    total = total_of(Wiring.PARALLEL, large=LARGE | {"nominal_ah": 0.0})

    assert (total.nominal_ah, total.rsoc_ratio) == (None, None)
    assert total.remaining_ah == 280.0


def test_series_without_a_nominal_capacity_has_a_state_of_charge() -> None:
    total = total_of(Wiring.SERIES, large=LARGE | {"nominal_ah": 0.0})

    assert (total.nominal_ah, total.rsoc_ratio) == (None, 0.4)


@pytest.mark.parametrize("wiring", list(Wiring))
@pytest.mark.parametrize(
    "second",
    [
        pytest.param((), id="not configured any more"),
        pytest.param((replace(shot("large"), reading=None),), id="stale"),
        pytest.param(
            (replace(shot("large"), reading=Reading(cell_voltages_v=(3.3,))),), id="only cells"
        ),
    ],
)
def test_total_is_absent_if_one_battery_is_missing(
    wiring: Wiring, second: tuple[Snapshot, ...]
) -> None:
    bank = bank_of(wiring, shot("small", **SMALL), *second)

    assert (bank.total, bank.batteries_read) == (None, 1)
    assert bank.batteries == ("small", "large")


def test_other_batteries_do_not_count() -> None:
    bank = bank_of(Wiring.PARALLEL, shot("small", **SMALL), shot("other", **LARGE))

    assert (bank.total, bank.batteries_read) == (None, 1)
