"""What the direct link needs of the kernel: its sockets, and timeouts for connects in turn."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from socket import socket
from typing import Final

from exporter.ble.direct import sockets
from exporter.ble.timeouts import CONNECTION_S
from exporter.errors import AdapterError

FAILED_CONNECTION_S: Final = 4.0  # the time by which a failed attempt delays the others at most


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """Functions of the kernel; tests replace them."""

    open_channel: Callable[[str, int, str], Awaitable[socket]] = sockets.open_att_channel
    adapters: Callable[[], list[sockets.Adapter]] = sockets.adapters
    connected_on: Callable[[str], int | None] = sockets.connected_on
    connections: Callable[[int], list[tuple[str, int]]] = sockets.low_energy_connections
    connected_devices: Callable[[int], list[str]] = sockets.connected_devices

    def is_up(self, name: str) -> bool:
        """Return whether this adapter is there and switched on."""
        try:
            return any(adapter.up for adapter in self.adapters() if adapter.name == name)
        except OSError:
            return False

    def find_adapter(self, name: str | None, address: str) -> sockets.Adapter:
        """Return the named adapter, or the first one that is on; `address` is for messages.

        Raises:
            AdapterError: It is not there, or switched off.
        """
        try:
            present = self.adapters()
        except OSError as error:
            raise AdapterError(
                f"no Bluetooth sockets ({error.strerror}): set link: bluez"
            ) from error
        named = [adapter for adapter in present if name in {None, adapter.name}]
        usable = [adapter for adapter in named if adapter.up]
        for adapter in usable:
            if find_twin(adapter, present) is None:
                return adapter
        if usable:
            one, twin = usable[0], find_twin(usable[0], present) or usable[0]
            raise AdapterError(
                f"{one.name} and {twin.name} have the same address {one.address}, and the kernel "
                f"connects over {twin.name} for both: unplug one (connect to {address})"
            )  # bluetoothd finds its way by the address, too
        if named:
            raise AdapterError(
                f"{named[0].name} is switched off: run bluetoothctl power on, or rfkill unblock "
                f"bluetooth (connect to {address})"
            )
        have = ", ".join(f"{one.name} ({one.address})" for one in present) or "none"
        raise AdapterError(
            f"no Bluetooth adapter{f' {name}' if name else ''}: is it plugged in? "
            f"Present: {have}. A USB reset may change the number: `adapter` takes the address, too "
            f"(connect to {address})"
        )


def find_twin(
    adapter: sockets.Adapter, present: Iterable[sockets.Adapter]
) -> sockets.Adapter | None:
    """Return the adapter with the same address that the kernel uses instead; None: there is none.

    Source: Linux, net/bluetooth/hci_conn.c (hci_get_route).
    """
    twins = [
        one for one in present if one.up and one.address == adapter.address != sockets.ANY_ADDRESS
    ]
    first = min(twins, key=lambda one: (one.order, one.index), default=adapter)
    return None if first.index == adapter.index else first


class Turns:
    """The timeouts of connects over one adapter, which makes one connection at a time."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Timeout] = set()

    @asynccontextmanager
    async def wait(self, seconds: float) -> AsyncIterator[None]:
        """Limit the time of a connect; a connection to another battery extends it.

        Raises:
            TimeoutError: The battery did not advertise in time.
        """
        async with asyncio.timeout(seconds) as waiting:
            self._waiting.add(waiting)
            now = asyncio.get_running_loop().time
            began_s = now()
            took_s = 0.0  # if cancelled: the kernel did not try to connect
            try:
                yield
                took_s = CONNECTION_S
            except OSError:
                took_s = min(FAILED_CONNECTION_S, now() - began_s)  # 0 if it was refused at once
                raise
            finally:
                self._waiting.discard(waiting)
                for other in self._waiting:
                    until_s = other.when()
                    if until_s is not None and not other.expired():
                        other.reschedule(until_s + took_s)
