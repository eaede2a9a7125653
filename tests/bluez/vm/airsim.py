"""Simulates the radio of the virtual machine: its kernel's controller, and the batteries.

Bumble is the radio, and exporter.demo.battery's VirtualBattery answers. It runs outside the
machine: the kernel's HCI packets and the tests' requests arrive over Unix sockets.
"""

import argparse
import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from bumble import hci
from bumble.controller import Controller
from bumble.core import UUID, AdvertisingData
from bumble.device import Connection, Device
from bumble.gatt import Characteristic, CharacteristicValue, Service
from bumble.host import Host
from bumble.transport.common import AsyncPipeSink, PacketParser
from kernel_controller import FEATURES, PUBLIC, KernelController, Link, Sink, Source, later, say

from batteries import make_all_batteries
from control import Control, serve
from exporter.demo.battery import Delivery, VirtualBattery
from tests.support.air_faults import AirFaults

SUPERVISION_S: Final = 2.0
READVERTISE_S: Final = 3.7  # no multiple of usual advertising intervals
UNIT: Final = 0.625  # ms of advertising intervals


class Peripheral:
    """Bumble's device in front of one virtual battery."""

    def __init__(self, air: "Air", battery: VirtualBattery) -> None:
        self.battery = battery
        self.held_s = 0.0
        self.connected_s = 0.0  # time of the last connection, by the loop's clock
        self._air = air
        self._since_s: float | None = None
        self._connection: Connection | None = None
        self._advertising = asyncio.Lock()
        self._silent_until_s = 0.0
        there = hci.Address(battery.address, PUBLIC)
        self.controller = Controller(battery.name, link=air.link, public_address=there)
        self.controller.le_features = FEATURES
        host = Host(self.controller, AsyncPipeSink(self.controller))
        self._device = Device(name=battery.name, address=there, host=host)
        self._notifying: dict[str, Characteristic[Any]] = {}
        for profile in battery.gatt:
            notify: Characteristic[Any] = Characteristic(
                profile.notify, Characteristic.Properties.NOTIFY, Characteristic.READABLE, b""
            )
            self._notifying[profile.notify] = notify
            write: Characteristic[Any] = Characteristic(
                profile.write,
                Characteristic.Properties.WRITE | Characteristic.Properties.WRITE_WITHOUT_RESPONSE,
                Characteristic.WRITEABLE,
                CharacteristicValue(write=self._written if profile == battery.speaks else None),
            )
            self._device.add_service(Service(profile.service, [write, notify]))
        self._device.on("connection", self._connected)

    @property
    def connected(self) -> bool:
        return self._connection is not None

    @property
    def held_so_far_s(self) -> float:
        now_s = asyncio.get_running_loop().time()
        return self.held_s + (0.0 if self._since_s is None else now_s - self._since_s)

    async def start(self) -> None:
        await self._device.power_on()
        await self.advertise()
        later(self._keep_advertising())

    async def _keep_advertising(self) -> None:
        """Restart advertising regularly: Bumble sometimes falls silent after a disconnect."""
        while True:
            await asyncio.sleep(READVERTISE_S)
            if self._connection is None:
                await self.advertise()

    async def advertise(self) -> None:
        """Start or stop advertising as the state requires; one call at a time, for Bumble."""
        async with self._advertising:
            now_s = asyncio.get_running_loop().time()
            is_busy = self._connection is not None or now_s < self._silent_until_s
            if is_busy or not self.battery.advertising:
                await self._device.stop_advertising()
                return
            interval = self._air.link.faults.advertise_ms * UNIT  # Bumble takes units for ms
            uuids = b"".join(UUID(uuid).to_bytes() for uuid in self.battery.advertises)
            data = AdvertisingData(
                [
                    (AdvertisingData.FLAGS, b"\x06"),
                    (AdvertisingData.INCOMPLETE_LIST_OF_16_BIT_SERVICE_CLASS_UUIDS
                     if len(uuids) == 2
                     else AdvertisingData.INCOMPLETE_LIST_OF_128_BIT_SERVICE_CLASS_UUIDS, uuids),
                    (AdvertisingData.COMPLETE_LOCAL_NAME, self.battery.name.encode()),
                ]
            )  # fmt: skip
            await self._device.start_advertising(
                own_address_type=hci.OwnAddressType.PUBLIC,
                advertising_data=bytes(data),
                scan_response_data=b"",
                auto_restart=False,
                advertising_interval_min=interval,
                advertising_interval_max=interval,
            )

    def _connected(self, connection: Connection) -> None:
        say(self.battery.name, "connected")
        self._connection = connection
        self._since_s = self.connected_s = asyncio.get_running_loop().time()
        connection.on("disconnection", self._disconnected)
        later(self.advertise())  # stops it if it has just started
        if self.battery.faults.refuses:
            later(connection.disconnect())
        self._deliver(self.battery.connected())

    def _disconnected(self, reason: int) -> None:
        say(self.battery.name, f"disconnected, reason {reason:#04x}")
        self.held_s = self.held_so_far_s
        self._since_s = self._connection = None
        self.battery.disconnects += 1
        gap_s = self._air.link.faults.gap_after_disconnect_s
        loop = asyncio.get_running_loop()
        self._silent_until_s = loop.time() + gap_s
        loop.call_later(gap_s, lambda: later(self.advertise()))

    def _written(self, connection: Connection, value: bytes) -> None:
        say(self.battery.name, "write", bytes(value).hex())
        if connection is self._connection:
            now_s = asyncio.get_running_loop().time()
            self._deliver(self.battery.request(bytes(value), now_s))

    def _deliver(self, notifications: Sequence[Delivery]) -> None:
        loop = asyncio.get_running_loop()
        for one in notifications:
            loop.call_later(one.after_s, self._notify, self._connection, one.data)

    def _notify(self, connection: Connection | None, data: bytes | None) -> None:
        if connection is None or connection is not self._connection:
            return
        if data is None:
            later(connection.disconnect())
            return
        characteristic = self._notifying[self.battery.speaks.notify]
        later(self._device.notify_subscriber(connection, characteristic, data))

    def drop(self) -> None:
        if self._connection is not None:
            later(self._connection.disconnect())

    def changed(self) -> None:
        """Join or leave the link, as the faults say."""
        link = self._air.link
        there = self.controller in link.controllers
        if self.battery.faults.gone and there:
            link.controllers.discard(self.controller)
            asyncio.get_running_loop().call_later(SUPERVISION_S, link.lose, self.controller)
        if not self.battery.faults.gone and not there:
            link.lose(self.controller)
            link.controllers.add(self.controller)
        later(self.advertise())


class Air:
    """Implements control.Air: eight batteries and the kernel's controller."""

    def __init__(self, link: Link, kernel: KernelController) -> None:
        self.link = link
        self.kernel = kernel
        link.attach(kernel)
        self.peripherals = [Peripheral(self, battery) for battery in make_all_batteries()]
        self.batteries = [peripheral.battery for peripheral in self.peripherals]

    def of(self, battery: VirtualBattery) -> Peripheral:
        return self.peripherals[self.batteries.index(battery)]

    def changed(self, battery: VirtualBattery) -> None:
        self.of(battery).changed()

    def drop(self, battery: VirtualBattery) -> None:
        self.of(battery).drop()

    def is_connected(self, battery: VirtualBattery) -> bool:
        return self.of(battery).connected

    def held_s(self, battery: VirtualBattery) -> float:
        return self.of(battery).held_so_far_s

    def set_faults(self, faults: AirFaults) -> None:
        """Replace the faults of the radio."""
        before, self.link.faults = self.link.faults, faults
        self.link.set_faults(faults)
        self.kernel.become(faults.chip)
        if before.advertise_ms != faults.advertise_ms:
            for peripheral in self.peripherals:
                later(peripheral.advertise())


class AirControl(Control):
    """Carries out the requests of control.py, and those that only this radio knows.

    {"do": "radio", "battery": 0, "interval_true": true}    see --interval-true
    {"do": "traffic", "battery": 0}                         see Traffic
    {"do": "air", "set": {"establish_fails": 2}}            replaces all faults of the radio
    """

    def __init__(self, air: Air) -> None:
        super().__init__(air)
        self._there = air

    def _do(self, request: dict[str, Any]) -> Any:
        link = self._there.link
        if request["do"] == "air":
            self._there.set_faults(AirFaults(**request["set"]))
            return {}
        if request["do"] == "radio":
            link.interval_true = bool(request["interval_true"])
            return {}
        if request["do"] != "traffic":
            return super()._do(request)
        peripheral = self._there.of(self._there.batteries[request["battery"]])
        peer = peripheral.controller.public_address
        traffic = link.traffic(peer)
        return {
            "bytes": traffic.size,
            "pdus": {f"{opcode:#04x}": count for opcode, count in traffic.pdus.items()},
            "answered_s": traffic.notified_s - peripheral.connected_s,  # after it connected
            "interval_s": link.interval_s(peer),
        }


class Wire(asyncio.Protocol):
    """H4 packets over a stream: the machine's virtual serial port."""

    def __init__(self, source: Source, sink: Sink) -> None:
        self._parser = PacketParser(source.sink)
        self._sink = sink

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._sink.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hci", required=True, help="Unix socket for the machine's HCI packets")
    parser.add_argument("--second", required=True, help="the same of a second adapter, far away")
    parser.add_argument("--control", required=True, help="Unix socket for the tests' requests")
    parser.add_argument("--ready", required=True, help="file to create when up")
    parser.add_argument("--interval-true", action="store_true")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    source, sink = Source(), Sink()
    link = Link(interval_true=options.interval_true)
    air = Air(link, KernelController(link, source, sink))
    second = Source(), Sink()
    KernelController(Link(interval_true=False), *second)
    for peripheral in air.peripherals:
        await peripheral.start()
    await serve(AirControl(air), options.control)
    loop = asyncio.get_running_loop()
    await loop.create_unix_server(lambda: Wire(source, sink), options.hci)
    await loop.create_unix_server(lambda: Wire(*second), options.second)
    Path(options.ready).touch()  # noqa: ASYNC240 - before anything is under way
    say("up")
    await asyncio.Event().wait()


asyncio.run(main())
