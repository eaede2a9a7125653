"""The open pages: while there is any, all batteries are polled, as for one more scraper."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from exporter.battery.poller import Poller

INTERVAL_S: Final = 30.0
ALIVE_S: Final = 10.0  # then a page gets an event even without a change
MAX_STREAMS: Final = 100  # every change is sent to each
MAX_STREAMS_EACH: Final = 20  # of one client: a browser opens six


class Subscriber:
    """One open stream: collects the changes that it has not yet sent."""

    def __init__(self) -> None:
        self._names: set[str | None] = {None}  # at first everything has changed
        self._wake = asyncio.Event()
        self._wake.set()

    def add(self, name: str | None) -> None:
        """Add a changed battery; None: the list of batteries changed."""
        self._names.add(name)
        self._wake.set()

    def wake(self) -> None:
        """Let `changes` return although nothing has changed."""
        self._wake.set()

    async def changes(self) -> set[str | None]:
        """Wait for changes; return the names of changed batteries, empty after ALIVE_S."""
        try:
            async with asyncio.timeout(ALIVE_S):
                await self._wake.wait()
        except TimeoutError:
            return set()
        self._wake.clear()
        names, self._names = self._names, set()
        return names


class Subscribers:
    """Reads all batteries every 30 s while there is a subscriber."""

    def __init__(
        self, batteries: Mapping[str, Poller], tasks: asyncio.TaskGroup, *, most: int = MAX_STREAMS
    ) -> None:
        """Start without a subscriber; at most `most` streams are open: each keeps a connection."""
        self.batteries = batteries
        self.is_closed = False  # streams have to end
        self._tasks = tasks
        self._most = min(most, MAX_STREAMS)
        self._clients: dict[Subscriber, str] = {}
        self._polling: asyncio.Task[None] | None = None
        self._due_s = 0.0

    def is_full_for(self, client: str) -> bool:
        """Return whether one more stream of this client would be too many."""
        clients = [*self._clients.values()]
        return len(clients) >= self._most or clients.count(client) >= MAX_STREAMS_EACH

    def publish(self, name: str | None) -> None:
        """Pass a changed battery to every subscriber; None: the list of batteries changed."""
        for subscriber in self._clients:
            subscriber.add(name)

    def close(self) -> None:
        """End the polls and every stream."""
        self.is_closed = True
        if self._polling is not None:
            self._polling.cancel()
        for subscriber in self._clients:
            subscriber.wake()

    @contextmanager
    def subscribe(self, client: str) -> Iterator[Subscriber]:
        """Add a subscriber for the time of a `with` block; the first one starts the polls."""
        subscriber = Subscriber()
        self._clients[subscriber] = client
        if (self._polling is None or self._polling.done()) and not self.is_closed:
            self._polling = self._tasks.create_task(self._poll(), name="poll for the page")
        try:
            yield subscriber
        finally:
            del self._clients[subscriber]

    async def _poll(self) -> None:
        loop = asyncio.get_running_loop()
        while self._clients:
            wait_s = self._due_s - loop.time()
            if wait_s > 0:  # reloading a page again and again causes no further polls
                await asyncio.sleep(wait_s)
                continue
            self._due_s = loop.time() + INTERVAL_S
            await asyncio.gather(*(battery.refresh() for battery in self.batteries.values()))
