"""Batteries are read through an ESPHome proxy, over the real library and a fake ESP32."""

import asyncio
import sys
from typing import Any

import pytest

from exporter.ble import adapter_choice
from exporter.ble.proxies import Proxies
from exporter.config.schema import Host, ProxyConfig, ProxyName
from exporter.demo.battery import Faults
from exporter.errors import ConfigError
from exporter.link_stats import Route
from tests.support.fake_proxy import number, running_proxy
from tests.support.proxied import KEY, Proxied, proxied, routes_of
from tests.support.virtual import ADDRESS, battery
from tests.support.waiting import wait_until

pytestmark = pytest.mark.looptime(False)  # noqa: FBT003 - sockets live in real time

SLOW = Faults(reply_s=0.5)
ADDRESSES = [f"A4:C1:38:00:00:{index:02X}" for index in range(1, 6)]


@pytest.mark.parametrize("key", [None, KEY], ids=["plaintext", "encrypted"])
@pytest.mark.parametrize("halves", [False, True], ids=["whole frames", "half frames"])
async def test_battery_is_read_through_a_proxy(
    key: str | None, halves: bool, tasks: asyncio.TaskGroup
) -> None:
    async with proxied(tasks, battery(), key=key, halves=halves) as (proxy, reading):
        first, second = await reading.poll(), await reading.poll()

        assert first.up, first.last_error
        assert second.up, second.last_error
        assert second.reading is not None
        assert second.reading.cell_voltages_v is not None
        assert second.link.route == Route("proxy", "garage", "fast")
        assert second.rssi_dbm == -67
        assert proxy.received.count("HelloRequest") == 1  # both polls use one API connection
        assert proxy.peers == {}
        assert "BluetoothGATTNotifyRequest" in proxy.received


async def test_five_batteries_share_three_connections(tasks: asyncio.TaskGroup) -> None:
    batteries = [battery(address) for address in ADDRESSES]
    async with proxied(tasks, *batteries) as (proxy, reading):
        snapshots = await asyncio.gather(*(reading.poll(one) for one in ADDRESSES))

        assert [one.failure for one in snapshots] == [None] * 5
        assert proxy.most_peers == 3
        assert reading.proxies.states()["garage"].limit == 3


async def test_gentle_battery_gets_no_early_request(tasks: asyncio.TaskGroup) -> None:
    async with proxied(tasks, battery()) as (proxy, reading):
        snapshot = await reading.poll(gentle=True)

        assert snapshot.link.route == Route("proxy", "garage", "gentle")
        first_write = proxy.received.index("BluetoothGATTWriteRequest")
        assert first_write > proxy.received.index("BluetoothGATTWriteDescriptorRequest")


async def test_battery_that_takes_only_writes_with_response_is_read(
    tasks: asyncio.TaskGroup,
) -> None:
    one = battery(write_properties=("write",), takes_response=True)
    async with proxied(tasks, one) as (_, reading):
        assert (await reading.poll()).up
        assert set(one.writes) == {True}


async def test_battery_that_loses_its_link_is_read_by_the_next_poll(
    tasks: asyncio.TaskGroup,
) -> None:
    one = battery(faults=Faults(cut=True))
    async with proxied(tasks, one) as (_, reading):
        reason, _ = await reading.fail()
        one.faults = Faults()

        assert reason == "link_lost"
        assert (await reading.poll()).up


async def test_api_connection_ends_when_nothing_has_polled_for_a_while(
    tasks: asyncio.TaskGroup,
) -> None:
    async with proxied(tasks, battery()) as (proxy, reading):
        for api in reading.proxies._apis.values():
            api._idle_s = 0.1  # instead of minutes
        assert (await reading.poll()).up

        await wait_until(lambda: not proxy.clients)

        assert proxy.received[-1] == "DisconnectRequest"
        assert reading.proxies.states()["garage"].up
        assert (await reading.poll()).up


async def test_cancelled_poll_leaves_no_connection(tasks: asyncio.TaskGroup) -> None:
    one = battery(faults=Faults(silent=True))
    async with proxied(tasks, one) as (proxy, reading):
        polling = asyncio.create_task(reading.poll())
        await wait_until(lambda: bool(proxy.peers))

        await reading._pollers[ADDRESS].close()
        polling.cancel()

        await wait_until(lambda: not proxy.peers)


class TestRoutes:
    @pytest.fixture(autouse=True)
    def short_comparison(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(adapter_choice, "COMPARE_S", 0.5)

    async def test_battery_in_range_of_two_proxies_is_read_by_the_better_one(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        async with (
            running_proxy(battery(rssi_dbm=-85)) as far,
            running_proxy(battery(rssi_dbm=-50)) as near,
        ):
            reading = Proxied(
                tasks, far.config(name=ProxyName("far")), near.config(name=ProxyName("near"))
            )

            snapshot = await reading.poll()

            assert snapshot.link.route == Route("proxy", "near", "fast")
            reading.proxies.close()

    async def test_other_proxy_is_used_when_the_better_one_is_gone(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        async with running_proxy(battery(rssi_dbm=-85)) as far:
            async with running_proxy(battery(rssi_dbm=-50)) as near:
                reading = Proxied(
                    tasks, far.config(name=ProxyName("far")), near.config(name=ProxyName("near"))
                )
                assert (await reading.poll()).link.route == Route("proxy", "near", "fast")
            reason, message = await reading.fail()

            snapshot = await reading.poll()

            assert (reason, "near" in message) == ("adapter", True)
            assert snapshot.link.route == Route("proxy", "far", "fast")
            reading.proxies.close()

    async def test_battery_linked_to_a_proxy_uses_no_other_one(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        async with (
            running_proxy(battery(rssi_dbm=-85)) as far,
            running_proxy(battery(rssi_dbm=-50)) as near,
        ):
            reading = Proxied(
                tasks, far.config(name=ProxyName("far")), near.config(name=ProxyName("near"))
            )

            snapshot = await reading.poll(link=ProxyName("far"))

            assert snapshot.link.route == Route("proxy", "far", "fast")
            assert near.received == []
            reading.proxies.close()

    async def test_signal_strength_is_that_at_the_proxy_which_reads_the_battery(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        other = "A4:C1:38:00:00:09"
        async with (
            running_proxy(battery(rssi_dbm=-85), battery(other)) as far,
            running_proxy(battery(rssi_dbm=-50)) as near,
        ):
            reading = Proxied(
                tasks, far.config(name=ProxyName("far")), near.config(name=ProxyName("near"))
            )
            assert (await reading.poll(link=ProxyName("near"))).rssi_dbm == -50

            assert (await reading.poll(other, link=ProxyName("far"))).up

            assert reading._pollers[ADDRESS].peek(60.0).rssi_dbm == -50
            reading.proxies.close()


class TestReload:
    async def test_unchanged_proxy_keeps_its_connection_and_a_removed_one_loses_it(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        async with proxied(tasks, battery()) as (proxy, reading):
            assert (await reading.poll()).up

            reading.proxies.make_transports([proxy.config()])
            kept = [*proxy.clients]
            reading.proxies.make_transports([])

            assert len(kept) == 1
            await wait_until(lambda: not proxy.clients)
            assert reading.proxies.states() == {}

    async def test_proxy_with_a_new_name_is_not_taken_from_a_poll_that_uses_it(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        async with proxied(tasks, battery(faults=SLOW), battery(ADDRESSES[1])) as (proxy, reading):
            polling = asyncio.create_task(reading.poll())
            await wait_until(lambda: "BluetoothGATTWriteRequest" in proxy.received)
            new = ProxyName("barn")
            for name in (ProxyName("shed"), new):  # two reloads during one poll
                transports = reading.proxies.make_transports([proxy.config(name=name)])
            other = Proxied(tasks)
            other.routes = routes_of(transports)

            assert (await other.poll(ADDRESSES[1], link=new)).up

            assert (await polling).up
            assert proxy.received.count("HelloRequest") == 2

    def test_missing_library_is_an_error_that_says_how_to_install_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "aioesphomeapi", None)
        config = ProxyConfig(name=ProxyName("garage"), host=Host("192.168.1.40"))

        with pytest.raises(ConfigError, match="make install EXTRAS=esphome"):
            Proxies().make_transports([config])


async def test_scan_hears_every_device() -> None:
    heard: dict[str, Any] = {}
    async with running_proxy(*(battery(one) for one in ADDRESSES)) as proxy:
        own = Proxies()
        (transport,) = own.make_transports([proxy.config()]).values()

        async with transport.advertisements(lambda one: heard.update({one.address: one})) as renew:
            await wait_until(lambda: len(heard) == 5)
            await renew()

        assert heard[ADDRESS].name == "JBD-SP04S034"
        assert number(ADDRESS) in proxy.batteries
        own.close()
