"""Time zone, morning and night of the configuration file."""

import pytest

from exporter.config.loader import parse
from exporter.config.local_time import (
    Night,
    TimeOfDay,
    parse_night,
    parse_time_of_day,
    parse_timezone,
)
from exporter.config.schema import Config
from exporter.errors import ConfigError
from tests.support.paths import PROJECT

BATTERIES = 'batteries: [{name: camper, address: "A4:C1:38:00:00:01"}]\n'


def parsed(options: str) -> Config:
    return parse(BATTERIES + options)


def test_defaults_are_the_zone_of_the_machine_7_oclock_and_20_to_6() -> None:
    config = parsed("")

    assert config.timezone is None
    assert float(config.morning) == 7 * 3600
    assert tuple(map(float, config.night)) == (20 * 3600, 6 * 3600)


@pytest.mark.parametrize("name", ["Europe/Berlin", "America/St_Johns", "UTC"])
def test_iana_name_is_a_time_zone(name: str) -> None:
    assert parsed(f"timezone: {name}").timezone == name


@pytest.mark.parametrize(
    "value",
    ["Europe/Munich", "Europe", "../../etc/passwd", "/etc/localtime", "", "a\0b", "\udcff", 1, []],
)
def test_value_that_is_no_time_zone_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="expected an IANA time zone like Europe/Berlin"):
        parse_timezone(value)


@pytest.mark.parametrize(
    ("written", "expected_s"),
    [("07:00", 25200), ("7:00", 25200), ("10:00", 36000), ("'23:59'", 86340), ("0:00", 0)],
)
def test_time_of_day_needs_no_quotes(written: str, expected_s: int) -> None:
    assert float(parsed(f"morning: {written}").morning) == expected_s


@pytest.mark.parametrize("value", ["24:00", "7", "7:60", "07:00:00", "7h", "\u0667:00", 7, None])
def test_value_that_is_no_time_of_day_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="expected a time of day like 07:00"):
        parse_time_of_day(value)


@pytest.mark.parametrize(
    ("written", "expected_s"),
    [
        ("20:00-06:00", (72000, 21600)),
        ("22:30 - 5:15", (81000, 18900)),
        ("00:00-06:00", (0, 21600)),
    ],
)
def test_night_may_include_midnight(written: str, expected_s: tuple[float, float]) -> None:
    night = parsed(f"night: {written}").night

    assert night == Night(*map(TimeOfDay, expected_s))


@pytest.mark.parametrize("value", ["20:00", "20:00-", "20:00-20:00", "06:00-24:00", 1200, None])
def test_value_that_is_no_night_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="expected start and end like 20:00-06:00"):
        parse_night(value)


def test_mistakes_are_reported_with_their_lines() -> None:
    with pytest.raises(ConfigError) as caught:
        parsed("timezone: MEZ/Berlin\nmorning: 25:00\nnight: 20-6\n")

    assert list(caught.value.problems) == [
        "config.yaml:2: timezone: expected an IANA time zone like Europe/Berlin, got 'MEZ/Berlin'",
        "config.yaml:3: morning: expected a time of day like 07:00, got '25:00'",
        "config.yaml:4: night: expected start and end like 20:00-06:00, got '20-6'",
    ]


def test_example_configuration_shows_the_defaults_and_a_time_zone() -> None:
    example = (PROJECT / "config.example.yaml").read_text(encoding="utf-8")
    plain, default = parse(example), parsed("")

    assert "\nmorning: " in example
    assert "\nnight: " in example
    assert (plain.morning, plain.night) == (default.morning, default.night)
    assert parse(example.replace("# timezone:", "timezone:")).timezone == "Europe/Berlin"
