"""Recognises that another program scans, which delays the kernel's own connects.

While a discovery runs, the kernel connects only after one of its reports, and begins no scan of its
own (Linux, net/bluetooth/hci_sync.c, hci_update_passive_scan_sync). A discovery reports each device
once in 10 s, and pauses for 5 s: only a wait that begins in a pause has a scan of its own.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from exporter.ble.direct.kernel import Kernel
from exporter.ble.direct.sockets import Adapter

# Each command of a wait has one event. A scan reports what every device around sends; connections
# to a few batteries have fewer events.
EVENTS_PER_S: Final = 10.0
BEGINS_S: Final = 1.0  # the kernel begins its own scan within milliseconds


@dataclass(slots=True)
class OtherScans:
    """The signs of another program's scan in the waits of one attempt to connect."""

    kernel: Kernel
    before: Adapter  # before the first of these waits
    _is_held_up: bool = False  # a wait began without a scan of its own

    @contextmanager
    def note_wait(self, wait_s: float) -> Iterator[None]:
        """Note whether the kernel begins a scan for the wait that the context encloses.

        Later commands say nothing: the other scan may end before the wait does.
        """
        before = self._find()
        after_s = min(BEGINS_S, wait_s / 2)
        check = asyncio.get_running_loop().call_later(after_s, self._check, before)
        try:
            yield
        finally:
            check.cancel()

    def _check(self, before: Adapter | None) -> None:
        now = self._find()
        if before is not None and now is not None and now.commands_sent == before.commands_sent:
            self._is_held_up = True

    async def is_scanned(self, waited_s: float) -> bool:
        """Return whether another program scans with the adapter through bluetoothd.

        bluetoothd is asked only if the counters say so: D-Bus takes 4 MiB.
        """
        after = self._find()
        if after is None:
            return False
        commands = after.commands_sent - self.before.commands_sent
        events = after.events_received - self.before.events_received
        if self._is_held_up or events - commands >= EVENTS_PER_S * waited_s:
            from exporter.ble import bluez  # noqa: PLC0415 - D-Bus, which is rarely needed

            return await bluez.is_discovering(self.before.name)
        return False

    def _find(self) -> Adapter | None:
        with suppress(OSError):
            for one in self.kernel.adapters():
                if one.name == self.before.name:
                    return one
        return None
