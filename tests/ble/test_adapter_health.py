"""A stuck adapter is restarted when the evidence lasts and nothing else uses the adapter."""

import asyncio
import itertools
import logging
from dataclasses import replace

import pytest

from exporter.ble import bluez
from exporter.ble.adapter_health import CERTAIN_S, GAP_S, AdapterHealth, AdapterHealths
from exporter.ble.direct.kernel import Kernel
from exporter.ble.direct.management import Management
from exporter.ble.direct.sockets import CONNECTING, Adapter
from exporter.ble.direct.wedge import LEFT_BEHIND_S, Evidence, WedgeReason
from tests.support.att_server import HCI0
from tests.support.virtual import ADDRESS, now_s

DEAF = Evidence(WedgeReason.NO_EVENTS, "hci0 does not answer any more (4 commands, no event)")
SCANS = Evidence(WedgeReason.DISCOVERY, "the kernel scans with hci0, and nobody has asked for it")
KEYBOARD = "00:1B:DC:0F:00:07"


class Machine:
    """One adapter, and the kernel that switches it."""

    def __init__(self) -> None:
        self.adapters = [HCI0]
        self.devices: list[str] = []
        self.switched: list[bool] = []
        self.refuses_on = False
        self.refuses_all = 0  # with this status
        self.healths = AdapterHealths(now_s)
        self.management = Management(
            power=True,
            command=self._command,
            kernel=Kernel(adapters=lambda: self.adapters, connected_devices=lambda _: self.devices),
        )

    @property
    def health(self) -> AdapterHealth:
        return self.healths["hci0"]

    async def _command(self, opcode: int, adapter: int, payload: bytes) -> tuple[int, bytes]:
        assert (opcode, adapter) == (0x0005, 0)
        on = payload == b"\x01"
        self.switched.append(on)
        if self.refuses_all:
            return self.refuses_all, b""
        if on and self.refuses_on:
            return 0x12, b""
        self.adapters = [replace(HCI0, up=on)]
        return 0, b""

    async def handle(self, evidence: Evidence = DEAF) -> str:
        return await self.health.handle(evidence, self.management, now_s() + 60.0)

    async def be_certain(self, evidence: Evidence = DEAF) -> str:
        await self.handle(evidence)
        await asyncio.sleep(CERTAIN_S)
        return await self.handle(evidence)

    @property
    def restarts(self) -> int:
        return self.health.restarts.total()


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture(autouse=True)
def scanning(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Return the adapters with which bluetoothd scans."""
    adapters: set[str] = set()

    async def is_discovering(adapter: str) -> bool:
        return adapter in adapters

    monkeypatch.setattr(bluez, "is_discovering", is_discovering)
    return adapters


class TestRestart:
    async def test_first_evidence_restarts_nothing(self, machine: Machine) -> None:
        message = await machine.handle()

        assert machine.switched == []
        assert "it is restarted if this lasts for 30 s" in message

    async def test_evidence_that_stays_restarts_the_adapter_once(
        self, machine: Machine, caplog: pytest.LogCaptureFixture
    ) -> None:
        message = await machine.be_certain()

        assert machine.switched == [False, True]
        assert message == f"{DEAF.why}: it was restarted, and the next poll tries again"
        assert [
            (record.levelno, record.message, vars(record)["adapter"], vars(record)["why"])
            for record in caplog.records
        ] == [(logging.WARNING, "adapter restarted", "hci0", DEAF.why)]
        assert machine.healths.restarts() == {
            ("hci0", "no_events"): 1,
            ("hci0", "left_connection"): 0,
            ("hci0", "discovery"): 0,
            ("hci0", "no_scan"): 0,
        }

    async def test_without_permission_the_message_gives_the_command(self, machine: Machine) -> None:
        machine.management = replace(machine.management, power=False)

        message = await machine.be_certain()

        assert machine.switched == []
        assert message.startswith(f"{DEAF.why}: run bluetoothctl power off, then bluetoothctl")

    async def test_concurrent_polls_restart_the_adapter_once(self, machine: Machine) -> None:
        await machine.handle()
        await asyncio.sleep(CERTAIN_S)

        messages = await asyncio.gather(*(machine.handle() for _ in range(3)))

        assert machine.switched == [False, True]
        assert {message.rpartition(": ")[2] for message in messages} == {
            "it was restarted, and the next poll tries again"
        }

    async def test_cancelled_poll_does_not_leave_the_adapter_off(self, machine: Machine) -> None:
        await machine.handle()
        await asyncio.sleep(CERTAIN_S)
        polling = asyncio.create_task(machine.handle())
        await asyncio.sleep(0.5)
        assert machine.switched == [False]

        polling.cancel()
        await asyncio.wait([polling])

        assert polling.cancelled()
        assert machine.switched == [False, True]

    async def test_end_of_the_process_does_not_leave_the_adapter_off(
        self, machine: Machine
    ) -> None:
        await machine.handle()
        await asyncio.sleep(CERTAIN_S)
        before = asyncio.all_tasks()
        polling = asyncio.create_task(machine.handle())
        await asyncio.sleep(0.5)
        assert machine.switched == [False]

        polling.cancel()
        await asyncio.sleep(0)
        left = asyncio.all_tasks() - before
        for task in left:  # as asyncio.run does
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

        assert machine.switched[-1] is True

    async def test_refused_restart_is_none(self, machine: Machine) -> None:
        machine.refuses_all = 0x14

        message = await machine.be_certain()

        assert "It cannot be restarted (command 0x0005 refused: status 0x14): run" in message
        assert machine.restarts == 0
        assert machine.adapters == [HCI0]

    async def test_polls_wait_for_the_end_of_a_restart(self, machine: Machine) -> None:
        await machine.handle()
        await asyncio.sleep(CERTAIN_S)
        restarting = asyncio.create_task(machine.handle())
        await asyncio.sleep(0.5)

        await machine.healths.settle(None, machine.management)
        assert machine.adapters == [HCI0]
        async with machine.health.use(ADDRESS):
            assert machine.adapters == [HCI0]
        await restarting

    async def test_other_adapter_is_not_waited_for(self, machine: Machine) -> None:
        async with machine.health.restarting:
            async with asyncio.timeout(0.1):
                await machine.healths.settle("hci1", machine.management)

    async def test_adapter_that_hangs_does_not_delay_the_one_that_is_on(
        self, machine: Machine
    ) -> None:
        machine.adapters = [replace(HCI0, up=False), replace(HCI0, index=1)]
        async with machine.health.restarting, asyncio.timeout(0.1):
            await machine.healths.settle(None, machine.management)

    async def test_adapter_that_does_not_switch_on_again_is_switched_on_by_a_later_poll(
        self, machine: Machine, caplog: pytest.LogCaptureFixture
    ) -> None:
        machine.refuses_on = True
        assert "does not switch on again" in await machine.be_certain()
        assert caplog.records == []
        machine.refuses_on = False

        await machine.healths.settle("hci0", machine.management)
        assert machine.adapters == [HCI0]

        await machine.healths.settle("hci0", machine.management)
        machine.adapters = [replace(HCI0, up=False)]  # by somebody else
        machine.switched.clear()
        await machine.healths.settle("hci0", machine.management)
        assert machine.switched == []

    async def test_adapter_that_somebody_else_switched_on_may_be_switched_off(
        self, machine: Machine
    ) -> None:
        machine.refuses_on = True
        await machine.be_certain()
        machine.adapters = [HCI0]
        await machine.healths.settle("hci0", machine.management)
        machine.adapters = [replace(HCI0, up=False)]
        machine.switched.clear()

        await machine.healths.settle("hci0", machine.management)

        assert machine.switched == []

    async def test_adapter_that_was_left_off_stays_so_without_permission(
        self, machine: Machine
    ) -> None:
        machine.refuses_on = True
        await machine.be_certain()
        machine.switched.clear()

        await machine.healths.settle("hci0", replace(machine.management, power=False))

        assert machine.switched == []


class TestConditions:
    async def test_device_that_another_program_waits_for_is_no_connection_left(
        self, machine: Machine
    ) -> None:
        waited_for = [("A4:C1:38:00:00:77", CONNECTING)]
        scanned = replace(HCI0, commands_sent=4, events_received=4)
        for _ in range(3):
            assert machine.health.find_evidence(HCI0, scanned, waited_for, needs_scan=True) is None
            await asyncio.sleep(LEFT_BEHIND_S)

        evidence = machine.health.find_evidence(HCI0, HCI0, waited_for, needs_scan=True)

        assert evidence is not None
        assert evidence.reason is WedgeReason.LEFT_CONNECTION

    async def test_connected_device_of_any_kind_forbids_a_restart(self, machine: Machine) -> None:
        machine.devices = [KEYBOARD]

        message = await machine.be_certain()

        assert machine.switched == []
        assert f"because {KEYBOARD} would be disconnected: run bluetoothctl power off" in message

    async def test_battery_that_is_being_connected_to_forbids_a_restart(
        self, machine: Machine
    ) -> None:
        async with machine.health.use(ADDRESS):
            message = await machine.be_certain()

        assert f"because {ADDRESS} is being connected to" in message
        assert machine.switched == []
        await machine.handle()  # the last of them
        assert machine.switched == [False, True]

    async def test_scan_of_another_program_forbids_a_restart(
        self, machine: Machine, scanning: set[str]
    ) -> None:
        scanning.add("hci0")

        assert "another program scans with it" in await machine.be_certain()
        assert machine.switched == []

    async def test_stuck_scan_does_not_forbid_a_restart(
        self, machine: Machine, scanning: set[str]
    ) -> None:
        scanning.add("hci0")

        await machine.be_certain(SCANS)

        assert machine.health.restarts == {WedgeReason.DISCOVERY: 1}

    @pytest.mark.parametrize(
        ("adapters", "why"),
        [
            ([replace(HCI0, up=False)], "it is switched off"),
            ([], "it is not there any more"),
        ],
    )
    async def test_adapter_that_is_off_or_gone_is_not_switched(
        self, machine: Machine, adapters: list[Adapter], why: str
    ) -> None:
        machine.adapters = adapters

        assert why in await machine.be_certain()
        assert machine.switched == []

    async def test_connect_over_the_adapter_drops_the_evidence(self, machine: Machine) -> None:
        await machine.handle()
        await asyncio.sleep(CERTAIN_S)
        machine.health.note_success()

        assert "if this lasts" in await machine.handle()
        assert machine.switched == []

    async def test_wait_with_events_drops_the_evidence_that_none_came(
        self, machine: Machine
    ) -> None:
        await machine.handle()
        await machine.handle(SCANS)
        await asyncio.sleep(CERTAIN_S)
        heard = replace(HCI0, commands_sent=4, events_received=9)

        assert machine.health.find_evidence(HCI0, heard, []) is None

        assert "if this lasts" in await machine.handle()
        assert machine.switched == []
        await machine.handle(SCANS)  # of which such a wait says nothing
        assert machine.switched == [False, True]


class TestGaps:
    async def try_for(self, machine: Machine, seconds: float) -> list[float]:
        """Have evidence every minute; return when the adapter was restarted."""
        began_s, moments, before = now_s(), [], machine.restarts
        while now_s() - began_s < seconds:
            await machine.handle()
            if machine.restarts > before:
                moments.append(now_s() - began_s)
                before = machine.restarts
            await asyncio.sleep(60.0)
        return moments

    async def test_gap_doubles_while_no_connect_follows(self, machine: Machine) -> None:
        moments = await self.try_for(machine, 80 * 60.0)

        gaps = [later - earlier for earlier, later in itertools.pairwise(moments)]
        assert len(gaps) == 3
        for gap_s, least_s in zip(gaps, (GAP_S, 2 * GAP_S, 4 * GAP_S), strict=True):
            assert least_s <= gap_s < least_s + 70.0

    async def test_gap_is_short_again_after_a_connect(self, machine: Machine) -> None:
        await self.try_for(machine, 40 * 60.0)
        machine.health.note_success()

        moments = await self.try_for(machine, 15 * 60.0)

        assert moments
        assert moments[0] <= GAP_S

    async def test_message_in_a_gap_says_how_long_it_lasts(self, machine: Machine) -> None:
        await machine.be_certain()
        await asyncio.sleep(100.0)

        message = await machine.be_certain()

        assert "because the last restart was too recent (wait 8 min)" in message

    async def test_adapter_that_never_recovers_is_tried_about_once_a_day_in_the_end(
        self, machine: Machine
    ) -> None:
        first_days = 30 * 24 * 3600.0
        began_s = now_s()
        while now_s() - began_s < first_days:
            await machine.handle()
            await asyncio.sleep(600.0)

        assert 30 <= machine.restarts <= 40
