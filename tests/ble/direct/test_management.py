"""The management socket's commands, against a kernel that is a function."""

import struct

import pytest

from exporter.ble.direct.management import (
    CONTROL_CHANNEL,
    Management,
    ManagementError,
    _answer,
    why_not,
)
from exporter.ble.direct.sockets import Adapter, packed

ADDRESS = "A4:C1:38:00:00:01"
PUBLIC, RANDOM = "01000038c1a401", "01000038c1a402"


class Kernel:
    """Answers every command with the next of some statuses."""

    def __init__(self, *statuses: int, data: bytes = b"") -> None:
        self.asked: list[tuple[int, int, str]] = []
        self._statuses = list(statuses)
        self._data = data

    async def __call__(self, opcode: int, adapter: int, payload: bytes) -> tuple[int, bytes]:
        self.asked.append((opcode, adapter, payload.hex()))
        return self._statuses.pop(0), self._data


def management(kernel: Kernel, *, connected_on: int | None = 1) -> Management:
    return Management(
        release=True,
        parameters=True,
        rssi=True,
        power=True,
        command=kernel,
        connected_on=lambda _: connected_on,
        adapters=lambda: [Adapter(0, "00:00:00:00:00:01", up=False), Adapter(1, "", up=True)],
    )


def event(kind: int, opcode: int, status: int, data: bytes = b"") -> bytes:
    body = struct.pack("<HB", opcode, status) + data
    return struct.pack("<HHH", kind, 0, len(body)) + body


def test_control_channel_belongs_to_no_adapter() -> None:
    assert CONTROL_CHANNEL.hex() == "1f00ffff0300"


def test_address_is_sent_last_byte_first() -> None:
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
        kernel = Kernel(0x02, 0x00)

        await management(kernel).disconnect(ADDRESS)

        assert kernel.asked == [(0x0014, 1, PUBLIC), (0x0014, 1, RANDOM)]

    async def test_disconnect_sends_nothing_without_a_connection(self) -> None:
        kernel = Kernel()

        await management(kernel, connected_on=None).disconnect(ADDRESS)

        assert kernel.asked == []

    async def test_refused_disconnect_is_an_error(self) -> None:
        with pytest.raises(ManagementError, match="0x0a"):
            await management(Kernel(0x0A)).disconnect(ADDRESS)


class TestParameters:
    async def test_parameters_are_loaded_for_all_batteries_on_every_powered_adapter(self) -> None:
        kernel = Kernel(0)

        await management(kernel).load_parameters([ADDRESS])

        fast = "0600090000009001"
        assert kernel.asked == [(0x0035, 1, f"0200{PUBLIC}{fast}{RANDOM}{fast}")]

    async def test_refused_parameters_are_an_error(self) -> None:
        with pytest.raises(ManagementError, match="0x0d"):
            await management(Kernel(0x0D)).load_parameters([ADDRESS])


class TestRssi:
    @pytest.mark.parametrize(("raw", "rssi_dbm"), [(b"\xbd", -67), (b"\x7f", None)])
    async def test_rssi_is_signed_and_127_is_unknown(
        self, raw: bytes, rssi_dbm: int | None
    ) -> None:
        kernel = Kernel(0, data=bytes(7) + raw)

        assert await management(kernel).rssi_dbm(ADDRESS) == rssi_dbm

    async def test_rssi_is_unknown_without_a_connection(self) -> None:
        assert await management(Kernel(2, 2)).rssi_dbm(ADDRESS) is None
        assert await management(Kernel(), connected_on=None).rssi_dbm(ADDRESS) is None


class TestPower:
    async def test_adapter_is_switched_on(self) -> None:
        kernel = Kernel(0)

        await management(kernel).switch_on(1)

        assert kernel.asked == [(0x0005, 1, "01")]

    async def test_switching_on_a_blocked_adapter_is_an_error(self) -> None:
        with pytest.raises(ManagementError, match="0x12"):
            await management(Kernel(0x12)).switch_on(1)


class TestPermission:
    async def test_missing_capability_is_reported(self) -> None:
        assert await why_not(Kernel(0x14)) == "CAP_NET_ADMIN is not given"

    @pytest.mark.parametrize("status", [0x00, 0x11, 0x0F])
    async def test_capability_is_found_without_an_adapter(self, status: int) -> None:
        assert await why_not(Kernel(status)) is None

    async def test_missing_socket_is_reported(self) -> None:
        async def no_socket(*_: object) -> tuple[int, bytes]:
            raise OSError(97, "Address family not supported by protocol")

        assert "Address family" in (await why_not(no_socket) or "")

    async def test_silent_kernel_is_reported(self) -> None:
        async def silent(*_: object) -> tuple[int, bytes]:
            raise ManagementError("no answer to 0x0015 in 3 s")

        assert await why_not(silent) == "no answer to 0x0015 in 3 s"
