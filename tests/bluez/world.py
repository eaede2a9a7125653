"""The interface of an environment: batteries, bluetoothd and an adapter around the exporter."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, Self

import httpx
from prometheus_client.parser import text_string_to_metric_families

from control import Info

Samples = Mapping[tuple[str, tuple[tuple[str, str], ...]], float]

ORDINARY_USER: Final = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
# bleak logs this once if there is no bluetoothctl.
HARMLESS: Final = "Could not determine BlueZ version"


# Battery 0 is the MOBILEKTRO: it advertises ff00 and has only the Nordic UART; 1 to 3 have the
# other profiles, 4 to 7 are like 1.
class World(Protocol):
    """The environment of an exporter."""

    @property
    def links(self) -> Sequence[str]:
        """Return the values of `link` that work here."""

    @property
    def patience(self) -> float:
        """Return the factor by which it is slower than real hardware."""

    def send(self, request: Mapping[str, Any]) -> Any:
        """Send one request of control.py; return the response."""

    def bluetoothd(self, action: str) -> None:
        """Start, stop, kill or restart bluetoothd, and wait until that is done."""

    def adapter(self, action: str) -> None:
        """Switch the adapter off or on, unplug or plug it, and wait until that is done."""

    def heal(self) -> None:
        """Restore bluetoothd and the adapter."""

    def environment(self) -> Mapping[str, str]:
        """Return the environment variables of the exporter."""

    def command(self) -> Sequence[str]:
        """Return the command that starts the exporter here."""


def set_faults(world: World, battery: int, **faults: Any) -> None:
    """Replace all faults of a battery; without faults it is healthy."""
    world.send({"do": "faults", "battery": battery, "set": faults})


def info(world: World, battery: int) -> Info:
    """Return the battery's own record of its connections and requests."""
    answer: Info = world.send({"do": "info", "battery": battery})
    return answer


def wait_disconnected(world: World, battery: int, *, timeout_s: float) -> Info:
    """Wait until the battery is disconnected; fail after `timeout_s`."""
    end_s = time.monotonic() + timeout_s
    while (seen := info(world, battery))["connected"]:
        assert time.monotonic() < end_s, f"battery {battery} is still connected"
        time.sleep(0.05)
    return seen


class Exporter:
    """A running exporter, scraped over HTTP as Prometheus does."""

    def __init__(
        self, world: World, config: str, folder: Path, *, through: Sequence[str] = ()
    ) -> None:
        """Start the exporter, as arguments of `through` if given; return when it listens."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            self._port = server.getsockname()[1]
        path = folder / "config.yaml"
        path.write_text(config, encoding="utf-8")
        self._log = folder / f"log-{self._port}"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*through, *world.command(), "--config.file", str(path), "--log.level", "info",
                 "--web.listen-address", f"127.0.0.1:{self._port}"],
                stderr=log,
                env=os.environ | world.environment(),
            )  # fmt: skip
        self._patience = world.patience
        end_s = time.monotonic() + 20 * self._patience
        while not self._listens():
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < end_s, self.log()
            time.sleep(0.05)

    def _listens(self) -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self._port)) == 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        sys.stdout.write(self.log())  # pytest shows it when a test fails

    @property
    def pid(self) -> int:
        return self._process.pid

    def log(self) -> str:
        """Return everything logged so far."""
        return self._log.read_text(encoding="utf-8")

    def warnings(self) -> list[str]:
        """Return the log lines above level info, except HARMLESS."""
        lines = self.log().splitlines()
        return [line for line in lines if not re.search(f"level=info|{HARMLESS}", line)]

    def scrape(self, battery: str | None = None) -> Samples:
        """Return the samples of /metrics, or of /probe for one battery, by name and labels."""
        text = self.get(f"/probe?target={battery}" if battery else "/metrics")
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def get(self, path: str) -> str:
        """Return the body of a response."""
        return httpx.get(f"http://127.0.0.1:{self._port}{path}", timeout=120).text

    def stop(self) -> int:
        """Stop the exporter with SIGTERM, as systemd does; return its exit status."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(60 * self._patience)

    def kill(self) -> None:
        """Kill the exporter, which then cannot clean up."""
        self._process.kill()
        self._process.wait()


def value(samples: Samples, name: str, battery: str, **labels: str) -> float | None:
    """Return the value of one sample, or None if it is absent."""
    return samples.get((name, tuple(sorted({"battery": battery, **labels}.items()))))


def run(world: World, *arguments: str, timeout_s: float = 90.0) -> subprocess.CompletedProcess[str]:
    """Run a command of the exporter and wait until it ends."""
    return subprocess.run(
        [*world.command(), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s * world.patience,
        env=os.environ | world.environment(),
    )
