"""Management commands reach the kernel, and their failures cost no reading."""

import errno
import os
import socket
import struct
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from exporter.ble import bluez
from exporter.ble.direct.kernel import Kernel
from exporter.ble.direct.management import (
    CONTROL_CHANNEL,
    Command,
    Management,
    ManagementError,
    _answer,
    why_not,
)
from exporter.ble.direct.sockets import Adapter, packed
from exporter.ble.transport import Target
from exporter.link_stats import LinkStats
from tests.support.virtual import now_s

ADDRESS = "A4:C1:38:00:00:01"
PUBLIC, RANDOM = "01000038c1a401", "01000038c1a402"
THEIRS = "09000038c1a401"


class Commands:
    """A kernel that answers every command with the next of some statuses."""

    def __init__(self, *statuses: int, data: bytes = b"") -> None:
        self.asked: list[tuple[int, int, str]] = []
        self._statuses = list(statuses)
        self._data = data

    async def __call__(self, opcode: int, adapter: int, payload: bytes) -> tuple[int, bytes]:
        self.asked.append((opcode, adapter, payload.hex()))
        return self._statuses.pop(0), self._data


def management(command: Command, *, connected_on: int | None = 1) -> Management:
    return Management(
        release=True,
        parameters=True,
        rssi=True,
        power=True,
        command=command,
        kernel=Kernel(
            connected_on=lambda _: connected_on,
            adapters=lambda: [Adapter(0, "00:00:00:00:00:01", up=False), Adapter(1, "", up=True)],
        ),
    )


@pytest.fixture(autouse=True)
def logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Return the log, which alone shows that a command failed."""
    caplog.set_level("DEBUG", "exporter.ble.direct.management")
    return caplog


def failures(logged: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.message, vars(record)["error"]) for record in logged.records]


def event(kind: int, opcode: int, status: int, data: bytes = b"") -> bytes:
    body = struct.pack("<HB", opcode, status) + data
    return struct.pack("<HHH", kind, 0, len(body)) + body


def test_control_channel_belongs_to_no_adapter() -> None:
    assert CONTROL_CHANNEL.hex() == "1f00ffff0300"


def test_management_sends_addresses_last_byte_first() -> None:
    assert packed(ADDRESS).hex() == "01000038c1a4"


@pytest.mark.parametrize(
    ("received", "meaning"),
    [
        (event(1, 0x0014, 0, b"\x01"), (0, b"\x01")),
        (event(2, 0x0014, 0x02), (2, b"")),
        (event(1, 0x0035, 0), None),
        (event(0x000B, 0x0014, 0), None),
        (b"\x01\x00", None),
    ],
)
def test_only_events_of_the_same_command_answer_it(
    received: bytes, meaning: tuple[int, bytes] | None
) -> None:
    assert _answer(received, 0x0014) == meaning


class TestDisconnect:
    async def test_disconnect_tries_both_address_types(self) -> None:
        commands = Commands(0x02, 0x00)

        await management(commands).disconnect(ADDRESS)

        assert commands.asked == [(0x0014, 1, PUBLIC), (0x0014, 1, RANDOM)]

    async def test_disconnect_sends_nothing_without_a_connection(self) -> None:
        commands = Commands()

        await management(commands, connected_on=None).disconnect(ADDRESS)

        assert commands.asked == []

    async def test_refused_disconnect_is_logged(self, logged: pytest.LogCaptureFixture) -> None:
        await management(Commands(0x0A)).disconnect(ADDRESS)

        assert failures(logged) == [("not released", "command 0x0014 refused: status 0x0a")]

    async def test_disconnect_without_sockets_is_logged(
        self, logged: pytest.LogCaptureFixture
    ) -> None:
        def no_sockets(_address: str) -> int | None:
            raise OSError(97, "Address family not supported by protocol")

        await Management(release=True, kernel=Kernel(connected_on=no_sockets)).disconnect(ADDRESS)

        assert [(message, error[:10]) for message, error in failures(logged)] == [
            ("not released", "[Errno 97]")
        ]


class TestParameters:
    @pytest.mark.parametrize("adapter", [None, "hci1"])
    async def test_connection_parameters_are_loaded_on_the_adapter_that_connects(
        self, adapter: str | None
    ) -> None:
        commands = Commands(0)

        await management(commands).load_parameters(adapter, [ADDRESS])
        await management(commands).load_parameters("hci0", [ADDRESS])  # switched off

        fast = "0600090000009001"
        assert commands.asked == [(0x0035, 1, f"0200{PUBLIC}{fast}{RANDOM}{fast}")]

    async def test_refused_connection_parameters_are_logged(
        self, logged: pytest.LogCaptureFixture
    ) -> None:
        await management(Commands(0x0D)).load_parameters(None, [ADDRESS])

        assert failures(logged) == [
            ("connection parameters not loaded", "command 0x0035 refused: status 0x0d")
        ]


class EntryList:
    """The entries of a kernel; from 6.11 a single one is changed without removing the others."""

    def __init__(self, *, keeps_others: bool) -> None:
        self.entries = {THEIRS: "their own"}
        self.waited_for: set[str] = set()
        self._keeps_others = keeps_others

    async def __call__(self, opcode: int, adapter: int, payload: bytes) -> tuple[int, bytes]:
        assert (opcode, adapter) == (0x0035, 1)
        loaded = {entry[:7].hex(): entry[7:].hex() for entry in batched(payload[2:], 15)}
        assert len(loaded) == int.from_bytes(payload[:2], "little")
        changes_one = len(loaded) == 1 and set(loaded) <= set(self.entries)
        if not (changes_one and self._keeps_others):
            for gone in set(self.entries) - self.waited_for:
                del self.entries[gone]
        self.entries |= loaded
        return 0, b""


def batched(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


class TestEntriesOfOthers:
    """Batteries A, B and C are read in turn over one adapter."""

    ADDRESSES: ClassVar = [f"A4:C1:38:00:00:0{number}" for number in (1, 2, 3)]

    async def load(self, managed: Management, address: str, *kinds: int) -> None:
        await managed.load_parameters(None, [address, *self.ADDRESSES], kinds=kinds or (1,))

    async def test_entry_that_another_program_loads_later_is_kept_from_linux_6_11_on(self) -> None:
        kernel = EntryList(keeps_others=True)
        managed = management(kernel)
        await self.load(managed, self.ADDRESSES[0], 1, 2)
        kernel.entries[THEIRS] = "their own"

        for address in self.ADDRESSES:
            await self.load(managed, address)

        assert kernel.entries[THEIRS] == "their own"

    @pytest.mark.parametrize("keeps_others", [False, True])
    async def test_battery_that_is_connected_to_has_an_entry_whatever_others_removed(
        self, keeps_others: bool
    ) -> None:
        kernel = EntryList(keeps_others=keeps_others)
        managed = management(kernel)

        for address in self.ADDRESSES * 2:
            await self.load(managed, address)
            assert packed(address).hex() + "01" in kernel.entries
            kernel.entries.clear()  # by a restart of bluetoothd

    @pytest.mark.parametrize("keeps_others", [False, True])
    async def test_batteries_that_are_waited_for_keep_their_entries(
        self, keeps_others: bool
    ) -> None:
        kernel = EntryList(keeps_others=keeps_others)
        managed = management(kernel)

        for address in self.ADDRESSES:
            await self.load(managed, address)
            kernel.waited_for.add(packed(address).hex() + "01")

        assert kernel.waited_for <= set(kernel.entries)

    async def test_new_battery_is_loaded_with_all_others(self) -> None:
        commands = Commands(0, 0, 0)
        managed = management(commands)
        await managed.load_parameters(None, self.ADDRESSES[:1], kinds=(1,))

        await managed.load_parameters(None, self.ADDRESSES[:2], kinds=(1,))
        await managed.load_parameters(None, self.ADDRESSES[:2], kinds=(1,))

        assert [payload[:4] for *_, payload in commands.asked] == ["0200", "0400", "0100"]

    async def test_address_whose_kind_is_unknown_is_loaded_with_both(self) -> None:
        commands = Commands(0, 0)
        managed = management(commands)

        await managed.load_parameters(None, [ADDRESS])
        await managed.load_parameters(None, [ADDRESS])

        assert [payload[:4] for *_, payload in commands.asked] == ["0200", "0200"]


class CommandSocket(socket.socket):
    """Our end of a socket that limits a command as the kernel's does."""

    limit = 1028  # bytes
    can_raise_limit = True

    def setsockopt(self, level: int, option: int, value: Any) -> None:  # type: ignore[override]
        if not self.can_raise_limit:
            raise OSError(errno.ENOPROTOOPT, "Protocol not available")
        assert (level, option) == (274, 12)
        (self.limit,) = struct.unpack("H", value)

    def send(self, data: Any, flags: int = 0) -> int:
        if len(data) > self.limit:
            raise OSError(errno.EINVAL, "Invalid argument")
        return super().send(data, flags)


class TestManyBatteries:
    """34 batteries with both types of address fill the 1,028 bytes of a command."""

    @pytest.fixture
    def kernel_end(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        monkeypatch.setattr(
            "exporter.ble.direct.management.hci_socket",
            lambda: CommandSocket(fileno=os.dup(ours.fileno())),
        )
        monkeypatch.setattr("exporter.ble.direct.management.bind", lambda *_: None)
        with ours, theirs:
            theirs.send(event(1, 0x0035, 0))
            yield theirs

    @pytest.mark.parametrize(("count", "size"), [(34, 1028), (35, 1058), (100, 3008)])
    async def test_connection_parameters_of_any_number_of_batteries_are_loaded(
        self, count: int, size: int, kernel_end: socket.socket, logged: pytest.LogCaptureFixture
    ) -> None:
        await self.load(count)

        assert failures(logged) == []
        assert len(kernel_end.recv(65536)) == size

    async def test_old_kernel_gets_as_many_batteries_as_it_takes_the_wanted_one_included(
        self,
        kernel_end: socket.socket,
        monkeypatch: pytest.MonkeyPatch,
        logged: pytest.LogCaptureFixture,
    ) -> None:
        monkeypatch.setattr(CommandSocket, "can_raise_limit", False)

        await self.load(35)

        assert failures(logged) == []
        received = kernel_end.recv(65536)
        assert len(received) == 1028
        assert received[8:15] == packed("A4:C1:38:00:00:00") + b"\x01"

    @staticmethod
    async def load(count: int) -> None:
        kernel = Kernel(adapters=lambda: [Adapter(1, "", up=True)])
        addresses = [f"A4:C1:38:00:00:{number:02X}" for number in range(count)]
        await Management(parameters=True, kernel=kernel).load_parameters(None, addresses)


async def recorded_rssi(management: Management) -> tuple[int | None, float | None]:
    target = Target(address=ADDRESS, stats=LinkStats())
    await management.record_rssi(target, clock=lambda: 7.0)
    return target.stats.rssi_dbm, target.stats.seen_at_s


class TestRssi:
    @pytest.mark.parametrize(("raw", "rssi_dbm"), [(b"\xbd", -67), (b"\x7f", None), (b"", None)])
    async def test_rssi_is_signed_and_127_or_nothing_is_unknown(
        self, raw: bytes, rssi_dbm: int | None
    ) -> None:
        commands = Commands(0, data=bytes(7) + raw)

        seen_at_s = None if rssi_dbm is None else 7.0
        assert await recorded_rssi(management(commands)) == (rssi_dbm, seen_at_s)

    async def test_rssi_is_unknown_without_a_connection(self) -> None:
        assert await recorded_rssi(management(Commands(2, 2))) == (None, None)
        assert await recorded_rssi(management(Commands(), connected_on=None)) == (None, None)


class TestPower:
    @pytest.fixture(autouse=True)
    def bluetoothd(self, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
        """Return bluetoothd's next answers: whether it has switched Bluetooth off."""
        answers = [False]

        async def is_off_on_purpose() -> bool:
            return answers.pop()

        monkeypatch.setattr(bluez, "is_off_on_purpose", is_off_on_purpose)
        return answers

    async def test_adapter_that_is_off_is_switched_on(self) -> None:
        commands = Commands(0)

        await management(commands).switch_on("hci0")

        assert commands.asked == [(0x0005, 0, "01")]

    async def test_adapter_that_bluetoothd_switched_off_stays_off(
        self, bluetoothd: list[bool]
    ) -> None:
        bluetoothd[:] = [True]
        commands = Commands()

        await management(commands).switch_on("hci0")

        assert commands.asked == []

    @pytest.mark.parametrize("name", [None, "hci1", "hci2"])
    async def test_no_adapter_is_switched_on_if_one_is_on_or_none_is_there(
        self, name: str | None
    ) -> None:
        commands = Commands()

        await management(commands).switch_on(name)

        assert commands.asked == []

    async def test_switching_on_a_blocked_adapter_is_logged(
        self, logged: pytest.LogCaptureFixture
    ) -> None:
        await management(Commands(0x12)).switch_on("hci0")

        assert failures(logged) == [("not switched on", "command 0x0005 refused: status 0x12")]


class TestRestart:
    async def test_adapter_is_off_for_a_second(self) -> None:
        commands = Commands(0, 0)
        began_s = now_s()

        assert await management(commands).restart(1)

        assert commands.asked == [(0x0005, 1, "00"), (0x0005, 1, "01")]
        assert now_s() - began_s == 1.0

    async def test_adapter_that_refuses_to_be_switched_on_is_asked_again(self) -> None:
        commands = Commands(0, 0x0A, 0)

        assert await management(commands).restart(1)

        assert [payload for *_, payload in commands.asked] == ["00", "01", "01"]

    async def test_adapter_that_stays_off_is_reported(self) -> None:
        assert not await management(Commands(0, 0x12, 0x12)).restart(1)

    async def test_adapter_that_hangs_while_it_is_switched_off_is_switched_on(self) -> None:
        asked: list[bytes] = []

        async def hang_once(_opcode: int, _adapter: int, payload: bytes) -> tuple[int, bytes]:
            asked.append(payload)
            if len(asked) == 1:
                raise ManagementError("no answer to 0x0005 in 12 s")
            return 0, b""

        assert await Management(power=True, command=hang_once).restart(1)
        assert asked == [b"\x00", b"\x01"]


class TestPermission:
    async def test_missing_capability_for_management_is_reported(self) -> None:
        assert await why_not(Commands(0x14)) == "CAP_NET_ADMIN is not given"

    @pytest.mark.parametrize("status", [0x00, 0x11, 0x0F])
    async def test_capability_for_management_is_found_without_an_adapter(self, status: int) -> None:
        assert await why_not(Commands(status)) is None

    async def test_missing_management_socket_is_reported(self) -> None:
        async def no_socket(*_: object) -> tuple[int, bytes]:
            raise OSError(97, "Address family not supported by protocol")

        assert "Address family" in (await why_not(no_socket) or "")

    async def test_kernel_that_answers_no_management_command_is_reported(self) -> None:
        async def silent(*_: object) -> tuple[int, bytes]:
            raise ManagementError("no answer to 0x0015 in 3 s")

        assert await why_not(silent) == "no answer to 0x0015 in 3 s"
