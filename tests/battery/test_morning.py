"""What is left in the morning after a night like the last one."""

import pytest

from exporter.battery.forecast import Enough, Morning, make_morning, night_current_a

CURRENTS = [(0.0, -2.0), (1.0, 30.0), (2.0, -4.0), (3.0, -100.0)]


def test_night_current_is_the_mean_of_what_was_drawn_at_night() -> None:
    assert night_current_a(CURRENTS, lambda unix_s: unix_s < 3) == 2.0


def test_night_current_is_unknown_without_a_reading_at_night() -> None:
    assert night_current_a(CURRENTS, lambda _: False) is None


@pytest.mark.parametrize(
    ("remaining_ah", "left_ah", "enough"),
    [
        (72.0, 40.0, Enough.YES),
        (71.9, 39.9, Enough.LOW),
        (52.0, 20.0, Enough.LOW),
        (51.9, 19.9, Enough.NO),
        (10.0, 0.0, Enough.NO),
    ],
)
def test_verdict_is_that_of_the_thresholds(
    remaining_ah: float, left_ah: float, enough: Enough
) -> None:
    morning = make_morning(remaining_ah, 4.0, 8 * 3600.0, low_ah=40.0, critical_ah=20.0)

    assert morning == Morning(left_ah=pytest.approx(left_ah), enough=enough)  # type: ignore[arg-type]
