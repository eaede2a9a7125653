"""Timeouts that the transports share, and one for work that may ignore its cancellation."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Final, TypeVar

from exporter.errors import Cause

log = logging.getLogger(__name__)

# JBD modules advertise every second or two. One that was not seen in 10 s is out of range, switched
# off or connected to the phone app.
FIND_S: Final = 10.0
# A wait keeps the radio listening all the time, which starves the Wi-Fi on the same chip. A battery
# that was missed twice is away for long: later looks are short, but an advertisement every two
# seconds fits into them.
SHORT_FIND_S: Final = 3.0
FULL_LOOKS: Final = 2  # before they get short
CONNECTION_S: Final = 1.0  # the time by which a connection delays others over the same adapter
ANSWER_S: Final = 5.0  # bluetoothd answers in milliseconds; one that hangs must not block a poll
CLEAN_UP_S: Final = 3.0  # for cancelled work; bleak waits for bluetoothd's answer without a limit
UNDO_S: Final = 12.0  # for a disconnect: bluetoothd takes about 2 s, bleak waits for up to 10 s
# Between two attempts to connect: a battery that answered none of six connection intervals (HCI
# error 0x3E) is in the same interference a moment later. The pauses double.
FIRST_PAUSE_S: Final = 0.25
LONGEST_PAUSE_S: Final = 4.0

GATT_ATTEMPTS: Final = 3  # in one poll: a battery that is slow with its table may be busy

T = TypeVar("T")


def limit_look(missed: int, full_s: float) -> float:
    """Return for how long to look for a battery that was not seen by so many looks in a row."""
    return full_s if missed < FULL_LOOKS else min(SHORT_FIND_S, full_s)


def may_retry(cause: Cause | None, attempts: int) -> bool:
    """Return whether another attempt to connect in the same poll may succeed."""
    return cause is Cause.RADIO or (cause is Cause.GATT and attempts < GATT_ATTEMPTS)


def retry_pauses() -> Iterator[float]:
    """Yield the seconds to wait after each failed attempt to connect, without end."""
    pause_s = FIRST_PAUSE_S
    while True:
        yield pause_s
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


async def with_timeout(
    work: Coroutine[Any, Any, T],
    seconds: float,
    undo: Callable[[T], Coroutine[Any, Any, None]] | None = None,
) -> T:
    """Limit the time of work that may ignore its cancellation; `undo` a result that comes too late.

    Raises:
        TimeoutError: The work was not done in time.
    """
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait([task], timeout=max(0.0, seconds))
    except asyncio.CancelledError:
        await _cut_short(task, undo)
        raise
    if not done:
        await _cut_short(task, undo)
        raise TimeoutError
    return task.result()


async def _cut_short(
    task: asyncio.Future[T], undo: Callable[[T], Coroutine[Any, Any, None]] | None
) -> None:
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=CLEAN_UP_S)
    if not done:
        log.debug("cancelled task goes on", extra={"task": repr(task)})
        leave_behind(task)
    elif not task.cancelled() and task.exception() is None and undo is not None:
        await with_timeout(undo(task.result()), UNDO_S)


def leave_behind(task: asyncio.Future[Any]) -> None:
    """Let a cancelled task end when it can; its failure is only logged."""
    _LEFT_BEHIND.add(task)
    task.add_done_callback(_forget)


def _forget(task: asyncio.Future[Any]) -> None:
    _LEFT_BEHIND.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        log.debug("cancelled task failed at last", extra={"error": str(error)})


_LEFT_BEHIND: Final[set[asyncio.Future[Any]]] = set()
"""References to tasks that nothing awaits, so that they are not garbage-collected."""
