"""A battery that is away costs little with two adapters, and a busy adapter is not taken for it."""

import asyncio
import re
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from exporter.battery.poller import Poller
from exporter.ble import bluez
from exporter.ble.adapter_choice import COMPARE_S
from exporter.ble.adapter_health import AdapterHealths
from exporter.ble.bleak import BleakTransport
from exporter.ble.direct.management import SET_POWERED, Management
from exporter.ble.direct.transport import DirectTransport
from exporter.ble.routes import Routes
from exporter.ble.scanner import Scanner
from exporter.ble.search import Search
from exporter.ble.transport import Target, preparing
from exporter.config.schema import PollConfig, Seconds
from exporter.connection import Connection
from exporter.demo.battery import Faults
from exporter.demo.radio import Air, make_air
from exporter.errors import AdapterError, Cause
from exporter.link_stats import LinkStats
from tests.support import att_server
from tests.support.virtual import (
    ADDRESS,
    battery,
    make_direct_routes,
    make_poller,
    make_transport,
    now_s,
)

SECOND = "A4:C1:38:00:00:02"
POLLS = 20


@dataclass(slots=True)
class Adapters:
    """Some adapters, and two batteries that none of them receives."""

    tasks: asyncio.TaskGroup
    present: list[str]
    airs: dict[str, Air] = field(default_factory=dict)
    transports: dict[str | None, BleakTransport] = field(default_factory=dict)
    timeout_s: float = 30.0  # of a poll
    wedged: set[str] = field(default_factory=set)  # they receive, and never connect
    looks: dict[str, list[str | None]] = field(default_factory=lambda: {ADDRESS: [], SECOND: []})
    routes: Routes = field(init=False)

    def __post_init__(self) -> None:
        for name in self.present:
            self.airs[name] = make_air([battery(), battery(SECOND)])
        self.set_away(*self.present)
        self.routes = Routes(bluez=self._transport, adapters=lambda: self.present)

    def set_away(self, *adapters: str) -> None:
        for name, air in self.airs.items():
            for one in air.batteries.values():
                one.faults = Faults(gone=name in adapters)

    def _transport(self, adapter: str | None) -> BleakTransport:
        transport = make_transport(self.airs[adapter or self.present[0]])
        connect = transport.connect

        def counted(
            target: Target, *, deadline_s: float, is_gentle: bool = False
        ) -> AbstractAsyncContextManager[Connection]:
            self.looks[target.address].append(adapter)
            if adapter in self.wedged:
                raise AdapterError(f"the kernel begins no scan over {adapter}", Cause.WEDGE)
            return connect(target, deadline_s=deadline_s, is_gentle=is_gentle)

        transport.connect = counted  # type: ignore[assignment,method-assign]
        self.transports[adapter] = transport
        return transport

    def poller(self, address: str = ADDRESS) -> Poller:
        poll = PollConfig(min_interval_s=Seconds(0.0), timeout_s=Seconds(self.timeout_s))
        return make_poller(self.routes, self.tasks, address=address, poll=poll)

    def scanned_s(self) -> float:
        return sum(one._scanner.scanned_s for one in self.transports.values())


async def poll(*pollers: Poller, times: int = POLLS) -> list[bool]:
    ups: list[bool] = []
    for _ in range(times):
        ups += [bool((await poller.refresh(timeout_s=60.0)).up) for poller in pollers]
        await asyncio.sleep(400.0)  # longer than the longest back-off
    return ups


async def test_missing_battery_costs_one_comparison_more_with_two_adapters(
    tasks: asyncio.TaskGroup,
) -> None:
    one, two = Adapters(tasks, ["hci0"]), Adapters(tasks, ["hci0", "hci1"])

    assert not any(await poll(one.poller(), two.poller()))

    most_s = one.scanned_s() + 2 * COMPARE_S
    assert one.scanned_s() < two.scanned_s() == pytest.approx(most_s, abs=2.0)


async def test_each_of_two_missing_batteries_is_looked_for_over_both_adapters(
    tasks: asyncio.TaskGroup,
) -> None:
    machine = Adapters(tasks, ["hci0", "hci1"])

    await poll(machine.poller(), machine.poller(SECOND))

    for looks in machine.looks.values():
        assert all(a != b for a, b in pairwise(looks)), looks


@pytest.mark.parametrize("deaf", ["hci0", "hci1"])
async def test_battery_that_returns_is_read_over_the_adapter_that_receives_it(
    deaf: str, tasks: asyncio.TaskGroup
) -> None:
    machine = Adapters(tasks, ["hci0", "hci1"])
    poller = machine.poller()
    await poll(poller)

    machine.set_away(deaf)

    assert (await poll(poller, times=4))[-2:] == [True, True]


@pytest.mark.parametrize("is_proven", [False, True])
async def test_loudest_adapter_that_does_not_connect_gives_way_to_another(
    is_proven: bool, tasks: asyncio.TaskGroup
) -> None:
    machine = Adapters(tasks, ["hci0", "hci1"])
    machine.set_away()
    for one in machine.airs["hci0"].batteries.values():
        one.rssi_dbm = -85
    poller = machine.poller()
    if is_proven:
        assert all(await poll(poller, times=2))

    machine.wedged = {"hci1"}

    assert all((await poll(poller, times=6))[3:])


@pytest.mark.parametrize("wedged", [{"hci0", "hci1"}, {"hci0", "hci2"}, {"hci1", "hci2"}])
async def test_each_of_three_adapters_gets_its_turn_if_the_others_do_not_connect(
    wedged: set[str], tasks: asyncio.TaskGroup
) -> None:
    machine = Adapters(tasks, ["hci0", "hci1", "hci2"])
    machine.set_away()
    for number, air in enumerate(machine.airs.values()):
        for one in air.batteries.values():
            one.rssi_dbm = -60 - 10 * number
    machine.wedged = wedged

    assert all((await poll(machine.poller(), times=9))[5:])


async def test_three_adapters_that_do_not_connect_all_take_turns(tasks: asyncio.TaskGroup) -> None:
    machine = Adapters(tasks, ["hci0", "hci1", "hci2"])
    machine.set_away()
    machine.wedged = set(machine.present)

    assert not any(await poll(machine.poller(), times=12))

    assert set(machine.looks[ADDRESS][-8:]) == set(machine.present)


async def test_comparison_leaves_time_for_the_connection(tasks: asyncio.TaskGroup) -> None:
    machine = Adapters(tasks, ["hci0", "hci1"], timeout_s=4.0)
    machine.set_away()
    for air in machine.airs.values():
        air.advertise_every_s = 1.5

    assert await poll(machine.poller(), times=1) == [True]


async def test_adapter_with_another_number_is_compared(tasks: asyncio.TaskGroup) -> None:
    machine = Adapters(tasks, ["hci0", "hci1", "hci2"])
    machine.present = ["hci0", "hci1"]
    poller = machine.poller()
    await poll(poller, times=3)

    machine.set_away("hci0", "hci1")
    machine.present = ["hci0", "hci2"]

    assert (await poll(poller, times=3))[-1]


def direct(healths: AdapterHealths) -> tuple[Target, AbstractAsyncContextManager[object]]:
    target = Target(address=ADDRESS, stats=LinkStats())
    kernel = att_server.Air({ADDRESS: battery()}).make_kernel()
    transport = DirectTransport(adapter="hci0", kernel=kernel, healths=healths, clock=now_s)
    return target, transport.connect(target, deadline_s=now_s() + 10.0)


async def test_adapter_that_is_restarted_for_long_is_no_missing_battery() -> None:
    healths = AdapterHealths(now_s)
    target, connecting = direct(healths)
    began_s = now_s()

    async with healths["hci0"].restarting:
        with pytest.raises(
            AdapterError, match=r"the adapter was not ready.*bluetoothctl power off"
        ):
            await connecting.__aenter__()

    assert now_s() - began_s < 10.0
    assert target.stats.missed == 0
    assert target.stats.connection_attempts == 0


async def test_battery_is_read_after_a_short_restart() -> None:
    healths = AdapterHealths(now_s)
    _, connecting = direct(healths)
    await healths["hci0"].restarting.acquire()
    asyncio.get_running_loop().call_later(4.0, healths["hci0"].restarting.release)

    async with connecting:
        assert now_s() > 4.0


class Found(Scanner):
    """A scanner over hci0."""

    async def find_adapter(self) -> str | None:
        return "hci0"


async def test_search_does_not_take_a_restart_for_a_missing_battery() -> None:
    healths = AdapterHealths(now_s)
    search = Search(Found("hci0", None, lambda *_: None), Management(), healths, now_s)
    target = Target(address=ADDRESS, stats=LinkStats())

    async with healths["hci0"].restarting:
        with pytest.raises(AdapterError, match="not ready"):
            await search.find(target, now_s() + 10.0)

    assert target.stats.missed == 0


async def test_timeout_of_the_kernel_is_passed_on() -> None:
    target = Target(address=ADDRESS, stats=LinkStats())

    with pytest.raises(TimeoutError, match="Connection timed out"):
        async with preparing(target, now_s() + 10.0):
            raise TimeoutError(110, "Connection timed out")


@pytest.mark.parametrize("timeout_s", [5.0, 10.0, 30.0])
async def test_poll_that_restarts_the_adapter_ends_in_time_and_says_so(
    timeout_s: float, tasks: asyncio.TaskGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def is_discovering(_adapter: str) -> bool:
        return False

    async def command(opcode: int, _adapter: int, payload: bytes) -> tuple[int, bytes]:
        if opcode == SET_POWERED and payload == b"\x01":
            await asyncio.sleep(10.0)  # the kernel waits for an adapter that hangs
            air.set_faults()
        return 0, b""

    monkeypatch.setattr(bluez, "is_discovering", is_discovering)
    air = att_server.Air({ADDRESS: battery()})
    air.set_faults(deaf=True)
    management = Management(power=True, command=command, kernel=air.make_kernel())
    transport = DirectTransport(kernel=air.make_kernel(), management=management, clock=now_s)
    config = PollConfig(min_interval_s=Seconds(0.0), timeout_s=Seconds(timeout_s))
    poller = make_poller(make_direct_routes(transport), tasks, poll=config)

    messages = []
    for _ in range(3):
        messages.append((await poller.refresh(timeout_s=60.0)).last_error or "")
        took_s = poller.show().poll_duration_s
        assert took_s is not None
        assert took_s < timeout_s + 0.1
        await asyncio.sleep(40.0)

    assert "it is restarted if this lasts" in messages[0]
    assert re.search("it (was|is being) restarted, and the next poll tries again", messages[1])
    assert messages[2] == ""
