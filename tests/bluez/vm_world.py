"""The environment in the virtual machine: Linux's Bluetooth, bluetoothd, Bumble as the radio."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

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

    def is_ready(self) -> bool:
        """Return whether bluetoothd runs and has an adapter that is switched on."""
        try:
            shown = subprocess.run(
                ["bluetoothctl", "show"], capture_output=True, text=True, check=False, timeout=5
            )
        except subprocess.TimeoutExpired:
            return False
        return "Powered: yes" in shown.stdout

    def heal(self) -> None:
        """Restore what a test has stopped or removed."""
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
