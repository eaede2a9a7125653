"""Back-off: how long a battery is left alone after failures in a row."""

import pytest

from exporter.battery.backoff import Backoff
from exporter.errors import AdapterError, BmsError, LinkLostError, NotFoundError

MISSING = NotFoundError("not seen")


def failed(times: int, error: BmsError = MISSING) -> Backoff:
    """Return the state after failures in a row, all at 1000 s."""
    backoff = Backoff()
    for _ in range(times):
        backoff.note_failure(error, 1000.0)
    return backoff


def wait_s(backoff: Backoff, *, max_s: float = 300.0) -> int:
    """Return how many whole seconds after the last failure the back-off ends."""
    waited = 0
    while backoff.is_active(1000.0 + waited, max_s=max_s, seen_at_s=None):
        waited += 1
    return waited


def test_battery_that_never_failed_is_not_in_back_off() -> None:
    backoff = Backoff()

    assert wait_s(backoff) == 0
    assert (backoff.reason, backoff.message, backoff.since_s) == (None, None, None)


@pytest.mark.parametrize(
    ("failures", "expected_s"),
    [(1, 0), (2, 15), (3, 30), (4, 60), (5, 120), (6, 240), (7, 300), (8, 300), (5000, 300)],
)
def test_first_failure_is_retried_at_once_and_later_waits_double_to_the_limit(
    failures: int, expected_s: int
) -> None:
    assert wait_s(failed(failures)) == expected_s


def test_limit_below_the_first_wait_is_kept() -> None:
    assert wait_s(failed(2), max_s=4.0) == 4


def test_wait_starts_at_the_last_failure() -> None:
    backoff = failed(1)
    backoff.note_failure(MISSING, 2000.0)

    assert backoff.is_active(2014.9, max_s=300.0, seen_at_s=None)
    assert not backoff.is_active(2015.0, max_s=300.0, seen_at_s=None)


def test_missing_adapter_causes_no_back_off() -> None:
    assert wait_s(failed(9, AdapterError("no Bluetooth adapter"))) == 0


def test_success_ends_the_failures_in_a_row() -> None:
    backoff = failed(5)

    backoff.note_success()
    assert (backoff.reason, backoff.message, backoff.since_s) == (None, None, None)

    backoff.note_failure(MISSING, 1000.0)
    assert wait_s(backoff) == 0
    assert backoff.failures == 1


@pytest.mark.parametrize(
    ("error", "seen_at_s", "is_active"),
    [
        pytest.param(MISSING, 1000.1, False, id="missing, advertised after the failure"),
        pytest.param(MISSING, 1000.0, True, id="missing, advertised at the failure"),
        pytest.param(MISSING, 0.0, True, id="missing, advertised before the failure"),
        pytest.param(MISSING, None, True, id="missing, never advertised"),
        pytest.param(LinkLostError("dropped"), 1000.1, True, id="dropped, advertised later"),
    ],
)
def test_advertisement_ends_the_back_off_of_a_missing_battery_only(
    error: BmsError, seen_at_s: float | None, *, is_active: bool
) -> None:
    backoff = failed(3, error)

    assert backoff.is_active(1001.0, max_s=300.0, seen_at_s=seen_at_s) is is_active


def test_last_failure_is_described_and_the_first_one_dated() -> None:
    backoff = failed(1)
    backoff.note_failure(LinkLostError("dropped"), 1030.0)

    assert backoff.reason is LinkLostError.reason
    assert backoff.message == "dropped"
    assert backoff.since_s == 1000.0
