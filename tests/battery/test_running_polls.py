"""Polls of one battery under way: connected one at a time, whatever is cancelled."""

import asyncio

from exporter.battery.running_polls import RunningPolls

DISCONNECT_S = 2.0


def now_s() -> float:
    return asyncio.get_running_loop().time()


async def test_poll_after_a_cancelled_one_waits_for_the_disconnect_before_that(
    tasks: asyncio.TaskGroup,
) -> None:
    started: list[float] = []

    async def poll(outcome: asyncio.Future[bool]) -> None:
        started.append(now_s())
        outcome.set_result(True)
        await asyncio.sleep(DISCONNECT_S)

    running = RunningPolls(tasks, "poll camper", changed=lambda: None)
    await running.start(poll)
    cancelled = running.start(poll)
    await asyncio.sleep(0.5)
    ending = asyncio.create_task(running.end())
    await asyncio.sleep(0)

    assert not await cancelled
    assert await running.start(poll)

    assert started == [0.0, DISCONNECT_S]
    await ending
