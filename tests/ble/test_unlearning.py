"""A battery that changes under the exporter is read again within a few polls, without a restart."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from exporter.battery.poller import Poller
from exporter.ble.direct.sockets import PUBLIC, RANDOM
from exporter.ble.direct.transport import DirectTransport
from exporter.ble.routes import Routes
from exporter.config.schema import PollConfig, Seconds, TransportChoice
from exporter.demo.battery import Faults, VirtualBattery
from exporter.demo.radio import make_air
from exporter.link_stats import Route
from exporter.protocol.profiles import PROFILES
from tests.support import att_server
from tests.support.virtual import (
    ADDRESS,
    battery,
    make_direct_routes,
    make_poller,
    make_transport,
    now_s,
)

DIRECT, BLUEZ, AUTO = TransportChoice.DIRECT, TransportChoice.BLUEZ, TransportChoice.AUTO
A_FEW: int = 4  # polls
LATER_S = 400.0  # than the longest back-off


@dataclass(slots=True)
class Machine:
    """One battery over the kernel's channel and over bluetoothd, both simulated."""

    tasks: asyncio.TaskGroup
    link: TransportChoice
    battery: VirtualBattery = field(default_factory=battery)
    kernel: att_server.Air = field(init=False)
    poller: Poller = field(init=False)

    def __post_init__(self) -> None:
        self.kernel = att_server.Air({ADDRESS: self.battery})
        direct = DirectTransport(kernel=self.kernel.make_kernel(), clock=now_s)
        bluez = make_transport(make_air([self.battery]))
        routes = Routes(bluez=lambda _: bluez, direct=lambda _: direct, adapters=list, clock=now_s)
        poll = PollConfig(min_interval_s=Seconds(0.0))
        self.poller = make_poller(routes, self.tasks, poll=poll, link=self.link)

    async def poll(self, times: int = 1, every_s: float = LATER_S) -> list[bool]:
        """Poll so often; return which polls read the battery."""
        ups = []
        for _ in range(times):
            await asyncio.sleep(every_s)
            ups.append(bool((await self.poller.refresh(timeout_s=60.0)).up))
            await self.poller.close()
        assert self.battery.illegal == []  # nothing but read requests was written
        return ups

    @property
    def route(self) -> Route | None:
        return self.poller.show().link.route


def take_responses(machine: Machine) -> None:
    machine.battery.takes_response = True


def take_commands(machine: Machine) -> None:
    machine.battery.takes_response = False


def change_profile(machine: Machine) -> None:
    machine.battery.gatt = (PROFILES["fff0"],)
    machine.battery.speaks = PROFILES["fff0"]


@pytest.mark.parametrize("link", [DIRECT, BLUEZ, AUTO])
@pytest.mark.parametrize("change", [take_responses, take_commands, change_profile])
@pytest.mark.parametrize("offers", ["write", "write-without-response"])
async def test_battery_with_another_firmware_is_read_again(
    link: TransportChoice,
    offers: str,
    change: Callable[[Machine], None],
    tasks: asyncio.TaskGroup,
) -> None:
    machine = Machine(tasks, link, battery(write_properties=(offers,)))
    assert await machine.poll(2) == [True, True]

    change(machine)

    assert (await machine.poll(A_FEW + 1))[-2:] == [True, True]


@pytest.mark.parametrize("link", [DIRECT, BLUEZ, AUTO])
async def test_write_kind_that_is_taken_back_is_unlearned(
    link: TransportChoice, tasks: asyncio.TaskGroup
) -> None:
    machine = Machine(tasks, link)
    machine.battery.takes_response = True
    assert (await machine.poll(A_FEW))[-2:] == [True, True]

    machine.battery.takes_response = False

    assert (await machine.poll(A_FEW + 1))[-2:] == [True, True]


@pytest.mark.parametrize("link", [DIRECT, BLUEZ, AUTO])
async def test_silence_never_costs_more_than_one_connection_a_poll(
    link: TransportChoice, tasks: asyncio.TaskGroup
) -> None:
    machine = Machine(tasks, link, battery(faults=Faults(silent=True)))

    assert not any(await machine.poll(20))

    assert machine.battery.connects == 20


@pytest.mark.parametrize("link", [DIRECT, AUTO])
class TestDirect:
    async def test_address_of_another_type_is_found(
        self, link: TransportChoice, tasks: asyncio.TaskGroup
    ) -> None:
        machine = Machine(tasks, link)
        await machine.poll(2)
        for address_type in (RANDOM, PUBLIC):
            machine.kernel.address_type = address_type

            assert (await machine.poll(A_FEW))[-1]

    async def test_moved_handles_are_found(
        self, link: TransportChoice, tasks: asyncio.TaskGroup
    ) -> None:
        machine = Machine(tasks, link)
        await machine.poll(2)
        for first_handle in range(2, 8):
            machine.kernel.options = {"first_handle": first_handle}

            assert (await machine.poll(A_FEW))[-1], first_handle

    async def test_both_changes_at_once_are_found(
        self, link: TransportChoice, tasks: asyncio.TaskGroup
    ) -> None:
        machine = Machine(tasks, link)
        await machine.poll(2)
        machine.kernel.address_type = RANDOM
        machine.kernel.options = {"first_handle": 9}
        take_responses(machine)

        assert (await machine.poll(A_FEW + 2))[-1]


async def test_pairing_that_is_wanted_and_then_removed_is_followed(
    tasks: asyncio.TaskGroup,
) -> None:
    machine = Machine(tasks, AUTO)
    await machine.poll(2)
    machine.kernel.options = {"refuse": {0x12: 0x05}}  # insufficient authentication
    assert (await machine.poll(A_FEW))[-1]
    assert machine.route is not None
    assert machine.route.transport == "bluez"
    machine.kernel.options = {}

    assert all(await machine.poll(150, every_s=30.0))

    assert machine.route.transport == "direct"


async def test_bluetoothd_that_fails_later_is_left(tasks: asyncio.TaskGroup) -> None:
    machine = Machine(tasks, AUTO)
    machine.kernel.options = {"refuse": {0x12: 0x05}}
    assert (await machine.poll(A_FEW))[-2:] == [True, True]
    machine.kernel.options = {}
    machine.battery.faults = Faults(refuses=True)
    await machine.poll(A_FEW)
    machine.battery.faults = Faults()

    assert (await machine.poll(A_FEW))[-1]
    assert machine.route is not None
    assert machine.route.transport == "direct"


async def test_removed_batteries_are_forgotten(tasks: asyncio.TaskGroup) -> None:
    addresses = [f"A4:C1:38:00:01:{number:02X}" for number in range(50)]
    air = att_server.Air({address: battery(address) for address in addresses})
    direct = DirectTransport(kernel=air.make_kernel(), clock=now_s)
    routes = make_direct_routes(direct)

    for address in addresses:  # each reload replaces the battery
        poller = make_poller(routes, tasks, name=address, address=address)
        assert (await poller.refresh(timeout_s=60.0)).up
        await poller.close()
        routes.untrack(address)

    assert list(direct.memories) == addresses[-1:]
