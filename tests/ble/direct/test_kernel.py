"""An adapter connects to one battery at a time, and the timeouts of the others allow for it."""

import asyncio
import time

import pytest

from exporter.ble.direct.kernel import Turns

pytestmark = pytest.mark.looptime(False)  # noqa: FBT003 - a slow machine is slow in real time


async def test_timeout_during_another_connect_concerns_one_battery() -> None:
    turns = Turns()

    async def wait_for_nothing() -> None:
        async with turns.wait(0.05):
            await asyncio.sleep(10.0)

    waiting = asyncio.create_task(wait_for_nothing())
    await asyncio.sleep(0)
    async with turns.wait(5.0):
        time.sleep(0.1)  # noqa: ASYNC251 - a slow machine
        await asyncio.sleep(0)

    with pytest.raises(TimeoutError):
        await waiting
