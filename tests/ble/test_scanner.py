"""All listeners of one adapter share one scan, here on a virtual radio."""

import asyncio

import pytest

from exporter.ble.routes import Routes
from exporter.ble.transport import Target
from exporter.demo.radio import make_air
from exporter.link_stats import LinkStats
from exporter.protocol.advertisement import Advertisement
from exporter.protocol.profiles import PROFILES
from tests.support.virtual import ADDRESS, battery, make_poller, make_transport

SECOND = "A4:C1:38:00:00:02"


async def test_scan_passes_every_advertisement_on() -> None:
    advertised: list[Advertisement] = []
    transport = make_transport(make_air([battery(), battery(SECOND)]))

    async with transport.advertisements(advertised.append):
        await asyncio.sleep(1.0)

    assert {advertisement.address for advertisement in advertised} == {ADDRESS, SECOND}
    assert advertised[0].name == "JBD-SP04S034"
    assert advertised[0].rssi_dbm == -67
    assert advertised[0].service_uuids == {PROFILES["ff00"].service}


async def test_command_shares_the_scan_of_a_poll(tasks: asyncio.TaskGroup) -> None:
    air = make_air([battery()])
    transport = make_transport(air)
    routes = Routes(bluez=lambda _: transport, adapters=list)

    async with transport.advertisements(lambda _: None):
        snapshot = await make_poller(routes, tasks).refresh(timeout_s=60.0)

    assert snapshot.up
    assert air.most_scans == 1
    assert air.scans == 0


async def test_scan_records_advertisements_of_tracked_batteries() -> None:
    transport = make_transport(make_air([battery()]))
    target = Target(address=ADDRESS, stats=LinkStats())
    transport.targets = {ADDRESS: target}

    async with transport.advertisements(lambda _: None):
        await asyncio.sleep(1.0)

    assert target.stats.rssi_dbm == -67
    assert target.stats.seen_at_s == pytest.approx(0.5)
