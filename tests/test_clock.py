"""Moments of the boot clock, shown as unix time."""

import pytest

from exporter.clock import WallClock

DAYS_S = 5 * 86400.0
NOW_UNIX_S = 1_795_391_224.5


class Clocks:
    """A boot clock and a wall clock that somebody sets."""

    def __init__(self) -> None:
        self.boot_s = 100.0
        self.unix_s = NOW_UNIX_S
        self.wall = WallClock(lambda: self.boot_s, lambda: self.unix_s)

    def pass_time(self, seconds: float) -> None:
        self.boot_s += seconds
        self.unix_s += seconds


def test_time_is_converted_by_the_difference_of_the_clocks() -> None:
    clocks = Clocks()

    clocks.pass_time(60.0)

    assert clocks.wall.now_s() == 160.0
    assert clocks.wall.now_unix_s() == NOW_UNIX_S + 60.0
    assert 100.0 + clocks.wall.difference_s() == NOW_UNIX_S


@pytest.mark.parametrize("drift_s", [-1.0, -0.01, 0.01, 1.0])
def test_drift_of_up_to_a_second_changes_no_converted_time(drift_s: float) -> None:
    clocks = Clocks()
    before_s = clocks.wall.difference_s()

    clocks.unix_s += drift_s

    assert clocks.wall.difference_s() == before_s


@pytest.mark.parametrize("step_s", [-DAYS_S, -1.5, 1.5, DAYS_S])
def test_step_of_the_wall_clock_moves_every_converted_time(step_s: float) -> None:
    clocks = Clocks()

    clocks.unix_s += step_s

    assert 100.0 + clocks.wall.difference_s() == NOW_UNIX_S + step_s
    assert clocks.wall.now_unix_s() == NOW_UNIX_S + step_s


def test_slow_drift_is_followed_once_it_exceeds_a_second() -> None:
    clocks = Clocks()
    seen = set()
    for _ in range(100):
        clocks.pass_time(60.0)
        clocks.unix_s += 0.03  # slewed by NTP, 500 ppm
        seen.add(clocks.wall.difference_s())

    assert len(seen) == 3
    assert abs(clocks.wall.now_unix_s() - clocks.unix_s) <= 1.0
