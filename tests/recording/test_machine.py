"""What the first line of a recording says about the machine."""

import json
from pathlib import Path

import pytest

from exporter.recording.machine import describe_machine


def write(root: Path, files: dict[str, str], links: dict[str, str] | None = None) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    for name, target in (links or {}).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(target)
    return root


def test_usb_adapter_is_described_by_its_ids_and_driver(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "proc/self/status": "Name:\tx\nCapEff:\t0000000000003000\n",
            "usb/1-1/idVendor": "0bda\n",
            "usb/1-1/idProduct": "8771\n",
            "usb/1-1/product": "Ann's radio\n",
            "usb/1-1/serial": "00E04C239987\n",
            "usb/1-1/1-1:1.0/bluetooth/hci0/address": "8c:88:2b:00:11:22\n",
        },
        {
            "sys/class/bluetooth/hci0": "../../../usb/1-1/1-1:1.0/bluetooth/hci0",
            "sys/class/bluetooth/hci0:64": "../../../usb/1-1/1-1:1.0/bluetooth/hci0",
            "usb/1-1/1-1:1.0/bluetooth/hci0/device": "../../../1-1:1.0",
            "usb/1-1/1-1:1.0/driver": "/bus/usb/drivers/btusb",
            "usb/1-1/1-1:1.0/subsystem": "/bus/usb",
        },
    )

    described = describe_machine(root)

    assert described["caps"] == ["net_admin", "net_raw"]
    assert described["adapters"] == [
        {"name": "hci0", "bus": "usb", "driver": "btusb", "usb": "0bda:8771"}
    ]


def test_chip_on_a_board_is_described_by_the_device_tree(tmp_path: Path) -> None:
    device = "sys/class/bluetooth/hci0/device"
    root = write(
        tmp_path,
        {f"{device}/of_node/compatible": "brcm,bcm43438-bt\0brcm,other\0"},
        {f"{device}/driver": "/drivers/hci_uart_bcm", f"{device}/subsystem": "/bus/serial"},
    )

    assert describe_machine(root)["adapters"] == [
        {"name": "hci0", "bus": "serial", "driver": "hci_uart_bcm", "chip": "brcm,bcm43438-bt"}
    ]


def test_machine_without_proc_and_sys_is_described_without_them(tmp_path: Path) -> None:
    described = describe_machine(tmp_path)

    assert (described["caps"], described["adapters"]) == (None, [])


@pytest.mark.parametrize("secret", ["8c:88:2b:00:11:22", "Ann's camper", "/home/ann", "a" * 99])
def test_text_of_another_form_is_not_recorded(secret: str, tmp_path: Path) -> None:
    device = "sys/class/bluetooth/hci0/device"
    root = write(
        tmp_path,
        {
            f"{device}/of_node/compatible": secret,
            "sys/class/bluetooth/hci0/idVendor": secret,
            "sys/class/bluetooth/hci0/idProduct": secret,
        },
        {f"{device}/driver": f"/x/{secret}-" if "/" not in secret else f"/x/{secret} "},
    )

    described = describe_machine(root)

    assert secret not in json.dumps(described)
    assert described["adapters"] == [{"name": "hci0"}]
