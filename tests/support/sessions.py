"""Records sessions of virtual batteries over both links, and replays them, on virtual time."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import looptime

from exporter.battery.poller import Poller
from exporter.ble.direct.transport import DirectTransport
from exporter.config.schema import PollConfig, Seconds
from exporter.demo.battery import APART_S, Delivery, VirtualBattery
from exporter.demo.radio import make_air
from exporter.protocol import auth
from exporter.recording.session import parse_sessions
from exporter.replay.run import Replayed, replay
from tests.support import att_server
from tests.support.virtual import battery, make_direct_routes, make_poller, make_routes, now_s

ADDRESS = "A4:C1:38:5E:F1:6B"
PASSWORD = b"314159"

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on virtual time, as long as it takes."""
    factory = looptime.new_event_loop
    with asyncio.Runner(loop_factory=lambda: factory(noop_cycles=1)) as runner:
        return runner.run(work)


class GuardedBattery(VirtualBattery):
    """A battery that accepts any password, or none."""

    accepts = True

    def request(self, data: bytes, at_s: float | None = None) -> list[Delivery]:
        if data[:2] != auth.HEAD:
            return super().request(data, at_s)
        answer = 0 if data[2] != auth.PASSWORD or self.accepts else 1
        reply = auth.encode(data[2], bytes([0x5A if data[2] == auth.RANDOM else answer]))
        return [Delivery(0.06, reply[:4]), Delivery(0.06 + APART_S, reply[4:])]


class Refusing(GuardedBattery):
    """A battery that rejects every password."""

    accepts = False


def record_direct(
    *, polls: int = 1, air: dict[str, Any] | None = None, **options: Any
) -> Sequence[str]:
    """Return the recordings of polls over the direct link, each as a text."""
    return run(_record(_direct, polls, air or {}, options))


def record_bluez(
    *, polls: int = 1, air: dict[str, Any] | None = None, **options: Any
) -> Sequence[str]:
    """Return the recordings of polls through bleak, each as a text."""
    return run(_record(_bluez, polls, air or {}, options))


async def _record(
    make: Any, polls: int, air: dict[str, Any], options: dict[str, Any]
) -> Sequence[str]:
    lines: list[str] = []
    config: dict[str, Any] = {
        name: options.pop(name) for name in ("password", "profile") if name in options
    }
    if "choice" in options:  # `settings` are those of the battery
        config["settings"] = options.pop("choice")
    later = options.pop("later", None)
    kind = options.pop("kind", None)
    virtual = (
        battery(address=ADDRESS, **options) if kind is None else kind(address=ADDRESS, **options)
    )
    async with asyncio.TaskGroup() as tasks:
        poller: Poller = make(tasks, virtual, air, config, lines.append)
        for _ in range(polls):
            await poller.refresh(timeout_s=90.0)
            await poller.close()
            if later is not None:
                virtual.faults = later
    texts: list[str] = []
    for line in lines:
        if line.startswith('{"record"'):
            texts.append("")
        texts[-1] += f"{line}\n"
    return texts


def _direct(
    tasks: asyncio.TaskGroup,
    virtual: VirtualBattery,
    options: dict[str, Any],
    config: dict[str, Any],
    record: Any,
) -> Poller:
    air = att_server.Air({virtual.address: virtual}, **options)
    routes = make_direct_routes(DirectTransport(kernel=air.make_kernel(), clock=now_s))
    return _make_poller(routes, tasks, record, config)


def _bluez(
    tasks: asyncio.TaskGroup,
    virtual: VirtualBattery,
    options: dict[str, Any],
    config: dict[str, Any],
    record: Any,
) -> Poller:
    routes = make_routes(make_air([virtual], **options))
    return _make_poller(routes, tasks, record, config)


def _make_poller(routes: Any, tasks: asyncio.TaskGroup, record: Any, config: Any) -> Poller:
    poll = PollConfig(min_interval_s=Seconds(0.0), max_age_s=Seconds(0.0))
    return make_poller(routes, tasks, address=ADDRESS, poll=poll, record=record, **config)


def replay_text(text: str, *, source: str = "x.jsonl", factor: float = 1.0) -> Replayed:
    """Replay the only session of a recording."""
    (session,) = parse_sessions(text, source)
    return run(replay(session, factor=factor))
