"""One attempt to read a battery over one route, with the exporter's own transport and session."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any, Final

from exporter.battery.recordings import Recordings
from exporter.battery.session import Session
from exporter.ble.ladder import Style
from exporter.ble.transport import Target, Transport
from exporter.clock import boot_s
from exporter.config.schema import AdapterName, BatteryConfig
from exporter.connection import Connection
from exporter.doctor.check import Check, Fact, State
from exporter.doctor.trace import ATT_MTU, Trace, TracedConnection, make_stats
from exporter.errors import BmsError, Cause, FailureReason, ReplyTimeoutError
from exporter.reading import Reading
from exporter.recording.lines import Write

DIRECT: Final = "direct"
GENTLE: Final = "gentle"
BLUEZ: Final = "bluez"

MOST_CONNECTIONS: Final = 3  # the ways to write; see battery/writing.py
# What happens between two recorded steps, in this order.
STEPS: Final = (
    ("heard", "find"),
    ("connected", "connect"),
    ("table", "table"),
    ("subscribed", "subscribe"),
    ("answer", "answer"),
    ("read", "other registers"),
    ("failed", "wait"),
    ("disconnected", "disconnect"),
)
STYLES: Final = {DIRECT: Style.FAST, GENTLE: Style.GENTLE, BLUEZ: Style.FAST}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """Where the lines of all recordings go, and what the machine is."""

    write: Write
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What one attempt found."""

    route: str  # direct, gentle or bluez
    trace: Trace
    attempts: int  # connects, if the first ones failed
    requests: int
    resends: int
    adapter: str | None = None
    reading: Reading | None = None
    error: BmsError | None = None

    @property
    def succeeded(self) -> bool:
        """Whether the battery was read."""
        return self.error is None


async def attempt(  # noqa: PLR0913 - all that an attempt depends on
    make_transport: Callable[[Trace], Transport],
    battery: BatteryConfig,
    *,
    route: str,
    timeout_s: float,
    adapter: AdapterName | None = None,
    recording: Recording | None = None,
) -> Attempt:
    """Connect, read everything that a first poll reads, and disconnect.

    Args:
        make_transport: Makes a transport that knows nothing of the battery yet.
        battery: Which one, and what to request.
        route: One of the names above.
        timeout_s: As `poll.timeout`: for everything but the disconnect.
        adapter: The one to use; None: the first one that is switched on.
        recording: Where to record each connection.
    """
    trace = Trace(asyncio.get_running_loop().time())
    stats = make_stats(trace)
    target = Target(address=battery.address, stats=stats, profile=battery.profile, adapter=adapter)
    transport = make_transport(trace)
    transport.targets = {battery.address: target}
    session = Session(battery, stats=stats, clock=boot_s)
    recordings = Recordings(stats, None if recording is None else recording.write)
    recordings.change(battery.address, partial(_describe, battery, timeout_s, session, recording))
    used: str | None = None
    reading: Reading | None = None
    failure: BmsError | None = None
    for _ in range(MOST_CONNECTIONS):
        trace.restart()
        deadline_s = trace.began_s + timeout_s
        connecting = transport.connect(target, deadline_s=deadline_s, is_gentle=route == GENTLE)
        failure = None
        try:
            with recordings.record() as note:
                if stats.recorder is not None:
                    stats.recorder.route(BLUEZ if route == BLUEZ else DIRECT, STYLES[route])
                async with connecting as connection:
                    used = connection.adapter
                    reading = await _read(session, connection, trace, deadline_s)
                    note(reading)
        except BmsError as error:
            failure = error
        trace.note("disconnected")
        if not isinstance(failure, ReplyTimeoutError) or failure.cause is not None:
            break  # else the session writes another way next time
    return Attempt(
        route=route,
        trace=trace,
        attempts=stats.connection_attempts,
        requests=stats.requests,
        resends=stats.resends,
        adapter=used,
        reading=reading,
        error=failure,
    )


async def _read(
    session: Session, connection: Connection, trace: Trace, deadline_s: float
) -> Reading:
    trace.note("table")
    trace.mtu = trace.mtu or getattr(connection, "mtu", ATT_MTU)
    try:
        reading = await session.read(TracedConnection(connection, trace), deadline_s=deadline_s)
    except BmsError:
        trace.note("failed")
        raise
    trace.note("read")
    return reading


def _describe(
    battery: BatteryConfig, timeout_s: float, session: Session, recording: Recording | None
) -> Mapping[str, Any]:
    """Return what decides how a connection goes, for the first line of its recording."""
    return {
        "profile": battery.profile,
        "password": battery.password is not None,
        "timeout_s": timeout_s,
        "session": session.describe(),
        **({} if recording is None else recording.facts),
    }


def facts(one: Attempt) -> dict[str, Fact]:
    """Return the facts of an attempt, numbers and words only."""
    trace, error = one.trace, one.error
    round_trips_ms = sorted(1000 * seconds for seconds in trace.round_trips_s)
    return {
        "route": one.route,
        "adapter": one.adapter,
        "steps": [[name, round(at_s, 3)] for name, at_s in trace.steps.items()],
        "attempts": one.attempts,
        "errno": trace.errno,
        "reason": None if error is None else str(error.reason),
        "cause": None if error is None or error.cause is None else str(error.cause),
        "address_type": trace.address_type,
        "profile": trace.profile,
        "mtu": trace.mtu,
        "pdus": trace.pdus,
        "table_requests": trace.table_requests,
        "round_trip_ms": [round(round_trips_ms[0]), round(median(round_trips_ms))]
        if round_trips_ms
        else None,
        "early": trace.is_early,
        "other_write": trace.other_write,
        "requests": one.requests,
        "resends": one.resends,
        "pieces": list(trace.longest_frame),
    }


def check_attempt(one: Attempt, battery: str) -> Check:
    """Describe an attempt; a failure is a warning, because another route may work."""
    times = ", ".join(_times(one.trace))
    found = facts(one)
    if one.error is not None:
        text = f"{one.error} (after {times})" if times else str(one.error)
        state = State.WARN
    else:
        details = [f"profile {one.trace.profile}"]
        details += [f"MTU {one.trace.mtu}"] if one.trace.mtu else []
        details += ["pieces " + "+".join(map(str, one.trace.longest_frame))]
        details += [f"{one.resends or 'no'} resend{'s' * (one.resends > 1)}"]
        details += [f"{one.attempts} attempts"] * (one.attempts > 1)
        details += ["only with the other kind of write"] * one.trace.other_write
        if found["round_trip_ms"]:
            details.append(f"a round trip takes {found['round_trip_ms'][1]} ms")  # type: ignore[index] # a list
        text = f"{times} s; {', '.join(details)}"
        state = State.NOTE if one.resends or one.attempts > 1 else State.OK
    return Check(
        id=f"battery.{one.route}",
        subject=battery,
        state=state,
        text=text,
        facts=found,
    )


def _times(trace: Trace) -> list[str]:
    """Return how long each step took that was reached."""
    shown, before_s = [], 0.0
    for step, name in STEPS:
        if step in trace.steps and (step != "disconnected" or "connected" in trace.steps):
            shown.append(f"{name} {max(0.0, trace.steps[step] - before_s):.2f}")
            before_s = trace.steps[step]
    return shown


CURES: Final = {
    Cause.ABSENT: "switch it on, go closer, and close the phone app: it reconnects by itself",
    Cause.RADIO: "bring the adapter closer to it, away from USB 3 devices and Wi-Fi; an extension "
    "cable helps",
    Cause.GATT: "switch Bluetooth of this machine off and on, and try again; if it stays, please "
    "report it",
    Cause.SECURITY: "pair it with its PIN: run bluetoothctl, then agent KeyboardOnly, scan on, and "
    "pair with its address; then it is read through bluetoothd",
    Cause.QUIET: "charge or discharge it a little, or open its app once, to wake it; else try "
    "another profile in the configuration",
    Cause.HELD: "stop the other program on this machine that is connected to it",
    Cause.WEDGE: "run bluetoothctl power off, then bluetoothctl power on",
}
REASON_CURES: Final = {  # where the reason says more than the cause
    FailureReason.PROFILE: "this is another device, or a BMS of another make: scan lists what "
    "looks like JBD",
    FailureReason.AUTH: "correct its password: password_file or password_env of the battery",
    FailureReason.DEVICE: "switch the battery off and on; if it stays, please report it",
}


def cure(error: BmsError) -> str | None:
    """Return what to do about a failure; None: its own message says it."""
    cause = error.cause
    if cause is None and isinstance(error, ReplyTimeoutError):
        cause = Cause.QUIET
    if cause is Cause.SECURITY or error.reason not in REASON_CURES:
        return None if cause is None else CURES.get(cause)
    return REASON_CURES[error.reason]
