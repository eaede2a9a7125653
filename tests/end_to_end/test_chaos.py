"""Random faults in random order for hours of virtual time: no wrong, stale or leaked result."""

import asyncio
import random

import pytest

from exporter.battery.snapshot import Snapshot
from exporter.config.schema import PollConfig, Seconds
from exporter.demo.battery import Faults, VirtualBattery, encode_reply
from exporter.demo.radio import make_air
from exporter.errors import FailureReason
from tests.support.recorded import CELLS
from tests.support.virtual import battery, make_poller, make_routes, now_s

MAX_AGE_S = 60.0
FAULTS = (
    Faults(),
    Faults(lose_first=1),
    Faults(lose_first=4, reply_s=0.5),
    Faults(notification=1),
    Faults(notification=0, gap_s=2.0),
    Faults(gap_s=3.0),
    Faults(stray=b"\xdd\x03\x00\xff"),
    Faults(silent=True),
    Faults(bad_checksum=True),
    Faults(wrong_register=True),
    Faults(truncated=True),
    Faults(cut=True),
    Faults(refuses=True),
    Faults(gone=True),
    Faults(held=True),
)


def answer_with_the_time(register: int) -> bytes:
    """Encode the time of the request as the remaining capacity: 10 mAh for each minute."""
    if register == 0x04:
        return CELLS
    if register != 0x03:
        return encode_reply(register, status=0x80)
    minutes = round(now_s() / 60) % 0x10000
    payload = bytearray(23)
    payload[4:8] = minutes.to_bytes(2, "big") + b"\xff\xff"
    return encode_reply(0x03, bytes(payload))


def answered_at_s(snapshot: Snapshot) -> float:
    assert snapshot.reading is not None
    assert snapshot.reading.basic is not None
    return snapshot.reading.basic.remaining_ah * 100 * 60


@pytest.mark.parametrize("seed", range(6))
async def test_no_number_is_wrong_or_stale_and_no_connection_leaks(seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311 - repeatable chaos
    virtual: VirtualBattery = battery(answers=answer_with_the_time)
    air = make_air([virtual])
    routes = make_routes(air)
    poll = PollConfig(
        timeout_s=Seconds(15.0),
        min_interval_s=Seconds(dice.choice([0.0, 10.0])),
        max_age_s=Seconds(MAX_AGE_S),
        backoff_max_s=Seconds(30.0),
    )
    snapshots: list[Snapshot] = []
    ages_s: list[float] = []

    async def scrape(timeout_s: float) -> None:
        snapshot = await poller.refresh(timeout_s=timeout_s)
        snapshots.append(snapshot)
        if snapshot.reading is not None:
            ages_s.append(now_s() - answered_at_s(snapshot))

    async with asyncio.TaskGroup() as tasks:
        poller = make_poller(routes, tasks, poll=poll)
        scrapers: set[asyncio.Task[None]] = set()
        for _ in range(1500):
            virtual.faults = dice.choice(FAULTS)
            for _ in range(dice.choice([0, 1, 1, 5])):
                scrapers.add(asyncio.create_task(scrape(dice.choice([0.0, 0.5, 2.5, 9.5, 60.0]))))
            if scrapers and dice.random() < 0.1:
                dice.choice(sorted(scrapers, key=id)).cancel()
            if dice.random() < 0.05:
                air.drop(virtual.address)
            await asyncio.sleep(dice.choice([0.0, 0.3, 1.0, 5.0, 20.0]))
            assert len(air.connected) <= 1
            assert air.most_scans <= 1
            scrapers = {one for one in scrapers if not one.done()}
        await asyncio.gather(*scrapers, return_exceptions=True)
        await poller.close()

    last = snapshots[-1]
    assert ages_s
    # The battery reports whole minutes. A reading is complete up to 15 s after its request.
    assert -30.0 <= min(ages_s) <= max(ages_s) <= MAX_AGE_S + 30.0 + 15.0
    assert air.connected == {}
    assert air.scans == 0
    assert virtual.connects == virtual.disconnects
    assert virtual.illegal == []
    assert last.polls > 50
    assert last.polls > sum(last.failures.values()) > 0
    assert set(last.failures) >= {FailureReason.TIMEOUT, FailureReason.NOT_FOUND}
    assert last.coalesced <= last.served <= len(snapshots)
