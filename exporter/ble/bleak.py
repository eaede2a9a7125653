"""The transport over bleak: bluetoothd, or another implementation of bleak's interfaces."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

from bleak import BleakClient
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData
from bleak_retry_connector import establish_connection

from exporter.ble import bluez
from exporter.ble.adapter_health import AdapterHealths
from exporter.ble.bleak_connection import BleakConnection, BleakLink
from exporter.ble.bleak_errors import BLEAK_ERRORS, describe, text, translate
from exporter.ble.direct.management import Management
from exporter.ble.scanner import Scanner
from exporter.ble.search import Search
from exporter.ble.timeouts import (
    CONNECTION_S,
    GATT_ATTEMPTS,
    UNDO_S,
    may_retry,
    retry_pauses,
    with_timeout,
)
from exporter.ble.transport import Backend, Target
from exporter.clock import Clock, boot_s
from exporter.errors import Cause, ConnectError, FailureReason, LinkError, ProfileError
from exporter.link_stats import LinkStats

log = logging.getLogger(__name__)

# A connect to a battery in range takes 0.4 to 1.1 s on BlueZ 5.66; one to a battery that has
# just left hangs for up to 40 s.
ATTEMPT_S: Final = 8.0
SCAN_S: Final = 10.0  # of bluetoothd, at a time


class BleakTransport:
    """Implements `ScanningTransport` over one adapter."""

    def __init__(
        self,
        *,
        adapter: str | None = None,
        backend: Backend | None = None,
        management: Management | None = None,
        healths: AdapterHealths | None = None,
        clock: Clock = boot_s,
    ) -> None:
        """Configure the transport without using Bluetooth; `clock` gives `LinkStats.seen_at_s`.

        All transports of this machine share `healths`.
        """
        backend = backend or Backend()
        self._adapter = adapter
        self._client = backend.client
        self._management = management or Management()
        self._clock = clock
        self.targets: Mapping[str, Target] = {}
        self._scanner = Scanner(adapter, backend.scanner, self._record)
        self.advertisements = self._scanner.advertisements
        self._search = Search(
            self._scanner,
            self._management,
            healths or AdapterHealths(clock),
            clock,
            is_virtual=self._client is not None,
        )
        self._connecting = 0  # batteries
        self._gentle: set[str] = set()  # addresses

    def _record(self, device: BLEDevice, data: AdvertisementData) -> None:
        if (target := self.targets.get(device.address.upper())) is not None:
            target.stats.record_advertisement(data.rssi, self._clock(), self._adapter)

    @asynccontextmanager
    async def connect(
        self, target: Target, *, deadline_s: float, is_gentle: bool = False
    ) -> AsyncIterator[BleakConnection]:
        """Find the battery, connect, and disconnect when the context ends; see `Transport`.

        bluetoothd always exchanges the MTU. The gentle style keeps the kernel's own interval.
        """
        (self._gentle.add if is_gentle else self._gentle.discard)(target.address)
        self._gentle &= {target.address, *self.targets}  # not those of an earlier configuration
        links: list[BleakLink] = []
        record = target.stats.record_connection
        async with AsyncExitStack() as stack:
            stack.callback(record, connected=False)  # unless bluetoothd has reported it before
            device = await self._search.find(target, deadline_s)
            addresses = [target.address, *self.targets]
            await self._management.load_parameters(self._adapter, addresses, gentle=self._gentle)
            if self._client is None:
                await bluez.follow(device, lambda connected: record(connected=connected), stack)
            async with self._search.use(self._name(device), target.address):
                try:
                    client = await self._establish(device, target, links, deadline_s)
                except ConnectError as error:
                    adapter = self._name(device)
                    if why_not := await self._search.explain(adapter, target.address):
                        raise why_not from error
                    raise
            record(connected=True)
            measuring = asyncio.create_task(self._management.record_rssi(target, self._clock))
            try:
                yield BleakConnection(client, target, links, adapter=self._name(device))
            except ProfileError:
                if self._client is None:
                    await bluez.forget_table(str(device.details["path"]))
                raise
            finally:
                measuring.cancel()
                await self._disconnect(client, target)

    async def _disconnect(self, client: BleakClient, target: Target) -> None:
        if target.stats.recorder is not None:
            target.stats.recorder.closed("us")
        if was_connected := client.is_connected:
            await self._management.disconnect(target.address)
        try:
            await with_timeout(client.disconnect(), UNDO_S)
            if was_connected:  # one that was lost may be left: bluetoothd may have been restarted
                is_left = self._client is None and await bluez.is_connected(target.address)
                target.stats.may_be_left = is_left
        except BLEAK_ERRORS as error:
            log.debug("disconnect failed", extra={"address": target.address, "error": text(error)})
        target.stats.record_event("gone")

    def _name(self, device: BLEDevice) -> str:
        """Return the adapter that a device was found on: bluetoothd chooses the default one."""
        if self._adapter is not None or self._client is not None:
            return self._adapter or "virtual"
        return str(device.details["path"]).split("/")[3]  # /org/bluez/hci0/dev_A4_...

    async def _establish(
        self, device: BLEDevice, target: Target, links: list[BleakLink], deadline_s: float
    ) -> BleakClient:
        def lost(_client: BleakClient) -> None:
            if target.stats.recorder is not None:
                target.stats.recorder.closed("battery")
            for link in links:
                link.notifications.end()

        def attempt_s() -> float:
            # More time for each other battery: the kernel makes one connection after the other.
            # While another program scans, it connects only after the next report of that scan.
            delay_s = SCAN_S if self._scanner.shared else 0.0
            return ATTEMPT_S + delay_s + CONNECTION_S * (self._connecting - 1)

        async def attempt() -> BleakClient:
            await self._search.free(target)  # bleak uses a connection that it finds
            target.stats.may_be_left = True  # also if it fails: bluetoothd may connect later
            return await establish_connection(
                _counting_client(target.stats, attempt_s),
                device,
                target.address,
                disconnected_callback=lost,
                max_attempts=1,
                backend=self._client,
            )

        self._connecting += 1
        try:
            async with self._scanner.paused():
                return await self._retry(attempt, target, deadline_s)
        finally:
            self._connecting -= 1

    async def _retry(
        self,
        attempt: Callable[[], Coroutine[Any, Any, BleakClient]],
        target: Target,
        deadline_s: float,
    ) -> BleakClient:
        now = asyncio.get_running_loop().time
        stats = target.stats
        for number, pause_s in enumerate(retry_pauses(), 1):
            held_s = stats.held_s
            try:
                # What connected just after this was cancelled is disconnected.
                client = await with_timeout(attempt(), deadline_s - now(), BleakClient.disconnect)
                _record_services(stats, client)
                if any(True for _ in client.services) or number >= GATT_ATTEMPTS:
                    return client
                # The connection ended before bluetoothd had its GATT table.
                await self._disconnect(client, target)
                failed: LinkError = ConnectError("an empty GATT table", Cause.GATT)
            except BLEAK_ERRORS as error:
                is_late = isinstance(error.__cause__ or error, TimeoutError)
                was_connected = stats.connected_at_s is not None or stats.held_s > held_s
                if is_late and was_connected:
                    failed = ConnectError(
                        f"connect to {target.address}: bluetoothd did not get its GATT table",
                        Cause.GATT,
                    )
                else:
                    doing = f"connect to {target.address}, {number} attempt(s)"
                    if self._scanner.shared:
                        doing += f" while another program scans on {self._scanner.shared}"
                    failed = translate(error, doing)
            if not may_retry(failed.cause, number) or now() + pause_s >= deadline_s:
                raise failed
            await asyncio.sleep(pause_s)
        raise AssertionError  # the pauses have no end


def _counting_client(stats: LinkStats, attempt_s: Callable[[], float]) -> type[BleakClient]:
    """Return a client that counts attempts, and ends them after `attempt_s()`.

    bleak-retry-connector does not report the attempts that it repeats.
    """

    class CountingClient(BleakClient):
        async def connect(self, **kwargs: Any) -> None:
            failure: FailureReason | None = FailureReason.CONNECT  # if cancelled
            stats.record_event("open")
            try:
                await super().connect(**{**kwargs, "timeout": attempt_s()})
                failure = None
                if stats.recorder is not None:
                    stats.recorder.connected()
            except BLEAK_ERRORS as error:
                stats.record_event("failed", doing="connect", **describe(error))
                failure = translate(error, "connect").reason
                raise
            finally:
                stats.record_attempt(failure)

    return CountingClient


def _record_services(stats: LinkStats, client: BleakClient) -> None:
    if stats.recorder is not None:
        stats.recorder.services(
            {
                service.uuid: {one.uuid: one.properties for one in service.characteristics}
                for service in client.services
            }
        )
