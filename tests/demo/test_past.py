"""The demo's curves are full from its first second."""

import asyncio
from itertools import pairwise
from typing import Any

import pytest

from exporter.demo.fleet import SCENARIOS, build_camper
from exporter.demo.past import PAST_S, fill_curves, simulate_past, simulate_pasts
from exporter.demo.radio import make_air
from exporter.protocol.explain import parse_frame
from exporter.protocol.frame import Command
from exporter.protocol.jbd import decode_basic
from tests.support.virtual import make_poller, make_routes, now_s


class TestPast:
    @pytest.mark.parametrize("name", list(SCENARIOS))
    def test_a_night_ends_with_the_charge_at_which_the_demo_starts(self, name: str) -> None:
        past = simulate_past(SCENARIOS[name])

        assert past[-1].remaining_ah == pytest.approx(SCENARIOS[name].start_ah, abs=0.2)
        assert past[0].at_s == -PAST_S
        assert past[0].remaining_ah > past[-1].remaining_ah + 10
        assert {two.at_s - one.at_s for one, two in pairwise(past)} == {120.0}

    @pytest.mark.parametrize("speed", [0.1, 2.0, 60.0, 3600.0])
    @pytest.mark.parametrize("name", list(SCENARIOS))
    def test_past_is_complete_and_the_demo_starts_with_its_scenario_at_every_speed(
        self, name: str, speed: float
    ) -> None:
        past = simulate_past(SCENARIOS[name], speed=speed)
        answer = build_camper(lambda: 0.0, speed=speed)[name].answers(Command.BASIC_INFO)
        assert answer is not None
        first = decode_basic(parse_frame(answer).payload)

        assert len(past) == PAST_S / 120
        assert past[0].remaining_ah != past[-1].remaining_ah
        assert first.remaining_ah == pytest.approx(SCENARIOS[name].start_ah, abs=0.01)

    async def test_batteries_start_with_a_full_curve_and_continue_it(
        self, tasks: asyncio.TaskGroup, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("exporter.demo.past.boot_s", now_s)
        pasts = simulate_pasts(SCENARIOS)
        batteries: dict[str, Any] = build_camper(now_s)
        routes = make_routes(make_air(batteries.values()))
        pollers = {
            name: make_poller(routes, tasks, name=name, address=one.address)
            for name, one in batteries.items()
        }
        await asyncio.sleep(2 * PAST_S)  # the clock of these tests starts at 0
        fill_curves(pasts, pollers)

        curves = [poller.history.curve() for poller in pollers.values()]

        assert [len(curve) for curve in curves] == [360] * len(SCENARIOS)
        assert all(curve[-1][0] - curve[0][0] == PAST_S - 120 for curve in curves)
