"""Scans through bluetoothd: one scan per adapter, shared by all its listeners."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from bleak import BleakScanner
from bleak.args.bluez import BlueZScannerArgs
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData, BaseBleakScanner
from bleak_retry_connector import retry_bluetooth_connection_error

from exporter.ble import bluez
from exporter.ble.adapter_health import CURE
from exporter.ble.bleak_errors import BLEAK_ERRORS, adapter_error, is_busy, text
from exporter.ble.direct.wedge import Evidence, WedgeReason
from exporter.ble.timeouts import ANSWER_S
from exporter.ble.transport import Hear, Renew
from exporter.errors import AdapterError, Cause
from exporter.protocol.advertisement import Advertisement

log = logging.getLogger(__name__)

START_ATTEMPTS: Final = 3
# A connect takes about a second. One that hangs must not keep others from finding their battery.
PAUSE_S: Final = 4.0
RENEW_S: Final = 2.4  # longer than the one or two seconds between two advertisements
SETTLE_S: Final = 1.0  # by then bluetoothd has reported that our own scan ended

Listener = Callable[[BLEDevice, AdvertisementData], None]


class StuckDiscoveryError(AdapterError):
    """The kernel refuses every scan although bluetoothd runs none; nothing can connect.

    Source: github.com/bluez/bluez, issues 464, 807 and 1554; only a power cycle ends that.
    """

    cause = Cause.WEDGE

    def __init__(self, adapter: str) -> None:
        self.evidence = Evidence(
            WedgeReason.DISCOVERY,
            f"{adapter} starts no scan: the kernel takes one for running, and bluetoothd has none",
        )
        super().__init__(f"{self.evidence.why}: {CURE}")


class Scanner:
    """One scan at a time, shared by all listeners; it stops with the last of them."""

    def __init__(
        self,
        adapter: str | None = None,
        backend: type[BaseBleakScanner] | None = None,
        record: Listener | None = None,
    ) -> None:
        """Configure the scan; `record` gets the advertisements of every scan, but starts none."""
        self._adapter = adapter
        self._backend = backend
        self._record = record
        self._lock = asyncio.Lock()
        self._scanner: BleakScanner | None = None
        self._listeners: list[Listener] = []
        self._connecting: set[object] = set()  # the connects for which the scan pauses
        self._scanned_s = 0.0
        self._since_s: float | None = None  # when the current scan started
        self._ended_s = float("-inf")
        self.shared: str | None = None
        """The adapter, if another program scanned with it before our last scan started."""

    @asynccontextmanager
    async def advertisements(self, hear: Hear) -> AsyncIterator[Renew]:
        """Call `hear` for every advertisement; see `ScanningTransport`."""

        def listener(device: BLEDevice, data: AdvertisementData) -> None:
            hear(make_advertisement(device, data))

        async with self.listen(listener):
            yield self.renew

    async def find_adapter(self) -> str | None:
        """Return the name of the adapter that scans; None: there is none yet."""
        return self._adapter or await bluez.find_default_adapter()

    @property
    def scanned_s(self) -> float:
        """Seconds of scanning so far, without pauses."""
        if self._since_s is None:
            return self._scanned_s
        return self._scanned_s + asyncio.get_running_loop().time() - self._since_s

    @asynccontextmanager
    async def listen(self, listener: Listener) -> AsyncIterator[None]:
        """Pass every advertisement to `listener` while the context is open.

        Raises:
            AdapterError: The scan cannot be started.
        """
        self._listeners.append(listener)
        try:
            async with self._lock:
                if self._scanner is None and not self._connecting:
                    await self._start()
            yield
        finally:
            self._listeners.remove(listener)
            async with self._lock:
                if not self._listeners:
                    await self._stop()

    async def renew(self) -> None:
        """Restart the scan if it has ended, or is older than RENEW_S and may miss a battery.

        Linux drops reports that arrive before it has recorded that the scan started (Linux 6.1:
        those of the first 0.2 ms or more). A controller that reports each device once per scan
        reports such a battery again only in Linux's next scan, 10 s later.

        Raises:
            AdapterError: The scan cannot be started again.
        """
        async with self._lock:
            now_s = asyncio.get_running_loop().time()
            if self._connecting or (self._since_s is not None and now_s - self._since_s < RENEW_S):
                return
            await self._stop()
            await self._start()

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Stop the scan during a connect, for at most PAUSE_S; resume it if others listen.

        To connect, Linux waits for a new report of the device. A controller that reports each
        device once per scan sends none until the scan ends: the search for a missing battery
        would delay the connects to all others.
        """
        connect = object()
        self._connecting.add(connect)

        async def resume_late() -> None:
            await asyncio.sleep(PAUSE_S)
            self._connecting.discard(connect)
            await self._restart()

        late = asyncio.create_task(resume_late())
        try:
            async with self._lock:
                await self._stop()
            yield
        finally:
            self._connecting.discard(connect)
            late.cancel()
            await asyncio.wait([late])
            await self._restart()

    async def _restart(self) -> None:
        async with self._lock:
            if self._listeners and not self._connecting and self._scanner is None:
                try:
                    await self._start()
                except AdapterError as error:  # the listeners time out
                    log.debug("scan not resumed", extra={"error": str(error)})

    async def _start(self) -> None:
        args = BlueZScannerArgs(adapter=self._adapter) if self._adapter else BlueZScannerArgs()
        scanner = BleakScanner(self._advertised, bluez=args, backend=self._backend)
        start = retry_bluetooth_connection_error(START_ATTEMPTS)(scanner.start)
        await self._notice_others()
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
            raise await self._make_error(error) from error
        self._scanner = scanner
        self._since_s = asyncio.get_running_loop().time()

    async def _notice_others(self) -> None:
        if self._backend is None and asyncio.get_running_loop().time() - self._ended_s > SETTLE_S:
            adapter = await self.find_adapter()
            is_shared = adapter is not None and await bluez.is_discovering(adapter)
            self.shared = adapter if is_shared else None

    async def _make_error(self, error: Exception) -> AdapterError:
        """Return the error for a scan that was refused.

        bluetoothd lets several programs scan at once: a scan of another one is no reason.
        """
        if self._backend is None and is_busy(error):
            adapter = await self.find_adapter()
            if adapter is not None and not await bluez.is_discovering(adapter):
                return StuckDiscoveryError(adapter)
        return adapter_error(error, "scan")

    async def _stop(self) -> None:
        if self._scanner is not None:
            self._scanned_s = self.scanned_s
            scanner, self._scanner, self._since_s = self._scanner, None, None
            try:
                await _stop(scanner)
            finally:
                self._ended_s = asyncio.get_running_loop().time()

    def _advertised(self, device: BLEDevice, data: AdvertisementData) -> None:
        if self._record is not None:
            self._record(device, data)
        for listener in (*self._listeners,):
            listener(device, data)


def make_advertisement(device: BLEDevice, data: AdvertisementData) -> Advertisement:
    """Return what bleak has received."""
    return Advertisement(
        address=device.address.upper(),
        name=(data.local_name or "").strip(),
        rssi_dbm=data.rssi,
        service_uuids=frozenset(data.service_uuids),
        manufacturer_data=data.manufacturer_data,
        address_type=_address_type(device),
    )


def _address_type(device: BLEDevice) -> str | None:
    """Return what bluetoothd says; other backends do not tell."""
    details = device.details if isinstance(device.details, dict) else {}
    kind = details.get("props", {}).get("AddressType")
    return kind if isinstance(kind, str) else None


async def _abandon(starting: asyncio.Task[None], scanner: BleakScanner) -> None:
    """Stop a scan whose start was cancelled: nothing else stops it."""
    done, _ = await asyncio.wait([starting], timeout=ANSWER_S)
    if not done:
        starting.cancel()
        await asyncio.wait([starting], timeout=1.0)
    elif not starting.cancelled() and starting.exception() is None:
        await _stop(scanner)


async def _stop(scanner: BleakScanner) -> None:
    """Stop a scan, even if the caller is cancelled: nothing else stops it."""
    ending = asyncio.ensure_future(_end(scanner))
    try:
        await asyncio.shield(ending)
    except asyncio.CancelledError:
        await asyncio.wait([ending])
        raise


async def _end(scanner: BleakScanner) -> None:
    try:
        async with asyncio.timeout(ANSWER_S):
            await scanner.stop()
    except BLEAK_ERRORS as error:  # the adapter or bluetoothd went away, and the scan with it
        log.debug("scan stop failed", extra={"error": text(error)})
