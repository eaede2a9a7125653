"""The process of the service: its signals, and systemd, which supervises it."""

import asyncio
import logging
import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from systemd_watchdog.systemd_watchdog import WatchDog

log = logging.getLogger(__name__)

INTERVAL_US: Final = re.compile(r"[1-9][0-9]{0,11}")  # at most 11 days


@contextmanager
def on_signals(action: Callable[[], None], *numbers: signal.Signals) -> Iterator[None]:
    """Call `action` in the event loop for each of these signals.

    asyncio's add_signal_handler passes signals through a socket: a flood of SIGHUP fills it, and a
    SIGTERM is lost.
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


class Stop:
    """The first signal asks to stop and waits for the scrapes under way; the second does not."""

    def __init__(self) -> None:
        """Stop the task that runs now."""
        self._asked = asyncio.Event()
        self.wait = self._asked.wait
        self.at_once = False
        """Whether the task was cancelled by a second signal."""
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
    """Say that the exporter serves; then, as often as its unit's WatchdogSec wants, that it lives.

    Connections are taken from the moment in which the sockets listen, which is before.
    """
    if "NOTIFY_SOCKET" not in os.environ:
        return
    interval_us = os.environ.pop("WATCHDOG_USEC", "")  # the library takes it for a number
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as notifying:
        systemd = WatchDog(notifying)
        try:
            systemd.ready()
            while INTERVAL_US.fullmatch(interval_us):
                with suppress(BlockingIOError):  # it does not read just now
                    systemd.notify()
                await asyncio.sleep(int(interval_us) / 2e6)
        except OSError as error:  # a NOTIFY_SOCKET that was inherited, and is gone
            log.warning("systemd was not told", extra={"error": str(error)})
