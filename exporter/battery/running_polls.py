"""The polls of one battery that are under way, connected one at a time."""

import asyncio
from collections.abc import Awaitable, Callable


class RunningPolls:
    """Runs each poll after the previous one has disconnected.

    The outcome of a poll is known before it has disconnected. So two can be under way: one that
    disconnects, and one that waits for it.
    """

    def __init__(self, tasks: asyncio.TaskGroup, name: str, *, changed: Callable[[], None]) -> None:
        """Run polls in `tasks`, so that a bug in one ends the program.

        `changed` is called when a poll has begun, or has ended without setting its outcome.
        """
        self._group = tasks
        self._name = name
        self._changed = changed
        self._tasks: set[asyncio.Task[None]] = set()
        self._newest: asyncio.Task[None] | None = None
        self._outcome: asyncio.Future[bool] | None = None

    @property
    def outcome(self) -> asyncio.Future[bool] | None:
        """The outcome of the poll that is reading now, True for success; None: none is reading."""
        return None if self._outcome is None or self._outcome.done() else self._outcome

    def start(
        self, poll: Callable[[asyncio.Future[bool]], Awaitable[None]]
    ) -> asyncio.Future[bool]:
        """Run `poll`; return its outcome, which `poll` sets."""
        outcome: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        run = self._run(poll, outcome, tuple(self._tasks))
        self._outcome = outcome
        self._newest = self._group.create_task(run, name=self._name)
        self._tasks.add(self._newest)
        self._newest.add_done_callback(self._tasks.discard)
        self._changed()
        return outcome

    async def end(self) -> None:
        """End the poll under way, if any; return when every poll has disconnected."""
        if self.outcome is not None and self._newest is not None:
            self._newest.cancel()  # a cancelled disconnect would leave the battery connected
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _run(
        self,
        poll: Callable[[asyncio.Future[bool]], Awaitable[None]],
        outcome: asyncio.Future[bool],
        earlier: tuple[asyncio.Task[None], ...],
    ) -> None:
        try:
            if connected := [task for task in earlier if not task.done()]:
                await asyncio.wait(connected)
            await poll(outcome)
        finally:
            if not outcome.done():  # cancelled, or a bug: scrapes must not wait for ever
                outcome.set_result(False)
                self._changed()
