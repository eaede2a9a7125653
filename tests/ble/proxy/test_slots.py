"""Batteries connect one after the other while the proxy reports free connections."""

import asyncio

import pytest

from exporter.ble.proxy.slots import Slots

LIMIT = 3


def waiting(slots: Slots, address: int) -> asyncio.Task[None]:
    return asyncio.create_task(slots.take(address))


async def is_waiting(task: asyncio.Task[None]) -> bool:
    await asyncio.sleep(1.0)
    return not task.done()


@pytest.fixture
def slots() -> Slots:
    slots = Slots()
    slots.update(1, LIMIT, [8, 9])
    return slots


async def test_last_free_connection_goes_to_the_first_that_asks(slots: Slots) -> None:
    first, second = waiting(slots, 1), waiting(slots, 2)

    assert not await is_waiting(first)
    assert await is_waiting(second)
    second.cancel()


async def test_connection_that_no_report_contains_yet_is_not_free(slots: Slots) -> None:
    await slots.take(1)
    second = waiting(slots, 2)

    slots.note_asked(1, is_connected=True)
    assert await is_waiting(second)
    slots.update(0, LIMIT, [8, 9, 1])
    assert await is_waiting(second)
    slots.update(1, LIMIT, [8, 9])

    assert not await is_waiting(second)


async def test_connection_of_a_failed_attempt_is_free_at_once(slots: Slots) -> None:
    await slots.take(1)
    second = waiting(slots, 2)

    slots.note_asked(1)

    assert not await is_waiting(second)


async def test_connection_that_ended_is_free_although_no_report_says_so(slots: Slots) -> None:
    await slots.take(1)
    slots.note_asked(1, is_connected=True)
    second = waiting(slots, 2)

    slots.note_gone(1)

    assert not await is_waiting(second)


async def test_connection_in_an_earlier_report_is_not_counted_twice(slots: Slots) -> None:
    slots.update(2, LIMIT, [9])
    await slots.take(1)
    slots.update(1, LIMIT, [9, 1])

    slots.note_asked(1, is_connected=True)

    assert not await is_waiting(waiting(slots, 2))


async def test_proxy_that_reports_no_addresses_gives_every_connection(slots: Slots) -> None:
    slots.update(2, LIMIT, [])
    await slots.take(1)
    slots.note_asked(1, is_connected=True)
    slots.update(1, LIMIT, [])

    assert not await is_waiting(waiting(slots, 2))
