"""A look through a proxy that reports each device once per scan, as one over bluetoothd does."""

import asyncio
from types import SimpleNamespace

import pytest

from exporter.ble.proxy import transport
from exporter.ble.proxy.reports import MAX_DEVICES, REPEATED_S, Reports
from exporter.demo.battery import Faults
from tests.support.proxied import proxied
from tests.support.virtual import ADDRESS, battery

OTHER = "A4:C1:38:00:00:09"


async def test_device_that_is_reported_later_in_the_look_again_is_a_repetition() -> None:
    reports = Reports()
    reports.add(ADDRESS, None)
    await asyncio.sleep(REPEATED_S / 2)
    reports.add(ADDRESS, None)  # its scan response
    await asyncio.sleep(REPEATED_S)
    reports.add(OTHER, None)
    assert not reports.are_repeated

    reports.add(ADDRESS, None)

    assert reports.are_repeated


async def test_devices_without_end_do_not_fill_the_memory() -> None:
    reports = Reports()

    for device in range(MAX_DEVICES + 1):
        reports.add(str(device), None)
    await asyncio.sleep(REPEATED_S)
    reports.add(str(MAX_DEVICES), None)
    assert not reports.are_repeated
    reports.add("0", None)

    assert reports.are_repeated


@pytest.fixture
def short_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten a look to a moment, which a look for two scans exceeds by far."""
    monkeypatch.setattr(transport, "limit_look", lambda _missed, _full_s: 0.1)
    monkeypatch.setattr(transport, "FIND_S", 60.0)


@pytest.mark.looptime(False)  # noqa: FBT003 - sockets live in real time
@pytest.mark.usefixtures("short_look")
async def test_battery_that_the_next_scan_reports_is_read(tasks: asyncio.TaskGroup) -> None:
    late = battery(faults=Faults(gone=True))
    async with proxied(tasks, late) as (_, reading):

        def come() -> None:
            late.faults = Faults()

        asyncio.get_running_loop().call_later(0.5, come)

        snapshot = await reading.poll()

        assert snapshot.up, snapshot.last_error


@pytest.mark.looptime(False)  # noqa: FBT003 - sockets live in real time
@pytest.mark.usefixtures("short_look")
async def test_look_through_a_proxy_that_repeats_its_reports_is_not_extended(
    tasks: asyncio.TaskGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    repeated = SimpleNamespace(add=lambda *_: None, are_repeated=True)
    monkeypatch.setattr(transport, "Reports", lambda: repeated)
    async with proxied(tasks, battery(faults=Faults(gone=True))) as (_, reading):
        reason, message = await reading.fail()

    assert reason == "not_found"
    assert "not seen in 0 s" in message
