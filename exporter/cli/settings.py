"""The command `settings`: reads the settings of one battery once, and prints them."""

import asyncio
from shlex import quote
from typing import Final

from prometheus_client import generate_latest

from exporter.app import read_settings_once
from exporter.battery.settings_reader import METRIC_REGISTERS
from exporter.battery.settings_state import SettingsState
from exporter.battery.snapshot import Snapshot
from exporter.ble.transport import Backend
from exporter.cli.options import ReadSettings
from exporter.cli.settings_output import settings_json, settings_table
from exporter.cli.settings_words import Settings
from exporter.cli.streams import complain
from exporter.config.schema import BatteryConfig, Config
from exporter.metrics import SETTINGS_ROWS, BatteryCollector
from exporter.protocol.settings import SETTING_NAMES
from exporter.protocol.settings_exchange import SettingsFailure

OK: Final = 0
FAILED: Final = 1
AGAIN: Final = "move closer, close the phone app, and try again"
PROBLEMS: Final = {
    SettingsFailure.TIMEOUT: f"its settings were not answered in time: {AGAIN}",
    SettingsFailure.REFUSED: "its BMS refuses to show its settings: close the phone app, and try "
    "again; a module with a PIN always refuses",
    SettingsFailure.IMPLAUSIBLE: "its registers have other meanings than those of JBD's settings: "
    "cell count or capacity differ from what it reports. Nothing is shown; please report the board",
    SettingsFailure.INTERRUPTED: f"the connection ended before its settings were read: {AGAIN}",
}
INCOMPLETE: Final = f"the reading before its settings was incomplete: {AGAIN}"
OPEN: Final = (
    "its BMS did not confirm that the mode for reading settings is closed: run this command "
    "again, which closes it first"
)


def run_settings(
    options: ReadSettings, battery: BatteryConfig, config: Config, backend: Backend | None
) -> int:
    """Read and print the settings; complain about what failed, and return the exit status."""
    registers = [*SETTING_NAMES] if options.all else METRIC_REGISTERS
    ended: list[Snapshot] = []  # Ctrl-C leaves the mode, too, and its end must be known
    try:
        asyncio.run(read_settings_once(battery, config, registers, backend, on_end=ended.append))
        status = _show(ended[0], options)
    finally:
        if any(one.settings and one.settings.is_left is False for one in ended):
            complain(f"{battery.name}: {OPEN}")
            status = FAILED
    return status


def _show(snapshot: Snapshot, options: ReadSettings) -> int:
    state = snapshot.settings
    if not snapshot.up or state is None:
        complain(f"{snapshot.battery}: {snapshot.last_error or 'no answer in time'}")
        complain(f"bms-exporter doctor {quote(snapshot.battery)} finds the cause.")
        return FAILED
    if not state.rows:
        if problem := _problem(state):
            complain(f"{snapshot.battery}: {problem}")
        return FAILED
    print(_format(snapshot, Settings(state.rows), options).rstrip())
    return OK


def _problem(state: SettingsState) -> str | None:
    """Return why nothing was read; None: because an earlier session may not have ended."""
    if state.failures:
        return PROBLEMS[next(iter(state.failures))]
    return None if state.is_left is False else INCOMPLETE


def _format(snapshot: Snapshot, settings: Settings, options: ReadSettings) -> str:
    match options.format:
        case "table":
            return settings_table(
                snapshot.battery, snapshot.address, settings, everything=options.all
            )
        case "json":
            return settings_json(snapshot.battery, snapshot.address, settings)
        case "metrics":
            return generate_latest(BatteryCollector([snapshot], SETTINGS_ROWS)).decode()
