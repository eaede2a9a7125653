"""Finds a battery through bluetoothd, and notices an adapter that can find none."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData

from exporter.ble import bluez
from exporter.ble.adapter_health import AdapterHealth, AdapterHealths
from exporter.ble.bleak_errors import describe
from exporter.ble.direct.connect_errors import explain_silence
from exporter.ble.direct.management import Management
from exporter.ble.direct.settings import read_settings
from exporter.ble.direct.sockets import Adapter
from exporter.ble.direct.wedge import Evidence
from exporter.ble.scanner import Scanner, StuckDiscoveryError, make_advertisement
from exporter.ble.timeouts import FIND_S, limit_look
from exporter.ble.transport import Target, make_not_found, note_taken, preparing
from exporter.clock import Clock
from exporter.errors import AdapterError, Cause, FailureReason, LinkError

# A battery that bluetoothd keeps connected for a process that has ended does not advertise. So a
# search drops such a connection this often.
FREE_EVERY_S: Final = 2.5
ROUNDING_S: Final = 0.001


class Search:
    """Searches for batteries with one scanner."""

    def __init__(
        self,
        scanner: Scanner,
        management: Management,
        healths: AdapterHealths,
        clock: Clock,
        *,
        is_virtual: bool = False,
    ) -> None:
        """Configure the searches; `is_virtual` means that there is no real adapter."""
        self._scanner = scanner
        self._management = management
        self._healths = healths
        self._clock = clock
        self._is_virtual = is_virtual

    async def find(self, target: Target, deadline_s: float) -> BLEDevice:
        """Find a battery; restart the adapter if it is stuck and that is allowed.

        Raises:
            LinkError: The battery is not found. The message about a stuck adapter says what to do.
        """
        try:
            return await self._find_usable(target, deadline_s)
        except AdapterError as error:
            target.stats.record_event("failed", doing="scan", **describe(error.__cause__))
            raise

    async def _find_usable(self, target: Target, deadline_s: float) -> BLEDevice:
        async with preparing(target, deadline_s):
            adapter = None if self._is_virtual else await self._scanner.find_adapter()
            if adapter is not None:
                await self._healths.settle(adapter, self._management)
            await self.free(target)
        if adapter is None:
            return await self._find(target, deadline_s)
        health = self._healths[adapter]
        before = self._look(health, target.address)
        try:
            async with health.use(target.address):
                device = await self._find(target, deadline_s)
        except LinkError as error:
            if why_not := await self.explain(adapter, target.address):
                raise why_not from error
            evidence = self._find_evidence(error, before, health)
            if evidence is None:
                raise
            why = await health.handle(evidence, self._management, deadline_s)
            raise AdapterError(f"{why} (connect to {target.address})", Cause.WEDGE) from error
        health.note_scan()
        return device

    @asynccontextmanager
    async def use(self, adapter: str, address: str) -> AsyncIterator[None]:
        """Prevent restarts of an adapter while it connects to a battery that was found."""
        if self._is_virtual:
            yield
            return
        health = self._healths[adapter]
        async with health.use(address):
            yield
        health.note_success()

    async def explain(self, adapter: str, address: str) -> AdapterError | None:
        """Return the error that the settings of an adapter explain; None: they are as needed."""
        if self._is_virtual:
            return None
        with suppress(OSError, StopIteration):
            present = self._management.kernel.adapters()
            index = next(one.index for one in present if one.name == adapter)
            settings = await read_settings(self._management.command, index)
            return explain_silence(settings, adapter, address)
        return None

    def _look(self, health: AdapterHealth, address: str) -> Adapter | None:
        """Return the adapter before a search; None: the kernel does not tell."""
        kernel = self._management.kernel
        with suppress(OSError, StopIteration):
            adapter = next(one for one in kernel.adapters() if one.name == health.name)
            health.note_idle(address, kernel.connections(adapter.index))
            return adapter
        return None

    def _find_evidence(
        self, error: LinkError, before: Adapter | None, health: AdapterHealth
    ) -> Evidence | None:
        if isinstance(error, StuckDiscoveryError):
            return error.evidence
        health.note_scan()
        kernel = self._management.kernel
        with suppress(OSError, StopIteration):
            after = next(one for one in kernel.adapters() if one.name == health.name)
            if before is not None and error.cause is not Cause.HELD:
                return health.find_evidence(before, after, kernel.connections(after.index))
        return None

    async def _find(self, target: Target, deadline_s: float) -> BLEDevice:
        loop = asyncio.get_running_loop()
        found: asyncio.Future[BLEDevice] = loop.create_future()

        def listener(device: BLEDevice, data: AdvertisementData) -> None:
            if device.address.upper() == target.address and not found.done():
                found.set_result(device)
                if target.stats.recorder is not None:
                    target.stats.recorder.advertised(make_advertisement(device, data))

        look_s = limit_look(target.stats.missed, FIND_S)
        before_s = self._scanner.scanned_s
        async with self._scanner.listen(listener):
            while True:
                listened_s = self._scanner.scanned_s - before_s
                # A report in another program's scan may be repeated in its next one only.
                limit_s = 2 * FIND_S if self._scanner.shared else look_s
                left_s = min(limit_s - listened_s, deadline_s - loop.time())
                await asyncio.wait([found], timeout=max(0.0, min(FREE_EVERY_S, left_s)))
                if found.done():
                    return found.result()
                await self.free(target)
                if left_s < ROUNDING_S:
                    break
                await self._scanner.renew()
        target.stats.record_attempt(FailureReason.NOT_FOUND)
        raise make_not_found(target, listened_s, scanned=self._scanner.shared)

    async def free(self, target: Target) -> None:
        """Drop a connection that a killed process has left.

        A connected battery does not advertise. bluetoothd shares its connections: a client that
        used this one would end it for its owner, too.

        Raises:
            ConnectError: Another program keeps it.
        """
        if not self._is_virtual and await bluez.is_connected(target.address):
            note_taken(target, self._clock(), "bluetoothd")
            await self._management.disconnect(target.address)
            await bluez.free(target.address)
            if not await bluez.is_connected(target.address):
                target.stats.may_be_left = False
