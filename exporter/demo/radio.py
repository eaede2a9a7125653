"""A virtual radio: bleak backends that connect to virtual batteries."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from bleak.args import SizedBuffer
from bleak.assigned_numbers import CharacteristicPropertyName
from bleak.backends.characteristic import BleakGATTCharacteristic
from bleak.backends.client import BaseBleakClient, NotifyCallback
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData, AdvertisementDataCallback, BaseBleakScanner
from bleak.backends.service import BleakGATTService, BleakGATTServiceCollection
from bleak.exc import BleakError

from exporter.ble.transport import Backend
from exporter.demo.battery import Delivery, VirtualBattery

MTU: Final = 23


@dataclass(slots=True, kw_only=True)
class Air:
    """The batteries in range of a virtual radio, and its times, which are those of BlueZ 5.66."""

    batteries: dict[str, VirtualBattery]  # by address
    connect_s: float = 0.7
    disconnect_s: float = 2.0
    advertise_every_s: float = 1.0
    connected: dict[str, "_Client"] = field(default_factory=dict)  # by address
    scans: int = 0  # under way
    most_scans: int = 0  # at the same time, so far
    deaf_scans: int = 0  # how many of the next ones get no report, because Linux drops it
    scan_error: Exception | None = None  # raised by every start of a scan
    scan_hangs: bool = False  # as with a bluetoothd that accepts and never answers

    def drop(self, address: str) -> None:
        """End a connection from the battery's side."""
        if client := self.connected.get(address):
            client.dropped()


def make_air(batteries: Iterable[VirtualBattery], **times: float) -> Air:
    """Return a virtual radio with these batteries in range."""
    return Air(batteries={battery.address: battery for battery in batteries}, **times)  # type: ignore[arg-type]


def make_backend(air: Air) -> Backend:
    """Return the classes that replace those of bleak."""

    class VirtualClient(_Client):
        _air = air

    class VirtualScanner(_Scanner):
        _air = air

    return Backend(client=VirtualClient, scanner=VirtualScanner)


class _Scanner(BaseBleakScanner):
    _air: ClassVar[Air]
    _next: asyncio.TimerHandle | None = None
    _deaf = False

    def __init__(
        self,
        detection_callback: AdvertisementDataCallback | None,
        service_uuids: list[str] | None,
        *_: Any,
        **__: Any,
    ) -> None:
        super().__init__(detection_callback, service_uuids)

    async def start(self) -> None:
        if self._air.scan_error is not None:
            raise self._air.scan_error
        if self._air.scan_hangs:
            await asyncio.Event().wait()
        self.seen_devices = {}
        self._deaf = self._air.deaf_scans > 0
        self._air.deaf_scans -= self._deaf
        self._air.scans += 1
        self._air.most_scans = max(self._air.most_scans, self._air.scans)
        self._advertise_after(self._air.advertise_every_s / 2)

    async def stop(self) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None
            self._air.scans -= 1

    def _advertise_after(self, seconds: float) -> None:
        self._next = asyncio.get_running_loop().call_later(seconds, self._advertise)

    def _advertise(self) -> None:
        self._advertise_after(self._air.advertise_every_s)
        if self._deaf:
            return
        for address, battery in self._air.batteries.items():
            if battery.advertising and address not in self._air.connected:
                data = AdvertisementData(
                    local_name=battery.name,
                    manufacturer_data={},
                    service_data={},
                    service_uuids=list(battery.advertises),
                    tx_power=None,
                    rssi=battery.rssi_dbm,
                    platform_data=(),
                )
                device = self.create_or_update_device(address, address, battery.name, None, data)
                self.call_detection_callbacks(device, data)


class _Client(BaseBleakClient):
    _air: ClassVar[Air]

    def __init__(self, address_or_ble_device: BLEDevice | str, **options: Any) -> None:
        super().__init__(address_or_ble_device, **options)
        self._battery = self._air.batteries[self.address]
        self._callbacks: dict[str, NotifyCallback] = {}
        self._underway: set[asyncio.TimerHandle] = set()

    @property
    def name(self) -> str:
        return self._battery.name

    @property
    def mtu_size(self) -> int:
        return MTU

    @property
    def is_connected(self) -> bool:
        return self._air.connected.get(self.address) is self

    async def connect(self, pair: bool, **kwargs: Any) -> None:
        battery = self._battery
        if battery.choose_faults is not None:
            battery.faults = battery.choose_faults()
        async with asyncio.timeout(kwargs.get("timeout", self._timeout)):
            while self._unreachable():  # noqa: ASYNC110 - the end of a fault is not reported
                await asyncio.sleep(self._air.advertise_every_s)
            await asyncio.sleep(self._air.connect_s)
        if battery.faults.refuses:
            raise BleakError("Software caused connection abort")
        self._air.connected[self.address] = self
        self.services = _gatt(battery)
        self._deliver(battery.connected())

    def _unreachable(self) -> bool:
        faults = self._battery.faults
        return faults.gone or faults.held or self.address in self._air.connected

    async def disconnect(self) -> None:
        if self.is_connected:
            self._forget()
            try:
                await asyncio.sleep(self._air.disconnect_s)
            finally:
                self._ended()

    def dropped(self) -> None:
        """Handle a connection that the battery has ended."""
        self._forget()
        self._ended()

    async def _unused(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    pair = unpair = read_gatt_char = read_gatt_descriptor = write_gatt_descriptor = _unused

    async def write_gatt_char(
        self, characteristic: BleakGATTCharacteristic, data: SizedBuffer, response: bool
    ) -> None:
        if not self.is_connected:
            raise BleakError("Not connected")
        if characteristic.uuid == self._battery.speaks.write:
            if not self._battery.takes(response=response):
                if response:
                    raise BleakError("write not permitted")
                return
            now_s = asyncio.get_running_loop().time()
            self._deliver(self._battery.request(bytes(data), now_s))

    async def start_notify(
        self, characteristic: BleakGATTCharacteristic, callback: NotifyCallback, **kwargs: Any
    ) -> None:
        if not self.is_connected:
            raise BleakError("Not connected")
        self._callbacks[characteristic.uuid] = callback
        if characteristic.uuid == self._battery.speaks.notify:
            self._deliver(self._battery.subscribed())

    async def stop_notify(self, characteristic: BleakGATTCharacteristic) -> None:
        self._callbacks.pop(characteristic.uuid, None)

    def _deliver(self, notifications: list[Delivery]) -> None:
        loop = asyncio.get_running_loop()
        for notification in notifications:
            handle = loop.call_later(notification.after_s, self._arrive, notification.data)
            self._underway.add(handle)

    def _arrive(self, data: bytes | None) -> None:
        if data is None:
            self.dropped()
        elif callback := self._callbacks.get(self._battery.speaks.notify):
            callback(bytearray(data))

    def _forget(self) -> None:
        for handle in self._underway:
            handle.cancel()
        self._underway.clear()
        self._callbacks.clear()

    def _ended(self) -> None:
        if self._air.connected.pop(self.address, None) is self:
            self.services = None
            self._battery.disconnects += 1
            if self._disconnected_callback is not None:
                self._disconnected_callback()


def _gatt(battery: VirtualBattery) -> BleakGATTServiceCollection:
    """Return the battery's GATT table: a service every 16 handles."""
    table = BleakGATTServiceCollection()
    for number, profile in enumerate(battery.gatt, start=1):
        handle = 16 * number
        service = BleakGATTService(None, handle, profile.service)
        table.add_service(service)
        notify: tuple[CharacteristicPropertyName, ...] = ("notify",)
        for offset, (uuid, properties) in enumerate(
            ((profile.notify, notify), (profile.write, battery.write_properties))
        ):
            table.add_characteristic(
                BleakGATTCharacteristic(
                    None, handle + 2 + 3 * offset, uuid, [*properties], lambda: MTU - 3, service
                )
            )
    return table
