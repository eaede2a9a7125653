"""Machines as `doctor` sees them: their files, and what the kernel's sockets say of their adapters.

The files are those of such machines, as far as `doctor` reads them.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from exporter.ble.direct.kernel import Kernel
from exporter.ble.direct.management import PERMISSION_DENIED, SUCCESS
from exporter.ble.direct.sockets import Adapter
from exporter.doctor.files import Files

USB, UART = 1, 3
POWERED, LOW_ENERGY, ADVERTISING, PRIVACY, STATIC = 1 << 0, 1 << 9, 1 << 10, 1 << 13, 1 << 15
USER: Final = "CapEff:\t0000000000000000\nSeccomp:\t0\nNoNewPrivs:\t0\nPPid:\t0\n"
WIFI_ROUTE: Final = (
    "Iface\tDestination\tGateway\nwlan0\t00000000\t0101A8C0\nwlan0\t0001A8C0\t00000000\n"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """What the management socket says of one adapter."""

    bus: int = USB
    version: int = 8
    maker: int = 15
    supported: int = 0xFFFF
    settings: int = POWERED | LOW_ENERGY
    kind: int | None = 0  # 1: not configured; None: not listed


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeMachine:
    """One machine."""

    files: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    adapters: Sequence[Adapter] = ()
    chips: Sequence[Chip] = ()  # one for each adapter
    processor: str = "aarch64"
    bits: int = 64
    release: str = "6.12.47+rpt-rpi-v8"
    version: str = "#1 SMP PREEMPT"
    capable: bool = False

    def write(self, folder: Path) -> Files:
        """Write the files below a folder."""
        for path, text in (
            {"proc/self/status": USER, "proc/1/cmdline": "/sbin/init"} | dict(self.files)
        ).items():
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        for path, target in self.links.items():
            link = folder / path
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(target)
            (link.parent / target).mkdir(parents=True, exist_ok=True)
        return Files(folder)

    @property
    def uname(self) -> Any:
        return SimpleNamespace(machine=self.processor, release=self.release, version=self.version)

    def kernel(self) -> Kernel:
        return Kernel(
            adapters=lambda: list(self.adapters),
            connected_on=lambda _: None,
            connections=lambda _: [],
        )

    async def command(self, opcode: int, adapter: int, _payload: bytes) -> tuple[int, bytes]:
        """Answer the management commands of `doctor`."""
        listed = [
            (one.index, chip.kind, chip.bus)
            for one, chip in zip(self.adapters, self.chips, strict=True)
            if chip.kind is not None
        ]
        match opcode:
            case 0x003C:
                entries = b"".join(struct.pack("<HBB", *entry) for entry in listed)
                return SUCCESS, struct.pack("<H", len(listed)) + entries
            case 0x0004:
                for one, chip in zip(self.adapters, self.chips, strict=True):
                    if one.index == adapter and chip.kind == 0:
                        numbers = chip.version, chip.maker, chip.supported, chip.settings
                        return SUCCESS, struct.pack("<6sBHII", bytes(6), *numbers) + bytes(263)
                return 0x11, b""
        return (SUCCESS if self.capable else PERMISSION_DENIED), b""


def usb_files(
    hci: str, vendor: str, product: str, name: str, control: str = "on"
) -> dict[str, str]:
    """Return the files of a USB adapter."""
    device = f"sys/devices/usb-{hci}"
    return {
        f"{device}/idVendor": vendor + "\n",
        f"{device}/idProduct": product + "\n",
        f"{device}/product": name + "\n",
        f"{device}/speed": "12\n",
        f"{device}/power/control": control + "\n",
        f"{device}/power/runtime_status": "active\n",
        f"{device}/1.0/bluetooth/{hci}/rfkill0/soft": "0\n",
        f"{device}/1.0/bluetooth/{hci}/rfkill0/hard": "0\n",
    }


def usb_links(hci: str) -> dict[str, str]:
    device = f"sys/devices/usb-{hci}/1.0"
    return {
        f"sys/class/bluetooth/{hci}": f"../../devices/usb-{hci}/1.0/bluetooth/{hci}",
        f"{device}/bluetooth/{hci}/device": "../../../1.0",
        f"{device}/driver": "../../../bus/usb/drivers/btusb",
    }


def pi(model: str, compatible: str, **options: Any) -> FakeMachine:
    """Return a Raspberry Pi with its own adapter on UART, and Wi-Fi as its way out."""
    options.setdefault("adapters", [Adapter(0, "B8:27:EB:12:34:56", up=True)])
    options.setdefault("chips", [Chip(bus=UART, version=8)])
    return FakeMachine(
        files={
            "proc/device-tree/model": model + "\0",
            "etc/os-release": 'NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
            "proc/net/route": WIFI_ROUTE,
            "sys/devices/serial0-0/of_node/compatible": f"{compatible}\0",
            "sys/devices/serial0-0/bluetooth/hci0/rfkill1/soft": "0\n",
        },
        links={
            "sys/class/bluetooth/hci0": "../../devices/serial0-0/bluetooth/hci0",
            "sys/devices/serial0-0/bluetooth/hci0/device": "../../../serial0-0",
            "sys/devices/serial0-0/driver": "../../bus/serial/drivers/hci_uart_bcm",
            "sys/class/net/wlan0": "../../devices/mmc1/net/wlan0",
            "sys/devices/mmc1/net/wlan0/phy80211": "../../ieee80211/phy0",
            "sys/devices/mmc1/net/wlan0/device": "../../../mmc1",
            "sys/devices/mmc1/driver": "../../bus/sdio/drivers/brcmfmac",
        },
        **options,
    )


PI_ZERO_2W: Final = pi("Raspberry Pi Zero 2 W Rev 1.0", "brcm,bcm43438-bt")
PI_4: Final = pi("Raspberry Pi 4 Model B Rev 1.4", "brcm,bcm4345c5", release="6.1.21-v8+")
PI_5: Final = pi("Raspberry Pi 5 Model B Rev 1.0", "brcm,bcm4345c5", release="6.6.51+rpt-rpi-2712")
PI_4_32_BIT: Final = pi(
    "Raspberry Pi 4 Model B Rev 1.4", "brcm,bcm4345c5", release="6.6.51+rpt-rpi-v8", bits=32
)
LAPTOP: Final = FakeMachine(
    files={
        "sys/class/dmi/id/product_name": "ThinkPad X280\n",
        "etc/os-release": "PRETTY_NAME=Debian GNU/Linux 13 (trixie)\n",
        **usb_files("hci0", "8087", "0a2b", "", control="auto"),
    },
    links=usb_links("hci0"),
    adapters=[Adapter(0, "34:E1:2D:12:34:56", up=True)],
    chips=[Chip(version=8, maker=2)],
    processor="x86_64",
    release="6.12.43+deb13-amd64",
    capable=True,
)
REALTEK_DONGLE: Final = FakeMachine(
    files=usb_files("hci1", "0bda", "8771", "Bluetooth Radio"),
    links=usb_links("hci1"),
    adapters=[Adapter(1, "E8:48:B8:12:34:56", up=True)],
    chips=[Chip(version=10, maker=93)],
    release="6.6.51",
)
CSR_CLONE: Final = FakeMachine(
    files=usb_files("hci0", "0a12", "0001", "CSR8510 A10"),
    links=usb_links("hci0"),
    adapters=[Adapter(0, "00:1A:7D:DA:71:13", up=True)],
    chips=[Chip(version=6, maker=10)],
    release="6.6.51",
)
CONTAINER: Final = FakeMachine(
    files={
        ".dockerenv": "",
        "etc/os-release": 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
        "proc/self/status": "CapEff:\t00000000a80425fb\nSeccomp:\t2\nNoNewPrivs:\t0\n",
    },
    processor="x86_64",
    release="6.6.51",
)
MACHINES: Final[Mapping[str, FakeMachine]] = {
    "Pi Zero 2 W": PI_ZERO_2W,
    "Pi 4": PI_4,
    "Pi 5": PI_5,
    "Pi 4 with 32 bit": PI_4_32_BIT,
    "laptop": LAPTOP,
    "RTL8761B": REALTEK_DONGLE,
    "CSR clone": CSR_CLONE,
    "container": CONTAINER,
}
