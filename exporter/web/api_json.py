"""Snapshots as JSON for /api/v1, with every unit in its key (docs/api.md)."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from exporter.battery.banks import BankSnapshot
from exporter.battery.forecast import Morning, time_to_empty_s, time_to_full_s
from exporter.battery.history import History
from exporter.battery.settings_state import SettingsState
from exporter.battery.snapshot import Snapshot
from exporter.config.presentation import Threshold
from exporter.reading import BasicInfo, Reading

VERSION: Final = 1


def battery(snapshot: Snapshot, morning: Morning | None = None) -> dict[str, Any]:
    """Return the `Battery` object of docs/api.md."""
    reading = snapshot.reading
    basic = reading.basic if reading else None
    identity = snapshot.identity
    link = snapshot.link
    return {
        "name": snapshot.battery,
        "address": snapshot.address,
        "up": snapshot.up,
        "polling": snapshot.polling,
        "max_age_s": snapshot.max_age_s,
        "paused_until_unix_s": snapshot.paused_until_unix_s,
        "last_success_unix_s": snapshot.last_success_unix_s,
        "failure": None
        if snapshot.failure is None
        else {
            "reason": snapshot.failure,
            "error": snapshot.last_error,
            "since_unix_s": snapshot.failing_since_unix_s,
        },
        "reading": None
        if reading is None or basic is None
        else {
            **_charge(basic, snapshot.last_success_unix_s, snapshot.mean_current_a or 0.0),
            **_rest(reading, basic, snapshot.temperatures()),
        },
        "morning": None if morning is None else asdict(morning),
        "identity": None if identity is None else asdict(identity),
        "settings": None
        if snapshot.settings is None
        else _settings(snapshot.settings, snapshot.settings_read_unix_s),
        "thresholds": {
            "low": _threshold(snapshot.low, snapshot.nominal_ah),
            "critical": _threshold(snapshot.critical, snapshot.nominal_ah),
        },
        "link": {
            "rssi_dbm": snapshot.rssi_dbm,
            "polls": snapshot.polls,
            "failures": sum(snapshot.failures.values()),
            "connection_attempts": link.connection_attempts,
            "held_s": link.held_s,
            "requests": link.requests,
            "resends": link.resends,
            "frame_errors": sum(link.frame_errors.values()),
            "poll_duration_s": snapshot.poll_duration_s,
            "route": None
            if link.route is None
            else link.route._asdict() | {"since_unix_s": snapshot.route_since_unix_s},
        },
    }


def _threshold(threshold: Threshold, nominal_ah: float | None) -> dict[str, Any]:
    return {
        "remaining_ah": threshold.in_ah(nominal_ah),
        "rsoc_ratio": threshold.amount if threshold.is_ratio else None,
    }


def _charge(basic: BasicInfo, read_unix_s: float | None, mean_a: float) -> dict[str, Any]:
    empty_s, full_s = time_to_empty_s(basic, mean_a), time_to_full_s(basic, mean_a)
    return {
        "read_unix_s": read_unix_s,
        "remaining_ah": basic.remaining_ah,
        "nominal_ah": basic.nominal_ah,
        "full_ah": basic.full_ah,
        "rsoc_ratio": basic.rsoc_ratio,
        "voltage_v": basic.voltage_v,
        "current_a": basic.current_a,
        "power_w": basic.voltage_v * basic.current_a,
        "time_to_empty_s": empty_s,
        "time_to_full_s": full_s,
        "empty_unix_s": _sum(read_unix_s, empty_s),
        "full_unix_s": _sum(read_unix_s, full_s),
    }


def _sum(unix_s: float | None, duration_s: float | None) -> float | None:
    return None if unix_s is None or duration_s is None else unix_s + duration_s


def _rest(
    reading: Reading, basic: BasicInfo, temperatures: Sequence[tuple[str | None, float | None]]
) -> dict[str, Any]:
    cells = reading.cell_voltages_v
    fitted = [cell_v for cell_v in cells or () if cell_v is not None]
    counters = reading.counters
    return {
        "cycles": basic.cycles,
        "cell_count": basic.cell_count,
        "cells": None
        if cells is None
        else [
            {"number": number, "voltage_v": cell_v, "balancing": number in basic.balancing_cells}
            for number, cell_v in enumerate(cells, start=1)
        ],
        "cell_spread_v": max(fitted) - min(fitted) if fitted else None,
        "temperatures_c": [celsius if name else None for name, celsius in temperatures],
        "sensors": [name for name, _ in temperatures],
        "charge_fet_on": basic.charge_fet_on,
        "discharge_fet_on": basic.discharge_fet_on,
        "heater_on": basic.heater_on,
        "factory_mode": None,  # no BMS sets the bit reliably, but keys of the API stay
        "protections": sorted(basic.protections),
        "protection_events": counters and counters.protection_events,
        "restarts": counters and counters.restarts,
    }


def _settings(settings: SettingsState, read_unix_s: float | None) -> dict[str, Any]:
    return {
        "read_unix_s": read_unix_s,
        "mode_left": settings.is_left,
        "values": {
            key: sorted(value) if isinstance(value, frozenset) else value
            for key, value in settings.values.items()
        },
    }


def bank(snapshot: BankSnapshot, morning: Morning | None = None) -> dict[str, Any]:
    """Return the `Bank` object of docs/api.md."""
    return {
        "name": snapshot.bank,
        "wiring": snapshot.wiring,
        "batteries": snapshot.batteries,
        "batteries_read": snapshot.batteries_read,
        "total": None if snapshot.total is None else asdict(snapshot.total),
        "morning": None if morning is None else asdict(morning),
    }


def curves(histories: Mapping[str, History]) -> bytes:
    """Return the curves of the last hours as JSON, an argument of `history`."""
    return to_json(
        [{"name": name, "samples": history.curve()} for name, history in histories.items()]
    )


def history(curves: bytes, *, now_unix_s: float) -> tuple[bytes, bytes, bytes]:
    """Return the parts of the JSON of the last hours, with the current time."""
    now = to_json(now_unix_s)
    return b'{"version": %d, "now_unix_s": %s, "batteries": ' % (VERSION, now), curves, b"}"


def to_json(value: object) -> bytes:
    """Return JSON in one line, with numbers rounded to three decimals."""
    return json.dumps(_rounded(value), ensure_ascii=False, default=str, allow_nan=False).encode()


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, Mapping):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(part) for part in value]
    return value
