"""A new configuration while the old one is read."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from exporter.batteries import Batteries
from exporter.ble.machine import build_routes
from exporter.clock import WallClock
from exporter.config.local_time import TimeOfDay, ZoneName
from exporter.config.presentation import Threshold
from exporter.config.schema import (
    AdapterName,
    BatteryConfig,
    Config,
    Name,
    PollConfig,
    Seconds,
    TransportChoice,
    normal_address,
)
from exporter.demo.battery import VirtualBattery
from exporter.demo.radio import make_air, make_backend
from exporter.errors import ConfigError
from exporter.metrics import ExporterCollector
from exporter.reload import Reload
from tests.support.registry import make_registry
from tests.support.route_machine import BLUEZ, FAST, GENTLE, PAIRING, Machine
from tests.support.virtual import ANSWERS, WallTime, answering, now_s

ADDRESSES = {name: f"A4:C1:38:00:00:{n:02X}" for n, name in enumerate(("one", "two", "three"))}


def configured(*names: str, poll: PollConfig | None = None, **more: Any) -> Config:
    return Config(
        batteries=tuple(
            BatteryConfig(name=Name(name), address=normal_address(ADDRESSES[name]), **more)
            for name in names
        ),
        poll=poll or PollConfig(min_interval_s=Seconds(0)),
    )


@dataclass(slots=True)
class Camper:
    batteries: Batteries
    virtual: dict[str, VirtualBattery]

    async def read(self, name: str) -> Any:
        return await self.batteries.pollers[name].refresh(timeout_s=30.0)


@pytest.fixture
async def camper() -> AsyncIterator[Camper]:
    virtual = {
        name: VirtualBattery(address=address, answers=answering(ANSWERS))
        for name, address in ADDRESSES.items()
    }
    backend = make_backend(make_air(virtual.values()))
    async with asyncio.TaskGroup() as tasks:
        config = configured("one", "two")
        routes = await build_routes(config, backend)
        batteries = Batteries(config, routes, tasks, backend=backend)
        yield Camper(batteries, virtual)
        await batteries.close()


async def test_reload_changes_the_local_time(camper: Camper) -> None:
    config = configured("one", "two")

    for zone, morning_s in (("Asia/Kathmandu", 6 * 3600.0), ("UTC", 8 * 3600.0)):
        changed = replace(config, timezone=ZoneName(zone), morning=TimeOfDay(morning_s))
        await camper.batteries.apply(changed)
        offset_s = {"UTC": 0.0, "Asia/Kathmandu": 20_700.0}[zone]
        shown = camper.batteries.local_time.as_json()

        assert (shown["utc_offset_s"], shown["morning_s"]) == (offset_s, morning_s)


async def test_remaining_batteries_keep_their_counters(camper: Camper) -> None:
    await camper.read("one")
    await camper.read("two")

    await camper.batteries.apply(configured("three", "two"))

    assert list(camper.batteries.pollers) == ["three", "two"]
    assert (await camper.read("two")).polls == 2
    assert (await camper.read("three")).up


async def test_reload_does_not_disturb_a_poll_under_way(camper: Camper) -> None:
    polling = asyncio.create_task(camper.read("two"))
    await asyncio.sleep(1.0)  # found, and being connected

    await camper.batteries.apply(configured("two", "three"))

    assert (await polling).up
    assert camper.virtual["two"].connects == 1


async def test_removed_battery_is_disconnected(camper: Camper) -> None:
    polling = asyncio.create_task(camper.read("one"))
    await asyncio.sleep(1.8)
    assert camper.virtual["one"].connects == 1

    await camper.batteries.apply(configured("two"))
    polling.cancel()
    await asyncio.sleep(5.0)

    assert camper.virtual["one"].disconnects == 1


async def test_changed_battery_keeps_its_counters(camper: Camper) -> None:
    assert (await camper.read("one")).reading.cell_voltages_v

    await camper.batteries.apply(configured("one", "two", cells=False))
    snapshot = await camper.read("one")

    assert snapshot.polls == 2
    assert snapshot.reading.cell_voltages_v is None


async def test_changed_threshold_is_shown_without_a_poll(camper: Camper) -> None:
    await camper.read("one")
    low = Threshold(60.0, is_ratio=False)

    await camper.batteries.apply(replace(configured("one", "two"), low=low))
    snapshot = camper.batteries.pollers["one"].show()

    assert snapshot.presentation.low == low
    assert snapshot.nominal_ah == 219.32
    assert camper.virtual["one"].connects == 1


@pytest.mark.parametrize(
    ("option", "register"), [("cells", 0x04), ("hardware", 0x05), ("counters", 0xAA)]
)
async def test_register_that_is_switched_off_is_not_requested(
    option: str, register: int, camper: Camper
) -> None:
    options: dict[str, Any] = {option: False}
    await camper.batteries.apply(configured("one", "two", **options))

    snapshot = await camper.read("one")

    assert snapshot.identity is not None
    requests = camper.virtual["one"].requests
    assert set(requests) == {0x03, 0x04, 0x05, 0xAA} - {register}


@pytest.mark.parametrize(
    ("config", "route"),
    [
        pytest.param(configured("one"), BLUEZ, id="the same"),
        pytest.param(configured("one", cells=False), BLUEZ, id="another register"),
        pytest.param(
            configured("one", poll=PollConfig(min_interval_s=Seconds(0), timeout_s=Seconds(20))),
            BLUEZ,
            id="another interval",
        ),
        pytest.param(
            replace(
                configured("one"),
                batteries=(
                    *configured("one").batteries,
                    *configured("two", link=TransportChoice.BLUEZ).batteries,
                ),
            ),
            BLUEZ,
            id="another battery with a link of its own",
        ),
        pytest.param(configured("one", link=TransportChoice.DIRECT), FAST, id="another link"),
        pytest.param(configured("one", adapter=AdapterName("hci1")), FAST, id="another adapter"),
    ],
)
async def test_reload_forgets_the_route_only_where_link_or_adapter_changed(
    config: Config, route: str, tasks: asyncio.TaskGroup
) -> None:
    machine = Machine({FAST: PAIRING, GENTLE: PAIRING})
    backend = make_backend(make_air([]))
    batteries = Batteries(configured("one"), machine.routes(), tasks, backend=backend)
    for _ in range(2):
        await batteries.pollers["one"].refresh(timeout_s=30.0)
        await batteries.pollers["one"].close()
    assert machine.used == [FAST, BLUEZ]

    await batteries.apply(config)
    await batteries.pollers["one"].refresh(timeout_s=30.0)

    assert machine.used[2:] == [route]


async def test_new_address_is_a_new_battery(camper: Camper) -> None:
    await camper.read("one")
    swapped = configured("one", "two")
    first, second = swapped.batteries
    swapped = replace(
        swapped,
        batteries=(
            replace(first, address=second.address),
            replace(second, address=first.address),
        ),
    )

    await camper.batteries.apply(swapped)

    snapshot = await camper.read("one")
    assert (snapshot.polls, snapshot.address) == (1, ADDRESSES["two"])


async def test_new_intervals_apply_to_remaining_batteries(camper: Camper) -> None:
    await camper.read("one")

    await camper.batteries.apply(configured("one", poll=PollConfig(min_interval_s=Seconds(3600))))
    for _ in range(3):
        snapshot = await camper.read("one")

    assert snapshot.polls == 1


async def test_invalid_file_leaves_the_old_configuration(camper: Camper) -> None:
    own = ExporterCollector()

    def load() -> Config:
        raise ConfigError(["config.yaml:3: batteries[0].address: missing"])

    problems = await Reload(load, camper.batteries, own)()

    assert [*problems] == ["config.yaml:3: batteries[0].address: missing"]
    assert not own.reload_succeeded
    assert list(camper.batteries.pollers) == ["one", "two"]


async def test_valid_file_after_an_invalid_one_is_applied(camper: Camper) -> None:
    began_s = now_s()
    own = ExporterCollector(WallClock(now_s, WallTime()))
    own.reload_succeeded = False
    await asyncio.sleep(60.0)

    problems = await Reload(lambda: configured("two"), camper.batteries, own)()

    assert not problems
    assert own.reload_succeeded
    loaded = "bms_exporter_config_last_reload_success_timestamp_seconds"
    assert make_registry(own).get_sample_value(loaded) == 1_795_391_284.5 + began_s
    assert list(camper.batteries.pollers) == ["two"]


class SlowFile:
    """A configuration that takes 50 ms to read; records how often it was read."""

    def __init__(self) -> None:
        self.content = configured("one")
        self.reads = 0

    def __call__(self) -> Config:
        self.reads += 1
        content = self.content
        time.sleep(0.05)  # in a thread, as reading a file does
        return content


async def test_requests_during_a_reload_share_the_next_one(camper: Camper) -> None:
    file = SlowFile()
    reload = Reload(file, camper.batteries, ExporterCollector())
    first = asyncio.create_task(reload())
    while not file.reads:  # noqa: ASYNC110 - of a thread
        await asyncio.sleep(0)

    file.content = configured("two")  # after the running reload has read it
    problems = await asyncio.gather(*(reload() for _ in range(50)))

    assert problems == [()] * 50
    assert await first == ()
    assert file.reads == 2
    assert list(camper.batteries.pollers) == ["two"]


async def test_requests_that_share_a_reload_get_its_problems(camper: Camper) -> None:
    def load() -> Config:
        raise ConfigError(["config.yaml:3: batteries[0].address: missing"])

    reload = Reload(load, camper.batteries, ExporterCollector())

    problems = await asyncio.gather(*(reload() for _ in range(5)))

    assert [[*one] for one in problems] == [["config.yaml:3: batteries[0].address: missing"]] * 5


async def test_cancelled_request_does_not_cancel_a_shared_reload(camper: Camper) -> None:
    file = SlowFile()
    reload = Reload(file, camper.batteries, ExporterCollector())
    first, second, third = (asyncio.create_task(reload()) for _ in range(3))
    while not file.reads:  # noqa: ASYNC110 - of a thread
        await asyncio.sleep(0)

    first.cancel()

    assert [await second, await third] == [(), ()]
    assert list(camper.batteries.pollers) == ["one"]


async def test_many_signals_cause_at_most_two_reloads(camper: Camper) -> None:
    file = SlowFile()
    reload = Reload(file, camper.batteries, ExporterCollector())
    async with asyncio.TaskGroup() as tasks:
        for _ in range(2000):
            reload.request(tasks)
        await asyncio.sleep(0)
        assert len(tasks._tasks) <= 2

    assert file.reads <= 2
    assert list(camper.batteries.pollers) == ["one"]


async def test_signal_during_a_reload_causes_another_reload(camper: Camper) -> None:
    file = SlowFile()
    reload = Reload(file, camper.batteries, ExporterCollector())
    async with asyncio.TaskGroup() as tasks:
        reload.request(tasks)
        while not file.reads:  # noqa: ASYNC110 - of a thread
            await asyncio.sleep(0)
        file.content = configured("three")
        for _ in range(2000):
            reload.request(tasks)

    assert file.reads == 2
    assert list(camper.batteries.pollers) == ["three"]


async def test_stop_does_not_wait_for_reloads(camper: Camper) -> None:
    file = SlowFile()
    reload = Reload(file, camper.batteries, ExporterCollector())
    async with asyncio.TaskGroup() as tasks:
        for _ in range(3):
            reload.request(tasks)
        await asyncio.sleep(0)

        reload.close()
        reload.request(tasks)

    assert file.reads <= 1
    assert list(camper.batteries.pollers) == ["one", "two"]
