"""The table of metrics, and the metric families of snapshots, computed for every scrape."""

import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from prometheus_client import ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from exporter import __version__
from exporter.battery.energy import EnergyTotals
from exporter.battery.settings_state import SettingsState
from exporter.battery.snapshot import Snapshot
from exporter.ble.proxies import ProxyState
from exporter.clock import WallClock
from exporter.config.presentation import Threshold
from exporter.errors import UNRELATED, Cause, FailureReason
from exporter.link_stats import RETURN, Route
from exporter.protocol.frame import FrameError
from exporter.protocol.settings import Function, Role
from exporter.protocol.settings_exchange import SettingsFailure
from exporter.reading import BasicInfo, EventCounters, Protection

CONNECTION_REASONS: Final = (FailureReason.ADAPTER, FailureReason.CONNECT, FailureReason.LINK_LOST)
"""Why a connection can fail; a poll can fail for more reasons."""
ROUTE_REASONS: Final = (*(str(cause) for cause in Cause if cause not in UNRELATED), RETURN)

Value = float | dict[str, float] | None
Reason = TypeVar("Reason", bound=str)


@dataclass(frozen=True, slots=True)
class Row:
    """One metric of a battery.

    `value` returns the number, or None when there is none. A metric with a second label has one
    number for each value of that label.
    """

    name: str
    kind: type[GaugeMetricFamily] | type[CounterMetricFamily]
    help: str
    value: Callable[[Snapshot], Value]
    label: str | None = None


def _basic(value: Callable[[BasicInfo], Value]) -> Callable[[Snapshot], Value]:
    return lambda shot: value(shot.reading.basic) if shot.reading and shot.reading.basic else None


def _counters(value: Callable[[EventCounters], Value]) -> Callable[[Snapshot], Value]:
    return lambda shot: (
        value(shot.reading.counters) if shot.reading and shot.reading.counters else None
    )


def _energy(value: Callable[[EnergyTotals], float]) -> Callable[[Snapshot], Value]:
    return lambda shot: value(shot.energy) if shot.energy else None


def _by_reason(
    reasons: Iterable[Reason], counts: Callable[[Snapshot], Mapping[Reason, int]]
) -> Callable[[Snapshot], Value]:
    """Return a function that returns the count of every reason, also at 0."""
    return lambda shot: {reason: counts(shot).get(reason, 0) for reason in reasons}


def _ratio(threshold: Callable[[Snapshot], Threshold]) -> Callable[[Snapshot], Value]:
    """Return a function that returns the threshold, if it is a ratio."""

    def value(snapshot: Snapshot) -> Value:
        found = threshold(snapshot)
        return found.amount if found.is_ratio else None

    return value


def _cell_voltages(snapshot: Snapshot) -> dict[str, float]:
    """Return the voltage of each connected cell, numbered from 01."""
    cells = (snapshot.reading and snapshot.reading.cell_voltages_v) or ()
    return {
        f"{number:02d}": cell_v
        for number, cell_v in enumerate(cells, start=1)
        if cell_v is not None
    }


def _cell_balancing(basic: BasicInfo) -> dict[str, float]:
    """Return each cell up to the BMS's own count, or up to the last one that is balancing."""
    highest = max(basic.cell_count, *basic.balancing_cells, 0)
    return {f"{number:02d}": number in basic.balancing_cells for number in range(1, highest + 1)}


def _temperatures(snapshot: Snapshot) -> dict[str, float]:
    """Return each NTC that has a temperature, unless its socket is configured as empty."""
    return {
        name: celsius
        for name, celsius in snapshot.temperatures()
        if name is not None and celsius is not None
    }


def _protections(basic: BasicInfo) -> dict[str, float]:
    return {protection: protection in basic.protections for protection in Protection}


def _settings(value: Callable[[SettingsState], Value]) -> Callable[[Snapshot], Value]:
    return lambda shot: value(shot.settings) if shot.settings else None


def _by_protection(role: Role, unit: str) -> Callable[[Snapshot], Value]:
    return _settings(lambda settings: settings.by_protection(role, unit))


def _limits_a(settings: SettingsState) -> Value:
    """Return the limits of both directions without their signs."""
    limits_a = settings.by_protection(Role.THRESHOLD, "A")
    return limits_a and {protection: abs(limit_a) for protection, limit_a in limits_a.items()}


def _functions(settings: SettingsState) -> Value:
    enabled = settings.values.get("functions")
    if not isinstance(enabled, frozenset):
        return None
    return {function: function in enabled for function in Function}


GAUGE: Final = GaugeMetricFamily
COUNTER: Final = CounterMetricFamily

# fmt: off
READING_ROWS: Final = (
    Row("bms_remaining_capacity_amperehours", GAUGE, "Charge left, as the BMS counts it.", _basic(lambda basic: basic.remaining_ah)),
    Row("bms_nominal_capacity_amperehours", GAUGE, "Capacity that the BMS is configured for.", _basic(lambda basic: basic.nominal_ah)),
    Row("bms_full_capacity_amperehours", GAUGE, "Capacity that the BMS has learned; newer firmware only.", _basic(lambda basic: basic.full_ah)),
    Row("bms_state_of_charge_ratio", GAUGE, "Relative state of charge (RSOC) as the BMS reports it, 0 to 1.", _basic(lambda basic: basic.rsoc_ratio)),
    Row("bms_voltage_volts", GAUGE, "Voltage of the battery.", _basic(lambda basic: basic.voltage_v)),
    Row("bms_current_amperes", GAUGE, "Current, positive while charging, negative while discharging.", _basic(lambda basic: basic.current_a)),
    Row("bms_cells", GAUGE, "Cells in series that the BMS is configured for.", _basic(lambda basic: basic.cell_count)),
    Row("bms_cell_voltage_volts", GAUGE, "Voltage of one cell as measured; 0 or more than 5 V means a broken sense wire.", _cell_voltages, "cell"),
    Row("bms_cell_balancing", GAUGE, "Whether the BMS is balancing the cell.", _basic(_cell_balancing), "cell"),
    Row("bms_temperature_celsius", GAUGE, "Temperature of one sensor; -30 is often a socket without one.", _temperatures, "sensor"),
    Row("bms_cycles", GAUGE, "Charge cycles that the BMS has counted.", _basic(lambda basic: basic.cycles)),
    Row("bms_balance_current_amperes", GAUGE, "Balance current; newer firmware only.", _basic(lambda basic: basic.balance_current_a)),
    Row("bms_protection_active", GAUGE, "Whether the BMS has opened a MOSFET for this reason.", _basic(_protections), "protection"),
    Row("bms_protection_events", COUNTER, "How often each protection has tripped; the battery may reset it.", _counters(lambda counters: dict[str, float](counters.protection_events.items())), "protection"),
    Row("bms_restarts", COUNTER, "Restarts of the BMS, where it counts them; the battery may reset it.", _counters(lambda counters: counters.restarts)),
    Row("bms_charge_mosfet_on", GAUGE, "Whether the battery can be charged.", _basic(lambda basic: basic.charge_fet_on)),
    Row("bms_discharge_mosfet_on", GAUGE, "Whether the battery can be discharged.", _basic(lambda basic: basic.discharge_fet_on)),
    Row("bms_heater_on", GAUGE, "Whether the battery is heating itself.", _basic(lambda basic: basic.heater_on)),
)
"""The metrics that a reading alone gives."""

SETTINGS_ROWS: Final = (
    Row("bms_protection_threshold_volts", GAUGE, "Voltage at which the BMS opens a MOSFET.", _by_protection(Role.THRESHOLD, "V"), "protection"),
    Row("bms_protection_release_volts", GAUGE, "Voltage at which the BMS closes it again.", _by_protection(Role.RELEASE, "V"), "protection"),
    Row("bms_protection_threshold_celsius", GAUGE, "Temperature at which the BMS opens a MOSFET.", _by_protection(Role.THRESHOLD, "°C"), "protection"),
    Row("bms_protection_release_celsius", GAUGE, "Temperature at which the BMS closes it again.", _by_protection(Role.RELEASE, "°C"), "protection"),
    Row("bms_protection_threshold_amperes", GAUGE, "Current at which the BMS opens a MOSFET, positive for both directions.", _settings(_limits_a), "protection"),
    Row("bms_protection_delay_seconds", GAUGE, "Time from the threshold until the BMS opens a MOSFET.", _by_protection(Role.DELAY, "s"), "protection"),
    Row("bms_cycle_capacity_amperehours", GAUGE, "Discharged capacity that the BMS counts as a cycle.", _settings(lambda settings: settings.number("cycle_capacity_ah"))),
    Row("bms_balance_start_volts", GAUGE, "Cell voltage from which the BMS balances.", _settings(lambda settings: settings.number("balance_start_v"))),
    Row("bms_balance_window_volts", GAUGE, "Difference of cell voltages from which the BMS balances.", _settings(lambda settings: settings.number("balance_window_v"))),
    Row("bms_cell_full_volts", GAUGE, "Cell voltage that the BMS takes for 100 %.", _settings(lambda settings: settings.number("cell_full_v"))),
    Row("bms_cell_empty_volts", GAUGE, "Cell voltage that the BMS takes for 0 %.", _settings(lambda settings: settings.number("cell_empty_v"))),
    Row("bms_function_enabled", GAUGE, "Whether a function of the BMS is switched on.", _settings(_functions), "function"),
    Row("bms_settings_read_timestamp_seconds", GAUGE, "When the settings were last read; absent before the first time.", lambda shot: shot.settings_read_unix_s),
    Row("bms_settings_reads", COUNTER, "Finished reads of the settings, failed ones included.", _settings(lambda settings: settings.reads)),
    Row("bms_settings_read_failures", COUNTER, "Failed reads of the settings.", _settings(lambda settings: {reason: settings.failures.get(reason, 0) for reason in SettingsFailure}), "reason"),
    Row("bms_settings_mode_left", GAUGE, "Whether the battery has acknowledged the end of the mode in which settings are read; 0: it may be open.", _settings(lambda settings: settings.is_left)),
)
"""The metrics of the settings; those of a battery with `settings: off` are absent."""

ROWS: Final = (
    Row("bms_up", GAUGE, "Whether the last finished poll of the battery succeeded; absent before the first.", lambda shot: shot.up),
    *READING_ROWS,
    Row("bms_low_threshold_amperehours", GAUGE, "Remaining capacity below which the battery is low, as configured, but at least that for critical; a threshold in % needs the nominal capacity.", lambda shot: shot.low.in_ah(shot.nominal_ah)),
    Row("bms_critical_threshold_amperehours", GAUGE, "The same for critical.", lambda shot: shot.critical.in_ah(shot.nominal_ah)),
    Row("bms_low_threshold_ratio", GAUGE, "State of charge below which the battery is low; absent if configured in Ah.", _ratio(lambda shot: shot.low)),
    Row("bms_critical_threshold_ratio", GAUGE, "The same for critical.", _ratio(lambda shot: shot.critical)),
    Row("bms_charged_amperehours", COUNTER, "Charge put in, counted by the exporter between readings.", _energy(lambda energy: energy.charged_ah)),
    Row("bms_discharged_amperehours", COUNTER, "Charge taken out, counted by the exporter between readings.", _energy(lambda energy: energy.discharged_ah)),
    Row("bms_charged_watthours", COUNTER, "Energy put in, counted by the exporter between readings.", _energy(lambda energy: energy.charged_wh)),
    Row("bms_discharged_watthours", COUNTER, "Energy taken out, counted by the exporter between readings.", _energy(lambda energy: energy.discharged_wh)),
    Row("bms_energy_gap_seconds", COUNTER, "Time in which no energy was counted: between readings further apart than max_age (0: 5 minutes).", _energy(lambda energy: energy.gap_s)),
    Row("bms_paused", GAUGE, "Whether the battery is left to the phone app for ten minutes.", lambda shot: shot.paused),
    Row("bms_rssi_dbm", GAUGE, "Signal strength of the last advertisement received.", lambda shot: shot.rssi_dbm),
    Row("bms_last_poll_success_timestamp_seconds", GAUGE, "When the battery was last read; absent before the first time.", lambda shot: shot.last_success_unix_s),
    Row("bms_poll_duration_seconds", GAUGE, "How long the last finished poll took, disconnecting excluded.", lambda shot: shot.poll_duration_s),
    Row("bms_poll_timeout_seconds", GAUGE, "How long a poll may take.", lambda shot: shot.poll_timeout_s),
    Row("bms_polls", COUNTER, "Finished polls, failed ones included.", lambda shot: shot.polls),
    Row("bms_poll_failures", COUNTER, "Failed polls.", _by_reason(FailureReason, lambda shot: shot.failures), "reason"),
    Row("bms_connection_attempts", COUNTER, "Attempts to connect.", lambda shot: shot.link.connection_attempts),
    Row("bms_connection_failures", COUNTER, "Attempts to connect that failed, and connections that broke after the reading.", _by_reason(CONNECTION_REASONS, lambda shot: shot.link.connection_failures), "reason"),
    Row("bms_route_changes", COUNTER, "How often the route of the battery changed; return: a faster route was tried again.", _by_reason(ROUTE_REASONS, lambda shot: shot.link.route_changes), "reason"),
    Row("bms_connection_held_seconds", COUNTER, "Time connected, in which the phone app was locked out.", lambda shot: shot.link.held_s),
    Row("bms_requests", COUNTER, "Requests sent, resends excluded.", lambda shot: shot.link.requests),
    Row("bms_request_resends", COUNTER, "Requests sent again because no answer came.", lambda shot: shot.link.resends),
    Row("bms_frame_errors", COUNTER, "Complete replies refused; decode: valid, but its numbers cannot be true.", _by_reason(FrameError, lambda shot: shot.link.frame_errors), "reason"),
    Row("bms_discarded_bytes", COUNTER, "Bytes received that belong to no accepted reply.", lambda shot: shot.link.discarded_bytes),
    Row("bms_readings_served", COUNTER, "Readings given to scrapes.", lambda shot: shot.served),
    Row("bms_readings_coalesced", COUNTER, "Readings given to scrapes from a poll that another scrape had started.", lambda shot: shot.coalesced),
    *SETTINGS_ROWS,
)
# fmt: on
"""Every metric with the label `battery`, except the info metric; a counter's name gets `_total`."""


@dataclass(frozen=True, slots=True)
class Info:
    """One info metric of a battery; `values` returns those of its labels, or None."""

    name: str
    help: str
    labels: Sequence[str]
    values: Callable[[Snapshot], Sequence[str] | None]


def _identity(snapshot: Snapshot) -> Sequence[str] | None:
    if (identity := snapshot.identity) is None:
        return None
    manufactured = str(identity.manufactured or "")
    return snapshot.address, identity.profile, identity.hardware, identity.software, manufactured


INFOS: Final = (
    Info(
        "bms_battery",
        "What the battery is; absent until its hardware name is answered or given up.",
        ("address", "profile", "hardware", "software", "manufactured"),
        _identity,
    ),
    Info(
        "bms_route",
        "How the battery was reached last; absent before the first connection.",
        Route._fields,
        lambda shot: shot.link.route,
    ),
)


class BatteryCollector(Collector):
    """The metric families of some snapshots."""

    def __init__(self, snapshots: Sequence[Snapshot], rows: Sequence[Row] = ROWS) -> None:
        self._snapshots = snapshots
        self._rows = rows

    def collect(self) -> Iterable[Metric]:
        """Yield every family that has samples."""
        for family in (
            *(_family(row, self._snapshots) for row in self._rows),
            *(_info(info, self._snapshots) for info in INFOS),
        ):
            if family.samples:
                yield family


def _family(row: Row, snapshots: Sequence[Snapshot]) -> Metric:
    labels = ("battery",) if row.label is None else ("battery", row.label)
    family = row.kind(row.name, row.help, labels=labels)
    for snapshot in snapshots:
        value = row.value(snapshot)
        if isinstance(value, dict):
            for label, number in value.items():
                family.add_metric((snapshot.battery, label), number)
        elif value is not None:
            family.add_metric((snapshot.battery,), value)
    return family


def _info(info: Info, snapshots: Sequence[Snapshot]) -> Metric:
    family = InfoMetricFamily(info.name, info.help, labels=("battery",))
    for snapshot in snapshots:
        if values := info.values(snapshot):
            family.add_metric((snapshot.battery,), dict(zip(info.labels, values, strict=True)))
    return family


PROCESS: Final = ProcessCollector(registry=None)
"""The `process_*` metrics."""


class ExporterCollector(Collector):
    """The metrics that belong to no battery: build, configuration, log and adapters."""

    def __init__(
        self,
        wall: WallClock | None = None,
        *,
        log_lines_lost: Callable[[], int] = lambda: 0,
        adapter_restarts: Callable[[], Mapping[tuple[str, str], int]] = dict,
        proxies: Callable[[], Mapping[str, ProxyState]] = dict,
        others: Sequence[Collector] = (),
    ) -> None:
        """Configure the sources; `adapter_restarts` counts by adapter and reason."""
        self._others = others
        self._wall = wall or WallClock()
        self._log_lines_lost = log_lines_lost
        self._adapter_restarts = adapter_restarts
        self._proxies = proxies
        self.note_reload()

    def note_reload(self) -> None:
        """Record that the configuration was just read without errors."""
        self.reload_succeeded = True
        self._config_loaded_at_s = self._wall.now_s()

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
            value=self._config_loaded_at_s + self._wall.difference_s(),
        )
        yield CounterMetricFamily(
            "bms_exporter_log_lines_lost",
            "Log lines that could not be written: no program reads standard error, or its disk is full.",
            value=self._log_lines_lost(),
        )
        restarts = CounterMetricFamily(
            "bms_adapter_restarts",
            "How often a stuck adapter was switched off and on.",
            labels=("adapter", "reason"),
        )
        for labels, count in self._adapter_restarts().items():
            restarts.add_metric(labels, count)
        if restarts.samples:
            yield restarts
        yield from _proxy_families(self._proxies())
        for other in self._others:
            yield from other.collect()


# fmt: off
PROXY_ROWS: Final[Sequence[tuple[str, str, Callable[[ProxyState], float | None]]]] = (
    ("bms_proxy_up", "Whether the ESPHome proxy could be used the last time; absent before the first.", lambda proxy: proxy.up),
    ("bms_proxy_connections_free", "Bluetooth connections that the proxy has left; absent while the exporter is not connected to it.", lambda proxy: proxy.free),
    ("bms_proxy_connections_limit", "Bluetooth connections that the proxy can have; absent while the exporter is not connected to it.", lambda proxy: proxy.limit),
)
# fmt: on


def _proxy_families(proxies: Mapping[str, ProxyState]) -> Iterable[Metric]:
    """Yield the metrics of the proxies; a machine without one has none of them."""
    for name, text, value in PROXY_ROWS:
        family = GaugeMetricFamily(name, text, labels=("proxy",))
        for proxy, state in proxies.items():
            if (number := value(state)) is not None:
                family.add_metric((proxy,), number)
        if family.samples:
            yield family
