"""Each battery is read through the adapter that receives it best."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from exporter.batteries import build_battery
from exporter.battery.poller import Poller
from exporter.ble.adapter_choice import COMPARE_S
from exporter.ble.bleak import BleakTransport
from exporter.ble.routes import Routes
from exporter.ble.transport import Target
from exporter.clock import WallClock
from exporter.config.schema import (
    AdapterName,
    BatteryConfig,
    Name,
    PollConfig,
    Seconds,
    TransportChoice,
    normal_address,
)
from exporter.connection import Connection
from exporter.demo.battery import Faults
from exporter.demo.radio import Air, make_air, make_backend
from exporter.errors import AdapterError, FailureReason, PairingError
from tests.support.virtual import ADDRESS, battery, make_poller, make_transport, now_s

SECOND = "A4:C1:38:00:00:02"


@dataclass(slots=True)
class TwoAdapters:
    """Two adapters, each with its own signal strength of the same batteries."""

    tasks: asyncio.TaskGroup
    rssi_dbm: dict[str, int]  # of the battery, by adapter
    present: list[str] = field(default_factory=lambda: ["hci0", "hci1"])
    airs: dict[str | None, Air] = field(default_factory=dict)
    pollers: dict[str, Poller] = field(default_factory=dict)
    routes: Routes = field(init=False)

    def __post_init__(self) -> None:
        for name, rssi_dbm in self.rssi_dbm.items():
            in_range = [battery(rssi_dbm=rssi_dbm), battery(SECOND, rssi_dbm=rssi_dbm)]
            self.airs[name] = make_air(in_range)
        self.routes = Routes(bluez=self.transport, adapters=lambda: self.present)

    def transport(self, adapter: str | None) -> BleakTransport:
        return make_transport(self.airs[adapter or "hci0"])

    def poller(self, address: str = ADDRESS, adapter: AdapterName | None = None) -> Poller:
        config = BatteryConfig(name=Name(address), address=normal_address(address), adapter=adapter)
        poll = PollConfig(min_interval_s=Seconds(0.0), timeout_s=Seconds(20.0))
        wall = WallClock(now_s)
        return build_battery(config, poll, self.routes, tasks=self.tasks, wall=wall).poller

    def connects(self, address: str = ADDRESS) -> dict[str | None, int]:
        return {name: air.batteries[address].connects for name, air in self.airs.items()}

    def set_faults(self, adapter: str, **faults: bool) -> None:
        for one in self.airs[adapter].batteries.values():
            one.faults = Faults(**faults)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rssi_dbm", "best"),
    [({"hci0": -80, "hci1": -50}, "hci1"), ({"hci0": -50, "hci1": -80}, "hci0")],
)
async def test_adapter_with_the_strongest_signal_reads_the_battery(
    rssi_dbm: dict[str, int], best: str, tasks: asyncio.TaskGroup
) -> None:
    machine = TwoAdapters(tasks, rssi_dbm)
    poller = machine.poller()

    for _ in range(3):
        assert (await poller.refresh(timeout_s=60.0)).up

    assert machine.connects() == {"hci0": 0, "hci1": 0} | {best: 3}


@pytest.mark.parametrize(
    ("rssi_dbm", "connects"),
    [({"hci0": -60, "hci1": -64}, [1, 1]), ({"hci0": -60, "hci1": -70}, [2, 0])],
)
async def test_adapters_with_similar_signals_share_the_batteries(
    rssi_dbm: dict[str, int], connects: list[int], tasks: asyncio.TaskGroup
) -> None:
    machine = TwoAdapters(tasks, rssi_dbm)
    pollers = [machine.poller(), machine.poller(SECOND)]

    await asyncio.gather(*(poller.refresh(timeout_s=60.0) for poller in pollers))

    first, second = machine.connects(), machine.connects(SECOND)
    assert [first[name] + second[name] for name in rssi_dbm] == connects


async def test_batteries_with_a_configured_adapter_count_as_its_load(
    tasks: asyncio.TaskGroup,
) -> None:
    machine = TwoAdapters(tasks, {"hci0": -60, "hci1": -64})
    await machine.poller(adapter=AdapterName("hci0")).refresh(timeout_s=60.0)

    await machine.poller(SECOND).refresh(timeout_s=60.0)

    assert machine.connects(SECOND) == {"hci0": 0, "hci1": 1}


async def test_adapters_are_compared_once(tasks: asyncio.TaskGroup) -> None:
    machine = TwoAdapters(tasks, {"hci0": -80, "hci1": -50})
    poller = machine.poller()
    await poller.refresh(timeout_s=60.0)
    await asyncio.sleep(5.0)
    began_s = now_s()

    await poller.refresh(timeout_s=60.0)

    assert now_s() - began_s < 2.0


async def test_configured_adapter_is_used_without_comparison(tasks: asyncio.TaskGroup) -> None:
    machine = TwoAdapters(tasks, {"hci0": -80, "hci1": -50})

    assert (await machine.poller(adapter=AdapterName("hci0")).refresh(timeout_s=60.0)).up

    assert machine.connects() == {"hci0": 1, "hci1": 0}


async def test_configured_adapter_is_resolved_at_each_poll(tasks: asyncio.TaskGroup) -> None:
    machine = TwoAdapters(tasks, {"hci0": -80, "hci1": -50})
    present = {"00:1B:DC:0F:AA:01": "hci0"}
    machine.routes = Routes(
        bluez=machine.transport, adapters=lambda: machine.present, resolve=present.__getitem__
    )
    poller = machine.poller(adapter=AdapterName("00:1B:DC:0F:AA:01"))
    await poller.refresh(timeout_s=60.0)
    present["00:1B:DC:0F:AA:01"] = "hci1"

    await poller.refresh(timeout_s=60.0)

    assert machine.connects() == {"hci0": 1, "hci1": 1}


async def test_failure_makes_the_next_poll_compare_adapters(tasks: asyncio.TaskGroup) -> None:
    machine = TwoAdapters(tasks, {"hci0": -80, "hci1": -50})
    poller = machine.poller()
    await poller.refresh(timeout_s=60.0)
    machine.set_faults("hci1", gone=True)

    assert not (await poller.refresh(timeout_s=60.0)).up
    assert (await poller.refresh(timeout_s=60.0)).up

    assert machine.connects() == {"hci0": 1, "hci1": 1}


async def test_two_failures_over_one_adapter_are_followed_by_another(
    tasks: asyncio.TaskGroup,
) -> None:
    machine = TwoAdapters(tasks, {"hci0": -70, "hci1": -50})
    poller = machine.poller()
    await poller.refresh(timeout_s=60.0)
    machine.set_faults("hci1", silent=True)

    ups = [(await poller.refresh(timeout_s=60.0)).up]
    await asyncio.sleep(60.0)
    ups.append((await poller.refresh(timeout_s=60.0)).up)
    await asyncio.sleep(60.0)
    ups.append((await poller.refresh(timeout_s=60.0)).up)

    assert ups == [False, False, True]
    assert machine.connects() == {"hci0": 1, "hci1": 3}


async def test_other_adapter_gets_one_attempt_before_the_proven_one_again(
    tasks: asyncio.TaskGroup,
) -> None:
    machine = TwoAdapters(tasks, {"hci0": -60, "hci1": -55})
    poller = machine.poller()
    await poller.refresh(timeout_s=60.0)
    for adapter in ("hci0", "hci1"):
        machine.set_faults(adapter, silent=True)
    used = []
    for _ in range(6):
        before = machine.connects()
        await asyncio.sleep(400.0)
        await poller.refresh(timeout_s=60.0)
        after = machine.connects()
        used += [adapter for adapter in after if after[adapter] > before[adapter]]

    assert used == ["hci1", "hci1", "hci0", "hci1", "hci1", "hci0"]


@pytest.mark.parametrize("other", ["hangs", "refuses"])
async def test_adapter_that_hangs_or_refuses_does_not_delay_the_other(
    other: str, tasks: asyncio.TaskGroup
) -> None:
    machine = TwoAdapters(tasks, {"hci0": -60, "hci1": -60})
    if other == "hangs":
        machine.airs["hci0"].scan_hangs = True
    else:
        machine.airs["hci0"].scan_error = AdapterError("no")
    poller = machine.poller()
    began_s = now_s()

    assert (await poller.refresh(timeout_s=60.0)).up

    alone_s = COMPARE_S + machine.airs["hci1"].advertise_every_s + machine.airs["hci1"].connect_s
    assert now_s() - began_s < alone_s + 1.0  # for the requests


async def test_cancelled_comparison_leaves_no_scan(tasks: asyncio.TaskGroup) -> None:
    machine = TwoAdapters(tasks, {"hci0": -60, "hci1": -60})
    poller = machine.poller()
    poll = asyncio.create_task(poller.refresh(timeout_s=60.0))
    await asyncio.sleep(COMPARE_S / 2)
    assert [air.scans for air in machine.airs.values()] == [1, 1]

    await poller.close()
    await poll

    assert [air.scans for air in machine.airs.values()] == [0, 0]


async def test_adapter_that_worked_counts_before_a_slightly_louder_one(
    tasks: asyncio.TaskGroup,
) -> None:
    machine = TwoAdapters(tasks, {"hci0": -60, "hci1": -55})
    machine.present = ["hci0"]
    poller = machine.poller()
    machine.present = ["hci0", "hci1"]
    machine.set_faults("hci1", gone=True)
    await poller.refresh(timeout_s=60.0)
    machine.set_faults("hci1")
    machine.set_faults("hci0", gone=True)
    await poller.refresh(timeout_s=60.0)  # missed
    machine.set_faults("hci0")

    await poller.refresh(timeout_s=60.0)

    assert machine.connects() == {"hci0": 2, "hci1": 0}


async def test_unplugged_adapter_fails_only_its_own_batteries(
    tasks: asyncio.TaskGroup,
) -> None:
    machine = TwoAdapters(tasks, {"hci0": -60, "hci1": -60})
    first = machine.poller(adapter=AdapterName("hci0"))
    second = machine.poller(SECOND, adapter=AdapterName("hci1"))
    machine.airs["hci1"].scan_error = AdapterError("no Bluetooth adapter hci1")
    machine.present = ["hci0"]

    snapshots = await asyncio.gather(first.refresh(timeout_s=60.0), second.refresh(timeout_s=60.0))

    assert snapshots[0].up
    assert snapshots[1].failures == {FailureReason.ADAPTER: 1}


async def test_battery_moves_to_the_remaining_adapter(
    tasks: asyncio.TaskGroup,
) -> None:
    machine = TwoAdapters(tasks, {"hci0": -80, "hci1": -50})
    poller = machine.poller()
    await poller.refresh(timeout_s=60.0)
    machine.present = ["hci0"]

    assert (await poller.refresh(timeout_s=60.0)).up

    assert machine.connects() == {"hci0": 1, "hci1": 1}


async def test_adapters_take_turns_if_no_scan_works(tasks: asyncio.TaskGroup) -> None:
    machine = TwoAdapters(tasks, {"hci0": -80, "hci1": -50})
    for air in machine.airs.values():
        air.scan_error = AdapterError("bluetoothd is not running")
    tried = []

    class Deaf(BleakTransport):
        def connect(self, *_: Any, **__: Any) -> Any:
            tried.append(self)
            raise AdapterError("no")

    def make_deaf(adapter: str | None) -> Deaf:
        return Deaf(backend=make_backend(machine.airs[adapter]))

    machine.routes = Routes(bluez=make_deaf, adapters=lambda: machine.present)
    poller = machine.poller()
    for _ in range(4):
        await poller.refresh(timeout_s=60.0)

    assert [tried.index(transport) for transport in tried] == [0, 1, 0, 1]


class WantsPairing:
    """A direct transport to a battery that wants pairing."""

    def __init__(self) -> None:
        self.connects = 0
        self.targets: Mapping[str, Target] = {}

    @asynccontextmanager
    async def connect(
        self, target: Target, *, deadline_s: float, is_gentle: bool = False
    ) -> AsyncIterator[Connection]:
        self.connects += 1
        raise PairingError(f"{target.address} wants pairing until {deadline_s}")
        yield


@pytest.mark.parametrize(
    ("link", "prefers_direct", "direct_connects", "is_up"),
    [
        pytest.param(None, True, 1, [False, True, True], id="falls back"),
        pytest.param(TransportChoice.AUTO, True, 1, [False, True, True], id="auto falls back"),
        pytest.param(TransportChoice.DIRECT, True, 3, [False] * 3, id="configured direct stays"),
        pytest.param(TransportChoice.BLUEZ, True, 0, [True] * 3, id="configured bluez"),
        pytest.param(None, False, 0, [True] * 3, id="bluez for all"),
    ],
)
async def test_battery_that_wants_pairing_is_read_through_bluetoothd_unless_configured(
    link: TransportChoice | None,
    prefers_direct: bool,
    direct_connects: int,
    is_up: list[bool],
    tasks: asyncio.TaskGroup,
) -> None:
    direct = WantsPairing()
    bluez = make_transport(make_air([battery()]))
    routes = Routes(
        bluez=lambda _: bluez,
        direct=lambda _: direct,
        prefers_direct=prefers_direct,
        adapters=list,
    )
    poll = PollConfig(min_interval_s=Seconds(0.0))
    poller = make_poller(routes, tasks, poll=poll, link=link)

    snapshots = []
    for _ in range(3):
        snapshots.append(await poller.refresh(timeout_s=60.0))
        await asyncio.sleep(1200.0)

    assert [snapshot.up for snapshot in snapshots] == is_up
    assert direct.connects == direct_connects
