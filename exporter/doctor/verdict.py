"""The verdict on one battery, from everything that was tried with it."""

from collections.abc import Sequence

from exporter.ble.ladder import Kind
from exporter.config.schema import BatteryConfig, TransportChoice
from exporter.doctor.attempt import BLUEZ, CURES, Attempt, cure
from exporter.doctor.check import Check, Fact, State
from exporter.doctor.listen import Heard, Listening
from exporter.doctor.wedge import RESTART
from exporter.errors import Cause, NotFoundError, ProfileError
from exporter.protocol.advertisement import read_backwards


def check_battery(
    attempts: Sequence[Attempt],
    battery: BatteryConfig,
    heard: Heard | None,
    link: TransportChoice,
) -> Check:
    """Return the verdict on one battery: can it be read as it is configured?"""
    link = battery.transport or link
    facts: dict[str, Fact] = {
        "read_over": [one.route for one in attempts if one.succeeded],
        "failed": {one.route: str(one.error.reason) for one in attempts if one.error},
        "link": str(link),
    }
    good = [one for one in attempts if one.succeeded and _uses(link, one.route)]
    if good:
        text = f"read over {good[0].route}{_values(good[0])}"
        return Check(id="battery", subject=battery.name, state=State.OK, text=text, facts=facts)
    others = [one.route for one in attempts if one.succeeded]
    failed = next((one for one in attempts if one.error and _uses(link, one.route)), None)
    error = None if failed is None else failed.error
    advice = None if error is None else cure(error)
    text = f"not read: {error or 'link: ' + link + ' cannot be used here'}"
    if others:
        advice = f"set link: {Kind.BLUEZ if BLUEZ in others else Kind.DIRECT}, which reads it"
    elif isinstance(error, ProfileError) and battery.profile is not None:
        advice = "leave profile out of its configuration: then the exporter finds the right one"
    elif isinstance(error, NotFoundError) and read_backwards(battery.address):
        advice = "its address may be backwards: run this again with --show-addresses"
    elif isinstance(error, NotFoundError) and heard is not None:
        text = "not read: it is heard, and no way to it connects"
        advice = f"{RESTART}; if that does not help, reboot"
    elif isinstance(error, NotFoundError):
        text = "not read: it was not seen"
    return Check(
        id="battery",
        subject=battery.name,
        state=State.FAIL,
        text=text,
        facts=facts,
        advice=advice,
    )


def check_nothing_found(listening: Listening, *, scans: bool) -> Check:
    """Return the failure for a machine on which no battery is configured, and none was found."""
    others = len(listening.heard)
    advice: str | None = (
        f"{CURES[Cause.ABSENT]}; bms-exporter doctor ADDRESS tries one that scan does not show"
    )
    text = f"no JBD battery among {others} devices in range"
    if not scans:
        text = "no battery is configured, and without a scan none can be found"
        advice = "run bms-exporter doctor with the address of the battery"
    elif listening.error is not None:
        text = f"no battery is configured, and the scan failed: {listening.error}"
        advice = None
    facts: dict[str, Fact] = {"others": others, "scanned": scans and listening.error is None}
    return Check(
        id="battery",
        subject="batteries",
        state=State.FAIL,
        text=text,
        facts=facts,
        advice=advice,
    )


def _uses(link: TransportChoice, route: str) -> bool:
    """Return whether an exporter with this `link` uses the route."""
    return link is TransportChoice.AUTO or (link is TransportChoice.BLUEZ) == (route == BLUEZ)


def _values(done: Attempt) -> str:
    basic = done.reading.basic if done.reading else None
    return f": {basic.voltage_v:.2f} V, {basic.rsoc_ratio:.0%}" if basic else ""
