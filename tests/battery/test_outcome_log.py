"""A battery that flaps costs one line an hour, with a count; others are logged at once."""

import logging
from typing import Final

import pytest

from exporter.battery.outcome_log import OutcomeLog
from exporter.errors import BmsError, LinkLostError, NotFoundError

HOUR_S: Final = 3600


class Journal:
    """The log of one battery, and a clock to set."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("INFO")
        self.now_s = 100.0
        self._caplog = caplog
        self._log = OutcomeLog("camper", lambda: self.now_s)

    def poll(self, error: BmsError | None, *, after_s: float = 15.0) -> None:
        self.now_s += after_s
        if error is None:
            self._log.note_success()
        else:
            self._log.note_failure(error)

    def flap(self, hours: int) -> None:
        """Fail and answer in turn every 15 s."""
        for number in range(hours * HOUR_S // 15):
            self.poll(None if number % 2 else LinkLostError("dropped"))

    def lines(self) -> list[str]:
        """Return what was logged since the last call."""
        lines = [
            " ".join([record.getMessage(), *self._fact(record, "reason")])
            for record in self._caplog.records
        ]
        self._caplog.clear()
        return lines

    def _fact(self, record: logging.LogRecord, name: str) -> list[str]:
        return [vars(record)[name]] if name in vars(record) else []


@pytest.fixture
def journal(caplog: pytest.LogCaptureFixture) -> Journal:
    return Journal(caplog)


def test_flapping_battery_costs_one_line_an_hour_after_the_first_of_each_kind(
    journal: Journal,
) -> None:
    journal.flap(hours=1)
    first = journal.lines()
    journal.flap(hours=10)

    assert first == ["poll failed link_lost", "battery answers"]
    assert journal.lines() == 10 * ["some polls failed"]


def test_line_of_an_hour_counts_failures_by_reason(
    journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(HOUR_S // 15):
        journal.poll((LinkLostError("dropped"), NotFoundError("not seen"), None)[number % 3])
    caplog.clear()
    journal.poll(None)

    (record,) = caplog.records
    facts = {"battery", "failed", "polls", "in_s", "reasons", "error", "last_poll"}
    assert record.levelname.lower() == "warning"
    assert {name: value for name, value in vars(record).items() if name in facts} == {
        "battery": "camper",
        "failed": 160,
        "polls": 240,
        "in_s": 3600,
        "reasons": "link_lost 80, not_found 80",
        "error": "not seen",
        "last_poll": "answers",
    }


@pytest.mark.parametrize(
    ("end", "expected"), [(LinkLostError("dropped"), "failed"), (None, "answers")]
)
def test_line_of_an_hour_says_how_the_flapping_ended(
    journal: Journal, caplog: pytest.LogCaptureFixture, end: BmsError | None, expected: str
) -> None:
    for _ in range(4):
        journal.poll(LinkLostError("dropped"))
        journal.poll(None)
    for _ in range(3 * HOUR_S // 300):
        journal.poll(end, after_s=300.0)

    assert vars(caplog.records[-1])["last_poll"] == expected


def test_outage_is_logged_when_it_begins_and_when_it_ends(journal: Journal) -> None:
    journal.poll(None)
    for _ in range(24):
        journal.poll(NotFoundError("not seen"), after_s=300.0)
    journal.poll(None)

    assert journal.lines() == ["battery answers", "poll failed not_found", "battery answers"]


def test_end_of_flapping_shows_in_the_line_of_its_hour_and_then_changes_are_logged_at_once(
    journal: Journal,
) -> None:
    journal.flap(hours=2)
    journal.lines()
    for _ in range(3 * HOUR_S // 300):
        journal.poll(None, after_s=300.0)
    journal.poll(LinkLostError("dropped"))

    assert journal.lines() == ["some polls failed", "poll failed link_lost"]


def test_new_reason_of_a_flapping_battery_is_logged_at_once(journal: Journal) -> None:
    journal.flap(hours=1)
    journal.lines()
    journal.poll(NotFoundError("not seen"))

    assert "poll failed not_found" in journal.lines()


def test_every_failure_is_in_the_log_at_debug(
    journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    for _ in range(3):
        journal.poll(LinkLostError("dropped"))

    assert [record.levelname.lower() for record in caplog.records] == ["warning", "debug", "debug"]
