"""The way to a battery: find, connect, choose the GATT profile, disconnect; all through bleak."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any, Final

from bleak import BleakClient
from bleak.backends.client import BaseBleakClient
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData, BaseBleakScanner
from bleak.exc import BleakError

from exporter.ble.bleak_errors import bleak_errors, text, translate
from exporter.ble.direct.client import CONNECTION_S, Kernel, client_of
from exporter.ble.direct.management import Management, ManagementError
from exporter.ble.gatt import Connection, choose
from exporter.ble.scanner import SharedScan
from exporter.ble.timeouts import UNDO_S, within
from exporter.clock import Clock, boot_s
from exporter.errors import (
    AuthError,
    ConnectError,
    FailureReason,
    LinkError,
    NotFoundError,
    PairingError,
    ProfileError,
)
from exporter.link_stats import LinkStats
from exporter.protocol.advertisement import Advertisement

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
# The direct link tries again by itself: for bleak-retry-connector it would have to load D-Bus.
AGAIN_S: Final = 0.1


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
        self._connecting = 0  # batteries, through bluetoothd
        self._freed: set[str] = set()
        self._addresses: set[str] = set()
        self._pairing: set[str] = set()  # the addresses of batteries that want it

    @asynccontextmanager
    async def advertisements(
        self, heard: Callable[[Advertisement], None]
    ) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        """Call `heard` for every advertisement while the context is open.

        The context is a function to call now and then, see `SharedScan.renew`.

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
            yield self._scan.renew

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
    async def connect(self, target: Target, *, deadline_s: float) -> AsyncIterator[Connection]:
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
                connection.bind(client, choose(client, target.profile), target.stats)
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
        connection: Connection,
        deadline_s: float,
        hold: "Hold",
        stack: AsyncExitStack,
    ) -> BleakClient:
        if self._direct is None or target.address in self._pairing:
            device = await self._find(target, deadline_s)
            await self._prepare()
            if self._backend.client is None:
                from exporter.ble import bluez as bluetoothd  # noqa: PLC0415 - loaded by those who use it

                await bluetoothd.watch(
                    device, lambda connected: hold.changed(connected=connected), stack
                )
            self._connecting += 1
            try:
                async with self._scan.paused():
                    return await self._establish(
                        device, target, connection, deadline_s=deadline_s, hold=hold
                    )
            finally:
                self._connecting -= 1
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
            if named and not any(one.up for one in named):
                from exporter.ble import bluez as bluetoothd  # noqa: PLC0415 - loaded by those who use it

                if not await bluetoothd.is_off_on_purpose():
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
            await self._release(address)
        try:
            await within(client.disconnect(), UNDO_S)
        except bleak_errors() as error:
            log.debug("disconnect failed", extra={"address": address, "error": text(error)})

    async def _release(self, address: str) -> None:
        try:
            await self._management.let_go(address)
        except (OSError, ManagementError) as error:
            log.debug("not released", extra={"address": address, "error": text(error)})

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
                await self._scan.renew()
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
            from exporter.ble import bluez as bluetoothd  # noqa: PLC0415 - loaded by those who use it

            await self._release(address)
            try:
                await bluetoothd.free(address)
            except bleak_errors() as error:
                log.debug("no stale connection dropped", extra={"error": text(error)})

    def _attempt_s(self) -> float:
        """Return how long an attempt through bluetoothd may take now.

        The kernel makes one connection after the other: more time for every other battery.
        """
        return ATTEMPT_S + CONNECTION_S * (self._connecting - 1)

    async def _establish(  # noqa: PLR0913 - what both links have in common
        self,
        device: BLEDevice,
        target: Target,
        connection: Connection,
        *,
        deadline_s: float,
        hold: "Hold",
        direct: type[BaseBleakClient] | None = None,
    ) -> BleakClient:
        loop = asyncio.get_running_loop()
        # The direct link waits for an advertisement itself.
        own_s = min(FIND_S, deadline_s - loop.time())
        attempt_s = self._attempt_s if direct is None else lambda: own_s
        waits = (lambda: False) if direct is None else lambda: not hold.connected
        client_class = _counting_client(target.stats, attempt_s, waits)

        async def establish() -> BleakClient:
            if direct is None:
                from bleak_retry_connector import establish_connection  # noqa: PLC0415 - bluetoothd

                return await establish_connection(
                    client_class,
                    device,
                    target.address,
                    disconnected_callback=connection.lost,
                    max_attempts=ATTEMPTS,
                    backend=self._backend.client,
                )
            return await _try(
                lambda: client_class(device, disconnected_callback=connection.lost, backend=direct),
                target.address,
            )

        try:
            return await within(establish(), deadline_s - loop.time(), _disconnected)
        except LinkError:
            raise
        except bleak_errors() as error:
            if direct is not None and isinstance(error, TimeoutError):
                raise NotFoundError(f"{target.address} not seen within poll.timeout") from error
            if direct is not None:
                failed = f"Failed to connect after {ATTEMPTS} attempt(s)"
                raise ConnectError(
                    f"connect to {target.address}: {failed}: {text(error)}"
                ) from error
            raise translate(error, f"connect to {target.address}") from error


async def _try(client: Callable[[], BleakClient], address: str) -> BleakClient:
    """Connect over the direct link.

    Raises:
        ConnectError: No attempt succeeded.
    """
    for attempt in count(1):
        connecting = client()
        try:
            await connecting.connect()
        except BleakError as error:
            if attempt == ATTEMPTS:
                raise ConnectError(
                    f"connect to {address}: Failed to connect after {attempt} attempt(s): "
                    f"{text(error)}"
                ) from error
            await asyncio.sleep(AGAIN_S)
        else:
            break
    return connecting


def _counting_client(
    stats: LinkStats, attempt_s: Callable[[], float], waits: Callable[[], bool]
) -> type[BleakClient]:
    """Return a client that counts attempts and shortens them: who tries again reports none.

    Args:
        stats: Where they are counted.
        attempt_s: How long the next one may take.
        waits: Whether an attempt that is called off now only waits for an advertisement.
    """

    class CountingClient(BleakClient):
        async def connect(self, **kwargs: Any) -> None:
            failed_with: FailureReason | None = FailureReason.CONNECT  # if cut short
            try:
                await super().connect(**{**kwargs, "timeout": attempt_s()})
                failed_with = None
            except bleak_errors() as error:
                failed_with = translate(error, "connect").reason
                raise
            except (LinkError, AuthError) as error:
                failed_with = error.reason
                raise
            except asyncio.CancelledError:
                if waits():
                    failed_with = FailureReason.NOT_FOUND
                raise
            finally:
                if failed_with is not FailureReason.NOT_FOUND:  # else nobody was there
                    stats.connection_attempts += 1
                    stats.connection_failures.update([failed_with] if failed_with else [])

    return CountingClient


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


async def _disconnected(client: BleakClient) -> None:
    """Undo a connection that was made in the moment in which nobody wanted it any more."""
    await client.disconnect()
