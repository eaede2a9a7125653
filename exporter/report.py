"""What `read` and `scan` print: text for people, JSON and YAML for machines."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import date
from typing import Any

import yaml
from prometheus_client import generate_latest

from exporter.config import MAX_NAME
from exporter.discovery import Advertisement, why_jbd
from exporter.metrics import BatteryCollector, registry_of
from exporter.poller import Snapshot
from exporter.reading import Reading


def reading_text(snapshot: Snapshot) -> str:
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
    for number, celsius in enumerate(basic.temperatures_c, start=1):
        yield f"NTC {number}", "open or shorted" if celsius is None else f"{celsius:.1f} °C"
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
    if identity := reading.identity:
        yield "hardware", identity.hardware or "unknown"
        yield "software", identity.software
        yield "manufactured", str(identity.manufactured or "unknown")
        yield "profile", identity.profile


def _on(switch: object) -> str:
    return "on" if switch else "off"


def reading_json(snapshot: Snapshot) -> str:
    """Return one reading as a JSON object; every unit is in its name."""
    reading = snapshot.reading or Reading()
    facts = asdict(reading)
    del facts["requested_at_s"]  # by a clock that starts with the machine
    return to_json({"battery": snapshot.battery, "address": snapshot.address, **facts})


def reading_metrics(snapshot: Snapshot) -> str:
    """Return one reading as /metrics would show it."""
    return generate_latest(registry_of(BatteryCollector([snapshot]))).decode()


def to_json(value: Any) -> str:
    """Return data that may hold dates and sets as JSON."""

    def simple(part: Any) -> Any:
        if isinstance(part, frozenset):
            return sorted(part)
        if isinstance(part, date):
            return part.isoformat()
        raise TypeError(part)

    return json.dumps(value, indent=2, default=simple, ensure_ascii=False)


def scan_table(heard: Sequence[Advertisement]) -> str:
    """Return the devices heard, JBD batteries first, the strongest of each first."""
    rows = [("name", "address", "RSSI", "why a JBD battery")]
    rows += [
        (
            printable(advertisement.name) or "(no name)",
            advertisement.address,
            f"{advertisement.rssi_dbm} dBm",
            ", ".join(why_jbd(advertisement)) or "not taken for one",
        )
        for advertisement in sorted(heard, key=lambda a: (not why_jbd(a), -a.rssi_dbm))
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]])
        for row in rows
    )


def scan_yaml(batteries: Sequence[Advertisement]) -> str:
    """Return a configuration with these batteries, ready to paste."""
    names: list[str] = []
    for advertisement in batteries:
        name = printable(advertisement.name)[:MAX_NAME].strip() or advertisement.address
        names.append(f"{name} {advertisement.address}"[-MAX_NAME:] if name in names else name)
    entries = [
        {"name": name, "address": advertisement.address}
        for name, advertisement in zip(names, batteries, strict=True)
    ]
    return yaml.safe_dump({"batteries": entries}, sort_keys=False, allow_unicode=True).rstrip()


def printable(name: str) -> str:
    """Return what a stranger's device calls itself, safe for a terminal."""
    return "".join(character for character in name if character.isprintable()).strip()
