"""Checks of the Bluetooth adapters: present, switched on, set up for Low Energy."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from exporter.ble.direct.sockets import ANY_ADDRESS
from exporter.doctor.adapters import ADVERTISING, LOW_ENERGY, POWERED, PRIVACY, STATIC, AdapterFacts
from exporter.doctor.check import Check, Fact, State

# Source: Bluetooth SIG, Assigned Numbers, core versions.
VERSIONS: Final[Mapping[int, str]] = {
    6: "4.0", 7: "4.1", 8: "4.2", 9: "5.0", 10: "5.1", 11: "5.2", 12: "5.3", 13: "5.4", 14: "6.0",
}  # fmt: skip
FIRST_WITH_LOW_ENERGY: Final = 6
# Addresses that many devices share: no address, or one that the firmware was never given.
# Sources: pi-bluetooth issues 12 and 29; dbus-serialbattery issue 777.
DEFAULT_ADDRESSES: Final = (ANY_ADDRESS, "AA:AA:AA:AA:AA:AA", "43:4")


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
        text=text if state is State.FAIL else ", ".join([text, *named, one.address]),
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
