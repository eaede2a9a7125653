"""What is counted between two readings of a battery, and the mean current of half an hour."""

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.battery.energy import EnergyMeter, EnergyTotals, Flow, areas
from exporter.battery.poller import SHOWN_S, Poller
from exporter.clock import WallClock
from exporter.config.schema import PollConfig, Seconds
from exporter.demo.day import Day, Scenario
from exporter.demo.fleet import COLD, FLAKY, HEALTHY
from exporter.errors import LinkLostError
from exporter.link_stats import LinkStats
from exporter.protocol.frame import FrameAssembler
from exporter.protocol.jbd import decode_basic
from exporter.reading import Reading
from tests.support.virtual import now_s

CURRENTS = st.floats(-500.0, 500.0)


def metered(*flows: Flow, longest_s: float = 120.0) -> EnergyTotals:
    meter = EnergyMeter()
    for flow in flows:
        meter.add(flow, longest_s)
    assert meter.totals is not None
    return meter.totals


class TestAreas:
    @pytest.mark.parametrize(
        ("before", "after", "expected"),
        [
            pytest.param(2.0, 4.0, (3.0, 0.0), id="charging"),
            pytest.param(-2.0, -4.0, (0.0, 3.0), id="discharging"),
            pytest.param(0.0, 0.0, (0.0, 0.0), id="at rest"),
            pytest.param(0.0, -4.0, (0.0, 2.0), id="from rest to discharging"),
            pytest.param(6.0, -2.0, (2.25, 0.25), id="crossing zero at three quarters"),
            pytest.param(-2.0, 6.0, (2.25, 0.25), id="crossing zero at a quarter"),
        ],
    )
    def test_line_is_split_where_it_crosses_zero(
        self, before: float, after: float, expected: tuple[float, float]
    ) -> None:
        assert areas(before, after) == expected

    @given(before=CURRENTS, after=CURRENTS)
    def test_difference_of_both_areas_is_the_trapezoid(self, before: float, after: float) -> None:
        above, below = areas(before, after)

        assert above >= 0
        assert below >= 0
        assert above - below == pytest.approx((before + after) / 2, abs=1e-9)


class TestMeter:
    def test_first_reading_counts_0(self) -> None:
        assert EnergyMeter().totals is None
        assert metered(Flow(7.0, 13.0, 50.0)) == EnergyTotals()

    def test_charge_and_energy_are_counted_in_their_direction(self) -> None:
        totals = metered(Flow(0.0, 13.0, 10.0), Flow(36.0, 13.0, 10.0), Flow(72.0, 12.0, -30.0))

        # From +10 A to -30 A in 36 s: zero after 9 s. From 130 W to -360 W: zero after 9.55 s.
        assert totals.charged_ah == pytest.approx(0.1 + 0.0125)
        assert totals.discharged_ah == pytest.approx(0.1125)
        assert totals.charged_wh == pytest.approx(1.3 + 0.01 * 130 * (13 / 49) / 2)
        assert totals.discharged_wh == pytest.approx(0.01 * 360 * (36 / 49) / 2)

    def test_nothing_is_counted_across_a_gap_but_its_length(self) -> None:
        totals = metered(
            Flow(0.0, 13.0, 10.0), Flow(120.5, 13.0, 10.0), Flow(240.5, 13.0, 10.0), longest_s=120.0
        )

        assert totals.gap_s == 120.5
        assert totals.charged_ah == pytest.approx(10.0 / 30)

    @given(st.lists(st.tuples(st.floats(0.0, 300.0), st.floats(0.0, 60.0), CURRENTS)))
    def test_no_counter_ever_decreases(self, steps: list[tuple[float, float, float]]) -> None:
        meter, at_s, before = EnergyMeter(), 0.0, EnergyTotals()
        for step_s, voltage_v, current_a in steps:
            at_s += step_s
            meter.add(Flow(at_s, voltage_v, current_a), 120.0)
            after = meter.totals
            assert after is not None
            for name in EnergyTotals.__slots__:
                assert getattr(after, name) >= getattr(before, name)
            before = after


class VirtualPack:
    """Answers polls with the readings of a simulated day; a poll takes 1.5 s."""

    def __init__(self, scenario: Scenario = HEALTHY) -> None:
        self.day = Day(scenario, now_s)
        self.is_away = False

    async def poll(self, publish: Callable[[Reading], None]) -> None:
        requested_at_s = now_s()
        if self.is_away:
            raise LinkLostError("away")
        (frame,) = FrameAssembler().feed(self.day.answer(0x03))
        await asyncio.sleep(1.5)
        publish(Reading(basic=decode_basic(frame.payload), requested_at_s=requested_at_s))

    def make_poller(self, tasks: asyncio.TaskGroup, *, max_age_s: float = 120.0) -> Poller:
        return Poller(
            battery="camper",
            address="A4:C1:38:00:00:01",
            poll=self.poll,
            config=PollConfig(max_age_s=Seconds(max_age_s)),
            stats=LinkStats(),
            tasks=tasks,
            wall=WallClock(now_s),
        )


class TestDayOfTheDemo:
    @pytest.mark.parametrize("scenario", [HEALTHY, FLAKY, COLD], ids=["healthy", "flaky", "cold"])
    async def test_counters_agree_with_the_batterys_own_within_2_percent(
        self, scenario: Scenario, tasks: asyncio.TaskGroup
    ) -> None:
        pack = VirtualPack(scenario)
        poller = pack.make_poller(tasks)

        for _ in range(24 * 60 + 1):
            snapshot = await poller.refresh()
            await asyncio.sleep(58.5)

        assert snapshot.energy is not None
        for name in ("charged_ah", "discharged_ah", "charged_wh", "discharged_wh"):
            own = getattr(pack.day, name)
            assert own > 10.0
            assert getattr(snapshot.energy, name) == pytest.approx(own, rel=0.02), name
        assert snapshot.energy.gap_s == 0.0


class TestPoller:
    async def test_counters_are_absent_before_the_first_reading_and_then_0(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        poller = VirtualPack().make_poller(tasks)

        assert poller.show().energy is None
        assert (await poller.refresh()).energy == EnergyTotals()

    async def test_cached_reading_that_is_served_again_counts_once(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        poller = VirtualPack().make_poller(tasks)
        await poller.refresh()
        await asyncio.sleep(60.0)
        first = await poller.refresh()
        for _ in range(5):
            await asyncio.sleep(1.0)
            again = await poller.refresh()

        assert again.served > first.served
        assert again.energy == first.energy
        assert first.energy != EnergyTotals()

    async def test_time_of_a_reading_is_when_it_was_requested(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        pack = VirtualPack()
        poller = pack.make_poller(tasks)
        before_s = now_s()
        await poller.refresh()
        pack.is_away = True
        await asyncio.sleep(300.0)
        await poller.refresh()
        pack.is_away = False
        await asyncio.sleep(300.0)
        returned_s = now_s()

        snapshot = await poller.refresh()

        assert snapshot.energy == EnergyTotals(gap_s=returned_s - before_s)

    @pytest.mark.parametrize(
        ("apart_s", "gap_s"),
        [(SHOWN_S, 0.0), (SHOWN_S + 1.0, SHOWN_S + 1.0)],
        ids=["five minutes", "longer"],
    )
    async def test_max_age_of_0_counts_up_to_five_minutes(
        self, tasks: asyncio.TaskGroup, apart_s: float, gap_s: float
    ) -> None:
        poller = VirtualPack().make_poller(tasks, max_age_s=0.0)
        await poller.refresh()
        await asyncio.sleep(apart_s - 1.5)

        snapshot = await poller.refresh()

        assert snapshot.energy is not None
        assert snapshot.energy.gap_s == gap_s
        assert (snapshot.energy != EnergyTotals()) is True

    async def test_mean_current_of_the_snapshot_includes_the_whole_cycle_of_a_fridge(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        pack = VirtualPack()
        pack.day = Day(HEALTHY, now_s, start_h=0.0)  # no sun, no coffee
        poller = pack.make_poller(tasks)

        for _ in range(60):
            snapshot = await poller.refresh()
            await asyncio.sleep(58.5)

        assert snapshot.mean_current_a == pytest.approx(-(0.6 + 4.8 / 3), rel=0.05)
