"""Checks of the Bluetooth adapters: present, switched on, set up for Low Energy."""

import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from exporter.ble.direct.kernel import Kernel
from exporter.ble.direct.management import SUCCESS, Command, ManagementError
from exporter.ble.direct.sockets import ANY_ADDRESS
from exporter.doctor.check import Check, Fact, State
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
# Source: Bluetooth SIG, Assigned Numbers, core versions.
VERSIONS: Final[Mapping[int, str]] = {
    6: "4.0", 7: "4.1", 8: "4.2", 9: "5.0", 10: "5.1", 11: "5.2", 12: "5.3", 13: "5.4", 14: "6.0",
}  # fmt: skip
FIRST_WITH_LOW_ENERGY: Final = 6
# Addresses that many devices share: no address, or one that the firmware was never given.
# Sources: pi-bluetooth issues 12 and 29; dbus-serialbattery issue 777.
DEFAULT_ADDRESSES: Final = (ANY_ADDRESS, "AA:AA:AA:AA:AA:AA", "43:4")


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


def check_presence(adapters: Sequence[AdapterFacts]) -> Check:
    """Check that there is an adapter, and that no two have the same address."""
    facts: dict[str, Fact] = {"count": len(adapters)}
    if not adapters:
        return Check(
            id="adapters",
            state=State.FAIL,
            text="no Bluetooth adapter",
            facts=facts,
            advice="plug one in; if there should be one, look for its firmware: "
            "sudo dmesg | grep Bluetooth",
        )
    names = ", ".join(one.name for one in adapters)
    counted = Counter(one.address for one in adapters if one.address != ANY_ADDRESS)
    shared = [one.name for one in adapters if counted[one.address] > 1]
    facts["same_address"] = shared
    if shared:
        return Check(
            id="adapters",
            state=State.FAIL,
            text=f"{' and '.join(shared)} have the same address: the kernel connects over the "
            "first of them, whichever is configured",
            facts=facts,
            advice=f"unplug {shared[-1]}, or set link: bluez",
        )
    return Check(id="adapters", state=State.OK, text=names, facts=facts)


def check_rfkill(adapters: Sequence[AdapterFacts]) -> Check:
    """Check that no switch blocks an adapter."""
    blocked = {one.name: one.rfkill for one in adapters if one.rfkill}
    if not blocked:
        return Check(id="rfkill", state=State.OK, text="not blocked", facts={"blocked": {}})
    name, kind = next(iter(blocked.items()))
    return Check(
        id="rfkill",
        state=State.FAIL,
        text=f"{name} is blocked by {'a switch or the firmware' if kind == 'hard' else 'software'}",
        facts={"blocked": blocked},
        advice="use the machine's wireless switch, its keys or its firmware settings"
        if kind == "hard"
        else "run rfkill unblock bluetooth, then bluetoothctl power on",
    )


def check_adapter(one: AdapterFacts) -> Check:
    """Check that one adapter is on, configured and has an address of its own."""
    controller = one.controller
    version = VERSIONS.get(controller.version, "") if controller else ""
    state, text, advice = _adapter_state(one)
    named = [f"Bluetooth {version}"] * bool(version) + [f"on {one.bus}"] * bool(one.bus)
    return Check(
        id="adapter",
        subject=one.name,
        state=state,
        text=", ".join([text, *named, one.address]),
        facts={
            "up": one.is_up,
            "listed": one.is_listed,
            "configured": one.is_configured,
            "bus": one.bus,
            "version": version or None,
            "default_address": one.address.startswith(DEFAULT_ADDRESSES),
        },
        advice=advice,
    )


def _adapter_state(one: AdapterFacts) -> tuple[State, str, str | None]:
    if not one.is_configured:
        return (
            State.FAIL,
            "not configured: it has no address or no firmware",
            ("install the adapter's firmware (on a Raspberry Pi: pi-bluetooth), then reboot"),
        )
    if one.is_listed is False:
        return (
            State.FAIL,
            "another program has it for itself (user channel)",
            ("stop that program: bluetoothctl list does not show this adapter while it runs"),
        )
    if not one.is_up:
        return (
            State.FAIL,
            "switched off",
            (f"run bluetoothctl power on, or: sudo btmgmt --index {one.name} power on"),
        )
    if one.address.startswith(DEFAULT_ADDRESSES):
        return (
            State.WARN,
            "up, with an address that others share",
            ("two such adapters in range disturb each other: give it an address of its own"),
        )
    if one.controller and one.controller.version < FIRST_WITH_LOW_ENERGY:
        return State.FAIL, "too old for Low Energy", "use an adapter with Bluetooth 4.0 or newer"
    return State.OK, "up", None


def check_settings(one: AdapterFacts) -> Check:
    """Check the settings that turn a connect into something else."""
    controller = one.controller
    if controller is None:
        return Check(
            id="adapter.settings",
            subject=one.name,
            state=State.UNKNOWN,
            text=f"the kernel did not answer: sudo btmgmt --index {one.name} info",
        )
    facts: dict[str, Fact] = {
        "powered": controller.has(POWERED),
        "low_energy": controller.has(LOW_ENERGY),
        "advertising": controller.has(ADVERTISING),
        "privacy": controller.has(PRIVACY),
        "static_address": controller.has(STATIC),
    }
    state, text, advice = State.OK, "Low Energy on, advertising off", None
    if not controller.supported >> LOW_ENERGY & 1:
        state, text, advice = State.FAIL, "cannot do Low Energy", "use another adapter"
    elif not controller.has(LOW_ENERGY):
        state, text = State.FAIL, "Low Energy is off: nothing can connect"
        advice = (
            f"run sudo btmgmt --index {one.name} le on; remove ControllerMode = bredr from "
            "/etc/bluetooth/main.conf"
        )
    elif controller.has(ADVERTISING):
        state, text = State.FAIL, "it advertises itself, and connects to nothing meanwhile"
        advice = f"run sudo btmgmt --index {one.name} advertising off"
    elif controller.has(PRIVACY) or controller.has(STATIC):
        kind = "privacy is on" if controller.has(PRIVACY) else "its address is a static one"
        state, text = State.NOTE, f"{text}; {kind}: if link: direct fails, set link: bluez"
    return Check(
        id="adapter.settings",
        subject=one.name,
        state=state,
        text=text,
        facts=facts,
        advice=advice,
    )
