"""The process of the service: its signals, and systemd, which supervises it."""

import asyncio
import logging
import os
import re
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeVar

from systemd_watchdog.systemd_watchdog import WatchDog

log = logging.getLogger(__name__)

T = TypeVar("T")

INTERVAL_US: Final = re.compile(r"[1-9][0-9]{0,11}")  # at most 11 days


@contextmanager
def on_signals(action: Callable[[], object], *numbers: signal.Signals) -> Iterator[None]:
    """Call `action` in the event loop for each of these signals.

    asyncio's add_signal_handler passes signals through a socket. If many SIGHUPs fill it, a SIGTERM
    is lost.
    """
    loop = asyncio.get_running_loop()

    def handle(*_: object) -> None:
        loop.call_soon_threadsafe(action)

    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


async def cancel_on_sigterm(work: Coroutine[Any, Any, T]) -> T:
    """Run a command that SIGTERM ends as Ctrl-C does: it disconnects from its battery first."""
    task = asyncio.create_task(work)
    with on_signals(task.cancel, signal.SIGTERM):
        return await task


class Stop:
    """Stops after the scrapes under way at the first signal, and at once at the second."""

    def __init__(self) -> None:
        """Stop the current task."""
        self._asked = asyncio.Event()
        self.wait = self._asked.wait
        self.at_once = False  # a second signal cancelled the task
        self._task = asyncio.current_task()

    def ask(self) -> None:
        """Handle a signal."""
        if not self._asked.is_set():
            log.info("stopping, as soon as the scrapes under way are answered")
            self._asked.set()
        elif self._task is not None:
            self.at_once = True
            self._task.cancel()


async def tell_systemd() -> None:
    """Report that the exporter is ready, then twice per WatchdogSec that it is alive."""
    if "NOTIFY_SOCKET" not in os.environ:
        return
    interval_us = os.environ.pop("WATCHDOG_USEC", "")  # the library fails if it is not a number
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as notifying:
        systemd = WatchDog(notifying)
        try:
            systemd.ready()
            while INTERVAL_US.fullmatch(interval_us):
                with suppress(BlockingIOError):  # systemd has not read the last ones yet
                    systemd.notify()
                await asyncio.sleep(int(interval_us) / 2e6)
        except OSError as error:  # an inherited NOTIFY_SOCKET that is gone
            log.warning(
                "systemd was not notified: the socket in NOTIFY_SOCKET cannot be used",
                extra={"error": error.strerror},
            )
