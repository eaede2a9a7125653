"""Checks of the chip of an adapter and of its power supply, by tables of what is known."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from exporter.doctor.adapters import AdapterFacts
from exporter.doctor.check import Check, State

# Source: Bluetooth SIG, Assigned Numbers, company identifiers.
MAKERS: Final[Mapping[int, str]] = {
    2: "Intel",
    10: "CSR",
    13: "Texas Instruments",
    15: "Broadcom",
    29: "Qualcomm",
    48: "ST",
    70: "MediaTek",
    89: "Nordic",
    93: "Realtek",
    305: "Cypress",
    1521: "Linux Foundation",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What is known of some chips; all that is given must match."""

    id: str
    state: State
    text: str
    makers: frozenset[int] = frozenset()
    usb_ids: frozenset[str] = frozenset()
    bus: str | None = None

    def applies(self, one: AdapterFacts) -> bool:
        """Return whether an adapter has such a chip."""
        maker = None if one.controller is None else one.controller.maker
        return (
            (not self.makers or maker in self.makers)
            and (not self.usb_ids or one.usb_id in self.usb_ids)
            and self.bus in {None, one.bus}
        )


# Sources: hifiberry issues 426 and 427, noble-abandonware issue 237 (CSR clones); noble issues 165
# and 638 (Intel 7260); bluetooth-next pull request 643, raspberrypi/linux issues 5460 and 6462
# (Broadcom on UART); raspberrypi/linux issues 6141 and 6690 (RTL8761B); bluetooth-next pull request
# 104 (Realtek); bleak-retry-connector pull request 67 (numbers of connections).
LIMITS: Final = (
    Limit(
        id="csr_clone",
        state=State.WARN,
        text="sold as CSR, mostly a counterfeit that fails in many ways: if connections fail, "
        "use another adapter",
        usb_ids=frozenset({"0a12:0001"}),
    ),
    Limit(
        id="intel_7260",
        state=State.WARN,
        text="Intel 7260: it does not connect while any program scans",
        usb_ids=frozenset({"8087:07dc"}),
    ),
    Limit(
        id="broadcom_uart",
        state=State.NOTE,
        text="two connections at once may block it, then run bluetoothctl power off and power on",
        makers=frozenset({15, 305}),
        bus="UART",
    ),
    Limit(
        id="rtl8761b",
        state=State.NOTE,
        text="RTL8761B: it needs its firmware (package firmware-realtek) at each plugging in",
        usb_ids=frozenset({"0bda:8771", "2357:0604", "0b05:190e"}),
    ),
)
MOST_CONNECTIONS: Final[Mapping[int, int]] = {10: 5, 15: 7, 305: 7}  # by maker


def check_chip(one: AdapterFacts) -> Check:
    """Name the chip, and what is known of its kind."""
    maker = None if one.controller is None else one.controller.maker
    named = [MAKERS.get(maker, f"maker {maker}")] if maker is not None else []
    named += [part for part in (one.product, one.usb_id, one.driver) if part]
    limits = [limit for limit in LIMITS if limit.applies(one)]
    states = [limit.state for limit in limits]
    return Check(
        id="adapter.chip",
        subject=one.name,
        state=State.WARN if State.WARN in states else State.NOTE if states else State.OK,
        text="; ".join([", ".join(named) or "unknown", *(limit.text for limit in limits)]),
        facts={
            "maker": maker,
            "usb_id": one.usb_id,
            "driver": one.driver,
            "limits": [limit.id for limit in limits],
            "most_connections": None if maker is None else MOST_CONNECTIONS.get(maker),
        },
    )


def check_power(one: AdapterFacts) -> Check:
    """Check whether the kernel may switch off, or has switched off, a USB adapter."""
    state, text, advice = State.OK, "always on", None
    if one.runtime_status == "suspended":
        state, text = State.WARN, "USB has suspended it"
        advice = (
            "keep it on: put options btusb enable_autosuspend=0 into /etc/modprobe.d/btusb.conf"
        )
    elif one.power_control == "auto":
        state, text = State.NOTE, "USB may suspend it while it is idle"
    return Check(
        id="adapter.power",
        subject=one.name,
        state=state,
        text=text,
        facts={
            "control": one.power_control,
            "runtime_status": one.runtime_status,
            "usb_mbit_s": one.usb_mbit_s,
        },
        advice=advice,
    )
