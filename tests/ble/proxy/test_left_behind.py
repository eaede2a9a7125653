"""What a lost answer or a failed request leaves behind is found, and ended."""

import asyncio
import gc
from typing import Any

import pytest

from exporter.ble.proxy import peripheral, transport
from exporter.ble.proxy.session import Session
from exporter.demo.battery import Faults
from tests.support.fake_proxy import FakeProxy, number, pb
from tests.support.proxied import Proxied, proxied
from tests.support.virtual import ADDRESS, battery
from tests.support.waiting import wait_until

pytestmark = pytest.mark.looptime(False)  # noqa: FBT003 - sockets live in real time


def open_session(reading: Proxied) -> Session:
    (api,) = reading.proxies._apis.values()
    assert api._session is not None
    return api._session


def count_callbacks(session: Session) -> int:
    """Return how many callbacks the library keeps."""
    handlers = session.client._get_connection()._message_handlers
    return len(session.client._notify_callbacks) + sum(map(len, handlers.values()))


async def cancel_poll(proxy: FakeProxy, reading: Proxied) -> None:
    """Cancel a poll that waits for the confirmation of its subscription."""
    subscriptions = proxy.received.count("BluetoothGATTWriteDescriptorRequest")
    polling = asyncio.create_task(reading.poll())
    await wait_until(
        lambda: proxy.received.count("BluetoothGATTWriteDescriptorRequest") > subscriptions
    )
    await reading._pollers[ADDRESS].close()
    polling.cancel()


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


async def test_link_of_a_successful_poll_is_not_kept_until_the_next(
    tasks: asyncio.TaskGroup,
) -> None:
    async with proxied(tasks, battery()) as (_, reading):
        assert (await reading.poll()).up
        session = open_session(reading)

        gc.collect()

        kept = [one for one in gc.get_objects() if isinstance(one, peripheral.Peripheral)]
        assert [one for one in kept if one.session is session] == []


class TestCallbacks:
    @pytest.mark.parametrize("request_name", ["notify", "cccd"])
    async def test_refused_subscription_leaves_no_callback(
        self, request_name: str, tasks: asyncio.TaskGroup
    ) -> None:
        async with proxied(tasks, battery(), timeout_s=2.0) as (proxy, reading):
            assert (await reading.poll()).up
            session = open_session(reading)
            before = count_callbacks(session)

            proxy.gatt_codes = {request_name: 3}
            assert (await reading.fail())[0] == "link_lost"

            await wait_until(lambda: count_callbacks(session) == before)

    @pytest.mark.parametrize(
        "ignored", ["BluetoothGATTNotifyRequest", "BluetoothGATTWriteDescriptorRequest"]
    )
    async def test_unanswered_subscription_leaves_no_callback(
        self, ignored: str, tasks: asyncio.TaskGroup
    ) -> None:
        async with proxied(tasks, battery()) as (proxy, reading):
            assert (await reading.poll()).up
            session = open_session(reading)
            before = count_callbacks(session)

            proxy.ignores = {ignored}
            await cancel_poll(proxy, reading)

            await wait_until(lambda: count_callbacks(session) == before)

    async def test_subscription_that_is_confirmed_after_the_poll_leaves_no_callback(
        self, monkeypatch: pytest.MonkeyPatch, tasks: asyncio.TaskGroup
    ) -> None:
        monkeypatch.setattr(peripheral, "DISCONNECT_S", 0.1)
        async with proxied(tasks, battery()) as (proxy, reading):
            assert (await reading.poll()).up
            session = open_session(reading)
            before = count_callbacks(session)

            proxy.ignores = {"BluetoothGATTNotifyRequest"}
            proxy.ignored_disconnects = 1
            await cancel_poll(proxy, reading)
            await wait_until(lambda: not session.connected)
            assert count_callbacks(session) > before
            proxy.send(
                pb.BluetoothGATTNotifyResponse(address=number(ADDRESS), handle=notify_handle(proxy))
            )

            await wait_until(lambda: count_callbacks(session) == before)


def notify_handle(proxy: FakeProxy) -> Any:
    (service,) = proxy.table(proxy.batteries[number(ADDRESS)])
    return service.characteristics[0].handle
