"""Hundreds of combined faults of bluetoothd and battery, through bleak's own BlueZ backend."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Final

import pytest
from bleak.backends.bluezdbus.manager import get_global_bluez_manager
from bleak.backends.device import BLEDevice
from hasty import hurry

import batteries
from bus import Bus, need_dbus
from exporter.batteries import build_battery
from exporter.battery.poller import Poller
from exporter.battery.snapshot import Snapshot
from exporter.ble import bluez
from exporter.ble.adapter_health import CERTAIN_S, AdapterHealths
from exporter.ble.bleak import BleakTransport
from exporter.ble.direct.kernel import Kernel
from exporter.ble.direct.management import SET_POWERED, Management
from exporter.ble.direct.settings import READ_CONTROLLER_INFORMATION, Setting
from exporter.ble.direct.sockets import CONNECTING, Adapter
from exporter.ble.direct.transport import DirectTransport
from exporter.ble.routes import Routes
from exporter.ble.transport import Target
from exporter.cli.findings import read_candidate
from exporter.config.schema import (
    AdapterName,
    BatteryConfig,
    Config,
    Name,
    PollConfig,
    Seconds,
    normal_address,
)
from exporter.demo.battery import Faults, VirtualBattery
from exporter.errors import (
    AdapterError,
    FailureReason,
    LinkError,
    NotFoundError,
    ProfileError,
)
from exporter.link_stats import LinkStats
from exporter.protocol import profiles
from fake_bluetoothd import DBUS, DEVICE, FAILED, DaemonFaults, FakeBluetoothd, Times
from tests.support.advertisements import make_advertisement
from tests.support.att_server import Air

pytestmark = pytest.mark.looptime(False)  # noqa: FBT003 - a real D-Bus works in real time
FASTER: Final = 4.0  # more would miss time-outs: `make test-dbus` runs six tests at once
QUICK: Final = {"reply_s": 0.06 / FASTER, "gap_s": 0.0015 / FASTER}
UP: Final = "up"
CHUNK: Final = 24  # batteries that a test polls at once
PROFILES: Final = ("nus", "ff00")
CONFIG: Final = Config(batteries=())

FAULTS: Final[dict[str, tuple[dict[str, Any], set[str]]]] = {
    "healthy": ({}, {UP}),
    "loses the first": ({"lose_first": 1}, {UP}),
    "loses the first two": ({"lose_first": 2}, {UP}),
    "sends stray bytes": ({"stray": b"\xdd\x03\x00"}, {UP}),
    "one at a time": ({"one_at_a_time": True}, {UP}),
    "in one piece": ({"notification": 0}, {UP}),
    "silent": ({"silent": True}, {"timeout"}),
    "truncated": ({"truncated": True}, {"timeout"}),
    "bad checksum": ({"bad_checksum": True}, {"protocol"}),
    "wrong register": ({"wrong_register": True}, {"protocol"}),
    "cut": ({"cut": True}, {"link_lost"}),
    "refuses": ({"refuses": True}, {"connect"}),
    "switched off": ({"gone": True}, {"not_found"}),
    "held by the phone": ({"held": True}, {"not_found"}),
}
IN_PROGRESS: Final = ("org.bluez.Error.InProgress", "Operation already in progress")
DAEMON_FAULTS: Final[dict[str, tuple[DaemonFaults, set[str]]]] = {
    "none": (DaemonFaults(), {UP}),
    "connect in progress, once": (DaemonFaults(connect_errors=(IN_PROGRESS,)), {UP}),
    "connect in progress, always": (DaemonFaults(connect_errors=(IN_PROGRESS,) * 999), {"connect"}),
    "abort by local, once": (DaemonFaults(abort_by_local=1), {UP}),
    "abort by local, always": (DaemonFaults(abort_by_local=99), {"connect"}),
    "no slots, once": (
        DaemonFaults(connect_errors=((FAILED, "no available connection slot"),)),
        {UP},
    ),
    "no slots": (
        DaemonFaults(connect_errors=((FAILED, "no available connection slot"),) * 999),
        {"connect"},
    ),
    "permission denied": (
        DaemonFaults(
            connect_errors=((f"{DBUS}.Error.AccessDenied", "Rejected send message"),) * 999
        ),
        {"adapter"},
    ),
    "the object expires": (DaemonFaults(expires=True), {UP, "connect"}),
    "connect hangs": (DaemonFaults(connect_hangs=True), {"connect"}),
    "services are never resolved": (DaemonFaults(never_resolved=True), {"connect"}),
    "subscription fails": (
        DaemonFaults(subscribe_error=(FAILED, "Operation failed")),
        {"link_lost"},
    ),
    "subscription is not permitted": (
        DaemonFaults(subscribe_error=("org.bluez.Error.NotPermitted", "Not permitted")),
        {"link_lost"},
    ),
    "write fails": (DaemonFaults(write_error=(FAILED, "Not connected")), {"link_lost"}),
    "disconnect fails": (DaemonFaults(disconnect_error=(FAILED, "Disconnect failed")), {UP}),
    "disconnect hangs": (DaemonFaults(disconnect_hangs=True), {UP}),
}
CASES: Final = list(product(FAULTS, DAEMON_FAULTS, PROFILES))


@dataclass(slots=True)
class FakeCamper:
    """A fake bluetoothd with batteries, and pollers for them."""

    bus: Bus
    fake: FakeBluetoothd
    tasks: asyncio.TaskGroup
    adapters: list[str] = field(default_factory=lambda: ["hci0"])
    pollers: dict[str, Poller] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)  # of the transports
    routes: Routes = field(init=False)

    def __post_init__(self) -> None:
        self.routes = Routes(
            bluez=lambda adapter: BleakTransport(adapter=adapter, **self.options),
            adapters=lambda: self.adapters,
        )

    def poller(self, virtual: VirtualBattery, adapter: str | None = None) -> Poller:
        if virtual.address not in self.pollers:
            config = BatteryConfig(
                name=Name(virtual.address),
                address=normal_address(virtual.address),
                adapter=None if adapter is None else AdapterName(adapter),
            )
            poll = PollConfig(
                timeout_s=Seconds(30.0 / FASTER), min_interval_s=Seconds(0), max_age_s=Seconds(0)
            )
            battery = build_battery(config, poll, self.routes, tasks=self.tasks)
            self.pollers[virtual.address] = battery.poller
        return self.pollers[virtual.address]

    async def poll(self, virtual: VirtualBattery, adapter: str | None = None) -> Snapshot:
        poller = self.poller(virtual, adapter)
        snapshot = await poller.refresh(timeout_s=60.0)
        await poller.close()
        return snapshot

    async def wait_until_read(self, virtual: VirtualBattery) -> None:
        """Poll until it succeeds: bleak learns from a signal that Bluetooth is back."""
        async with asyncio.timeout(30.0):
            while not (await self.poll(virtual)).up:  # noqa: ASYNC110 - it polls
                await asyncio.sleep(0.1)


@pytest.fixture
async def camper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeCamper]:
    need_dbus()
    bus = Bus(tmp_path)
    bus.start()
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus.address)
    fake = FakeBluetoothd([], bus.address, times=Times().faster(FASTER), adapters=("hci0", "hci1"))
    await fake.start()
    async with asyncio.TaskGroup() as tasks:
        with hurry(FASTER):
            yield FakeCamper(bus, fake, tasks)
    await close_bleak()
    await fake.stop()
    bus.stop()


async def close_bleak() -> None:
    """Close the D-Bus connection that bleak otherwise keeps until the program ends."""
    with suppress(Exception):
        async with asyncio.timeout(2.0):
            manager = await get_global_bluez_manager()
            if manager._bus is not None:
                manager._bus.disconnect()
                await manager._bus.wait_for_disconnect()  # type: ignore[no-untyped-call]


def make_battery(number: int, profile: str = "nus", **faults: Any) -> VirtualBattery:
    """Return a virtual battery; number n reports 203.54 Ah - n."""
    model = batteries.battery(0 if profile == "nus" else 1)
    return replace(
        model,
        address=f"A4:C1:38:00:{number >> 8:02X}:{number & 0xFF:02X}",
        answers=lambda register: batteries.answer(number, register),
        faults=Faults(**QUICK | faults),
        requests=[],
        illegal=[],
    )


def outcome(snapshot: Snapshot) -> str:
    return UP if snapshot.up else next(iter(snapshot.failures))


def shows(snapshot: Snapshot, number: int) -> bool:
    assert snapshot.reading is not None, snapshot.last_error
    assert snapshot.reading.basic is not None
    return snapshot.reading.basic.remaining_ah == pytest.approx(203.54 - number)


@pytest.mark.parametrize("start", range(0, len(CASES), CHUNK))
async def test_each_fault_has_its_reason_and_the_next_poll_succeeds(
    start: int, camper: FakeCamper
) -> None:
    chunk = CASES[start : start + CHUNK]
    fleet = [
        make_battery(number, profile, **FAULTS[fault][0])
        for number, (fault, _, profile) in enumerate(chunk)
    ]
    camper.fake.batteries.extend(fleet)
    for virtual, (_, daemon_fault, _) in zip(fleet, chunk, strict=True):
        camper.fake.daemon_faults[virtual.address] = DAEMON_FAULTS[daemon_fault][0]

    snapshots = await asyncio.gather(*(camper.poll(virtual) for virtual in fleet))

    for (fault, daemon_fault, _), snapshot in zip(chunk, snapshots, strict=True):
        of_battery, of_bluetoothd = FAULTS[fault][1], DAEMON_FAULTS[daemon_fault][1]
        expected = (of_battery | of_bluetoothd) - {UP} or {UP}
        if UP in of_bluetoothd and len(of_bluetoothd) > 1:
            expected |= of_battery
        assert outcome(snapshot) in expected, (fault, daemon_fault, snapshot.last_error)
        assert snapshot.polls == 1
        assert (snapshot.reading is not None) == snapshot.up
        link = snapshot.link
        assert link.connection_attempts >= link.connection_failures.get(FailureReason.CONNECT, 0)

    # Without faults every battery is read again.
    for virtual in fleet:
        virtual.faults = Faults(**QUICK)  # type: ignore[arg-type]
        camper.fake.daemon_faults[virtual.address] = DaemonFaults()
        camper.fake.drop(virtual)  # a bluetoothd that refused to disconnect still holds it
    again = await asyncio.gather(*(camper.poll(virtual) for virtual in fleet))
    for number, (case, snapshot) in enumerate(zip(chunk, again, strict=True)):
        assert snapshot.up, (case, snapshot.last_error)
        assert shows(snapshot, number)
    for virtual in fleet:
        assert not camper.fake.is_connected(virtual)
        assert virtual.connects == virtual.disconnects
        assert virtual.illegal == []


def test_matrix_has_hundreds_of_faults() -> None:
    assert len(CASES) > 400


async def wait_until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10.0):
        while not condition():  # noqa: ASYNC110 - the fake sets no event
            await asyncio.sleep(0.001)


async def change_both(change: Callable[[str], None]) -> None:
    for adapter in ("hci0", "hci1"):
        change(adapter)


# What disappears: how, and how it comes back.
OUTAGES: Final[dict[str, tuple[Callable[[FakeBluetoothd], Awaitable[None]], ...]]] = {
    "bluetoothd": (FakeBluetoothd.stop, FakeBluetoothd.start),
    "bluetoothd, killed": (FakeBluetoothd.kill, FakeBluetoothd.start),
    "power": (
        lambda fake: change_both(partial(fake.power, on=False)),
        lambda fake: change_both(partial(fake.power, on=True)),
    ),
    "adapter": (lambda fake: change_both(fake.unplug), lambda fake: change_both(fake.plug)),
}


class TestManyBatteries:
    async def test_hanging_connect_does_not_block_other_batteries(self, camper: FakeCamper) -> None:
        hanging, well = make_battery(0), make_battery(1)
        camper.fake.batteries.extend([hanging, well])
        camper.fake.daemon_faults[hanging.address] = DaemonFaults(connect_hangs=True)
        hung = asyncio.create_task(camper.poll(hanging))
        await wait_until(lambda: camper.fake.is_connecting(hanging))

        assert (await camper.poll(well)).up
        assert not hung.done()
        await hung


class TestBluetoothd:
    async def test_scan_of_another_program_is_awaited(self, camper: FakeCamper) -> None:
        virtual = make_battery(0)
        camper.fake.batteries.append(virtual)
        camper.fake.scan_errors = [IN_PROGRESS]

        assert (await camper.poll(virtual)).up

    @pytest.mark.parametrize(
        ("error", "words"),
        [
            ((f"{DBUS}.Error.AccessDenied", "Rejected"), "no permission"),
            (("org.bluez.Error.NotReady", "Resource Not Ready"), "switched off"),
            ((FAILED, "Failed"), "Failed"),
        ],
    )
    async def test_refused_scan_says_what_to_do(
        self, error: tuple[str, str], words: str, camper: FakeCamper
    ) -> None:
        virtual = make_battery(0)
        camper.fake.batteries.append(virtual)
        camper.fake.scan_errors = [error] * 3

        snapshot = await camper.poll(virtual)

        assert snapshot.failures == {FailureReason.ADAPTER: 1}
        assert words in (snapshot.last_error or "")
        assert (await camper.poll(virtual)).up

    async def test_silent_bluetoothd_is_given_up(self, camper: FakeCamper) -> None:
        virtual = make_battery(0)
        camper.fake.batteries.append(virtual)
        assert (await camper.poll(virtual)).up
        camper.fake.mute = True

        snapshot = await camper.poll(virtual)

        assert snapshot.failures == {FailureReason.ADAPTER: 1}
        assert "does not answer" in (snapshot.last_error or "")
        camper.fake.mute = False
        await camper.fake.restart()
        assert (await camper.poll(virtual)).up

    async def test_bluetoothd_falling_silent_during_a_connect_fails_one_poll(
        self, camper: FakeCamper
    ) -> None:
        virtual = make_battery(0)
        camper.fake.batteries.append(virtual)
        assert (await camper.poll(virtual)).up
        polling = asyncio.create_task(camper.poll(virtual))
        await wait_until(lambda: camper.fake.is_connecting(virtual))
        camper.fake.mute = True

        snapshot = await asyncio.wait_for(polling, 30.0)

        assert not snapshot.up
        camper.fake.mute = False
        await camper.fake.restart()
        assert (await camper.poll(virtual)).up

    @pytest.mark.parametrize("when_s", [0.0, 0.3, 1.2, 1.8, 2.4])
    @pytest.mark.parametrize("outage", list(OUTAGES))
    async def test_outage_of_bluetoothd_or_adapter_during_a_poll_is_overcome(
        self, outage: str, when_s: float, camper: FakeCamper
    ) -> None:
        disappear, come_back = OUTAGES[outage]
        virtual = make_battery(0, gap_s=0.3 / FASTER)
        camper.fake.batteries.append(virtual)
        assert (await camper.poll(virtual)).up
        polling = asyncio.create_task(camper.poll(virtual))
        await asyncio.sleep(when_s / FASTER)
        await disappear(camper.fake)
        first = await asyncio.wait_for(polling, 30.0)
        gone = await camper.poll(virtual)

        assert outcome(first) in (UP, "adapter", "connect", "link_lost", "not_found")
        assert not gone.up
        assert gone.failures[FailureReason.ADAPTER] >= 1
        await come_back(camper.fake)
        await camper.wait_until_read(virtual)
        assert not camper.fake.is_connected(virtual)

    @pytest.mark.parametrize("when_s", [0.0, 0.8, 1.8])
    async def test_restart_of_d_bus_during_a_poll_is_overcome(
        self, when_s: float, camper: FakeCamper
    ) -> None:
        virtual = make_battery(0, gap_s=0.3 / FASTER)
        camper.fake.batteries.append(virtual)
        assert (await camper.poll(virtual)).up
        polling = asyncio.create_task(camper.poll(virtual))
        await asyncio.sleep(when_s / FASTER)
        camper.bus.stop()
        await camper.fake.stop()
        first = await asyncio.wait_for(polling, 30.0)
        gone = await camper.poll(virtual)

        assert outcome(first) in (UP, "adapter", "connect", "link_lost", "not_found")
        assert gone.failures[FailureReason.ADAPTER] >= 1
        assert "no D-Bus" in (gone.last_error or "")
        camper.bus.start()
        await camper.fake.start()
        await camper.wait_until_read(virtual)

    async def test_connection_left_by_a_killed_process_is_dropped(self, camper: FakeCamper) -> None:
        virtual = make_battery(0)
        camper.fake.batteries.append(virtual)
        camper.fake.hold(virtual)

        snapshot = await camper.poll(virtual)

        assert snapshot.up, snapshot.last_error

    async def test_battery_that_another_program_connects_again_is_left_to_it(
        self, camper: FakeCamper
    ) -> None:
        virtual = make_battery(0)
        camper.fake.batteries.append(virtual)
        camper.fake.hold(virtual)
        assert (await camper.poll(virtual)).up  # taken once
        camper.fake.hold(virtual)
        ended = virtual.disconnects

        snapshot = await camper.poll(virtual)

        assert snapshot.failures == {FailureReason.CONNECT: 1}
        assert "another program on this machine keeps" in (snapshot.last_error or "")
        assert snapshot.link.connection_attempts == 1
        assert virtual.disconnects == ended
        camper.fake.drop(virtual)
        async with asyncio.timeout(10.0):
            while await bluez.is_connected(virtual.address):  # noqa: ASYNC110 - bleak sets no event
                await asyncio.sleep(0.001)
        assert (await camper.poll(virtual)).up

    async def test_connection_of_another_program_is_never_shared(self, camper: FakeCamper) -> None:
        virtual = make_battery(0)
        camper.fake.batteries.append(virtual)
        camper.fake.hold(virtual)
        assert (await camper.poll(virtual)).up
        virtual.faults = Faults(held=True)  # it does not advertise
        polling = asyncio.create_task(camper.poll(virtual))
        await wait_until(lambda: any(camper.fake._scanning.values()))

        camper.fake.hold(virtual)

        assert (await polling).failures == {FailureReason.CONNECT: 1}
        assert camper.fake.is_connected(virtual)
        assert virtual.requests.count(0x03) == 1

    @pytest.mark.parametrize("fault", ["disconnect fails", "disconnect hangs"])
    async def test_connection_that_we_could_not_end_is_not_another_programs(
        self, fault: str, camper: FakeCamper
    ) -> None:
        virtual = make_battery(0)
        camper.fake.batteries.append(virtual)
        for _ in range(3):
            polling = asyncio.create_task(camper.poll(virtual))
            await wait_until(lambda: camper.fake.is_connecting(virtual))
            camper.fake.daemon_faults[virtual.address] = DAEMON_FAULTS[fault][0]
            snapshot = await polling
            assert snapshot.up, snapshot.last_error
            assert camper.fake.is_connected(virtual)
            camper.fake.daemon_faults[virtual.address] = DaemonFaults()

    async def test_connection_made_after_the_process_died_is_dropped(
        self, camper: FakeCamper
    ) -> None:
        # bluetoothd completes a Connect although its client has ended.
        virtual = make_battery(0)
        camper.fake.batteries.append(virtual)
        path = camper.fake._path("hci0", virtual)
        camper.fake._add(path, camper.fake._device("hci0", virtual))
        virtual.faults = Faults(held=True)
        polling = asyncio.create_task(camper.poll(virtual))
        await asyncio.sleep(1.5 / FASTER)
        camper.fake._begin(path, virtual)
        virtual.faults = Faults(**QUICK)  # type: ignore[arg-type]

        snapshot = await polling

        assert snapshot.up, snapshot.last_error


class TestFallback:
    """One battery over both transports: bluetoothd is fake, and the kernel's ATT channel too."""

    async def test_battery_is_read_over_the_transport_whose_gatt_works(
        self, camper: FakeCamper, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("exporter.ble.bleak.ATTEMPT_S", 1.0)
        monkeypatch.setattr("exporter.ble.direct.transport.FIND_S", 2.0)
        virtual = make_battery(0)
        camper.fake.batteries.append(virtual)
        air = Air({virtual.address: virtual})
        direct = DirectTransport(kernel=air.make_kernel())
        routes = Routes(
            bluez=lambda _: BleakTransport(adapter="hci0"), direct=lambda _: direct, adapters=list
        )
        target = Target(address=virtual.address, stats=LinkStats())
        routes.track(target)

        async def connect(times: int) -> list[str]:
            """Connect and subscribe so often; return the transports over which that worked."""
            used = []
            for _ in range(times):
                deadline_s = asyncio.get_running_loop().time() + 30.0
                with suppress(LinkError):
                    async with routes.connect(target, deadline_s=deadline_s) as connection:
                        await connection.open("nus", b"")
                        assert target.stats.route is not None
                        used.append(target.stats.route.transport)
            return used

        air.options = {"refuse": {0x10: 0x0E}}
        assert await connect(4) == ["bluez"] * 2  # after both styles of the direct link
        air.options = {}
        camper.fake.daemon_faults[virtual.address] = DaemonFaults(
            never_resolved=True, forgets_table=True
        )

        assert await connect(5) == ["direct"] * 2
        assert virtual.connects == virtual.disconnects


class TestTable:
    async def test_table_that_was_incomplete_is_read_again(self, camper: FakeCamper) -> None:
        virtual = make_battery(0)
        complete, virtual.gatt = virtual.gatt, (profiles.PROFILES["fff0"],)
        camper.fake.batteries.append(virtual)
        transport = BleakTransport(adapter="hci0")
        target = Target(address=virtual.address, stats=LinkStats(), profile="nus")

        async def connect() -> list[str]:
            deadline_s = asyncio.get_running_loop().time() + 30.0
            async with transport.connect(target, deadline_s=deadline_s) as connection:
                return list(connection.profiles)

        with pytest.raises(ProfileError):
            await connect()
        virtual.gatt = (*virtual.gatt, *complete)

        assert "nus" in await connect()

    async def test_battery_that_bluetoothd_forgets_between_polls_is_found_again(
        self, camper: FakeCamper
    ) -> None:
        virtual = make_battery(0)
        camper.fake.batteries.append(virtual)
        for _ in range(2):
            assert (await camper.poll(virtual, "hci0")).up
            camper.fake._forget(camper.fake._path("hci0", virtual))

    async def test_pairing_by_hand_is_noticed(self, camper: FakeCamper) -> None:
        virtual = make_battery(0)
        camper.fake.batteries.append(virtual)
        assert (await camper.poll(virtual, "hci0")).up
        assert not await bluez.is_paired(virtual.address)

        camper.fake._change(camper.fake._path("hci0", virtual), DEVICE, Paired=True)

        async with asyncio.timeout(10.0):
            while not await bluez.is_paired(virtual.address):  # noqa: ASYNC110 - bleak sets no event
                await asyncio.sleep(0.001)


class TestScanOfAnotherProgram:
    async def test_battery_that_its_next_scan_reports_is_read(self, camper: FakeCamper) -> None:
        virtual = make_battery(0)
        camper.fake.batteries.append(virtual)
        target = Target(address=virtual.address, stats=LinkStats())
        camper.fake.scan("hci0", ago_s=4.0 / FASTER)
        deadline_s = asyncio.get_running_loop().time() + 30.0

        async with BleakTransport(adapter="hci0").connect(target, deadline_s=deadline_s):
            assert camper.fake.is_connected(virtual)

        assert target.stats.connection_attempts == 1

    async def test_message_about_a_missing_battery_names_it(self, camper: FakeCamper) -> None:
        virtual = make_battery(0, gone=True)
        camper.fake.batteries.append(virtual)
        camper.fake.scan("hci0")

        snapshot = await camper.poll(virtual, "hci0")

        assert snapshot.failures == {FailureReason.NOT_FOUND: 1}
        assert "Another program scans on hci0" in (snapshot.last_error or "")

    async def test_own_scans_are_not_taken_for_one(self, camper: FakeCamper) -> None:
        missing, well = make_battery(0, gone=True), make_battery(1)
        camper.fake.batteries.extend([missing, well])
        searching = asyncio.create_task(camper.poll(missing, "hci0"))
        await wait_until(lambda: any(camper.fake._scanning.values()))

        assert (await camper.poll(well, "hci0")).up

        assert "Another program" not in ((await searching).last_error or "")


class StuckMachine:
    """The kernel and the management socket of a machine whose hci0 may be stuck."""

    def __init__(self, camper: FakeCamper, *, may_restart: bool = True) -> None:
        self.now_s = 0.0
        self.counters = [(0, 0)]  # commands and events, at each look
        self.connections: list[tuple[str, int]] = []
        self.settings = Setting.LOW_ENERGY
        self._fake = camper.fake
        self.healths = AdapterHealths(lambda: self.now_s)
        kernel = Kernel(
            adapters=self._adapters,
            connections=lambda _: self.connections,
            connected_on=lambda _: None,
            connected_devices=lambda _: [],
        )
        management = Management(power=may_restart, command=self._command, kernel=kernel)
        camper.options = {"management": management, "healths": self.healths}

    def _adapters(self) -> list[Adapter]:
        sent, received = self.counters.pop(0) if len(self.counters) > 1 else self.counters[0]
        is_on = self._fake._adapters["hci0"]
        return [Adapter(0, "00:1B:DC:0F:AA:01", is_on, sent, received)]

    async def _command(self, opcode: int, adapter: int, payload: bytes) -> tuple[int, bytes]:
        if opcode == READ_CONTROLLER_INFORMATION:
            return 0, bytes(13) + self.settings.to_bytes(4, "little")
        assert (opcode, adapter) == (SET_POWERED, 0)
        self._fake.power("hci0", on=payload == b"\x01")
        return 0, b""

    @property
    def restarts(self) -> int:
        return sum(self.healths.restarts().values())


class TestStuckAdapter:
    async def test_refused_scans_restart_the_adapter_once_they_are_certain(
        self, camper: FakeCamper
    ) -> None:
        machine = StuckMachine(camper)
        virtual = make_battery(0)
        camper.fake.batteries.append(virtual)
        camper.fake.stuck.add("hci0")

        first = await camper.poll(virtual, "hci0")

        assert first.failures == {FailureReason.ADAPTER: 1}
        assert "hci0 starts no scan" in (first.last_error or "")
        assert machine.restarts == 0
        machine.now_s = CERTAIN_S
        assert "it was restarted" in ((await camper.poll(virtual)).last_error or "")
        assert machine.healths.restarts()["hci0", "discovery"] == 1
        assert (await camper.poll(virtual)).up

    @pytest.mark.parametrize(
        ("setting", "cure"),
        [
            (Setting(1), "btmgmt --index hci0 le on"),
            (Setting.LOW_ENERGY | Setting.ADVERTISING, "btmgmt --index hci0 advertising off"),
        ],
    )
    async def test_setting_that_prevents_scans_is_named_instead(
        self, setting: Setting, cure: str, camper: FakeCamper
    ) -> None:
        machine = StuckMachine(camper)
        machine.settings = setting
        virtual = make_battery(0)
        camper.fake.batteries.append(virtual)
        camper.fake.stuck.add("hci0")
        for now_s in (0.0, CERTAIN_S):
            machine.now_s = now_s
            assert cure in ((await camper.poll(virtual, "hci0")).last_error or "")

        assert machine.restarts == 0

    async def test_scan_that_starts_refutes_the_refused_ones_before(
        self, camper: FakeCamper
    ) -> None:
        machine = StuckMachine(camper)
        transport = BleakTransport(adapter="hci0", **camper.options)
        virtual = make_battery(0, gone=True)
        camper.fake.batteries.append(virtual)
        target = Target(address=virtual.address, stats=LinkStats())
        for now_s, refusals in ((0.0, 3), (CERTAIN_S, 0), (2 * CERTAIN_S, 3)):
            machine.now_s = now_s
            camper.fake.scan_errors = [IN_PROGRESS] * refusals
            deadline_s = asyncio.get_running_loop().time() + 2.0
            with pytest.raises(AdapterError if refusals else NotFoundError):
                async with transport.connect(target, deadline_s=deadline_s):
                    pass

        assert machine.restarts == 0

    async def test_without_permission_the_message_gives_the_command(
        self, camper: FakeCamper
    ) -> None:
        StuckMachine(camper, may_restart=False)
        virtual = make_battery(0)
        camper.fake.batteries.append(virtual)
        camper.fake.stuck.add("hci0")

        snapshot = await camper.poll(virtual, "hci0")

        assert "run bluetoothctl power off" in (snapshot.last_error or "")

    async def test_refused_scan_during_one_of_bluetoothd_is_no_stuck_adapter(
        self, camper: FakeCamper
    ) -> None:
        machine = StuckMachine(camper)
        virtual = make_battery(0)
        camper.fake.batteries.append(virtual)
        camper.fake.scan("hci0")
        for now_s in (0.0, CERTAIN_S):
            machine.now_s = now_s
            camper.fake.scan_errors = [IN_PROGRESS] * 3
            snapshot = await camper.poll(virtual, "hci0")
            assert "Operation already in progress" in (snapshot.last_error or "")
        assert machine.restarts == 0

    @pytest.mark.parametrize(
        ("counters", "connections", "words"),
        [
            ([(1, 1), (5, 1)], [], "does not answer any more"),
            (
                [(1, 1), (5, 9)],
                [("A4:C1:38:00:00:77", CONNECTING)],
                "although no program waits for it",
            ),
        ],
    )
    async def test_search_that_finds_nothing_recognises_a_stuck_adapter(
        self,
        counters: list[tuple[int, int]],
        connections: list[tuple[str, int]],
        words: str,
        camper: FakeCamper,
    ) -> None:
        machine = StuckMachine(camper, may_restart=False)
        machine.connections = connections
        virtual = make_battery(0, gone=True)
        camper.fake.batteries.append(virtual)
        messages = []
        for now_s in (0.0, CERTAIN_S):
            machine.now_s = now_s
            machine.counters = list(counters)
            messages.append((await camper.poll(virtual, "hci0")).last_error or "")

        assert words in messages[-1]

    async def test_missing_battery_is_not_found_if_the_adapter_works(
        self, camper: FakeCamper
    ) -> None:
        machine = StuckMachine(camper)
        machine.counters = [(1, 1), (5, 9)]
        virtual = make_battery(0, gone=True)
        camper.fake.batteries.append(virtual)

        assert (await camper.poll(virtual, "hci0")).failures == {FailureReason.NOT_FOUND: 1}


async def test_battery_forgotten_by_bluetoothd_is_a_link_error(camper: FakeCamper) -> None:
    virtual = make_battery(0)
    camper.fake.batteries.append(virtual)
    assert (await camper.poll(virtual)).up
    path = "/org/bluez/hci0/dev_A4_C1_38_00_00_99"
    forgotten = BLEDevice("A4:C1:38:00:00:99", None, {"path": path})

    async with AsyncExitStack() as stack:
        with pytest.raises(LinkError, match="connect to A4:C1:38:00:00:99"):
            await bluez.follow(forgotten, lambda _connected: None, stack)


async def test_scan_of_any_program_is_seen(camper: FakeCamper) -> None:
    assert not await bluez.is_discovering("hci0")

    camper.fake.change_adapter("hci0", Discovering=True)

    async with asyncio.timeout(5.0):
        while not await bluez.is_discovering("hci0"):  # noqa: ASYNC110 - bleak tells nobody
            await asyncio.sleep(0.01)
    assert not await bluez.is_discovering("hci7")  # not there


class TestAdapters:
    async def test_unplugged_adapter_fails_only_its_own_batteries(self, camper: FakeCamper) -> None:
        first, second = make_battery(0), make_battery(1)
        camper.fake.batteries += [first, second]
        camper.adapters = ["hci0", "hci1"]
        assert (await camper.poll(first, "hci0")).up
        assert (await camper.poll(second, "hci1")).up
        camper.fake.unplug("hci1")

        snapshots = await asyncio.gather(camper.poll(first), camper.poll(second))

        assert snapshots[0].up
        assert snapshots[1].failures == {FailureReason.ADAPTER: 1}
        camper.fake.plug("hci1")
        assert (await camper.poll(second)).up

    async def test_battery_without_configured_adapter_uses_any(self, camper: FakeCamper) -> None:
        virtual = make_battery(0)
        camper.fake.batteries.append(virtual)
        camper.adapters = ["hci0", "hci1"]

        assert (await camper.poll(virtual)).up


class TestCandidates:
    async def test_candidate_is_proved_through_bluetoothd(self, camper: FakeCamper) -> None:
        virtual = make_battery(0)
        camper.fake.batteries.append(virtual)

        found = await read_candidate(
            make_advertisement("camper", virtual.address), CONFIG, camper.routes, None
        )

        assert found.answer is not None, found.failure
        assert set(virtual.requests) == {0x03}
        assert not camper.fake.is_connected(virtual)

    async def test_candidate_of_another_program_is_left_to_it(self, camper: FakeCamper) -> None:
        virtual = make_battery(0)
        camper.fake.batteries.append(virtual)
        camper.fake.hold(virtual)

        found = await read_candidate(
            make_advertisement("camper", virtual.address), CONFIG, camper.routes, None
        )

        assert found.what == "connected to another program"
        assert camper.fake.is_connected(virtual)
        assert virtual.requests == []


def test_number_of_file_descriptors_is_bounded_after_all_faults() -> None:
    assert len(os.listdir("/proc/self/fd")) < 60  # noqa: PTH208
