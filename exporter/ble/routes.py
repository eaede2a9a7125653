"""Routes: chooses the transport, its style and the adapter through which a battery is read."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import Final, TypeVar

from exporter.ble.ladder import BLUEZ, DIRECT, GENTLE, Kind, Ladder, Rung, Style
from exporter.ble.transport import Hear, ScanningTransport, Target, Transport
from exporter.config.schema import TransportChoice
from exporter.connection import Connection
from exporter.errors import AdapterError, BmsError, Cause
from exporter.link_stats import RETURN, Route
from exporter.protocol.advertisement import Advertisement

log = logging.getLogger(__name__)

# JBD modules advertise about every second: all adapters in range receive one in this time.
COMPARE_S: Final = 3.0
# The RSSI of a battery that does not move varies by as much from one advertisement to the next.
SIMILAR_DB: Final = 6
FAILURES: Final = 2  # in a row, of a battery that is there: then another adapter is tried
PERMANENT: Final = {
    DIRECT: "link: direct",
    GENTLE: "management: {parameters: false}",
    BLUEZ: "link: bluez",
}

T = TypeVar("T", bound=Transport)
Adapters = Callable[[], Sequence[str]]
"""Returns the names of the adapters that are switched on now; empty: unknown."""


@dataclass(slots=True)
class _Way:
    """How one battery is reached, and what is remembered of it."""

    ladder: Ladder
    used: Rung  # by the last poll
    adapter: str | None = None  # chosen or configured
    failure: BmsError | None = None  # of the last poll
    failures: int = 0  # in a row over this adapter, of a battery that is there
    read_at_s: float = float("-inf")


class Routes:
    """All transports over all adapters of this machine; each battery uses the best route."""

    def __init__(
        self,
        *,
        bluez: Callable[[str | None], ScanningTransport],
        direct: Callable[[str | None], Transport] | None = None,
        prefers_direct: bool = True,
        adapters: Adapters,
        resolve: Callable[[str], str] = str,
    ) -> None:
        """Configure the routes; transports are made when they are needed.

        Args:
            bluez: Makes the transport of an adapter through bluetoothd; None is the default one.
            direct: Makes its transport over the kernel's ATT channel; None: there is none here.
            prefers_direct: What batteries use that have no transport configured.
            adapters: The adapters to choose from.
            resolve: Returns the name of a configured adapter. Raises AdapterError.
        """
        self._bluez = cache(partial(self._make, bluez))  # one transport for each adapter
        self._direct = None if direct is None else cache(partial(self._make, direct))
        self._prefers_direct = prefers_direct
        self._adapters = adapters
        self._resolve = resolve
        self._targets: dict[str, Target] = {}  # by address
        self._ways: dict[str, _Way] = {}
        self._turns = 0

    def track(self, target: Target) -> None:
        """Prepare for connections to this battery, and record what it advertises."""
        self._targets[target.address] = target

    def untrack(self, address: str) -> None:
        """Undo `track`, and forget how the battery was reached."""
        self._targets.pop(address, None)
        self._ways.pop(address, None)

    @asynccontextmanager
    async def connect(
        self, target: Target, *, deadline_s: float, explore_s: float = 0.0
    ) -> AsyncIterator[Connection]:
        """Connect over the route that worked last, or over the best one that is not known to fail.

        Args:
            target: The battery.
            deadline_s: By the loop's clock: the end of every attempt to connect.
            explore_s: A faster route that failed earlier may be tried again while the last reading
                is younger than this.

        Raises:
            BmsError: As `Transport.connect` does.
        """
        way = self._way(target)
        now_s = asyncio.get_running_loop().time
        way.ladder.choose(now_s(), may_explore=now_s() - way.read_at_s < explore_s)
        async with AsyncExitStack() as stack:
            try:
                yield await self._enter(stack, way, target, deadline_s)
            except BmsError as error:
                self._note_failure(way, error)
                raise
            way.ladder.note_success(now_s())
            way.failure, way.failures = None, 0
            way.read_at_s = now_s()

    async def _enter(
        self, stack: AsyncExitStack, way: _Way, target: Target, deadline_s: float
    ) -> Connection:
        try:
            return await self._open(stack, way, target, deadline_s)
        except AdapterError as error:  # what the machine refuses at once may work otherwise
            if error.cause is not Cause.MACHINE or not way.ladder.has_other_kind:
                raise
            self._note_failure(way, error)
        return await self._open(stack, way, target, deadline_s)

    async def _open(
        self, stack: AsyncExitStack, way: _Way, target: Target, deadline_s: float
    ) -> Connection:
        if target.adapter is None:
            await self._choose(way, target)
        else:
            way.adapter = self._resolve(target.adapter)  # counts when others choose
        rung = way.ladder.rung
        if rung != way.used:
            self._note_change(way, target, rung)
        direct = self._direct if rung.kind is Kind.DIRECT else None
        transport: Transport = self._bluez(way.adapter) if direct is None else direct(way.adapter)
        connecting = transport.connect(
            target, deadline_s=deadline_s, is_gentle=rung.style is Style.GENTLE
        )
        connection = await stack.enter_async_context(connecting)
        target.stats.route = Route(rung.kind, connection.adapter, rung.style)
        return connection

    def _make(self, make: Callable[[str | None], T], adapter: str | None) -> T:
        transport = make(adapter)
        transport.targets = self._targets
        return transport

    def _way(self, target: Target) -> _Way:
        if target.address not in self._ways:
            rungs = self._rungs(target)
            self._ways[target.address] = _Way(Ladder(rungs), rungs[0])
        return self._ways[target.address]

    def _rungs(self, target: Target) -> Sequence[Rung]:
        link = target.link
        if link is None:
            link = TransportChoice.AUTO if self._prefers_direct else TransportChoice.BLUEZ
        if self._direct is None or link is TransportChoice.BLUEZ:
            return [BLUEZ]
        return [DIRECT, GENTLE] if link is TransportChoice.DIRECT else [DIRECT, GENTLE, BLUEZ]

    def _note_failure(self, way: _Way, error: BmsError) -> None:
        way.failure = error
        way.failures += 1
        way.ladder.note_failure(error.cause, asyncio.get_running_loop().time())

    def _note_change(self, way: _Way, target: Target, rung: Rung) -> None:
        failure = way.failure
        log.log(
            logging.WARNING if failure else logging.INFO,
            "route changed",
            extra={
                "address": target.address,
                "before": str(way.used),
                "now": str(rung),
                "why": str(failure or "it may work again"),
                "permanent": PERMANENT[rung],
            },
        )
        target.stats.route_changes[str(failure.cause) if failure else RETURN] += 1
        way.used = rung

    async def _choose(self, way: _Way, target: Target) -> None:
        """Keep the adapter that worked last; compare them if it is gone or failed."""
        present = self._adapters()
        if len(present) < 2:  # noqa: PLR2004 - nothing to choose from
            way.adapter = None
            return
        # One that does not receive the battery, or cannot be used, is left at once.
        tolerated = 0 if way.failure and way.failure.cause in {None, Cause.ABSENT} else 1
        if way.adapter not in present or way.failures > tolerated:
            way.adapter = await self._compare(way, target, present)
            way.failures = 0
            extra = {"address": target.address, "adapter": way.adapter}
            log.info("adapter chosen", extra=extra)

    async def _compare(self, way: _Way, target: Target, present: Sequence[str]) -> str:
        """Scan on every adapter for COMPARE_S; return the best one for this battery.

        Of those that receive the battery about as well as the best one, it is the one that was used
        before, else the one with the fewest batteries: an adapter makes one connection at a time.
        One that receives it and does not connect to it is left out. Without any reception they
        take turns.
        """
        rssi_dbm: dict[str, int] = {}
        scanning = 0

        def note(adapter: str) -> Hear:
            def hear(advertisement: Advertisement) -> None:
                if advertisement.address == target.address:
                    rssi_dbm[adapter] = advertisement.rssi_dbm

            return hear

        async with AsyncExitStack() as scans:
            for adapter in present:
                scan = self._bluez(adapter).advertisements(note(adapter))
                try:
                    await scans.enter_async_context(scan)
                    scanning += 1
                except AdapterError as error:
                    log.debug("cannot listen", extra={"adapter": adapter, "error": str(error)})
            await asyncio.sleep(COMPARE_S if scanning else 0.0)
        if len(rssi_dbm) > 1 and way.failures >= FAILURES and way.adapter is not None:
            rssi_dbm.pop(way.adapter, None)
        if rssi_dbm:
            similar_dbm = max(rssi_dbm.values()) - SIMILAR_DB
            used_by = Counter(other.adapter for other in self._ways.values() if other is not way)
            return min(
                (adapter for adapter in rssi_dbm if rssi_dbm[adapter] >= similar_dbm),
                key=lambda adapter: (adapter != way.adapter, used_by[adapter], -rssi_dbm[adapter]),
            )
        self._turns += 1
        return present[self._turns % len(present)]
