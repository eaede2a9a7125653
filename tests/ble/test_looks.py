"""Looks for a battery that is missing for long are short, and find it when it returns."""

import asyncio
import errno
from collections.abc import Callable
from socket import socket

import pytest

from exporter.ble.bleak import BleakTransport
from exporter.ble.direct.connection import Memory
from exporter.ble.direct.kernel import Kernel
from exporter.ble.direct.sockets import PUBLIC, RANDOM
from exporter.ble.direct.transport import DirectTransport
from exporter.ble.routes import Routes
from exporter.ble.transport import Target, Transport
from exporter.config.schema import PollConfig, Seconds
from exporter.demo.battery import Faults
from exporter.demo.radio import make_air
from exporter.errors import ConnectError, FailureReason, NotFoundError
from exporter.link_stats import LinkStats
from tests.support.att_server import make_scanning
from tests.support.virtual import (
    ADDRESS,
    battery,
    make_direct_routes,
    make_poller,
    make_transport,
    now_s,
)

HOUR_S = 3600.0


class Sky:
    """A battery that advertises every two seconds, and is held as soon as it is heard."""

    def __init__(self, *, kind: int = PUBLIC, phase_s: float = 0.0) -> None:
        self.is_there = False
        self.waited_s = 0.0
        self.looks: list[int] = []  # the type of the address
        self._kind = kind
        self._phase_s = phase_s
        self.target = Target(address=ADDRESS, stats=LinkStats())
        self.transport = DirectTransport(
            kernel=Kernel(
                open_channel=self._open,
                adapters=make_scanning(),
                connected_on=lambda _: None,
                connections=lambda _: [],
            ),
            clock=now_s,
        )

    async def _open(self, _address: str, kind: int, _adapter: str) -> socket:
        self.looks.append(kind)
        began_s = now_s()
        try:
            while True:
                await asyncio.sleep(max(0.01, 2.0 - (now_s() - self._phase_s) % 2.0))
                if self.is_there and kind == self._kind:
                    raise OSError(errno.EBUSY, "Device or resource busy")
        finally:
            self.waited_s += now_s() - began_s

    async def look(self) -> bool:
        """Return whether the battery was seen."""
        try:
            async with self.transport.connect(self.target, deadline_s=now_s() + 30.0):
                raise AssertionError("it is held")
        except ConnectError:
            return True
        except NotFoundError:
            return False

    async def look_for(self, *, looks: int) -> float:
        """Look some times; return the seconds of waiting of the last one."""
        for _ in range(looks):
            before_s = self.waited_s
            await self.look()
        return self.waited_s - before_s


def over_direct() -> tuple[Routes, Callable[[], float]]:
    sky = Sky()
    return make_direct_routes(sky.transport), lambda: sky.waited_s


def over_bluez() -> tuple[Routes, Callable[[], float]]:
    transport = make_transport(make_air([battery(faults=Faults(gone=True))]))
    routes = Routes(bluez=lambda _: transport, adapters=list)
    return routes, lambda: transport._scanner.scanned_s


@pytest.mark.parametrize("make_routes", [over_direct, over_bluez])
async def test_missing_battery_costs_three_seconds_a_look_after_the_second(
    make_routes: Callable[[], tuple[Routes, Callable[[], float]]], tasks: asyncio.TaskGroup
) -> None:
    routes, waited_s = make_routes()
    poller = make_poller(routes, tasks, poll=PollConfig(min_interval_s=Seconds(0.0)))
    began_s = now_s()

    while now_s() - began_s < HOUR_S:
        snapshot = await poller.refresh()
        await asyncio.sleep(15.0)

    assert snapshot.failures == {FailureReason.NOT_FOUND: snapshot.polls}
    assert snapshot.polls > 10
    assert waited_s() == pytest.approx(2 * 10.0 + (snapshot.polls - 2) * 3.0, rel=0.01)
    assert waited_s() < HOUR_S / 50


@pytest.mark.parametrize("phase_s", [0.0, 0.5, 1.0, 1.5, 1.99])
async def test_short_look_sees_a_battery_that_advertises_every_two_seconds(phase_s: float) -> None:
    sky = Sky(phase_s=phase_s)
    assert await sky.look_for(looks=4) == 3.0

    sky.is_there = True

    assert await sky.look()


async def test_short_scan_sees_a_battery_that_advertises_every_two_seconds() -> None:
    virtual = battery(faults=Faults(gone=True))
    transport: BleakTransport = make_transport(make_air([virtual], advertise_every_s=2.0))
    target = Target(address=ADDRESS, stats=LinkStats())
    for _ in range(3):
        with pytest.raises(NotFoundError):
            await connect(transport, target)
    virtual.faults = Faults()

    await connect(transport, target)
    assert target.stats.missed == 0


async def connect(transport: Transport, target: Target) -> None:
    async with transport.connect(target, deadline_s=now_s() + 30.0):
        pass


@pytest.mark.parametrize("kind", [PUBLIC, RANDOM])
@pytest.mark.parametrize("absent", [2, 3, 4, 5])
async def test_battery_whose_address_type_is_unknown_is_seen_by_the_second_look(
    kind: int, absent: int
) -> None:
    sky = Sky(kind=kind)
    assert await sky.look_for(looks=absent) in {10.0, 3.0}
    sky.is_there = True

    assert await sky.look() or await sky.look()


@pytest.mark.parametrize("absent", range(2, 10))
async def test_known_address_type_is_doubted_in_one_short_look_of_four(absent: int) -> None:
    sky = Sky()
    sky.transport.memories[ADDRESS] = Memory([PUBLIC, RANDOM], is_type_known=True)

    await sky.look_for(looks=absent)

    short = sky.looks[3:]  # after one of 10 s and one of two times 5 s
    assert short == [RANDOM if look % 4 == 3 else PUBLIC for look in range(2, absent)]


@pytest.mark.parametrize("how", ["connected to", "heard"])
async def test_look_is_long_again_once_the_battery_was_seen(how: str) -> None:
    sky = Sky()
    assert await sky.look_for(looks=3) == 3.0

    if how == "heard":
        sky.target.stats.record_rssi(-60, now_s())
    else:
        sky.is_there = True
        assert await sky.look() or await sky.look()
        sky.is_there = False

    assert await sky.look_for(looks=1) == 10.0


async def test_long_look_of_a_short_poll_is_not_prolonged() -> None:
    sky = Sky()
    for _ in range(3):
        with pytest.raises(NotFoundError):
            async with sky.transport.connect(sky.target, deadline_s=now_s() + 2.0):
                pass

    assert sky.waited_s <= 3 * 2.0
    assert sky.target.stats.missed == 3
