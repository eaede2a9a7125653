"""Rate, latency and CPU time of scrapes, compared with other servers of the same series.

Needs Debian's wrk and prometheus-node-exporter; `make bench-scrapes` installs aiohttp. All readings
are fresh, so no scrape reads a battery. Each scrape formats every number of its snapshots
(exporter/web/exposition.py): a reading that was shown before costs as much as a new one.
"""

import argparse
import asyncio
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

import httpx
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    ProcessCollector,
    disable_created_metrics,
    start_http_server,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.parser import text_string_to_metric_families

PROJECT: Final = Path(__file__).parent.parent
sys.path.insert(0, str(PROJECT))

from tests.support.exporter_process import free_port

OURS: Final = "this exporter"
PYTHON_PEERS: Final = ("prometheus_client", "aiohttp")
CONTENDERS: Final = (OURS, *PYTHON_PEERS, "node_exporter")
PACKAGES: Final = {"wrk": "wrk", "prometheus-node-exporter": "prometheus-node-exporter"}
AS_PROMETHEUS: Final = (
    "Accept: application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
    "Accept-Encoding: gzip",
    "X-Prometheus-Scrape-Timeout-Seconds: 10",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How clients send scrapes."""

    name: str
    clients: int
    headers: tuple[str, ...] = ()


WAYS: Final = (
    Way(name="1 client, keep-alive", clients=1),
    Way(name="8 clients, keep-alive", clients=8),
    Way(name="8 clients, a connection each", clients=8, headers=("Connection: close",)),
    Way(name="1 client as Prometheus: OpenMetrics, gzip", clients=1, headers=AS_PROMETHEUS),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """The results of wrk, and the server's CPU time."""

    median_ms: float
    p99_ms: float
    per_s: float
    cpu_ms: float  # per scrape


# The servers, each in a process of its own.


def exporter(port: int, _text: Path, batteries: int) -> None:
    """Serve virtual batteries as `bms-exporter` does; their readings stay fresh."""
    from exporter.app import ServeOptions, serve  # noqa: PLC0415 - peers have none of it
    from exporter.config.schema import (  # noqa: PLC0415
        BatteryConfig,
        Config,
        Name,
        PollConfig,
        Seconds,
        normal_address,
    )
    from exporter.demo.battery import VirtualBattery  # noqa: PLC0415
    from exporter.demo.day import Day  # noqa: PLC0415
    from exporter.demo.fleet import HEALTHY  # noqa: PLC0415
    from exporter.demo.radio import make_air, make_backend  # noqa: PLC0415

    fleet = {
        f"battery{number:02d}": VirtualBattery(
            address=f"A4:C1:38:00:00:{number:02X}", answers=Day(HEALTHY, time.monotonic).answer
        )
        for number in range(batteries)
    }
    config = Config(
        batteries=tuple(
            BatteryConfig(name=Name(name), address=normal_address(battery.address))
            for name, battery in fleet.items()
        ),
        poll=PollConfig(min_interval_s=Seconds(3600.0), max_age_s=Seconds(86400.0)),
    )
    air = make_air(fleet.values(), connect_s=0.0, disconnect_s=0.0, advertise_every_s=0.01)
    options = ServeOptions(listen_addresses=(f"127.0.0.1:{port}",))
    asyncio.run(serve(lambda: config, options, make_backend(air)))


def make_registry(text: str) -> CollectorRegistry:
    """Return a registry of prometheus_client with the series of an exposition, set once."""
    disable_created_metrics()
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    for family in text_string_to_metric_families(text):
        if not family.samples or family.name.startswith("process_"):
            continue
        labels = tuple(family.samples[0].labels)
        kind = Counter if family.type == "counter" else Gauge
        metric = kind(family.name, family.documentation, labels, registry=registry)
        for sample in family.samples:
            child = metric.labels(**sample.labels) if labels else metric
            child.inc(sample.value)
    return registry


def prometheus_client(port: int, text: Path, _batteries: int) -> None:
    start_http_server(port, "127.0.0.1", make_registry(text.read_text()))[1].join()


def aiohttp(port: int, text: Path, _batteries: int) -> None:
    from aiohttp import web  # noqa: PLC0415 - the other servers must not load it

    registry = make_registry(text.read_text())

    async def metrics(request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        response = web.Response(body=encode(registry), headers={"content-type": content_type})
        response.enable_compression()
        return response

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    web.run_app(app, host="127.0.0.1", port=port, print=None, access_log=None)


def node_exporter(port: int, text: Path, _batteries: int) -> None:
    """Serve the same series with node_exporter's textfile collector."""
    lines = [line for line in text.read_text().splitlines() if "process_" not in line]
    text.with_suffix(".prom").write_text("\n".join([*lines, ""]))
    os.execvp(  # noqa: S606
        "prometheus-node-exporter",
        [
            "prometheus-node-exporter",
            f"--web.listen-address=127.0.0.1:{port}",
            "--web.disable-exporter-metrics",
            "--collector.disable-defaults",
            "--collector.textfile",
            f"--collector.textfile.directory={text.parent}",
            "--log.level=error",
        ],
    )


SERVE: Final[dict[str, Callable[[int, Path, int], None]]] = {
    OURS: exporter,
    "prometheus_client": prometheus_client,
    "aiohttp": aiohttp,
    "node_exporter": node_exporter,
}


# The measurement.


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A running contender."""

    url: str
    pid: int

    def cpu_s(self) -> float:
        """Return the CPU time of all its threads so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime, stime


@contextmanager
def serving(name: str, text: Path, batteries: int) -> Iterator[Server]:
    """Start one contender; yield it when it shows every battery."""
    port = free_port()
    command = [sys.executable, __file__, "--serve", name, str(port), str(text), str(batteries)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            url = f"http://127.0.0.1:{port}/metrics"
            wait_for_batteries(url, batteries)
            yield Server(url=url, pid=process.pid)
        finally:
            process.terminate()


def wait_for_batteries(url: str, batteries: int) -> str:
    """Return the exposition as soon as it shows every battery."""
    end_s = time.monotonic() + 60
    while time.monotonic() < end_s:
        try:
            text = httpx.get(url, timeout=60).text
        except httpx.TransportError:
            time.sleep(0.1)
            continue
        if len(re.findall(r"^bms_up\{.*\} 1(?:\.0)?$", text, re.MULTILINE)) == batteries:
            return text
        time.sleep(0.5)
    raise RuntimeError(f"{url} does not show {batteries} batteries")


def load(server: Server, way: Way, seconds: int) -> Load:
    headers = [part for header in way.headers for part in ("-H", header)]
    command = [
        "wrk",
        "-t1",
        f"-c{way.clients}",
        f"-d{seconds}s",
        "--timeout=60s",
        "--latency",
        *headers,
        server.url,
    ]
    before_s = server.cpu_s()
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    used_s = server.cpu_s() - before_s
    wrong = re.search(r"Non-2xx.*|Socket errors.*", output)
    if wrong:
        raise RuntimeError(f"{server.url}: {wrong[0]}")
    requests = int(find(r"(\d+) requests in", output)[1])
    if not requests:  # a busy machine
        return load(server, way, 2 * seconds)
    return Load(
        median_ms=milliseconds(output, "50%"),
        p99_ms=milliseconds(output, "99%"),
        per_s=float(find(r"Requests/sec:\s+([\d.]+)", output)[1]),
        cpu_ms=1000 * used_s / requests,
    )


def milliseconds(output: str, percentile: str) -> float:
    match = find(rf"{percentile}\s+([\d.]+)(us|ms|s)\b", output)
    return float(match[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[match[2]]


def find(pattern: str, output: str) -> re.Match[str]:
    match = re.search(pattern, output)
    assert match is not None, output
    return match


def measure(batteries: int, rounds: int, seconds: int) -> tuple[int, dict[tuple[Way, str], Load]]:
    """Return the number of series, and the medians of rounds in which all contenders run."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        text = Path(folder) / "metrics"
        servers = {OURS: stack.enter_context(serving(OURS, text, batteries))}
        text.write_text(wait_for_batteries(servers[OURS].url, batteries))
        series = sum(not line.startswith("#") for line in text.read_text().splitlines())
        for name in CONTENDERS[1:]:
            servers[name] = stack.enter_context(serving(name, text, batteries))
        loads: dict[tuple[Way, str], list[Load]] = {}
        for _ in range(rounds):
            for way in WAYS:
                for name, server in servers.items():
                    loads.setdefault((way, name), []).append(load(server, way, seconds))
    return series, {key: median(several) for key, several in loads.items()}


def median(loads: list[Load]) -> Load:
    return Load(
        median_ms=statistics.median(one.median_ms for one in loads),
        p99_ms=statistics.median(one.p99_ms for one in loads),
        per_s=statistics.median(one.per_s for one in loads),
        cpu_ms=statistics.median(one.cpu_ms for one in loads),
    )


def machine() -> str:
    """Return the versions measured and the processor."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*: (.*)$", cpuinfo, re.MULTILINE)
    go = subprocess.run(
        ["prometheus-node-exporter", "--version"], check=True, capture_output=True, text=True
    )
    versions = {
        "this exporter": version("bms-exporter"),
        "tornado": version("tornado"),
        "prometheus_client": version("prometheus-client"),
        "aiohttp": version("aiohttp"),
        "node_exporter": find(r"version (\S+)", go.stdout + go.stderr)[1],
        "CPython": platform.python_version(),
        "Linux": platform.release(),
    }
    return (
        ", ".join(f"{name} {number}" for name, number in versions.items())
        + f"; {os.cpu_count()} cores of {model[1] if model else platform.machine()}"
    )


def main(sizes: list[int], rounds: int, seconds: int) -> None:
    print(f"{machine()}; medians of {rounds} rounds of {seconds} s\n")
    print(
        "Requests per second (median / 99th percentile in ms), CPU time of the server a scrape:\n"
    )
    print(f"| batteries (series) | scraped by | {' | '.join(CONTENDERS)} | ratio (of CPU time) |")
    print("|---|---|" + "---|" * (len(CONTENDERS) + 1))
    for batteries in sizes:
        series, loads = measure(batteries, rounds, seconds)
        for way in WAYS:
            cells = [
                f"{one.per_s:.0f} ({one.median_ms:.2f} / {one.p99_ms:.2f}), {one.cpu_ms:.2f} ms"
                for one in (loads[way, name] for name in CONTENDERS)
            ]
            ours, peers = loads[way, OURS], [loads[way, name] for name in PYTHON_PEERS]
            ratio = (
                f"{ours.per_s / max(peer.per_s for peer in peers):.1f} "
                f"({min(peer.cpu_ms for peer in peers) / ours.cpu_ms:.1f})"
            )
            print(
                f"| {batteries} ({series}) | {way.name} | {' | '.join([*cells, ratio])} |",
                flush=True,
            )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        SERVE[sys.argv[2]](int(sys.argv[3]), Path(sys.argv[4]), int(sys.argv[5]))
        sys.exit()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batteries", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=2)
    options = parser.parse_args()
    for tool, package in PACKAGES.items():
        if shutil.which(tool) is None:
            sys.exit(f"no {tool}: apt-get install {package}")
    main(options.batteries, options.rounds, options.seconds)
