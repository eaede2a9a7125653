"""When a battery will be empty or full."""

from dataclasses import replace
from typing import Any

import pytest

from exporter.battery.forecast import MEAN_S, MeanCurrent, time_to_empty_s, time_to_full_s
from exporter.protocol.jbd import decode_basic
from tests.support.recorded import MOBILEKTRO

BASIC = replace(
    decode_basic(MOBILEKTRO[4:-3]),
    remaining_ah=100.0,
    nominal_ah=200.0,
    full_ah=None,
    rsoc_ratio=0.5,
)


def mean_of(readings: list[tuple[float, float]], max_age_s: float = 120.0) -> float | None:
    mean = MeanCurrent()
    for at_s, current_a in readings:
        mean.add(at_s, current_a, max_age_s)
    return mean.value_a


class TestMeanCurrent:
    def test_it_is_unknown_without_a_reading(self) -> None:
        assert MeanCurrent().value_a is None

    def test_first_reading_is_the_mean(self) -> None:
        assert mean_of([(1000.0, -4.0)]) == -4.0

    def test_fridge_counts_with_its_pauses(self) -> None:
        readings = [(60.0 * n, -6.0 if n % 30 < 10 else 0.0) for n in range(90)]

        assert mean_of(readings) == pytest.approx(-2.0)

    def test_reading_before_the_last_half_hour_does_not_count(self) -> None:
        readings = [(60.0 * n, -90.0) for n in range(5)]
        readings += [(300.0 + 60.0 * n, -1.0) for n in range(31)]

        assert mean_of(readings) == pytest.approx(-1.0)

    def test_gap_does_not_count(self) -> None:
        readings = [(0.0, -2.0), (120.0, -2.0), (1320.0, -8.0), (1440.0, -8.0), (1500.0, 0.0)]

        # -2 A for 240 s, no reading for 1080 s, -8 A for 180 s.
        assert mean_of(readings) == pytest.approx((-2.0 * 240 - 8.0 * 180) / 420)

    def test_battery_that_was_away_for_an_hour_starts_again(self) -> None:
        assert mean_of([(0.0, -20.0), (60.0, -20.0), (3660.0, -1.0)]) == -1.0

    @pytest.mark.parametrize("every_s", [1.0, 15.0, 60.0])
    def test_number_of_readings_does_not_change_the_mean(self, every_s: float) -> None:
        times = [n * every_s for n in range(int(3600 / every_s))]

        assert mean_of([(at_s, -10.0 if at_s % 600 < 300 else 0.0) for at_s in times]) == (
            pytest.approx(-5.0, rel=0.05)
        )

    def test_memory_is_bounded_however_often_it_is_read(self) -> None:
        mean = MeanCurrent()
        for tenth in range(100_000):
            mean.add(tenth / 10, 1.0, 120.0)

        assert len(mean._marks) <= MEAN_S / 10 + 1

    def test_slow_polls_give_the_mean_of_their_readings(self) -> None:
        readings = [(300.0 * n, -6.0 if n % 2 else 0.0) for n in range(13)]

        assert mean_of(readings) == pytest.approx(-3.0)


class TestTimes:
    @pytest.mark.parametrize(
        ("remaining_ah", "mean_a", "expected_s"),
        [
            pytest.param(100.0, -10.0, 36000.0, id="ten hours"),
            pytest.param(0.0, -10.0, 0.0, id="now"),
            pytest.param(100.0, 0.0, None, id="at rest"),
            pytest.param(100.0, -0.04, None, id="nearly at rest"),
            pytest.param(2.0, -0.05, 144000.0, id="the least current"),
            pytest.param(100.0, 10.0, None, id="charging on average"),
            pytest.param(200.0, -0.06, None, id="beyond 30 days"),
        ],
    )
    def test_time_to_empty_is_charge_divided_by_mean_current(
        self, remaining_ah: float, mean_a: float, expected_s: float | None
    ) -> None:
        basic = replace(BASIC, remaining_ah=remaining_ah, current_a=0.0)

        assert time_to_empty_s(basic, mean_a) == expected_s

    @pytest.mark.parametrize(
        ("changes", "expected_s"),
        [
            pytest.param({}, 36000.0, id="up to the nominal capacity"),
            pytest.param({"full_ah": 180.0}, 28800.0, id="up to the learned capacity"),
            pytest.param({"full_ah": 0.0}, 36000.0, id="nothing learned yet"),
            pytest.param({"rsoc_ratio": 1.0}, None, id="at 100 %"),
            pytest.param({"remaining_ah": 210.0}, None, id="counted above its capacity"),
            pytest.param(
                {"remaining_ah": 0.0, "nominal_ah": 0.0, "full_ah": None},
                None,
                id="no capacity is configured",
            ),
        ],
    )
    def test_time_to_full_is_missing_charge_divided_by_mean_current(
        self, changes: dict[str, Any], expected_s: float | None
    ) -> None:
        assert time_to_full_s(replace(BASIC, current_a=10.0, **changes), 10.0) == expected_s

    def test_both_are_unknown_after_the_current_changed_its_direction(self) -> None:
        assert time_to_empty_s(replace(BASIC, current_a=2.0), -10.0) is None
        assert time_to_full_s(replace(BASIC, current_a=-2.0), 10.0) is None

    def test_pause_of_a_consumer_does_not_end_the_forecast(self) -> None:
        assert time_to_empty_s(replace(BASIC, current_a=0.0), -10.0) == 36000.0
