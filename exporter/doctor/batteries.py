"""Examines each battery: heard, read over each route, heard again; then the verdict."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from exporter.config.schema import AdapterName, BatteryConfig, Name, TransportChoice, normal_address
from exporter.doctor.attempt import (
    BLUEZ,
    GENTLE,
    Attempt,
    Recording,
    attempt,
    check_attempt,
)
from exporter.doctor.attempt import facts as attempt_facts
from exporter.doctor.check import Check, Fact, State
from exporter.doctor.listen import Heard, Listening, check_heard, listen
from exporter.doctor.listen import facts as heard_facts
from exporter.doctor.means import Means
from exporter.doctor.others import Others
from exporter.doctor.report import Report
from exporter.doctor.running_exporter import STOP, ReleaseError, RunningExporter
from exporter.doctor.verdict import check_battery
from exporter.doctor.wedge import wedge_checked
from exporter.errors import Cause, ProfileError
from exporter.protocol.advertisement import why_jbd


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """What all batteries have in common while they are examined."""

    means: Means
    others: Others
    exporter: RunningExporter
    report: Report
    timeout_s: float  # poll.timeout
    link: TransportChoice = TransportChoice.AUTO  # of the configuration
    recording: Recording | None = None
    resolve: Callable[[str], AdapterName | None] = AdapterName  # by name or address


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


async def examine(examined: Examination, battery: BatteryConfig, listening: Listening) -> bool:
    """Examine one battery and report everything; return whether it can be read as configured."""
    report, name = examined.report, battery.name
    record: dict[str, Fact] = {"name": name, "address": battery.address}
    report.batteries.append(record)
    if left_alone := await _check_left_alone(examined, battery):
        report.add(left_alone)
        return False
    heard = listening.heard.get(battery.address)
    if examined.means.scans:
        report.add(check_heard(heard, listening, name, report.redaction))
        record["heard"] = None if heard is None else heard_facts(heard, report.redaction)
    async with wedge_checked(examined.means.kernel, report) as wedged:
        attempts = await _attempt_all(examined, battery, heard, is_silent=_is_silent(listening))
        wedged += [one.error for one in attempts if one.error and one.error.cause is Cause.WEDGE]
    record["attempts"] = [attempt_facts(one) for one in attempts]
    if heard is not None and attempts:
        record["heard_again_s"] = await _listen_again(examined, battery)
    check = check_battery(attempts, battery, heard, examined.link)
    report.add(check)
    return check.state in {State.OK, State.WARN}


async def _check_left_alone(examined: Examination, battery: BatteryConfig) -> Check | None:
    """Return why a battery is not tried; None: it is."""
    state, advice = State.UNKNOWN, None
    if (why := _why_not_tried(examined, battery)) is None:
        try:
            await examined.exporter.release(battery.address)
        except ReleaseError as error:  # no check before this one has failed for it
            state, why, advice = State.FAIL, str(error), STOP
        else:
            return None
    text = f"not tried: {why}"
    return Check(id="battery", subject=battery.name, state=state, text=text, advice=advice)


def _why_not_tried(examined: Examination, battery: BatteryConfig) -> str | None:
    if not examined.means.routes:
        return "no way to it on this machine, see above"
    if battery.adapter and examined.resolve(battery.adapter) is None:
        return f"its adapter {battery.adapter} is not there"
    if examined.others.holds(battery.address) and battery.address not in examined.exporter.names:
        return "another program on this machine is connected to it, see above"
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
            make,
            battery,
            route=route,
            timeout_s=examined.timeout_s,
            adapter=adapter,
            recording=examined.recording,
        )
        attempts.append(done)
        examined.report.add(check_attempt(done, battery.name))
    return attempts


def _may_help(attempts: Sequence[Attempt]) -> bool:
    """Return whether a gentle connection may succeed where a fast one failed."""
    error = attempts[-1].error if attempts else None
    if error is None or isinstance(error, ProfileError):
        return False
    return error.cause in {Cause.RADIO, Cause.GATT, Cause.QUIET}


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
