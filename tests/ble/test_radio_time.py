"""A battery that is away costs no more radio time than its back-off allows, over any route."""

import asyncio
import math
import random
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import looptime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.battery.backoff import BACKOFF_S
from exporter.battery.poller import Poller
from exporter.ble.bleak import BleakTransport
from exporter.ble.direct.transport import DirectTransport
from exporter.ble.routes import Routes
from exporter.ble.timeouts import CONNECTION_S, FIND_S
from exporter.config.schema import PollConfig, Seconds, TransportChoice
from exporter.demo.battery import Faults, VirtualBattery
from exporter.demo.radio import make_air
from tests.support import att_server
from tests.support.route_machine import (
    ABSENT,
    FAST,
    GATT,
    HELD,
    OFF,
    PAIRING,
    QUIET,
    RADIO,
    REFUSED,
    ROUTES,
    WEDGED,
    Fault,
    Machine,
)
from tests.support.virtual import battery, make_poller, make_transport, now_s

DAY_S = 86_400.0
HOUR_S = 3600.0
DIRECT, BLUEZ, AUTO = TransportChoice.DIRECT, TransportChoice.BLUEZ, TransportChoice.AUTO
POLL = PollConfig(min_interval_s=Seconds(0.0))
Span = tuple[float, float]


def most_polls(absent_s: float, every_s: float) -> int:
    """Return how many polls the back-off allows of a battery that is away for so long.

    This is the rule of before there were routes: the scrape after the first failure polls, later
    ones after 15 s from the end of a poll, doubled up to `backoff_max`.
    """
    at_s, polls, pause_s = 0.0, 0, 0.0
    while at_s < absent_s:
        polls += 1
        at_s = math.ceil((at_s + FIND_S + pause_s) / every_s) * every_s
        pause_s = min(2 * pause_s or BACKOFF_S, POLL.backoff_max_s)
    return polls


class Kernel(att_server.Air):
    """A kernel that counts how long it waits for batteries."""

    def __init__(self, batteries: Mapping[str, VirtualBattery]) -> None:
        super().__init__(dict(batteries))
        self.waited_s: dict[str, float] = dict.fromkeys(batteries, 0.0)

    async def _open(self, address: str, address_type: int, adapter: str) -> object:  # type: ignore[override]
        began_s = now_s()
        self._count(commands=4, events=4)
        try:
            while not self.batteries[address].advertising:  # noqa: ASYNC110 - radio has no events
                await asyncio.sleep(0.5)
            return await super()._open(address, address_type, adapter)
        finally:
            self.waited_s[address] += now_s() - began_s


@dataclass(slots=True)
class Fleet:
    """Some batteries over both transports, simulated down to sockets and scans."""

    tasks: asyncio.TaskGroup
    link: TransportChoice
    size: int
    batteries: dict[str, VirtualBattery] = field(init=False)
    pollers: list[Poller] = field(init=False)
    kernel: Kernel = field(init=False)
    bluez: BleakTransport = field(init=False)

    def __post_init__(self) -> None:
        addresses = [f"A4:C1:38:00:00:{number:02X}" for number in range(1, self.size + 1)]
        self.batteries = {address: battery(address) for address in addresses}
        self.kernel = Kernel(self.batteries)
        direct = DirectTransport(kernel=self.kernel.make_kernel(), clock=now_s)
        self.bluez = make_transport(make_air(self.batteries.values()))
        routes = Routes(
            bluez=lambda _: self.bluez, direct=lambda _: direct, adapters=list, clock=now_s
        )
        self.pollers = [
            make_poller(
                routes, self.tasks, name=address, address=address, link=self.link, poll=POLL
            )
            for address in addresses
        ]

    @property
    def radio_s(self) -> float:
        """The seconds of waiting and scanning so far."""
        return sum(self.kernel.waited_s.values()) + self.bluez._scanner.scanned_s

    @property
    def attempts(self) -> int:
        return sum(poller.show().link.connection_attempts for poller in self.pollers)

    async def scrape(self, duration_s: float, every_s: float, absent: Sequence[set[int]]) -> None:
        """Scrape for so long; each scrape finds the batteries of the next set away."""
        began_s = now_s()
        for number in range(int(duration_s / every_s)):
            for place, one in enumerate(self.batteries.values()):
                one.faults = Faults(gone=place in absent[number])
            await asyncio.gather(*(poller.refresh() for poller in self.pollers))
            await asyncio.sleep(max(0.0, began_s + (number + 1) * every_s - now_s()))


@pytest.mark.parametrize("link", [DIRECT, BLUEZ, AUTO])
@pytest.mark.parametrize("size", [1, 3])
async def test_day_away_costs_the_waits_of_the_back_off_and_no_attempt(
    link: TransportChoice, size: int, tasks: asyncio.TaskGroup
) -> None:
    fleet = Fleet(tasks, link, size)
    every_s = 60.0
    everyone = set(range(size))

    await fleet.scrape(DAY_S, every_s, [everyone] * int(DAY_S / every_s))

    assert fleet.attempts == 0
    assert 0 < fleet.radio_s <= size * FIND_S * most_polls(DAY_S, every_s)


@pytest.mark.parametrize("link", [DIRECT, BLUEZ, AUTO])
async def test_battery_away_beside_others_costs_their_connections_in_addition(
    link: TransportChoice, tasks: asyncio.TaskGroup
) -> None:
    fleet = Fleet(tasks, link, 3)
    every_s = 300.0
    missing = fleet.pollers[0]
    polls = 60

    await fleet.scrape(polls * every_s, every_s, [{0}] * polls)

    assert missing.show().link.connection_attempts == 0
    assert fleet.attempts == 2 * polls  # one for each of the others
    found_s = 2.0  # to find a battery that advertises every second
    a_look_s = FIND_S + 2 * CONNECTION_S  # each connection of the others extends the wait
    looks = most_polls(polls * every_s, every_s)
    assert fleet.radio_s <= looks * a_look_s + 2 * polls * found_s


def make_absences(chance: random.Random) -> Sequence[Span]:
    starts_s = sorted(chance.uniform(0, DAY_S) for _ in range(12))
    return [(start_s, start_s + chance.expovariate(1 / HOUR_S)) for start_s in starts_s]


@pytest.mark.parametrize("link", [DIRECT, BLUEZ, AUTO])
@pytest.mark.parametrize("seed", range(3))
async def test_random_absences_cost_the_waits_of_the_back_off(
    link: TransportChoice, seed: int, tasks: asyncio.TaskGroup
) -> None:
    spans = make_absences(random.Random(seed))  # noqa: S311 - no secret
    every_s = 300.0
    absent = [
        {0} if any(start_s <= number * every_s < end_s for start_s, end_s in spans) else set[int]()
        for number in range(int(DAY_S / every_s))
    ]
    runs = "".join("#" if away else " " for away in absent).split()  # scrapes of each absence
    present = absent.count(set())
    fleet = Fleet(tasks, link, 1)

    await fleet.scrape(DAY_S, every_s, absent)

    waits = sum(most_polls(len(run) * every_s, every_s) for run in runs)
    assert waits
    assert fleet.radio_s <= waits * FIND_S + present * 2.0
    assert fleet.attempts <= present
    assert fleet.pollers[0].show().link.route_changes == {}


FAULTS = (None, GATT, RADIO, QUIET, PAIRING, REFUSED, OFF, ABSENT, HELD, WEDGED)
KEEPS = {None, OFF, ABSENT, HELD, WEDGED}  # what no other route can change
STRETCHES = st.lists(
    st.tuples(st.lists(st.sampled_from(FAULTS), min_size=3, max_size=3), st.integers(1, 60)),
    min_size=1,
    max_size=4,
)
"""For some minutes each: the fault of each route."""


def in_virtual_time(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine; hypothesis calls a test more than once in one loop's time."""
    with asyncio.Runner(loop_factory=looptime.new_event_loop) as runner:
        runner.run(work)


async def scrape(machine: Machine, stretches: Sequence[tuple[Sequence[Fault | None], int]]) -> None:
    """Scrape every minute while the faults change; check each step of the ladder."""
    async with asyncio.TaskGroup() as tasks:
        poller = make_poller(machine.routes(), tasks, poll=POLL)
        last, earlier = FAST, set[Fault | None]()
        for faults, minutes in stretches:
            machine.faults = dict(zip(ROUTES, faults, strict=True))
            for _ in range(minutes):
                before = len(machine.used)
                await asyncio.gather(poller.refresh(), asyncio.sleep(60.0))
                used = machine.used[before:]
                assert len(used) <= 2  # the second one only after a refusal at once
                assert len(used) < 2 or machine.faults[used[0]] is REFUSED
                for route in used:
                    rungs = ROUTES.index(route) - ROUTES.index(last)
                    assert rungs <= 1 or {PAIRING, REFUSED} & (earlier | {*faults})
                    last = route
                if used:  # the back-off may leave a minute out: the evidence is the last poll's
                    earlier = {*faults}


@settings(max_examples=15)
@given(stretches=STRETCHES)
def test_any_failures_cost_at_most_twice_the_attempts_of_one_route(
    stretches: Sequence[tuple[Sequence[Fault | None], int]],
) -> None:
    """Each poll attempts once without other routes; the back-off only makes polls rarer."""
    machine = Machine()

    in_virtual_time(scrape(machine, stretches))

    for start_s in machine.attempts_at_s:
        in_hour = [at_s for at_s in machine.attempts_at_s if 0 <= at_s - start_s < HOUR_S]
        assert len(in_hour) <= 2 * (HOUR_S / 60.0)


@settings(max_examples=15)
@given(stretches=STRETCHES)
def test_no_route_is_left_without_evidence_that_the_battery_is_there(
    stretches: Sequence[tuple[Sequence[Fault | None], int]],
) -> None:
    machine = Machine()
    harmless = [
        ([fault if fault in KEEPS else ABSENT for fault in faults], minutes)
        for faults, minutes in stretches
    ]

    in_virtual_time(scrape(machine, harmless))

    assert set(machine.used) == {FAST}
