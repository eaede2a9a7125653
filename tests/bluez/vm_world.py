"""The environment in the virtual machine: Linux's Bluetooth, bluetoothd, Bumble as the radio."""

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from exporter.ble.direct import management
from exporter.ble.direct.sockets import adapters

RUN: Final = Path("/run/vm")
BLUETOOTHD: Final = "/usr/libexec/bluetooth/bluetoothd"
PATIENCE_S: Final = 30.0
STARTED: Final[list[subprocess.Popen[bytes]]] = []  # kept: they run until the machine stops


class VmWorld:
    """Implements world.World with both links."""

    links: Final = ("direct", "bluez")
    patience: Final = 3.0

    def __init__(self) -> None:
        # None: still the process that the machine started.
        self._bluetoothd: subprocess.Popen[bytes] | None = None
        self._bridge: subprocess.Popen[bytes] | None = None
        self._second: subprocess.Popen[bytes] | None = None

    def send(self, request: Mapping[str, Any]) -> Any:
        """Send one request of control.py over the serial line, which takes one at a time."""
        with (RUN / "control").open("r+b", buffering=0) as port:
            port.write(json.dumps(dict(request)).encode() + b"\n")
            answer = b""
            while not answer.endswith(b"\n"):
                answer += port.read(65536)
        response = json.loads(answer)
        if "error" in response:
            raise RuntimeError(response["error"])
        return response

    def bluetoothd(self, action: str) -> None:
        """Start, stop, kill or restart bluetoothd."""
        pid_file = RUN / "bluetoothd.pid"
        if action in ("stop", "restart", "kill"):
            number = signal.SIGKILL if action == "kill" else signal.SIGTERM
            end(int(pid_file.read_text()), number, self._bluetoothd)
        if action in ("start", "restart"):
            with (RUN / "bluetoothd.log").open("ab") as log:
                self._bluetoothd = subprocess.Popen([BLUETOOTHD, "-n"], stdout=log, stderr=log)
            pid_file.write_text(str(self._bluetoothd.pid))
            STARTED.append(self._bluetoothd)
            wait_until(self.is_ready)

    def adapter(self, action: str) -> None:
        """Switch the adapter off or on, unplug or plug it."""
        pid_file = RUN / "bridge.pid"
        if action in ("off", "on"):
            subprocess.run(["bluetoothctl", "power", action], check=True, capture_output=True)
            wait_until(lambda: [one.up for one in adapters()] == [action == "on"])
        elif action == "unplug":
            end(int(pid_file.read_text()), signal.SIGKILL, self._bridge)
            wait_until(lambda: adapters() == [])
        else:
            self._bridge = subprocess.Popen(["vhci-bridge", str(RUN / "hci")])
            pid_file.write_text(str(self._bridge.pid))
            STARTED.append(self._bridge)
            wait_until(self.is_ready)

    def air(self, **faults: Any) -> None:
        """Replace all faults of the radio: AirFaults."""
        self.send({"do": "air", "set": faults})

    @contextmanager
    def setting(self, opcode: int, value: int, *, usually: int) -> Iterator[None]:
        """Change a setting of the adapter while the context is open, as btmgmt does."""
        try:
            self._set(opcode, value)
            yield
        finally:
            self._set(opcode, usually)

    def _set(self, opcode: int, value: int) -> None:
        status = self._manage(0, opcode, value)
        assert status == management.SUCCESS, f"setting {opcode:#06x}: status {status:#04x}"

    def _manage(self, adapter: int, opcode: int, value: int) -> int:
        status, _ = asyncio.run(management.command(opcode, adapter, bytes([value])))
        return status

    def plug_second(self) -> None:
        """Plug in a second adapter that has the address of the first one, and no battery near."""
        self._second = subprocess.Popen(["vhci-bridge", str(RUN / "second")])
        wait_until(lambda: len(adapters()) == 2)
        # bluetoothd ignores an adapter whose address another one has.
        wait_until(lambda: self._manage(1, management.SET_POWERED, 1) == management.SUCCESS)

    def unplug_second(self) -> None:
        """Unplug the second adapter."""
        if self._second is not None:
            self._second.kill()
            self._second.wait(PATIENCE_S)
            self._second = None
            wait_until(lambda: len(adapters()) == 1)

    @contextmanager
    def foreigner(self) -> Iterator["Foreigner"]:
        """Run another program that uses Bluetooth while the context is open."""
        with subprocess.Popen(
            ["bluetoothctl"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            bufsize=1,
        ) as process:
            try:
                yield Foreigner(process)
            finally:
                process.kill()

    def is_ready(self) -> bool:
        """Return whether bluetoothd runs and has an adapter that is switched on."""
        return self._shows("Powered: yes")

    def wait_for_scan(self) -> None:
        """Wait until bluetoothd scans for one of its clients."""
        wait_until(lambda: self._shows("Discovering: yes"))

    def _shows(self, words: str) -> bool:
        try:
            shown = subprocess.run(
                ["bluetoothctl", "show"], capture_output=True, text=True, check=False, timeout=5
            )
        except subprocess.TimeoutExpired:
            return False
        return words in shown.stdout

    def heal(self) -> None:
        """Restore what a test has stopped, removed or changed."""
        self.air()
        self.unplug_second()
        if not adapters():
            self.adapter("plug")
        if not Path(f"/proc/{(RUN / 'bluetoothd.pid').read_text().strip()}/exe").exists():
            self.bluetoothd("start")
        if not adapters()[0].up:
            self.adapter("on")

    def environment(self) -> Mapping[str, str]:
        """Return the environment variables of the exporter: none."""
        return {}

    def command(self) -> Sequence[str]:
        """Return the command that starts the exporter, as a user does."""
        return ["bms-exporter"]


@dataclass(frozen=True, slots=True)
class Foreigner:
    """A client of bluetoothd that is not the exporter."""

    process: subprocess.Popen[str]

    def say(self, command: str) -> None:
        """Type a command of bluetoothctl."""
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")


def end(pid: int, number: signal.Signals, process: subprocess.Popen[bytes] | None) -> None:
    """Send a signal to a process and wait until it has ended."""
    os.kill(pid, number)
    if process is not None and process.pid == pid:
        process.wait(PATIENCE_S)
    else:
        wait_until(lambda: not Path(f"/proc/{pid}/exe").exists())


def wait_until(done: Callable[[], bool]) -> None:
    """Wait until a condition is true; fail after PATIENCE_S."""
    end_s = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < end_s, "the virtual machine is not ready"
        time.sleep(0.1)
