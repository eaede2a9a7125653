"""The offset of local time, and what clients learn of it."""

import time
from collections.abc import Iterator

import pytest

from exporter.clock import WallClock
from exporter.config.loader import parse
from exporter.localtime import LocalTime
from exporter.metrics import ExporterCollector
from tests.support.registry import make_registry

WINTER_UNIX_S = 1_792_890_000.0  # the end of daylight saving time in Berlin
SUMMER_UNIX_S = 1_774_746_000.0  # its start, in the same year
HOUR_S = 3600
BATTERIES = 'batteries: [{name: camper, address: "A4:C1:38:00:00:01"}]\n'


class Clock:
    def __init__(self, unix_s: float) -> None:
        self.unix_s = unix_s

    def __call__(self) -> float:
        return self.unix_s


@pytest.fixture
def clock() -> Clock:
    return Clock(WINTER_UNIX_S - 1.0)


def make_local_time(options: str, clock: Clock) -> LocalTime:
    return LocalTime(parse(BATTERIES + options), WallClock(clock, clock))


@pytest.fixture
def machine_in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    yield
    monkeypatch.undo()
    time.tzset()


class TestOffset:
    def test_offset_changes_with_daylight_saving_time_while_running(self, clock: Clock) -> None:
        local = make_local_time("timezone: Europe/Berlin", clock)

        before_s = local.utc_offset_s()
        clock.unix_s += 1.0

        assert (before_s, local.utc_offset_s()) == (7200.0, 3600.0)

    @pytest.mark.usefixtures("machine_in_berlin")
    def test_zone_of_the_machine_is_the_default(self, clock: Clock) -> None:
        local = make_local_time("", clock)

        before_s = local.utc_offset_s()
        clock.unix_s += 1.0

        assert (before_s, local.utc_offset_s()) == (7200.0, 3600.0)

    @pytest.mark.parametrize(
        ("zone", "offset_s"), [("America/St_Johns", -9000.0), ("Asia/Kathmandu", 20700.0)]
    )
    def test_offset_may_be_negative_or_no_whole_hour(
        self, clock: Clock, zone: str, offset_s: float
    ) -> None:
        assert make_local_time(f"timezone: {zone}", clock).utc_offset_s() == offset_s

    def test_reload_changes_the_zone(self, clock: Clock) -> None:
        local = make_local_time("timezone: Europe/Berlin", clock)
        clock.unix_s += 1.0

        local.change(parse(BATTERIES + "timezone: Asia/Tokyo"))

        assert local.utc_offset_s() == 32400.0


class TestNextMorning:
    @pytest.mark.parametrize(
        ("before_s", "until_s"),
        [
            pytest.param(0, 4 * HOUR_S, id="in the night of the change"),
            pytest.param(5 * HOUR_S, 9 * HOUR_S, id="in the evening before an hour is repeated"),
            pytest.param(-4 * HOUR_S, 24 * HOUR_S, id="at the beginning of a morning"),
            pytest.param(-4 * HOUR_S + 1, 1, id="a second before a morning"),
            pytest.param(20 * HOUR_S, 24 * HOUR_S, id="the day before"),
        ],
    )
    @pytest.mark.parametrize(
        "options", ["timezone: Europe/Berlin\nmorning: 06:00", "morning: 06:00"]
    )
    @pytest.mark.usefixtures("machine_in_berlin")
    def test_morning_is_where_the_clocks_show_it(
        self, clock: Clock, options: str, before_s: float, until_s: float
    ) -> None:
        clock.unix_s = WINTER_UNIX_S - before_s

        assert make_local_time(options, clock).next_morning_unix_s() - clock.unix_s == until_s

    def test_evening_before_an_hour_is_skipped_is_nearer_to_the_morning(self, clock: Clock) -> None:
        clock.unix_s = SUMMER_UNIX_S - 5 * HOUR_S
        local = make_local_time("timezone: Europe/Berlin", clock)

        assert local.next_morning_unix_s() - clock.unix_s == 9 * HOUR_S

    def test_metric_is_a_timestamp(self, clock: Clock) -> None:
        local = make_local_time("timezone: UTC", clock)
        registry = make_registry(ExporterCollector(others=[local]))

        name = "bms_exporter_next_morning_timestamp_seconds"
        assert registry.get_sample_value(name) == local.next_morning_unix_s() > clock.unix_s


class TestNight:
    @pytest.mark.parametrize(
        ("night", "hours"),
        [("20:00-06:00", [20, 21, 22, 23, 0, 1, 2, 3, 4, 5]), ("01:00-05:00", [1, 2, 3, 4])],
    )
    def test_night_is_local_and_may_include_midnight(
        self, clock: Clock, night: str, hours: list[int]
    ) -> None:
        clock.unix_s = WINTER_UNIX_S + 86_400
        is_night = make_local_time(
            f"timezone: Europe/Berlin\nnight: {night}", clock
        ).make_is_night()
        midnight_s = clock.unix_s // 86_400 * 86_400 - 3600

        assert {hour for hour in range(24) if is_night(midnight_s + hour * 3600)} == set(hours)
        assert not is_night(midnight_s + hours[0] * 3600 - 1)

    @pytest.mark.parametrize(
        ("time_of_day", "left_h"),
        [("12:00", 11), ("19:59", 11), ("20:00", 11), ("23:00", 8), ("06:30", 0.5), ("07:00", 11)],
    )
    def test_rest_of_the_night_is_counted_down_from_its_start(
        self, clock: Clock, time_of_day: str, left_h: float
    ) -> None:
        hours, minutes = map(int, time_of_day.split(":"))
        clock.unix_s = hours * 3600.0 + minutes * 60.0

        assert make_local_time("timezone: UTC", clock).night_left_s() == left_h * 3600

    @pytest.mark.parametrize(
        ("change_unix_s", "left_h"), [(WINTER_UNIX_S, 12), (SUMMER_UNIX_S, 10)]
    )
    def test_night_in_which_clocks_change_is_longer_or_shorter(
        self, clock: Clock, change_unix_s: float, left_h: float
    ) -> None:
        clock.unix_s = change_unix_s - 10 * HOUR_S  # the afternoon before

        left_s = make_local_time("timezone: Europe/Berlin", clock).night_left_s()

        assert left_s == left_h * HOUR_S


def test_metrics_have_offset_morning_and_night(clock: Clock) -> None:
    local = make_local_time("timezone: UTC\nmorning: 06:30\nnight: 21:00-05:00", clock)
    registry = make_registry(ExporterCollector(others=[local]))

    shown = {
        name: registry.get_sample_value(f"bms_exporter_{name}_seconds")
        for name in ("utc_offset", "morning", "night_start", "night_end")
    }

    assert shown == {"utc_offset": 0, "morning": 23400, "night_start": 75600, "night_end": 18000}


def test_json_has_the_same_numbers(clock: Clock) -> None:
    assert make_local_time("timezone: UTC", clock).as_json() == {
        "utc_offset_s": 0.0,
        "morning_s": 25200.0,
        "night_start_s": 72000.0,
        "night_end_s": 21600.0,
    }
