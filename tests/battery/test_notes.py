"""Options that do not fit a battery are logged once."""

from dataclasses import replace
from typing import Any

import pytest

from exporter.battery.notes import Notes
from exporter.config.presentation import Presentation, parse_threshold
from exporter.protocol.jbd import decode_basic
from tests.support.recorded import MOBILEKTRO

BASIC = replace(decode_basic(MOBILEKTRO[4:-3]), nominal_ah=100.0)
USED_FOR_BOTH = "10% is more than low, 5Ah, with a nominal capacity of 100 Ah: 10% is used for both"


def notes_of(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(vars(record)["option"], vars(record)["note"]) for record in caplog.records]


def presentation(low: str = "20%", critical: str = "10%") -> Presentation:
    return Presentation(low=parse_threshold(low), critical=parse_threshold(critical))


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        ({}, []),
        ({"low": "100Ah", "critical": "50Ah"}, []),
        ({"low": "120Ah"}, [("low", "120Ah is more than the nominal capacity, 100 Ah")]),
        (
            {"low": "150Ah", "critical": "120Ah"},
            [
                ("low", "150Ah is more than the nominal capacity, 100 Ah"),
                ("critical", "120Ah is more than the nominal capacity, 100 Ah"),
            ],
        ),
        (
            {"low": "5Ah"},
            [
                ("critical", USED_FOR_BOTH),
            ],
        ),
    ],
)
def test_threshold_that_does_not_fit_the_nominal_capacity_is_logged_once(
    shown: dict[str, str], expected: Any, caplog: pytest.LogCaptureFixture
) -> None:
    notes = Notes("camper")

    for _ in range(3):
        notes.check(presentation(**shown), BASIC)

    assert notes_of(caplog) == expected
    assert all(vars(record)["battery"] == "camper" for record in caplog.records)


def test_more_names_than_sensors_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    basic = replace(BASIC, temperatures_c=(20.0, 21.0))
    notes = Notes("camper")

    notes.check(Presentation(sensors=("cells", None)), basic)
    assert notes_of(caplog) == []
    notes.check(Presentation(sensors=("cells", None, "fan")), basic)

    assert notes_of(caplog) == [("temperatures", "names for 3 sensors, but the BMS has 2")]


def test_unknown_nominal_capacity_causes_no_note(caplog: pytest.LogCaptureFixture) -> None:
    Notes("camper").check(presentation(low="120Ah"), replace(BASIC, nominal_ah=0.0))

    assert notes_of(caplog) == []


def test_new_option_is_checked_with_the_next_reading(caplog: pytest.LogCaptureFixture) -> None:
    notes = Notes("camper")
    notes.check(presentation(low="110Ah"), BASIC)

    notes.check(presentation(low="120Ah"), BASIC)

    assert [note for _, note in notes_of(caplog)] == [
        "110Ah is more than the nominal capacity, 100 Ah",
        "120Ah is more than the nominal capacity, 100 Ah",
    ]
