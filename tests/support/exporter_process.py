"""The exporter as a process of its own, on a port that the kernel chooses."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

START_S: Final = 20.0  # a busy machine takes seconds for the imports
LISTENING: Final = "0A"  # the state of a socket in /proc/net/tcp
TIMEOUT_HEADER: Final = "X-Prometheus-Scrape-Timeout-Seconds"


@dataclass(slots=True)
class ExporterProcess:
    """A started exporter."""

    process: subprocess.Popen[bytes]
    started_s: float  # by time.monotonic
    errors: Path  # its standard error, which can be read while it runs
    port: int = 0  # known once it listens

    def get(
        self, path: str = "/metrics", host: str = "127.0.0.1", **headers: str
    ) -> httpx.Response:
        return httpx.get(f"http://{host}:{self.port}{path}", headers=headers, timeout=30.0)

    def wait_until_listening(self) -> None:
        """Wait until the exporter listens on a TCP port, and store the port."""
        while not (port := listening_port(self.process.pid)):
            assert self.process.poll() is None, self.log()
            assert time.monotonic() - self.started_s < START_S, self.log()
            time.sleep(0.02)
        self.port = port

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal; return the exit status and the log."""
        self.process.send_signal(number)
        status = self.process.wait(timeout=60)
        return status, self.log()

    def log(self) -> str:
        """Return the log so far."""
        return self.errors.read_text(encoding="utf-8")

    def status(self, key: str) -> int:
        """Return a number from /proc/PID/status: memory in kB, or a count."""
        text = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        found = re.search(rf"{key}:\s+(\d+)", text)
        assert found
        return int(found[1])

    def cpu_ticks(self) -> int:
        """Return the processor time so far in hundredths of a second."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii")
        user, system = stat.rpartition(")")[2].split()[11:13]
        return int(user) + int(system)


def listening_port(pid: int) -> int:
    """Return the TCP port on which a process listens, or 0 if there is none yet."""
    inodes = set()
    try:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            inodes.add(str(descriptor.readlink()).removeprefix("socket:[").removesuffix("]"))
    except FileNotFoundError:  # a descriptor was closed, or the process has ended
        return 0
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text(encoding="ascii").splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == LISTENING and inode in inodes:
                return int(local.rpartition(":")[2], 16)
    return 0


def command(*arguments: str) -> list[str]:
    """Return the command line that starts the exporter with these arguments."""
    return [sys.executable, "-m", "exporter", *arguments]


@contextmanager
def started(words: Sequence[str], pass_fds: Sequence[int] = ()) -> Iterator[ExporterProcess]:
    """Start a command without waiting; kill it at the end if it still runs."""
    with tempfile.NamedTemporaryFile() as errors:
        process = subprocess.Popen(
            words,
            stderr=errors,
            env=os.environ | {"PYTHONWARNINGS": "error"},
            pass_fds=pass_fds,
        )
        try:
            yield ExporterProcess(process, time.monotonic(), Path(errors.name))
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


@contextmanager
def running(words: Sequence[str], pass_fds: Sequence[int] = ()) -> Iterator[ExporterProcess]:
    """Start a command; yield when it listens."""
    with started(words, pass_fds) as exporter:
        exporter.wait_until_listening()
        yield exporter


@contextmanager
def running_demo(*arguments: str, prefix: Sequence[str] = ()) -> Iterator[ExporterProcess]:
    """Start the demo through the command `prefix`; yield when it listens."""
    with running([*prefix, *command("demo", "--web.listen-address", ":0", *arguments)]) as exporter:
        yield exporter


def remaining_ah(text: str) -> dict[str, float]:
    """Return the remaining Ah of every battery in an exposition."""
    found = re.findall(
        r'^bms_remaining_capacity_amperehours{battery="(.*)"} (.*)$', text, re.MULTILINE
    )
    return {name: float(number) for name, number in found}


def free_port() -> int:
    """Return a free port for a program that needs a number; another program may take it first."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
