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

# Battery 0 is the MOBILEKTRO: it advertises ff00 and has the Nordic UART only; 1 to 3 have the
# other profiles, 4 to 7 are like 1.
ORDINARY_USER: Final = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
# What bleak says once where there is no bluetoothctl to ask.
OF_NO_CONCERN: Final = "Could not determine BlueZ version"

PROFILES: Final = ("nus", "ff00", "fff0", "ff06", "ff00", "ff00", "ff00", "ff00")


def address(battery: int) -> str:
    """Return the address of battery 0 to 7."""
    return f"A4:C1:38:00:00:{battery + 1:02X}"


class World(Protocol):
    """The environment of an exporter."""

    @property
    def links(self) -> Sequence[str]:
        """Return the values of `link` that work here."""

    @property
    def patience(self) -> float:
        """Return how many times slower than bare metal it is."""

    def ask(self, request: Mapping[str, Any]) -> Any:
        """Pass one request of control.py on; return its answer."""

    def bluetoothd(self, action: str) -> None:
        """Start, stop, kill or restart bluetoothd; return when that is done."""

    def adapter(self, action: str) -> None:
        """Switch the adapter off or on, unplug or plug it; return when that is done."""

    def heal(self) -> None:
        """Put bluetoothd and the adapter back as they were."""

    def environment(self) -> Mapping[str, str]:
        """Return the environment variables of the exporter."""

    def command(self) -> Sequence[str]:
        """Return the command that starts the exporter here."""


def set_faults(world: World, battery: int, **faults: Any) -> None:
    """Replace all of a battery's faults; none given: it is healthy."""
    world.ask({"do": "faults", "battery": battery, "set": faults})


def info(world: World, battery: int) -> Info:
    """Return what the battery itself recorded."""
    answer: Info = world.ask({"do": "info", "battery": battery})
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
        """Start the exporter, perhaps through another command; return when it listens."""
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
        with socket.socket() as asking:
            return asking.connect_ex(("127.0.0.1", self._port)) == 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        sys.stdout.write(self.log())  # pytest shows it where a test fails

    @property
    def pid(self) -> int:
        return self._process.pid

    def log(self) -> str:
        """Return everything logged so far."""
        return self._log.read_text(encoding="utf-8")

    def warnings(self) -> list[str]:
        """Return the log lines above level info, without those of OF_NO_CONCERN."""
        lines = self.log().splitlines()
        return [line for line in lines if not re.search(f"level=info|{OF_NO_CONCERN}", line)]

    def scrape(self, battery: str | None = None) -> Samples:
        """Return the samples of /metrics, or of one battery's /probe, by name and labels."""
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
        """Stop the exporter as systemd does; return its exit status."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(60 * self._patience)

    def kill(self) -> None:
        """Kill the exporter: it cannot clean up."""
        self._process.kill()
        self._process.wait()


def value(samples: Samples, name: str, battery: str, **labels: str) -> float | None:
    """Return one sample, None where it is absent."""
    return samples.get((name, tuple(sorted({"battery": battery, **labels}.items()))))


def run(world: World, *arguments: str, timeout_s: float = 90.0) -> subprocess.CompletedProcess[str]:
    """Run a command of the exporter to its end."""
    return subprocess.run(
        [*world.command(), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s * world.patience,
        env=os.environ | world.environment(),
    )
