"""The environment with the fake bluetoothd on a private D-Bus; all times are divided."""

import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

from bus import Bus
from exporter.demo.battery import Faults

HERE: Final = Path(__file__).parent
FASTER: Final = 5.0


class FakeWorld:
    """Implements world.World without a kernel, so without the direct link."""

    links: Final = ("bluez",)
    patience: Final = 1.0

    def __init__(self, faster: float = FASTER) -> None:
        """Divide all times by `faster`."""
        self._faster = faster
        self._folder = Path(tempfile.mkdtemp())
        self._bus = Bus(self._folder)
        self._control = self._folder / "control"
        self._running = True  # bluetoothd
        self._plugged = self._powered = True

    def __enter__(self) -> Self:
        self._bus.start()
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "fake_bluetoothd.py"), "--bus", self._bus.address,
             "--control", str(self._control), "--faster", str(self._faster)],
            env={"PYTHONPATH": ":".join(map(str, (HERE, HERE.parent.parent)))},
        )  # fmt: skip
        end_s = time.monotonic() + 20
        while not self._control.exists():
            assert self._process.poll() is None, "the fake bluetoothd does not start"
            assert time.monotonic() < end_s
            time.sleep(0.02)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._bus.stop()

    def send(self, request: Mapping[str, Any]) -> Any:
        """Send one request of control.py; the batteries' own times are divided, too."""
        if request["do"] == "faults":
            times = {"reply_s": Faults().reply_s, "gap_s": Faults().gap_s} | request["set"]
            divided = {name: times[name] / self._faster for name in ("reply_s", "gap_s")}
            request = {**request, "set": request["set"] | divided}
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(self._control))
            client.sendall(json.dumps(dict(request)).encode() + b"\n")
            with client.makefile() as lines:
                response = json.loads(lines.readline())
        if "error" in response:
            raise RuntimeError(response["error"])
        return response

    def bluetoothd(self, action: str) -> None:
        """Start, stop, kill or restart bluetoothd."""
        self._running = action in ("start", "restart")
        self.send({"do": "bluetoothd", "action": action})

    def adapter(self, action: str) -> None:
        """Switch the adapter off or on, unplug or plug it."""
        self._powered = action != "off"
        self._plugged = action != "unplug"
        self.send({"do": "adapter", "action": action})

    def heal(self) -> None:
        """Restore what a test has stopped or removed."""
        if not self._running:
            self.bluetoothd("start")
        if not self._plugged:
            self.adapter("plug")
        if not self._powered:
            self.adapter("on")

    def environment(self) -> Mapping[str, str]:
        """Return the environment variables of the exporter."""
        return {"DBUS_SYSTEM_BUS_ADDRESS": self._bus.address}

    def command(self) -> Sequence[str]:
        """Return the command that starts the exporter here."""
        return [sys.executable, str(HERE / "hasty.py"), str(self._faster)]
