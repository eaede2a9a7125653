"""The direct link waits longer while another program scans, and for no other reason."""

import asyncio
from dataclasses import replace

import pytest

from exporter.battery.snapshot import Snapshot
from exporter.ble import bluez
from exporter.demo.battery import Faults
from exporter.errors import FailureReason
from tests.support.att_server import HCI0
from tests.support.direct_battery import DirectBattery, quick

pytestmark = pytest.mark.looptime(False)  # noqa: FBT003 - sockets live in real time


@pytest.fixture(autouse=True)
def short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporter.ble.direct.transport.FIND_S", 0.2)


@pytest.fixture
async def direct(tasks: asyncio.TaskGroup) -> DirectBattery:
    return DirectBattery(tasks, quick(faults=Faults(gone=True)))


def answer(
    monkeypatch: pytest.MonkeyPatch, direct: DirectBattery, *, scans: bool, returns: bool = False
) -> list[str]:
    """Let bluetoothd say whether it scans, and the battery return then; return who was asked."""
    asked = []

    async def is_discovering(adapter: str) -> bool:
        asked.append(adapter)
        if returns:
            direct.air.set_faults()
            direct.battery.faults = Faults(reply_s=0.005)
        return scans

    monkeypatch.setattr(bluez, "is_discovering", is_discovering)
    return asked


async def poll(direct: DirectBattery, *, events: int) -> Snapshot:
    """Poll; meanwhile the adapter receives so many events, three of them for its commands."""
    polling = asyncio.create_task(direct.poll())
    while not direct.air.attempts:  # noqa: ASYNC110 - the air has no event for it
        await asyncio.sleep(0)
    direct.air.adapters = [replace(HCI0, commands_sent=3, events_received=events)]
    return await polling


async def test_battery_that_the_next_scan_reports_is_read(
    direct: DirectBattery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.ble.direct.transport.FIND_S", 1.0)  # enough on a busy machine
    answer(monkeypatch, direct, scans=True, returns=True)

    snapshot = await poll(direct, events=100)

    assert snapshot.up, snapshot.last_error


async def test_battery_is_read_after_a_scan_that_ended_during_the_wait(
    direct: DirectBattery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.ble.direct.transport.FIND_S", 1.0)  # enough on a busy machine
    asked = answer(monkeypatch, direct, scans=True, returns=True)
    direct.air.set_faults(stuck=True)  # the kernel begins no scan beside that of another program

    polling = asyncio.create_task(direct.poll())
    while len(direct.air.attempts) < 2:  # noqa: ASYNC110 - the air has no event for it
        await asyncio.sleep(0)
    direct.air.adapters = [replace(HCI0, commands_sent=5, events_received=5)]  # now it begins one
    snapshot = await polling

    assert snapshot.up, snapshot.last_error
    assert asked == ["hci0"]


async def test_message_about_a_missing_battery_names_the_scan(
    direct: DirectBattery, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, direct, scans=True)

    snapshot = await poll(direct, events=100)

    assert snapshot.failures == {FailureReason.NOT_FOUND: 1}
    assert "Another program scans on hci0" in (snapshot.last_error or "")


@pytest.mark.parametrize(("events", "asked"), [(3, []), (100, ["hci0"])])
async def test_battery_that_is_missing_without_a_scan_costs_one_wait(
    events: int, asked: list[str], direct: DirectBattery, monkeypatch: pytest.MonkeyPatch
) -> None:
    was_asked = answer(monkeypatch, direct, scans=False)

    snapshot = await poll(direct, events=events)

    assert snapshot.failures == {FailureReason.NOT_FOUND: 1}
    assert "Another program" not in (snapshot.last_error or "")
    assert len(direct.air.attempts) == 2  # one for each type of address
    assert was_asked == asked


@pytest.mark.parametrize("timeout_s", [1.0, 2.0])
async def test_scan_is_named_in_a_poll_that_is_shorter_than_two_looks(
    timeout_s: float, tasks: asyncio.TaskGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.ble.direct.transport.FIND_S", 10.0)
    direct = DirectBattery(tasks, quick(faults=Faults(gone=True)), timeout_s=timeout_s)
    direct.air.set_faults(stuck=True)  # as beside another program's scan
    answer(monkeypatch, direct, scans=True)

    snapshot = await direct.poll()

    assert "Another program scans on hci0" in (snapshot.last_error or "")
