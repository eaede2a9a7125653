"""Timeouts that several ways to a battery share, and one for work that ignores cancellation."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

log = logging.getLogger(__name__)

# JBD modules advertise about every second or two; one that was not seen in 10 s is away, switched
# off or held by the phone app.
FIND_S: Final = 10.0
ATTEMPTS: Final = 3  # to connect, in one poll
# What a connection keeps the others waiting for: an adapter makes one after the other.
CONNECTION_S: Final = 1.0
# bluetoothd answers in milliseconds; one that accepts and never answers must not hold a poll up.
ANSWER_S: Final = 5.0
# Cancelled work may clean up for this long; bleak would wait for bluetoothd's answer for ever.
CLEAN_UP_S: Final = 3.0
# How long undoing may take: bluetoothd disconnects in about 2 s; bleak waits for it for up to 10 s.
UNDO_S: Final = 12.0

T = TypeVar("T")


async def with_timeout(
    work: Coroutine[Any, Any, T],
    seconds: float,
    undo: Callable[[T], Coroutine[Any, Any, None]] | None = None,
) -> T:
    """Limit the time of work that may never end when it is cancelled.

    Args:
        work: The work.
        seconds: Its limit.
        undo: Called with a result that came too late.

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
        log.debug("left behind", extra={"task": repr(task)})
        _LEFT_BEHIND.add(task)
        task.add_done_callback(_forget)
    elif not task.cancelled() and task.exception() is None and undo is not None:
        await with_timeout(undo(task.result()), UNDO_S)


def _forget(task: asyncio.Future[Any]) -> None:
    _LEFT_BEHIND.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        log.debug("ended at last", extra={"error": str(error)})


_LEFT_BEHIND: Final[set[asyncio.Future[Any]]] = set()
"""Keeps tasks from being collected while they end; nothing awaits them."""
