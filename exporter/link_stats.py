"""Counters of the link to one battery."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from exporter.errors import FailureReason
from exporter.protocol.frame import FrameError
from exporter.recording.recorder import Recorder

RETURN: Final = "return"  # the reason for trying a faster route again


class Route(NamedTuple):
    """How a battery was reached; the values of the labels of `bms_route_info`."""

    transport: str  # direct, bluez or proxy; virtual in the demo
    adapter: str  # hci0 and the like
    style: str  # fast or gentle


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkTotals:
    """An immutable copy of the counters of `LinkStats`."""

    connection_attempts: int = 0
    connection_failures: Mapping[FailureReason, int] = field(default_factory=dict)
    held_s: float = 0.0
    requests: int = 0
    resends: int = 0
    frame_errors: Mapping[FrameError, int] = field(default_factory=dict)
    discarded_bytes: int = 0
    route: Route | None = None  # of the last connection
    route_since_s: float | None = None  # by the clock: the first connection in a row over it
    route_changes: Mapping[str, int] = field(default_factory=dict)  # by reason


@dataclass(slots=True, kw_only=True)
class LinkStats:
    """Counters since the start of the process, and the last advertisement.

    Mutable on purpose: transport and session count during a poll, so that a scrape that does not
    wait for a slow poll shows what it has done so far.
    """

    connection_attempts: int = 0
    connection_failures: Counter[FailureReason] = field(default_factory=Counter)
    held_s: float = 0.0
    requests: int = 0
    resends: int = 0
    frame_errors: Counter[FrameError] = field(default_factory=Counter)
    discarded_bytes: int = 0
    adapter: str | None = None  # or proxy, of the last poll; None: the only one, or not yet polled
    rssi_dbm: int | None = None
    rssi_at_s: float | None = None  # by the clock
    seen_at_s: float | None = None  # by the clock, over any adapter
    route: Route | None = None  # of the last connection
    route_since_s: float | None = None  # by the clock: the first connection in a row over it
    route_changes: Counter[str] = field(default_factory=Counter)  # by reason
    missed: int = 0  # looks in a row that did not see the battery
    connected_at_s: float | None = None  # by the loop's clock; None: it is not connected now
    taken_at_s: float | None = None  # by the clock: from another program on this machine
    may_be_left: bool = False  # a connection of ours may exist that no poll uses
    recorder: Recorder | None = None  # of the poll under way; None: nothing records it

    def record_event(self, name: str, **facts: object) -> None:
        """Pass an event to the recorder, if there is one."""
        if self.recorder is not None:
            self.recorder.event(name, **facts)

    def record_advertisement(self, rssi_dbm: int, at_s: float, adapter: str | None) -> None:
        """Record that an adapter or proxy has received the battery at `at_s`, by the clock.

        Its signal strength is the battery's only if the battery is read over it.
        """
        if None in {adapter, self.adapter} or adapter == self.adapter:
            self.record_rssi(rssi_dbm, at_s)
        else:
            self._note_seen(at_s)

    def record_rssi(self, rssi_dbm: int, at_s: float) -> None:
        """Record the signal strength, and when it was measured, by the clock."""
        self.rssi_dbm, self.rssi_at_s = rssi_dbm, at_s
        self._note_seen(at_s)

    def _note_seen(self, at_s: float) -> None:
        self.seen_at_s = at_s
        self.missed = 0

    def record_attempt(self, failure: FailureReason | None) -> None:
        """Count one attempt to connect, or a look that only waited for an advertisement."""
        if failure is FailureReason.NOT_FOUND:
            self.missed += 1
            return
        self.connection_attempts += 1
        self.connection_failures.update([failure] if failure else [])
        if failure is not FailureReason.ADAPTER:
            self.missed = 0

    def record_connection(self, *, connected: bool) -> None:
        """Record that the connection began or ended; repeated reports are ignored."""
        now_s = asyncio.get_running_loop().time()
        if self.connected_at_s is not None and not connected:
            self.held_s += now_s - self.connected_at_s
            self.connected_at_s = None
        elif self.connected_at_s is None and connected:
            self.connected_at_s = now_s

    def record_route(self, route: Route, at_s: float) -> None:
        """Record over which route the battery was connected at `at_s`, by the clock."""
        if route != self.route:
            self.route, self.route_since_s = route, at_s

    def totals(self) -> LinkTotals:
        """Return a copy of the counters."""
        return LinkTotals(
            connection_attempts=self.connection_attempts,
            connection_failures=dict(self.connection_failures),
            held_s=self.held_s,
            requests=self.requests,
            resends=self.resends,
            frame_errors=dict(self.frame_errors),
            discarded_bytes=self.discarded_bytes,
            route=self.route,
            route_since_s=self.route_since_s,
            route_changes=dict(self.route_changes),
        )
