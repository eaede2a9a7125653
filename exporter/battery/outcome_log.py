"""Logs when a battery stops and starts answering; one that flaps costs a line an hour."""

import logging
from collections import Counter
from typing import Final

from exporter.clock import Clock
from exporter.errors import BmsError, FailureReason

log = logging.getLogger(__name__)

SUMMARY_S: Final = 3600.0
ANSWERS: Final = "answers"

Outcome = FailureReason | str
"""The reason of a failed poll, or ANSWERS."""


class OutcomeLog:
    """Logs the first change to each outcome at once, and sums up later ones every hour."""

    def __init__(self, battery: str, clock: Clock) -> None:
        """Log nothing until the first poll has ended."""
        self._battery = battery
        self._clock = clock
        self._last: Outcome | None = None
        self._error = ""  # the last failure in words
        self._logged: set[Outcome] = set()  # in this hour, or in those before without a break
        self._began_s = 0.0  # of this hour
        self._outcomes: Counter[Outcome] = Counter()  # of the polls in this hour
        self._unlogged = 0  # changes in this hour

    def note_success(self) -> None:
        """Record a poll that succeeded."""
        self._note(ANSWERS, logging.INFO, "battery answers", {})

    def note_failure(self, error: BmsError) -> None:
        """Record a poll that failed."""
        self._error = str(error)
        facts = {"reason": str(error.reason), "error": self._error}
        self._note(error.reason, logging.WARNING, "poll failed", facts)

    def _note(self, outcome: Outcome, level: int, message: str, facts: dict[str, str]) -> None:
        self._end_hour()
        is_change = outcome != self._last
        is_new = is_change and outcome not in self._logged
        self._last = outcome
        if is_new:
            self._begin_hour(outcome)
        self._outcomes[outcome] += 1
        self._unlogged += is_change and not is_new
        if outcome != ANSWERS or is_new:
            log.log(
                level if is_new else logging.DEBUG,
                message,
                extra={"battery": self._battery} | facts,
            )

    def _begin_hour(self, outcome: Outcome) -> None:
        if not self._logged:
            self._began_s = self._clock()
            self._outcomes.clear()
        self._logged.add(outcome)

    def _end_hour(self) -> None:
        """Sum up the hour if it is over; after one without a change, log changes at once again."""
        duration_s = self._clock() - self._began_s
        if duration_s < SUMMARY_S:
            return
        if self._unlogged:
            reasons = [(one, n) for one, n in self._outcomes.most_common() if one != ANSWERS]
            log.warning(
                "some polls failed",
                extra={
                    "battery": self._battery,
                    "failed": sum(number for _, number in reasons),
                    "polls": self._outcomes.total(),
                    "in_s": round(duration_s),
                    "reasons": ", ".join(f"{one} {number}" for one, number in reasons),
                    "error": self._error,
                    # The change to it may be one that was only counted.
                    "last_poll": ANSWERS if self._last == ANSWERS else "failed",
                },
            )
        else:
            self._logged.clear()
        self._began_s = self._clock()
        self._outcomes.clear()
        self._unlogged = 0
