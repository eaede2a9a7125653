"""Back-off: how long a battery is left alone after failures in a row."""

from typing import Final

from exporter.errors import BmsError, FailureReason

# The scrape after a first failure polls: a lost packet is the commonest cause. After a second
# failure in a row, no scrape polls for this time; after each further one, for twice as long, up to
# `poll.backoff_max`. The time counts from the end of the failed poll.
BACKOFF_S: Final = 15.0
MAX_DOUBLINGS: Final = 16  # 11 days: above every backoff_max that makes sense


class Backoff:
    """The failures in a row of one battery, and when to try again; all times by one clock."""

    def __init__(self) -> None:
        self.failures = 0  # in a row
        self.reason: FailureReason | None = None  # of the last poll; None: it did not fail
        self.message: str | None = None  # the last failure in words; None: as for `reason`
        self.since_s: float | None = None  # when the first of the failures in a row happened
        self._failed_at_s = 0.0

    def note_failure(self, error: BmsError, now_s: float) -> None:
        """Record that a poll failed at `now_s`."""
        self.failures += 1
        self.reason = error.reason
        self.message = str(error)
        self._failed_at_s = now_s
        if self.since_s is None:
            self.since_s = now_s

    def note_success(self) -> None:
        """End the failures in a row."""
        self.failures = 0
        self.reason = self.message = self.since_s = None

    def is_active(self, now_s: float, *, max_s: float, seen_at_s: float | None) -> bool:
        """Return whether the battery failed so recently that a poll is not worth the radio time.

        A missing battery that has advertised since its poll failed (`seen_at_s`) is back.
        """
        retries = self.failures - 1
        if retries < 1 or self.reason is FailureReason.ADAPTER:
            return False  # without an adapter an attempt costs no radio time
        is_missing = self.reason is FailureReason.NOT_FOUND
        if is_missing and seen_at_s is not None and seen_at_s > self._failed_at_s:
            return False
        wait_s: float = min(BACKOFF_S * 2 ** min(retries - 1, MAX_DOUBLINGS), max_s)
        return now_s - self._failed_at_s < wait_s
