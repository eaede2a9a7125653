"""Reads settings on one open link: the I/O and the timer of a `SettingsExchange`."""

import asyncio
from collections.abc import Sequence
from typing import Final

from exporter.connection import Link
from exporter.errors import LinkLostError
from exporter.protocol.settings_exchange import READ_S, Counters, Expected, SettingsExchange

WRITE_S: Final = 0.4  # for the write under way when the mode is to be left; most take 10 ms


class SettingsSession:
    """Drives a `SettingsExchange` over one link, and leaves the mode whatever happens.

    The exchange runs in a task of its own. However often the caller is cancelled, the mode is left
    first, for at most 3 s.
    """

    def __init__(self, link: Link, counters: Counters) -> None:
        """Start on a link; replies from earlier connections may still arrive on it."""
        self.link = link
        self.exchange = SettingsExchange(counters, is_new=True)
        self.is_lost = False
        self._must_leave = False
        self._timeout: asyncio.Timeout | None = None  # of what the task waits for
        self._is_writing = False

    async def read(
        self, registers: Sequence[int], expected: Expected, *, read_s: float = READ_S
    ) -> None:
        """Read settings for at most `read_s`, and leave the mode; `exchange` has the result.

        Never raises a BmsError: a lost link is a failure of the exchange.
        """
        self._must_leave = False
        now_s = asyncio.get_running_loop().time()
        self.exchange.read(registers, expected, now_s=now_s, read_s=read_s)
        await self._run()

    async def leave(self) -> bool:
        """Close the mode; return whether that was acknowledged. Never raises a BmsError."""
        self.exchange.leave(now_s=asyncio.get_running_loop().time())
        await self._run()
        return self.exchange.is_left

    def leave_early(self) -> None:
        """Make a `read` under way leave the mode now."""
        if self._must_leave:
            return
        self._must_leave = True
        timeout = self._timeout
        if timeout is not None and not timeout.expired():
            end_s = asyncio.get_running_loop().time() + (WRITE_S if self._is_writing else 0.0)
            timeout.reschedule(min(end_s, timeout.when() or end_s))

    async def _run(self) -> None:
        """Run the exchange to its end; a cancellation is raised only after that."""
        cancelled: asyncio.CancelledError | None = None
        while self.exchange.is_waiting:
            task = asyncio.create_task(self._drive(), name="settings")
            while not task.done():
                try:
                    await asyncio.wait([task])
                except asyncio.CancelledError as error:
                    cancelled = error
                    self.leave_early()
            if task.cancelled():  # the event loop is being closed
                self.leave_early()
            else:
                task.result()
        if cancelled is not None:
            raise cancelled

    async def _drive(self) -> None:
        exchange, loop = self.exchange, asyncio.get_running_loop()
        while exchange.is_waiting:
            if self._must_leave:
                exchange.leave(now_s=loop.time())
            try:
                async with asyncio.timeout_at(exchange.deadline_s) as self._timeout:
                    if data := exchange.data_to_send:
                        self._is_writing = True
                        await self.link.write(data)
                        exchange.data_sent(loop.time())
                        continue
                    _, received = await self.link.receive()
            except TimeoutError:
                if self._must_leave:  # first: `timed_out` could begin a resend
                    exchange.leave(now_s=loop.time())
                exchange.timed_out(loop.time())
                continue
            except LinkLostError:
                self.is_lost = True
                exchange.stop()
                continue
            finally:
                self._timeout, self._is_writing = None, False
            exchange.receive_data(received, now_s=loop.time())
