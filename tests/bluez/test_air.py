"""Scenarios with faults of the radio and of the adapter, in the virtual machine."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from camper import Camper, failures

from batteries import address
from world import World, info, set_faults, value, wait_disconnected

if TYPE_CHECKING:
    from vm_world import Foreigner, VmWorld

LOW_ENERGY = 0x000D  # settings of mgmt-api.txt
ADVERTISING = 0x0029
ONLY_DIRECT = pytest.mark.parametrize("link", ["direct"], indirect=True)
POLL_S = 14  # longer than the wait for a battery


@pytest.fixture
def vm(world: World) -> "VmWorld":
    if "direct" not in world.links:
        pytest.skip("only the virtual machine has a radio")
    return world  # type: ignore[return-value]


@pytest.fixture
def near(vm: "VmWorld", link: str, tmp_path: Path) -> Iterator[Camper]:
    """Return an exporter of one battery, with short polls."""
    one = Camper(vm, link, tmp_path, poll_timeout_s=POLL_S)
    with one.exporter:
        yield one


class TestRadio:
    def test_weak_battery_is_read_or_reported_as_heard(self, vm: "VmWorld", near: Camper) -> None:
        slow = {"advertise_ms": 1000, "gap_after_disconnect_s": 1.0}
        set_faults(vm, 0, lose_first=1)
        vm.air(establish_fails=1, early_loss=1, **slow)
        samples = near.check_reads()
        assert failures(samples) == {}
        if near.link == "direct":  # bluetoothd repeats some attempts by itself
            assert value(samples, "bms_connection_attempts_total", "b0") == 3

        vm.air(establish_fails=999, **slow)
        near.check_fails("connect")
        if near.link == "direct":
            near.check_logged("heard, but the connection did not come about")
        vm.air(hang_up=1, **slow)

        near.check_recovers()

    def test_two_batteries_share_an_adapter_with_one_connection(
        self, vm: "VmWorld", link: str, tmp_path: Path
    ) -> None:
        vm.air(slots=1, reject_second=True, advertise_ms=1000)
        camper = Camper(vm, link, tmp_path, batteries=2)
        with camper.exporter:
            camper.scrape()
            for number in range(2):
                camper.check_recovers(number)


class TestAdapter:
    def test_bluetooth_5_chip_reads_and_its_settings_are_named(
        self, vm: "VmWorld", link: str, tmp_path: Path
    ) -> None:
        vm.air(chip="5.0", advertise_ms=1000)
        vm.adapter("unplug")
        vm.adapter("plug")
        try:
            camper = Camper(vm, link, tmp_path, poll_timeout_s=POLL_S)
            with camper.exporter:
                camper.check_reads()
                with vm.setting(LOW_ENERGY, 0, usually=1):
                    camper.check_fails("adapter")
                    camper.check_logged("le on")
                camper.check_recovers()
        finally:
            vm.air()
            vm.adapter("unplug")

    def test_advertising_adapter_is_named(self, vm: "VmWorld", near: Camper) -> None:
        with vm.setting(ADVERTISING, 1, usually=0):
            near.scrape()  # may end before its poll does
            near.check_fails("adapter")
            near.check_logged("advertising off")

        near.check_recovers()

    @ONLY_DIRECT  # bluetoothd ignores the second adapter
    def test_second_adapter_with_the_same_address_is_named(
        self, vm: "VmWorld", link: str, tmp_path: Path
    ) -> None:
        vm.plug_second()
        try:
            camper = Camper(vm, link, tmp_path, poll_timeout_s=POLL_S)
            with camper.exporter:
                camper.scrape()
                log = camper.exporter.log()
                assert "two adapters have the same address" in log
                assert "used=hci1 other=hci0" in log
                vm.unplug_second()
                camper.check_recovers()
        finally:
            vm.unplug_second()

    @ONLY_DIRECT  # bluetoothd gives no reason
    def test_deaf_adapter_is_reported(self, vm: "VmWorld", near: Camper) -> None:
        vm.air(deaf=True)
        near.check_fails("adapter", "not_found", "connect")
        near.check_logged("hci0 does not answer")
        vm.adapter("off")
        vm.adapter("on")

        near.check_recovers()


def hold(vm: "VmWorld", foreigner: "Foreigner") -> None:
    """Let another program connect to battery 0."""
    foreigner.say("scan on")
    end_s = time.monotonic() + 20.0 * vm.patience
    while not info(vm, 0)["connected"]:
        assert time.monotonic() < end_s, "bluetoothctl does not connect"
        foreigner.say(f"connect {address(0)}")
        time.sleep(1.0)
    foreigner.say("scan off")


class TestOtherPrograms:
    @ONLY_DIRECT  # the signal never changes here, and bluetoothd reports changes to its clients
    def test_battery_is_read_beside_a_scanner(self, vm: "VmWorld", near: Camper) -> None:
        with vm.foreigner() as foreigner:
            foreigner.say("scan on")
            vm.wait_for_scan()  # the battery is reported before the exporter waits for it

            near.check_recovers()

    def test_battery_that_another_program_keeps_is_left_to_it(
        self, vm: "VmWorld", near: Camper
    ) -> None:
        near.check_reads()
        with vm.foreigner() as foreigner:
            hold(vm, foreigner)
            near.scrape()  # takes it
            hold(vm, foreigner)
            samples = near.scrape()
            assert value(samples, "bms_up", "b0") == 0, near.exporter.log()
            near.check_logged("another program")
            assert info(vm, 0)["connected"]
            foreigner.say(f"disconnect {address(0)}")
            wait_disconnected(vm, 0, timeout_s=10.0)

            near.check_recovers()
