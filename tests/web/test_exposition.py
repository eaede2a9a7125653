"""The exposition from templates, compared with what prometheus_client renders."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import count
from typing import Any, Final

import pytest
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from exporter.battery.snapshot import Snapshot
from exporter.demo.day import DAY_H, HOUR_S, Day
from exporter.demo.fleet import COLD, FLAKY, HEALTHY
from exporter.errors import FailureReason
from exporter.link_stats import LinkTotals
from exporter.metrics import BatteryCollector, ExporterCollector
from exporter.protocol import jbd
from exporter.protocol.frame import Command
from exporter.reading import Identity, Reading
from exporter.web.exposition import FORMATS, Exposition

EVERY_S: Final = 15 * 60
FLEET: Final = {"camper": HEALTHY, '100 % \\ "quoted"': FLAKY, "cold %s": COLD}
OPENMETRICS: Final = "application/openmetrics-text;version=1.0.0"


class Fixed(Collector):
    """Families whose numbers a test sets."""

    def __init__(self, *values: float) -> None:
        self.values = values

    def collect(self) -> Iterable[Metric]:
        yield CounterMetricFamily("process_one", "With 100 %.", value=1)
        for number, value in enumerate(self.values):
            yield GaugeMetricFamily(f"process_{number}", "A number.", value=value)


class Everything(Collector):
    """What the exposition shows, for prometheus_client."""

    def __init__(self, snapshots: Sequence[Snapshot], others: Iterable[Collector]) -> None:
        self._snapshots = snapshots
        self._others = others

    def collect(self) -> Iterable[Metric]:
        yield from BatteryCollector(self._snapshots).collect()
        for other in self._others:
            yield from other.collect()


def snapshot(battery: str = "camper", **changes: Any) -> Snapshot:
    """Return a battery that was never read."""
    unread = Snapshot(
        battery=battery,
        address="A4:C1:38:00:00:01",
        up=None,
        reading=None,
        identity=None,
        rssi_dbm=None,
        poll_duration_s=None,
        poll_timeout_s=30.0,
        polls=0,
        failures={},
        last_error=None,
        link=LinkTotals(),
    )
    return replace(unread, **changes)


def reading(day: Day) -> Reading:
    """Read a simulated battery now."""

    def payload(command: Command) -> bytes:
        return day.answer(command)[4:-3]

    return Reading(
        basic=jbd.decode_basic(payload(Command.BASIC_INFO)),
        cell_voltages_v=jbd.decode_cells(payload(Command.CELL_VOLTAGES)),
        counters=jbd.decode_event_counters(payload(Command.EVENT_COUNTERS)),
    )


def day_of_scrapes() -> Iterable[list[Snapshot]]:
    """Yield the snapshots of the demo's batteries during a day with failures and reloads."""
    now_s = 0.0
    days = {name: Day(life, lambda: now_s) for name, life in FLEET.items()}
    for number in range(int(DAY_H * HOUR_S / EVERY_S)):
        now_s = number * EVERY_S
        snapshots = []
        for index, (name, day) in enumerate(days.items()):
            if (number + index) % 10 == 9:  # it is not configured for a while
                continue
            fresh = reading(day) if (number + index) % 7 else None
            if fresh and number % 5 == 0:  # a cell is missing
                fresh = replace(fresh, cell_voltages_v=(3.3, None, 3.31, 3.29))
            hardware = FLEET[name].hardware
            software = "8.3" if number < 50 else "8.4"
            snapshots.append(
                snapshot(
                    name,
                    up=fresh is not None if number else None,
                    reading=fresh,
                    identity=Identity(
                        profile="nus", hardware=hardware, software=software, manufactured=None
                    )
                    if number > 2 * index
                    else None,
                    rssi_dbm=None if number % 4 == 0 else -60 - number % 30,
                    last_success_unix_s=now_s + 1_795_391_124.5,
                    poll_duration_s=number / 7,
                    polls=number * 10_007,
                    failures={FailureReason.TIMEOUT: number // 7},
                    link=LinkTotals(requests=number, held_s=number * 1e-6),
                    served=number,
                    coalesced=number // 2,
                )
            )
        yield snapshots


@pytest.mark.parametrize("content_type", FORMATS)
def test_template_matches_prometheus_client_over_the_demo_day(content_type: str) -> None:
    # Without a version prometheus_client escapes nothing; with one it names its escaping.
    accept = content_type if "escaping" in content_type else content_type.partition(";")[0]
    others = (ExporterCollector(), Fixed(1.5))
    exposition = Exposition(others, lambda: 100)

    for snapshots in day_of_scrapes():
        headers, body = exposition.response({"Accept": accept}, "", snapshots, own=True)

        assert headers["Content-Type"] == content_type
        assert body == FORMATS[content_type](Everything(snapshots, others))


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
@pytest.mark.parametrize(
    "value",
    [
        0.0,
        -0.0,
        True,
        7,
        -1e300,
        1e300,
        999_999.5,
        1e6,
        -1e6,
        1e-7,
        1e16,
        math.inf,
        -math.inf,
        math.nan,
    ],
)
def test_special_numbers_match_prometheus_client(accept: str, value: float) -> None:
    fixed = Fixed(0.5, 0.5)
    exposition = Exposition([fixed], lambda: 100)
    exposition.response({"Accept": accept}, "", [], own=True)
    fixed.values = (value, 3.25)

    headers, body = exposition.response({"Accept": accept}, "", [], own=True)

    assert body == FORMATS[headers["Content-Type"]](fixed)


def test_family_that_appears_between_scrapes_is_shown() -> None:
    fixed = Fixed(1.0)
    exposition = Exposition([fixed], lambda: 100)
    _, before = exposition.response({}, "", [snapshot()], own=True)
    fixed.values = (1.0, 2.0)

    _, after = exposition.response({}, "", [snapshot()], own=True)

    assert b"process_1 " not in before
    assert b"process_1 2.0\n" in after


def test_probe_is_without_the_exporter_own_metrics() -> None:
    _, body = Exposition([Fixed(1.0)], lambda: 100).response({}, "", [snapshot()], own=False)

    assert b"process_" not in body
    assert b"bms_polls_total" in body


def test_templates_kept_are_bounded() -> None:
    exposition = Exposition([], lambda: 3)
    for battery in map(str, range(10)):
        for accept in FORMATS:
            exposition.response({"Accept": accept}, "", [snapshot(battery)], own=False)

    assert len(exposition._templates) == 3  # the bound of memory is the promise


def test_changed_series_replace_their_template() -> None:
    exposition = Exposition([], lambda: 100)
    polls = count()
    for now in (None, Reading(cell_voltages_v=(3.3,)), Reading(cell_voltages_v=(3.3, 3.4))):
        exposition.response({}, "", [snapshot(reading=now, polls=next(polls))], own=False)

    assert len(exposition._templates) == 1  # the bound of memory is the promise
