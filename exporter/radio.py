"""The way to a battery: find, connect, choose the GATT profile, disconnect; all through bleak."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from bleak import BleakClient, BleakScanner
from bleak.args.bluez import BlueZScannerArgs
from bleak.backends.characteristic import BleakGATTCharacteristic
from bleak.backends.client import BaseBleakClient
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData, BaseBleakScanner
from bleak.exc import (
    BleakBluetoothNotAvailableError,
    BleakBluetoothNotAvailableReason,
    BleakDBusError,
)
from bleak_retry_connector import (
    BLEAK_RETRY_EXCEPTIONS,
    close_stale_connections_by_address,
    establish_connection,
    retry_bluetooth_connection_error,
)
from dbus_fast.errors import DBusFastError

from exporter.clock import Clock, boot_s
from exporter.discovery import Advertisement
from exporter.errors import (
    AdapterError,
    ConnectError,
    FailureReason,
    LinkError,
    LinkLostError,
    NotFoundError,
    ProfileError,
)
from exporter.profiles import PROFILES
from exporter.stats import LinkStats

log = logging.getLogger(__name__)

# JBD modules advertise about every second or two; one that was not seen in 10 s is away, switched
# off or held by the phone app.
FIND_S: Final = 10.0
# A connect to a battery in range takes 0.4 to 1.1 s on BlueZ 5.66; one to a battery that has
# just left hangs for up to 40 s.
ATTEMPT_S: Final = 8.0
ATTEMPTS: Final = 3
SCAN_START_ATTEMPTS: Final = 3
# bluetoothd answers in milliseconds; one that accepts and never answers must not hold a poll up.
ANSWER_S: Final = 5.0
# bluetoothd takes about 2 s; bleak waits for its signal for up to 10 s.
DISCONNECT_S: Final = 12.0

# Not every failure is a BleakError: TimeoutError and a missing bus are OSErrors; a bus that ends in
# mid-call shows as EOFError, or as bleak's own state being gone: AttributeError, AssertionError,
# KeyError. They are caught around single calls of bleak only.
BLEAK_ERRORS: Final = (
    *BLEAK_RETRY_EXCEPTIONS,
    OSError,
    DBusFastError,
    AssertionError,
    KeyError,
    UnicodeDecodeError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """Which implementation of bleak's interfaces to use; None is this platform's own."""

    client: type[BaseBleakClient] | None = None
    scanner: type[BaseBleakScanner] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The battery to connect to, and where to count what happens."""

    address: str  # upper case with colons
    stats: LinkStats
    profile: str | None = None  # None: by its GATT table


class Radio:
    """One Bluetooth adapter."""

    def __init__(
        self, *, adapter: str | None = None, backend: Backend | None = None, clock: Clock = boot_s
    ) -> None:
        """Prepare without touching Bluetooth.

        Args:
            adapter: hci0 and the like; None is the system's default.
            backend: Another radio, for the demo and tests.
            clock: Gives `LinkStats.seen_at_s`.
        """
        self._backend = backend or Backend()
        self._clock = clock
        self._scan = _SharedScan(adapter, self._backend.scanner)
        self._freed: set[str] = set()

    @asynccontextmanager
    async def advertisements(self, heard: Callable[[Advertisement], None]) -> AsyncIterator[None]:
        """Call `heard` for every advertisement while the context is open.

        Raises:
            AdapterError: Bluetooth cannot be used.
        """

        def listener(device: BLEDevice, data: AdvertisementData) -> None:
            heard(
                Advertisement(
                    address=device.address.upper(),
                    name=(data.local_name or "").strip(),
                    rssi_dbm=data.rssi,
                    service_uuids=frozenset(data.service_uuids),
                    manufacturer_data=data.manufacturer_data,
                )
            )

        async with self._scan.listen(listener):
            yield

    def watch(self, target: Target) -> None:
        """Note every advertisement of this battery, whoever the scan was for."""

        def listener(device: BLEDevice, data: AdvertisementData) -> None:
            if device.address.upper() == target.address:
                target.stats.rssi_dbm = data.rssi
                target.stats.seen_at_s = self._clock()

        self._scan.bystanders.append(listener)

    @asynccontextmanager
    async def connect(self, target: Target, *, deadline_s: float) -> AsyncIterator["Connection"]:
        """Find the battery, connect, and disconnect when the context ends.

        The disconnect takes about 2 s with BlueZ; it never raises and survives cancellation.

        Args:
            target: The battery.
            deadline_s: By the loop's clock: when looking and connecting must be over.

        Raises:
            AdapterError: Bluetooth cannot be used.
            NotFoundError: The battery does not advertise.
            ConnectError: It does, and no attempt succeeded.
            ProfileError: It has none of the profiles, or not the configured one.
            LinkLostError: The connection ended while the context was open.
        """
        device = await self._find(target, deadline_s)
        connection = Connection()
        client = await self._establish(device, target, connection, deadline_s)
        loop = asyncio.get_running_loop()
        connected_at_s = loop.time()
        try:
            connection.bind(client, _choose(client, target.profile))
            yield connection
        finally:
            try:
                async with asyncio.timeout(DISCONNECT_S):
                    await client.disconnect()
            except BLEAK_ERRORS as error:
                log.debug("disconnect failed", extra={"error": _text(error)})
            finally:
                target.stats.held_s += loop.time() - connected_at_s

    async def _find(self, target: Target, deadline_s: float) -> BLEDevice:
        if target.address not in self._freed:
            await self._free(target.address)
        loop = asyncio.get_running_loop()
        found: asyncio.Future[BLEDevice] = loop.create_future()

        def listener(device: BLEDevice, _data: AdvertisementData) -> None:
            if device.address.upper() == target.address and not found.done():
                found.set_result(device)

        async with self._scan.listen(listener):
            wait_s = max(0.0, min(FIND_S, deadline_s - loop.time()))
            try:
                async with asyncio.timeout(wait_s):
                    return await found
            except TimeoutError:
                pass
        await self._free(target.address)
        raise NotFoundError(
            f"{target.address} not seen in {wait_s:.0f} s: is it switched on and in range, "
            "and is the phone app disconnected?"
        )

    async def _free(self, address: str) -> None:
        """Drop a connection that a killed process left in bluetoothd: it hides the battery."""
        self._freed.add(address)
        if self._backend.client is None:
            try:
                async with asyncio.timeout(ANSWER_S):
                    await close_stale_connections_by_address(address)
            except BLEAK_ERRORS as error:
                log.debug("no stale connection dropped", extra={"error": _text(error)})

    async def _establish(
        self, device: BLEDevice, target: Target, connection: "Connection", deadline_s: float
    ) -> BleakClient:
        stats = target.stats

        class CountingClient(BleakClient):
            """Counts attempts and shortens them; bleak-retry-connector reports and takes none."""

            async def connect(self, **kwargs: Any) -> None:
                stats.connection_attempts += 1
                failed_with: FailureReason | None = FailureReason.CONNECT  # if cut short
                try:
                    await super().connect(**{**kwargs, "timeout": ATTEMPT_S})
                    failed_with = None
                except BLEAK_ERRORS as error:
                    failed_with = _translate(error, "connect").reason
                    raise
                finally:
                    if failed_with is not None:
                        stats.connection_failures[failed_with] += 1

        try:
            async with asyncio.timeout_at(deadline_s):
                return await establish_connection(
                    CountingClient,
                    device,
                    target.address,
                    disconnected_callback=connection.lost,
                    max_attempts=ATTEMPTS,
                    backend=self._backend.client,
                )
        except BLEAK_ERRORS as error:
            raise _translate(error, f"connect to {target.address}") from error


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
        self._links: list[BleakLink] = []

    @property
    def profiles(self) -> Sequence[str]:
        """The names of the profiles in the GATT table, in the order to try them."""
        return tuple(self._present)

    def bind(self, client: BleakClient, present: Mapping[str, Characteristics]) -> None:
        """Begin, now that the client is connected."""
        self._client = client
        self._present = present

    def lost(self, _client: BleakClient) -> None:
        """Tell every link that the connection ended."""
        for link in self._links:
            link.notifications.put_nowait(None)

    async def open(self, profile: str) -> "BleakLink":
        """Subscribe to the notifications of one profile.

        Raises:
            LinkLostError: The connection ended, or the battery refused.
        """
        if self._client is None:
            raise LinkLostError("the connection was never made")
        link = BleakLink(self._client, self._present[profile])
        self._links.append(link)
        await link.subscribe()
        return link


class BleakLink:
    """One profile of an open connection: bytes out, notifications in."""

    def __init__(self, client: BleakClient, characteristics: Characteristics) -> None:
        self._client = client
        self._notify = characteristics.notify
        self._write = characteristics.write
        self.notifications: asyncio.Queue[bytes | None] = asyncio.Queue()
        """What came; None: the connection ended."""

    async def subscribe(self) -> None:
        """Ask for notifications. Raises LinkLostError."""

        def notified(_characteristic: object, data: bytearray) -> None:
            self.notifications.put_nowait(bytes(data))

        try:
            await self._client.start_notify(self._notify, notified)
        except BLEAK_ERRORS as error:
            raise LinkLostError(f"subscribe: {_text(error)}") from error

    async def write(self, data: bytes) -> None:
        """Send one request, without response where that is offered.

        Raises:
            LinkLostError: The connection ended.
        """
        response = "write-without-response" not in self._write.properties
        try:
            await self._client.write_gatt_char(self._write, data, response=response)
        except BLEAK_ERRORS as error:
            raise LinkLostError(f"write: {_text(error)}") from error

    async def receive(self) -> bytes:
        """Return the next notification. Raises LinkLostError."""
        chunk = await self.notifications.get()
        if chunk is None:
            self.notifications.put_nowait(None)  # for whoever asks again
            raise LinkLostError("the connection ended in mid-poll")
        return chunk


class _SharedScan:
    """One scan at a time, shared by everyone who listens, stopped with the last of them."""

    def __init__(self, adapter: str | None, backend: type[BaseBleakScanner] | None) -> None:
        self._adapter = adapter
        self._backend = backend
        self._lock = asyncio.Lock()
        self._scanner: BleakScanner | None = None
        self._listeners: list[Callable[[BLEDevice, AdvertisementData], None]] = []
        self.bystanders: list[Callable[[BLEDevice, AdvertisementData], None]] = []
        """Told too, but nobody scans for them."""

    @asynccontextmanager
    async def listen(
        self, listener: Callable[[BLEDevice, AdvertisementData], None]
    ) -> AsyncIterator[None]:
        """Pass every advertisement to `listener` while the context is open.

        Raises:
            AdapterError: The scan cannot be started.
        """
        self._listeners.append(listener)
        try:
            async with self._lock:
                if self._scanner is None:
                    self._scanner = await self._start()
            yield
        finally:
            self._listeners.remove(listener)
            async with self._lock:
                if not self._listeners and self._scanner is not None:
                    scanner, self._scanner = self._scanner, None
                    await _stop(scanner)

    async def _start(self) -> BleakScanner:
        bluez = BlueZScannerArgs(adapter=self._adapter) if self._adapter else BlueZScannerArgs()
        scanner = BleakScanner(self._heard, bluez=bluez, backend=self._backend)
        start = retry_bluetooth_connection_error(SCAN_START_ATTEMPTS)(scanner.start)
        starting = asyncio.ensure_future(start())
        try:
            done, _ = await asyncio.wait([starting], timeout=ANSWER_S)
        except asyncio.CancelledError:
            await _abandon(starting, scanner)
            raise
        if not done:
            await _abandon(starting, scanner)
            raise AdapterError("bluetoothd does not answer: run systemctl restart bluetooth")
        try:
            starting.result()
        except BLEAK_ERRORS as error:
            raise _adapter_error(error, "scan") from error
        return scanner

    def _heard(self, device: BLEDevice, data: AdvertisementData) -> None:
        for listener in (*self._listeners, *self.bystanders):
            listener(device, data)


async def _abandon(starting: asyncio.Task[None], scanner: BleakScanner) -> None:
    """Undo a scan whose start was cut short: it would go on with nobody to stop it."""
    done, _ = await asyncio.wait([starting], timeout=ANSWER_S)
    if not done:
        starting.cancel()
        await asyncio.wait([starting], timeout=1.0)
    elif not starting.cancelled() and starting.exception() is None:
        await _stop(scanner)


async def _stop(scanner: BleakScanner) -> None:
    try:
        async with asyncio.timeout(ANSWER_S):
            await scanner.stop()
    except BLEAK_ERRORS as error:  # the adapter or bluetoothd went away, and the scan with it
        log.debug("scan stop failed", extra={"error": _text(error)})


def _choose(client: BleakClient, configured: str | None) -> Mapping[str, Characteristics]:
    """Return the profiles that the GATT table holds, in the order to try them.

    What a battery advertises says nothing: the MOBILEKTRO advertises ff00 and has the Nordic UART.

    Raises:
        ProfileError: There is none, or not the configured one.
        LinkLostError: The connection ended before the table could be read.
    """
    try:
        services = list(client.services)
    except BLEAK_ERRORS as error:
        raise LinkLostError(f"GATT table: {_text(error)}") from error
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


ADAPTER_ADVICE: Final = {
    BleakBluetoothNotAvailableReason.NO_BLUETOOTH: "no Bluetooth adapter: does bluetoothctl list "
    "show one, and is bluetoothd running (systemctl status bluetooth)?",
    BleakBluetoothNotAvailableReason.NO_BLE_CENTRAL_ROLE: "the Bluetooth adapter cannot do "
    "Bluetooth Low Energy: use another one",
    BleakBluetoothNotAvailableReason.POWERED_OFF: "Bluetooth is switched off: run bluetoothctl "
    "power on, or rfkill unblock bluetooth",
    BleakBluetoothNotAvailableReason.DENIED_BY_SYSTEM: "no permission to use D-Bus: add the user "
    "to the group bluetooth",
}
DBUS_ADVICE: Final = {
    "org.freedesktop.DBus.Error.ServiceUnknown": "bluetoothd is not running: run systemctl start "
    "bluetooth",
    "org.freedesktop.DBus.Error.NameHasNoOwner": "bluetoothd is not running: run systemctl start "
    "bluetooth",
    "org.freedesktop.DBus.Error.AccessDenied": "no permission to talk to bluetoothd: add the user "
    "to the group bluetooth",
    "org.bluez.Error.NotReady": "Bluetooth is switched off: run bluetoothctl power on, or rfkill "
    "unblock bluetooth",
}


def _adapter_error(error: Exception, doing: str) -> AdapterError:
    """Say what to do about a Bluetooth that cannot be used."""
    if isinstance(error, BleakBluetoothNotAvailableError):
        advice = ADAPTER_ADVICE.get(error.reason)
    elif isinstance(error, BleakDBusError):
        advice = DBUS_ADVICE.get(error.dbus_error)
    elif isinstance(error, FileNotFoundError | ConnectionRefusedError):
        advice = (
            "no D-Bus: is dbus installed and running? In a container, mount "
            "/run/dbus/system_bus_socket"
        )
    elif isinstance(error, PermissionError):
        advice = ADAPTER_ADVICE[BleakBluetoothNotAvailableReason.DENIED_BY_SYSTEM]
    elif isinstance(error, DBusFastError):
        advice = "no D-Bus: is DBUS_SYSTEM_BUS_ADDRESS right?"
    else:
        advice = None
    return AdapterError(
        f"{advice} ({doing}: {_text(error)})" if advice else f"{doing}: {_text(error)}"
    )


def _translate(error: Exception, doing: str) -> LinkError:
    """Return what a failed attempt to connect means."""
    cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
    adapter = isinstance(
        cause, BleakBluetoothNotAvailableError | FileNotFoundError | ConnectionRefusedError
    ) or (isinstance(cause, BleakDBusError) and cause.dbus_error in DBUS_ADVICE)
    return _adapter_error(cause, doing) if adapter else ConnectError(f"{doing}: {_text(error)}")


def _text(error: Exception) -> str:
    if isinstance(error, BleakBluetoothNotAvailableError):
        return str(error.args[0])  # str() would show the reason's enum member too
    return str(error) or type(error).__name__
