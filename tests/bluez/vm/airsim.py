"""Simulates the radio of the virtual machine: its kernel's controller, and the batteries.

Bumble is the radio, and exporter.demo.battery's VirtualBattery answers. It runs outside the
machine: the kernel's HCI packets and the tests' requests arrive over Unix sockets.
"""

import argparse
import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bumble import hci, ll
from bumble.controller import Controller
from bumble.core import UUID, AdvertisingData, PhysicalTransport
from bumble.device import Connection, Device
from bumble.gatt import Characteristic, CharacteristicValue, Service
from bumble.host import Host
from bumble.link import LocalLink
from bumble.transport.common import AsyncPipeSink, PacketParser

from batteries import make_all_batteries
from control import Control, serve
from exporter.demo.battery import Delivery, VirtualBattery

PUBLIC: Final = hci.Address.PUBLIC_DEVICE_ADDRESS
ADAPTER: Final = hci.Address("00:1B:DC:0F:AA:01", PUBLIC)
SUPERVISION_S: Final = 2.0
ADVERTISE_MS: Final = 200
READVERTISE_S: Final = 3.0
ATT_CHANNEL: Final = b"\x04\x00"
NOTIFICATION: Final = 0x1B


@dataclass(slots=True)
class Traffic:
    """The ATT PDUs to and from one battery, without the headers of the layers below."""

    pdus: Counter[int] = field(default_factory=Counter)  # by opcode
    size: int = 0  # bytes
    notified_s: float = 0.0  # when the last notification arrived, by the loop's clock

    def add(self, l2cap: bytes, arrives_s: float) -> None:
        if l2cap[2:4] == ATT_CHANNEL:
            self.pdus[l2cap[4]] += 1
            self.size += len(l2cap) - 4
            if l2cap[4] == NOTIFICATION:
                self.notified_s = arrives_s


class Link(LocalLink):
    """Bumble's link, with the time that packets take, and with fixes that Linux needs."""

    def __init__(self, *, interval_true: bool) -> None:
        super().__init__()
        self.interval_true = interval_true
        self._kernel: KernelController | None = None
        self._intervals: dict[hci.Address, tuple[float, float]] = {}  # seconds, first event
        self._last: dict[Controller, float] = {}
        self._traffic: dict[hci.Address, Traffic] = {}

    def attach(self, kernel: "KernelController") -> None:
        self._kernel = kernel

    def note_interval(self, peer: hci.Address, units: int) -> None:
        self._intervals[peer] = (units * 0.00125, asyncio.get_running_loop().time())

    def interval_s(self, peer: hci.Address) -> float:
        """Return the connection interval that the host chose last, or 0 if packets do not wait."""
        return self._intervals.get(peer, (0.05, 0.0))[0] if self.interval_true else 0.0

    def traffic(self, peer: hci.Address) -> Traffic:
        return self._traffic.setdefault(peer, Traffic())

    def _delay_s(self, peer: hci.Address, now_s: float) -> float:
        """Return the time until the next connection event."""
        if not self.interval_true:
            return 0.0
        interval_s, first_s = self._intervals.get(peer, (0.05, now_s))
        return interval_s - (now_s - first_s) % interval_s

    def send_acl_data(
        self, sender_controller: Any, destination_address: Any, transport: Any, data: Any
    ) -> None:
        """Carry data with the connection's real address; Bumble's own method says random."""
        if transport != PhysicalTransport.LE:
            super().send_acl_data(sender_controller, destination_address, transport, data)
            return
        connection = sender_controller.le_connections.get(destination_address)
        receiver = self.find_le_controller(destination_address)
        if connection is None or receiver not in self.controllers:
            return  # out of range
        loop = asyncio.get_running_loop()
        from_kernel = sender_controller is self._kernel
        peer = destination_address if from_kernel else sender_controller.public_address
        when_s = loop.time() + self._delay_s(peer, loop.time())
        when_s = max(when_s, self._last.get(receiver, 0.0) + 1e-4)  # keeps the order
        self._last[receiver] = when_s
        self.traffic(peer).add(data, when_s)
        loop.call_at(when_s, receiver.on_link_acl_data, connection.self_address, transport, data)

    def send_ll_control_pdu(self, sender_address: Any, receiver_address: Any, packet: Any) -> None:
        try:
            super().send_ll_control_pdu(sender_address, receiver_address, packet)
        except Exception as error:  # noqa: BLE001 - Bumble raises it if the receiver is gone
            say("lost", type(packet).__name__, error)


FEATURES: Final = (
    hci.LeFeatureMask.LE_ENCRYPTION
    | hci.LeFeatureMask.CONNECTION_PARAMETERS_REQUEST_PROCEDURE
    | hci.LeFeatureMask.EXTENDED_REJECT_INDICATION
    | hci.LeFeatureMask.PERIPHERAL_INITIATED_FEATURE_EXCHANGE
    | hci.LeFeatureMask.LE_PING
    | hci.LeFeatureMask.LE_DATA_PACKET_LENGTH_EXTENSION
)


class KernelController(Controller):
    """The controller that Linux sees: Bluetooth 4.2, Low Energy only, with Bumble's gaps filled."""

    le_features = FEATURES

    def __init__(self, link: Link, source: "Source", sink: "Sink") -> None:
        super().__init__(
            "linux", host_source=source, host_sink=sink, link=link, public_address=ADAPTER
        )
        self._air = link
        self._seen: set[tuple[bytes, bytes]] = set()
        self._asked_by_host = False

    def on_hci_reset_command(self, command: Any) -> Any:
        self.le_scan_enable = False
        self.pending_le_connection = None
        for connection in list(self.le_connections.values()):
            connection.send_ll_control_pdu(ll.TerminateInd(0x08))
        self.le_connections.clear()
        return super().on_hci_reset_command(command)

    def on_hci_disconnect_command(self, command: Any) -> Any:
        """Disconnect: this side sees 0x16 (by local host), the other one the command's reason."""
        self._asked_by_host = True
        try:
            return super().on_hci_disconnect_command(command)
        finally:
            self._asked_by_host = False

    def on_le_disconnected(self, connection: Any, reason: int) -> None:
        if self._asked_by_host:
            reason = hci.HCI_ErrorCode.CONNECTION_TERMINATED_BY_LOCAL_HOST_ERROR
        super().on_le_disconnected(connection, reason)

    def on_hci_le_set_scan_enable_command(self, command: Any) -> Any:
        self._seen = set()
        return super().on_hci_le_set_scan_enable_command(command)

    def on_advertising_pdu(self, pdu: Any) -> None:
        """Filter duplicates as a chip does, which saves time on the emulated processor."""
        if self.le_scan_enable and self.filter_duplicates and self.pending_le_connection is None:
            key = (bytes(pdu.advertiser_address), bytes(pdu.data))
            if key in self._seen:
                return
            self._seen.add(key)
        super().on_advertising_pdu(pdu)

    def on_hci_le_create_connection_command(self, command: Any) -> Any:
        self._air.note_interval(command.peer_address, command.connection_interval_max)
        return super().on_hci_le_create_connection_command(command)

    def on_hci_le_connection_update_command(self, command: Any) -> Any:
        connection = self.find_le_connection_by_handle(command.connection_handle)
        if connection:
            self._air.note_interval(connection.peer_address, command.connection_interval_max)
        return super().on_hci_le_connection_update_command(command)

    def on_hci_command_packet(self, command: Any) -> None:
        """Answer the one command that Bumble leaves unanswered: Linux's queue would stall."""
        if command.op_code != hci.HCI_READ_TRANSMIT_POWER_LEVEL_COMMAND:
            super().on_hci_command_packet(command)
            return
        answer = b"\x00" + bytes(command.parameters[:2]) + b"\x00"
        self.send_hci_packet(
            hci.HCI_Command_Complete_Event(
                num_hci_command_packets=1,
                command_opcode=command.op_code,
                return_parameters=hci.HCI_GenericReturnParameters(data=answer),
            )
        )

    def on_hci_read_rssi_command(self, command: Any) -> Any:
        return hci.HCI_Read_RSSI_ReturnParameters(
            status=hci.HCI_ErrorCode.SUCCESS, handle=command.handle, rssi=-67
        )

    def on_hci_le_create_connection_cancel_command(self, _command: Any) -> Any:
        pending = self.pending_le_connection
        if pending is None:
            return hci.HCI_StatusReturnParameters(hci.HCI_ErrorCode.COMMAND_DISALLOWED_ERROR)
        self.pending_le_connection = None
        event = hci.HCI_LE_Connection_Complete_Event(
            status=hci.HCI_ErrorCode.UNKNOWN_CONNECTION_IDENTIFIER_ERROR,
            connection_handle=0,
            role=hci.Role.CENTRAL,
            peer_address_type=pending.peer_address.address_type,
            peer_address=pending.peer_address,
            connection_interval=0,
            peripheral_latency=0,
            supervision_timeout=0,
            central_clock_accuracy=0,
        )
        asyncio.get_running_loop().call_soon(self.send_hci_packet, event)
        return hci.HCI_StatusReturnParameters(hci.HCI_ErrorCode.SUCCESS)


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
        await self._advertise()
        later(self._keep_advertising())

    async def _keep_advertising(self) -> None:
        """Restart advertising regularly: Bumble sometimes falls silent after a disconnect."""
        while True:
            await asyncio.sleep(READVERTISE_S)
            if self._connection is None:
                await self._advertise()

    async def _advertise(self) -> None:
        """Start or stop advertising as the state requires; one call at a time, for Bumble."""
        async with self._advertising:
            if not self.battery.advertising or self._connection is not None:
                await self._device.stop_advertising()
                return
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
                advertising_interval_min=ADVERTISE_MS,
                advertising_interval_max=ADVERTISE_MS,
            )

    def _connected(self, connection: Connection) -> None:
        say(self.battery.name, "connected")
        self._connection = connection
        self._since_s = self.connected_s = asyncio.get_running_loop().time()
        connection.on("disconnection", self._disconnected)
        later(self._advertise())  # stops it if it has just started
        if self.battery.faults.refuses:
            later(connection.disconnect())
        self._deliver(self.battery.connected())

    def _disconnected(self, reason: int) -> None:
        say(self.battery.name, f"disconnected, reason {reason:#04x}")
        self.held_s = self.held_so_far_s
        self._since_s = self._connection = None
        self.battery.disconnects += 1
        later(self._advertise())

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
            asyncio.get_running_loop().call_later(SUPERVISION_S, self._lose)
        if not self.battery.faults.gone and not there:
            self._lose()
            link.controllers.add(self.controller)
        later(self._advertise())

    def _lose(self) -> None:
        """End the connection on both sides, as their supervision timeouts do."""
        timeout = hci.HCI_ErrorCode.CONNECTION_TIMEOUT_ERROR
        kernel = self._air.kernel
        for connection in list(kernel.le_connections.values()):
            if connection.peer_address == self.controller.public_address:
                kernel.on_le_disconnected(connection, timeout)
        for connection in list(self.controller.le_connections.values()):
            self.controller.on_le_disconnected(connection, timeout)


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


class AirControl(Control):
    """Carries out the requests of control.py, and those that only this radio knows.

    {"do": "radio", "battery": 0, "interval_true": true}    see --interval-true
    {"do": "traffic", "battery": 0}                         see Traffic
    """

    def __init__(self, air: Air) -> None:
        super().__init__(air)
        self._there = air

    def _do(self, request: dict[str, Any]) -> Any:
        link = self._there.link
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


class Source:
    """The source of the kernel's packets for the controller."""

    sink: Any = None

    def set_packet_sink(self, sink: Any) -> None:
        self.sink = sink


class Sink:
    """The sink for the controller's own packets."""

    transport: asyncio.WriteTransport | None = None

    def on_packet(self, packet: bytes) -> None:
        if self.transport is not None:
            self.transport.write(bytes(packet))


class Wire(asyncio.Protocol):
    """H4 packets over a stream: the machine's virtual serial port."""

    def __init__(self, source: Source, sink: Sink) -> None:
        self._parser = PacketParser(source.sink)
        self._sink = sink

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._sink.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)


def say(*words: object) -> None:
    """Log one line."""
    print(f"[{asyncio.get_running_loop().time():10.3f}]", *words, flush=True)


def later(work: Any) -> None:
    """Start work in the background; log its exception."""
    task = asyncio.ensure_future(work)
    UNDERWAY.add(task)
    task.add_done_callback(ended)


def ended(task: asyncio.Future[Any]) -> None:
    UNDERWAY.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        say("failed:", type(error).__name__, error)


UNDERWAY: Final[set[asyncio.Future[Any]]] = set()


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hci", required=True, help="Unix socket for the machine's HCI packets")
    parser.add_argument("--control", required=True, help="Unix socket for the tests' requests")
    parser.add_argument("--ready", required=True, help="file to create when up")
    parser.add_argument("--interval-true", action="store_true")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    source, sink = Source(), Sink()
    link = Link(interval_true=options.interval_true)
    air = Air(link, KernelController(link, source, sink))
    for peripheral in air.peripherals:
        await peripheral.start()
    await serve(AirControl(air), options.control)
    loop = asyncio.get_running_loop()
    await loop.create_unix_server(lambda: Wire(source, sink), options.hci)
    Path(options.ready).touch()  # noqa: ASYNC240 - before anything is under way
    say("up")
    await asyncio.Event().wait()


asyncio.run(main())
