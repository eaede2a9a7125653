"""Checks whether Wi-Fi on the same chip shares the antenna with Bluetooth."""

from dataclasses import dataclass
from typing import Final

from exporter.doctor.check import Check, State
from exporter.doctor.files import Files

DEFAULT_ROUTE: Final = "00000000"
# Sources: raspberrypi/linux issues 1444 and 1552; home-assistant/operating-system issue 520.
ONE_CHIP_DRIVER: Final = "brcmfmac"  # Broadcom's Wi-Fi on the chip that has Bluetooth, too


@dataclass(frozen=True, slots=True, kw_only=True)
class Wifi:
    """The network device of the default route, and Wi-Fi beside Bluetooth."""

    way_out: str | None  # the device of the default route; None: there is none
    way_out_is_wifi: bool
    has_shared_chip: bool  # Wi-Fi of the kind that shares its chip with a Bluetooth adapter


def read_wifi(files: Files) -> Wifi:
    """Read the routes and the network devices."""
    lines = (files.text("proc/net/route") or "").splitlines()[1:]
    rows = [line.split() for line in lines]
    ways = [row[0] for row in rows if row[1:2] == [DEFAULT_ROUTE]]
    wireless = [path.split("/")[3] for path in files.matching("sys/class/net/*/phy80211")]
    drivers = {name: files.target(f"sys/class/net/{name}/device/driver") for name in wireless}
    return Wifi(
        way_out=ways[0] if ways else None,
        way_out_is_wifi=bool(ways) and ways[0] in wireless,
        has_shared_chip=ONE_CHIP_DRIVER in drivers.values(),
    )


def check_wifi(wifi: Wifi, *, has_onboard_adapter: bool) -> Check:
    """Warn if waiting for a battery disturbs the only way to this machine."""
    is_shared = wifi.has_shared_chip and has_onboard_adapter
    facts = {"shared_antenna": is_shared, "default_route_is_wifi": wifi.way_out_is_wifi}
    if is_shared and wifi.way_out_is_wifi:
        return Check(
            id="wifi",
            state=State.WARN,
            text="Wi-Fi shares the antenna with Bluetooth and is the way out: waiting for a "
            "battery disturbs it",
            facts=facts,
            advice="use Wi-Fi at 5 GHz, a cable, or a USB adapter for Bluetooth",
        )
    if is_shared:
        text = "shares the antenna with Bluetooth, but is not the way out"
        return Check(id="wifi", state=State.NOTE, text=text, facts=facts)
    return Check(id="wifi", state=State.OK, text="not on Bluetooth's chip", facts=facts)
