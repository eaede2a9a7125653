"""One scan an adapter, shared by everyone who looks for a battery; through bluetoothd."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from bleak import BleakScanner
from bleak.args.bluez import BlueZScannerArgs
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData, BaseBleakScanner

from exporter.ble.bleak_errors import adapter_error, bleak_errors, text
from exporter.errors import AdapterError

log = logging.getLogger(__name__)

START_ATTEMPTS: Final = 3
# bluetoothd answers in milliseconds; one that accepts and never answers must not hold a poll up.
ANSWER_S: Final = 5.0
# A connect to a battery in range takes about a second. One that hangs must not deafen the others.
PAUSE_S: Final = 4.0
# Longer than it takes a battery to advertise: every second or two.
RENEW_S: Final = 2.4

Listener = Callable[[BLEDevice, AdvertisementData], None]


class SharedScan:
    """One scan at a time, shared by everyone who listens, stopped with the last of them."""

    def __init__(self, adapter: str | None, backend: type[BaseBleakScanner] | None) -> None:
        self._adapter = adapter
        self._backend = backend
        self._lock = asyncio.Lock()
        self._scanner: BleakScanner | None = None
        self._listeners: list[Listener] = []
        self._connecting = 0
        self._scanned_s = 0.0
        self._since_s: float | None = None  # of the present scan
        self.bystanders: dict[str, Listener] = {}
        """By address of the battery. Told too, but nobody scans for them."""

    @property
    def scanned_s(self) -> float:
        """For how many seconds it has scanned so far, pauses excluded."""
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
        """Begin the scan anew if it has lasted for a while, or has ended.

        Linux drops what it hears before it has noted that its scan has begun, and a controller that
        reports every device once does not report it again until the next scan, 10 s later. In
        Linux 6.1 that is what a battery advertises in the first 0.2 ms or more.

        Raises:
            AdapterError: It cannot be started again.
        """
        async with self._lock:
            now_s = asyncio.get_running_loop().time()
            if self._connecting or (self._since_s is not None and now_s - self._since_s < RENEW_S):
                return
            await self._stop()
            await self._start()

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Stop scanning while somebody connects, and go on for those who still listen.

        A controller that reports every device once does not report again the one that Linux waits
        for: a missing battery would delay every other one until its own scan ends. A connect that
        takes long does not keep the others from listening.
        """
        async with self._lock:
            self._connecting += 1
            await self._stop()
        pausing = True

        def give_back() -> None:
            nonlocal pausing
            self._connecting -= pausing
            pausing = False

        async def give_back_late() -> None:
            await asyncio.sleep(PAUSE_S)
            give_back()
            await self._go_on()

        late = asyncio.create_task(give_back_late())
        try:
            yield
        finally:
            give_back()
            late.cancel()
            await asyncio.wait([late])
            await self._go_on()

    async def _go_on(self) -> None:
        async with self._lock:
            if self._listeners and not self._connecting and self._scanner is None:
                try:
                    await self._start()
                except AdapterError as error:  # whoever listens hears nothing
                    log.debug("scan not resumed", extra={"error": str(error)})

    async def _start(self) -> None:
        from bleak_retry_connector import (  # noqa: PLC0415 - as bluetoothd.py
            retry_bluetooth_connection_error,
        )

        bluez = BlueZScannerArgs(adapter=self._adapter) if self._adapter else BlueZScannerArgs()
        scanner = BleakScanner(self._heard, bluez=bluez, backend=self._backend)
        start = retry_bluetooth_connection_error(START_ATTEMPTS)(scanner.start)
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
        except bleak_errors() as error:
            raise adapter_error(error, "scan") from error
        self._scanner = scanner
        self._since_s = asyncio.get_running_loop().time()

    async def _stop(self) -> None:
        if self._scanner is not None:
            self._scanned_s = self.scanned_s
            scanner, self._scanner, self._since_s = self._scanner, None, None
            await _stop(scanner)

    def _heard(self, device: BLEDevice, data: AdvertisementData) -> None:
        for listener in (*self._listeners, *self.bystanders.values()):
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
    """End a scan, also when whoever asked for that is cancelled: it would go on with nobody."""
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
    except bleak_errors() as error:  # the adapter or bluetoothd went away, and the scan with it
        log.debug("scan stop failed", extra={"error": text(error)})
