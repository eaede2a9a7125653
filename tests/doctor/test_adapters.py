"""Adapters, their chips, their settings and their power, on machines that people have."""

from dataclasses import replace
from pathlib import Path

import pytest

from exporter.ble.direct.management import ManagementError
from exporter.ble.direct.sockets import Adapter
from exporter.doctor.adapter_checks import (
    check_adapter,
    check_presence,
    check_rfkill,
    check_settings,
)
from exporter.doctor.adapters import AdapterFacts, read_adapters
from exporter.doctor.check import State
from exporter.doctor.chips import check_chip, check_power
from exporter.doctor.files import Files
from exporter.doctor.wifi import check_wifi, read_wifi
from tests.support.machines import (
    ADVERTISING,
    CONTAINER,
    CSR_CLONE,
    LAPTOP,
    LOW_ENERGY,
    PI_4,
    PI_ZERO_2W,
    POWERED,
    PRIVACY,
    REALTEK_DONGLE,
    STATIC,
    Chip,
    FakeMachine,
)

UP = Adapter(0, "34:E1:2D:12:34:56", up=True)


async def adapter(machine: FakeMachine, folder: Path) -> AdapterFacts:
    (only,) = await read_adapters(machine.write(folder), machine.kernel(), machine.command)
    return only


async def with_chip(folder: Path, chip: Chip, one: Adapter = UP) -> AdapterFacts:
    return await adapter(FakeMachine(adapters=[one], chips=[chip]), folder)


class TestChip:
    async def test_adapter_of_a_raspberry_pi_is_described(self, tmp_path: Path) -> None:
        one = await adapter(PI_ZERO_2W, tmp_path)

        assert check_adapter(one).text == "up, Bluetooth 4.2, on UART, B8:27:EB:12:34:56"
        chip = check_chip(one)
        assert chip.text.startswith("Broadcom, brcm,bcm43438-bt, hci_uart_bcm; ")
        assert chip.state is State.NOTE
        assert chip.facts["limits"] == ["broadcom_uart"]
        assert chip.facts["most_connections"] == 7

    async def test_laptop_adapter_may_be_suspended(self, tmp_path: Path) -> None:
        one = await adapter(LAPTOP, tmp_path)

        assert check_chip(one).text == "Intel, 8087:0a2b, btusb"
        assert check_chip(one).state is State.OK
        power = check_power(one)
        assert power.state is State.NOTE
        assert power.facts == {
            "control": "auto",
            "runtime_status": "active",
            "usb_mbit_s": "12",
        }

    async def test_suspended_adapter_gets_a_warning(self, tmp_path: Path) -> None:
        one = replace(await adapter(LAPTOP, tmp_path), runtime_status="suspended")

        assert check_power(one).state is State.WARN
        assert "enable_autosuspend=0" in (check_power(one).advice or "")

    async def test_realtek_dongle_needs_firmware(self, tmp_path: Path) -> None:
        one = await adapter(REALTEK_DONGLE, tmp_path)

        assert one.name == "hci1"
        assert check_chip(one).facts["limits"] == ["rtl8761b"]
        assert check_power(one).state is State.OK

    async def test_csr_clone_gets_a_warning(self, tmp_path: Path) -> None:
        chip = check_chip(await adapter(CSR_CLONE, tmp_path))

        assert chip.state is State.WARN
        assert "counterfeit" in chip.text

    async def test_unknown_maker_is_shown_by_its_number(self, tmp_path: Path) -> None:
        assert check_chip(await with_chip(tmp_path, Chip(maker=999))).text == "maker 999"


class TestState:
    async def test_adapter_that_is_off_fails(self, tmp_path: Path) -> None:
        check = check_adapter(await with_chip(tmp_path, Chip(), replace(UP, up=False)))

        assert check.state is State.FAIL
        assert "bluetoothctl power on" in (check.advice or "")

    async def test_adapter_that_is_not_configured_fails(self, tmp_path: Path) -> None:
        check = check_adapter(await with_chip(tmp_path, Chip(kind=1)))

        assert check.state is State.FAIL
        assert "not configured" in check.text

    async def test_adapter_of_another_program_fails(self, tmp_path: Path) -> None:
        check = check_adapter(await with_chip(tmp_path, Chip(kind=None)))

        assert check.state is State.FAIL
        assert "user channel" in check.text

    @pytest.mark.parametrize("address", ["43:45:C0:00:1F:AC", "AA:AA:AA:AA:AA:AA"])
    async def test_default_address_gets_a_warning(self, address: str, tmp_path: Path) -> None:
        check = check_adapter(await with_chip(tmp_path, Chip(), replace(UP, address=address)))

        assert check.state is State.WARN
        assert check.facts["default_address"]

    async def test_adapter_before_bluetooth_4_fails(self, tmp_path: Path) -> None:
        check = check_adapter(await with_chip(tmp_path, Chip(version=4)))

        assert check.state is State.FAIL

    def test_machine_without_an_adapter_fails(self) -> None:
        assert check_presence([]).state is State.FAIL

    def test_two_adapters_with_one_address_fail(self) -> None:
        two = [AdapterFacts(index=n, address=UP.address, is_up=True) for n in (0, 1)]
        other = AdapterFacts(index=2, address="00:1B:DC:0F:AA:02", is_up=True)

        check = check_presence([*two, other])

        assert check.state is State.FAIL
        assert check.facts["same_address"] == ["hci0", "hci1"]
        assert check_presence([two[0], other]).state is State.OK

    @pytest.mark.parametrize("kind", ["soft", "hard"])
    async def test_blocked_adapter_fails_with_the_kind_of_block(
        self, kind: str, tmp_path: Path
    ) -> None:
        files = dict(LAPTOP.files)
        files[f"sys/devices/usb-hci0/1.0/bluetooth/hci0/rfkill0/{kind}"] = "1\n"

        check = check_rfkill([await adapter(replace(LAPTOP, files=files), tmp_path)])

        assert check.state is State.FAIL
        assert check.facts == {"blocked": {"hci0": kind}}
        assert ("rfkill unblock" in (check.advice or "")) is (kind == "soft")

    async def test_unblocked_adapter_is_well(self, tmp_path: Path) -> None:
        assert check_rfkill([await adapter(LAPTOP, tmp_path)]).state is State.OK


class TestSettings:
    @pytest.mark.parametrize(
        ("settings", "state", "text"),
        [
            (POWERED | LOW_ENERGY, State.OK, "Low Energy on, advertising off"),
            (POWERED, State.FAIL, "Low Energy is off"),
            (POWERED | LOW_ENERGY | ADVERTISING, State.FAIL, "it advertises itself"),
            (POWERED | LOW_ENERGY | PRIVACY, State.NOTE, "privacy is on"),
            (POWERED | LOW_ENERGY | STATIC, State.NOTE, "static"),
        ],
    )
    async def test_setting_that_prevents_connections_fails(
        self, settings: int, state: State, text: str, tmp_path: Path
    ) -> None:
        one = await with_chip(tmp_path, Chip(settings=settings))
        check = check_settings(one)

        assert check.state is state
        assert text in check.text
        assert one.is_usable is (state is not State.FAIL)

    async def test_classic_adapter_fails(self, tmp_path: Path) -> None:
        check = check_settings(await with_chip(tmp_path, Chip(supported=1, settings=1)))

        assert check.state is State.FAIL
        assert check.text == "cannot do Low Energy"

    async def test_kernel_that_does_not_answer_leaves_the_settings_unknown(
        self, tmp_path: Path
    ) -> None:
        async def silent(*_: object) -> tuple[int, bytes]:
            raise ManagementError("no answer")

        (one,) = await read_adapters(Files(tmp_path), LAPTOP.kernel(), silent)

        assert check_settings(one).state is State.UNKNOWN
        assert check_adapter(one).state is State.OK
        assert one.is_usable


class TestWifi:
    def test_wifi_on_the_same_chip_that_is_the_way_out_gets_a_warning(self, tmp_path: Path) -> None:
        check = check_wifi(read_wifi(PI_4.write(tmp_path)), has_onboard_adapter=True)

        assert check.state is State.WARN
        assert "5 GHz" in (check.advice or "")

    def test_usb_adapter_does_not_share_the_antenna(self, tmp_path: Path) -> None:
        check = check_wifi(read_wifi(PI_4.write(tmp_path)), has_onboard_adapter=False)

        assert check.state is State.OK

    def test_cable_makes_the_shared_antenna_a_note(self, tmp_path: Path) -> None:
        route = PI_4.files["proc/net/route"].replace("wlan0\t00000000", "eth0\t00000000")
        machine = replace(PI_4, files={**PI_4.files, "proc/net/route": route})

        check = check_wifi(read_wifi(machine.write(tmp_path)), has_onboard_adapter=True)

        assert check.state is State.NOTE

    def test_machine_without_a_network_is_well(self, tmp_path: Path) -> None:
        check = check_wifi(read_wifi(CONTAINER.write(tmp_path)), has_onboard_adapter=False)

        assert check.state is State.OK
