"""Who looks at the page: together they are one scraper, and only while they look."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from exporter.battery.poller import Poller

INTERVAL_S: Final = 30.0
ALIVE_S: Final = 10.0  # how long a page hears nothing before it is told that all is well
MOST: Final = 100  # streams; each costs its part of every change
MOST_EACH: Final = 20  # of one client: a browser opens six


class Watcher:
    """One open stream: collects what has changed since it was last asked."""

    def __init__(self) -> None:
        """Begin with everything changed."""
        self._names: set[str | None] = {None}
        self._wake = asyncio.Event()
        self._wake.set()

    def note(self, name: str | None) -> None:
        """Take note that a battery changed; None: which batteries there are."""
        self._names.add(name)
        self._wake.set()

    def wake(self) -> None:
        """Let `changes` return though nothing has changed."""
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


class Watch:
    """Reads all batteries every 30 s while there is a watcher."""

    def __init__(
        self, batteries: Mapping[str, Poller], tasks: asyncio.TaskGroup, *, most: int = MOST
    ) -> None:
        """Start without a watcher.

        Args:
            batteries: By name; may change later.
            tasks: Runs the readings, until `close` or until the last watcher leaves.
            most: How many streams there may be, if that is less than MOST: each keeps a connection.
        """
        self._most = min(most, MOST)
        self.batteries = batteries
        self._tasks = tasks
        self._watchers: dict[Watcher, str] = {}  # and whose they are
        self._looking: asyncio.Task[None] | None = None
        self._due_s = 0.0
        self.closed = False
        """Whether streams have to end."""

    def is_full_for(self, client: str) -> bool:
        """Whether one more stream would be too many."""
        clients = [*self._watchers.values()]
        return len(clients) >= self._most or clients.count(client) >= MOST_EACH

    def changed(self, name: str | None) -> None:
        """Tell every watcher that a battery changed; None: which batteries there are."""
        for watcher in self._watchers:
            watcher.note(name)

    def close(self) -> None:
        """End looking and every stream."""
        self.closed = True
        if self._looking is not None:
            self._looking.cancel()
        for watcher in self._watchers:
            watcher.wake()

    @contextmanager
    def watching(self, client: str) -> Iterator[Watcher]:
        """Count as one who looks."""
        watcher = Watcher()
        self._watchers[watcher] = client
        if (self._looking is None or self._looking.done()) and not self.closed:
            self._looking = self._tasks.create_task(self._look(), name="look")
        try:
            yield watcher
        finally:
            del self._watchers[watcher]

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        while self._watchers:
            wait_s = self._due_s - loop.time()
            if wait_s > 0:  # a page that is opened again and again is not more than one
                await asyncio.sleep(wait_s)
                continue
            self._due_s = loop.time() + INTERVAL_S
            await asyncio.gather(*(battery.refresh() for battery in self.batteries.values()))
