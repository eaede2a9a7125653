"""What a lost answer or a failed request leaves behind is found, and ended."""

import asyncio

import pytest

from exporter.ble.proxy import peripheral, transport
from exporter.demo.battery import Faults
from tests.support.fake_proxy import number
from tests.support.proxied import proxied
from tests.support.virtual import ADDRESS, battery

pytestmark = pytest.mark.looptime(False)  # noqa: FBT003 - sockets live in real time


class TestKeptConnections:
    @pytest.fixture(autouse=True)
    def short_times(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(peripheral, "DISCONNECT_S", 0.1)
        monkeypatch.setattr(transport, "RECENT_S", 0.0)

    async def test_battery_that_the_proxy_kept_is_disconnected_and_read_by_the_next_poll(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        async with proxied(tasks, battery()) as (proxy, reading):
            proxy.ignored_disconnects = 1
            assert (await reading.poll()).up
            assert [*proxy.peers] == [number(ADDRESS)]

            second = await reading.poll()

            assert second.up, second.last_error
            assert proxy.peers == {}

    async def test_battery_that_the_proxy_goes_on_keeping_is_not_found_for_that_reason(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        async with proxied(tasks, battery(), timeout_s=2.0) as (proxy, reading):
            proxy.ignored_disconnects = 2
            assert (await reading.poll()).up

            reason, message = await reading.fail()

            assert reason == "not_found"
            assert "the proxy garage keeps it connected" in message
            assert proxy.ignored_disconnects == 0

    async def test_battery_that_is_away_is_not_disconnected(self, tasks: asyncio.TaskGroup) -> None:
        gone = battery(faults=Faults(gone=True))
        async with proxied(tasks, gone, timeout_s=0.3) as (proxy, reading):
            await reading.fail()

            assert "BluetoothDeviceRequest" not in proxy.received
