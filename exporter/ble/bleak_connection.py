"""An open connection over bleak: the battery's GATT profiles, and links through them."""

from collections.abc import Mapping, Sequence
from typing import Final

from bleak import BleakClient
from bleak.backends.characteristic import BleakGATTCharacteristic
from bleak.backends.service import BleakGATTService
from bleak.exc import BleakDBusError, BleakError

from exporter.ble import bluez
from exporter.ble.bleak_errors import BLEAK_ERRORS, describe, text
from exporter.ble.gatt import choose_profiles
from exporter.ble.notifications import Notifications
from exporter.ble.transport import Target
from exporter.errors import Cause, LinkLostError
from exporter.protocol.profiles import PROFILES
from exporter.recording.recorder import Recorder

WRITE_HEADER: Final = 3  # bytes of a write before its value: opcode and handle
UNKNOWN_OBJECT: Final = "org.freedesktop.DBus.Error.UnknownObject"


Characteristics = tuple[BleakGATTCharacteristic, BleakGATTCharacteristic]
"""The characteristics of one profile: the one that notifies, and the one to write to."""


class BleakConnection:
    """Implements `Connection`."""

    def __init__(
        self,
        client: BleakClient,
        target: Target,
        links: "list[BleakLink]",
        *,
        adapter: str,
    ) -> None:
        """Read the GATT table of a connected client.

        Args:
            client: Connected to the battery.
            target: The battery.
            links: Where to add each opened link; the caller ends them with the connection.
            adapter: Its name.

        Raises:
            ProfileError: The table holds no profile, or not the configured one.
            LinkLostError: The connection ended before the table could be read.
        """
        try:
            services = list(client.services)
        except BLEAK_ERRORS as error:
            raise LinkLostError(f"GATT table: {text(error)}") from error
        self._present = choose_profiles(
            _find_profiles(services), (service.uuid for service in services), target.profile
        )
        self.profiles = tuple(self._present)
        self._client = client
        self._stats = target.stats
        self.adapter = adapter
        self._links = links

    @property
    def mtu(self) -> int:
        """The length of a PDU on which bluetoothd and the battery agreed."""
        _, write = next(iter(self._present.values()))
        return write.max_write_without_response_size + WRITE_HEADER

    async def open(
        self, profile: str, early: bytes = b"", *, other_write: bool = False
    ) -> "BleakLink":
        """Subscribe to the notifications of one profile; see `Connection`."""
        link = BleakLink(
            self._client,
            *self._present[profile],
            other_write=other_write,
            recorder=self._stats.recorder,
        )
        self._links.append(link)
        if early and link.writes_at_once:
            self._stats.requests += 1
            await link.write(early)
            link.early_sent = True
        await link.subscribe()
        return link


class BleakLink:
    """Implements `Link`."""

    def __init__(
        self,
        client: BleakClient,
        notify: BleakGATTCharacteristic,
        write: BleakGATTCharacteristic,
        *,
        other_write: bool = False,
        recorder: Recorder | None = None,
    ) -> None:
        self._client = client
        self._recorder = recorder
        self._notify = notify
        self._write = write
        # bluetoothd does not compare a given type of write with the properties (5.55 and later).
        self.writes_at_once = ("write-without-response" in write.properties) is not other_write
        self.early_sent = False
        self.is_gentle = False
        self.notifications = Notifications()
        self.receive = self.notifications.receive

    async def subscribe(self) -> None:
        """Request notifications. Raises LinkLostError if the connection ended."""
        if self._recorder is not None:
            self._recorder.subscribing(self._notify.uuid)
        try:
            await self._client.start_notify(self._notify, self._notified)
        except BLEAK_ERRORS as error:
            self._record("refused", doing="subscribe", **describe(error))
            raise await _make_lost("subscribe", error, self._client) from error
        self._record("subscribed")

    def _notified(self, _characteristic: BleakGATTCharacteristic, data: bytearray) -> None:
        if self._recorder is not None:
            self._recorder.notified(self._notify.uuid, bytes(data))
        self.notifications.add(bytes(data))

    def _record(self, name: str, **facts: object) -> None:
        if self._recorder is not None:
            self._recorder.event(name, **facts)

    async def write(self, data: bytes) -> None:
        """Send one request, without response if possible. Raises LinkLostError if that failed."""
        response = not self.writes_at_once
        if self._recorder is not None:
            self._recorder.written(self._write.uuid, data, response=response)
        try:
            await self._client.write_gatt_char(self._write, data, response=response)
        except BLEAK_ERRORS as error:
            self._record("refused", doing="write", **describe(error))
            raise await _make_lost("write", error, self._client) from error
        if response:
            self._record("confirmed")


def _find_profiles(services: Sequence[BleakGATTService]) -> Mapping[str, Characteristics]:
    present = {}
    for name, profile in PROFILES.items():
        for service in services:
            notify = service.get_characteristic(profile.notify)
            write = service.get_characteristic(profile.write)
            if service.uuid == profile.service and notify and write:
                present[name] = notify, write
    return present


async def _make_lost(doing: str, error: Exception, client: BleakClient) -> LinkLostError:
    """Return the error; drop what bleak has cached of a bluetoothd that was killed."""
    is_refused = isinstance(error, BleakError) and client.is_connected
    if isinstance(error, BleakDBusError) and error.dbus_error == UNKNOWN_OBJECT:
        await bluez.forget()
    return LinkLostError(f"{doing}: {text(error)}", Cause.GATT if is_refused else None)
