"""The exporter as a process with virtual batteries: start it, scrape it, read its figures in /proc."""

import http.client
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.support.exporter_process import listening_port
from tests.support.recorded import CELLS, COUNTERS, HARDWARE, MOBILEKTRO

DESCRIPTORS = 1024  # the usual soft limit of shells and systemd; the exporter raises it to 4,096
# As installed: with bytecode, which the first start writes.
ENVIRONMENT = {
    name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
}


@dataclass(slots=True)
class Process:
    """A process, with its memory and CPU time as Linux counts them."""

    popen: subprocess.Popen[bytes]
    began_s: float = field(default_factory=time.monotonic)

    def status(self, key: str) -> int:
        """Return a number from /proc/PID/status: memory in kB, or a count."""
        text = Path(f"/proc/{self.popen.pid}/status").read_text(encoding="ascii")
        found = re.search(rf"^{key}:\s+(\d+)", text, re.MULTILINE)
        assert found
        return int(found[1])

    def cpu_s(self) -> float:
        """Return the CPU time of all threads so far, with a resolution of a nanosecond."""
        threads = Path(f"/proc/{self.popen.pid}/task").iterdir()
        return sum(int((one / "schedstat").read_text().split()[0]) for one in threads) / 1e9


@dataclass(slots=True)
class Exporter(Process):
    """A started exporter."""

    port: int = 0

    def get(self, path: str = "/metrics") -> bytes:
        """Scrape as Prometheus does, but over a new connection each time."""
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        headers = {"Accept-Encoding": "gzip", "Accept": "text/plain;version=0.0.4"}
        client.request("GET", path, headers=headers)
        body = client.getresponse().read()
        client.close()
        return body

    def text(self) -> str:
        """Scrape without compression."""
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        client.request("GET", "/metrics")
        text = client.getresponse().read().decode()
        client.close()
        return text


def recording(folder: Path) -> Path:
    """Write the recorded frames of the reference battery to a file for `demo --replay`."""
    path = folder / "battery.hex"
    frames = (MOBILEKTRO, CELLS, HARDWARE, COUNTERS)
    path.write_text("".join(f"{frame.hex()}\n" for frame in frames), encoding="ascii")
    return path


def demo(folder: Path, batteries: int) -> list[str]:
    """Return the command, without the address, of a demo with so many virtual batteries."""
    file = recording(folder)
    replays = [f"--replay=b{number}={file}" for number in range(batteries)]
    return [sys.executable, "-m", "exporter", "demo", "--log.level", "warning", *replays]


def direct(folder: Path, batteries: int) -> list[str]:
    """Return the command, without the address, that serves them over the direct link."""
    program = Path(__file__).with_name("direct.py")
    return [sys.executable, str(program), str(recording(folder)), f"--batteries={batteries}"]


@contextmanager
def running(words: Sequence[str], *, within_s: float = 120.0) -> Iterator[Exporter]:
    """Start an exporter with the usual limit of open files; yield when it listens; kill it."""
    usual = ["bash", "-c", f'ulimit -S -n {DESCRIPTORS} && exec "$@"', "-"]
    popen = subprocess.Popen(
        [*usual, *words, "--web.listen-address", "127.0.0.1:0"],
        env=ENVIRONMENT,
        stderr=subprocess.DEVNULL,
    )
    exporter = Exporter(popen)
    try:
        while not (port := listening_port(popen.pid)):
            assert popen.poll() is None
            assert time.monotonic() - exporter.began_s < within_s
            time.sleep(0.005)
        exporter.port = port
        yield exporter
    finally:
        popen.send_signal(signal.SIGKILL)
        popen.wait()
