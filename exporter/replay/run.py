"""Runs a recorded session through routes, transport and session, as a real battery is read."""

import asyncio
import errno
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Any, Final, cast

from exporter.batteries import build_battery
from exporter.battery.snapshot import Snapshot
from exporter.battery.writing import Way
from exporter.ble.adapter_health import AdapterHealths
from exporter.ble.direct.connection import Memory
from exporter.ble.direct.discovery import LAST_HANDLE, Handles, Table
from exporter.ble.direct.intervals import KINDS
from exporter.ble.direct.management import SUCCESS, Command, Management
from exporter.ble.direct.settings import CURRENT, READ_CONTROLLER_INFORMATION
from exporter.ble.direct.transport import DirectTransport
from exporter.ble.ladder import Style
from exporter.ble.routes import Routes
from exporter.ble.transport import ScanningTransport, Target, Transport
from exporter.clock import WallClock
from exporter.config.schema import (
    BatteryConfig,
    Name,
    PollConfig,
    ProfileName,
    Seconds,
    TransportChoice,
    normal_address,
)
from exporter.connection import Connection
from exporter.errors import FailureReason
from exporter.protocol.profiles import PROFILES
from exporter.recording.session import LONGEST_S, Event, RecordedSession, RecordingError
from exporter.replay.compare import compare
from exporter.replay.kernel import ReplayedKernel
from exporter.replay.problems import Problems
from exporter.replay.script import read_advertisement, read_attempts
from exporter.replay.times import Times

PROXY: Final = "proxy"
TIMEOUT_S: Final = 30.0
DISCONNECT_S: Final = 60.0  # longer than any poll disconnects
PASSWORD: Final = b"000000"  # the recorded battery accepts or rejects any


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """How a replay ended."""

    snapshot: Snapshot
    lines: tuple[str, ...]  # of a recording of the replay
    differences: tuple[str, ...]  # from the recorded result; none if that is missing

    @property
    def result(self) -> Mapping[str, Any]:
        """How it ended, as a recording has it."""
        result: Mapping[str, Any] = json.loads(self.lines[-1])["result"]
        return result


async def replay(session: RecordedSession, *, factor: float = 1.0) -> Replayed:
    """Read the recorded battery once; `factor` changes all recorded times.

    Raises:
        RecordingError: A line is malformed, or the exporter asked for what was not recorded.
    """
    header = session.header
    timeout_s = header.get("timeout_s", float, TIMEOUT_S)
    if not 0 <= timeout_s <= LONGEST_S:
        header.refuse(f"timeout_s: expected 0 to {LONGEST_S:.0f}")
    missed = header.get("missed", int, 0)
    problems = Problems(header.where.rpartition(":")[0])
    times = Times(factor)
    battery_config = _battery(session)
    state = _read_state(header.at("session"))
    direct = _make_direct(session, times, problems)
    uses_bluez = battery_config.link is not TransportChoice.DIRECT
    bluez = _make_bluez(session, times, problems) if uses_bluez else None
    routes = Routes(
        bluez=lambda _: cast("ScanningTransport", bluez),
        direct=lambda _: direct,
        prefers_direct=battery_config.link is not TransportChoice.BLUEZ,
        adapters=list,
        clock=asyncio.get_running_loop().time,
    )
    lines: list[str] = []
    poll = PollConfig(timeout_s=Seconds(timeout_s * max(1.0, factor)))
    async with asyncio.TaskGroup() as tasks:
        battery = build_battery(
            battery_config,
            poll,
            routes,
            tasks=tasks,
            wall=WallClock(asyncio.get_running_loop().time),
            record=lines.append,
        )
        battery.session.restore(**state)
        leaves_first = header.at("session").get("leaves_first", bool, False)
        battery.settings.restore(leaves_first=leaves_first)
        battery.target.stats.missed = missed
        snapshot = await battery.poller.refresh(timeout_s=poll.timeout_s + DISCONNECT_S)
        await battery.poller.close()
    if problems.first is not None and not times.differ:
        raise RecordingError([problems.first])
    replayed = Replayed(snapshot=snapshot, lines=tuple(lines), differences=())
    return replace(replayed, differences=tuple(compare(session, replayed.result)))


def _battery(session: RecordedSession) -> BatteryConfig:
    header = session.header
    state = header.at("session")
    profile = _read_profile(header)
    try:
        address = normal_address(header.get("battery", str, ""))
    except ValueError as error:
        header.refuse(f"battery: {error}")
    return BatteryConfig(
        name=Name("recorded"),
        address=address,
        link=_link(session),
        profile=None if profile is None else ProfileName(profile),
        cells=state.get("cells", bool, True),
        counters=state.get("counters", bool, True),
        hardware=state.get("hardware", bool, True),
        password=PASSWORD if header.get("password", bool, False) else None,
    )


def _link(session: RecordedSession) -> TransportChoice:
    header = session.header
    link = _replayed(header.get("link", str, TransportChoice.DIRECT))
    if link not in {TransportChoice.DIRECT, TransportChoice.BLUEZ}:
        header.refuse("link: expected direct, bluez or proxy")
    routes = [event for event in session.events if event.name == "route"]
    later = {_replayed(event.get("link", str, link)) for event in routes}
    return TransportChoice.AUTO if later - {link} else TransportChoice(link)


def _replayed(link: str) -> str:
    """Return the transport that replays a recorded one: proxies record what bluetoothd does."""
    return TransportChoice.BLUEZ if link == PROXY else link


def _events(session: RecordedSession, link: str) -> Iterator[Event]:
    """Yield the events of one transport."""
    now = _replayed(session.header.get("link", str, ""))
    for event in session.events:
        if event.name == "route":
            now = _replayed(event.get("link", str, ""))
        elif now == link:
            yield event


def _make_direct(session: RecordedSession, times: Times, problems: Problems) -> Transport:
    events = list(_events(session, TransportChoice.DIRECT))
    attempts = read_attempts(events)
    is_adapter_error = session.result is not None and (
        session.result.get("reason", str, "") == FailureReason.ADAPTER
    )
    replayed = ReplayedKernel(
        attempts,
        times,
        problems,
        stuck=any(event.name == "stuck" for event in events),
        there=bool(attempts) or not is_adapter_error,
    )
    clock = asyncio.get_running_loop().time
    transport = DirectTransport(
        kernel=replayed.kernel,
        management=Management(command=_make_command(events), kernel=replayed.kernel),
        healths=AdapterHealths(clock),
        clock=clock,
    )
    address = normal_address(session.header.get("battery", str, ""))
    for event in events:
        if event.name == "memory":
            transport.memories.setdefault(address, _read_memory(event))
    is_gentle = session.header.get("style", str, "") == Style.GENTLE
    return _Gentle(transport) if is_gentle else transport


class _Gentle:
    """A direct transport whose battery was read in the gentle style."""

    def __init__(self, transport: DirectTransport) -> None:
        self._transport = transport
        self.targets: Mapping[str, Target] = {}

    def connect(
        self, target: Target, *, deadline_s: float, is_gentle: bool = False
    ) -> AbstractAsyncContextManager[Connection]:
        """Connect in the gentle style."""
        del is_gentle
        return self._transport.connect(target, deadline_s=deadline_s, is_gentle=True)


def _make_bluez(session: RecordedSession, times: Times, problems: Problems) -> ScanningTransport:
    # This loads bleak and D-Bus, which the direct link does not need.
    from exporter.ble.bleak import BleakTransport  # noqa: PLC0415
    from exporter.replay.radio import RecordedAir, make_backend  # noqa: PLC0415

    events = list(_events(session, TransportChoice.BLUEZ))
    scans = [event for event in events if event.get("doing", str, "") == "scan"]
    address = session.header.get("battery", str, "")
    air = RecordedAir(
        address=address,
        advertisements=[
            (event.t, read_advertisement(event, address)) for event in events if event.name == "adv"
        ],
        attempts=iter(read_attempts(event for event in events if event not in scans)),
        scan_failure=scans[0] if scans else None,
        times=times,
        problems=problems,
    )
    return BleakTransport(
        backend=make_backend(air),
        management=Management(command=_make_command([])),
        clock=asyncio.get_running_loop().time,
    )


def _make_command(events: Sequence[Event]) -> Command:
    """Return a management socket that answers only with recorded settings of the adapter."""
    bits = [event.get("bits", int, 0) for event in events if event.name == "settings"]

    async def command(opcode: int, _adapter: int, _payload: bytes) -> tuple[int, bytes]:
        if opcode != READ_CONTROLLER_INFORMATION or not bits:
            raise OSError(errno.ENODEV, "a replay uses no adapter")
        return SUCCESS, bytes(CURRENT) + (bits[0] & 0xFFFFFFFF).to_bytes(4, "little")

    return command


def _read_memory(event: Event) -> Memory:
    """Return what the direct link knew from earlier connections."""
    types, table = event.get("types", list, []), event.at("table")
    if sorted(types, key=str) != sorted(KINDS):
        event.refuse(f"types: expected {' and '.join(map(str, KINDS))} in some order")
    memory = Memory(types, event.get("is_type_known", bool, False))
    if table.facts:
        handles = table.at("profiles")
        profiles = {name: _read_handles(handles.at(name)) for name in handles.facts}
        memory.table = Table(tuple(table.texts("services")), profiles)
    return memory


def _read_handles(facts: Event) -> Handles:
    numbers = {name: facts.get(name, int, 0) for name in ("notify", "subscription", "write")}
    if not all(0 <= handle <= LAST_HANDLE for handle in numbers.values()):
        facts.refuse("profiles: expected handles")
    return Handles(**numbers, can_write_command=facts.get("can_write_command", bool, False))


def _read_profile(facts: Event) -> str | None:
    profile = facts.get("profile", str, "")
    if profile and profile not in PROFILES:
        facts.refuse(f"profile: expected one of {', '.join(PROFILES)}")
    return profile or None


def _read_state(state: Event) -> dict[str, Any]:
    """Return what the session knew from earlier polls."""
    way = state.get("way", str, Way.USUAL)
    if way not in list(Way):
        state.refuse(f"way: expected one of {', '.join(Way)}")
    return {
        "profile": _read_profile(state),
        "takes_early": state.get("takes_early", bool, True),
        "way": Way(way),
    }
