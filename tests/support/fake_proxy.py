"""An ESP32 with ESPHome's Bluetooth proxy on a loopback port, and virtual batteries behind it.

It is as strict as ESPHome: one subscriber, a number of connections, and answers to the subscriber
only. What a client must not do is in `misuses`.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from aioesphomeapi.model import BluetoothDeviceRequestType as Request
from aioesphomeapi.model import BluetoothProxyFeature as Feature

from exporter.config.schema import Host, Port, ProxyConfig, ProxyName
from exporter.demo.battery import Delivery, VirtualBattery
from tests.support.proxy_wire import NoiseWire, PlainWire, WireError

pb: Any = import_module("aioesphomeapi.api_pb2")  # its classes are made when it is imported
ACTIVE = (
    Feature.PASSIVE_SCAN
    | Feature.ACTIVE_CONNECTIONS
    | Feature.REMOTE_CACHING
    | Feature.RAW_ADVERTISEMENTS
    | Feature.FEATURE_STATE_AND_MODE
)
PASSIVE = Feature.PASSIVE_SCAN | Feature.RAW_ADVERTISEMENTS
CCCD = "00002902-0000-1000-8000-00805f9b34fb"
EVERY_S = 0.02
NOT_CONNECTED = -1
PROPERTIES = {"notify": 0x10, "write": 0x08, "write-without-response": 0x04, "read": 0x02}


def number(address: str) -> int:
    return int(address.replace(":", ""), 16)


def uuid_halves(uuid: str) -> list[int]:
    whole = int(uuid.replace("-", ""), 16)
    return [whole >> 64, whole & (1 << 64) - 1]


def make_table(battery: VirtualBattery, *, with_cccd: bool = True) -> list[Any]:
    """Return the battery's GATT table: a service every 16 handles."""
    services = []
    for index, profile in enumerate(battery.gatt, start=1):
        handle = 16 * index
        service = pb.BluetoothGATTService(uuid=uuid_halves(profile.service), handle=handle)
        notify = service.characteristics.add(
            uuid=uuid_halves(profile.notify), handle=handle + 2, properties=PROPERTIES["notify"]
        )
        if with_cccd:
            notify.descriptors.add(uuid=uuid_halves(CCCD), handle=handle + 3)
        properties = sum(PROPERTIES[one] for one in battery.write_properties)
        service.characteristics.add(
            uuid=uuid_halves(profile.write), handle=handle + 5, properties=properties
        )
        services.append(service)
    return services


def make_data(battery: VirtualBattery) -> bytes:
    """Return the raw advertisement of a battery, with its scan response behind it."""
    data = bytes([2, 0x01, 0x06])
    for uuid in battery.advertises:
        data += bytes([3, 0x03]) + bytes.fromhex(uuid[4:8])[::-1]
    name = battery.name.encode()
    return data + bytes([len(name) + 1, 0x09]) + name


@dataclass(slots=True)
class Peer:
    """One battery that the ESP32 is connected to."""

    battery: VirtualBattery
    notifies: set[int] = field(default_factory=set)  # handles that the ESP32 forwards
    subscribed: set[int] = field(default_factory=set)  # handles that the battery notifies


@dataclass(slots=True, kw_only=True)
class FakeProxy:
    """The proxy; its fields may be changed while it runs."""

    batteries: dict[int, VirtualBattery]
    key: str | None = None
    name: str = "garage"
    version: str = "2026.7.1"
    flags: int = ACTIVE
    limit: int = 3
    newest_wins: bool = True
    halves: bool = False  # each frame in two segments
    answers_hello: bool = True
    connect_code: int = 0  # of attempts to connect: 0 succeeds
    gatt_codes: dict[str, int] = field(
        default_factory=dict
    )  # by "table", "notify", "write", "cccd"
    table: Callable[[VirtualBattery], Iterable[Any]] = make_table
    more_advertisements: Callable[[], Iterable[Any]] = tuple
    drops_api_at: str = ""  # the name of a message: the API connection ends when it arrives
    ignores: set[str] = field(default_factory=set)  # names of messages
    ignored_disconnects: int = 0  # how many of the next ones
    answers_late: bool = False  # an earlier disconnect, after the next request to connect
    misuses: list[str] = field(default_factory=list)
    received: list[str] = field(default_factory=list)  # names of messages
    peers: dict[int, Peer] = field(default_factory=dict)
    clients: list["_Client"] = field(default_factory=list)
    subscriber: "_Client | None" = None
    most_peers: int = 0
    port: int = 0

    def config(self, **options: Any) -> ProxyConfig:
        """Return the configuration that fits."""
        facts: dict[str, Any] = {"name": ProxyName("garage"), "key": self.key} | options
        return ProxyConfig(host=Host("127.0.0.1"), port=Port(self.port), **facts)

    def send(self, message: Any) -> None:
        """Send what concerns Bluetooth to the subscriber, as ESPHome does."""
        if self.subscriber is not None:
            self.subscriber.send(message)

    def report_free(self) -> None:
        free = self.limit - len(self.peers)
        self.send(
            pb.BluetoothConnectionsFreeResponse(free=free, limit=self.limit, allocated=self.peers)
        )

    def drop_api(self) -> None:
        """End every API connection, as a reboot does."""
        for client in (*self.clients,):
            client.writer.transport.abort()

    def drop_battery(self, address: int, code: int = 0x08) -> None:
        """End a Bluetooth connection.

        ESPHome reports it when the battery is gone, and again when the connection is free
        (bluetooth_connection.cpp).
        """
        if (peer := self.peers.pop(address, None)) is not None:
            peer.battery.disconnects += 1
            for _ in range(2):
                self.send(pb.BluetoothDeviceConnectionResponse(address=address, error=code))
            self.report_free()

    def subscribe(self, client: "_Client") -> None:
        if self.subscriber not in {None, client} and not self.newest_wins:
            return
        self.subscriber = client
        self.send(pb.BluetoothScannerStateResponse())

    def unsubscribe(self, client: "_Client") -> None:
        if self.subscriber is client:
            self.subscriber = None
            for address in (*self.peers,):
                self.drop_battery(address)

    async def advertise(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            message = pb.BluetoothLERawAdvertisementsResponse()
            for address, battery in self.batteries.items():
                if battery.advertising and address not in self.peers:
                    message.advertisements.add(
                        address=address, rssi=battery.rssi_dbm, data=make_data(battery)
                    )
            message.advertisements.extend(self.more_advertisements())
            if message.advertisements:
                self.send(message)


class _Client:
    """One API connection."""

    def __init__(
        self, proxy: FakeProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.proxy = proxy
        self.writer = writer
        self.wire: PlainWire | NoiseWire = (
            PlainWire(reader, writer) if proxy.key is None else NoiseWire(reader, writer, proxy.key)
        )
        self.handlers: dict[type, Callable[[Any], None]] = {
            pb.HelloRequest: self.hello,
            pb.DeviceInfoRequest: self.device_info,
            pb.PingRequest: lambda _: self.send(pb.PingResponse()),
            pb.SubscribeBluetoothConnectionsFreeRequest: lambda _: proxy.report_free(),
            pb.SubscribeBluetoothLEAdvertisementsRequest: lambda _: self.subscribe(),
            pb.UnsubscribeBluetoothLEAdvertisementsRequest: lambda _: proxy.unsubscribe(self),
            pb.BluetoothDeviceRequest: self.device_request,
            pb.BluetoothGATTGetServicesRequest: self.get_services,
            pb.BluetoothGATTNotifyRequest: self.notify,
            pb.BluetoothGATTWriteRequest: self.write,
            pb.BluetoothGATTWriteDescriptorRequest: self.write_descriptor,
        }

    async def serve(self) -> None:
        await self.wire.open()
        while True:
            message = await self.wire.receive()
            name = type(message).__name__
            self.proxy.received.append(name)
            if name == self.proxy.drops_api_at:
                self.writer.transport.abort()
                return
            if name in self.proxy.ignores:
                continue
            if isinstance(message, pb.DisconnectRequest):
                self.send(pb.DisconnectResponse())
                return
            if handler := self.handlers.get(type(message)):
                handler(message)
            else:
                self.proxy.misuses.append(name)

    def send(self, message: Any) -> None:
        frame = self.wire.encode(message)
        if self.writer.is_closing():
            return
        if self.proxy.halves:
            half = len(frame) // 2
            self.writer.write(frame[:half])  # TCP_NODELAY: a segment of its own
            self.writer.write(frame[half:])
        else:
            self.writer.write(frame)

    def hello(self, _message: Any) -> None:
        if self.proxy.answers_hello:
            self.send(
                pb.HelloResponse(api_version_major=1, api_version_minor=14, name=self.proxy.name)
            )

    def device_info(self, _message: Any) -> None:
        self.send(
            pb.DeviceInfoResponse(
                name=self.proxy.name,
                esphome_version=self.proxy.version,
                bluetooth_proxy_feature_flags=self.proxy.flags,
            )
        )

    def subscribe(self) -> None:
        self.proxy.subscribe(self)
        self.proxy.report_free()

    def device_request(self, message: Any) -> None:
        proxy, address = self.proxy, message.address
        kind = Request(message.request_type)
        if kind is Request.DISCONNECT:
            if proxy.ignored_disconnects:
                proxy.ignored_disconnects -= 1
            elif address in proxy.peers:
                proxy.drop_battery(address, 0)
            else:
                proxy.send(pb.BluetoothDeviceConnectionResponse(address=address))
                proxy.report_free()
            return
        if kind is not Request.CONNECT_V3_WITHOUT_CACHE or not message.has_address_type:
            proxy.misuses.append(f"{kind!r}")
            return
        self.check_subscribed("connect")
        battery = proxy.batteries.get(address)
        code = proxy.connect_code
        if battery is None or battery.faults.gone or battery.faults.refuses:
            code = code or 0x85
        if len(proxy.peers) >= proxy.limit or code or battery is None:
            if len(proxy.peers) >= proxy.limit:
                proxy.misuses.append("connect without a free connection")
            proxy.send(pb.BluetoothDeviceConnectionResponse(address=address, error=code))
            return
        if proxy.answers_late:
            proxy.send(pb.BluetoothDeviceConnectionResponse(address=address))
        proxy.peers[address] = peer = Peer(battery)
        proxy.most_peers = max(proxy.most_peers, len(proxy.peers))
        proxy.send(pb.BluetoothDeviceConnectionResponse(address=address, connected=True, mtu=247))
        proxy.report_free()
        self.deliver(address, peer, battery.connected())

    def check_subscribed(self, doing: str) -> None:
        if self.proxy.subscriber is None:
            self.proxy.misuses.append(f"{doing} without a subscription")

    def peer(self, message: Any, doing: str, handle: int = 0) -> Peer | None:
        """Return the connected battery, unless the request fails."""
        self.check_subscribed(doing)
        peer = self.proxy.peers.get(message.address)
        code = self.proxy.gatt_codes.get(doing, 0) if peer else NOT_CONNECTED
        if code:
            self.proxy.send(
                pb.BluetoothGATTErrorResponse(address=message.address, handle=handle, error=code)
            )
        return None if code else peer

    def get_services(self, message: Any) -> None:
        if peer := self.peer(message, "table"):
            for service in self.proxy.table(peer.battery):
                self.proxy.send(
                    pb.BluetoothGATTGetServicesResponse(address=message.address, services=[service])
                )
            self.proxy.send(pb.BluetoothGATTGetServicesDoneResponse(address=message.address))

    def notify(self, message: Any) -> None:
        if peer := self.peer(message, "notify", message.handle):
            peer.notifies.add(message.handle)
            self.proxy.send(
                pb.BluetoothGATTNotifyResponse(address=message.address, handle=message.handle)
            )

    def write_descriptor(self, message: Any) -> None:
        if peer := self.peer(message, "cccd", message.handle):
            peer.subscribed.add(message.handle - 1)
            self.confirm(message)
            self.deliver(message.address, peer, peer.battery.subscribed())

    def write(self, message: Any) -> None:
        if peer := self.peer(message, "write", message.handle):
            if not peer.battery.takes(response=message.response):
                return
            if message.response:
                self.confirm(message)
            now_s = asyncio.get_running_loop().time()
            self.deliver(message.address, peer, peer.battery.request(message.data, now_s))

    def confirm(self, message: Any) -> None:
        self.proxy.send(
            pb.BluetoothGATTWriteResponse(address=message.address, handle=message.handle)
        )

    def deliver(self, address: int, peer: Peer, notifications: list[Delivery]) -> None:
        loop = asyncio.get_running_loop()
        for one in notifications:
            loop.call_later(one.after_s, self.arrive, address, peer, one.data)

    def arrive(self, address: int, peer: Peer, data: bytes | None) -> None:
        if self.proxy.peers.get(address) is not peer:
            return
        if data is None:
            self.proxy.drop_battery(address)
            return
        index = peer.battery.gatt.index(peer.battery.speaks)
        handle = 16 * (index + 1) + 2
        if handle in peer.notifies & peer.subscribed:
            self.proxy.send(
                pb.BluetoothGATTNotifyDataResponse(address=address, handle=handle, data=data)
            )


@asynccontextmanager
async def running_proxy(*batteries: VirtualBattery, **options: Any) -> AsyncIterator[FakeProxy]:
    """Run a proxy with these batteries in range."""
    proxy = FakeProxy(batteries={number(one.address): one for one in batteries}, **options)
    serving: set[asyncio.Task[Any] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = _Client(proxy, reader, writer)
        proxy.clients.append(client)
        serving.add(asyncio.current_task())
        try:
            # Cancelled at the end of the test: asyncio would log it.
            with suppress(OSError, EOFError, WireError, asyncio.CancelledError):
                await client.serve()
        finally:
            proxy.clients.remove(client)
            proxy.unsubscribe(client)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", proxy.port)
    proxy.port = server.sockets[0].getsockname()[1]
    advertising = asyncio.create_task(proxy.advertise())
    try:
        yield proxy
    finally:
        advertising.cancel()
        server.close()
        tasks = [task for task in serving if task is not None and not task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
