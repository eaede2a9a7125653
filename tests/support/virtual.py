"""Virtual batteries with recorded answers, and ways to reach them."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from exporter.batteries import wire
from exporter.battery.poller import Poller
from exporter.ble.bleak import Radio
from exporter.ble.routes import Spread
from exporter.clock import WallClock
from exporter.config.schema import AdapterName, BatteryConfig, Name, PollConfig, normal_address
from exporter.demo.battery import Delivery, VirtualBattery, encode_reply
from exporter.demo.radio import Air, backend_of
from exporter.errors import LinkLostError
from exporter.protocol.profiles import PROFILES
from tests.support.recorded import CELLS, COUNTERS, HARDWARE, MOBILEKTRO

ADDRESS = "A4:C1:38:00:00:01"
ANSWERS = {0x03: MOBILEKTRO, 0x04: CELLS, 0x05: HARDWARE, 0xAA: COUNTERS}


def now_s() -> float:
    return asyncio.get_running_loop().time()


class WallTime:
    """The unix time of these tests, which a test may set; virtual time goes on in it."""

    def __init__(self) -> None:
        self.ahead_s = 1_795_391_224.5

    def __call__(self) -> float:
        return now_s() + self.ahead_s


def answering(answers: dict[int, bytes]) -> Any:
    """Return an `answers` that refuses every other register with status 0x80."""
    return lambda register: answers.get(register) or encode_reply(register, status=0x80)


def battery(address: str = ADDRESS, **options: Any) -> VirtualBattery:
    """Return a healthy MOBILEKTRO that advertises ff00 and has only the Nordic UART."""
    nus = PROFILES["nus"]
    options = {"answers": answering(ANSWERS), "gatt": (nus,), "speaks": nus} | options
    return VirtualBattery(address=address, **options)


def radio_on(air: Air, adapter: AdapterName | None = None) -> Radio:
    """Return a radio on this air, on virtual time."""
    return Radio(adapter=adapter, backend=backend_of(air), clock=now_s)


def poller_on(
    radio: Radio,
    tasks: asyncio.TaskGroup,
    *,
    name: str = "camper",
    address: str = ADDRESS,
    poll: PollConfig | None = None,
    wall: WallClock | None = None,
    changed: Callable[[], None] = lambda: None,
    **options: Any,
) -> Poller:
    """Return the whole way to one battery, as the exporter builds it."""
    config = BatteryConfig(name=Name(name), address=normal_address(address), **options)
    spread = Spread(lambda _: radio, list)
    poll = poll or PollConfig()
    return wire(config, poll, spread, tasks, clock=now_s, wall=wall, changed=changed).poller


@dataclass(slots=True)
class FakeLink:
    """A virtual battery at the other end of a wire."""

    battery: VirtualBattery
    silent: bool = False
    lost: bool = False
    early_sent: bool = False
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
    """A connection whose GATT table has some profiles, of which some are silent."""

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
        self._battery = battery
        self._silent = silent

    async def open(self, profile: str, early: bytes) -> FakeLink:
        link = FakeLink(self._battery, silent=profile in self._silent)
        self.links[profile] = link
        link.deliver(self._battery.connected())
        if early and self.takes_early:
            await link.write(early)
            link.early_sent = True
        link.deliver(self._battery.subscribed())
        return link
