"""Several adapters: which one reads which battery."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from exporter.ble.bleak import Radio, Target
from exporter.ble.gatt import Connection
from exporter.errors import AdapterError, LinkError
from exporter.protocol.advertisement import Advertisement

log = logging.getLogger(__name__)

# JBD modules advertise about every second; whoever hears one in this time can be compared.
COMPARE_S: Final = 3.0
# The RSSI of a battery that does not move varies by as much from one advertisement to the next.
ALIKE_DB: Final = 6

Adapters = Callable[[], Sequence[str]]
"""Tells the names of the adapters that are switched on now; empty: nobody knows."""


class Spread:
    """All adapters of this machine, used through one link; each battery by the best of them."""

    def __init__(self, radio: Callable[[str | None], Radio], adapters: Adapters) -> None:
        """Prepare.

        Args:
            radio: Makes the radio of an adapter; None is the system's default.
            adapters: Which there are.
        """
        self._make = radio
        self._adapters = adapters
        self._radios: dict[str | None, Radio] = {}
        self._targets: dict[str, Target] = {}  # by address
        self._best: dict[str, str] = {}  # the adapter by the battery's address
        self._turns = 0

    def watch(self, target: Target) -> None:
        """Note every advertisement of this battery, whichever adapter hears it."""
        self._targets[target.address] = target
        for radio in self._radios.values():
            radio.watch(target)

    def unwatch(self, address: str) -> None:
        """Note nothing about this battery any more."""
        self._targets.pop(address, None)
        self._best.pop(address, None)
        for radio in self._radios.values():
            radio.unwatch(address)

    def radio(self, adapter: str | None) -> Radio:
        """Return the radio of one adapter."""
        if adapter not in self._radios:
            self._radios[adapter] = self._make(adapter)
            for target in self._targets.values():
                self._radios[adapter].watch(target)
        return self._radios[adapter]

    @asynccontextmanager
    async def connect(
        self, target: Target, adapter: str | None, *, deadline_s: float
    ) -> AsyncIterator[Connection]:
        """Connect through this adapter; None: the one that hears the battery best.

        Raises:
            BmsError: As Radio.connect does.
        """
        if adapter is not None:
            self._best[target.address] = adapter  # so that others know whom it reads
        chosen = adapter or await self._choose(target)
        try:
            async with self.radio(chosen).connect(target, deadline_s=deadline_s) as connection:
                yield connection
        except LinkError:
            if adapter is None:
                self._best.pop(target.address, None)  # another one may do better
            raise

    async def _choose(self, target: Target) -> str | None:
        """Return the adapter to use; compared anew after a failure, or when it went away."""
        present = self._adapters()
        if len(present) < 2:  # noqa: PLR2004 - nothing to choose from
            return None
        best = self._best.get(target.address)
        if best not in present:
            best = await self._loudest(target, present)
            if target.address in self._targets:  # still
                self._best[target.address] = best
            log.info("adapter chosen", extra={"address": target.address, "adapter": best})
        return best

    async def _loudest(self, target: Target, present: Sequence[str]) -> str:
        """Let every adapter listen for a moment.

        Of those that hear the battery about as well as the best one does, the one with the fewest
        batteries: an adapter makes one connection at a time. If none hears it, any may be right.
        """
        heard: dict[str, int] = {}
        scanning = 0

        def note(adapter: str) -> Callable[[Advertisement], None]:
            def hear(advertisement: Advertisement) -> None:
                if advertisement.address == target.address:
                    heard[adapter] = advertisement.rssi_dbm

            return hear

        async with AsyncExitStack() as listening:
            for adapter in present:
                try:
                    radio = self.radio(adapter)
                    await listening.enter_async_context(radio.advertisements(note(adapter)))
                    scanning += 1
                except AdapterError as error:
                    log.debug("cannot listen", extra={"adapter": adapter, "error": str(error)})
            await asyncio.sleep(COMPARE_S if scanning else 0.0)
        if heard:
            loud = max(heard.values()) - ALIKE_DB
            read_by = Counter(self._best.values())
            return min(
                (adapter for adapter in heard if heard[adapter] >= loud),
                key=lambda adapter: (read_by[adapter], -heard[adapter]),
            )
        self._turns += 1
        return present[self._turns % len(present)]
