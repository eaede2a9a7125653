"""Examines each battery: heard, read over each route, heard again; then the verdict."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from exporter.ble.direct.kernel import Kernel
from exporter.ble.direct.management import Management
from exporter.ble.direct.sockets import Adapter
from exporter.ble.direct.transport import DirectTransport
from exporter.ble.ladder import Kind
from exporter.ble.transport import Backend, ScanningTransport, Transport
from exporter.config.schema import AdapterName, BatteryConfig, Name, TransportChoice, normal_address
from exporter.doctor.attempt import (
    BLUEZ,
    GENTLE,
    Attempt,
    attempt,
    check_attempt,
    cure,
)
from exporter.doctor.attempt import facts as attempt_facts
from exporter.doctor.check import Check, Fact, State
from exporter.doctor.listen import Heard, Listening, check_heard, listen
from exporter.doctor.listen import facts as heard_facts
from exporter.doctor.others import Others
from exporter.doctor.report import Report
from exporter.doctor.running_exporter import ReleaseError, RunningExporter
from exporter.doctor.trace import Trace, make_kernel
from exporter.errors import BmsError, Cause, NotFoundError
from exporter.protocol.advertisement import why_jbd

STUCK_SCAN: Final = "InProgress"  # a part of bluetoothd's error
RESTART: Final = "run bluetoothctl power off, then bluetoothctl power on"


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What can be used on this machine to reach batteries."""

    routes: Sequence[str]  # of direct, gentle and bluez: those to try, in this order
    tries_gentle: bool = False  # even if direct works
    adapters: Sequence[str] = ()  # that are on; with several, the one that receives best is used
    kernel: Kernel = field(default_factory=Kernel)
    backend: Backend | None = None
    scans: bool = True
    discovering: bool = False  # another program scans

    def make_direct(self, adapter: str | None) -> Callable[[Trace], Transport]:
        """Return a function that makes the direct transport; it changes no setting."""

        def make(trace: Trace) -> Transport:
            kernel = make_kernel(self.kernel, trace)
            return DirectTransport(
                adapter=adapter, kernel=kernel, management=Management(kernel=kernel)
            )

        return make

    def make_bluez(self, adapter: str | None) -> ScanningTransport:
        """Return the transport through bluetoothd; it changes no setting."""
        # This loads bleak, which `--quick` does not need.
        from exporter.ble.bleak import BleakTransport  # noqa: PLC0415

        return BleakTransport(
            adapter=adapter, backend=self.backend, management=Management(kernel=self.kernel)
        )

    def scanners(self, adapter: str | None = None) -> dict[str | None, ScanningTransport]:
        """Return a scanner for this adapter; without one, for each that is on."""
        several = self.adapters if len(self.adapters) > 1 else [None]
        return {name: self.make_bluez(name) for name in ([adapter] if adapter else several)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """What all batteries have in common while they are examined."""

    means: Means
    others: Others
    exporter: RunningExporter
    report: Report
    timeout_s: float  # poll.timeout
    link: TransportChoice = TransportChoice.AUTO  # of the configuration
    resolve: Callable[[str], AdapterName | None] = lambda _name: None  # by name or address


async def listen_to(examined: Examination, batteries: Sequence[BatteryConfig]) -> Listening:
    """Listen to all batteries at once."""
    if not examined.means.scans:
        return Listening()
    names = ", ".join(battery.name for battery in batteries) or "any battery"
    examined.report.wait(f"listening to {names}")
    return await listen(examined.means.scanners(), [battery.address for battery in batteries])


def found_batteries(listening: Listening) -> list[BatteryConfig]:
    """Return what `scan` would list as JBD batteries."""
    return [
        BatteryConfig(name=Name(address), address=normal_address(address))
        for address, heard in listening.heard.items()
        if why_jbd(heard.last)
    ]


def check_scan(listening: Listening, *, discovering: bool) -> Check | None:
    """Return a failure if the kernel's discovery is stuck: then nothing connects any more."""
    if listening.error is None or STUCK_SCAN not in str(listening.error) or discovering:
        return None
    return Check(
        id="wedge",
        state=State.FAIL,
        text="the kernel takes a scan for running that nobody runs: nothing connects any more",
        facts={"stuck": "discovery"},
        advice=RESTART,
    )


async def examine(examined: Examination, battery: BatteryConfig, listening: Listening) -> bool:
    """Examine one battery and report everything; return whether it can be read as configured."""
    report, name = examined.report, battery.name
    record: dict[str, Fact] = {"name": name, "address": battery.address}
    report.batteries.append(record)
    if why := await _why_left_alone(examined, battery):
        report.add(Check(id="battery", subject=name, state=State.UNKNOWN, text=f"not tried: {why}"))
        return False
    heard = listening.heard.get(battery.address)
    if examined.means.scans:
        report.add(check_heard(heard, listening, name, report.redaction))
        record["heard"] = None if heard is None else heard_facts(heard, report.redaction)
    async with _wedge_checked(examined) as wedged:
        attempts = await _attempt_all(examined, battery, heard, is_silent=_is_silent(listening))
        wedged += [one.error for one in attempts if one.error and one.error.cause is Cause.WEDGE]
    record["attempts"] = [attempt_facts(one) for one in attempts]
    if heard is not None and attempts:
        record["heard_again_s"] = await _listen_again(examined, battery)
    check = check_battery(attempts, battery, heard, examined.link)
    report.add(check)
    return check.state in {State.OK, State.WARN}


async def _why_left_alone(examined: Examination, battery: BatteryConfig) -> str | None:
    if not examined.means.routes:
        return "no way to it on this machine, see above"
    if examined.others.holds(battery.address):
        return "another program on this machine is connected to it, see above"
    try:
        await examined.exporter.release(battery.address)
    except ReleaseError as error:
        return str(error)
    return None


def _is_silent(listening: Listening) -> bool:
    """Return whether a working scan heard nothing: then a second one hears nothing either."""
    return listening.error is None and listening.seconds > 0


async def _attempt_all(
    examined: Examination, battery: BatteryConfig, heard: Heard | None, *, is_silent: bool
) -> list[Attempt]:
    means, attempts = examined.means, list[Attempt]()
    adapter = examined.resolve(battery.adapter) if battery.adapter else None
    if adapter is None and heard is not None and len(means.adapters) > 1:
        adapter = AdapterName(heard.best_adapter) if heard.best_adapter else None
    for route in means.routes:
        if route == GENTLE and not (means.tries_gentle or _may_help(attempts)):
            continue
        if route == BLUEZ and heard is None and is_silent and attempts:
            continue
        examined.report.wait(f"reading {battery.name} over {route}")
        make = means.make_direct(adapter) if route != BLUEZ else lambda _: means.make_bluez(adapter)
        done = await attempt(
            make, battery, route=route, timeout_s=examined.timeout_s, adapter=adapter
        )
        attempts.append(done)
        examined.report.add(check_attempt(done, battery.name))
    return attempts


def _may_help(attempts: Sequence[Attempt]) -> bool:
    """Return whether a gentle connection may succeed where a fast one failed."""
    error = attempts[-1].error if attempts else None
    return error is not None and error.cause in {Cause.RADIO, Cause.GATT, Cause.QUIET}


@asynccontextmanager
async def _wedge_checked(examined: Examination) -> AsyncIterator[list[BmsError]]:
    """Report an adapter that took commands and answered none, or an error added to the list."""
    before = _counters(examined.means.kernel)
    errors: list[BmsError] = []
    yield errors
    after = _counters(examined.means.kernel)
    for name, one in after.items():
        sent = one.commands_sent - before[name].commands_sent if name in before else 0
        if sent > 0 and one.events_received == before[name].events_received:
            examined.report.add(
                Check(
                    id="wedge",
                    subject=name,
                    state=State.FAIL,
                    text=f"{name} does not answer any more ({sent} commands, no event)",
                    facts={"stuck": "adapter", "commands": sent},
                    advice=f"{RESTART}, or plug it in again",
                )
            )
            return
    for error in errors[:1]:
        facts: Mapping[str, Fact] = {"stuck": "connection"}
        examined.report.add(Check(id="wedge", state=State.FAIL, text=str(error), facts=facts))


def _counters(kernel: Kernel) -> dict[str, Adapter]:
    try:
        return {one.name: one for one in kernel.adapters()}
    except OSError:
        return {}


async def _listen_again(examined: Examination, battery: BatteryConfig) -> float | None:
    """Return the seconds until the battery advertises again after the last disconnect."""
    examined.report.wait(f"waiting for {battery.name} to advertise again")
    again = await listen(examined.means.scanners(), [battery.address], least_s=0.0)
    heard = again.heard.get(battery.address)
    if again.error is None:
        text = f"heard again after {heard.first_s:.1f} s" if heard else "not heard again in 10 s"
        examined.report.add(
            Check(
                id="battery.heard_again",
                subject=battery.name,
                state=State.OK if heard else State.WARN,
                text=text,
                facts={"heard_again_s": None if heard is None else round(heard.first_s, 2)},
            )
        )
    return None if heard is None else round(heard.first_s, 2)


def check_battery(
    attempts: Sequence[Attempt],
    battery: BatteryConfig,
    heard: Heard | None,
    link: TransportChoice,
) -> Check:
    """Return the verdict on one battery: can it be read as it is configured?"""
    link = battery.link or link
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
    elif isinstance(error, NotFoundError) and heard is not None:
        text = "not read: it is heard, and no way to it connects"
        advice = f"{RESTART}; if that does not help, reboot"
    return Check(
        id="battery",
        subject=battery.name,
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
