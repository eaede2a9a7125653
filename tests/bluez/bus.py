"""A private D-Bus daemon that can be stopped and restarted at the same address."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

CONFIGURATION = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path={socket}</listen>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
"""


class Bus:
    """One dbus-daemon."""

    def __init__(self, folder: Path) -> None:
        """Prepare the configuration; the socket will be in this folder."""
        self._socket = folder / "bus"
        self._configuration = folder / "bus.conf"
        self._configuration.write_text(CONFIGURATION.format(socket=self._socket), encoding="utf-8")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"unix:path={self._socket}"

    def start(self) -> None:
        """Start the daemon; return when it listens."""
        words = [f"--config-file={self._configuration}", "--nofork", "--nopidfile"]
        self._process = subprocess.Popen(
            ["dbus-daemon", *words, "--print-address"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._process.stdout
        with self._process.stdout as listening:
            assert listening.readline(), "dbus-daemon does not start"

    def stop(self) -> None:
        """Stop the daemon; every client loses its connection."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self._socket.unlink(missing_ok=True)


def need_dbus() -> None:
    """Skip a test without dbus-daemon, unless REQUIRE_TOOLS is set, as in CI."""
    if shutil.which("dbus-daemon") is None:
        if os.environ.get("REQUIRE_TOOLS"):
            pytest.fail("dbus-daemon is not installed")
        pytest.skip("dbus-daemon is not installed: apt install dbus")
