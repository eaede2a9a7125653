"""Reads what the kernel and /sys say about the Bluetooth adapters."""

import struct
from dataclasses import dataclass
from typing import Final

from exporter.ble.direct.kernel import Kernel
from exporter.ble.direct.management import SUCCESS, Command, ManagementError
from exporter.doctor.files import Files

# Management commands that need no capability. Source: Linux, net/bluetooth/mgmt.c,
# mgmt_untrusted_commands; their layout: BlueZ, doc/mgmt-api.txt.
READ_CONTROLLER_INFORMATION: Final = 0x0004
READ_EXTENDED_INDEX_LIST: Final = 0x003C
NO_ADAPTER: Final = 0xFFFF
INFORMATION: Final = struct.Struct("<6sBHII")  # address, version, maker, supported and current
UNCONFIGURED: Final = 1
BUSES: Final = ("virtual", "USB", "PCCARD", "UART", "RS232", "PCI", "SDIO", "SPI", "I2C", "SMD")
# Bits of the settings.
POWERED, LOW_ENERGY, ADVERTISING, PRIVACY, STATIC = 0, 9, 10, 13, 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Controller:
    """What the kernel's management socket says about an adapter."""

    version: int
    maker: int  # a company's number
    supported: int
    settings: int

    def has(self, bit: int) -> bool:
        """Return whether a setting is on."""
        return bool(self.settings >> bit & 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterFacts:
    """One adapter, from the kernel's list, its management socket and /sys."""

    index: int
    address: str
    is_up: bool
    bus: str | None = None
    is_listed: bool | None = None  # by the management socket; None: it did not answer
    is_configured: bool = True
    controller: Controller | None = None
    usb_id: str | None = None  # 0bda:8771
    product: str | None = None
    driver: str | None = None
    usb_mbit_s: str | None = None
    power_control: str | None = None  # auto or on
    runtime_status: str | None = None  # active or suspended
    rfkill: str | None = None  # soft or hard

    @property
    def name(self) -> str:
        """hci0 and the like."""
        return f"hci{self.index}"

    @property
    def is_usable(self) -> bool:
        """Whether it is on, and nothing known keeps it from connecting to batteries."""
        one = self.controller
        return self.is_up and (one is None or (one.has(LOW_ENERGY) and not one.has(ADVERTISING)))


async def read_adapters(files: Files, kernel: Kernel, command: Command) -> list[AdapterFacts]:
    """Return every adapter. Raises OSError if this machine has no Bluetooth sockets."""
    present = kernel.adapters()
    listed = await _read_index_list(command) if present else None
    found = []
    for one in present:
        kind, bus = (listed or {}).get(one.index, (None, None))
        found.append(
            AdapterFacts(
                index=one.index,
                address=one.address,
                is_up=one.up,
                bus=None if bus is None or bus >= len(BUSES) else BUSES[bus],
                is_listed=None if listed is None else kind is not None,
                is_configured=kind != UNCONFIGURED,
                controller=await _read_controller(command, one.index),
                rfkill=_read_rfkill(files, f"sys/class/bluetooth/{one.name}"),
                **_read_device(files, f"sys/class/bluetooth/{one.name}/device"),
            )
        )
    return found


async def _read_index_list(command: Command) -> dict[int, tuple[int, int]] | None:
    """Return type and bus by index; None: the kernel did not answer."""
    try:
        status, data = await command(READ_EXTENDED_INDEX_LIST, NO_ADAPTER, b"")
    except (OSError, ManagementError):
        return None
    if status != SUCCESS:
        return None
    entries = data[2 : 2 + (len(data) - 2) // 4 * 4]
    return {index: (kind, bus) for index, kind, bus in struct.iter_unpack("<HBB", entries)}


async def _read_controller(command: Command, index: int) -> Controller | None:
    try:
        status, data = await command(READ_CONTROLLER_INFORMATION, index, b"")
    except (OSError, ManagementError):
        return None
    if status != SUCCESS or len(data) < INFORMATION.size:
        return None
    _, version, maker, supported, settings = INFORMATION.unpack_from(data)
    return Controller(version=version, maker=maker, supported=supported, settings=settings)


def _read_device(files: Files, device: str) -> dict[str, str | None]:
    """Return what /sys says about the chip; a USB adapter is an interface of its device."""
    driver = files.target(f"{device}/driver")
    usb = f"{files.real(device)}/.."
    ids = [files.text(f"{usb}/{name}") for name in ("idVendor", "idProduct")]
    if None in ids:
        compatible = files.text(f"{device}/of_node/compatible")
        return {"driver": driver, "product": compatible and compatible.split()[0]}
    return {
        "driver": driver,
        "usb_id": f"{ids[0]}:{ids[1]}",
        "product": files.text(f"{usb}/product"),
        "usb_mbit_s": files.text(f"{usb}/speed"),
        "power_control": files.text(f"{usb}/power/control"),
        "runtime_status": files.text(f"{usb}/power/runtime_status"),
    }


def _read_rfkill(files: Files, adapter: str) -> str | None:
    for switch in files.matching(f"{adapter}/rfkill*"):
        for kind in ("hard", "soft"):
            if files.text(f"{switch}/{kind}") == "1":
                return kind
    return None
