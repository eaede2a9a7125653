"""The transport over bleak reads batteries of a virtual radio through bleak-retry-connector."""

import asyncio
import gc
from typing import Any

import pytest
from bleak.exc import (
    BleakBluetoothNotAvailableError,
    BleakBluetoothNotAvailableReason,
    BleakDBusError,
    BleakError,
)
from dbus_fast.errors import InvalidAddressError

from exporter.battery.snapshot import Snapshot
from exporter.ble.bleak import BleakTransport
from exporter.ble.transport import Backend, Target
from exporter.config.schema import PollConfig, ProfileName, Seconds
from exporter.demo.battery import Faults, VirtualBattery, encode_reply
from exporter.demo.radio import Air, make_air, make_backend
from exporter.errors import (
    AdapterError,
    ConnectError,
    FailureReason,
    LinkLostError,
    NotFoundError,
    ProfileError,
)
from exporter.link_stats import LinkStats
from exporter.protocol.profiles import PROFILES
from tests.support.recorded import MOBILEKTRO
from tests.support.virtual import ADDRESS, battery, make_poller, make_routes, make_transport, now_s

SECOND = "A4:C1:38:00:00:02"
SCRAPE_S = 60.0


def target_at(address: str = ADDRESS, profile: str | None = None) -> Target:
    return Target(address=address, stats=LinkStats(), profile=profile)


async def connect(
    transport: BleakTransport, target: Target, *, timeout_s: float = 30.0
) -> tuple[str, ...]:
    """Connect and disconnect; return the profiles that were offered."""
    async with transport.connect(target, deadline_s=now_s() + timeout_s) as connection:
        return tuple(connection.profiles)


def make_slowly_scanning_transport(air: Air) -> BleakTransport:
    """Return a transport that takes a second to end a scan."""
    backend = make_backend(air)
    assert backend.scanner is not None

    class Slow(backend.scanner):  # type: ignore[misc, name-defined]
        async def stop(self) -> None:
            await asyncio.sleep(1.0)
            await super().stop()

    return BleakTransport(backend=Backend(client=backend.client, scanner=Slow))


async def scrape(
    virtual: VirtualBattery, tasks: asyncio.TaskGroup, **options: Any
) -> tuple[Snapshot, Air]:
    air = make_air([virtual])
    snapshot = await make_poller(make_routes(air), tasks, **options).refresh(timeout_s=SCRAPE_S)
    return snapshot, air


class TestPolls:
    async def test_battery_that_advertises_ff00_is_read_through_its_nordic_uart(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        virtual = battery(faults=Faults(lose_first=1))

        snapshot, _ = await scrape(virtual, tasks)

        assert snapshot.up
        assert snapshot.reading is not None
        assert snapshot.reading.basic is not None
        assert snapshot.reading.basic.remaining_ah == 203.54
        assert snapshot.identity is not None
        assert snapshot.identity.profile == "nus"
        assert snapshot.rssi_dbm == -67
        assert snapshot.link.connection_attempts == 1
        assert snapshot.link.resends == 0  # the lost one was the early one
        assert virtual.illegal == []

    async def test_leftover_delivered_at_the_subscription_is_no_reading(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        old = encode_reply(0x03, MOBILEKTRO[4:8] + b"\x00\x7b" + MOBILEKTRO[10:-3])

        snapshot, _ = await scrape(battery(faults=Faults(leftover=old)), tasks)

        assert snapshot.reading is not None
        assert snapshot.reading.basic is not None
        assert snapshot.reading.basic.remaining_ah == 203.54
        assert snapshot.link.discarded_bytes >= len(old)

    @pytest.mark.parametrize("name", list(PROFILES))
    async def test_battery_is_read_through_every_known_profile(
        self, name: str, tasks: asyncio.TaskGroup
    ) -> None:
        profile = PROFILES[name]

        snapshot, _ = await scrape(battery(gatt=(profile,), speaks=profile), tasks)

        assert snapshot.identity is not None
        assert snapshot.identity.profile == name

    async def test_next_profile_is_tried_if_the_first_is_silent(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        virtual = battery(gatt=(PROFILES["ff00"], PROFILES["nus"]), speaks=PROFILES["nus"])

        snapshot, _ = await scrape(virtual, tasks)

        assert snapshot.identity is not None
        assert snapshot.identity.profile == "nus"

    async def test_configured_profile_is_the_only_one_tried(self, tasks: asyncio.TaskGroup) -> None:
        virtual = battery(gatt=(PROFILES["ff00"], PROFILES["nus"]), speaks=PROFILES["nus"])
        began_s = now_s()

        snapshot, _ = await scrape(virtual, tasks, profile=ProfileName("nus"))

        assert snapshot.up
        assert now_s() - began_s < 3.0

    @pytest.mark.parametrize(
        ("properties", "response"),
        [
            (("write-without-response",), False),
            (("write", "write-without-response"), False),
            (("write",), True),
        ],
    )
    async def test_write_without_response_is_preferred(
        self, properties: tuple[str, ...], response: bool, tasks: asyncio.TaskGroup
    ) -> None:
        virtual = battery(write_properties=properties)

        await scrape(virtual, tasks)

        assert set(virtual.writes) == {response}

    async def test_two_batteries_share_one_scan(self, tasks: asyncio.TaskGroup) -> None:
        air = make_air([battery(), battery(SECOND)])
        routes = make_routes(air)
        pollers = [
            make_poller(routes, tasks),
            make_poller(routes, tasks, name="second", address=SECOND),
        ]
        began_s = now_s()

        snapshots = await asyncio.gather(*(one.refresh(timeout_s=SCRAPE_S) for one in pollers))

        assert all(snapshot.up for snapshot in snapshots)
        assert air.most_scans == 1
        assert now_s() - began_s < 3.0

    async def test_missing_battery_does_not_delay_the_other(self, tasks: asyncio.TaskGroup) -> None:
        air = make_air([battery(faults=Faults(gone=True)), battery(SECOND)])
        routes = make_routes(air)
        missing = asyncio.create_task(make_poller(routes, tasks).refresh(timeout_s=SCRAPE_S))
        await asyncio.sleep(0.1)
        began_s = now_s()

        present = await make_poller(routes, tasks, name="second", address=SECOND).refresh(
            timeout_s=SCRAPE_S
        )

        assert present.up
        assert now_s() - began_s < 3.0
        assert (await missing).failures == {FailureReason.NOT_FOUND: 1}


class TestFailures:
    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            pytest.param({"faults": Faults(gone=True)}, "not_found", id="switched off"),
            pytest.param({"faults": Faults(held=True)}, "not_found", id="held by the phone"),
            pytest.param({"faults": Faults(refuses=True)}, "connect", id="refuses to connect"),
            pytest.param({"gatt": ()}, "profile", id="another device with its address"),
            pytest.param({"faults": Faults(silent=True)}, "timeout", id="silent"),
            pytest.param({"faults": Faults(truncated=True)}, "timeout", id="truncated"),
            pytest.param({"faults": Faults(cut=True)}, "link_lost", id="cut in mid-frame"),
            pytest.param({"faults": Faults(bad_checksum=True)}, "protocol", id="bad checksum"),
            pytest.param({"faults": Faults(wrong_register=True)}, "protocol", id="wrong register"),
        ],
    )
    async def test_each_fault_has_its_reason_and_leaks_nothing(
        self, options: dict[str, Any], reason: str, tasks: asyncio.TaskGroup
    ) -> None:
        virtual = battery(**options)

        snapshot, air = await scrape(virtual, tasks)

        assert snapshot.failures == {FailureReason(reason): 1}
        assert not snapshot.up
        assert snapshot.reading is None
        await asyncio.sleep(3.0)  # the disconnect goes on after the answer
        assert air.connected == {}
        assert air.scans == 0
        assert virtual.connects == virtual.disconnects

    async def test_error_of_a_missing_battery_says_what_to_do(self) -> None:
        transport = make_transport(make_air([battery(faults=Faults(gone=True))]))

        with pytest.raises(NotFoundError, match="phone app") as caught:
            await connect(transport, target_at())

        assert ADDRESS in str(caught.value)
        assert now_s() == pytest.approx(10.0)

    async def test_scan_that_lost_the_only_report_is_restarted(self) -> None:
        air = make_air([battery()])
        air.deaf_scans = 1

        await connect(make_transport(air), target_at())

        assert now_s() < 6.0  # with the disconnect
        assert air.most_scans == 1

    async def test_two_listeners_restart_their_scan_once_per_interval(self) -> None:
        air = make_air(
            [battery(faults=Faults(gone=True)), battery(SECOND, faults=Faults(gone=True))]
        )
        transport = make_transport(air)
        air.deaf_scans = begun = 100

        async def look(address: str, after_s: float) -> None:
            await asyncio.sleep(after_s)
            with pytest.raises(NotFoundError):
                await connect(transport, target_at(address))

        await asyncio.gather(look(ADDRESS, 0.0), look(SECOND, 1.0))

        assert begun - air.deaf_scans == 5  # in 11 s
        assert air.scans == 0

    async def test_cancel_during_the_end_of_a_scan_leaves_no_scan(self) -> None:
        air = make_air([battery(faults=Faults(gone=True))])
        transport = make_slowly_scanning_transport(air)
        looking = asyncio.create_task(connect(transport, target_at()))
        await asyncio.sleep(3.0)  # it has been ending since 2.5 s

        looking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await looking

        assert air.scans == 0

    async def test_cancel_during_the_pause_of_a_scan_lets_it_go_on(self) -> None:
        air = make_air([battery(faults=Faults(gone=True)), battery(SECOND)])
        transport = make_slowly_scanning_transport(air)
        looking = asyncio.create_task(connect(transport, target_at()))
        connecting = asyncio.create_task(connect(transport, target_at(SECOND)))
        await asyncio.sleep(1.0)  # it was found after 0.5 s, and the scan is being stopped

        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        air.batteries[ADDRESS].faults = Faults()

        assert await looking == ("nus",)

    async def test_scan_that_cannot_be_restarted_is_an_adapter_error(self) -> None:
        air = make_air([battery(faults=Faults(gone=True))])
        off = BleakBluetoothNotAvailableError("off", BleakBluetoothNotAvailableReason.POWERED_OFF)

        def switch_off() -> None:
            air.scan_error = off

        asyncio.get_running_loop().call_later(1.0, switch_off)

        with pytest.raises(AdapterError, match="switched off"):
            await connect(make_transport(air), target_at())

        assert now_s() == pytest.approx(2.5, abs=1.0)
        assert air.scans == 0

    async def test_attempts_go_on_until_the_deadline_and_each_is_counted(self) -> None:
        transport = make_transport(make_air([battery(faults=Faults(refuses=True))]))
        target = target_at()

        with pytest.raises(ConnectError, match="Software caused connection abort"):
            await connect(transport, target)

        assert 20.0 < now_s() <= 30.0
        attempts = target.stats.connection_attempts
        assert 6 < attempts < 12  # at distances that double from 0.25 to 4 s
        assert target.stats.connection_failures == {FailureReason.CONNECT: attempts}

    async def test_failed_attempt_is_followed_by_a_successful_one(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        faults = iter([Faults(refuses=True), Faults()])

        snapshot, _ = await scrape(battery(choose_faults=lambda: next(faults)), tasks)

        assert snapshot.up
        assert snapshot.link.connection_attempts == 2
        assert snapshot.link.connection_failures == {FailureReason.CONNECT: 1}

    async def test_connect_to_a_battery_that_has_left_ends_at_the_deadline(self) -> None:
        virtual = battery()
        transport = make_transport(make_air([virtual]))
        target = target_at()
        # It advertises after 0.5 s and then leaves.
        virtual.choose_faults = lambda: Faults(gone=True)

        with pytest.raises(ConnectError):
            await connect(transport, target, timeout_s=30.0)

        assert now_s() <= 30.1
        assert target.stats.connection_attempts >= 2

    async def test_deadline_while_connected_is_a_timeout(self, tasks: asyncio.TaskGroup) -> None:
        poll = PollConfig(timeout_s=Seconds(3.0))

        snapshot, air = await scrape(battery(faults=Faults(silent=True)), tasks, poll=poll)

        assert snapshot.failures == {FailureReason.TIMEOUT: 1}
        assert "poll.timeout" in (snapshot.last_error or "")
        assert snapshot.poll_duration_s == pytest.approx(3.0)
        await asyncio.sleep(2.1)
        assert air.connected == {}

    async def test_deadline_during_the_scan_is_not_found(self, tasks: asyncio.TaskGroup) -> None:
        poll = PollConfig(timeout_s=Seconds(3.0))

        snapshot, _ = await scrape(battery(faults=Faults(gone=True)), tasks, poll=poll)

        assert snapshot.failures == {FailureReason.NOT_FOUND: 1}
        assert now_s() == pytest.approx(3.0)

    async def test_error_names_a_configured_profile_that_is_absent(self) -> None:
        transport = make_transport(make_air([battery()]))

        with pytest.raises(ProfileError, match=r"profile ff06 is configured.*6e400001"):
            await connect(transport, target_at(profile="ff06"))

    async def test_error_lists_the_services_of_a_foreign_device(self) -> None:
        transport = make_transport(make_air([battery(gatt=())]))

        with pytest.raises(ProfileError, match="expected one of ff00, nus, fff0, ff06, got none"):
            await connect(transport, target_at())

    async def test_poll_after_a_dropped_link_succeeds(self, tasks: asyncio.TaskGroup) -> None:
        virtual = battery(faults=Faults(silent=True))
        air = make_air([virtual])
        poller = make_poller(make_routes(air), tasks)
        asyncio.get_running_loop().call_later(3.0, air.drop, ADDRESS)
        dropped = await poller.refresh(timeout_s=SCRAPE_S)
        virtual.faults = Faults()

        snapshot = await poller.refresh(timeout_s=SCRAPE_S)

        assert dropped.failures == {FailureReason.LINK_LOST: 1}
        assert snapshot.up

    async def test_write_to_a_dropped_connection_is_an_error(self) -> None:
        air = make_air([battery()])
        with pytest.raises(LinkLostError, match="write: "):
            async with make_transport(air).connect(target_at(), deadline_s=30.0) as connection:
                link = await connection.open("nus")
                air.drop(ADDRESS)
                await link.write(b"\x00")

    async def test_subscription_on_a_dropped_connection_is_an_error(self) -> None:
        air = make_air([battery()])
        with pytest.raises(LinkLostError, match="subscribe"):
            async with make_transport(air).connect(target_at(), deadline_s=30.0) as connection:
                air.drop(ADDRESS)
                await connection.open("nus")


class TestConnectedTime:
    async def test_connected_time_is_counted(self, tasks: asyncio.TaskGroup) -> None:
        virtual = battery()
        poller = make_poller(make_routes(make_air([virtual])), tasks)
        await poller.refresh(timeout_s=SCRAPE_S)
        await asyncio.sleep(60.0)

        snapshot = await poller.refresh(timeout_s=0.0)

        # 0.24 s for four registers, of which two are asked at once, then the disconnect of 2 s.
        assert snapshot.link.held_s == pytest.approx(2.24, abs=0.05)

    async def test_radio_is_off_between_polls(self, tasks: asyncio.TaskGroup) -> None:
        virtual = battery()
        _, air = await scrape(virtual, tasks)
        await asyncio.sleep(3600.0)

        assert virtual.connects == virtual.disconnects == 1
        assert air.scans == 0
        assert air.connected == {}


class TestManyBatteries:
    """With many batteries, an adapter makes one connection after the other."""

    @staticmethod
    def transport(air: Air) -> BleakTransport:
        backend = make_backend(air)
        controller = asyncio.Lock()

        class OneAfterTheOther(backend.client):  # type: ignore[misc, name-defined]
            async def connect(self, pair: bool, **kwargs: Any) -> None:
                async with asyncio.timeout(kwargs["timeout"]), controller:
                    await asyncio.sleep(1.0)
                await super().connect(pair, **kwargs)

        return BleakTransport(backend=Backend(client=OneAfterTheOther, scanner=backend.scanner))

    async def test_waiting_for_other_connects_uses_up_no_attempt(self) -> None:
        addresses = [f"A4:C1:38:00:00:{number:02X}" for number in range(16)]
        transport = self.transport(make_air(map(battery, addresses)))
        targets = [target_at(address) for address in addresses]

        await asyncio.gather(*(connect(transport, target) for target in targets))

        assert [target.stats.connection_attempts for target in targets] == [1] * 16
        assert not any(target.stats.connection_failures for target in targets)


class TestCancelled:
    @pytest.mark.parametrize("after_s", [0.0, 0.3, 0.6, 1.1, 1.25, 1.4, 1.55])
    async def test_cancel_at_any_moment_leaks_nothing(self, after_s: float) -> None:
        virtual = battery(faults=Faults(lose_first=1))
        air = make_air([virtual])
        routes = make_routes(air)

        async with asyncio.TaskGroup() as tasks:
            poller = make_poller(routes, tasks)
            await poller.refresh(timeout_s=after_s)
            await poller.close()

        assert air.connected == {}
        assert air.scans == 0
        assert virtual.connects == virtual.disconnects
        assert asyncio.all_tasks() == {asyncio.current_task()}

    async def test_cancel_leaves_no_unawaited_coroutine(self) -> None:
        await self.test_cancel_at_any_moment_leaks_nothing(0.6)

        gc.collect()  # an unawaited coroutine or task would be a warning, and warnings fail


NOT_AVAILABLE = BleakBluetoothNotAvailableReason
ADAPTER_ERRORS = [
    pytest.param(
        BleakBluetoothNotAvailableError("none", NOT_AVAILABLE.NO_BLUETOOTH),
        "no Bluetooth adapter",
        id="no adapter",
    ),
    pytest.param(
        BleakBluetoothNotAvailableError("off", NOT_AVAILABLE.POWERED_OFF),
        "bluetoothctl power on",
        id="switched off",
    ),
    pytest.param(
        BleakBluetoothNotAvailableError("no", NOT_AVAILABLE.DENIED_BY_SYSTEM),
        "group bluetooth",
        id="the bus refuses",
    ),
    pytest.param(
        BleakBluetoothNotAvailableError("old", NOT_AVAILABLE.NO_BLE_CENTRAL_ROLE),
        "cannot do Bluetooth Low Energy",
        id="too old",
    ),
    pytest.param(
        BleakDBusError("org.freedesktop.DBus.Error.ServiceUnknown", ["not activatable"]),
        "bluetoothd is not running",
        id="no bluetoothd",
    ),
    pytest.param(
        BleakDBusError("org.freedesktop.DBus.Error.AccessDenied", ["rejected"]),
        "group bluetooth",
        id="bluetoothd refuses",
    ),
    pytest.param(
        BleakDBusError("org.bluez.Error.NotReady", ["Resource Not Ready"]),
        "rfkill unblock bluetooth",
        id="no power",
    ),
    pytest.param(FileNotFoundError(2, "No such file"), "no D-Bus", id="no bus"),
    pytest.param(ConnectionRefusedError(111, "refused"), "no D-Bus", id="a dead bus"),
    pytest.param(PermissionError(13, "denied"), "group bluetooth", id="no permission"),
    pytest.param(BleakError("adapter 'hci7' not found"), "hci7", id="another adapter"),
    pytest.param(
        InvalidAddressError("address did not contain a transport"),
        "DBUS_SYSTEM_BUS_ADDRESS",
        id="a malformed bus address",
    ),
    pytest.param(KeyError("org.bluez.Adapter1"), "org.bluez.Adapter1", id="an error in bleak"),
    pytest.param(AssertionError(), "AssertionError", id="an error without a message in bleak"),
    pytest.param(EOFError(), "EOFError", id="a bus that ends in mid-call"),
]


class TestAdapter:
    @pytest.mark.parametrize(("error", "advice"), ADAPTER_ERRORS)
    async def test_adapter_error_says_what_to_do(
        self, error: Exception, advice: str, tasks: asyncio.TaskGroup
    ) -> None:
        air = make_air([battery()])
        air.scan_error = error

        snapshot = await make_poller(make_routes(air), tasks).refresh(timeout_s=SCRAPE_S)

        assert snapshot.failures == {FailureReason.ADAPTER: 1}
        assert advice in (snapshot.last_error or "")
        assert "[Errno" not in (snapshot.last_error or "")

    async def test_poll_succeeds_as_soon_as_the_adapter_works_again(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        air = make_air([battery()])
        poller = make_poller(make_routes(air), tasks)
        air.scan_error = FileNotFoundError(2, "No such file")
        for _ in range(4):
            await poller.refresh(timeout_s=SCRAPE_S)
        air.scan_error = None

        snapshot = await poller.refresh(timeout_s=SCRAPE_S)

        assert snapshot.up

    async def test_silent_bluetoothd_does_not_block_a_poll(self, tasks: asyncio.TaskGroup) -> None:
        air = make_air([battery()])
        air.scan_hangs = True
        poller = make_poller(make_routes(air), tasks)
        began_s = now_s()
        hung = await poller.refresh(timeout_s=SCRAPE_S)
        waited_s = now_s() - began_s
        air.scan_hangs = False

        snapshot = await poller.refresh(timeout_s=SCRAPE_S)

        assert hung.failures == {FailureReason.ADAPTER: 1}
        assert "bluetoothd does not answer" in (hung.last_error or "")
        assert waited_s < 15.0
        assert snapshot.up
        assert air.scans == 0

    async def test_scan_without_power_says_what_to_do(self) -> None:
        air = make_air([battery()])
        air.scan_error = BleakBluetoothNotAvailableError("off", NOT_AVAILABLE.POWERED_OFF)

        with pytest.raises(AdapterError, match="switched off"):
            async with make_transport(air).advertisements(lambda _: None):
                pass
