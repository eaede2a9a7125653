"""What a scrape is served, and how often the battery is polled for it."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest

from exporter.battery.poller import OVERRUN_S, Poller
from exporter.battery.snapshot import Snapshot
from exporter.clock import WallClock
from exporter.config.presentation import Presentation
from exporter.config.schema import PollConfig, Seconds
from exporter.errors import AdapterError, FailureReason, LinkLostError, NotFoundError
from exporter.link_stats import LinkStats
from exporter.reading import Identity, Reading
from tests.support.virtual import WallTime

READING = Reading(
    identity=Identity(profile="ff00", hardware="JBD", software="8.3", manufactured=None)
)
POLL_S = 2.0
DISCONNECT_S = 2.0
SCRAPE_S = 9.5


class FakeBattery:
    """Counts its polls; each takes POLL_S, then DISCONNECT_S more, and ends as `error` says."""

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self.poll_s = POLL_S
        self.steps = 0  # of the event loop, after that time
        self.started: list[float] = []
        self.connected = 0
        self.most_connected = 0
        self.cleaned_up = 0

    async def poll(self, publish: Callable[[Reading], None]) -> None:
        self.started.append(now_s())
        self.connected += 1
        self.most_connected = max(self.most_connected, self.connected)
        try:
            await asyncio.sleep(self.poll_s)
            for _ in range(self.steps):
                await asyncio.sleep(0)
            if self.error is not None:
                raise self.error
            publish(READING)
        finally:
            await asyncio.sleep(DISCONNECT_S)
            self.connected -= 1
            self.cleaned_up += 1


def now_s() -> float:
    return asyncio.get_running_loop().time()


@pytest.fixture
def battery() -> FakeBattery:
    return FakeBattery()


@pytest.fixture
def stats() -> LinkStats:
    return LinkStats()


def make_poller(
    battery: FakeBattery,
    tasks: asyncio.TaskGroup,
    stats: LinkStats | None = None,
    *,
    min_interval_s: float = 10.0,
    max_age_s: float = 120.0,
    backoff_max_s: float = 300.0,
    wall: WallClock | None = None,
) -> Poller:
    return Poller(
        battery="camper",
        address="A4:C1:38:00:00:01",
        poll=battery.poll,
        config=PollConfig(
            min_interval_s=Seconds(min_interval_s),
            max_age_s=Seconds(max_age_s),
            backoff_max_s=Seconds(backoff_max_s),
        ),
        stats=stats or LinkStats(),
        tasks=tasks,
        wall=wall or WallClock(now_s),
    )


async def scrapes(poller: Poller, count: int) -> list[Snapshot]:
    return await asyncio.gather(*(poller.refresh(timeout_s=SCRAPE_S) for _ in range(count)))


class TestCoalescing:
    async def test_thousand_concurrent_scrapes_share_one_poll(
        self, battery: FakeBattery, tasks: asyncio.TaskGroup
    ) -> None:
        poller = make_poller(battery, tasks)

        snapshots = await scrapes(poller, 1000)

        assert len(battery.started) == 1
        assert all(snapshot.reading is READING for snapshot in snapshots)
        assert snapshots[-1].served == 1000
        assert snapshots[-1].coalesced == 999

    async def test_scrape_joins_the_poll_that_another_started_a_second_ago(
        self, battery: FakeBattery, tasks: asyncio.TaskGroup
    ) -> None:
        poller = make_poller(battery, tasks)
        first = asyncio.create_task(poller.refresh(timeout_s=SCRAPE_S))
        await asyncio.sleep(1.0)
        began_s = now_s()

        second = await poller.refresh(timeout_s=SCRAPE_S)

        assert now_s() - began_s == pytest.approx(POLL_S - 1.0)
        assert second.reading is READING
        assert (await first).reading is READING
        assert len(battery.started) == 1

    async def test_reading_younger_than_min_interval_is_served_without_a_poll(
        self, battery: FakeBattery, tasks: asyncio.TaskGroup
    ) -> None:
        poller = make_poller(battery, tasks, min_interval_s=10.0)
        await poller.refresh(timeout_s=SCRAPE_S)
        await asyncio.sleep(9.9)
        began_s = now_s()

        snapshot = await poller.refresh(timeout_s=SCRAPE_S)

        assert now_s() == began_s
        assert snapshot.reading is READING
        assert len(battery.started) == 1
        assert (snapshot.served, snapshot.coalesced) == (2, 1)

    async def test_reading_as_old_as_min_interval_causes_a_poll(
        self, battery: FakeBattery, tasks: asyncio.TaskGroup
    ) -> None:
        poller = make_poller(battery, tasks, min_interval_s=10.0)
        await poller.refresh(timeout_s=SCRAPE_S)
        await asyncio.sleep(10.0)

        snapshot = await poller.refresh(timeout_s=SCRAPE_S)

        assert len(battery.started) == 2
        assert (snapshot.served, snapshot.coalesced) == (2, 0)

    async def test_min_interval_of_zero_polls_for_every_scrape(
        self, battery: FakeBattery, tasks: asyncio.TaskGroup
    ) -> None:
        poller = make_poller(battery, tasks, min_interval_s=0.0)

        for _ in range(3):
            await poller.refresh(timeout_s=SCRAPE_S)

        assert len(battery.started) == 3

    async def test_cancelled_scrape_does_not_cancel_the_others(
        self, battery: FakeBattery, tasks: asyncio.TaskGroup
    ) -> None:
        poller = make_poller(battery, tasks)
        impatient = asyncio.create_task(poller.refresh(timeout_s=SCRAPE_S))
        patient = asyncio.create_task(poller.refresh(timeout_s=SCRAPE_S))
        await asyncio.sleep(1.0)

        impatient.cancel()

        assert (await patient).reading is READING
        assert len(battery.started) == 1

    async def test_nothing_is_polled_without_a_scrape(
        self, battery: FakeBattery, tasks: asyncio.TaskGroup
    ) -> None:
        make_poller(battery, tasks)

        await asyncio.sleep(3600)

        assert battery.started == []


class TestDeadline:
    async def test_scrape_shorter_than_the_poll_is_answered_in_time_without_a_reading(
        self, battery: FakeBattery, tasks: asyncio.TaskGroup
    ) -> None:
        battery.poll_s = 6.0
        poller = make_poller(battery, tasks)
        began_s = now_s()

        snapshot = await poller.refresh(timeout_s=2.5)

        assert now_s() - began_s == pytest.approx(2.5)
        assert snapshot.reading is None
        assert snapshot.up is None
        assert snapshot.polls == 0
        assert (snapshot.served, snapshot.coalesced) == (0, 0)

    async def test_poll_that_outlasts_its_scrape_serves_the_next_one(
        self, battery: FakeBattery, tasks: asyncio.TaskGroup
    ) -> None:
        battery.poll_s = 6.0
        poller = make_poller(battery, tasks)
        await poller.refresh(timeout_s=2.5)
        await asyncio.sleep(10.0)

        snapshot = await poller.refresh(timeout_s=2.5)

        assert snapshot.up
        assert snapshot.reading is READING
        assert len(battery.started) == 1

    async def test_scrape_without_any_time_still_starts_a_poll(
        self, battery: FakeBattery, tasks: asyncio.TaskGroup
    ) -> None:
        poller = make_poller(battery, tasks)

        snapshot = await poller.refresh(timeout_s=0.0)
        await asyncio.sleep(POLL_S)

        assert snapshot.reading is None
        assert len(battery.started) == 1

    async def test_scrape_that_times_out_shows_the_last_reading_up_to_max_age(
        self, battery: FakeBattery, tasks: asyncio.TaskGroup
    ) -> None:
        poller = make_poller(battery, tasks, max_age_s=60.0)
        await poller.refresh(timeout_s=SCRAPE_S)
        await asyncio.sleep(30.0)

        snapshot = await poller.refresh(timeout_s=0.5)

        assert snapshot.up
        assert snapshot.reading is READING
        assert (snapshot.served, snapshot.coalesced) == (2, 0)

    @pytest.mark.parametrize("steps", range(10))
    async def test_reading_in_the_instant_in_which_the_scrape_ends_is_shown_with_up(
        self, battery: FakeBattery, tasks: asyncio.TaskGroup, steps: int
    ) -> None:
        battery.steps = 5
        poller = make_poller(battery, tasks, max_age_s=0.0)
        await poller.refresh(timeout_s=0.0)  # starts the poll
        await asyncio.sleep(POLL_S)
        for _ in range(steps):
            await asyncio.sleep(0)

        snapshot = await poller.refresh(timeout_s=0.0)

        assert (snapshot.reading is READING) == bool(snapshot.up)

    async def test_scrape_without_a_timeout_sees_the_outcome_of_a_poll_that_ends_at_its_own(
        self, battery: FakeBattery, tasks: asyncio.TaskGroup
    ) -> None:
        battery.poll_s, battery.steps = 30.0, 5
        poller = make_poller(battery, tasks, max_age_s=0.0)

        snapshot = await poller.refresh()

        assert snapshot.up
        assert snapshot.reading is READING


class TestDisconnecting:
    async def test_reading_is_served_before_the_disconnect_ends(
        self, battery: FakeBattery, tasks: asyncio.TaskGroup
    ) -> None:
        poller = make_poller(battery, tasks)
        began_s = now_s()

        snapshot = await poller.refresh(timeout_s=SCRAPE_S)

        assert now_s() - began_s == pytest.approx(POLL_S)
        assert snapshot.poll_duration_s == pytest.approx(POLL_S)
        assert snapshot.poll_timeout_s == 30.0
        assert battery.cleaned_up == 0

    async def test_next_poll_waits_until_the_last_one_has_disconnected(
        self, battery: FakeBattery, tasks: asyncio.TaskGroup
    ) -> None:
        poller = make_poller(battery, tasks, min_interval_s=0.0)
        await poller.refresh(timeout_s=SCRAPE_S)

        snapshot = await poller.refresh(timeout_s=SCRAPE_S)

        assert battery.most_connected == 1
        assert battery.started == [0.0, POLL_S + DISCONNECT_S]
        assert snapshot.poll_duration_s == pytest.approx(POLL_S)

    async def test_close_ends_the_poll_and_waits_for_its_disconnect(
        self, battery: FakeBattery, tasks: asyncio.TaskGroup
    ) -> None:
        poller = make_poller(battery, tasks)
        await poller.refresh(timeout_s=1.0)

        await poller.close()

        assert battery.cleaned_up == 1
        assert now_s() == pytest.approx(1.0 + DISCONNECT_S)

    async def test_close_does_not_cancel_a_disconnect(
        self, battery: FakeBattery, tasks: asyncio.TaskGroup
    ) -> None:
        poller = make_poller(battery, tasks)
        await poller.refresh(timeout_s=SCRAPE_S)

        await poller.close()

        assert battery.cleaned_up == 1
        assert now_s() == pytest.approx(POLL_S + DISCONNECT_S)

    async def test_close_waits_for_an_older_disconnect_too(
        self, battery: FakeBattery, tasks: asyncio.TaskGroup
    ) -> None:
        poller = make_poller(battery, tasks, min_interval_s=0.0)
        await poller.refresh(timeout_s=SCRAPE_S)
        await poller.refresh(timeout_s=1.0)

        await poller.close()

        assert battery.connected == 0
        assert battery.cleaned_up == 1
        assert len(battery.started) == 1

    async def test_close_of_an_idle_poller_returns_at_once(
        self, battery: FakeBattery, tasks: asyncio.TaskGroup
    ) -> None:
        await make_poller(battery, tasks).close()

        assert now_s() == 0.0

    async def test_scrape_whose_poll_is_ended_by_close_is_answered(
        self, battery: FakeBattery, tasks: asyncio.TaskGroup
    ) -> None:
        poller = make_poller(battery, tasks)
        scrape = asyncio.create_task(poller.refresh(timeout_s=SCRAPE_S))
        await asyncio.sleep(1.0)

        await poller.close()

        assert (await scrape).reading is None


class TestPause:
    async def test_paused_battery_is_disconnected_at_once_and_not_polled(
        self, battery: FakeBattery, tasks: asyncio.TaskGroup
    ) -> None:
        poller = make_poller(battery, tasks)
        scrape = asyncio.create_task(poller.refresh(timeout_s=SCRAPE_S))
        await asyncio.sleep(1.0)

        await poller.pause(600.0)

        assert (await scrape).paused
        assert battery.connected == 0
        await asyncio.sleep(599.0 - DISCONNECT_S)
        assert (await poller.refresh(timeout_s=SCRAPE_S)).polls == 0
        await asyncio.sleep(1.0)
        assert (await poller.refresh(timeout_s=SCRAPE_S)).up

    async def test_resume_ends_a_pause(
        self, battery: FakeBattery, tasks: asyncio.TaskGroup
    ) -> None:
        poller = make_poller(battery, tasks)
        await poller.pause(600.0)

        poller.resume()

        assert (await poller.refresh(timeout_s=SCRAPE_S)).up

    async def test_reading_is_shown_during_a_pause_up_to_max_age(
        self, battery: FakeBattery, tasks: asyncio.TaskGroup
    ) -> None:
        poller = make_poller(battery, tasks, max_age_s=60.0)
        await poller.refresh(timeout_s=SCRAPE_S)
        await poller.pause(600.0)

        await asyncio.sleep(50.0)
        assert (await poller.refresh(timeout_s=SCRAPE_S)).reading == READING
        await asyncio.sleep(20.0)
        assert (await poller.refresh(timeout_s=SCRAPE_S)).reading is None


class TestFailures:
    async def test_failure_is_part_of_the_snapshot_and_counted_by_reason(
        self, battery: FakeBattery, tasks: asyncio.TaskGroup
    ) -> None:
        battery.error = NotFoundError("not seen in 10 s")
        poller = make_poller(battery, tasks)

        snapshot = await poller.refresh(timeout_s=SCRAPE_S)

        assert snapshot.up is False
        assert snapshot.reading is None
        assert snapshot.polls == 1
        assert snapshot.failures == {FailureReason.NOT_FOUND: 1}
        assert snapshot.last_error == "not seen in 10 s"
        assert snapshot.last_success_unix_s is None
        assert snapshot.identity is None

    async def test_snapshot_is_empty_before_the_first_poll_ends(
        self, battery: FakeBattery, tasks: asyncio.TaskGroup
    ) -> None:
        snapshot = await make_poller(battery, tasks).refresh(timeout_s=0.1)

        assert snapshot.up is None
        assert snapshot.last_success_unix_s is None
        assert snapshot.poll_duration_s is None

    async def test_success_after_failures_is_up_again_without_the_error(
        self, battery: FakeBattery, tasks: asyncio.TaskGroup
    ) -> None:
        battery.error = NotFoundError("not seen")
        poller = make_poller(battery, tasks)
        await poller.refresh(timeout_s=SCRAPE_S)
        battery.error = None

        snapshot = await poller.refresh(timeout_s=SCRAPE_S)

        assert snapshot.up
        assert snapshot.last_error is None
        assert snapshot.polls == 2
        assert snapshot.failures == {FailureReason.NOT_FOUND: 1}
        assert (snapshot.last_success_unix_s or 0) > 1_700_000_000

    async def test_bug_in_a_poll_ends_the_program(self, battery: FakeBattery) -> None:
        battery.error = ZeroDivisionError("a bug")

        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as tasks:
                await make_poller(battery, tasks).refresh(timeout_s=SCRAPE_S)

        assert caught.group_contains(ZeroDivisionError, match="a bug")

    async def test_snapshot_does_not_change_afterwards(
        self, battery: FakeBattery, tasks: asyncio.TaskGroup, stats: LinkStats
    ) -> None:
        battery.error = LinkLostError("dropped")
        poller = make_poller(battery, tasks, stats)
        before = await poller.refresh(timeout_s=SCRAPE_S)

        stats.requests += 1
        stats.connection_failures[FailureReason.CONNECT] += 1
        after = await poller.refresh(timeout_s=SCRAPE_S)

        assert before.link.requests == 0
        assert before.link.connection_failures == {}
        assert before.failures == {FailureReason.LINK_LOST: 1}
        assert after.link.requests == 1
        assert after.failures == {FailureReason.LINK_LOST: 2}


class TestFreshness:
    async def gone_after_one_reading(
        self, battery: FakeBattery, poller: Poller, seconds: float
    ) -> Snapshot:
        """Return what is served `seconds` after the only reading, the battery having gone."""
        await poller.refresh(timeout_s=SCRAPE_S)
        battery.error = NotFoundError("not seen")
        await asyncio.sleep(seconds - POLL_S - DISCONNECT_S)
        return await poller.refresh(timeout_s=SCRAPE_S)

    async def test_reading_as_old_as_max_age_is_shown(
        self, battery: FakeBattery, tasks: asyncio.TaskGroup
    ) -> None:
        poller = make_poller(battery, tasks, max_age_s=120.0)

        snapshot = await self.gone_after_one_reading(battery, poller, 120.0)

        assert snapshot.reading is READING
        assert not snapshot.up

    async def test_stale_reading_is_absent(
        self, battery: FakeBattery, tasks: asyncio.TaskGroup
    ) -> None:
        poller = make_poller(battery, tasks, max_age_s=120.0)

        snapshot = await self.gone_after_one_reading(battery, poller, 120.1)

        assert snapshot.reading is None
        assert snapshot.identity == READING.identity
        assert (snapshot.last_success_unix_s or 0) > 0

    async def test_max_age_of_zero_shows_only_readings_of_this_poll(
        self, battery: FakeBattery, tasks: asyncio.TaskGroup
    ) -> None:
        poller = make_poller(battery, tasks, min_interval_s=0.0, max_age_s=0.0)
        first = await poller.refresh(timeout_s=SCRAPE_S)
        battery.error = NotFoundError("not seen")

        second = await poller.refresh(timeout_s=SCRAPE_S)

        assert first.reading is READING
        assert second.reading is None

    async def test_max_age_of_zero_hides_a_reading_of_another_poll_at_the_same_time(
        self, battery: FakeBattery, tasks: asyncio.TaskGroup
    ) -> None:
        battery.poll_s = 0.0
        poller = make_poller(battery, tasks, min_interval_s=0.0, max_age_s=0.0)
        await poller.refresh(timeout_s=SCRAPE_S)

        snapshot = await poller.refresh(timeout_s=0.0)

        assert snapshot.reading is None

    async def test_max_age_of_zero_shows_a_reading_younger_than_min_interval(
        self, battery: FakeBattery, tasks: asyncio.TaskGroup
    ) -> None:
        poller = make_poller(battery, tasks, min_interval_s=10.0, max_age_s=0.0)
        await poller.refresh(timeout_s=SCRAPE_S)
        await asyncio.sleep(5.0)

        snapshot = await poller.refresh(timeout_s=SCRAPE_S)

        assert snapshot.reading is READING

    async def test_max_age_below_a_second_is_respected(
        self, battery: FakeBattery, tasks: asyncio.TaskGroup
    ) -> None:
        poller = make_poller(battery, tasks, min_interval_s=0.0, max_age_s=0.5)
        await poller.refresh(timeout_s=SCRAPE_S)

        young = await poller.refresh(timeout_s=0.4)
        old = await poller.refresh(timeout_s=0.2)

        assert young.reading is READING
        assert old.reading is None

    async def test_reading_ages_from_its_request_on_while_the_machine_is_suspended(
        self, battery: FakeBattery, tasks: asyncio.TaskGroup
    ) -> None:
        async def poll(publish: Callable[[Reading], None]) -> None:
            requested_at_s = now_s()
            await asyncio.sleep(8 * 3600.0)
            publish(replace(READING, requested_at_s=requested_at_s))

        battery.poll = poll  # type: ignore[method-assign]
        poller = make_poller(battery, tasks)

        snapshot = await poller.refresh(timeout_s=9 * 3600.0)

        assert snapshot.up
        assert snapshot.reading is None

    async def test_stale_reading_is_absent_during_back_off(
        self, battery: FakeBattery, tasks: asyncio.TaskGroup
    ) -> None:
        poller = make_poller(battery, tasks, max_age_s=60.0)
        await poller.refresh(timeout_s=SCRAPE_S)
        battery.error = NotFoundError("not seen")
        await asyncio.sleep(45.0)
        for _ in range(2):
            await poller.refresh(timeout_s=SCRAPE_S)

        young = await poller.refresh(timeout_s=SCRAPE_S)
        await asyncio.sleep(10.0)
        old = await poller.refresh(timeout_s=SCRAPE_S)

        assert len(battery.started) == 3
        assert young.reading is READING
        assert young.coalesced == 0
        assert old.reading is None

    async def test_rssi_vanishes_when_the_battery_did_not_advertise_for_max_age(
        self, battery: FakeBattery, tasks: asyncio.TaskGroup, stats: LinkStats
    ) -> None:
        stats.record_rssi(-67, 5.0)
        poller = make_poller(battery, tasks, stats, max_age_s=120.0)

        await asyncio.sleep(125.0 - POLL_S)
        heard = await poller.refresh(timeout_s=SCRAPE_S)
        await asyncio.sleep(0.1)
        unheard = await poller.refresh(timeout_s=SCRAPE_S)

        assert heard.rssi_dbm == -67
        assert unheard.rssi_dbm is None

    async def test_battery_that_never_advertised_has_no_rssi(
        self, battery: FakeBattery, tasks: asyncio.TaskGroup
    ) -> None:
        snapshot = await make_poller(battery, tasks).refresh(timeout_s=SCRAPE_S)

        assert snapshot.rssi_dbm is None


DAYS_S = 5 * 86400.0


@pytest.fixture
async def wall_time() -> WallTime:
    return WallTime()


@pytest.mark.parametrize(
    "step_s", [pytest.param(-DAYS_S, id="back"), pytest.param(DAYS_S, id="forward")]
)
class TestWallClock:
    async def test_time_of_a_reading_follows_a_step_of_the_wall_clock(
        self, battery: FakeBattery, tasks: asyncio.TaskGroup, wall_time: WallTime, step_s: float
    ) -> None:
        poller = make_poller(battery, tasks, wall=WallClock(now_s, wall_time))
        before = await poller.refresh(timeout_s=SCRAPE_S)
        await asyncio.sleep(3.0)

        wall_time.ahead_s += step_s
        after = poller.show()

        assert before.last_success_unix_s == 1_795_391_224.5 + POLL_S
        assert after.last_success_unix_s == 1_795_391_226.5 + step_s
        assert after.reading is READING

    async def test_snapshot_changes_with_a_step_of_the_wall_clock_and_not_with_drift(
        self, battery: FakeBattery, tasks: asyncio.TaskGroup, wall_time: WallTime, step_s: float
    ) -> None:
        poller = make_poller(battery, tasks, wall=WallClock(now_s, wall_time))
        first = await poller.refresh(timeout_s=SCRAPE_S)

        wall_time.ahead_s += 0.4
        drifted = poller.show()
        wall_time.ahead_s += step_s
        stepped = poller.show()
        again = poller.show()

        assert drifted == first
        assert drifted.last_success_unix_s == first.last_success_unix_s
        assert stepped != first
        assert again == stepped

    async def test_pause_keeps_its_length_after_a_step_of_the_wall_clock(
        self, battery: FakeBattery, tasks: asyncio.TaskGroup, wall_time: WallTime, step_s: float
    ) -> None:
        poller = make_poller(battery, tasks, wall=WallClock(now_s, wall_time))
        await poller.pause(600.0)

        wall_time.ahead_s += step_s
        await asyncio.sleep(599.0)
        paused = poller.show()
        await asyncio.sleep(1.0)

        assert paused.paused_until_unix_s == pytest.approx(wall_time())
        assert not poller.show().paused

    async def test_failing_since_keeps_its_age_after_a_step_of_the_wall_clock(
        self, battery: FakeBattery, tasks: asyncio.TaskGroup, wall_time: WallTime, step_s: float
    ) -> None:
        battery.error = NotFoundError("not seen")
        poller = make_poller(battery, tasks, wall=WallClock(now_s, wall_time))
        await poller.refresh(timeout_s=SCRAPE_S)
        await asyncio.sleep(60.0)

        wall_time.ahead_s += step_s
        since_unix_s = poller.show().failing_since_unix_s

        assert since_unix_s == pytest.approx(wall_time() - 60.0)


class TestBackOff:
    @staticmethod
    async def polls_in(poller: Poller, battery: FakeBattery, seconds: float) -> list[float]:
        """Scrape every second; return the pauses between the ends of polls and the next."""
        until_s = now_s() + seconds
        while now_s() < until_s:
            await poller.refresh(timeout_s=SCRAPE_S)
            await asyncio.sleep(1.0)
        busy_s = battery.poll_s + DISCONNECT_S
        starts = battery.started
        return [round(later - earlier - busy_s) for earlier, later in pairwise(starts)]

    async def test_waits_between_failing_polls_double_from_15_s_to_the_limit(
        self, battery: FakeBattery, tasks: asyncio.TaskGroup
    ) -> None:
        battery.error = NotFoundError("not seen")
        poller = make_poller(battery, tasks, backoff_max_s=50.0)

        pauses = await self.polls_in(poller, battery, 200.0)

        assert pauses == pytest.approx([0, 15, 30, 50, 50], abs=1)

    async def test_missing_battery_is_polled_at_most_18_times_in_an_hour(
        self, battery: FakeBattery, tasks: asyncio.TaskGroup
    ) -> None:
        battery.error = NotFoundError("not seen")
        poller = make_poller(battery, tasks)

        await self.polls_in(poller, battery, 3600.0)

        assert len(battery.started) <= 18  # one in 5 minutes, after six in the first eight

    async def test_scrape_during_back_off_is_answered_at_once(
        self, battery: FakeBattery, tasks: asyncio.TaskGroup
    ) -> None:
        battery.error = NotFoundError("not seen")
        poller = make_poller(battery, tasks)
        for _ in range(2):
            await poller.refresh(timeout_s=SCRAPE_S)
        began_s = now_s()

        snapshot = await poller.refresh(timeout_s=SCRAPE_S)

        assert now_s() == began_s
        assert snapshot.polls == 2

    async def test_reading_ends_the_back_off(
        self, battery: FakeBattery, tasks: asyncio.TaskGroup
    ) -> None:
        battery.error = NotFoundError("not seen")
        poller = make_poller(battery, tasks, min_interval_s=0.0)
        for _ in range(2):
            await poller.refresh(timeout_s=SCRAPE_S)
        await asyncio.sleep(15.0)
        battery.error = None
        await poller.refresh(timeout_s=SCRAPE_S)
        battery.error = NotFoundError("not seen")

        for _ in range(2):
            await poller.refresh(timeout_s=SCRAPE_S)

        assert len(battery.started) == 5

    async def test_advertisement_of_a_missing_battery_ends_the_back_off(
        self, battery: FakeBattery, tasks: asyncio.TaskGroup, stats: LinkStats
    ) -> None:
        battery.error = NotFoundError("not seen")
        poller = make_poller(battery, tasks, stats)
        for _ in range(2):
            await poller.refresh(timeout_s=SCRAPE_S)
        await asyncio.sleep(DISCONNECT_S)

        stats.seen_at_s = now_s()
        await poller.refresh(timeout_s=SCRAPE_S)

        assert len(battery.started) == 3

    async def test_missing_adapter_is_tried_at_every_scrape(
        self, battery: FakeBattery, tasks: asyncio.TaskGroup
    ) -> None:
        battery.error = AdapterError("no Bluetooth adapter")
        poller = make_poller(battery, tasks)

        for _ in range(5):
            await poller.refresh(timeout_s=SCRAPE_S)

        assert len(battery.started) == 5


class TestLog:
    async def test_failure_is_logged_once_and_the_recovery_too(
        self,
        battery: FakeBattery,
        tasks: asyncio.TaskGroup,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level("INFO")
        poller = make_poller(battery, tasks, min_interval_s=0.0, backoff_max_s=0.001)

        battery.error = NotFoundError("not seen")
        for _ in range(3):
            await poller.refresh(timeout_s=SCRAPE_S)
            await asyncio.sleep(DISCONNECT_S)
        battery.error = LinkLostError("dropped")
        await poller.refresh(timeout_s=SCRAPE_S)
        await asyncio.sleep(DISCONNECT_S)
        battery.error = None
        for _ in range(3):
            await poller.refresh(timeout_s=SCRAPE_S)

        said = [
            (r.levelname.lower(), r.getMessage(), vars(r).get("reason"), vars(r).get("error"))
            for r in caplog.records
        ]
        assert said == [
            ("warning", "poll failed", "not_found", "not seen"),
            ("warning", "poll failed", "link_lost", "dropped"),
            ("info", "battery answers", None, None),
        ]
        assert {vars(record)["battery"] for record in caplog.records} == {"camper"}

    async def test_flapping_battery_is_summed_up_every_hour(
        self,
        battery: FakeBattery,
        tasks: asyncio.TaskGroup,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level("INFO")
        poller = make_poller(battery, tasks, min_interval_s=0.0)

        for number in range(3 * 240 + 2):  # three hours
            battery.error = None if number % 2 else LinkLostError("dropped")
            await poller.refresh(timeout_s=SCRAPE_S)
            await asyncio.sleep(15.0)

        assert caplog.messages == ["poll failed", "battery answers", *3 * ["some polls failed"]]

    async def test_first_reading_of_a_battery_is_logged(
        self,
        battery: FakeBattery,
        tasks: asyncio.TaskGroup,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level("INFO")
        poller = make_poller(battery, tasks, min_interval_s=0.0)

        for _ in range(2):
            await poller.refresh(timeout_s=SCRAPE_S)

        assert [record.getMessage() for record in caplog.records] == ["battery answers"]


async def test_refresh_without_a_timeout_waits_as_long_as_a_poll_may_take(
    battery: FakeBattery, tasks: asyncio.TaskGroup
) -> None:
    battery.poll_s = 100.0
    poller = make_poller(battery, tasks)
    waited = []

    for timeout_s in (30.0, 5.0):  # a reload has changed it
        poller.change(battery.poll, PollConfig(timeout_s=Seconds(timeout_s)), Presentation())
        began_s = now_s()
        await poller.refresh()
        waited.append(now_s() - began_s)

    await poller.close()
    assert waited == [30.0 + OVERRUN_S, 5.0 + OVERRUN_S]
