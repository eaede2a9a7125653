"""What `read` prints: a table for people, JSON and metrics for programs."""

import json
from collections.abc import Iterator
from dataclasses import asdict, is_dataclass
from datetime import date
from typing import Any, Literal

from prometheus_client import generate_latest

from exporter.battery.snapshot import Snapshot
from exporter.cli.streams import complain
from exporter.metrics import BatteryCollector
from exporter.reading import Reading


def show_reading(snapshot: Snapshot, form: Literal["table", "json", "metrics"]) -> int:
    """Print the reading of a finished poll, or complain; return the exit status."""
    if snapshot.last_error is not None or snapshot.reading is None:
        complain(f"{snapshot.battery}: {snapshot.last_error or 'no answer in time'}")
        return 1
    formats = {"table": reading_table, "json": reading_json, "metrics": reading_metrics}
    print(formats[form](snapshot).rstrip())
    return 0


def reading_table(snapshot: Snapshot) -> str:
    """Return one reading as a table of two columns."""
    rows = [*_reading_rows(snapshot)]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def _reading_rows(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    yield "battery", f"{snapshot.battery} ({snapshot.address})"
    reading = snapshot.reading
    if reading is None or reading.basic is None:
        return
    basic = reading.basic
    yield "remaining", f"{basic.remaining_ah:.2f} Ah of {basic.nominal_ah:.2f} Ah"
    if basic.full_ah is not None:
        yield "full (learned)", f"{basic.full_ah:.2f} Ah"
    yield "state of charge", f"{basic.rsoc_ratio:.0%}"
    yield "voltage", f"{basic.voltage_v:.2f} V"
    direction = "charging" if basic.current_a > 0 else "discharging" if basic.current_a else "idle"
    yield "current", f"{basic.current_a:.2f} A, {direction}"
    for number, cell_v in enumerate(reading.cell_voltages_v or (), start=1):
        if cell_v is not None:
            mark = ", balancing" if number in basic.balancing_cells else ""
            yield f"cell {number}", f"{cell_v:.3f} V{mark}"
    for number, (name, celsius) in enumerate(snapshot.temperatures(), start=1):
        if name is not None:
            own = "" if name == f"ntc{number}" else f" ({name})"
            value = "open or shorted" if celsius is None else f"{celsius:.1f} °C"
            yield f"NTC {number}{own}", value
    yield "charge MOSFET", _on(basic.charge_fet_on)
    yield "discharge MOSFET", _on(basic.discharge_fet_on)
    if basic.heater_on:
        yield "heater", "on"
    yield "protections", ", ".join(sorted(basic.protections)) or "none"
    yield "cycles", str(basic.cycles)
    if reading.counters:
        events = reading.counters.protection_events.items()
        yield "events", ", ".join(f"{name} {count}" for name, count in events if count) or "none"
        if reading.counters.restarts is not None:
            yield "restarts", str(reading.counters.restarts)
    yield from _device_rows(snapshot)


def _device_rows(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    if identity := snapshot.identity:
        yield "hardware", identity.hardware or "unknown"
        yield "software", identity.software
        yield "manufactured", str(identity.manufactured or "unknown")
        yield "profile", identity.profile
    if route := snapshot.link.route:
        attempts = snapshot.link.connection_attempts
        over = "" if route.adapter == route.transport else f" over {route.adapter}"
        noun = "attempt" if attempts == 1 else "attempts"
        yield "link", f"{route.transport} ({route.style}){over}, {attempts} {noun}"


def _on(is_on: object) -> str:
    return "on" if is_on else "off"


def reading_json(snapshot: Snapshot) -> str:
    """Return one reading as a JSON object; every unit is in its name."""
    reading = snapshot.reading or Reading()
    facts = asdict(reading)
    del facts["requested_at_s"]  # seconds since boot mean nothing elsewhere
    facts["sensors"] = [name for name, _ in snapshot.temperatures()]
    link = snapshot.link
    facts["link"] = None if link.route is None else link.route._asdict()
    facts["connection_attempts"] = link.connection_attempts
    return dump_json({"battery": snapshot.battery, "address": snapshot.address, **facts})


def reading_metrics(snapshot: Snapshot) -> str:
    """Return one reading in Prometheus' text format, as /metrics shows it."""
    return generate_latest(BatteryCollector([snapshot])).decode()


def dump_json(value: Any) -> str:
    """Return JSON; data classes become objects, dates ISO 8601, frozensets sorted lists."""

    def simple(part: Any) -> Any:
        if is_dataclass(part):
            return asdict(part)  # type: ignore[arg-type] # no class is shown
        if isinstance(part, frozenset):
            return sorted(part)
        if isinstance(part, date):
            return part.isoformat()
        raise TypeError(part)

    return json.dumps(value, indent=2, default=simple, ensure_ascii=False)
