"""Scenarios with faults of the radio and of the adapter, in the virtual machine."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from camper import Camper, failures

from world import World, set_faults, value

if TYPE_CHECKING:
    from vm_world import VmWorld

LOW_ENERGY = 0x000D  # a setting of mgmt-api.txt
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
                    if link == "direct":  # bluetoothd 5.82 says only "in progress"
                        camper.check_logged("le on")
                camper.check_recovers()
        finally:
            vm.air()
            vm.adapter("unplug")

    @pytest.mark.parametrize("link", ["direct"], indirect=True)  # bluetoothd gives no reason
    def test_deaf_adapter_is_reported(self, vm: "VmWorld", near: Camper) -> None:
        vm.air(deaf=True)
        near.check_fails("adapter", "not_found", "connect")
        near.check_logged("hci0 does not answer")
        vm.adapter("off")
        vm.adapter("on")

        near.check_recovers()
