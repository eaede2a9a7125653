"""What one scrape shows, as numbers and as text."""

import platform
import subprocess
from dataclasses import replace
from datetime import date
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.registry import CollectorRegistry

from exporter import __version__
from exporter.battery.energy import EnergyTotals
from exporter.battery.settings_reader import METRIC_REGISTERS
from exporter.battery.settings_state import SettingsState, decode_settings
from exporter.battery.snapshot import Snapshot
from exporter.ble.proxies import ProxyState
from exporter.clock import WallClock
from exporter.config.presentation import Presentation, parse_threshold
from exporter.demo.settings import make_settings
from exporter.errors import FailureReason
from exporter.link_stats import LinkTotals, Route
from exporter.metrics import (
    READING_ROWS,
    ROWS,
    SETTINGS_ROWS,
    BatteryCollector,
    ExporterCollector,
    Row,
)
from exporter.protocol.frame import FrameError
from exporter.protocol.settings import Function
from exporter.protocol.settings_exchange import READ_FIRST, Expected, SettingsFailure
from exporter.reading import BasicInfo, EventCounters, Identity, Protection, Reading
from tests.support.registry import make_registry

MADE = make_settings(200.0, "JBD", date(2022, 8, 12), charge_from_c=(0.0, 5.0))
BASIC = BasicInfo(
    voltage_v=13.21,
    current_a=-4.5,
    remaining_ah=203.54,
    nominal_ah=219.32,
    full_ah=215.0,
    balance_current_a=0.012,
    rsoc_ratio=0.93,
    cycles=19,
    manufactured=date(2022, 8, 12),
    software="8.3",
    cell_count=4,
    balancing_cells=frozenset({2}),
    protections=frozenset({Protection.CHARGE_UNDERTEMPERATURE}),
    charge_fet_on=False,
    discharge_fet_on=True,
    heater_on=True,
    factory_mode=False,
    temperatures_c=(2.9, -30.0),
)
READING = Reading(
    basic=BASIC,
    cell_voltages_v=(3.31, 3.3, 3.305, 3.295, None),
    counters=EventCounters(protection_events={Protection.CELL_OVERVOLTAGE: 122}, restarts=1),
)
IDENTITY = Identity(
    profile="nus", hardware="JBD-SP04S034", software="8.3", manufactured=date(2022, 8, 12)
)
SETTINGS = SettingsState(
    rows=decode_settings(
        {one: MADE[one] for one in (*READ_FIRST, *METRIC_REGISTERS)},
        Expected(cell_count=4, nominal_ah=200.0),
    ),
    read_at_s=1.0,
    reads=3,
    failures={SettingsFailure.TIMEOUT: 2},
    is_left=True,
)
LINK = LinkTotals(connection_attempts=7, held_s=12.5, requests=40, resends=9, discarded_bytes=21)

ENERGY = EnergyTotals(
    charged_ah=3.5, discharged_ah=2.5, charged_wh=46.0, discharged_wh=33.0, gap_s=130.0
)

ENERGY_NAMES = {
    "bms_charged_amperehours_total",
    "bms_discharged_amperehours_total",
    "bms_charged_watthours_total",
    "bms_discharged_watthours_total",
    "bms_energy_gap_seconds_total",
}


def snapshot(**changes: Any) -> Snapshot:
    whole = Snapshot(
        battery="camper",
        address="A4:C1:38:00:00:01",
        up=True,
        reading=READING,
        identity=IDENTITY,
        nominal_ah=219.32,
        rssi_dbm=-67,
        last_success_unix_s=1_795_391_224.5,
        poll_duration_s=1.25,
        poll_timeout_s=30.0,
        polls=5,
        failures={FailureReason.NOT_FOUND: 2},
        last_error=None,
        served=8,
        coalesced=3,
        link=LINK,
        settings=SETTINGS,
        settings_read_unix_s=1_795_391_100.0,
        energy=ENERGY,
    )
    return replace(whole, **changes)


def without_basic(**changes: Any) -> Snapshot:
    """Return a snapshot of a battery whose 0x03 says something else."""
    return snapshot(reading=replace(READING, basic=replace(BASIC, **changes)))


def exposed(*snapshots: Snapshot) -> CollectorRegistry:
    return make_registry(BatteryCollector(snapshots))


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, {"battery": "camper", **labels})


def names(registry: CollectorRegistry) -> set[str]:
    return {sample.name for family in registry.collect() for sample in family.samples}


class TestNumbers:
    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("bms_up", 1),
            ("bms_remaining_capacity_amperehours", 203.54),
            ("bms_nominal_capacity_amperehours", 219.32),
            ("bms_full_capacity_amperehours", 215.0),
            ("bms_state_of_charge_ratio", 0.93),
            ("bms_voltage_volts", 13.21),
            ("bms_current_amperes", -4.5),
            ("bms_cells", 4),
            ("bms_cycles", 19),
            ("bms_balance_current_amperes", 0.012),
            ("bms_restarts_total", 1),
            ("bms_charge_mosfet_on", 0),
            ("bms_discharge_mosfet_on", 1),
            ("bms_heater_on", 1),
            ("bms_charged_amperehours_total", 3.5),
            ("bms_discharged_amperehours_total", 2.5),
            ("bms_charged_watthours_total", 46),
            ("bms_discharged_watthours_total", 33),
            ("bms_energy_gap_seconds_total", 130),
            ("bms_rssi_dbm", -67),
            ("bms_last_poll_success_timestamp_seconds", 1_795_391_224.5),
            ("bms_poll_duration_seconds", 1.25),
            ("bms_poll_timeout_seconds", 30),
            ("bms_polls_total", 5),
            ("bms_connection_attempts_total", 7),
            ("bms_connection_held_seconds_total", 12.5),
            ("bms_requests_total", 40),
            ("bms_request_resends_total", 9),
            ("bms_discarded_bytes_total", 21),
            ("bms_readings_served_total", 8),
            ("bms_readings_coalesced_total", 3),
            ("bms_cycle_capacity_amperehours", 160),
            ("bms_balance_start_volts", 3.2),
            ("bms_balance_window_volts", 0.03),
            ("bms_cell_full_volts", 3.5),
            ("bms_cell_empty_volts", 2.8),
            ("bms_settings_read_timestamp_seconds", 1_795_391_100.0),
            ("bms_settings_reads_total", 3),
            ("bms_settings_mode_left", 1),
        ],
    )
    def test_metric_shows_its_own_value_of_the_snapshot(self, name: str, expected: float) -> None:
        assert value(exposed(snapshot()), name) == expected

    @pytest.mark.parametrize(
        ("changes", "name", "expected"),
        [
            ({"up": False}, "bms_up", 0),
            ({"polls": 0}, "bms_polls_total", 0),
        ],
    )
    def test_measured_0_is_shown_and_not_absent(
        self, changes: dict[str, Any], name: str, expected: float
    ) -> None:
        assert value(exposed(snapshot(**changes)), name) == expected

    def test_cells_are_numbered_from_01_and_a_tap_without_one_is_absent(self) -> None:
        cells_v = (3.31, 0.0, 6.551, None)
        registry = exposed(snapshot(reading=replace(READING, cell_voltages_v=cells_v)))

        volts = {
            sample.labels["cell"]: sample.value
            for family in registry.collect()
            for sample in family.samples
            if sample.name == "bms_cell_voltage_volts"
        }
        assert volts == {"01": 3.31, "02": 0.0, "03": 6.551}

    def test_balancing_is_shown_for_every_cell_the_bms_has(self) -> None:
        registry = exposed(snapshot())

        assert [
            value(registry, "bms_cell_balancing", cell=cell)
            for cell in ("00", "01", "02", "03", "04", "05")
        ] == [None, 0, 1, 0, 0, None]

    def test_balancing_is_shown_for_a_cell_above_the_count(self) -> None:
        registry = exposed(without_basic(balancing_cells=frozenset({16})))

        assert value(registry, "bms_cell_balancing", cell="16") == 1
        assert value(registry, "bms_cell_balancing", cell="15") == 0
        assert value(registry, "bms_cell_balancing", cell="17") is None

    def test_bms_without_cells_has_no_balancing(self) -> None:
        registry = exposed(without_basic(cell_count=0, balancing_cells=frozenset()))

        assert "bms_cell_balancing" not in names(registry)

    def test_sensors_are_numbered_from_1(self) -> None:
        registry = exposed(snapshot())

        assert value(registry, "bms_temperature_celsius", sensor="ntc1") == 2.9
        assert value(registry, "bms_temperature_celsius", sensor="ntc2") == -30.0

    def test_sensors_have_configured_names_and_an_empty_socket_is_absent(self) -> None:
        basic = replace(BASIC, temperatures_c=(2.9, 3.1, -30.0, None, 20.0))
        registry = exposed(
            snapshot(
                reading=replace(READING, basic=basic),
                presentation=Presentation(sensors=("cells", "mosfet", None, "fan")),
            )
        )

        assert {
            sample.labels["sensor"]: sample.value
            for family in registry.collect()
            for sample in family.samples
            if sample.name == "bms_temperature_celsius"
        } == {"cells": 2.9, "mosfet": 3.1, "ntc5": 20.0}

    def test_open_or_shorted_sensor_is_absent_and_the_others_keep_their_numbers(self) -> None:
        registry = exposed(without_basic(temperatures_c=(None, None, 20.0)))

        assert value(registry, "bms_temperature_celsius", sensor="ntc3") == 20.0
        assert value(registry, "bms_temperature_celsius", sensor="ntc1") is None
        assert value(registry, "bms_temperature_celsius", sensor="ntc2") is None

    @pytest.mark.parametrize("protection", list(Protection))
    def test_every_protection_is_shown_active_or_not(self, protection: Protection) -> None:
        registry = exposed(snapshot())

        assert value(registry, "bms_protection_active", protection=protection) == (
            protection == "charge_undertemperature"
        )

    def test_protection_events_are_shown_as_the_battery_counts_them(self) -> None:
        registry = exposed(snapshot())

        assert value(registry, "bms_protection_events_total", protection="cell_overvoltage") == 122

    @pytest.mark.parametrize("reason", list(FailureReason))
    def test_every_reason_of_a_poll_failure_is_shown_also_at_0(self, reason: FailureReason) -> None:
        registry = exposed(snapshot())

        assert value(registry, "bms_poll_failures_total", reason=reason) == (
            2 if reason == "not_found" else 0
        )

    @pytest.mark.parametrize("reason", ["adapter", "connect", "link_lost"])
    def test_every_reason_of_a_connection_failure_is_shown_also_at_0(self, reason: str) -> None:
        link = replace(LINK, connection_failures={FailureReason.CONNECT: 4})

        registry = exposed(snapshot(link=link))

        assert value(registry, "bms_connection_failures_total", reason=reason) == (
            4 if reason == "connect" else 0
        )

    @pytest.mark.parametrize("reason", ["checksum", "register", "decode"])
    def test_every_reason_of_a_frame_error_is_shown_also_at_0(self, reason: str) -> None:
        link = replace(LINK, frame_errors={FrameError.CHECKSUM: 6})

        registry = exposed(snapshot(link=link))

        assert value(registry, "bms_frame_errors_total", reason=reason) == (
            6 if reason == "checksum" else 0
        )

    def test_texts_are_in_the_info_metric(self) -> None:
        assert (
            value(
                exposed(snapshot()),
                "bms_battery_info",
                address="A4:C1:38:00:00:01",
                profile="nus",
                hardware="JBD-SP04S034",
                software="8.3",
                manufactured="2022-08-12",
            )
            == 1
        )

    def test_unknown_manufacturing_date_is_an_empty_label(self) -> None:
        registry = exposed(snapshot(identity=replace(IDENTITY, manufactured=None)))

        assert [
            sample.labels["manufactured"]
            for family in registry.collect()
            for sample in family.samples
            if sample.name == "bms_battery_info"
        ] == [""]

    def test_route_is_absent_before_the_first_connection(self) -> None:
        def routes(link: LinkTotals) -> list[dict[str, str]]:
            families = exposed(snapshot(link=link)).collect()
            samples = [sample for family in families for sample in family.samples]
            return [one.labels for one in samples if one.name == "bms_route_info"]

        assert routes(LinkTotals()) == []
        assert routes(LinkTotals(route=Route("direct", "hci0", "gentle"))) == [
            {"battery": "camper", "transport": "direct", "adapter": "hci0", "style": "gentle"}
        ]

    def test_two_batteries_share_each_family(self) -> None:
        registry = exposed(snapshot(), snapshot(battery="second", up=False))

        families = [family.name for family in registry.collect()]
        assert len(families) == len(set(families))
        assert registry.get_sample_value("bms_up", {"battery": "second"}) == 0


class TestAbsence:
    def test_battery_without_a_reading_has_only_counters_and_up(self) -> None:
        off = snapshot(settings=None, settings_read_unix_s=None)
        unread = replace(off, reading=None, identity=None, nominal_ah=None, rssi_dbm=None)

        registry = exposed(unread)

        assert names(registry) == {
            "bms_up",
            "bms_low_threshold_ratio",
            "bms_critical_threshold_ratio",
            *ENERGY_NAMES,
            "bms_paused",
            "bms_last_poll_success_timestamp_seconds",
            "bms_poll_duration_seconds",
            "bms_poll_timeout_seconds",
            "bms_polls_total",
            "bms_poll_failures_total",
            "bms_connection_attempts_total",
            "bms_connection_failures_total",
            "bms_connection_held_seconds_total",
            "bms_requests_total",
            "bms_request_resends_total",
            "bms_frame_errors_total",
            "bms_discarded_bytes_total",
            "bms_route_changes_total",
            "bms_readings_served_total",
            "bms_readings_coalesced_total",
        }

    @pytest.mark.parametrize(
        ("changes", "name"),
        [
            ({"full_ah": None}, "bms_full_capacity_amperehours"),
            ({"balance_current_a": None}, "bms_balance_current_amperes"),
            ({"temperatures_c": ()}, "bms_temperature_celsius"),
        ],
    )
    def test_value_that_the_battery_does_not_report_is_absent(
        self, changes: dict[str, Any], name: str
    ) -> None:
        assert name in names(exposed(snapshot()))
        assert name not in names(exposed(without_basic(**changes)))

    def test_cells_that_were_not_answered_are_absent(self) -> None:
        registry = exposed(snapshot(reading=replace(READING, cell_voltages_v=None)))

        assert "bms_cell_voltage_volts" not in names(registry)
        assert value(registry, "bms_cells") == 4

    def test_event_counters_that_were_not_read_are_absent(self) -> None:
        registry = exposed(snapshot(reading=replace(READING, counters=None)))

        assert names(registry).isdisjoint({"bms_protection_events_total", "bms_restarts_total"})

    def test_restarts_that_the_bms_does_not_count_are_absent(self) -> None:
        counters = EventCounters(protection_events={Protection.CELL_OVERVOLTAGE: 1}, restarts=None)

        registry = exposed(snapshot(reading=replace(READING, counters=counters)))

        assert "bms_restarts_total" not in names(registry)
        assert value(registry, "bms_protection_events_total", protection="cell_overvoltage") == 1

    @pytest.mark.parametrize("bit", [False, True])
    def test_factory_mode_is_no_metric(self, bit: bool) -> None:
        assert "bms_factory_mode" not in names(exposed(without_basic(factory_mode=bit)))

    def test_up_is_absent_before_the_first_poll_has_finished(self) -> None:
        assert "bms_up" not in names(exposed(snapshot(up=None)))

    def test_time_of_the_last_success_is_absent_before_the_first(self) -> None:
        shown = names(exposed(snapshot(last_success_unix_s=None)))

        assert "bms_last_poll_success_timestamp_seconds" not in shown

    def test_counters_of_a_battery_are_0_before_the_first_poll(self) -> None:
        unread = snapshot(
            up=None,
            reading=None,
            last_success_unix_s=None,
            polls=0,
            failures={},
            poll_duration_s=None,
        )

        assert value(exposed(unread), "bms_polls_total") == 0
        for reason in FailureReason:
            assert value(exposed(unread), "bms_poll_failures_total", reason=reason) == 0

    def test_energy_is_absent_before_the_first_reading_and_then_0(self) -> None:
        assert names(exposed(snapshot(energy=None))).isdisjoint(ENERGY_NAMES)
        first = exposed(snapshot(energy=EnergyTotals()))
        assert {value(first, name) for name in ENERGY_NAMES} == {0}

    def test_duration_of_a_poll_is_absent_before_the_first_has_finished(self) -> None:
        assert "bms_poll_duration_seconds" not in names(exposed(snapshot(poll_duration_s=None)))

    def test_cell_voltages_are_shown_without_basic_info(self) -> None:
        cells = Reading(cell_voltages_v=(3.3,))

        registry = make_registry(BatteryCollector([snapshot(reading=cells)], READING_ROWS))

        assert names(registry) == {"bms_cell_voltage_volts", "bms_battery_info"}


class TestThresholds:
    AH = Presentation(low=parse_threshold("60Ah"), critical=parse_threshold("30Ah"))

    def test_ratio_becomes_ampere_hours_of_the_nominal_capacity(self) -> None:
        registry = exposed(snapshot(reading=None))  # too old: the capacity does not age

        assert value(registry, "bms_low_threshold_amperehours") == 43.864
        assert value(registry, "bms_critical_threshold_amperehours") == 21.932
        assert value(registry, "bms_low_threshold_ratio") == 0.2
        assert value(registry, "bms_critical_threshold_ratio") == 0.1

    @pytest.mark.parametrize("nominal_ah", [None, 0.0])
    def test_ratio_without_a_nominal_capacity_has_no_ampere_hours(
        self, nominal_ah: float | None
    ) -> None:
        registry = exposed(snapshot(nominal_ah=nominal_ah))

        assert value(registry, "bms_low_threshold_amperehours") is None
        assert value(registry, "bms_low_threshold_ratio") == 0.2

    def test_ampere_hours_are_shown_before_the_first_reading(self) -> None:
        registry = exposed(snapshot(presentation=self.AH, reading=None, nominal_ah=None))

        assert value(registry, "bms_low_threshold_amperehours") == 60.0
        assert value(registry, "bms_critical_threshold_amperehours") == 30.0
        assert value(registry, "bms_low_threshold_ratio") is None
        assert value(registry, "bms_critical_threshold_ratio") is None

    @pytest.mark.parametrize(
        ("low", "critical", "low_ah", "low_ratio"),
        [
            pytest.param("60Ah", "50%", 109.66, 0.5, id="critical in %"),
            pytest.param("20%", "60Ah", 60.0, None, id="critical in Ah"),
            pytest.param("60Ah", "20%", 60.0, None, id="critical is lower"),
        ],
    )
    def test_battery_is_low_at_the_latest_when_it_is_critical(
        self, low: str, critical: str, low_ah: float, low_ratio: float | None
    ) -> None:
        both = Presentation(low=parse_threshold(low), critical=parse_threshold(critical))

        registry = exposed(snapshot(presentation=both))

        assert value(registry, "bms_low_threshold_amperehours") == low_ah
        assert value(registry, "bms_low_threshold_ratio") == low_ratio


class TestText:
    def test_openmetrics_is_strictly_valid(self) -> None:
        text = generate_openmetrics(
            make_registry(
                BatteryCollector([snapshot(), snapshot(battery='quote " slash \\ line \n')]),
                ExporterCollector(),
            )
        ).decode()

        families = {family.name for family in text_string_to_metric_families(text)}

        assert {"bms_up", "bms_polls", "bms_battery", "bms_exporter_build"} <= families

    def test_promtool_accepts_the_metrics(self, promtool: str) -> None:
        text = generate_latest(
            make_registry(
                BatteryCollector([snapshot()]),
                ExporterCollector(adapter_restarts=lambda: {("hci0", "no_events"): 1}),
            )
        )

        result = subprocess.run(
            [promtool, "check", "metrics"], input=text, capture_output=True, check=False
        )

        assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")

    def test_samples_have_no_timestamp_and_are_never_nan(self) -> None:
        for family in exposed(snapshot()).collect():
            for sample in family.samples:
                assert sample.timestamp is None
                assert sample.value == sample.value


class TestExporter:
    def test_exporter_shows_its_version_and_when_it_was_configured(self) -> None:
        own = ExporterCollector(WallClock(lambda: 100.0, lambda: 1_795_391_224.5))
        registry = make_registry(own)

        assert registry.get_sample_value("bms_exporter_config_last_reload_successful") == 1
        assert (
            registry.get_sample_value("bms_exporter_config_last_reload_success_timestamp_seconds")
            == 1_795_391_224.5
        )
        build = {"version": __version__, "python": platform.python_version()}
        assert registry.get_sample_value("bms_exporter_build_info", build) == 1

    def test_restarts_of_adapters_are_shown_by_reason_also_at_0(self) -> None:
        restarts = {("hci0", "no_events"): 2, ("hci0", "discovery"): 0}
        registry = make_registry(ExporterCollector(adapter_restarts=lambda: restarts))

        for (adapter, reason), count in restarts.items():
            labels = {"adapter": adapter, "reason": reason}
            assert registry.get_sample_value("bms_adapter_restarts_total", labels) == count

    def test_proxies_are_shown_as_far_as_they_are_known(self) -> None:
        states = {
            "garage": ProxyState(up=True, free=2, limit=3),
            "shed": ProxyState(up=False),
            "garden": ProxyState(up=None),
        }
        registry = make_registry(ExporterCollector(proxies=lambda: states))

        def shown(name: str) -> list[float | None]:
            return [registry.get_sample_value(name, {"proxy": proxy}) for proxy in states]

        assert shown("bms_proxy_up") == [1, 0, None]
        assert shown("bms_proxy_connections_free") == [2, None, None]
        assert shown("bms_proxy_connections_limit") == [3, None, None]

    def test_machine_without_proxies_has_none_of_their_metrics(self) -> None:
        registry = make_registry(ExporterCollector())

        assert not any(name.startswith("bms_proxy") for name in names(registry))

    def test_lost_log_lines_are_counted_in_every_scrape(self) -> None:
        lost = 0
        own = ExporterCollector(log_lines_lost=lambda: lost)
        registry = make_registry(own)
        assert registry.get_sample_value("bms_exporter_log_lines_lost_total") == 0

        lost = 3

        assert registry.get_sample_value("bms_exporter_log_lines_lost_total") == 3

    @pytest.mark.parametrize("step_s", [-432_000.0, 432_000.0])
    def test_time_of_the_configuration_follows_a_step_of_the_wall_clock(
        self, step_s: float
    ) -> None:
        unix_s = 1_795_391_224.5
        registry = make_registry(ExporterCollector(WallClock(lambda: 100.0, lambda: unix_s)))

        unix_s += step_s

        assert (
            registry.get_sample_value("bms_exporter_config_last_reload_success_timestamp_seconds")
            == 1_795_391_224.5 + step_s
        )


class TestSettings:
    @pytest.mark.parametrize(
        ("name", "protection", "expected"),
        [
            ("threshold_volts", "cell_undervoltage", 2.5),
            ("release_volts", "cell_undervoltage", 2.7),
            ("threshold_volts", "pack_overvoltage", 14.6),
            ("release_volts", "pack_overvoltage", 14.2),
            ("threshold_celsius", "charge_undertemperature", 0.0),
            ("release_celsius", "charge_undertemperature", 5.0),
            ("threshold_amperes", "charge_overcurrent", 220.0),
            ("threshold_amperes", "discharge_overcurrent", 220.0),
            ("delay_seconds", "charge_overcurrent", 10.0),
            ("delay_seconds", "cell_overvoltage", 2.0),
        ],
    )
    def test_limits_are_shown_by_protection(
        self, name: str, protection: str, expected: float
    ) -> None:
        found = value(exposed(snapshot()), f"bms_protection_{name}", protection=protection)

        assert found == expected

    def test_every_function_is_on_or_off(self) -> None:
        registry = exposed(snapshot())

        states = {one: value(registry, "bms_function_enabled", function=one) for one in Function}
        assert {one for one, state in states.items() if state} == {"load_detection", "balancing"}
        assert set(states.values()) == {0, 1}

    def test_failures_are_counted_by_every_reason(self) -> None:
        registry = exposed(snapshot())

        assert {
            one: value(registry, "bms_settings_read_failures_total", reason=one)
            for one in SettingsFailure
        } == {one: 2 * (one == "timeout") for one in SettingsFailure}

    def test_settings_are_absent_before_the_first_read_but_the_counters_are_0(self) -> None:
        shot = snapshot(settings=SettingsState(), settings_read_unix_s=None)

        shown = names(exposed(shot)) & {row.name for row in SETTINGS_ROWS} | {
            name for name in names(exposed(shot)) if "settings" in name
        }
        assert shown == {"bms_settings_reads_total", "bms_settings_read_failures_total"}

    def test_mode_that_may_be_open_is_shown(self) -> None:
        shot = snapshot(settings=SettingsState(is_left=False))

        assert value(exposed(shot), "bms_settings_mode_left") == 0

    def test_settings_that_are_switched_off_are_absent(self) -> None:
        off = names(exposed(snapshot(settings=None, settings_read_unix_s=None)))

        assert {name.removesuffix("_total") for name in off}.isdisjoint(
            row.name for row in SETTINGS_ROWS
        )


class TestTable:
    @pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
    def test_row_has_numbers_by_label_exactly_when_it_has_a_label(self, row: Row) -> None:
        assert isinstance(row.value(snapshot()), dict) is (row.label is not None)

    def test_metric_names_are_unique(self) -> None:
        assert len({row.name for row in ROWS}) == len(ROWS)
