"""A limit of time for work that may not end when it is cancelled."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

log = logging.getLogger(__name__)

# What was cut short may clean up for this long; bleak would wait for bluetoothd's answer for ever.
CLEAN_UP_S: Final = 3.0
# How long undoing may take: bluetoothd disconnects in about 2 s; bleak waits for it for up to 10 s.
UNDO_S: Final = 12.0

T = TypeVar("T")


async def within(
    work: Coroutine[Any, Any, T],
    seconds: float,
    undo: Callable[[T], Coroutine[Any, Any, None]] | None = None,
) -> T:
    """Like asyncio.timeout, for work that may wait for ever when it is cancelled.

    Raises:
        TimeoutError: It was not done in time.
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
        await within(undo(task.result()), UNDO_S)


def _forget(task: asyncio.Future[Any]) -> None:
    _LEFT_BEHIND.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        log.debug("ended at last", extra={"error": str(error)})


_LEFT_BEHIND: Final[set[asyncio.Future[Any]]] = set()
"""Tasks that nobody waits for and that must not be collected while they end."""
