"""Recognises that another program scans, which delays the kernel's own connects."""

from contextlib import suppress
from typing import Final

from exporter.ble.direct.kernel import Kernel
from exporter.ble.direct.sockets import Adapter

# Each command of a wait has one event. A scan reports what every device around sends; connections
# to a few batteries have fewer events. Without any command, the kernel did not begin its own scan.
EVENTS_PER_S: Final = 10.0


async def is_scanned(kernel: Kernel, before: Adapter, waited_s: float) -> bool:
    """Return whether another program scans with an adapter through bluetoothd.

    The kernel connects only after a report of the battery, and a scan reports each device once in
    10 s. bluetoothd is asked only if the counters say so: D-Bus takes 4 MiB.

    Args:
        kernel: Counts commands and events.
        before: The adapter before a wait that found no battery.
        waited_s: The seconds of the wait.
    """
    with suppress(OSError, StopIteration):
        after = next(one for one in kernel.adapters() if one.name == before.name)
        commands = after.commands_sent - before.commands_sent
        events = after.events_received - before.events_received
        if commands == 0 or events - commands >= EVENTS_PER_S * waited_s:
            from exporter.ble import bluez  # noqa: PLC0415 - D-Bus, which is rarely needed

            return await bluez.is_discovering(before.name)
    return False
