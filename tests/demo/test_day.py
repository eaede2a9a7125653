"""The simulated day of a battery is plausible."""

import pytest

from exporter.demo.battery import encode_reply
from exporter.demo.day import Day
from exporter.demo.fleet import COLD, FLAKY, HEALTHY
from exporter.protocol.frame import FrameAssembler
from exporter.protocol.jbd import (
    decode_basic,
    decode_cells,
    decode_event_counters,
    decode_hardware,
)
from exporter.reading import BasicInfo, Protection


class Clock:
    def __init__(self) -> None:
        self.s = 0.0

    def __call__(self) -> float:
        return self.s


def read_basic(day: Day) -> BasicInfo:
    (frame,) = FrameAssembler().feed(day.answer(0x03))
    return decode_basic(frame.payload)


class TestDay:
    @pytest.mark.parametrize("scenario", [HEALTHY, FLAKY, COLD], ids=["healthy", "flaky", "cold"])
    def test_every_minute_of_two_simulated_days_is_plausible(self, scenario: object) -> None:
        clock = Clock()
        day = Day(scenario, clock)  # type: ignore[arg-type]
        before = read_basic(day)
        for _ in range(2 * 24 * 60):
            clock.s += 60.0
            info = read_basic(day)
            cells = decode_cells(FrameAssembler().feed(day.answer(0x04))[0].payload)

            assert sum(cell_v or 0 for cell_v in cells) == pytest.approx(info.voltage_v, abs=0.02)
            assert info.rsoc_ratio == pytest.approx(info.remaining_ah / info.nominal_ah, abs=0.01)
            assert 0 <= info.remaining_ah <= info.nominal_ah
            assert all(2.5 < (cell_v or 0) < 3.65 for cell_v in cells)
            assert info.remaining_ah - before.remaining_ah == pytest.approx(
                (info.current_a + before.current_a) / 2 / 60, abs=1.0
            )
            cold = min(celsius or 0.0 for celsius in info.temperatures_c) < -0.05
            assert (Protection.CHARGE_UNDERTEMPERATURE in info.protections) or not cold
            if Protection.CHARGE_UNDERTEMPERATURE in info.protections:
                assert not info.charge_fet_on
                assert info.current_a <= 0
            before = info

    def test_battery_is_charged_and_discharged_within_a_day(self) -> None:
        clock = Clock()
        day = Day(HEALTHY, clock)
        readings = []
        for _ in range(24 * 60):
            clock.s += 60.0
            readings.append(read_basic(day))

        charging = [one for one in readings if one.current_a > 0]
        assert charging
        assert len(charging) < len(readings)
        assert max(one.remaining_ah for one in readings) > readings[0].remaining_ah
        assert min(one.current_a for one in readings) < -80  # the coffee machine

    def test_cold_battery_is_nearly_empty_in_the_morning_and_charged_in_the_afternoon(self) -> None:
        clock = Clock()
        day = Day(COLD, clock)
        morning = read_basic(day)
        clock.s = 9 * 3600.0
        afternoon = read_basic(day)

        assert morning.rsoc_ratio < 0.1
        assert morning.protections == {Protection.CHARGE_UNDERTEMPERATURE}
        assert not morning.charge_fet_on
        assert afternoon.rsoc_ratio > 0.2
        assert afternoon.protections == frozenset()
        assert afternoon.charge_fet_on

    def test_fast_simulated_day_equals_a_slow_one(self) -> None:
        slow_clock, fast_clock = Clock(), Clock()
        slow, fast = Day(HEALTHY, slow_clock), Day(HEALTHY, fast_clock, speed=60.0)
        slow_clock.s, fast_clock.s = 3600.0, 60.0

        assert read_basic(slow) == read_basic(fast)

    def test_weeks_without_a_request_are_simulated_at_once(self) -> None:
        clock = Clock()
        day = Day(HEALTHY, clock)
        clock.s = 30 * 86400.0

        assert 0 <= read_basic(day).remaining_ah <= 200

    def test_empty_battery_opens_the_discharge_mosfet(self) -> None:
        clock = Clock()
        day = Day(COLD, clock, start_h=20.0)
        clock.s = 10 * 3600.0

        info = read_basic(day)

        assert info.remaining_ah == 0
        assert Protection.CELL_UNDERVOLTAGE in info.protections
        assert not info.discharge_fet_on
        assert info.current_a == 0

    def test_flaky_battery_sends_the_trailing_block_of_newer_firmware(self) -> None:
        assert [read_basic(Day(one, Clock())).full_ah for one in (HEALTHY, FLAKY)] == [None, 103.2]

    def test_simulated_battery_answers_every_register(self) -> None:
        day = Day(HEALTHY, Clock())

        hardware = decode_hardware(FrameAssembler().feed(day.answer(0x05))[0].payload)
        counters = decode_event_counters(FrameAssembler().feed(day.answer(0xAA))[0].payload)

        assert hardware == "JBD-SP04S034-L4S-200A-B-U"
        assert counters.restarts == 1
        assert day.answer(0x24) == encode_reply(0x24, status=0x80)
