"""Waits for what no event tells: the state of another process, or of the kernel."""

import asyncio
from collections.abc import Callable


async def wait_until(is_met: Callable[[], bool], timeout_s: float = 30.0) -> None:
    """Return when the condition is met. Raises TimeoutError."""
    async with asyncio.timeout(timeout_s):
        while not is_met():  # noqa: ASYNC110 - that is what this is for
            await asyncio.sleep(0.02)
