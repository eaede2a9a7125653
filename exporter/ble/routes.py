"""Routes: chooses the transport, its style and the adapter through which a battery is read."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache, partial
from typing import Final, TypeVar

from exporter.ble.adapter_choice import AdapterChoice
from exporter.ble.ladder import (
    BLUEZ,
    BLUEZ_GENTLE,
    DIRECT,
    GENTLE,
    HOUR_S,
    PROXY,
    PROXY_GENTLE,
    Kind,
    Rung,
    Style,
)
from exporter.ble.transport import ScanningTransport, Target, Transport
from exporter.ble.way import Way, choose_rungs, make_way
from exporter.clock import Clock, boot_s
from exporter.config.schema import TransportChoice
from exporter.connection import Connection
from exporter.errors import AdapterError, BmsError, Cause
from exporter.link_stats import RETURN, Route

log = logging.getLogger(__name__)

SUSPENDED_S: Final = 5.0  # a machine that was suspended for less has not moved
PERMANENT: Final = {
    DIRECT: "link: direct",
    GENTLE: "gentle: true",
    BLUEZ: "link: bluez",
    BLUEZ_GENTLE: "link: bluez, gentle: true",
    PROXY: "gentle: false",
    PROXY_GENTLE: "gentle: true",
}

T = TypeVar("T", bound=Transport)
Adapters = Callable[[], Sequence[str]]
"""Returns the names of the adapters that are switched on now; empty: unknown."""


class Routes:
    """All transports over all adapters and proxies; each battery uses the best route."""

    def __init__(  # noqa: PLR0913 - all that depends on the machine, by name
        self,
        *,
        bluez: Callable[[str | None], ScanningTransport],
        direct: Callable[[str | None], Transport] | None = None,
        prefers_direct: bool = True,
        adapters: Adapters,
        proxies: Mapping[str, ScanningTransport] | None = None,
        resolve: Callable[[str], str] = str,
        clock: Clock = boot_s,
        bluez_name: str = Kind.BLUEZ,
        sets_interval: bool = False,
    ) -> None:
        """Configure the routes; transports are made when they are needed.

        Args:
            bluez: Makes the transport of an adapter through bluetoothd; None is the default one.
            direct: Makes its transport over the kernel's ATT channel; None: there is none here.
            prefers_direct: What batteries use that have no transport configured.
            adapters: The adapters to choose from.
            proxies: The transports of the proxies to choose from, by name.
            resolve: Returns the name of a configured adapter. Raises AdapterError.
            clock: Goes on while the machine is suspended.
            bluez_name: The transport's name in metrics; a demo has no bluetoothd.
            sets_interval: Whether connections through bluetoothd have a gentle style, too.
        """
        self._bluez_rungs = [BLUEZ, BLUEZ_GENTLE] if sets_interval else [BLUEZ]
        self._bluez = cache(partial(self._make, bluez))  # one transport for each adapter
        self._direct = None if direct is None else cache(partial(self._make, direct))
        self._prefers_direct = prefers_direct
        self._adapters = adapters
        self._proxies = proxies or {}
        self._resolve = resolve
        self._targets: dict[str, Target] = {}  # by address
        self._ways: dict[str, Way] = {}
        self._clock = clock
        self._bluez_name = bluez_name
        self._suspended_s = float("inf")  # in all, by the difference of the clocks
        self._present: frozenset[str] = frozenset()  # adapters
        for proxy in self._proxies.values():
            proxy.targets = self._targets
        self._adapter_choice = AdapterChoice(
            self._scanning, lambda: [way.choice for way in self._ways.values()]
        )

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
        present = self._adapters()
        self._note_machine(present)
        way = self._way(target)
        now_s = asyncio.get_running_loop().time
        await self._notice_pairing(way, target)
        way.ladder.choose(now_s(), may_explore=now_s() - way.read_at_s < explore_s)
        async with AsyncExitStack() as stack:
            try:
                yield await self._enter(stack, way, target, present, deadline_s)
            except BmsError as error:
                self._note_failure(way, error)
                raise
            way.ladder.note_success(now_s())
            way.choice.note_success()
            way.failure = None
            way.read_at_s = now_s()

    async def _notice_pairing(self, way: Way, target: Target) -> None:
        """Change the transport as soon as bluetoothd is paired with a battery that demanded it."""
        is_refused = way.failure is not None and way.failure.cause is Cause.SECURITY
        if is_refused and way.ladder.has_other_kind and way.ladder.rung.kind is Kind.DIRECT:
            from exporter.ble import bluez  # noqa: PLC0415 - D-Bus, which is rarely needed

            if await bluez.is_paired(target.address):
                way.ladder.note_pairing(asyncio.get_running_loop().time())

    async def _enter(
        self,
        stack: AsyncExitStack,
        way: Way,
        target: Target,
        present: Sequence[str],
        deadline_s: float,
    ) -> Connection:
        await self._choose(way, target, present, deadline_s)
        try:
            return await self._open(stack, way, target, deadline_s)
        except AdapterError as error:  # what the machine refuses at once may work otherwise
            if error.cause is not Cause.MACHINE or not way.ladder.has_other_kind:
                raise
            self._note_failure(way, error)
        return await self._open(stack, way, target, deadline_s)

    async def _choose(
        self, way: Way, target: Target, present: Sequence[str], deadline_s: float
    ) -> None:
        """Choose the adapter or the proxy; a configured one counts when others choose."""
        is_local = target.link in {TransportChoice.DIRECT, TransportChoice.BLUEZ}
        usable = [*present] if is_local else [*present, *self._proxies]
        if target.link in self._proxies:
            way.choice.adapter = target.link
        elif target.adapter is not None:
            way.choice.adapter = self._resolve(target.adapter)
        elif len(usable) == 1 and usable[0] in self._proxies:
            way.choice.adapter = usable[0]
        else:
            await self._adapter_choice.choose(way.choice, target.address, usable, deadline_s)
        way.is_proxied = way.choice.adapter in self._proxies

    def _scanning(self, adapter: str) -> ScanningTransport:
        return self._proxies.get(adapter) or self._bluez(adapter)

    def _transport(self, rung: Rung, adapter: str | None) -> Transport:
        if adapter is not None and rung.kind is Kind.PROXY:
            return self._proxies[adapter]
        if self._direct is not None and rung.kind is Kind.DIRECT:
            return self._direct(adapter)
        return self._bluez(adapter)

    async def _open(
        self, stack: AsyncExitStack, way: Way, target: Target, deadline_s: float
    ) -> Connection:
        rung = way.ladder.rung
        if rung != way.rungs.used:
            self._note_change(way, target, rung)
        target.stats.adapter = way.choice.adapter
        transport = self._transport(rung, way.choice.adapter)
        if target.stats.recorder is not None:
            target.stats.recorder.route(rung.kind, rung.style)
        connecting = transport.connect(
            target, deadline_s=deadline_s, is_gentle=rung.style is Style.GENTLE
        )
        connection = await stack.enter_async_context(connecting)
        kind = self._bluez_name if rung.kind is Kind.BLUEZ else rung.kind
        target.stats.record_route(Route(kind, connection.adapter, rung.style), self._clock())
        return connection

    def _note_machine(self, present: Sequence[str]) -> None:
        """Forget what a new adapter or another place has changed; a resume means the latter."""
        suspended_s = self._clock() - asyncio.get_running_loop().time()
        has_slept = suspended_s - self._suspended_s > SUSPENDED_S
        has_new = self._present and set(present) - self._present
        self._suspended_s, self._present = suspended_s, frozenset(present)
        for way in self._ways.values() if has_slept or has_new else ():
            way.local.ladder.forget_radio()
            way.proxied.ladder.forget_radio()
            way.choice.failures = 0

    def _make(self, make: Callable[[str | None], T], adapter: str | None) -> T:
        transport = make(adapter)
        transport.targets = self._targets
        return transport

    def _way(self, target: Target) -> Way:
        if target.address not in self._ways:
            rungs = choose_rungs(
                target,
                self._bluez_rungs,
                has_direct=self._direct is not None,
                prefers_direct=self._prefers_direct,
            )
            self._ways[target.address] = make_way(target, rungs)
        return self._ways[target.address]

    def _note_failure(self, way: Way, error: BmsError) -> None:
        way.failure = error
        way.choice.note_failure(error)
        way.ladder.note_failure(error.cause, asyncio.get_running_loop().time())

    def _note_change(self, way: Way, target: Target, rung: Rung) -> None:
        failure = way.failure
        again_s = way.ladder.faster_in_s(asyncio.get_running_loop().time())
        log.log(
            logging.WARNING if failure else logging.INFO,
            "route changed",
            extra={
                "address": target.address,
                "before": str(way.rungs.used),
                "now": str(rung),
                "why": str(failure or "it may work again"),
                "permanent": PERMANENT[rung],
                "see": "docs/routes.md",
            }
            | ({} if again_s is None else {"again_in": f"{again_s / HOUR_S:.2g}h"}),
        )
        target.stats.route_changes[str(failure.cause) if failure else RETURN] += 1
        way.rungs.used = rung
