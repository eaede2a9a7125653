"""An open connection: the GATT profiles that a battery has, and a link through any of them."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bleak import BleakClient
from bleak.backends.characteristic import BleakGATTCharacteristic
from bleak.exc import BleakDBusError

from exporter.ble.bleak_errors import bleak_errors, text
from exporter.errors import LinkLostError, ProfileError
from exporter.link_stats import LinkStats
from exporter.protocol.profiles import PROFILES

UNKNOWN_OBJECT: Final = "org.freedesktop.DBus.Error.UnknownObject"


@dataclass(frozen=True, slots=True)
class Characteristics:
    """Where one profile stands in a battery's GATT table."""

    notify: BleakGATTCharacteristic
    write: BleakGATTCharacteristic


class Connection:
    """An open connection: the profiles that the battery has, and a link through any of them."""

    def __init__(self) -> None:
        self._client: BleakClient | None = None
        self._present: Mapping[str, Characteristics] = {}
        self._stats = LinkStats()
        self._links: list[BleakLink] = []

    @property
    def profiles(self) -> Sequence[str]:
        """The names of the profiles in the GATT table, in the order to try them."""
        return tuple(self._present)

    def bind(
        self, client: BleakClient, present: Mapping[str, Characteristics], stats: LinkStats
    ) -> None:
        """Begin, now that the client is connected."""
        self._client = client
        self._present = present
        self._stats = stats

    def lost(self, _client: BleakClient) -> None:
        """Tell every link that the connection ended."""
        for link in self._links:
            link.notifications.put_nowait(None)

    async def open(self, profile: str, early: bytes = b"") -> "BleakLink":
        """Subscribe to the notifications of one profile.

        Args:
            profile: One of `profiles`.
            early: Written before, where that costs no time: the first request after a connect
                is often lost, and so this one is lost while the subscription is under way.

        Raises:
            LinkLostError: The connection ended, or the battery refused.
        """
        if self._client is None:
            raise LinkLostError("the connection was never made")
        link = BleakLink(self._client, self._present[profile])
        self._links.append(link)
        if early and link.writes_at_once:
            self._stats.requests += 1
            await link.write(early)
            link.early_sent = True
        await link.subscribe()
        return link


class BleakLink:
    """One profile of an open connection: bytes out, notifications in."""

    def __init__(self, client: BleakClient, characteristics: Characteristics) -> None:
        self._client = client
        self._notify = characteristics.notify
        self._write = characteristics.write
        self.early_sent = False
        """Whether a request was written before the subscription."""
        self.notifications: asyncio.Queue[tuple[float, bytes] | None] = asyncio.Queue()
        """Arrival time (the loop's clock) and bytes of each one; None: the connection ended."""

    @property
    def writes_at_once(self) -> bool:
        """Whether requests are written without waiting for a response."""
        return "write-without-response" in self._write.properties

    async def subscribe(self) -> None:
        """Ask for notifications. Raises LinkLostError."""

        def notified(_characteristic: object, data: bytearray) -> None:
            self.notifications.put_nowait((asyncio.get_running_loop().time(), bytes(data)))

        try:
            await self._client.start_notify(self._notify, notified)
        except bleak_errors() as error:
            await _forget_bluetoothd(error)
            raise LinkLostError(f"subscribe: {text(error)}") from error

    async def write(self, data: bytes) -> None:
        """Send one request, without response where that is offered.

        Raises:
            LinkLostError: The connection ended.
        """
        response = not self.writes_at_once
        try:
            await self._client.write_gatt_char(self._write, data, response=response)
        except bleak_errors() as error:
            await _forget_bluetoothd(error)
            raise LinkLostError(f"write: {text(error)}") from error

    async def receive(self) -> tuple[float, bytes]:
        """Return when the next notification came, and its bytes. Raises LinkLostError."""
        notification = await self.notifications.get()
        if notification is None:
            self.notifications.put_nowait(None)  # for whoever asks again
            raise LinkLostError("the connection ended in mid-poll")
        return notification


def choose(client: BleakClient, configured: str | None) -> Mapping[str, Characteristics]:
    """Return the profiles that the GATT table holds, in the order to try them.

    What a battery advertises says nothing: the MOBILEKTRO advertises ff00 and has the Nordic UART.

    Raises:
        ProfileError: There is none, or not the configured one.
        LinkLostError: The connection ended before the table could be read.
    """
    try:
        services = list(client.services)
    except bleak_errors() as error:
        raise LinkLostError(f"GATT table: {text(error)}") from error
    present = {}
    for name, profile in PROFILES.items():
        for service in services:
            notify = service.get_characteristic(profile.notify)
            write = service.get_characteristic(profile.write)
            if service.uuid == profile.service and notify and write:
                present[name] = Characteristics(notify, write)
    offered = ", ".join(sorted(service.uuid for service in services)) or "none"
    if not present:
        raise ProfileError(f"no JBD service: expected one of {', '.join(PROFILES)}, got {offered}")
    if configured is None:
        return present
    if configured not in present:
        raise ProfileError(f"profile {configured} is configured, but its services are {offered}")
    return {configured: present[configured]}


async def _forget_bluetoothd(error: Exception) -> None:
    """Have bleak ask for everything anew if what it knows is of a bluetoothd that was killed."""
    if isinstance(error, BleakDBusError) and error.dbus_error == UNKNOWN_OBJECT:
        from exporter.ble import bluez as bluetoothd  # noqa: PLC0415 - loaded by those who use it

        await bluetoothd.forget()
