"""An adapter that is configured by its address keeps it when Linux gives it another number."""

import errno
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from exporter.ble import machine
from exporter.ble.direct import sockets
from exporter.ble.direct.sockets import Adapter
from exporter.ble.machine import build_routes, resolve_adapter
from exporter.config.schema import BatteryConfig, Config, Name, TransportChoice, normal_address
from exporter.errors import AdapterError, FailureReason
from tests.support.att_server import HCI0
from tests.support.virtual import ADDRESS

MOVED = Adapter(3, "00:1A:7D:DA:71:13", up=True)


@pytest.fixture(autouse=True)
def present(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "adapters", lambda: [HCI0, MOVED])


def test_address_is_resolved_to_the_present_number() -> None:
    assert resolve_adapter(MOVED.address) == "hci3"


def test_name_is_taken_as_it_is() -> None:
    assert resolve_adapter("hci7") == "hci7"


def test_adapter_that_is_not_plugged_in_is_an_error_that_lists_the_others() -> None:
    with pytest.raises(AdapterError, match=r"Present: hci0 \(00:1B.*hci3 \(00:1A") as caught:
        resolve_adapter("00:00:00:00:00:01")
    assert caught.value.reason is FailureReason.ADAPTER


def test_machine_without_sockets_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> list[Adapter]:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    monkeypatch.setattr(sockets, "adapters", refuse)

    with pytest.raises(AdapterError, match="name the adapter"):
        resolve_adapter(MOVED.address)


async def test_two_adapters_with_one_address_are_reported_at_the_start(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    twin = replace(MOVED, index=4, order=0)
    monkeypatch.setattr(sockets, "adapters", lambda: [HCI0, replace(MOVED, order=1), twin])
    monkeypatch.setattr(sockets, "why_not", lambda: None)
    battery = BatteryConfig(name=Name("camper"), address=normal_address(ADDRESS))

    await build_routes(Config(batteries=(battery,), link=TransportChoice.DIRECT))

    (record,) = (one for one in caplog.records if one.levelno == logging.WARNING)
    assert (vars(record)["address"], vars(record)["used"], vars(record)["other"]) == (
        MOVED.address,
        "hci4",
        "hci3",
    )
    assert resolve_adapter(MOVED.address) == "hci4"  # the one that is used


class TestStart:
    """What the start says of Bluetooth."""

    CONFIG = Config(
        batteries=(BatteryConfig(name=Name("camper"), address=normal_address(ADDRESS)),)
    )

    async def test_link_is_named_in_plain_words(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO")
        monkeypatch.setattr(sockets, "why_not", lambda: None)

        await build_routes(self.CONFIG)

        assert caplog.messages[0] == "batteries are read over the kernel's Bluetooth sockets"
        assert vars(caplog.records[0])["link"] == "direct"

    async def test_machine_without_an_adapter_gets_one_sentence(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO")
        monkeypatch.setattr(sockets, "why_not", lambda: None)
        monkeypatch.setattr(sockets, "adapters", list)

        await build_routes(self.CONFIG)

        assert caplog.messages == [
            "no Bluetooth adapter is switched on yet: see bluetoothctl list, rfkill list"
        ]

    @pytest.mark.parametrize(
        ("bus", "message"),
        [
            (None, "no Bluetooth here, neither the kernel's nor bluetoothd: bms-exporter doctor"),
            ("unix:path=/run/bus", "batteries are read through bluetoothd"),
        ],
    )
    async def test_machine_without_bluetooth_sockets_gets_one_sentence(
        self,
        bus: str | None,
        message: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level("INFO")
        monkeypatch.setattr(sockets, "why_not", lambda: "no Bluetooth sockets")
        monkeypatch.setattr(machine, "SYSTEM_BUS", str(tmp_path / "none"))
        monkeypatch.delenv("DBUS_SYSTEM_BUS_ADDRESS", raising=False)
        if bus is not None:
            monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus)

        await build_routes(self.CONFIG)

        (said,) = caplog.messages
        assert said.startswith(message)
