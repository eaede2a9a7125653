"""The settings of an adapter are read without a capability, and used to connect or to explain."""

import asyncio
import errno
import struct
from contextlib import suppress
from dataclasses import replace

import pytest

from exporter.ble.direct.management import ManagementError
from exporter.ble.direct.settings import (
    NOT_MANAGED,
    Setting,
    find_adapter,
    open_channel,
    read_settings,
)
from exporter.ble.direct.sockets import ANY_ADDRESS, PUBLIC, Adapter
from exporter.errors import AdapterError
from tests.support.att_server import HCI0, Air
from tests.support.direct_battery import quick
from tests.support.virtual import ADDRESS

POWERED = Setting(1)


class Information:
    """A kernel that answers Read Controller Information."""

    def __init__(self, settings: Setting = POWERED, *, status: int = 0) -> None:
        self.asked: list[tuple[int, int]] = []
        self._answer = (
            status,
            b"" if status else bytes(9) + struct.pack("<II", 0x1FFFF, settings) + bytes(263),
        )

    async def __call__(self, opcode: int, adapter: int, payload: bytes) -> tuple[int, bytes]:
        assert payload == b""
        self.asked.append((opcode, adapter))
        return self._answer


class TestReading:
    @pytest.mark.parametrize("setting", list(Setting))
    async def test_each_setting_is_read(self, setting: Setting) -> None:
        settings = await read_settings(Information(POWERED | setting), 1)

        assert settings is not None
        assert [one for one in Setting if one in settings] == [setting]

    async def test_adapter_that_the_kernel_does_not_manage_has_no_setting(self) -> None:
        assert await read_settings(Information(status=0x11), 1) == NOT_MANAGED

    async def test_settings_are_unknown_after_any_other_refusal(self) -> None:
        assert await read_settings(Information(status=0x0B), 1) is None

    @pytest.mark.parametrize(
        "error", [OSError(errno.EAFNOSUPPORT, "no sockets"), ManagementError("no answer")]
    )
    async def test_settings_are_unknown_without_an_answer(self, error: Exception) -> None:
        async def fail(*_: object) -> tuple[int, bytes]:
            raise error

        assert await read_settings(fail, 1) is None


class TestStaticAddress:
    @staticmethod
    async def attempts(information: Information, adapters: list[Adapter]) -> list[str]:
        """Connect over an adapter that the kernel does not find by its address."""
        air = Air({ADDRESS: quick()}, adapters=adapters)
        air.errors = [OSError(errno.EHOSTUNREACH, "No route to host")]
        with suppress(OSError):
            sock = await open_channel(air.make_kernel(), information, HCI0, ADDRESS, PUBLIC)
            sock.close()
            await asyncio.sleep(0.01)
        return [adapter for _, adapter in air.attempts]

    @pytest.mark.looptime(False)  # noqa: FBT003 - sockets live in real time
    async def test_only_adapter_is_used_without_its_address(self) -> None:
        settings = POWERED | Setting.LOW_ENERGY | Setting.STATIC_ADDRESS

        assert await self.attempts(Information(settings), [HCI0]) == [HCI0.address, ANY_ADDRESS]

    async def test_adapter_beside_others_is_never_taken_for_them(self) -> None:
        other = Adapter(1, "00:1B:DC:0F:AA:02", up=True)
        information = Information(POWERED | Setting.STATIC_ADDRESS)

        assert await self.attempts(information, [HCI0, other]) == [HCI0.address]

    async def test_adapter_with_its_public_address_is_not_tried_again(self) -> None:
        assert await self.attempts(Information(POWERED), [HCI0]) == [HCI0.address]


class TestFinding:
    async def test_adapter_that_is_off_and_not_managed_is_not_told_to_be_switched_on(self) -> None:
        kernel = Air({}, adapters=[replace(HCI0, up=False)]).make_kernel()

        with pytest.raises(AdapterError, match="hci0 is not configured, or another program"):
            await find_adapter(kernel, Information(status=0x11), None, ADDRESS)
        with pytest.raises(AdapterError, match="hci0 is switched off"):
            await find_adapter(kernel, Information(), None, ADDRESS)

    async def test_adapter_that_the_kernel_takes_for_another_is_not_used(self) -> None:
        older = replace(HCI0, order=1)
        newer = replace(HCI0, index=1, order=0)
        kernel = Air({}, adapters=[older, newer]).make_kernel()
        information = Information()

        with pytest.raises(AdapterError, match="hci0 and hci1 have the same address") as caught:
            await find_adapter(kernel, information, "hci0", ADDRESS)

        assert caught.value.cause is None  # bluetoothd finds its way by the address, too
        for name in ("hci1", None):
            assert (await find_adapter(kernel, information, name, ADDRESS)).name == "hci1"

    async def test_adapter_that_is_off_is_no_twin(self) -> None:
        twins = [HCI0, replace(HCI0, index=1, up=False)]
        kernel = Air({}, adapters=twins).make_kernel()

        assert (await find_adapter(kernel, Information(), "hci0", ADDRESS)) == HCI0

    async def test_adapters_without_a_public_address_are_no_twins(self) -> None:
        blank = replace(HCI0, address=ANY_ADDRESS)
        kernel = Air({}, adapters=[blank, replace(blank, index=1)]).make_kernel()

        assert (await find_adapter(kernel, Information(), "hci1", ADDRESS)).name == "hci1"
