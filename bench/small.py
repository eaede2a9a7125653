"""What the exporter costs a small machine: memory, start, CPU time, wake-ups.

Four virtual batteries reply with recorded frames. For the direct link, bench/direct.py simulates the
kernel in the same process. For bluetoothd, `demo --replay` loads bleak and D-Bus. The kernel's own
Bluetooth is in none of the figures.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from process import ENVIRONMENT, Exporter, Process, demo, direct, running
from table import machine, show
from tests.support.exporter_process import free_port

BATTERIES: Final = 4
SCRAPES: Final = 30
DAY_S: Final = 86_400
SLOW: Final = 0.1  # of a core
PERIOD_US: Final = 10_000  # a slow core runs for 1 ms of each 10 ms
PEER: Final = """
import time
from prometheus_client import Gauge, start_http_server
gauge = Gauge("bms", "As many series as four batteries have.", ["battery", "name"])
for number in range(308):
    gauge.labels(str(number // 77), str(number % 77)).set(number)
start_http_server(0, addr="127.0.0.1")
print(flush=True)
time.sleep(3600)
"""
LIBRARIES: Final = """
import asyncio, cattrs, logfmter, tornado.httpserver, tornado.web, yaml
import prometheus_client, systemd_watchdog
print(flush=True)
__import__("time").sleep(3600)
"""
BARE: Final = 'print(flush=True); __import__("time").sleep(3600)'
LOADED: Final = """
import sys, importlib._bootstrap as machinery
def pages():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4
open_, found, load = [], [], machinery._load_unlocked
def loading(spec):
    before = pages()
    open_.append(0)
    try:
        return load(spec)
    finally:
        grown, inside = pages() - before, open_.pop()
        if open_:
            open_[-1] += grown
        found.append((spec.name, grown - inside))
machinery._load_unlocked = loading
sys.path.insert(0, sys.argv.pop(1))
import direct
called = set()
def note(frame, event, _):
    if event == "call" and frame.f_code.co_name != "<module>":
        called.add(frame.f_globals.get("__name__"))
sys.setprofile(note)
try:
    print("ready", flush=True)
    direct.main()
finally:
    sys.setprofile(None)
    for name, kilobytes in found:
        print(name, kilobytes, int(name in called))
"""


@contextmanager
def python(code: str) -> Iterator[Process]:
    """Run Python code that prints a line when it is ready; kill it at the end."""
    words = [sys.executable, "-c", code]
    with subprocess.Popen(words, stdout=subprocess.PIPE, env=ENVIRONMENT) as popen:
        process = Process(popen)
        try:
            assert popen.stdout
            popen.stdout.readline()
            yield process
        finally:
            popen.kill()


def memory(folder: Path, times: int) -> None:
    rows: dict[str, list[tuple[float, float, float]]] = {}
    for _ in range(times):
        for name, code in (
            ("Python alone", BARE),
            ("prometheus_client's own server, as many series", PEER),
            ("the libraries that the direct link takes", LIBRARIES),
        ):
            with python(code) as process:
                note(rows, name, process)
        for link, words in (("direct", direct), ("as through bluetoothd", demo)):
            with running(words(folder, BATTERIES)) as exporter:
                note(rows, f"exporter, {link}, started", exporter)
                for _ in range(SCRAPES):
                    exporter.get()
                note(rows, f"exporter, {link}, {BATTERIES} batteries, {SCRAPES} scrapes", exporter)
    base = statistics.median(one[0] for one in rows["the libraries that the direct link takes"])
    show(
        "Memory, medians",
        ("", "RSS, MiB", "of it private, MiB", "ratio to these libraries"),
        [
            (
                name,
                statistics.median(one[0] for one in values) / 1024,
                statistics.median(one[1] for one in values) / 1024,
                statistics.median(one[0] for one in values) / base,
            )
            for name, values in rows.items()
        ],
    )


def note(rows: dict[str, list[tuple[float, float, float]]], name: str, process: Process) -> None:
    figures = (process.status("VmRSS"), process.status("RssAnon"), process.cpu_s())
    rows.setdefault(name, []).append(figures)


def loaded(folder: Path) -> None:
    """Show the loaded packages, their memory, and how many of their modules are never called."""
    program, *arguments = direct(folder, BATTERIES)[1:]
    port = free_port()
    words = [str(Path(program).parent), *arguments, f"--web.listen-address=127.0.0.1:{port}"]
    with subprocess.Popen(
        [sys.executable, "-c", LOADED, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=ENVIRONMENT,
        text=True,
    ) as popen:
        exporter = Exporter(popen, port=port)  # type: ignore[arg-type]  # its output is text
        for _ in range(200):
            try:
                exporter.get()
                break
            except OSError:
                time.sleep(0.05)
        exporter.get()
        popen.terminate()
        assert popen.stdout
        lines = [line.split() for line in popen.stdout if line.count(" ") == 2]
    kilobytes: Counter[str] = Counter()
    modules: Counter[str] = Counter()
    idle: Counter[str] = Counter()
    for name, grown, was_called in lines:
        package = name.partition(".")[0]
        if package in sys.stdlib_module_names:
            package = "standard library" if package not in ("ssl", "_ssl") else "ssl"
        kilobytes[package] += int(grown)
        modules[package] += 1
        idle[package] += not int(was_called)
    show(
        "Imported packages: memory that the import added (without its own imports), and modules of "
        "which no Python function was called while four batteries were read and served",
        ("package", "MiB", "modules", "not called"),
        [
            (name, amount / 1024, modules[name], idle[name])
            for name, amount in kilobytes.most_common(16)
        ],
    )


def start(folder: Path, times: int, slow: "Slow") -> None:
    """Measure the time from the start to listening, first response and first reading."""
    rows: dict[str, list[tuple[float, ...]]] = {}
    for _ in range(times):
        for name, limited in (("this core", False), (f"{SLOW:.0%} of it", True))[: 1 + slow.can]:
            with (
                slow.shell(direct(folder, BATTERIES), limited=limited) as words,
                running(words) as exporter,
            ):
                listening_s = time.monotonic() - exporter.began_s
                started_cpu_s = exporter.cpu_s()
                exporter.get("/-/ready")
                answered_s = time.monotonic() - exporter.began_s
                assert "bms_voltage_volts{" in exporter.text()
                reading_s = time.monotonic() - exporter.began_s
                exporter.get()
                took = []
                for _ in range(9):
                    began_s = time.monotonic()
                    exporter.get()
                    took.append(time.monotonic() - began_s)
                rows.setdefault(name, []).append(
                    (
                        started_cpu_s,
                        listening_s,
                        answered_s,
                        reading_s,
                        1000 * statistics.median(took),
                        exporter.status("VmRSS") / 1024,
                    )
                )
    show(
        f"Start, medians of {times}; a slow core: {slow.how}",
        (
            "",
            "processor time until it listens, s",
            "listens after, s",
            "first answer (/-/ready), s",
            "first reading, s",
            "scrape of fresh readings, ms",
            "RSS, MiB",
        ),
        [
            (name, *(statistics.median(column) for column in zip(*values, strict=True)))
            for name, values in rows.items()
        ],
    )


class Slow:
    """Limits a process to a part of a core by a control group."""

    def __init__(self) -> None:
        second, first = Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/cpu")
        controllers = second / "cgroup.controllers"
        if controllers.exists() and "cpu" in controllers.read_text().split():
            self._group = second / f"bms-bench-{os.getpid()}"
            self._limit = {"cpu.max": f"{int(SLOW * PERIOD_US)} {PERIOD_US}"}
            self.how = f"cgroup v2, cpu.max {SLOW * PERIOD_US:g} of {PERIOD_US} us"
        else:
            self._group = first / f"bms-bench-{os.getpid()}"
            self._limit = {
                "cpu.cfs_period_us": str(PERIOD_US),
                "cpu.cfs_quota_us": str(int(SLOW * PERIOD_US)),
            }
            self.how = f"cgroup v1, cpu.cfs_quota_us {SLOW * PERIOD_US:g} of {PERIOD_US}"

        self.can = os.access(self._group.parent, os.W_OK)
        if not self.can:
            self.how = f"not measured: {self._group.parent} is not writable"

    @contextmanager
    def shell(self, words: Sequence[str], *, limited: bool) -> Iterator[Sequence[str]]:
        """Yield a command that runs `words`, with the limit if `limited`."""
        if not limited:
            yield words
            return
        self._group.mkdir()
        try:
            for name, value in self._limit.items():
                (self._group / name).write_text(value)
            enter = f"echo $$ >{self._group}/cgroup.procs; exec "
            yield ["sh", "-c", enter + '"$@"', "sh", *words]
        finally:
            for _ in range(100):
                try:
                    self._group.rmdir()
                    break
                except OSError:  # its last process has not ended yet
                    time.sleep(0.02)


def day(folder: Path, minutes: float) -> None:
    """Scrape two exporters at their intervals and leave a third alone, all at the same time."""
    words = direct(folder, BATTERIES)
    with running(words) as often, running(words) as seldom, running(words) as alone:
        plan: list[tuple[str, Exporter, float]] = [
            ("a scrape every 15 s", often, 15.0),
            ("a scrape every 60 s", seldom, 60.0),
            ("no scrapes", alone, float("inf")),
        ]
        for _, exporter, _ in plan:
            exporter.get()  # the first reading needs more requests
        time.sleep(15.0)  # the first connections have ended
        before = [(one.cpu_s(), wake_ups(one)) for _, one, _ in plan]
        began_s = time.monotonic()
        due = {name: began_s for name, _, _ in plan[:2]}
        counted: Counter[str] = Counter()
        while (now_s := time.monotonic()) < began_s + 60 * minutes:
            for name, exporter, interval_s in plan[:2]:
                if now_s >= due[name]:
                    due[name] += interval_s
                    exporter.get()
                    counted[name] += 1
            time.sleep(0.1)
        took_s = time.monotonic() - began_s
        rows = []
        for (name, exporter, _), (cpu_s, switches) in zip(plan, before, strict=True):
            used_s = exporter.cpu_s() - cpu_s
            scrapes = counted[name]
            rows.append(
                (
                    name,
                    scrapes,
                    1000 * used_s / scrapes if scrapes else "",
                    used_s / took_s * DAY_S,
                    f"{used_s / took_s:.4%}",
                    wake_ups(exporter) - switches,
                    exporter.status("VmRSS") / 1024,
                )
            )
    show(
        f"A day, extrapolated from {took_s:.0f} s in which every scrape read all {BATTERIES}",
        (
            "",
            "scrapes",
            "processor time a scrape and its readings, ms",
            "processor time a day, s",
            "of one core",
            f"voluntary wake-ups in {took_s:.0f} s",
            "RSS, MiB",
        ),
        rows,
    )


def wake_ups(process: Process) -> int:
    return process.status("voluntary_ctxt_switches")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=3.0, help="for the figures of a day")
    parser.add_argument("--times", type=int, default=5)
    options = parser.parse_args()
    print(f"{machine('bleak', 'tornado', 'prometheus-client')}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with running(direct(folder, BATTERIES)) as exporter:
            exporter.get()  # writes bytecode
        parts: Sequence[Callable[[], None]] = (
            lambda: memory(folder, options.times),
            lambda: loaded(folder),
            lambda: start(folder, options.times, Slow()),
            lambda: day(folder, options.minutes),
        )
        for part in parts:
            part()


if __name__ == "__main__":
    main()
