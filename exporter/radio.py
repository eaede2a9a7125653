"""The way to a battery: find, connect, choose the GATT profile, disconnect; all through bleak."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

from bleak import BleakClient
from bleak.backends.bluezdbus.manager import get_global_bluez_manager
from bleak.backends.characteristic import BleakGATTCharacteristic
from bleak.backends.client import BaseBleakClient
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData, BaseBleakScanner
from bleak.exc import (
    BleakBluetoothNotAvailableError,
    BleakBluetoothNotAvailableReason,
    BleakDBusError,
)
from bleak_retry_connector import close_stale_connections_by_address, establish_connection

from exporter.clock import Clock, boot_s
from exporter.direct.client import Kernel, client_of
from exporter.direct.management import Management, ManagementError
from exporter.discovery import Advertisement
from exporter.errors import (
    AuthError,
    FailureReason,
    LinkError,
    LinkLostError,
    NotFoundError,
    PairingError,
    ProfileError,
)
from exporter.profiles import PROFILES
from exporter.scan import ANSWER_S, SharedScan
from exporter.stats import LinkStats
from exporter.trouble import BLEAK_ERRORS, text, translate

log = logging.getLogger(__name__)

# JBD modules advertise about every second or two; one that was not seen in 10 s is away, switched
# off or held by the phone app.
FIND_S: Final = 10.0
# One that bluetoothd holds for a process that is no more does not advertise: see in between.
FREE_EVERY_S: Final = 2.5
MOMENT_S: Final = 0.001  # less than that is rounding
# A connect to a battery in range takes 0.4 to 1.1 s on BlueZ 5.66; one to a battery that has
# just left hangs for up to 40 s.
ATTEMPT_S: Final = 8.0
ATTEMPTS: Final = 3
# bluetoothd takes about 2 s; bleak waits for its signal for up to 10 s.
DISCONNECT_S: Final = 12.0
# What was cut short may clean up for this long; bleak would wait for bluetoothd's answer for ever.
CLEAN_UP_S: Final = 3.0

UNKNOWN_OBJECT: Final = "org.freedesktop.DBus.Error.UnknownObject"

T = TypeVar("T")


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
    pairs: bool = True  # through bluetoothd, which can, once it has asked for that


class Radio:
    """One Bluetooth adapter."""

    def __init__(
        self,
        *,
        adapter: str | None = None,
        backend: Backend | None = None,
        kernel: Kernel | None = None,
        management: Management | None = None,
        clock: Clock = boot_s,
    ) -> None:
        """Prepare without touching Bluetooth.

        Args:
            adapter: hci0 and the like; None is the system's default.
            backend: Another radio, for the demo and tests.
            kernel: Connect through it instead of bluetoothd.
            management: What to ask of the kernel's management socket.
            clock: Gives `LinkStats.seen_at_s`.
        """
        self._backend = backend or Backend()
        self._kernel = kernel
        self._direct = None if kernel is None else client_of(kernel)
        self._management = management or Management()
        self._clock = clock
        self._scan = SharedScan(adapter, self._backend.scanner)
        self._freed: set[str] = set()
        self._addresses: set[str] = set()
        self._pairing: set[str] = set()  # the addresses of batteries that want it

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

        self._scan.bystanders[target.address] = listener
        self._addresses.add(target.address)

    def unwatch(self, address: str) -> None:
        """Note nothing about this battery any more."""
        self._scan.bystanders.pop(address, None)
        self._addresses.discard(address)

    @asynccontextmanager
    async def connect(self, target: Target, *, deadline_s: float) -> AsyncIterator["Connection"]:
        """Find the battery, connect, and disconnect when the context ends.

        Without the management socket the disconnect takes about 2 s. It never raises and survives
        cancellation.

        Args:
            target: The battery.
            deadline_s: By the loop's clock: when looking and connecting must be over.

        Raises:
            AdapterError: Bluetooth cannot be used.
            NotFoundError: The battery does not advertise.
            ConnectError: It does, and no attempt succeeded.
            ProfileError: It has none of the profiles, or not the configured one.
            AuthError: It wants pairing.
            LinkLostError: The connection ended while the context was open.
        """
        connection = Connection()
        async with AsyncExitStack() as stack:
            hold = Hold(target.stats)
            stack.callback(hold.changed, connected=False)  # at the latest, when all is over
            client = await self._reach(target, connection, deadline_s, hold, stack)
            hold.changed(connected=True)
            listening = asyncio.create_task(self._note_rssi(target))
            try:
                connection.bind(client, _choose(client, target.profile), target.stats)
                yield connection
            except PairingError:
                self._note_pairing(target)
                raise
            except ProfileError:
                if self._kernel is not None:
                    self._kernel.forget(target.address)
                raise
            finally:
                listening.cancel()
                await self._let_go(client, target.address)

    async def _reach(
        self,
        target: Target,
        connection: "Connection",
        deadline_s: float,
        hold: "Hold",
        stack: AsyncExitStack,
    ) -> BleakClient:
        if self._direct is None or target.address in self._pairing:
            device = await self._find(target, deadline_s)
            await self._prepare()
            if self._backend.client is None:
                await _watch_bluez(device, hold, stack)
            async with self._scan.paused():
                return await self._establish(
                    device, target, connection, deadline_s=deadline_s, hold=hold
                )
        if self._kernel is not None:
            await self._switch_on(self._kernel)
            if self._is_held(self._kernel, target.address):
                await self._free(target.address)
            self._kernel.reached[target.address] = partial(hold.changed, connected=True)
        await self._prepare()
        device = BLEDevice(target.address, target.address, None)
        try:
            return await self._establish(
                device,
                target,
                connection,
                deadline_s=deadline_s,
                hold=hold,
                direct=self._direct,
            )
        except PairingError:
            self._note_pairing(target)
            raise

    async def _switch_on(self, kernel: Kernel) -> None:
        """Switch an adapter on that is off because bluetoothd ended: it leaves none on."""
        try:
            named = [one for one in kernel.adapters() if kernel.adapter in (None, one.name)]
            if named and not any(one.up for one in named) and not await _is_off_on_purpose():
                await self._management.switch_on(named[0].index)
        except (OSError, ManagementError) as error:
            log.debug("not switched on", extra={"error": text(error)})

    def _note_pairing(self, target: Target) -> None:
        """Leave a battery that wants pairing to bluetoothd: the direct link cannot."""
        if self._direct is not None and target.pairs and target.address not in self._pairing:
            self._pairing.add(target.address)
            log.warning(
                "battery is read through bluetoothd from now on, which can pair",
                extra={"address": target.address},
            )

    async def _let_go(self, client: BleakClient, address: str) -> None:
        if client.is_connected:
            try:
                await self._management.let_go(address)
            except (OSError, ManagementError) as error:
                log.debug("not released", extra={"address": address, "error": text(error)})
        try:
            await _within(client.disconnect(), DISCONNECT_S)
        except BLEAK_ERRORS as error:
            log.debug("disconnect failed", extra={"address": address, "error": text(error)})

    async def _prepare(self) -> None:
        try:
            await self._management.prepare(sorted(self._addresses))
        except (OSError, ManagementError) as error:
            log.debug("not prepared", extra={"error": text(error)})

    async def _note_rssi(self, target: Target) -> None:
        try:
            rssi_dbm = await self._management.rssi_dbm(target.address)
        except (OSError, ManagementError) as error:
            log.debug("no RSSI", extra={"address": target.address, "error": text(error)})
            return
        if rssi_dbm is not None:
            target.stats.rssi_dbm = rssi_dbm
            target.stats.seen_at_s = self._clock()

    async def _find(self, target: Target, deadline_s: float) -> BLEDevice:
        if target.address not in self._freed:
            await self._free(target.address)
        loop = asyncio.get_running_loop()
        found: asyncio.Future[BLEDevice] = loop.create_future()

        def listener(device: BLEDevice, _data: AdvertisementData) -> None:
            if device.address.upper() == target.address and not found.done():
                found.set_result(device)

        before_s = self._scan.scanned_s
        async with self._scan.listen(listener):
            while True:
                listened_s = self._scan.scanned_s - before_s
                left_s = min(FIND_S - listened_s, deadline_s - loop.time())
                await asyncio.wait([found], timeout=max(0.0, min(FREE_EVERY_S, left_s)))
                if found.done():
                    return found.result()
                await self._free(target.address)
                if left_s < MOMENT_S:
                    break
        raise NotFoundError(
            f"{target.address} not seen in {listened_s:.0f} s: is it switched on and in "
            "range, and is the phone app disconnected?"
        )

    @staticmethod
    def _is_held(kernel: Kernel, address: str) -> bool:
        try:
            return kernel.connected_on(address) is not None
        except OSError:
            return False

    async def _free(self, address: str) -> None:
        """Drop a connection that a killed process left in bluetoothd: it hides the battery."""
        self._freed.add(address)
        if self._backend.client is None:
            try:
                await self._management.let_go(address)
                await _within(close_stale_connections_by_address(address), ANSWER_S)
            except (*BLEAK_ERRORS, ManagementError) as error:
                log.debug("no stale connection dropped", extra={"error": text(error)})

    async def _establish(  # noqa: PLR0913 - what both links have in common
        self,
        device: BLEDevice,
        target: Target,
        connection: "Connection",
        *,
        deadline_s: float,
        hold: "Hold",
        direct: type[BaseBleakClient] | None = None,
    ) -> BleakClient:
        stats = target.stats
        loop = asyncio.get_running_loop()
        # The direct link waits for an advertisement itself.
        attempt_s = ATTEMPT_S if direct is None else min(FIND_S, deadline_s - loop.time())

        class CountingClient(BleakClient):
            """Counts attempts and shortens them; bleak-retry-connector reports and takes none."""

            async def connect(self, **kwargs: Any) -> None:
                failed_with: FailureReason | None = FailureReason.CONNECT  # if cut short
                try:
                    await super().connect(**{**kwargs, "timeout": attempt_s})
                    failed_with = None
                except BLEAK_ERRORS as error:
                    failed_with = translate(error, "connect").reason
                    raise
                except (LinkError, AuthError) as error:
                    failed_with = error.reason
                    raise
                except asyncio.CancelledError:
                    if direct is not None and not hold.connected:
                        failed_with = FailureReason.NOT_FOUND  # it waited for an advertisement
                    raise
                finally:
                    if failed_with is not FailureReason.NOT_FOUND:  # else nobody was there
                        stats.connection_attempts += 1
                        stats.connection_failures.update([failed_with] if failed_with else [])

        establish = establish_connection(
            CountingClient,
            device,
            target.address,
            disconnected_callback=connection.lost,
            max_attempts=ATTEMPTS,
            backend=direct or self._backend.client,
        )
        try:
            return await _within(establish, deadline_s - loop.time(), _disconnected)
        except LinkError:
            raise
        except BLEAK_ERRORS as error:
            if direct is not None and isinstance(error, TimeoutError):
                raise NotFoundError(f"{target.address} not seen within poll.timeout") from error
            raise translate(error, f"connect to {target.address}") from error


class Hold:
    """Counts the time for which a battery is connected, attempts that fail in the end included."""

    def __init__(self, stats: LinkStats) -> None:
        self._stats = stats
        self._since_s: float | None = None

    @property
    def connected(self) -> bool:
        """Whether it is now."""
        return self._since_s is not None

    def changed(self, *, connected: bool) -> None:
        """Take the news, which may be none."""
        now_s = asyncio.get_running_loop().time()
        if self._since_s is not None and not connected:
            self._stats.held_s += now_s - self._since_s
            self._since_s = None
        elif self._since_s is None and connected:
            self._since_s = now_s


async def _watch_bluez(device: BLEDevice, hold: Hold, stack: AsyncExitStack) -> None:
    """Have bluetoothd tell when a battery is connected and when not, until the stack ends.

    Raises:
        LinkError: bluetoothd has gone, or has forgotten the battery since it was found.
    """
    try:
        manager = await get_global_bluez_manager()
        watcher = manager.add_device_watcher(
            device.details["path"],
            on_connected_changed=lambda connected: hold.changed(connected=connected),
            on_characteristic_value_changed=lambda _path, _value: None,
        )
    except BLEAK_ERRORS as error:
        raise translate(error, f"connect to {device.address}") from error
    stack.callback(manager.remove_device_watcher, watcher)


async def _is_off_on_purpose() -> bool:
    """Whether there is a bluetoothd, and it says that Bluetooth is off."""
    try:
        manager = await _within(get_global_bluez_manager(), ANSWER_S)
        manager.get_default_adapter()
    except BleakBluetoothNotAvailableError as error:
        return error.reason is BleakBluetoothNotAvailableReason.POWERED_OFF
    except BLEAK_ERRORS:
        return False
    return True


async def _forget_bluetoothd(error: Exception) -> None:
    """Have bleak ask for everything anew if what it knows is of a bluetoothd that was killed.

    It does not notice: it takes a battery for connected, and its characteristics for present.
    """
    if isinstance(error, BleakDBusError) and error.dbus_error == UNKNOWN_OBJECT:
        manager = await get_global_bluez_manager()
        if manager._bus is not None:  # noqa: SLF001 - it has no other way to be told
            manager._bus.disconnect()  # noqa: SLF001


async def _disconnected(client: BleakClient) -> None:
    """Undo a connection that was made in the moment in which nobody wanted it any more."""
    await client.disconnect()


async def _within(
    work: Coroutine[Any, Any, T],
    seconds: float,
    undo: Callable[[T], Coroutine[Any, Any, None]] | None = None,
) -> T:
    """Like asyncio.timeout, for work that may wait for ever when it is cancelled.

    Raises:
        TimeoutError: It was not done in time.
    """
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait([task], timeout=max(0.0, seconds))
    except asyncio.CancelledError:
        await _cut_short(task, undo)
        raise
    if not done:
        await _cut_short(task, undo)
        raise TimeoutError
    return task.result()


async def _cut_short(
    task: asyncio.Future[T], undo: Callable[[T], Coroutine[Any, Any, None]] | None
) -> None:
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=CLEAN_UP_S)
    if not done:
        log.debug("left behind", extra={"task": repr(task)})
        _LEFT_BEHIND.add(task)
        task.add_done_callback(_forget)
    elif not task.cancelled() and task.exception() is None and undo is not None:
        await _within(undo(task.result()), DISCONNECT_S)


def _forget(task: asyncio.Future[Any]) -> None:
    _LEFT_BEHIND.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        log.debug("ended at last", extra={"error": str(error)})


_LEFT_BEHIND: Final[set[asyncio.Future[Any]]] = set()
"""Tasks that nobody waits for and that must not be collected while they end."""


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

    @property
    def writes_at_once(self) -> bool:
        """Whether requests are written without waiting for a response."""
        return "write-without-response" in self._write.properties

    async def subscribe(self) -> None:
        """Ask for notifications. Raises LinkLostError."""

        def notified(_characteristic: object, data: bytearray) -> None:
            self.notifications.put_nowait(bytes(data))

        try:
            await self._client.start_notify(self._notify, notified)
        except BLEAK_ERRORS as error:
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
        except BLEAK_ERRORS as error:
            await _forget_bluetoothd(error)
            raise LinkLostError(f"write: {text(error)}") from error

    async def receive(self) -> bytes:
        """Return the next notification. Raises LinkLostError."""
        chunk = await self.notifications.get()
        if chunk is None:
            self.notifications.put_nowait(None)  # for whoever asks again
            raise LinkLostError("the connection ended in mid-poll")
        return chunk


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
