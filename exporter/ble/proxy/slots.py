"""The connections that a proxy can have at a time."""

import asyncio
from collections.abc import Collection


class Slots:
    """Lets batteries connect one after the other while the proxy reports free connections."""

    def __init__(self) -> None:
        self.free: int | None = None  # as the proxy last reported; None: not yet
        self.limit: int | None = None
        self.allocated: frozenset[int] = frozenset()  # addresses, as the proxy last reported
        self._asked: set[int] = set()  # addresses that are being connected, and in no report
        self._made: set[int] = set()  # addresses that were connected since the last report
        self._turn = asyncio.Lock()
        self._changed = asyncio.Event()

    def update(self, free: int, limit: int, allocated: Collection[int]) -> None:
        """Record a report of the proxy; older ones do not say which addresses are connected."""
        self.free, self.limit, self.allocated = free, limit, frozenset(allocated)
        self._asked.difference_update(allocated)
        self._made.clear()
        self._changed.set()

    async def take(self, address: int) -> None:
        """Wait for a free connection, in the order of the calls; `note_asked` must follow."""
        async with self._turn:
            while self.free is not None and self.free <= len(self._asked | self._made):
                self._changed.clear()
                await self._changed.wait()
            self._asked.add(address)

    def note_asked(self, address: int, *, is_connected: bool = False) -> None:
        """Record that the attempt to connect has ended.

        ESPHome confirms a connection before it reports it (bluetooth_connection.cpp).
        """
        if is_connected and address in self._asked:
            self._made.add(address)
        self._asked.discard(address)
        self._changed.set()

    def note_gone(self, address: int) -> None:
        """Record that a connection has ended; some proxies do not report it."""
        self._made.discard(address)
        self._changed.set()
