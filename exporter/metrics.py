"""The table of metrics, and snapshots turned into metric families: a pure function, every scrape."""

import platform
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from prometheus_client import ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector, CollectorRegistry

from exporter import __version__
from exporter.battery.snapshot import Snapshot
from exporter.clock import WallClock
from exporter.errors import FailureReason
from exporter.protocol.frame import FrameError
from exporter.reading import Protection

CONNECTION_REASONS: Final = (
    FailureReason.ADAPTER,
    FailureReason.CONNECT,
    FailureReason.LINK_LOST,
)
"""Why a connection can fail; a poll can fail for more reasons."""


@dataclass(frozen=True, slots=True)
class Row:
    """One metric of a battery.

    `source` is where a Snapshot holds it: a number (None: absent), or, for a metric with a
    second label, a function of this module that is named after the metric.
    """

    name: str
    kind: type[GaugeMetricFamily] | type[CounterMetricFamily]
    help: str
    source: str
    label: str | None = None


GAUGE: Final = GaugeMetricFamily
COUNTER: Final = CounterMetricFamily

# fmt: off
ROWS: Final = (
    Row("bms_up", GAUGE, "Whether the last finished poll of the battery succeeded; absent before the first.", "up"),
    Row("bms_remaining_capacity_amperehours", GAUGE, "Charge left, as the BMS counts it.", "reading.basic.remaining_ah"),
    Row("bms_nominal_capacity_amperehours", GAUGE, "Capacity that the BMS is configured for.", "reading.basic.nominal_ah"),
    Row("bms_full_capacity_amperehours", GAUGE, "Capacity that the BMS has learned; newer firmware only.", "reading.basic.full_ah"),
    Row("bms_state_of_charge_ratio", GAUGE, "Relative state of charge (RSOC) as the BMS reports it, 0 to 1.", "reading.basic.rsoc_ratio"),
    Row("bms_voltage_volts", GAUGE, "Voltage of the battery.", "reading.basic.voltage_v"),
    Row("bms_current_amperes", GAUGE, "Current, positive while charging, negative while discharging.", "reading.basic.current_a"),
    Row("bms_cells", GAUGE, "Cells in series that the BMS is configured for.", "reading.basic.cell_count"),
    Row("bms_cell_voltage_volts", GAUGE, "Voltage of one cell as measured; 0 or more than 5 V means a broken sense wire.", "cell_voltages", "cell"),
    Row("bms_cell_balancing", GAUGE, "Whether the BMS is balancing the cell.", "cell_balancing", "cell"),
    Row("bms_temperature_celsius", GAUGE, "Temperature of one sensor; -30 is often a socket without one.", "temperatures", "sensor"),
    Row("bms_cycles", GAUGE, "Charge cycles that the BMS has counted.", "reading.basic.cycles"),
    Row("bms_balance_current_amperes", GAUGE, "Balance current; newer firmware only.", "reading.basic.balance_current_a"),
    Row("bms_protection_active", GAUGE, "Whether the BMS has opened a MOSFET for this reason.", "protections", "protection"),
    Row("bms_protection_events", COUNTER, "How often each protection has tripped; the battery may reset it.", "protection_events", "protection"),
    Row("bms_restarts", COUNTER, "Restarts of the BMS, where it counts them; the battery may reset it.", "reading.counters.restarts"),
    Row("bms_charge_mosfet_on", GAUGE, "Whether the battery can be charged.", "reading.basic.charge_fet_on"),
    Row("bms_discharge_mosfet_on", GAUGE, "Whether the battery can be discharged.", "reading.basic.discharge_fet_on"),
    Row("bms_heater_on", GAUGE, "Whether the battery is heating itself.", "reading.basic.heater_on"),
    Row("bms_paused", GAUGE, "Whether the battery is left to the phone app for ten minutes.", "paused"),
    Row("bms_rssi_dbm", GAUGE, "Signal strength of the last advertisement heard.", "rssi_dbm"),
    Row("bms_last_poll_success_timestamp_seconds", GAUGE, "When the battery was last read; absent before the first time.", "last_success_unix_s"),
    Row("bms_poll_duration_seconds", GAUGE, "How long the last finished poll took, disconnecting excluded.", "poll_duration_s"),
    Row("bms_poll_timeout_seconds", GAUGE, "How long a poll may take.", "poll_timeout_s"),
    Row("bms_polls", COUNTER, "Finished polls, failed ones included.", "polls"),
    Row("bms_poll_failures", COUNTER, "Failed polls.", "poll_failures", "reason"),
    Row("bms_connection_attempts", COUNTER, "Attempts to connect.", "link.connection_attempts"),
    Row("bms_connection_failures", COUNTER, "Attempts to connect that failed, and connections that broke after the reading.", "connection_failures", "reason"),
    Row("bms_connection_held_seconds", COUNTER, "Time connected, in which the phone app was locked out.", "link.held_s"),
    Row("bms_requests", COUNTER, "Requests sent, resends excluded.", "link.requests"),
    Row("bms_request_resends", COUNTER, "Requests sent again because no answer came.", "link.resends"),
    Row("bms_frame_errors", COUNTER, "Complete replies refused; decode: valid, but its numbers cannot be true.", "frame_errors", "reason"),
    Row("bms_discarded_bytes", COUNTER, "Bytes received that belong to no accepted reply.", "link.discarded_bytes"),
    Row("bms_readings_served", COUNTER, "Readings given to scrapes.", "serving.served"),
    Row("bms_readings_coalesced", COUNTER, "Readings given to scrapes from a poll that another scrape had started.", "serving.coalesced"),
)
# fmt: on
"""Every metric with the label `battery`, except the info metric; a counter's name gets `_total`."""

READING_ROWS: Final = tuple(
    row
    for row in ROWS
    if row.source.startswith("reading.") or row.label in ("cell", "sensor", "protection")
)
"""Those that say what the battery told, not what happened on the way."""


SERVED_ROWS: Final = tuple(row for row in ROWS if row.source.startswith("serving."))
"""Those that every scrape changes."""

KNOWN_ROWS: Final = tuple(row for row in ROWS if row not in SERVED_ROWS)
"""Those that change when a Snapshot's `revision` does."""


def cell_label(number: int) -> str:
    """Return the label of cell `number`, which counts from 1: "01"."""
    return f"{number:02d}"


def cell_voltages(snapshot: Snapshot) -> Iterator[tuple[str, float]]:
    """Yield each tap that has a cell, numbered from 01."""
    cells = (snapshot.reading and snapshot.reading.cell_voltages_v) or ()
    for number, cell_v in enumerate(cells, start=1):
        if cell_v is not None:
            yield cell_label(number), cell_v


def cell_balancing(snapshot: Snapshot) -> Iterator[tuple[str, float]]:
    """Yield every cell up to the BMS's own count, or to the highest that is balancing."""
    basic = snapshot.reading and snapshot.reading.basic
    if basic:
        for number in range(1, max(basic.cell_count, *basic.balancing_cells, 0) + 1):
            yield cell_label(number), number in basic.balancing_cells


def temperatures(snapshot: Snapshot) -> Iterator[tuple[str, float]]:
    """Yield each NTC that has a temperature, numbered in the BMS's own order."""
    basic = snapshot.reading and snapshot.reading.basic
    for number, celsius in enumerate(basic.temperatures_c if basic else (), start=1):
        if celsius is not None:
            yield f"ntc{number}", celsius


def protections(snapshot: Snapshot) -> Iterator[tuple[str, float]]:
    """Yield all of them, active or not."""
    basic = snapshot.reading and snapshot.reading.basic
    if basic:
        for protection in Protection:
            yield protection, protection in basic.protections


def protection_events(snapshot: Snapshot) -> Iterator[tuple[str, float]]:
    """Yield those that register 0xAA counts."""
    counters = snapshot.reading and snapshot.reading.counters
    if counters:
        yield from counters.protection_events.items()


def poll_failures(snapshot: Snapshot) -> Iterator[tuple[str, float]]:
    """Yield every reason, also at 0."""
    return ((reason, snapshot.failures.get(reason, 0)) for reason in FailureReason)


def connection_failures(snapshot: Snapshot) -> Iterator[tuple[str, float]]:
    """Yield every reason, also at 0."""
    failures = snapshot.link.connection_failures
    return ((reason, failures.get(reason, 0)) for reason in CONNECTION_REASONS)


def frame_errors(snapshot: Snapshot) -> Iterator[tuple[str, float]]:
    """Yield every reason, also at 0."""
    return ((reason, snapshot.link.frame_errors.get(reason, 0)) for reason in FrameError)


SERIES: Final = {
    function.__name__: function
    for function in (
        cell_voltages,
        cell_balancing,
        temperatures,
        protections,
        protection_events,
        poll_failures,
        connection_failures,
        frame_errors,
    )
}
"""The functions that a Row's `source` may name."""

INFO_NAME: Final = "bms_battery"
INFO_HELP: Final = "What the battery is; absent until its hardware name is answered or given up."
INFO_LABELS: Final = ("address", "profile", "hardware", "software", "manufactured")


class BatteryCollector(Collector):
    """The families of some snapshots, for one scrape."""

    def __init__(
        self, snapshots: Sequence[Snapshot], rows: Sequence[Row] = ROWS, *, with_info: bool = True
    ) -> None:
        self._snapshots = snapshots
        self._rows = rows
        self._with_info = with_info

    def collect(self) -> Iterable[Metric]:
        """Yield every family that has samples."""
        for row in self._rows:
            family = _family(row, self._snapshots)
            if family.samples:
                yield family
        info = _info(self._snapshots if self._with_info else ())
        if info.samples:
            yield info


def _family(row: Row, snapshots: Sequence[Snapshot]) -> Metric:
    labels = ("battery",) if row.label is None else ("battery", row.label)
    family = row.kind(row.name, row.help, labels=labels)
    for snapshot in snapshots:
        if row.label is not None:
            for label, value in SERIES[row.source](snapshot):
                family.add_metric((snapshot.battery, label), value)
        elif (number := _number(snapshot, row.source)) is not None:
            family.add_metric((snapshot.battery,), number)
    return family


def _number(snapshot: Snapshot, source: str) -> float | None:
    """Follow a dotted path; None where a part of it is not known."""
    value: Any = snapshot
    for name in source.split("."):
        if value is None:
            return None
        value = getattr(value, name)
    return None if value is None else float(value)


def _info(snapshots: Sequence[Snapshot]) -> Metric:
    family = InfoMetricFamily(INFO_NAME, INFO_HELP, labels=("battery",))
    for snapshot in snapshots:
        if identity := snapshot.identity:
            values = (
                snapshot.address,
                identity.profile,
                identity.hardware,
                identity.software,
                str(identity.manufactured or ""),
            )
            family.add_metric((snapshot.battery,), dict(zip(INFO_LABELS, values, strict=True)))
    return family


PROCESS: Final = ProcessCollector(registry=None)
"""What the operating system tells of this process, other with every scrape."""


class ExporterCollector(Collector):
    """The exporter's own metrics: its build and its configuration."""

    def __init__(
        self, wall: WallClock | None = None, *, log_lines_lost: Callable[[], int] = lambda: 0
    ) -> None:
        self._wall = wall or WallClock()
        self._log_lines_lost = log_lines_lost
        self.note_reload()

    def note_reload(self) -> None:
        """Record that the configuration was just read without errors."""
        self.reload_succeeded = True
        """Whether the configuration was read without complaint the last time."""
        self._config_loaded_at_s = self._wall.now_s()

    @property
    def revision(self) -> Hashable:
        """Equal values mean that nothing has changed."""
        return self.reload_succeeded, self._config_loaded_unix_s(), self._log_lines_lost()

    def _config_loaded_unix_s(self) -> float:
        return self._config_loaded_at_s + self._wall.difference_s()

    def collect(self) -> Iterable[Metric]:
        """Yield every family."""
        build = InfoMetricFamily("bms_exporter_build", "What is running.", labels=())
        build.add_metric((), {"version": __version__, "python": platform.python_version()})
        yield build
        yield GaugeMetricFamily(
            "bms_exporter_config_last_reload_successful",
            "Whether the configuration was read without complaint the last time.",
            value=self.reload_succeeded,
        )
        yield GaugeMetricFamily(
            "bms_exporter_config_last_reload_success_timestamp_seconds",
            "When the configuration was last read without complaint.",
            value=self._config_loaded_unix_s(),
        )
        yield CounterMetricFamily(
            "bms_exporter_log_lines_lost",
            "Log lines that could not be written: nobody reads standard error, or its disk is full.",
            value=self._log_lines_lost(),
        )


def registry_of(*collectors: Collector) -> CollectorRegistry:
    """Return a registry of their own for these collectors; `name[]` works on it."""
    registry = CollectorRegistry(support_collectors_without_names=True)
    for collector in collectors:
        registry.register(collector)
    return registry
