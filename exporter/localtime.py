"""The local time of the batteries, for clients that know only UTC."""

import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from exporter.clock import WallClock
from exporter.config.schema import Config

DAY_S: Final = 86400.0


class LocalTime(Collector):
    """The offset of the configured time zone, and when the morning and the night begin."""

    def __init__(self, config: Config, wall: WallClock) -> None:
        self._wall = wall
        self.change(config)

    def change(self, config: Config) -> None:
        """Use this configuration from now on; notice a change of the machine's time zone."""
        time.tzset()
        self._config = config
        self._zone: tzinfo | None = None  # that of the machine
        if config.timezone is not None:
            from zoneinfo import ZoneInfo  # noqa: PLC0415 - most configurations need no time zone

            self._zone = ZoneInfo(config.timezone)

    def utc_offset_s(self) -> float:
        """Return the seconds to add to UTC; it changes with daylight saving time."""
        now_unix_s = self._wall.now_unix_s()
        if self._zone is None:
            return float(time.localtime(now_unix_s).tm_gmtoff)
        local = datetime.fromtimestamp(now_unix_s, self._zone)
        return (local.replace(tzinfo=UTC) - local).total_seconds()

    def next_morning_unix_s(self) -> float:
        """Return when the next morning begins, which a change of daylight saving time shifts."""
        now_unix_s = self._wall.now_unix_s()
        local = datetime.fromtimestamp(now_unix_s, self._zone)
        midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
        morning = midnight + timedelta(seconds=self._config.morning)
        if morning.timestamp() <= now_unix_s:
            morning += timedelta(days=1)
        return morning.timestamp()

    def make_is_night(self) -> Callable[[float], bool]:
        """Return a function that tells by a unix time, and today's offset, whether it is night."""
        night = self._config.night
        length_s = (night.end_s - night.start_s) % DAY_S
        from_s = night.start_s - self.utc_offset_s()
        return lambda unix_s: (unix_s - from_s) % DAY_S < length_s

    def night_left_s(self) -> float:
        """Return how long the next night lasts until the morning; at night, what is left of it."""
        now_unix_s = self._wall.now_unix_s()
        until_morning_s = self.next_morning_unix_s() - now_unix_s
        until_night_s = (self._config.night.start_s - self.utc_offset_s() - now_unix_s) % DAY_S
        return until_morning_s - (until_night_s if until_night_s < until_morning_s else 0.0)

    def as_json(self) -> Mapping[str, float]:
        """Return the `local_time` object of docs/api.md."""
        night = self._config.night
        return {
            "utc_offset_s": self.utc_offset_s(),
            "morning_s": self._config.morning,
            "night_start_s": night.start_s,
            "night_end_s": night.end_s,
        }

    def collect(self) -> Iterable[Metric]:
        """Yield every family."""
        values = self.as_json()
        for name, about in (
            ("utc_offset", "Add it to UTC for the local time of the batteries."),
            ("morning", "When the morning begins, after local midnight."),
            ("night_start", "When the night begins, after local midnight."),
            ("night_end", "When the night ends, after local midnight."),
        ):
            value = values[f"{name}_s"]
            yield GaugeMetricFamily(f"bms_exporter_{name}_seconds", about, value=value)
        yield GaugeMetricFamily(
            "bms_exporter_next_morning_timestamp_seconds",
            "When the next morning begins.",
            value=self.next_morning_unix_s(),
        )
