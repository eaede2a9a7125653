"""The options of local time: the time zone, and when the morning and the night begin."""

import re
from typing import Final, NamedTuple, NewType

from exporter.config.yaml_document import shown

ZoneName = NewType("ZoneName", str)
TimeOfDay = NewType("TimeOfDay", float)
"""Seconds after local midnight."""

TIME_OF_DAY: Final = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])", re.ASCII)


class Night(NamedTuple):
    """When the night begins and ends; it may include midnight."""

    start_s: TimeOfDay
    end_s: TimeOfDay


MORNING: Final = TimeOfDay(7 * 3600.0)
NIGHT: Final = Night(TimeOfDay(20 * 3600.0), TimeOfDay(6 * 3600.0))


def parse_timezone(value: object) -> ZoneName:
    """Return the IANA name of a time zone. Raises ValueError if there is no such zone."""
    from zoneinfo import ZoneInfo  # noqa: PLC0415 - most configurations need no time zone

    try:
        if isinstance(value, str):
            return ZoneName(ZoneInfo(value).key)
    except (KeyError, ValueError, OSError):  # OSError: a folder of zones, or no name of a file
        pass
    raise ValueError(f"expected an IANA time zone like Europe/Berlin, got {shown(value)}")


def parse_time_of_day(value: object) -> TimeOfDay:
    """Return the seconds after midnight in "07:00". Raises ValueError for anything else."""
    match = TIME_OF_DAY.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"expected a time of day like 07:00, got {shown(value)}")
    return TimeOfDay(int(match[1]) * 3600.0 + int(match[2]) * 60.0)


def parse_night(value: object) -> Night:
    """Return the night in "20:00-06:00". Raises ValueError for anything else."""
    start, _, end = value.partition("-") if isinstance(value, str) else ("", "", "")
    try:
        night = Night(parse_time_of_day(start.strip()), parse_time_of_day(end.strip()))
    except ValueError:
        night = None
    if night is None or night.start_s == night.end_s:
        raise ValueError(f"expected start and end like 20:00-06:00, got {shown(value)}")
    return night
