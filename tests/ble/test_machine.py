"""An adapter that is configured by its address keeps it when Linux gives it another number."""

import errno

import pytest

from exporter.ble.direct import sockets
from exporter.ble.direct.sockets import Adapter
from exporter.ble.machine import resolve_adapter
from exporter.errors import AdapterError, FailureReason
from tests.support.att_server import HCI0

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
