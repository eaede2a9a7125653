"""A fake exporter over real HTTP: serves the API of docs/api.md, and the files of the page."""

import json
import math
import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from tests.support.paths import PROJECT

PAGE: Final = PROJECT / "exporter" / "web" / "page"
CSP: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".webmanifest": "application/manifest+json",
}
PAUSE_S: Final = 600.0
HISTORY_S: Final = 12 * 3600

Json = dict[str, Any]


def reading(age_s: float = 4.0, **changes: Any) -> Json:
    """Return the reading of a healthy battery."""
    temperatures = changes.get("temperatures_c", [12.8, 13.1])
    return {
        "read_unix_s": time.time() - age_s,
        "remaining_ah": 131.0,
        "nominal_ah": 200.0,
        "full_ah": None,
        "rsoc_ratio": 0.66,
        "voltage_v": 13.26,
        "current_a": -2.77,
        "power_w": -36.7,
        "time_to_empty_s": 170000.0,
        "time_to_full_s": None,
        "cycles": 19,
        "cell_count": 4,
        "cells": [
            {"number": number, "voltage_v": volts, "balancing": False}
            for number, volts in enumerate((3.314, 3.316, 3.312, 3.318), start=1)
        ],
        "cell_spread_v": 0.006,
        "temperatures_c": temperatures,
        "sensors": [f"ntc{number}" for number in range(1, len(temperatures) + 1)],
        "charge_fet_on": True,
        "discharge_fet_on": True,
        "heater_on": None,
        "factory_mode": None,
        "protections": [],
        "protection_events": {"short_circuit": 1, "charge_undertemperature": 14},
        "restarts": 3,
        **changes,
    }


def battery(name: str = "camper", **changes: Any) -> Json:
    """Return a battery that was read a moment ago."""
    return {
        "name": name,
        "address": "A4:C1:38:00:00:01",
        "up": True,
        "polling": False,
        "max_age_s": 120.0,
        "paused_until_unix_s": None,
        "last_success_unix_s": time.time() - 4,
        "failure": None,
        "reading": reading(),
        "morning": {"left_ah": 96.4, "enough": "yes"},
        "identity": {
            "hardware": "JBD-SP04S034-L4S-200A-B-U",
            "software": "8.3",
            "manufactured": "2022-08-12",
            "profile": "nus",
        },
        "settings": None,
        "thresholds": thresholds(),
        "link": {
            "rssi_dbm": -60,
            "polls": 1412,
            "failures": 3,
            "connection_attempts": 1415,
            "held_s": 312.4,
            "requests": 2824,
            "resends": 2,
            "frame_errors": 0,
            "poll_duration_s": 0.27,
            "route": {
                "transport": "direct",
                "adapter": "hci0",
                "style": "fast",
                "since_unix_s": time.time() - 3600.0,
            },
        },
        **changes,
    }


def thresholds(low: Json | None = None, critical: Json | None = None) -> Json:
    """Return those of a battery of 200 Ah without an option, or others in one unit."""
    nothing = {"remaining_ah": None, "rsoc_ratio": None}
    return {
        "low": {"remaining_ah": 40.0, "rsoc_ratio": 0.2} if low is None else nothing | low,
        "critical": {"remaining_ah": 20.0, "rsoc_ratio": 0.1}
        if critical is None
        else nothing | critical,
    }


def settings(age_s: float = 3 * 3600.0, **changes: Any) -> Json:
    """Return the limits that a 4S battery of 200 Ah may have."""
    values = {
        "cell_overvoltage_v": 3.65,
        "cell_undervoltage_v": 2.5,
        "pack_overvoltage_v": 14.6,
        "pack_undervoltage_v": 10.0,
        "charge_overtemperature_c": 75.0,
        "charge_undertemperature_c": 0.0,
        "discharge_overtemperature_c": 75.0,
        "discharge_undertemperature_c": -10.0,
        "charge_overcurrent_a": 220.0,
        "discharge_overcurrent_a": -220.0,
        **changes,
    }
    return {"read_unix_s": time.time() - age_s, "mode_left": True, "values": values}


def bank(name: str, batteries: Sequence[Json], wiring: str = "parallel", **changes: Any) -> Json:
    """Return a bank of batteries; in parallel its total is theirs, in series the least of them."""
    readings = [each["reading"] for each in batteries]
    total = None
    if all(readings):
        combine = sum if wiring == "parallel" else min
        total = {
            key: combine(one[key] for one in readings)
            for key in ("remaining_ah", "nominal_ah", "current_a", "power_w")
        }
        total |= {key: readings[0][key] for key in ("time_to_empty_s", "time_to_full_s")}
        total["rsoc_ratio"] = total["remaining_ah"] / total["nominal_ah"]
        total["voltage_v"] = sum(one["voltage_v"] for one in readings)
        total["voltage_v"] /= len(readings) if wiring == "parallel" else 1
        total["full_ah"] = None
        total |= {"rsoc_difference_ratio": 0.02, "current_difference_a": 0.4}
    return {
        "name": name,
        "wiring": wiring,
        "batteries": [each["name"] for each in batteries],
        "batteries_read": sum(one is not None for one in readings),
        "total": total,
        "morning": total and {"left_ah": total["remaining_ah"] * 0.7, "enough": "yes"},
        **changes,
    }


def failure(reason: str, ago_s: float, error: str = "not seen in 10 s: ...") -> Json:
    """Return the failure of a battery whose polls have failed for `ago_s`."""
    return {"reason": reason, "error": error, "since_unix_s": time.time() - ago_s}


def charging(name: str = "garage") -> Json:
    """Return a battery that is charging and balancing."""
    cells = [
        {"number": number, "voltage_v": volts, "balancing": volts > 3.42}
        for number, volts in enumerate((3.401, 3.412, 3.436, 3.409), start=1)
    ]
    return battery(
        name,
        reading=reading(
            remaining_ah=91.4,
            nominal_ah=100.0,
            rsoc_ratio=0.91,
            voltage_v=13.66,
            current_a=8.4,
            power_w=114.7,
            time_to_empty_s=None,
            time_to_full_s=3700.0,
            cells=cells,
            cell_spread_v=0.035,
            heater_on=False,
        ),
    )


def flaky(name: str = "flaky") -> Json:
    """Return a battery at the edge of range, whose last poll failed."""
    return battery(
        name,
        up=False,
        last_success_unix_s=time.time() - 70,
        failure=failure("link_lost", 8, "the connection ended in mid-poll"),
        reading=reading(
            70,
            remaining_ah=58.2,
            nominal_ah=100.0,
            rsoc_ratio=0.58,
            current_a=0.0,
            power_w=0.0,
            time_to_empty_s=None,
        ),
    )


def cold(name: str = "cold") -> Json:
    """Return a battery that is nearly empty, and too cold to be charged."""
    return battery(
        name,
        reading=reading(
            remaining_ah=6.5,
            nominal_ah=100.0,
            rsoc_ratio=0.065,
            voltage_v=12.61,
            current_a=-0.94,
            power_w=-11.9,
            time_to_empty_s=24900.0,
            temperatures_c=[-3.4, -2.9],
            charge_fet_on=False,
            protections=["charge_undertemperature"],
        ),
    )


def missing(name: str = "missing") -> Json:
    """Return a battery that has not been found for three hours."""
    return battery(
        name,
        up=False,
        last_success_unix_s=time.time() - 10900,
        failure=failure(
            "not_found",
            10800,
            "not seen in 10 s: is it switched on and near, and the phone app closed?",
        ),
        reading=None,
    )


def paused(name: str = "paused", left_s: float = 540.0) -> Json:
    """Return a battery that is released for the phone app."""
    return battery(name, paused_until_unix_s=time.time() + left_s, reading=None)


def unread(name: str = "new") -> Json:
    """Return a battery that was never read."""
    nothing = {"polls": 0, "failures": 0, "connection_attempts": 0, "held_s": 0.0}
    quiet = {"rssi_dbm": None, "requests": 0, "resends": 0, "frame_errors": 0}
    return battery(
        name,
        polling=True,
        up=None,
        last_success_unix_s=None,
        reading=None,
        identity=None,
        link={**nothing, **quiet, "poll_duration_s": None, "route": None},
    )


def samples(each: Json, until_s: float = 0.0) -> list[list[float]]:
    """Return twelve hours of samples that end `until_s` ago with the battery's charge."""
    now = time.time()
    shown = each["reading"] or {"remaining_ah": 74.0, "nominal_ah": 100.0}
    last, nominal = shown["remaining_ah"], shown["nominal_ah"]

    def charge(ago_s: float) -> float:
        hours = ago_s / 3600
        wave = 0.12 * nominal * (math.sin(hours / 12 * 2 * math.pi) + 0.02 * hours)
        return float(round(min(nominal, max(0.0, last + wave)), 2))

    times = range(HISTORY_S - 120, int(until_s), -120)
    return [[now - ago_s, charge(ago_s), -1.0] for ago_s in times]


@dataclass
class FakeExporter:
    """Serves on a free port of loopback from its own threads, until `close`."""

    batteries: list[Json]
    history: dict[str, list[list[float]]] = field(default_factory=dict)
    banks: list[Json] = field(default_factory=list)
    alive_s: float | None = 10.0
    """Interval of `alive` events; None: nothing follows the first event."""
    refuses: int | None = None
    """Status of every response below /api/; None: it serves them."""
    full: bool = False
    """Whether further streams get 503."""
    port: int = 0
    version: str = "0.1.0"
    ahead_s: float = 0.0
    """How far its clock is ahead of the browser's."""

    def __post_init__(self) -> None:
        self.posts: list[str] = []
        self.paths: list[str] = []
        self.streams: set[queue.Queue[tuple[str, Json] | None]] = set()
        handler = type("Bound", (_Handler,), {"exporter": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def close(self) -> None:
        """End every stream and stop listening; a second call does nothing."""
        if not self._thread.is_alive():
            return
        self.end_streams()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def end_streams(self) -> None:
        """End the streams, as a restart does."""
        for stream in list(self.streams):
            stream.put(None)

    def publish(self, changed: Json, banks: Sequence[Json] = ()) -> None:
        """Replace one battery and send the event, with its bank, to every stream."""
        self.batteries = [
            changed if each["name"] == changed["name"] else each for each in self.batteries
        ]
        for stream in list(self.streams):
            data = {"now_unix_s": self.now_unix_s(), "battery": changed, "banks": banks}
            stream.put(("battery", data))

    def now_unix_s(self) -> float:
        """Return the time of its clock."""
        return time.time() + self.ahead_s

    def state(self) -> Json:
        """Return the response of GET /api/v1/batteries."""
        return {
            "version": 1,
            "exporter": self.version,
            "now_unix_s": self.now_unix_s(),
            "poll_interval_s": 30,
            "metrics_path": "/metrics",
            "batteries": self.batteries,
            "banks": self.banks,
        }

    def change(self, path: str, name: str) -> Json:
        """Release or resume a battery."""
        self.posts.append(f"{path} {name}")
        now = next(each for each in self.batteries if each["name"] == name)
        until = time.time() + PAUSE_S if path.endswith("release") else None
        changed = {**now, "paused_until_unix_s": until}
        self.publish(changed)
        return changed


class _Handler(BaseHTTPRequestHandler):
    exporter: FakeExporter

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.exporter.paths.append(path)
        if path.startswith("/api/") and self.exporter.refuses is not None:
            self._answer(self.exporter.refuses, "text/plain", b"no")
        elif path == "/api/v1/stream" and self.exporter.full:
            self._answer(503, "text/plain", b"no")
        elif path == "/api/v1/batteries":
            self._json(self.exporter.state())
        elif path == "/api/v1/history":
            listed = [{"name": k, "samples": v} for k, v in self.exporter.history.items()]
            now_unix_s = self.exporter.now_unix_s()
            self._json({"version": 1, "now_unix_s": now_unix_s, "batteries": listed})
        elif path == "/api/v1/stream":
            self._stream()
        else:
            name = "index.html" if path == "/" else path.removeprefix("/page/")
            file = PAGE / name
            if (path == "/" or path.startswith("/page/")) and file.is_file():
                self._answer(200, TYPES[file.suffix], file.read_bytes())
            else:
                self._answer(404, "text/plain", b"nothing here")

    def do_HEAD(self) -> None:
        assert self.path == "/api/v1/stream"
        self.send_response(self.exporter.refuses or (503 if self.exporter.full else 200))
        self.end_headers()

    def do_POST(self) -> None:
        parts = urlsplit(self.path)
        if self.exporter.refuses is not None:
            self._answer(self.exporter.refuses, "text/plain", b"no")
        else:
            self._json(self.exporter.change(parts.path, parse_qs(parts.query)["battery"][0]))

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        events: queue.Queue[tuple[str, Json] | None] = queue.Queue()
        events.put(("batteries", self.exporter.state()))
        self.exporter.streams.add(events)
        last = time.monotonic()
        try:
            while True:
                try:
                    item = events.get(timeout=0.1)
                except queue.Empty:
                    self.wfile.write(b":\n\n")  # fails when the client is gone
                    every = self.exporter.alive_s
                    if every is None or time.monotonic() - last < every:
                        continue
                    item = ("alive", {"now_unix_s": self.exporter.now_unix_s()})
                    last = time.monotonic()
                if item is None:
                    return
                self.wfile.write(f"event: {item[0]}\ndata: {json.dumps(item[1])}\n\n".encode())
        except OSError:
            return
        finally:
            self.exporter.streams.discard(events)

    def _json(self, value: Json) -> None:
        self._answer(200, "application/json", json.dumps(value).encode())

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", CSP)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        """Keep the test's output clean."""
