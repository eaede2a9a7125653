"""Routes: chooses the transport and the adapter through which a battery is read."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache, partial
from typing import Final, TypeVar

from exporter.ble.transport import Hear, ScanningTransport, Target, Transport
from exporter.config.schema import TransportChoice
from exporter.connection import Connection
from exporter.errors import AdapterError, LinkError, PairingError
from exporter.protocol.advertisement import Advertisement

log = logging.getLogger(__name__)

# JBD modules advertise about every second: all adapters in range receive one in this time.
COMPARE_S: Final = 3.0
# The RSSI of a battery that does not move varies that much between two advertisements.
SIMILAR_DB: Final = 6

T = TypeVar("T", bound=Transport)


class Routes:
    """All transports over all adapters of this machine; each battery uses the best route."""

    def __init__(
        self,
        *,
        bluez: Callable[[str | None], ScanningTransport],
        direct: Callable[[str | None], Transport] | None = None,
        prefers_direct: bool = True,
        adapters: Callable[[], Sequence[str]],
    ) -> None:
        """Configure the routes; transports are made when they are needed.

        Args:
            bluez: Makes the transport of an adapter through bluetoothd; None: the default adapter.
            direct: Makes the direct transport of an adapter; None: this machine has none.
            prefers_direct: Whether batteries without their own `link` use `direct`.
            adapters: Returns the names of the adapters that are switched on; empty: unknown.
        """
        self._bluez = cache(partial(self._make, bluez))  # one transport for each adapter
        self._direct = None if direct is None else cache(partial(self._make, direct))
        self._prefers_direct = prefers_direct
        self._adapters = adapters
        self._targets: dict[str, Target] = {}  # by address
        self._best: dict[str, str] = {}  # adapter by address
        self._wanting_pairing: set[str] = set()  # addresses
        self._turns = 0

    def track(self, target: Target) -> None:
        """Prepare for connections to this battery, and record what it advertises."""
        self._targets[target.address] = target

    def untrack(self, address: str) -> None:
        """Undo `track`."""
        self._targets.pop(address, None)
        self._best.pop(address, None)

    @asynccontextmanager
    async def connect(self, target: Target, *, deadline_s: float) -> AsyncIterator[Connection]:
        """Connect through the configured adapter, or one chosen by signal and load.

        A chosen adapter is kept until a connection through it fails.

        Raises:
            BmsError: As `Transport.connect` does.
        """
        if target.adapter is not None:
            self._best[target.address] = target.adapter  # counted when others choose
        adapter = target.adapter or await self._choose(target)
        direct = self._direct if self._uses_direct(target) else None
        transport: Transport = self._bluez(adapter) if direct is None else direct(adapter)
        try:
            async with transport.connect(target, deadline_s=deadline_s) as connection:
                yield connection
        except PairingError:
            self._note_pairing(target)
            raise
        except LinkError:
            if target.adapter is None:
                self._best.pop(target.address, None)  # another one may do better
            raise

    def _make(self, make: Callable[[str | None], T], adapter: str | None) -> T:
        transport = make(adapter)
        transport.targets = self._targets
        return transport

    def _uses_direct(self, target: Target) -> bool:
        if self._direct is None or target.address in self._wanting_pairing:
            return False
        if target.link is None:
            return self._prefers_direct
        return target.link is not TransportChoice.BLUEZ

    def _note_pairing(self, target: Target) -> None:
        """Read a battery that wants pairing through bluetoothd: the direct link cannot pair."""
        if self._uses_direct(target) and target.link is not TransportChoice.DIRECT:
            self._wanting_pairing.add(target.address)
            log.warning(
                "battery is read through bluetoothd from now on, which can pair",
                extra={"address": target.address},
            )

    async def _choose(self, target: Target) -> str | None:
        """Return the adapter chosen before, or compare them; None: there is no choice."""
        present = self._adapters()
        if len(present) < 2:  # noqa: PLR2004 - nothing to choose from
            return None
        best = self._best.get(target.address)
        if best not in present:
            best = await self._compare(target, present)
            if target.address in self._targets:  # still
                self._best[target.address] = best
            log.info("adapter chosen", extra={"address": target.address, "adapter": best})
        return best

    async def _compare(self, target: Target, present: Sequence[str]) -> str:
        """Scan on every adapter for COMPARE_S; return the best one for this battery.

        That is the least used adapter among those within SIMILAR_DB of the strongest signal: an
        adapter makes one connection at a time. If none receives the battery, they take turns.
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
                    log.debug("cannot scan", extra={"adapter": adapter, "error": str(error)})
            await asyncio.sleep(COMPARE_S if scanning else 0.0)
        if rssi_dbm:
            similar_dbm = max(rssi_dbm.values()) - SIMILAR_DB
            used_by = Counter(self._best.values())
            return min(
                (adapter for adapter in rssi_dbm if rssi_dbm[adapter] >= similar_dbm),
                key=lambda adapter: (used_by[adapter], -rssi_dbm[adapter]),
            )
        self._turns += 1
        return present[self._turns % len(present)]
