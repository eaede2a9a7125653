"""Two weeks around a change of daylight saving time: OpenMetrics, and what they must add up to."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from math import pi, sin
from typing import Final
from zoneinfo import ZoneInfo

BERLIN: Final = ZoneInfo("Europe/Berlin")
STEP_S: Final = 120
CONSTANTS_EVERY: Final = 2  # steps: Prometheus looks back for 300 s
DAYS: Final = 14
JOB: Final = 'job="bms",instance="camper:12200"'
MORNING_H: Final = 7
NIGHT_H: Final = (20, 6)
VOLTS: Final = 13.2
# The bank "both" has two batteries; the third is in none.
BATTERIES: Final = {"left": (100.0, 0.4), "right": (100.0, 0.6), "solo": (60.0, 0.35)}
SETTINGS: Final = {
    "volts": {"cell_undervoltage": 2.5, "cell_overvoltage": 3.65},
    "celsius": {"charge_undertemperature": 0.0, "charge_overtemperature": 55.0},
    "amperes": {"discharge_overcurrent": 100.0, "charge_overcurrent": 50.0},
}  # fmt: skip


def total_current_a(hour: float) -> float:
    """Return the current by the local hour: sun by day, light and heating in the evening."""
    sun = 24.0 * sin(pi * (hour - 8) / 9) if 8 <= hour < 17 else 0.0
    return sun - (6.0 if 18 <= hour < 23 else 2.0)


@dataclass(slots=True)
class Count:
    """What the generator itself counts for one battery."""

    charged_wh: float = 0.0
    discharged_wh: float = 0.0
    of_day: dict[date, list[float]] = field(default_factory=lambda: defaultdict(lambda: [0.0, 0.0]))
    of_night: dict[date, float] = field(default_factory=lambda: defaultdict(float))


@dataclass(slots=True)
class Week:
    """The days from `first` on; the clocks change in between."""

    first: date
    counts: dict[str, Count] = field(default_factory=lambda: {name: Count() for name in BATTERIES})

    @property
    def days(self) -> list[date]:
        return [self.first + timedelta(days=n) for n in range(DAYS)]

    def at(self, day: date, hour: float = 0.0) -> float:
        """Return when clocks show this hour on this day."""
        local = datetime(day.year, day.month, day.day, tzinfo=BERLIN) + timedelta(hours=hour)
        return local.timestamp()

    def lines(self) -> Iterator[str]:
        """Yield every sample, oldest first."""
        begin_s, end_s = int(self.at(self.first)), int(self.at(self.days[-1], 24))
        for n, now_s in enumerate(range(begin_s, end_s + 1, STEP_S)):
            local = datetime.fromtimestamp(now_s, BERLIN)
            hour = local.hour + local.minute / 60
            current_a = total_current_a(hour)
            samples = self._of_moment(now_s, local, hour, current_a)
            for sample in samples:
                yield f"{sample} {now_s}"
            if n % CONSTANTS_EVERY == 0:
                for sample in constants():
                    yield f"{sample} {now_s}"
        yield "# EOF"

    def _of_moment(
        self, now_s: int, local: datetime, hour: float, current_a: float
    ) -> Iterator[str]:
        offset = local.utcoffset()
        assert offset is not None
        morning_s = self.at(local.date() + timedelta(days=hour >= MORNING_H), MORNING_H)
        yield f"bms_exporter_utc_offset_seconds{{{JOB}}} {offset.total_seconds()}"
        yield f"bms_exporter_next_morning_timestamp_seconds{{{JOB}}} {morning_s}"
        # No integral of the current: an estimate is enough for the panels.
        ratio = 0.55 + 0.4 * sin(2 * pi * (hour - 11) / 24)
        for name, (nominal_ah, share) in BATTERIES.items():
            own_a = current_a * share
            self._count(name, own_a, local, hour)
            count = self.counts[name]
            for metric, value in (
                ("voltage_volts", VOLTS),
                ("current_amperes", own_a),
                ("remaining_capacity_amperehours", nominal_ah * ratio),
                ("state_of_charge_ratio", ratio),
                ("charged_watthours_total", count.charged_wh),
                ("discharged_watthours_total", count.discharged_wh),
                ("last_poll_success_timestamp_seconds", now_s),
                *((f"{kind}_total", now_s // STEP_S) for kind in
                  ("polls", "connection_held_seconds", "request_resends", "readings_coalesced")),
            ):  # fmt: skip
                yield f'bms_{metric}{{{JOB},battery="{name}"}} {value}'
            labels = f'{JOB},battery="{name}",reason="timeout"'
            yield f"bms_poll_failures_total{{{labels}}} {now_s // 3600}"
        for metric, value in (
            ("voltage_volts", VOLTS),
            ("current_amperes", current_a),
            ("remaining_capacity_amperehours", 200.0 * ratio),
            ("state_of_charge_ratio", ratio),
        ):
            yield f'bms_bank_{metric}{{{JOB},bank="both"}} {value}'

    def _count(self, name: str, own_a: float, local: datetime, hour: float) -> None:
        count = self.counts[name]
        wh = own_a * VOLTS * STEP_S / 3600
        count.charged_wh += max(wh, 0.0)
        count.discharged_wh += max(-wh, 0.0)
        day = count.of_day[local.date()]
        day[0] += max(wh, 0.0)
        day[1] += max(-wh, 0.0)
        if not NIGHT_H[1] <= hour < NIGHT_H[0]:
            evening = local.date() - timedelta(days=hour < NIGHT_H[1])
            count.of_night[evening] += max(-wh, 0.0)


def constants() -> Iterator[str]:
    """Yield the samples that never change."""
    for name, value in (("night_start", NIGHT_H[0] * 3600), ("night_end", NIGHT_H[1] * 3600)):
        yield f"bms_exporter_{name}_seconds{{{JOB}}} {value}"
    for metric, value in (("batteries", 2), ("batteries_read", 2)):
        yield f'bms_bank_{metric}{{{JOB},bank="both"}} {value}'
    yield f'bms_bank_nominal_capacity_amperehours{{{JOB},bank="both"}} 200'
    for name, (nominal_ah, _) in BATTERIES.items():
        labels = f'{JOB},battery="{name}"'
        if name != "solo":
            yield f'bms_bank_member{{{labels},bank="both"}} 1'
        yield f'bms_route_info{{{labels},transport="direct",style="fast",adapter="hci0"}} 1'
        yield f'bms_protection_active{{{labels},protection="charge_undertemperature"}} 1'
        yield f'bms_temperature_celsius{{{labels},sensor="ntc1"}} 12.5'
        for cell in ("01", "02"):
            yield f'bms_cell_voltage_volts{{{labels},cell="{cell}"}} {3.3 + int(cell) / 100}'
            yield f'bms_cell_balancing{{{labels},cell="{cell}"}} 0'
        for unit, limits in SETTINGS.items():
            for protection, limit in limits.items():
                yield (
                    f'bms_protection_threshold_{unit}{{{labels},protection="{protection}"}} {limit}'
                )
        for metric, number in (
            ("up", 1), ("paused", 0), ("charge_mosfet_on", 1), ("discharge_mosfet_on", 1),
            ("heater_on", 0), ("rssi_dbm", -70), ("poll_duration_seconds", 1.5),
            ("nominal_capacity_amperehours", nominal_ah),
            ("low_threshold_amperehours", 0.2 * nominal_ah),
            ("critical_threshold_amperehours", 0.1 * nominal_ah),
        ):  # fmt: skip
            yield f"bms_{metric}{{{labels}}} {number}"
