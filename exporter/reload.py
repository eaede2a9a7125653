"""Reads the configuration again, on SIGHUP or on POST /-/reload."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from exporter.batteries import Batteries
from exporter.config.schema import Config
from exporter.errors import ConfigError
from exporter.metrics import ExporterCollector

log = logging.getLogger(__name__)

MOST_RELOADS: Final = 2  # by SIGHUP: one runs, and one waits to read later changes


class Reload:
    """Reads the configuration again.

    One reload runs at a time. All requests during it share the next one: the configuration may
    have changed since the running reload has read it.
    """

    def __init__(
        self, load: Callable[[], Config], batteries: Batteries, own: ExporterCollector
    ) -> None:
        """Apply what `load` returns to the batteries; `own` shows in metrics whether it worked."""
        self._load = load
        self._batteries = batteries
        self._own = own
        self._lock = asyncio.Lock()
        self._requests = 0
        self._served = 0  # the newest request that a finished reload has covered
        self._problems: Sequence[str] = ()
        self._tasks: set[asyncio.Task[Sequence[str]]] = set()
        self._is_closed = False

    def request(self, tasks: asyncio.TaskGroup) -> None:
        """Schedule a reload for SIGHUP and return at once."""
        if len(self._tasks) < MOST_RELOADS and not self._is_closed:
            task = tasks.create_task(self())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """Cancel reloads by SIGHUP, and ignore further signals."""
        self._is_closed = True
        for task in self._tasks:
            task.cancel()

    async def __call__(self) -> Sequence[str]:
        """Apply the current configuration; return its mistakes, nothing if it was applied."""
        self._requests += 1
        own_number = self._requests
        async with self._lock:
            if self._served < own_number:
                newest = self._requests
                self._problems = await self._reload()
                self._served = newest
            return self._problems

    async def _reload(self) -> Sequence[str]:
        try:
            config = await asyncio.to_thread(self._load)
            await self._batteries.apply(config)
        except ConfigError as error:
            self._own.reload_succeeded = False
            for problem in error.problems:
                log.error(  # noqa: TRY400 - a user's mistake
                    "configuration not reloaded, the old one stays", extra={"error": problem}
                )
            return error.problems
        self._own.note_reload()
        log.info("configuration reloaded", extra={"batteries": len(config.batteries)})
        return ()
