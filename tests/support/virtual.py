"""Virtual batteries with recorded replies, and the routes, pollers and links to read them."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from exporter.batteries import build_battery
from exporter.battery.poller import Poller
from exporter.ble.routes import Routes
from exporter.ble.transport import Transport
from exporter.clock import WallClock
from exporter.config.schema import AdapterName, BatteryConfig, Name, PollConfig, normal_address
from exporter.demo.battery import Delivery, VirtualBattery, encode_reply
from exporter.errors import LinkLostError
from exporter.protocol.profiles import PROFILES
from tests.support.recorded import CELLS, COUNTERS, HARDWARE, MOBILEKTRO

if TYPE_CHECKING:  # tests of the direct link must not load them
    from exporter.ble.bleak import BleakTransport
    from exporter.demo.radio import Air

ADDRESS = "A4:C1:38:00:00:01"
ANSWERS = {0x03: MOBILEKTRO, 0x04: CELLS, 0x05: HARDWARE, 0xAA: COUNTERS}


def now_s() -> float:
    return asyncio.get_running_loop().time()


class WallTime:
    """The unix time of a test: virtual time plus `ahead_s`, which the test may change."""

    def __init__(self) -> None:
        self.ahead_s = 1_795_391_224.5

    def __call__(self) -> float:
        return now_s() + self.ahead_s


def answering(answers: dict[int, bytes]) -> Any:
    """Return an `answers` that refuses every other register with status 0x80."""
    return lambda register: answers.get(register) or encode_reply(register, status=0x80)


def battery(address: str = ADDRESS, **options: Any) -> VirtualBattery:
    """Return a healthy MOBILEKTRO: it advertises ff00 and has only the Nordic UART."""
    nus = PROFILES["nus"]
    options = {"answers": answering(ANSWERS), "gatt": (nus,), "speaks": nus} | options
    return VirtualBattery(address=address, **options)


def make_transport(air: "Air", adapter: AdapterName | None = None) -> "BleakTransport":
    """Return the bleak transport over a virtual radio, on virtual time."""
    # Tests of the direct link must not load them.
    from exporter.ble.bleak import BleakTransport  # noqa: PLC0415
    from exporter.demo.radio import make_backend  # noqa: PLC0415

    return BleakTransport(adapter=adapter, backend=make_backend(air), clock=now_s)


def make_routes(air: "Air") -> Routes:
    """Return routes that use only a virtual radio."""
    transport = make_transport(air)
    return Routes(bluez=lambda _: transport, adapters=list)


def make_direct_routes(transport: Transport) -> Routes:
    """Return routes that use only a direct transport, and fail if bluetoothd is used."""

    def no_bluez(_adapter: str | None) -> Any:
        raise AssertionError("bluetoothd is not needed")

    return Routes(bluez=no_bluez, direct=lambda _: transport, adapters=list)


def make_poller(
    routes: Routes,
    tasks: asyncio.TaskGroup,
    *,
    name: str = "camper",
    address: str = ADDRESS,
    poll: PollConfig | None = None,
    wall: WallClock | None = None,
    on_change: Callable[[], None] = lambda: None,
    record: Callable[[str], None] | None = None,
    **options: Any,
) -> Poller:
    """Return the poller of one battery, as the exporter builds it."""
    config = BatteryConfig(name=Name(name), address=normal_address(address), **options)
    return build_battery(
        config,
        poll or PollConfig(),
        routes,
        tasks=tasks,
        wall=wall or WallClock(now_s),
        on_change=on_change,
        record=record,
    ).poller


@dataclass(slots=True)
class FakeLink:
    """A link straight to a virtual battery, without a radio."""

    battery: VirtualBattery
    silent: bool = False
    lost: bool = False
    early_sent: bool = False
    is_gentle: bool = False
    written: list[tuple[float, bytes]] = field(default_factory=list)
    notifications: asyncio.Queue[bytes | tuple[float, bytes] | None] = field(
        default_factory=asyncio.Queue
    )

    async def write(self, data: bytes) -> None:
        if self.lost:
            raise LinkLostError("not connected")
        self.written.append((now_s(), data))
        self.deliver([] if self.silent else self.battery.request(data, now_s()))

    async def receive(self) -> tuple[float, bytes]:
        chunk = await self.notifications.get()
        if chunk is None:
            self.lost = True
            raise LinkLostError("the connection ended in mid-poll")
        return chunk if isinstance(chunk, tuple) else (now_s(), chunk)

    def deliver(self, notifications: list[Delivery]) -> None:
        loop = asyncio.get_running_loop()
        for notification in notifications:
            loop.call_later(notification.after_s, self._arrive, notification.data)

    def _arrive(self, data: bytes | None) -> None:
        self.notifications.put_nowait(None if data is None else (now_s(), data))


class FakeConnection:
    """A connection whose GATT table has some profiles; those in `silent` never reply."""

    def __init__(
        self,
        battery: VirtualBattery,
        *,
        profiles: Sequence[str] = ("ff00",),
        silent: Sequence[str] = (),
    ) -> None:
        self.profiles = tuple(profiles)
        self.links: dict[str, FakeLink] = {}
        self.takes_early = False
        self.other_writes: list[bool] = []  # of each `open`
        self.adapter = "hci0"
        self._battery = battery
        self._silent = silent

    async def open(self, profile: str, early: bytes, *, other_write: bool = False) -> FakeLink:
        self.other_writes.append(other_write)
        link = FakeLink(self._battery, silent=profile in self._silent)
        self.links[profile] = link
        link.deliver(self._battery.connected())
        if early and self.takes_early:
            await link.write(early)
            link.early_sent = True
        link.deliver(self._battery.subscribed())
        return link
