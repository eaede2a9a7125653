"""Recognises a proxy that reports each device once per scan, as proxies over bluetoothd do.

An ESP32 reports every advertisement. bluetoothd scans for 10 s and pauses for 5 s, and the kernel
lets the controller filter duplicates in each scan.
"""

import asyncio
from typing import Any, Final

# A scan response follows at once, and a scan that restarts for a connection in half a second.
REPEATED_S: Final = 1.0
MAX_DEVICES: Final = 1000  # more than an ESP32 hears: it is not trusted


class Reports:
    """The advertisements of all devices while a look for a battery lasts."""

    def __init__(self) -> None:
        """Begin a look."""
        self._first_s: dict[str, float] = {}  # by address
        self.are_repeated = False

    def add(self, address: str, _raw: Any) -> None:
        """Record an advertisement."""
        if len(self._first_s) >= MAX_DEVICES and address not in self._first_s:
            return
        now_s = asyncio.get_running_loop().time()
        if now_s - self._first_s.setdefault(address, now_s) >= REPEATED_S:
            self.are_repeated = True
