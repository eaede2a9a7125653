"""The questions of docs/metrics.md: the metrics that answer each, with a query as an example."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One section: `metrics` are those that answer it; `text` is below the table."""

    title: str
    query_for: str  # what the query shows, as the object of "This shows ..."
    query: str
    metrics: tuple[str, ...]
    text: str = ""


QUESTIONS: Final = (
    Question(
        title="How much is left?",
        query_for="the batteries that are low, with the Ah that they have left",
        query="bms_remaining_capacity_amperehours < bms_low_threshold_amperehours",
        metrics=(
            "bms_remaining_capacity_amperehours",
            "bms_state_of_charge_ratio",
            "bms_nominal_capacity_amperehours",
            "bms_full_capacity_amperehours",
            "bms_low_threshold_amperehours",
            "bms_critical_threshold_amperehours",
            "bms_low_threshold_ratio",
            "bms_critical_threshold_ratio",
        ),
        text="[When will it be empty?](#time-to-empty-and-to-full)",
    ),
    Question(
        title="What goes in and out?",
        query_for="the Wh that went into each battery in the last 24 hours",
        query="increase(bms_charged_watthours_total[1d])",
        metrics=(
            "bms_current_amperes",
            "bms_voltage_volts",
            "bms_charged_amperehours_total",
            "bms_discharged_amperehours_total",
            "bms_charged_watthours_total",
            "bms_discharged_watthours_total",
            "bms_energy_gap_seconds_total",
        ),
        text="""\
The exporter counts charge and energy between the readings of a battery, by the trapezoid rule. The time of a reading is
when it was read, not when it was scraped. Readings further apart than `max_age` (5 minutes with `max_age: 0`) add
nothing, except to `bms_energy_gap_seconds_total`. So scrape at least every `max_age`. The counters begin at 0 with the
first reading after a start.""",
    ),
    Question(
        title="Is it healthy?",
        query_for="how far the cells of each battery are apart, in V",
        query="max without (cell) (bms_cell_voltage_volts) - min without (cell) (bms_cell_voltage_volts)",
        metrics=(
            "bms_cell_voltage_volts",
            "bms_cell_balancing",
            "bms_cells",
            "bms_balance_current_amperes",
            "bms_temperature_celsius",
            "bms_heater_on",
            "bms_protection_active",
            "bms_protection_events_total",
            "bms_charge_mosfet_on",
            "bms_discharge_mosfet_on",
            "bms_cycles",
            "bms_restarts_total",
        ),
    ),
    Question(
        title="Where are its own limits?",
        query_for="how far the highest cell is below the voltage at which the BMS stops charging, in V",
        query="""\
bms_protection_threshold_volts{protection="cell_overvoltage"}
  - on (job, instance, battery) max by (job, instance, battery) (bms_cell_voltage_volts)""",
        metrics=(
            "bms_protection_threshold_volts",
            "bms_protection_release_volts",
            "bms_protection_threshold_celsius",
            "bms_protection_release_celsius",
            "bms_protection_threshold_amperes",
            "bms_protection_delay_seconds",
            "bms_cell_full_volts",
            "bms_cell_empty_volts",
            "bms_cycle_capacity_amperehours",
            "bms_balance_start_volts",
            "bms_balance_window_volts",
            "bms_function_enabled",
            "bms_settings_read_timestamp_seconds",
            "bms_settings_reads_total",
            "bms_settings_read_failures_total",
            "bms_settings_mode_left",
        ),
        text="They exist only with `settings: daily` ([settings.md](settings.md)).",
    ),
    Question(
        title="Why was it not read?",
        query_for="how often each battery was not read in the last hour, and why",
        query="increase(bms_poll_failures_total[1h]) > 0",
        metrics=(
            "bms_up",
            "bms_poll_failures_total",
            "bms_polls_total",
            "bms_last_poll_success_timestamp_seconds",
            "bms_paused",
            "bms_rssi_dbm",
            "bms_connection_attempts_total",
            "bms_connection_failures_total",
            "bms_route_changes_total",
            "bms_route_info",
        ),
        text="[Troubleshooting](troubleshooting.md) explains every `reason`.",
    ),
    Question(
        title="What does a reading cost?",
        query_for="the part of the last hour in which the phone app could not connect",
        query="rate(bms_connection_held_seconds_total[1h])",
        metrics=(
            "bms_connection_held_seconds_total",
            "bms_poll_duration_seconds",
            "bms_poll_timeout_seconds",
            "bms_requests_total",
            "bms_request_resends_total",
            "bms_frame_errors_total",
            "bms_discarded_bytes_total",
            "bms_readings_served_total",
            "bms_readings_coalesced_total",
        ),
    ),
    Question(
        title="Which battery is it?",
        query_for="how many batteries have which firmware",
        query="count by (hardware, software) (bms_battery_info)",
        metrics=("bms_battery_info",),
    ),
    Question(
        title="How much does a bank have?",
        query_for="the current of each battery of a bank",
        query='bms_current_amperes * on (job, instance, battery) group_left (bank) bms_bank_member{bank="living area"}',
        metrics=(
            "bms_bank_remaining_capacity_amperehours",
            "bms_bank_nominal_capacity_amperehours",
            "bms_bank_full_capacity_amperehours",
            "bms_bank_state_of_charge_ratio",
            "bms_bank_voltage_volts",
            "bms_bank_current_amperes",
            "bms_bank_state_of_charge_difference_ratio",
            "bms_bank_current_difference_amperes",
            "bms_bank_batteries",
            "bms_bank_batteries_read",
            "bms_bank_member",
            "bms_bank_info",
        ),
        text="""\
They have the label `bank` instead of `battery`, and are on `/metrics` only: `/probe` shows one battery.
[banks.md](banks.md) says when a total is absent.""",
    ),
    Question(
        title="Does the exporter work?",
        query_for="the exporters whose configuration file has a mistake since they read it last",
        query="bms_exporter_config_last_reload_successful == 0",
        metrics=(
            "bms_exporter_config_last_reload_successful",
            "bms_exporter_config_last_reload_success_timestamp_seconds",
            "bms_exporter_log_lines_lost_total",
            "bms_exporter_build_info",
            "bms_adapter_restarts_total",
        ),
        text="""\
They are on `/metrics`, but not on `/probe`, with the `process_*` metrics of the Prometheus client. The exporter goes on
when log lines are lost, and logs their number.

`bms_adapter_restarts_total` has the `reason` for which an adapter was switched off and on:

| reason | what was wrong |
|---|---|
| `no_events` | the adapter no longer answered commands |
| `left_connection` | the kernel kept an attempt to connect for which no program waits |
| `discovery` | the kernel believed that a scan was running, which no program had asked for |
| `no_scan` | the kernel began no scan for an attempt to connect |""",
    ),
    Question(
        title="What time is it there?",
        query_for="1 by night, for each exporter",
        query="""\
(time() + bms_exporter_utc_offset_seconds - bms_exporter_night_start_seconds) % 86400
  < bool (86400 + bms_exporter_night_end_seconds - bms_exporter_night_start_seconds) % 86400""",
        metrics=(
            "bms_exporter_utc_offset_seconds",
            "bms_exporter_morning_seconds",
            "bms_exporter_night_start_seconds",
            "bms_exporter_night_end_seconds",
            "bms_exporter_next_morning_timestamp_seconds",
        ),
        text="""\
Prometheus knows only UTC. These metrics, from `timezone`, `morning` and `night` of the configuration, give rules and
dashboards the local hours. The offset and the next morning follow daylight saving time.""",
    ),
    Question(
        title="Does the proxy work?",
        query_for="the proxies that have no free connection",
        query="bms_proxy_connections_free == 0",
        metrics=("bms_proxy_up", "bms_proxy_connections_free", "bms_proxy_connections_limit"),
        text="They exist only with ESPHome proxies ([proxies.md](proxies.md)).",
    ),
)
