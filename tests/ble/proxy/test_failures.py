"""Each failure of a proxy has its reason, says what to do, and leaves nothing behind."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from exporter.ble.proxy import api, peripheral, session, transport
from exporter.demo.battery import Faults, VirtualBattery
from exporter.link_stats import Route
from exporter.protocol.frame import Command
from exporter.protocol.profiles import PROFILES
from tests.support.fake_proxy import (
    NOT_CONNECTED,
    PASSIVE,
    FakeProxy,
    make_table,
    number,
    pb,
    running_proxy,
)
from tests.support.proxied import KEY, Proxied, proxied
from tests.support.virtual import ADDRESS, battery
from tests.support.waiting import wait_until

pytestmark = pytest.mark.looptime(False)  # noqa: FBT003 - sockets live in real time

OTHER_KEY = KEY[:-2] + "0="


class TestOpening:
    @pytest.mark.parametrize(
        ("options", "config", "message"),
        [
            pytest.param({"key": KEY}, {"key": OTHER_KEY}, "refuses the key", id="wrong key"),
            pytest.param({"key": KEY}, {"key": None}, "wants encryption", id="no key"),
            pytest.param({}, {"key": KEY}, "does not use encryption", id="needless key"),
            pytest.param({"flags": 0}, {}, "is no Bluetooth proxy", id="no proxy"),
            pytest.param({"flags": PASSIVE}, {}, "only forwards advertisements", id="passive"),
        ],
    )
    async def test_proxy_that_cannot_be_used_is_an_adapter_failure_that_says_why(
        self,
        options: dict[str, Any],
        config: dict[str, Any],
        message: str,
        tasks: asyncio.TaskGroup,
    ) -> None:
        async with proxied(tasks, battery(), config=config, **options) as (proxy, reading):
            reason, said = await reading.fail()

            assert reason == "adapter"
            assert said.startswith("proxy garage: ")
            assert message in said
            assert KEY not in said
            assert reading.proxies.states()["garage"].up is False
            await wait_until(lambda: not proxy.clients)

    async def test_proxy_that_is_switched_off_cannot_be_reached(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        async with running_proxy() as proxy:
            config = proxy.config()
        reading = Proxied(tasks, config)

        reason, message = await reading.fail()

        assert reason == "adapter"
        assert f"127.0.0.1 port {config.port} cannot be reached (connection refused)" in message

    async def test_proxy_that_accepts_and_never_answers_ends_the_poll_in_time(
        self, monkeypatch: pytest.MonkeyPatch, tasks: asyncio.TaskGroup
    ) -> None:
        monkeypatch.setattr(session, "OPEN_S", 0.3)
        async with proxied(tasks, battery(), answers_hello=False) as (_, reading):
            reason, message = await reading.fail()

            assert (reason, "does not answer" in message) == ("adapter", True)

    async def test_poll_that_ends_before_the_proxy_answers_is_an_adapter_failure(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        async with proxied(tasks, battery(), answers_hello=False, timeout_s=0.3) as (_, reading):
            reason, message = await reading.fail()

            assert (reason, "does not answer in time" in message) == ("adapter", True)
            assert reading.proxies.states()["garage"].up is False

    async def test_failure_is_repeated_without_an_attempt_for_a_while(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        async with proxied(tasks, battery(), flags=0) as (proxy, reading):
            first = await reading.fail()
            second = await reading.fail()

            assert first == second
            assert proxy.received.count("HelloRequest") == 1

    async def test_proxy_is_used_again_after_its_fault_has_ended(
        self, monkeypatch: pytest.MonkeyPatch, tasks: asyncio.TaskGroup
    ) -> None:
        monkeypatch.setattr(api, "FIRST_PAUSE_S", 0.0)
        async with running_proxy(battery(), flags=0) as proxy:
            reading = Proxied(tasks, proxy.config())
            await reading.fail()
            proxy.flags = FakeProxy(batteries={}).flags

            assert (await reading.poll()).up
            reading.proxies.close()


class TestBatteries:
    async def test_battery_that_does_not_advertise_is_not_found(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        gone = battery(faults=Faults(gone=True))
        async with proxied(tasks, gone, timeout_s=0.5) as (_, reading):
            reason, message = await reading.fail()

            assert (reason, f"{ADDRESS} not seen" in message) == ("not_found", True)

    async def test_battery_waits_for_a_free_connection_until_its_deadline(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        async with proxied(tasks, battery(), limit=0, timeout_s=0.5) as (_, reading):
            reason, message = await reading.fail()

            assert reason == "connect"
            assert "all 0 connections of the proxy garage are in use" in message

    @pytest.mark.parametrize(
        ("code", "text"), [(0x85, "error (0x85)"), (0x3E, "error 0x3e"), (-77, "error -0x4d")]
    )
    async def test_refused_connection_is_a_connect_failure_with_its_code(
        self, code: int, text: str, tasks: asyncio.TaskGroup
    ) -> None:
        async with proxied(tasks, battery(), connect_code=code, timeout_s=0.7) as (_, reading):
            reason, message = await reading.fail()

            assert (reason, text in message) == ("connect", True)

    @pytest.mark.parametrize(
        ("request_name", "code", "reason"),
        [
            ("table", 0x85, "connect"),
            ("notify", 0x01, "link_lost"),
            ("cccd", 12345, "link_lost"),
            ("cccd", 0x05, "auth"),
        ],
    )
    async def test_refused_request_has_its_reason(
        self, request_name: str, code: int, reason: str, tasks: asyncio.TaskGroup
    ) -> None:
        codes = {request_name: code}
        async with proxied(tasks, battery(), gatt_codes=codes, timeout_s=2.0) as (proxy, reading):
            failure, _ = await reading.fail()
            await wait_until(lambda: not proxy.peers)
            proxy.gatt_codes = {}

            assert failure == reason
            assert (await reading.poll()).up

    @pytest.mark.parametrize(
        ("request_name", "reason"), [("table", "connect"), ("notify", "link_lost")]
    )
    async def test_connection_that_ended_in_a_request_is_no_reason_for_another_route(
        self, request_name: str, reason: str, tasks: asyncio.TaskGroup
    ) -> None:
        codes = {request_name: NOT_CONNECTED}
        async with proxied(tasks, battery(), gatt_codes=codes) as (proxy, reading):
            failure, message = await reading.fail()
            proxy.gatt_codes = {}

            assert (failure, "the connection ended" in message) == (reason, True), message
            assert (await reading.poll()).link.route == Route("proxy", "garage", "fast")

    async def test_request_without_an_answer_is_described_in_plain_words(
        self, monkeypatch: pytest.MonkeyPatch, tasks: asyncio.TaskGroup
    ) -> None:
        monkeypatch.setattr(peripheral, "ANSWER_S", 0.1)
        async with proxied(tasks, battery()) as (proxy, reading):
            proxy.ignores = {"BluetoothGATTNotifyRequest"}

            assert await reading.fail() == ("link_lost", "subscribe: no answer in time")

    async def test_refused_write_with_response_ends_the_link(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        one = battery(write_properties=("write",))
        async with proxied(tasks, one, gatt_codes={"write": 3}) as (_, reading):
            reason, message = await reading.fail()

            assert (reason, message) == ("link_lost", "write: write not permitted (0x03)")

    @pytest.mark.parametrize(
        ("table", "reason", "message"),
        [
            pytest.param(lambda _: [], "profile", "no JBD service", id="empty"),
            pytest.param(
                lambda one: make_table(one, with_cccd=False),
                "connect",
                "cache_services: false",
                id="without descriptors",
            ),
            pytest.param(
                lambda _: [pb.BluetoothGATTService(handle=1)],
                "profile",
                "no JBD service",
                id="without UUIDs",
            ),
            pytest.param(
                lambda _: [pb.BluetoothGATTService(short_uuid=1, handle=1)] * 101,
                "connect",
                "101 services",
                id="too large",
            ),
        ],
    )
    async def test_unusable_table_has_its_reason(
        self,
        table: Callable[[VirtualBattery], list[Any]],
        reason: str,
        message: str,
        tasks: asyncio.TaskGroup,
    ) -> None:
        async with proxied(tasks, battery(), table=table) as (proxy, reading):
            failure, said = await reading.fail()
            await wait_until(lambda: not proxy.peers)

            assert (failure, message in said) == (reason, True), said

    async def test_table_that_never_ends_is_refused_before_it_fills_the_memory(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        sent: list[Any] = []

        def endless(_battery: VirtualBattery) -> Iterator[Any]:
            while len(sent) < 100:
                service = pb.BluetoothGATTService(short_uuid=1, handle=1)
                for handle in range(2, 500):
                    service.characteristics.add(uuid=[handle, handle], handle=handle)
                sent.append(service)
                yield service

        async with proxied(tasks, battery(), table=endless, timeout_s=5.0) as (proxy, reading):
            reason, message = await reading.fail()
            await wait_until(lambda: not proxy.peers)

            assert (reason, "larger than any battery's" in message) == ("connect", True), message

    async def test_poll_whose_table_never_arrives_ends_at_its_deadline(
        self, monkeypatch: pytest.MonkeyPatch, tasks: asyncio.TaskGroup
    ) -> None:
        monkeypatch.setattr(peripheral, "TABLE_S", 60.0)
        async with proxied(tasks, battery(), timeout_s=1.5) as (proxy, reading):
            proxy.ignores = {"BluetoothGATTGetServicesRequest"}
            async with asyncio.timeout(30.0):
                reason, message = await reading.fail()

            assert (reason, "no answer in time" in message) == ("connect", True), message

    async def test_late_answer_to_an_earlier_disconnect_leaves_no_battery_connected(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        async with proxied(tasks, battery(), answers_late=True) as (proxy, reading):
            reason, _ = await reading.fail()
            await wait_until(lambda: not proxy.peers)
            proxy.answers_late = False

            assert reason == "connect"
            assert (await reading.poll()).up

    async def test_battery_that_is_silent_is_a_timeout_failure(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        silent = battery(faults=Faults(silent=True))
        async with proxied(tasks, silent, timeout_s=1.5) as (_, reading):
            assert (await reading.fail())[0] == "timeout"

    async def test_battery_with_the_usual_profile_is_read(self, tasks: asyncio.TaskGroup) -> None:
        usual = PROFILES["ff00"]
        async with proxied(tasks, battery(gatt=(usual,), speaks=usual)) as (_, reading):
            assert (await reading.poll()).up


class TestApiDropped:
    @pytest.mark.parametrize(
        ("at", "reason"),
        [
            ("BluetoothDeviceRequest", "adapter"),
            ("BluetoothGATTGetServicesRequest", "adapter"),
            ("BluetoothGATTNotifyRequest", "adapter"),
            ("BluetoothGATTWriteDescriptorRequest", "adapter"),
            ("BluetoothGATTWriteRequest", "adapter"),
        ],
    )
    async def test_dropped_api_connection_is_an_adapter_failure_and_the_next_poll_opens_it(
        self, at: str, reason: str, tasks: asyncio.TaskGroup
    ) -> None:
        async with proxied(tasks, battery(), drops_api_at=at) as (proxy, reading):
            failure, message = await reading.fail()
            proxy.drops_api_at = ""

            assert failure == reason, message
            assert (await reading.poll()).up
            assert proxy.peers == {}

    async def test_proxy_that_ends_each_connection_at_once_gets_a_pause_and_few_lines_of_log(
        self, caplog: pytest.LogCaptureFixture, tasks: asyncio.TaskGroup
    ) -> None:
        caplog.set_level("INFO", logger=api.__name__)
        at = "BluetoothDeviceRequest"
        async with proxied(tasks, battery(), drops_api_at=at) as (proxy, reading):
            failures = {await reading.fail() for _ in range(4)}

            assert failures == {("adapter", "proxy garage: the connection to it ended")}
            assert proxy.received.count("HelloRequest") == 2
            assert caplog.messages.count("proxy connected") == 1
            assert caplog.messages.count("proxy failed") == 1

    async def test_api_connection_dropped_while_a_reply_is_awaited_is_a_lost_link(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        one = battery(faults=Faults(silent=True))
        async with proxied(tasks, one) as (proxy, reading):
            failing = asyncio.create_task(reading.fail())
            await wait_until(lambda: Command.BASIC_INFO in one.requests)
            proxy.drop_api()
            reason, message = await failing
            one.faults = Faults()

            assert (reason, message) == ("link_lost", "proxy garage: the connection to it ended")
            assert (await reading.poll()).up


class TestTakenOver:
    """ESPHome since 2026.7: the newest subscriber wins; before, the first one."""

    @pytest.fixture(autouse=True)
    def short_silence(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(session, "SILENT_S", 0.2)
        monkeypatch.setattr(session, "PROBE_S", 0.5)
        monkeypatch.setattr(api, "FIRST_RETAKE_S", 0.5)
        monkeypatch.setattr(transport, "RECENT_S", 0.0)

    async def test_proxy_that_was_taken_between_polls_is_an_adapter_failure(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        async with proxied(tasks, battery()) as (proxy, reading):
            assert (await reading.poll()).up
            other = Proxied(tasks, proxy.config())
            assert (await other.poll()).up  # as Home Assistant would

            reason, message = await reading.fail()

            assert reason == "adapter"
            assert "another program (Home Assistant?) took the proxy garage" in message
            other.proxies.close()

    async def test_poll_under_way_ends_when_the_proxy_is_taken_and_its_battery_is_released(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        one = battery(faults=Faults(silent=True))
        async with proxied(tasks, one) as (proxy, reading):
            failing = asyncio.create_task(reading.fail())
            await wait_until(lambda: Command.BASIC_INFO in one.requests)
            other = Proxied(tasks, proxy.config())
            (scanning,) = other.proxies.make_transports([proxy.config()]).values()
            async with scanning.advertisements(lambda _: None):
                reason, message = await failing

                assert (reason, "took the proxy" in message) == ("link_lost", True)
                await wait_until(lambda: not proxy.peers)
            other.proxies.close()

    async def test_proxy_that_serves_another_program_first_is_an_adapter_failure(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        async with proxied(tasks, battery(), newest_wins=False) as (proxy, reading):
            other = Proxied(tasks, proxy.config())
            assert (await other.poll()).up

            reason, message = await reading.fail()

            assert (reason, "took the proxy" in message) == ("adapter", True)
            other.proxies.close()
            await asyncio.sleep(0.6)  # the time for which the proxy is left to the other program
            assert (await reading.poll()).up

    async def test_stalled_network_is_no_takeover(self, tasks: asyncio.TaskGroup) -> None:
        one = battery()
        async with proxied(tasks, one) as (proxy, reading):
            assert (await reading.poll()).up
            (client,) = proxy.clients
            one.faults = Faults(gone=True)
            send, stalled = client.send, list[Any]()
            client.send = stalled.append  # type: ignore[method-assign, assignment]
            polling = asyncio.create_task(reading.poll())
            await asyncio.sleep(0.8)  # longer than the probe is waited for
            one.faults = Faults()
            for message in stalled:
                send(message)
            client.send = send  # type: ignore[method-assign]

            first = await polling

            assert "took the proxy" not in str(first.last_error)
            assert (await reading.poll()).up

    async def test_quiet_surroundings_are_no_takeover(self, tasks: asyncio.TaskGroup) -> None:
        gone = battery(faults=Faults(gone=True))
        async with proxied(tasks, gone, timeout_s=1.5) as (proxy, reading):
            reason, _ = await reading.fail()

            assert reason == "not_found"
            assert number(ADDRESS) in proxy.batteries
            assert len(proxy.clients) == 1
