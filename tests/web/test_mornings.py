"""The morning of batteries and banks, by what was drawn in the last night."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace

import pytest

from exporter.battery.banks import make_bank_snapshot
from exporter.battery.forecast import Enough, Morning
from exporter.battery.history import Sample
from exporter.battery.poller import Poller
from exporter.battery.snapshot import Snapshot
from exporter.clock import WallClock
from exporter.config.loader import parse
from exporter.config.presentation import Presentation, Threshold
from exporter.config.schema import BankConfig, Name, Wiring
from exporter.demo.radio import make_air
from exporter.localtime import LocalTime
from exporter.web.api_state import Mornings
from tests.support.virtual import battery, make_poller, make_routes, now_s

DAY_S = 86_400
HOUR_S = 3600
OPTIONS = 'timezone: UTC\nbatteries: [{name: left, address: "A4:C1:38:00:00:01"}]'
DRAWN_A = {"left": 4.0, "right": 6.0}
REMAINING_AH = 203.54  # of each


async def read_at_22(tasks: asyncio.TaskGroup) -> dict[str, Poller]:
    """Return batteries that were read last at 22:00; in the night before, they drew DRAWN_A."""
    wall = WallClock(now_s, now_s)
    virtual = {
        name: battery(f"A4:C1:38:00:00:0{number}") for number, name in enumerate(DRAWN_A, start=1)
    }
    routes = make_routes(make_air(virtual.values()))
    pollers = {
        name: make_poller(routes, tasks, name=name, address=one.address, wall=wall)
        for name, one in virtual.items()
    }
    await asyncio.sleep(DAY_S + 22 * HOUR_S - now_s() % DAY_S)
    for name, poller in pollers.items():
        for ago_s in range(DAY_S - 2 * HOUR_S - 120, 0, -120):
            at_s = now_s() - ago_s
            current_a = 9.0 if 6 <= at_s % DAY_S / HOUR_S < 20 else -DRAWN_A[name]
            poller.history.add(Sample(at_s, 100.0, current_a))
        await poller.refresh(timeout_s=30.0)
    return pollers


def mornings(pollers: Mapping[str, Poller]) -> Mornings:
    return Mornings(pollers, LocalTime(parse(OPTIONS), WallClock(now_s, now_s)))


def with_nominal(snapshot: Snapshot, nominal_ah: float) -> Snapshot:
    assert snapshot.reading is not None
    assert snapshot.reading.basic is not None
    basic = replace(snapshot.reading.basic, nominal_ah=nominal_ah)
    reading = replace(snapshot.reading, basic=basic)
    return replace(snapshot, reading=reading, nominal_ah=nominal_ah)


async def test_battery_loses_what_nine_hours_of_night_draw(tasks: asyncio.TaskGroup) -> None:
    pollers = await read_at_22(tasks)

    found = mornings(pollers).of_battery(pollers["left"].show())

    assert found is not None
    assert found.enough is Enough.YES
    assert found.left_ah == pytest.approx(REMAINING_AH - 9 * 4.0, abs=0.5)


@pytest.mark.parametrize(
    ("wiring", "left_ah"),
    [(Wiring.PARALLEL, 2 * REMAINING_AH - 90.0), (Wiring.SERIES, REMAINING_AH - 45.0)],
)
async def test_bank_loses_the_sum_in_parallel_and_the_mean_in_series(
    tasks: asyncio.TaskGroup, wiring: Wiring, left_ah: float
) -> None:
    pollers = await read_at_22(tasks)
    members = [poller.show() for poller in pollers.values()]
    config = BankConfig(name=Name("both"), batteries=tuple(map(Name, pollers)), wiring=wiring)
    bank = make_bank_snapshot(config, {one.battery: one for one in members})

    found = mornings(pollers).of_bank(bank, members)

    assert found is not None
    assert found.enough is Enough.YES
    assert found.left_ah == pytest.approx(left_ah, abs=1.0)


@pytest.mark.parametrize(
    ("low_ah", "enough"), [(150.0, Enough.YES), (170.0, Enough.LOW)], ids=["above", "below"]
)
async def test_thresholds_of_batteries_in_parallel_are_added(
    tasks: asyncio.TaskGroup, low_ah: float, enough: Enough
) -> None:
    pollers = await read_at_22(tasks)
    low = Presentation(low=Threshold(low_ah, is_ratio=False))
    # 317 Ah are left. The mean of the ratios would ask for 400 or 453 Ah.
    members = [
        replace(with_nominal(pollers["left"].show(), 300.0), presentation=low),
        replace(with_nominal(pollers["right"].show(), 900.0), presentation=low),
    ]
    config = BankConfig(
        name=Name("both"), batteries=tuple(map(Name, pollers)), wiring=Wiring.PARALLEL
    )
    bank = make_bank_snapshot(config, {one.battery: one for one in members})

    found = mornings(pollers).of_bank(bank, members)

    assert found is not None
    assert found.enough is enough


async def test_nothing_is_known_without_a_reading_that_may_be_shown(
    tasks: asyncio.TaskGroup,
) -> None:
    pollers = await read_at_22(tasks)
    await asyncio.sleep(HOUR_S)
    members = [poller.show() for poller in pollers.values()]
    names = tuple(map(Name, pollers))
    config = BankConfig(name=Name("both"), batteries=names, wiring=Wiring.PARALLEL)
    bank = make_bank_snapshot(config, {one.battery: one for one in members})

    assert mornings(pollers).of_battery(members[0]) is None
    assert mornings(pollers).of_bank(bank, members) is None


async def test_nothing_is_known_before_the_first_night(tasks: asyncio.TaskGroup) -> None:
    one = battery()
    poller = make_poller(
        make_routes(make_air([one])),
        tasks,
        name="left",
        address=one.address,
        wall=WallClock(now_s, now_s),
    )
    await asyncio.sleep(DAY_S + 12 * HOUR_S - now_s() % DAY_S)
    shown = await poller.refresh(timeout_s=30.0)
    found: Morning | None = mornings({"left": poller}).of_battery(shown)

    assert found is None
