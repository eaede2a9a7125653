"""One connection to the API of a proxy, and what the ESP32 reports over it."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, TypeVar

from aioesphomeapi.client import APIClient
from aioesphomeapi.core import APIConnectionError, TimeoutAPIError
from aioesphomeapi.model import APIVersion, BluetoothProxyFeature, DeviceInfo
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from exporter.ble.proxy.errors import TakenError, explain_open, tidy
from exporter.ble.proxy.raw import format_address, is_plausible
from exporter.ble.proxy.slots import Slots
from exporter.ble.timeouts import CLEAN_UP_S, leave_behind
from exporter.config.schema import ProxyConfig
from exporter.errors import AdapterError

log = logging.getLogger(__name__)
# It logs what we report with advice, and bytes from the network.
logging.getLogger("aioesphomeapi").setLevel(logging.CRITICAL)
# It reports a message that it cannot parse to us, and then raises the error into asyncio, too.
logging.getLogger("asyncio").addFilter(
    lambda record: not (record.exc_info and isinstance(record.exc_info[1], DecodeError))
)

OPEN_S: Final = 10.0  # an ESP32 with weak Wi-Fi takes seconds
KEEP_ALIVE_S: Final = 10.0  # the library gives up after 4.5 of them without an answer
SILENT_S: Final = 2.0  # JBD modules, phones and most other devices advertise more often
# With SILENT_S less than a poll waits for a reply, so that it fails with the reason.
PROBE_S: Final = 2.5
INFO_PART: Final = 0.8  # of PROBE_S
# No device has this address: a request to disconnect it changes nothing, and is answered to the
# subscriber only (ESPHome, bluetooth_proxy.cpp, bluetooth_device_request).
PROBE_ADDRESS: Final = 1
MAX_VERSION: Final = 20  # characters
CAPABILITIES_VERSION: Final = APIVersion(1, 15)

Listener = Callable[[str, Any], None]
"""Gets the address, and the library's message with `rssi`, `address_type` and `data`."""
T = TypeVar("T")


class Session:
    """Subscribed to the advertisements of a proxy from its opening to its end.

    An ESP32 drops the Bluetooth connections of a client that is not subscribed.
    """

    def __init__(
        self, config: ProxyConfig, hear: Listener, on_end: "Callable[[Session], None]"
    ) -> None:
        """Prepare a connection; `hear` gets every plausible advertisement."""
        self.name = config.name
        self.slots = Slots()
        self.connected: set[int] = set()  # addresses
        self.flags = 0
        self.version = ""  # of ESPHome
        self.ended: asyncio.Future[AdapterError] = asyncio.get_running_loop().create_future()
        self._config = config
        self._hear = hear
        self._on_end = on_end
        self._noted_s = 0.0  # when the ESP32 last reported anything
        self.client = APIClient(
            config.host,
            config.port,
            noise_psk=config.key,
            client_info="bms-exporter",
            keepalive=KEEP_ALIVE_S,
            provide_time=False,
        )

    async def connect(self) -> None:
        """Connect to the API, and find out what the proxy can do.

        Raises:
            AdapterError: It cannot be reached, or is no proxy that connects.
        """
        try:
            async with asyncio.timeout(OPEN_S):
                await self.client.connect(on_stop=self._stopped, log_errors=False)
                info = await self.client.device_info()
                self.flags = await self._read_flags(info)
        except (APIConnectionError, OSError) as error:  # TimeoutError is an OSError
            self.client.force_disconnect()
            raise explain_open(error, self._config) from error
        except asyncio.CancelledError:
            self.client.force_disconnect()
            raise
        self.version = tidy(info.esphome_version, MAX_VERSION)
        if why_not := self._why_not_usable():
            self.client.force_disconnect()
            raise AdapterError(f"proxy {self.name}: {why_not}")

    def subscribe(self) -> None:
        """Take the Bluetooth of the proxy, also from another program. Raises AdapterError."""
        try:
            self.client.subscribe_bluetooth_connections_free(self._count)
            self.client.subscribe_bluetooth_le_raw_advertisements(self._advertised)
        except APIConnectionError as error:
            raise explain_open(error, self._config) from error
        self.note()

    async def _read_flags(self, info: DeviceInfo) -> int:
        """Return what the proxy can do; since API 1.15 it is asked separately."""
        version = self.client.api_version or APIVersion()
        flags = info.bluetooth_proxy_feature_flags_compat(version)
        if not flags and version >= CAPABILITIES_VERSION:
            flags = (await self.client.device_capabilities()).bluetooth_proxy.feature_flags
        return flags

    def _why_not_usable(self) -> str | None:
        if not self.flags:
            return "it is no Bluetooth proxy: add bluetooth_proxy: active: true to its YAML"
        if not self.flags & BluetoothProxyFeature.ACTIVE_CONNECTIONS:
            return (
                "it only forwards advertisements: set bluetooth_proxy: active: true in its YAML "
                "(the firmware of Shelly and SMLIGHT cannot connect)"
            )
        needed = BluetoothProxyFeature.REMOTE_CACHING | BluetoothProxyFeature.RAW_ADVERTISEMENTS
        if needed & ~self.flags:
            return "its ESPHome is too old: install 2024.2 or newer"
        return None

    def note(self) -> None:
        """Record that the ESP32 has just reported something that only its subscriber gets."""
        self._noted_s = asyncio.get_running_loop().time()

    def _count(self, free: int, limit: int, allocated: list[int]) -> None:
        self.slots.update(free, limit, allocated)

    def _advertised(self, message: Any) -> None:
        self.note()
        for raw in message.advertisements:
            if is_plausible(raw.address, raw.rssi, raw.data):
                self._hear(format_address(raw.address), raw)

    async def monitor(self) -> None:
        """End the session when another program takes the proxy, or the ESP32 stops answering.

        ESPHome does not report it: from then on nothing arrives. To subscribe again would take the
        proxy from the other program.
        """
        now_s = asyncio.get_running_loop().time
        while not self.ended.done():
            silent_s = now_s() - self._noted_s
            if silent_s < SILENT_S:
                await asyncio.sleep(SILENT_S - silent_s)
            elif await self._is_subscribed():
                self.note()

    async def _is_subscribed(self) -> bool:
        asked_s = asyncio.get_running_loop().time()
        probe, info = await asyncio.gather(
            self.client.bluetooth_device_disconnect(PROBE_ADDRESS, timeout=PROBE_S),
            # Sent second, and so answered second: then the probe's answer is not only late.
            self._ask_info(),
            return_exceptions=True,
        )
        if probe is None or self._noted_s > asked_s:
            return True
        if not isinstance(probe, APIConnectionError):
            raise probe
        if not isinstance(probe, TimeoutAPIError):  # `_stopped` reports it, too
            self.end(self._make_lost())
        elif isinstance(info, BaseException):
            self.end(AdapterError(f"proxy {self.name}: it does not answer any more"))
        else:
            self.end(TakenError(self.name))
        return False

    async def _ask_info(self) -> None:
        async with asyncio.timeout(INFO_PART * PROBE_S):
            await self.client.device_info()

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Return the result of `work`, unless the session ends first.

        Raises:
            AdapterError: The session ended.
            APIConnectionError: As `work` does.
        """
        task = asyncio.ensure_future(work)
        try:
            either: list[asyncio.Future[Any]] = [task, self.ended]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if task.done() and not (self.ended.done() and task.exception()):
                return task.result()
            raise self.make_error()
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait([task], timeout=CLEAN_UP_S)
                leave_behind(task)

    def keeps(self, address: int) -> bool:
        """Return whether the ESP32 is connected to a battery that no poll of ours uses.

        A request to disconnect it, or its answer, was lost.
        """
        return address in self.slots.allocated and address not in self.connected

    def release(self, address: int) -> None:
        """Request the end of such a connection."""
        extra = {"proxy": self.name, "address": format_address(address)}
        log.info("unused connection of proxy dropped", extra=extra)
        with suppress(APIConnectionError):  # `_stopped` reports it, too
            self.client.bluetooth_device_disconnect_no_wait(address)

    def make_error(self) -> AdapterError:
        """Return the reason why the session ended, as a new error."""
        why = self.ended.result()
        return AdapterError(str(why), why.cause)

    def end(self, why: AdapterError) -> None:
        """Disconnect the batteries and the API, without waiting for it; repeated calls do nothing.

        The ESP32 would keep the batteries connected for its new client.
        """
        if self.ended.done():
            return
        self.ended.set_result(why)
        try:
            for address in self.connected:
                self.client.bluetooth_device_disconnect_no_wait(address)
        except APIConnectionError:
            pass  # the API connection is gone, and the ESP32 drops its batteries
        self.client.force_disconnect()
        self._on_end(self)

    async def _stopped(self, _is_expected: bool) -> None:  # noqa: FBT001 - called by the library
        self.end(self._make_lost())

    def _make_lost(self) -> AdapterError:
        return AdapterError(f"proxy {self.name}: the connection to it ended")
