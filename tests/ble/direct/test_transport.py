"""The whole exporter reads batteries over the direct link, from an ATT server on a socket."""

import asyncio
import errno
import struct
from dataclasses import replace

import pytest

from exporter.ble import bluez
from exporter.ble.direct import channel, kernel, waiting
from exporter.ble.direct.sockets import CONNECTING, PUBLIC, RANDOM, Adapter
from exporter.ble.transport import Target
from exporter.demo.battery import Faults, encode_reply
from exporter.errors import AdapterError, FailureReason
from exporter.link_stats import LinkStats, Route
from exporter.protocol.profiles import PROFILES
from tests.support import att_server
from tests.support.att_server import HCI0
from tests.support.direct_battery import DirectBattery, quick, remaining_ah
from tests.support.recorded import MOBILEKTRO
from tests.support.virtual import ADDRESS, now_s
from tests.support.waiting import wait_until

pytestmark = pytest.mark.looptime(False)  # noqa: FBT003 - sockets live in real time
RANDOM_ADDRESS = "C4:C1:38:00:00:01"


@pytest.fixture(autouse=True)
def short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporter.ble.direct.transport.FIND_S", 2.0)
    monkeypatch.setattr("exporter.battery.session.GIVE_UP_S", 1.0)
    monkeypatch.setattr("exporter.protocol.exchange.RESEND_S", 0.3)
    monkeypatch.setattr("exporter.protocol.exchange.BYTE_S", 1e-5)
    monkeypatch.setattr("exporter.protocol.exchange.UNFINISHED_S", 0.4)
    monkeypatch.setattr(channel, "ANSWER_S", 1.0)
    monkeypatch.setattr(waiting, "CANCEL_S", 0.01)
    monkeypatch.setattr("exporter.ble.timeouts.FIRST_PAUSE_S", 0.05)


class TestReading:
    async def test_battery_is_read_without_scan_and_bluetoothd(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        direct = DirectBattery(tasks, quick())

        snapshot = await direct.poll()

        assert remaining_ah(snapshot) == 203.54
        assert snapshot.reading is not None
        assert snapshot.reading.cell_voltages_v == (3.394, 3.388, 3.392, 3.386)
        assert snapshot.identity is not None
        assert snapshot.identity.profile == "nus"
        assert (direct.battery.connects, direct.battery.disconnects) == (1, 1)
        assert direct.battery.illegal == []
        assert direct.air.attempts == [(PUBLIC, HCI0.address)]

    @pytest.mark.parametrize("name", list(PROFILES))
    async def test_each_profile_is_discovered(self, name: str, tasks: asyncio.TaskGroup) -> None:
        profile = PROFILES[name]

        snapshot = await DirectBattery(tasks, quick(gatt=(profile,), speaks=profile)).poll()

        assert snapshot.identity is not None
        assert snapshot.identity.profile == name

    async def test_profile_is_found_among_all_others(self, tasks: asyncio.TaskGroup) -> None:
        virtual = quick(gatt=tuple(PROFILES.values()), speaks=PROFILES["fff0"])

        snapshot = await DirectBattery(tasks, virtual).poll()

        assert snapshot.identity is not None
        assert snapshot.identity.profile == "fff0"

    async def test_second_poll_sends_only_a_subscription_and_two_requests(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        direct = DirectBattery(tasks, quick())
        await direct.poll()

        snapshot = await direct.poll()

        assert snapshot.polls == 2
        assert snapshot.reading is not None
        assert snapshot.reading.cell_voltages_v is not None
        assert [pdu[0] for pdu in direct.air.servers[1].received] == [0x52, 0x12, 0x52]

    async def test_first_request_is_written_before_the_subscription(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        direct = DirectBattery(tasks, quick(faults=Faults(reply_s=0.005, lose_first=1)))
        await direct.poll()

        snapshot = await direct.poll()

        early, subscription, first = direct.air.servers[1].received[:3]
        assert early[3:] == bytes.fromhex("dda50400fffc77")
        assert subscription[:1] + subscription[3:] == bytes.fromhex("120100")
        assert first[3:] == bytes.fromhex("dda50300fffd77")
        assert snapshot.link.resends == 0

    async def test_write_with_response_is_used_if_there_is_no_other(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        direct = DirectBattery(tasks, quick(write_properties=("write",)))

        assert remaining_ah(await direct.poll()) == 203.54
        assert set(direct.battery.writes) == {True}

    async def test_requests_of_the_battery_are_answered(self, tasks: asyncio.TaskGroup) -> None:
        direct = DirectBattery(tasks, quick(faults=Faults(reply_s=0.3)))
        asking = asyncio.create_task(direct.poll())
        await wait_until(lambda: any(server.subscribed for server in direct.air.servers))

        direct.air.servers[0].send(bytes.fromhex("02f700"))
        await asking

        assert bytes.fromhex("030502") in direct.air.servers[0].received


class TestLeftovers:
    @pytest.mark.parametrize("leftover_s", [0.0, 0.001], ids=["before", "after"])
    async def test_leftover_around_the_subscription_is_dropped(
        self, leftover_s: float, tasks: asyncio.TaskGroup, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("exporter.protocol.exchange.BYTE_S", 10 / 9600)
        monkeypatch.setattr("exporter.protocol.exchange.RESEND_S", 0.4)
        old = encode_reply(0x03, MOBILEKTRO[4:8] + b"\x00\x7b" + MOBILEKTRO[10:-3])
        faults = Faults(reply_s=0.1, leftover=old, leftover_s=leftover_s)

        snapshot = await DirectBattery(tasks, quick(faults=faults)).poll()

        assert remaining_ah(snapshot) == 203.54
        assert snapshot.link.discarded_bytes >= len(old)
        assert snapshot.link.frame_errors == {}


class TestAddresses:
    @pytest.mark.parametrize(
        ("address", "kind", "tried"),
        [
            (ADDRESS, PUBLIC, [PUBLIC]),
            (ADDRESS, RANDOM, [PUBLIC, RANDOM]),
            (RANDOM_ADDRESS, RANDOM, [RANDOM]),
            (RANDOM_ADDRESS, PUBLIC, [RANDOM, PUBLIC]),
        ],
    )
    async def test_likelier_address_type_is_tried_first_and_the_right_one_remembered(
        self, address: str, kind: int, tried: list[int], tasks: asyncio.TaskGroup
    ) -> None:
        direct = DirectBattery(tasks, quick(address=address), address_type=kind)

        assert (await direct.poll()).up
        assert (await direct.poll()).up

        assert [attempt[0] for attempt in direct.air.attempts] == [*tried, kind]


class TestMemory:
    async def test_moved_handles_are_found_in_the_same_poll(self, tasks: asyncio.TaskGroup) -> None:
        direct = DirectBattery(tasks, quick())
        await direct.poll()
        direct.air.options = {"first_handle": 40}

        assert remaining_ah(await direct.poll()) == 203.54
        assert remaining_ah(await direct.poll()) == 203.54
        assert {pdu[0] for pdu in direct.air.servers[2].received} == {0x12, 0x52}

    async def test_battery_with_another_profile_is_read_in_the_next_poll(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        direct = DirectBattery(tasks, quick())
        await direct.poll()
        direct.battery.gatt, direct.battery.speaks = (PROFILES["ff00"],), PROFILES["ff00"]
        direct.air.options = {"first_handle": 40}

        snapshot = await direct.fail()

        assert snapshot.failures == {FailureReason.LINK_LOST: 1}
        assert "profile nus is not there any more" in (snapshot.last_error or "")
        assert remaining_ah(await direct.poll()) == 203.54

    async def test_silence_makes_the_next_poll_discover_again(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        direct = DirectBattery(tasks, quick())
        await direct.poll()
        direct.battery.faults = Faults(silent=True)
        snapshot = await direct.fail()
        assert snapshot.failures == {FailureReason.TIMEOUT: 1}
        direct.battery.faults = Faults()

        assert (await direct.poll()).up
        assert 0x10 in {pdu[0] for pdu in direct.air.servers[2].received}

    async def test_unanswered_subscription_makes_the_next_poll_discover_again(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        direct = DirectBattery(tasks, quick())
        await direct.poll()
        direct.air.options = {"deaf_to": {0x12}}
        snapshot = await direct.fail()
        assert snapshot.failures == {FailureReason.LINK_LOST: 1}
        assert "0x12" in (snapshot.last_error or "")
        direct.air.options = {}

        assert (await direct.poll()).up
        assert 0x10 in {pdu[0] for pdu in direct.air.servers[2].received}


class TestFailures:
    async def test_missing_battery_is_not_found_and_counts_no_attempt(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        direct = DirectBattery(tasks, quick(faults=Faults(gone=True)))

        snapshot = await direct.fail()

        assert snapshot.failures == {FailureReason.NOT_FOUND: 1}
        assert "phone app" in (snapshot.last_error or "")
        assert snapshot.link.connection_attempts == 0
        direct.battery.faults = Faults()
        assert (await direct.poll()).up

    async def test_battery_that_is_not_seen_gets_the_hint_that_fits(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        asleep = DirectBattery(tasks, quick())
        await asleep.poll()
        asleep.battery.faults = Faults(gone=True)
        backwards = DirectBattery(tasks, quick(address="B3:FC:EC:38:C1:A4"))
        backwards.battery.faults = Faults(gone=True)

        assert "while no current flows" in str((await asleep.fail()).last_error)
        assert "try A4:C1:38:EC:FC:B3" in str((await backwards.fail()).last_error)

    async def test_poll_timeout_before_any_advertisement_counts_no_attempt(
        self, tasks: asyncio.TaskGroup, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("exporter.ble.direct.transport.FIND_S", 30.0)
        monkeypatch.setattr(kernel.Turns, "wait", lambda *_: asyncio.timeout(30.0))
        direct = DirectBattery(tasks, quick(faults=Faults(gone=True)), timeout_s=0.3)

        snapshot = await direct.fail()

        assert snapshot.failures == {FailureReason.NOT_FOUND: 1}
        assert snapshot.link.connection_attempts == 0

    async def test_service_without_characteristics_is_discovered_again(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        direct = DirectBattery(tasks, quick(), options={"refuse": {0x08: 0x0A}})

        snapshot = await direct.fail()
        direct.air.options = {}

        assert snapshot.failures == {FailureReason.PROFILE: 1}
        assert (await direct.poll()).up

    async def test_refused_connect_is_retried(self, tasks: asyncio.TaskGroup) -> None:
        direct = DirectBattery(tasks, quick())
        direct.air.errors = [ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")]

        snapshot = await direct.poll()

        assert snapshot.up
        assert snapshot.link.connection_attempts == 2
        assert snapshot.link.connection_failures == {FailureReason.CONNECT: 1}

    async def test_attempts_go_on_at_growing_distances_until_the_deadline(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        direct = DirectBattery(tasks, quick(), timeout_s=1.0)
        direct.air.errors = [OSError(errno.ENOSYS, "Function not implemented") for _ in range(99)]

        snapshot = await direct.fail()

        assert snapshot.failures == {FailureReason.CONNECT: 1}
        assert snapshot.link.connection_attempts == 5  # at 0, 0.05, 0.15, 0.35 and 0.75 s
        assert snapshot.link.connection_failures == {FailureReason.CONNECT: 5}
        assert "5 attempt(s): heard, but the connection did not come about" in str(
            snapshot.last_error
        )

    @pytest.mark.parametrize("failures", [1, 4])
    @pytest.mark.parametrize(
        "number", [errno.ENOSYS, errno.ETIMEDOUT, errno.ECONNRESET, errno.EMLINK]
    )
    async def test_battery_that_is_lost_while_it_connects_is_connected_to_again(
        self, number: int, failures: int, tasks: asyncio.TaskGroup
    ) -> None:
        direct = DirectBattery(tasks, quick())
        direct.air.errors = [OSError(number, "as the kernel says it") for _ in range(failures)]

        snapshot = await direct.poll()

        assert snapshot.up
        assert snapshot.link.connection_failures == {FailureReason.CONNECT: failures}
        assert {kind for kind, _ in direct.air.attempts} == {PUBLIC}  # and no wrong type learned

    async def test_battery_that_was_heard_and_then_leaves_is_a_connect_error(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        direct = DirectBattery(tasks, quick(faults=Faults(gone=True)))
        direct.air.errors = [TimeoutError(errno.ETIMEDOUT, "Connection timed out")]

        snapshot = await direct.fail()

        assert snapshot.failures == {FailureReason.CONNECT: 1}
        assert "heard, but" in (snapshot.last_error or "")

    async def test_battery_that_was_heard_is_looked_for_with_the_type_that_it_was_heard_with(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        direct = DirectBattery(tasks, quick(), timeout_s=2.0)
        direct.air.set_faults(establish_fails=999)
        await direct.fail()
        direct.air.attempts.clear()
        direct.battery.faults = Faults(gone=True)

        await direct.fail()

        assert direct.air.attempts == [(PUBLIC, HCI0.address)]

    async def test_battery_of_another_program_is_tried_once(self, tasks: asyncio.TaskGroup) -> None:
        direct = DirectBattery(tasks, quick())
        direct.air.errors = [OSError(errno.EBUSY, "Device or resource busy")]

        snapshot = await direct.fail()

        assert snapshot.failures == {FailureReason.CONNECT: 1}
        assert snapshot.link.connection_attempts == 1
        assert "another program" in (snapshot.last_error or "")

    async def test_battery_that_another_program_connects_again_is_left_to_it(
        self, tasks: asyncio.TaskGroup, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        direct = DirectBattery(tasks, quick())
        held: list[int | None] = [0]
        kernel = replace(direct.transport._kernel, connected_on=lambda _: held[0])
        monkeypatch.setattr(direct.transport, "_kernel", kernel)

        async def release(_address: str) -> None:
            held[0] = None

        monkeypatch.setattr("exporter.ble.bluez.free", release)
        assert (await direct.poll()).up
        held[0] = 0

        snapshot = await direct.poll()

        assert snapshot.failures == {FailureReason.CONNECT: 1}
        assert "another program on this machine keeps" in (snapshot.last_error or "")
        assert snapshot.link.connection_attempts == 1
        assert held == [0]

    async def test_connection_of_a_failed_attempt_is_not_another_programs(
        self, tasks: asyncio.TaskGroup, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        direct = DirectBattery(tasks, quick(), options={"refuse": {0x10: 0x0E}})
        # The kernel ends a connection 2 s after the channel of a failed attempt.
        kernel = replace(direct.transport._kernel, connected_on=lambda _: 0)
        monkeypatch.setattr(direct.transport, "_kernel", kernel)

        async def release(_address: str) -> None:
            pass

        monkeypatch.setattr("exporter.ble.bluez.free", release)

        await direct.fail()
        snapshot = await direct.fail()

        assert snapshot.polls == 2
        assert "another program" not in (snapshot.last_error or "")

    async def test_poll_timeout_while_the_table_is_read_does_not_say_that_it_was_not_seen(
        self, tasks: asyncio.TaskGroup, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(channel, "ANSWER_S", 30.0)
        direct = DirectBattery(tasks, quick(), timeout_s=0.5, options={"deaf_to": {0x10}})

        snapshot = await direct.fail()

        assert snapshot.failures == {FailureReason.CONNECT: 1}
        assert "GATT table" in (snapshot.last_error or "")

    @pytest.mark.parametrize(
        ("adapters", "advice"),
        [
            pytest.param([], "no Bluetooth adapter", id="none"),
            pytest.param(
                [Adapter(0, "00:1B:DC:0F:AA:01", up=False)], "hci0 is switched off", id="off"
            ),
        ],
    )
    async def test_unusable_adapter_is_an_adapter_error(
        self, adapters: list[Adapter], advice: str, tasks: asyncio.TaskGroup
    ) -> None:
        direct = DirectBattery(tasks, quick(), adapters=adapters)

        snapshot = await direct.fail()

        assert snapshot.failures == {FailureReason.ADAPTER: 1}
        assert advice in (snapshot.last_error or "")
        direct.air.adapters = [HCI0]
        assert (await direct.poll()).up

    async def test_adapter_unplugged_during_the_connect_is_an_adapter_error(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        direct = DirectBattery(tasks, quick())
        direct.air.errors = [OSError(errno.ENODEV, "No such device")]

        assert (await direct.fail()).failures == {FailureReason.ADAPTER: 1}

    async def test_foreign_device_has_no_profile(self, tasks: asyncio.TaskGroup) -> None:
        snapshot = await DirectBattery(tasks, quick(gatt=())).fail()

        assert snapshot.failures == {FailureReason.PROFILE: 1}
        assert "1800" in (snapshot.last_error or "")

    @pytest.mark.parametrize(
        ("faults", "reason"),
        [
            (Faults(truncated=True), "timeout"),
            (Faults(cut=True), "link_lost"),
            (Faults(bad_checksum=True), "protocol"),
            (Faults(wrong_register=True), "protocol"),
        ],
    )
    async def test_each_fault_of_the_battery_has_its_reason(
        self, faults: Faults, reason: str, tasks: asyncio.TaskGroup
    ) -> None:
        direct = DirectBattery(tasks, quick(faults=faults))

        assert (await direct.fail()).failures == {FailureReason(reason): 1}

    @pytest.mark.parametrize("opcode", [0x10, 0x08, 0x12])
    async def test_battery_that_wants_pairing_says_so(
        self, opcode: int, tasks: asyncio.TaskGroup
    ) -> None:
        direct = DirectBattery(tasks, quick(), options={"refuse": {opcode: 0x05}})

        snapshot = await direct.fail()

        assert snapshot.failures == {FailureReason.AUTH: 1}
        assert "pairing" in (snapshot.last_error or "")

    @pytest.mark.parametrize("opcode", [0x10, 0x08, 0x04])
    async def test_refused_discovery_is_a_connect_error(
        self, opcode: int, tasks: asyncio.TaskGroup
    ) -> None:
        direct = DirectBattery(tasks, quick(), options={"refuse": {opcode: 0x0E}})

        assert (await direct.fail()).failures == {FailureReason.CONNECT: 1}

    async def test_twice_refused_subscription_is_a_lost_link(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        direct = DirectBattery(tasks, quick(), options={"refuse": {0x12: 0x03}})

        snapshot = await direct.fail()

        assert snapshot.failures == {FailureReason.LINK_LOST: 1}
        assert "0x03" in (snapshot.last_error or "")


class FakeManagement:
    """A kernel that takes every management command."""

    def __init__(self, air: att_server.Air) -> None:
        self.commands: list[tuple[int, int, str]] = []
        self._air = air

    async def __call__(self, opcode: int, adapter: int, payload: bytes) -> tuple[int, bytes]:
        self.commands.append((opcode, adapter, payload.hex()))
        if opcode == 0x0014:
            for server in self._air.servers:
                server.drop() if server.sock.fileno() >= 0 else None
        return 0, payload[:7] + b"\xbd\x7f\x7f"

    @property
    def powers(self) -> list[str]:
        return [payload for opcode, _, payload in self.commands if opcode == 0x0005]


async def never(_adapter: str) -> bool:
    return False


class TestWedge:
    @pytest.fixture(autouse=True)
    def short_look(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("exporter.ble.direct.transport.FIND_S", 0.2)

    async def test_adapter_that_answers_nothing_is_an_adapter_error(
        self, tasks: asyncio.TaskGroup, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        direct = DirectBattery(tasks, quick(faults=Faults(gone=True)))
        direct.air.set_faults(deaf=True)

        snapshot = await direct.fail()

        assert snapshot.failures == {FailureReason.ADAPTER: 1}
        assert "hci0 does not answer any more" in (snapshot.last_error or "")

    async def test_kernel_that_begins_no_scan_is_an_adapter_error(
        self, tasks: asyncio.TaskGroup, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("exporter.ble.direct.transport.SCANNED_S", 0.1)
        monkeypatch.setattr(bluez, "is_discovering", never)
        direct = DirectBattery(tasks, quick())
        direct.air.set_faults(stuck=True)

        snapshot = await direct.fail()

        assert snapshot.failures == {FailureReason.ADAPTER: 1}
        assert "the kernel begins no scan over hci0" in (snapshot.last_error or "")

    async def test_advertising_adapter_is_named_when_the_battery_is_not_seen(
        self, tasks: asyncio.TaskGroup, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        direct = DirectBattery(tasks, quick(faults=Faults(gone=True)))

        async def command(opcode: int, _adapter: int, _payload: bytes) -> tuple[int, bytes]:
            assert opcode == 0x0004
            return 0, bytes(13) + struct.pack("<I", 1 << 9 | 1 << 10)

        direct.manage(command)

        snapshot = await direct.fail()

        assert snapshot.failures == {FailureReason.ADAPTER: 1}
        assert "btmgmt --index hci0 advertising off" in (snapshot.last_error or "")

    async def test_deaf_adapter_is_named_in_a_poll_shorter_than_a_look(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        direct = DirectBattery(tasks, quick(), timeout_s=1.0)
        direct.air.set_faults(deaf=True)

        snapshot = await direct.fail()

        assert "hci0 does not answer any more" in (snapshot.last_error or "")

    async def test_connection_that_was_left_behind_is_an_adapter_error_in_the_end(
        self, tasks: asyncio.TaskGroup, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("exporter.ble.direct.wedge.LEFT_BEHIND_S", 0.1)
        direct = DirectBattery(tasks, quick(faults=Faults(gone=True)))
        direct.air.connections = [("A4:C1:38:00:00:09", CONNECTING)]
        assert (await direct.fail()).failures == {FailureReason.NOT_FOUND: 1}

        snapshot = await direct.fail()

        assert snapshot.failures[FailureReason.ADAPTER] == 1
        assert "A4:C1:38:00:00:09" in (snapshot.last_error or "")

    async def test_adapter_that_stays_stuck_is_restarted_and_read_in_the_next_poll(
        self, tasks: asyncio.TaskGroup, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("exporter.ble.direct.wedge.LEFT_BEHIND_S", 0.0)
        monkeypatch.setattr("exporter.ble.adapter_health.CERTAIN_S", 0.1)
        monkeypatch.setattr("exporter.ble.direct.management.OFF_S", 0.01)
        monkeypatch.setattr(bluez, "is_discovering", never)
        direct = DirectBattery(tasks, quick(faults=Faults(gone=True)))
        direct.air.connections = [("A4:C1:38:00:00:09", CONNECTING)]
        fake = FakeManagement(direct.air)
        direct.manage(fake, power=True)

        assert "if this lasts" in str((await direct.fail()).last_error)
        assert "it was restarted, and the next poll" in str((await direct.fail()).last_error)

        assert fake.powers == ["00", "01"]
        direct.battery.faults = Faults()
        assert (await direct.poll()).up

    async def test_batteries_that_wait_at_once_restart_a_stuck_adapter_once(
        self, tasks: asyncio.TaskGroup, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("exporter.ble.direct.wedge.LEFT_BEHIND_S", 0.0)
        monkeypatch.setattr("exporter.ble.adapter_health.CERTAIN_S", 0.1)
        monkeypatch.setattr("exporter.ble.direct.management.OFF_S", 0.01)
        monkeypatch.setattr(bluez, "is_discovering", never)
        direct = DirectBattery(tasks, quick(faults=Faults(gone=True)))
        direct.air.batteries[RANDOM_ADDRESS] = quick(
            address=RANDOM_ADDRESS, faults=Faults(gone=True)
        )
        direct.air.connections = [("A4:C1:38:00:00:09", CONNECTING)]
        fake = FakeManagement(direct.air)
        direct.manage(fake, power=True)

        async def fail(address: str) -> str:
            target = Target(address=address, stats=LinkStats())
            with pytest.raises(AdapterError) as failed:
                async with direct.transport.connect(target, deadline_s=now_s() + 5.0):
                    pass
            return str(failed.value)

        await fail(ADDRESS)
        await asyncio.sleep(0.1)
        messages = await asyncio.gather(fail(ADDRESS), fail(RANDOM_ADDRESS))

        assert any("it was restarted, and" in message for message in messages)
        assert fake.powers == ["00", "01"]


class TestGentleStyle:
    async def test_module_that_cuts_at_20_bytes_is_read_with_a_longer_mtu(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        direct = DirectBattery(tasks, quick(faults=Faults(reply_s=0.005, notification=0)))
        assert not (await direct.fail()).up

        snapshot = await direct.poll()

        assert remaining_ah(snapshot) == 203.54
        assert snapshot.link.route == Route("direct", "hci0", "gentle")
        opcodes = [pdu[0] for pdu in direct.air.servers[1].received]
        assert opcodes[0] == 0x02
        assert 0x52 not in opcodes[: opcodes.index(0x12)]  # no early request

    async def test_server_that_refuses_the_mtu_is_read(self, tasks: asyncio.TaskGroup) -> None:
        direct = DirectBattery(tasks, quick(), options={"refuse": {0x02: 0x06}})
        target = Target(address=ADDRESS, stats=LinkStats())

        async with direct.transport.connect(
            target, deadline_s=now_s() + 5.0, is_gentle=True
        ) as connection:
            assert connection.profiles == ("nus",)

    async def test_kernels_own_interval_is_kept(self, tasks: asyncio.TaskGroup) -> None:
        direct = DirectBattery(tasks, quick())
        fake = FakeManagement(direct.air)
        direct.manage(fake, parameters=True)
        target = Target(address=ADDRESS, stats=LinkStats())
        direct.routes.track(target)
        direct.transport.targets = {ADDRESS: target}

        for is_gentle in (False, True, False):
            connecting = direct.transport.connect(
                target, deadline_s=now_s() + 5.0, is_gentle=is_gentle
            )
            async with connecting:
                pass

        fast, gentle, again = (payload[18:26] for _, _, payload in fake.commands)
        assert (fast, gentle, again) == ("06000900", "18002800", "06000900")


class TestManagement:
    def managed(self, direct: DirectBattery, **options: bool) -> FakeManagement:
        fake = FakeManagement(direct.air)
        direct.manage(fake, **options)
        return fake

    async def test_connection_is_fast_and_ends_at_once_with_management(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        direct = DirectBattery(tasks, quick())
        fake = self.managed(direct, release=True, parameters=True, rssi=True)

        snapshot = await direct.poll()

        assert snapshot.up
        assert snapshot.rssi_dbm == -67
        (load, _, parameters), (info, _, _), (release, _, address) = fake.commands
        assert (load, info, release) == (0x0035, 0x0031, 0x0014)
        assert parameters == ("020001000038c1a401060009000000900101000038c1a4020600090000009001")
        assert address == "01000038c1a401"

    @pytest.mark.parametrize(
        ("off", "left"),
        [
            ("release", {0x0035, 0x0031}),
            ("parameters", {0x0031, 0x0014}),
            ("rssi", {0x0035, 0x0014}),
        ],
    )
    async def test_each_management_option_can_be_turned_off(
        self, off: str, left: set[int], tasks: asyncio.TaskGroup
    ) -> None:
        direct = DirectBattery(tasks, quick())
        on = dict.fromkeys({"release", "parameters", "rssi"} - {off}, True)
        fake = self.managed(direct, **on)

        assert (await direct.poll()).up
        assert {opcode for opcode, _, _ in fake.commands} == left

    async def test_lost_connection_is_not_disconnected(self, tasks: asyncio.TaskGroup) -> None:
        direct = DirectBattery(tasks, quick(faults=Faults(cut=True)))
        fake = self.managed(direct, release=True)

        await direct.fail()

        assert fake.commands == []

    async def test_refused_management_commands_cost_no_reading(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        direct = DirectBattery(tasks, quick())

        async def refuse(_opcode: int, _adapter: int, _payload: bytes) -> tuple[int, bytes]:
            return 0x0B, b""

        direct.manage(refuse, release=True, parameters=True, rssi=True)

        snapshot = await direct.poll()

        assert remaining_ah(snapshot) == 203.54
        assert snapshot.rssi_dbm is None
