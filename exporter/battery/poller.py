"""Many scrapes, one poll: coalescing, freshness, deadline, back-off; failures become values."""

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Final

from exporter.battery.history import History, Sample
from exporter.clock import Clock, WallClock, boot_s
from exporter.config.schema import PollConfig
from exporter.errors import BmsError, FailureReason
from exporter.link_stats import LinkStats
from exporter.reading import Identity, Reading

log = logging.getLogger(__name__)

# The first failure is retried at once (a lost packet is the commonest cause); from the second on
# a missing battery costs one look of a few seconds in this time, then in twice, ...
BACKOFF_S: Final = 15.0
REVISIONS: Final = count(1)  # of all snapshots: a battery that comes anew repeats none
MAX_DOUBLINGS: Final = 16  # 11 days: above every backoff_max that makes sense

Publish = Callable[[Reading | BmsError], None]
"""Takes what a poll came to, once, before it disconnects."""

Poll = Callable[[Publish], Awaitable[None]]
"""Read a battery once: call the argument with the reading, return when disconnected."""


@dataclass(slots=True)
class Serving:
    """How often readings were given to scrapes."""

    served: int = 0
    coalesced: int = 0  # of them from a poll that another scrape had started


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What one scrape may show of one battery."""

    battery: str
    address: str
    up: bool | None  # the last finished poll succeeded; None: none has finished yet
    reading: Reading | None  # None: there is none, or it is too old to be shown
    identity: Identity | None  # does not age
    rssi_dbm: int | None  # None: not heard within max_age
    poll_duration_s: float | None  # of the last finished poll
    poll_timeout_s: float
    polls: int
    failures: Mapping[FailureReason, int]
    last_error: str | None  # of the last finished poll, if that failed
    failure: FailureReason | None = None  # the same
    failing_since_s: float | None = None  # by the clock: the first of the failures in a row
    read_at_s: float | None = None  # by the clock: the newest reading, also when it is too old
    max_age_s: float = math.inf  # how old a reading may be to be shown
    polling: bool = False  # a poll is under way
    paused_until_s: float | None = None  # by the clock: the end of a pause
    clock_difference_s: float = 0.0  # add it to these moments to get unix time
    link: LinkStats
    # Goes on counting: an answer that is rendered for several scrapes shows none of them less
    # than it was shown before.
    serving: Serving = field(default_factory=Serving, compare=False)
    revision: int = 0  # the same: nothing but `serving` may differ

    @property
    def paused(self) -> bool:
        """Whether the battery is left to somebody else."""
        return self.paused_until_s is not None

    @property
    def last_success_unix_s(self) -> float | None:
        """When the battery was last read; None: not yet."""
        return self._unix_s(self.read_at_s)

    @property
    def read_unix_s(self) -> float | None:
        """When the reading was read; None: there is none to show."""
        return None if self.reading is None else self.last_success_unix_s

    @property
    def failing_since_unix_s(self) -> float | None:
        """When the first of the failures in a row was; None: the last poll did not fail."""
        return self._unix_s(self.failing_since_s)

    @property
    def paused_until_unix_s(self) -> float | None:
        """When a pause ends; None: there is none."""
        return self._unix_s(self.paused_until_s)

    def _unix_s(self, at_s: float | None) -> float | None:
        return None if at_s is None else at_s + self.clock_difference_s


class Poller:
    """One battery: who asks gets the newest reading that its rules allow, and never waits twice."""

    def __init__(  # noqa: PLR0913 - a battery's whole surroundings, by name
        self,
        *,
        battery: str,
        address: str,
        poll: Poll,
        config: PollConfig,
        stats: LinkStats,
        tasks: asyncio.TaskGroup,
        clock: Clock = boot_s,
        wall: WallClock | None = None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare; nothing is read before the first refresh.

        Args:
            battery: Its configured name.
            address: Its address, for `bms_battery_info`.
            poll: Reads it once. Not called while an earlier call is still disconnecting.
            config: Durations.
            stats: What `poll` counts.
            tasks: Owns the polls, so that a bug in one ends the program.
            clock: Ages readings.
            wall: Converts moments of `clock` to unix time. None: one of its own.
            changed: Called when a poll began or ended, and when the battery was released.
        """
        self._battery = battery
        self._address = address
        self._poll = poll
        self._config = config
        self._stats = stats
        self._tasks = tasks
        self._clock = clock
        self._wall = wall or WallClock(clock)
        self._changed = changed
        self.history = History(self._wall)
        """Its last hours."""

        self._task: asyncio.Task[None] | None = None  # the newest poll, until it has disconnected
        self._running: set[asyncio.Task[None]] = (
            set()
        )  # it, and an older one that still disconnects
        self._outcome: asyncio.Future[bool] | None = (
            None  # of the poll under way, until it is known
        )

        self._reading: Reading | None = None
        self._read_at_s = float("-inf")
        self._poll_duration_s: float | None = None
        self._polls = 0
        self._failures: Counter[FailureReason] = Counter()
        self._failures_in_row = 0
        self._failed_with: FailureReason | None = None
        self._last_error: str | None = None
        self._failed_at_s = float("-inf")
        self._failing_since_s: float | None = None
        self._paused_until_s = float("-inf")
        self._serving = Serving()
        self._last: Snapshot | None = None

    @property
    def is_fresh(self) -> bool:
        """Whether its reading is younger than `min_interval`."""
        return self._age_s() < self._config.min_interval_s

    def show(self) -> Snapshot:
        """Return the snapshot for one scrape, without reading."""
        return self._serve(current=self.is_fresh, coalesced=True)

    async def refresh(self, *, timeout_s: float | None = None) -> Snapshot:
        """Return the snapshot, read anew if it is older than `min_interval` and time allows.

        Never raises a BmsError, and never cancels a poll: one that outlasts `timeout_s` serves
        the next scrape. None: as long as a poll may take.
        """
        if self.is_fresh:
            return self.show()
        joined = self._outcome is not None
        if not joined and (self._pause_left_s() > 0 or self._is_backing_off()):
            return self._serve(current=False, coalesced=False)
        outcome = self._outcome or self._start()
        try:
            async with asyncio.timeout(self._config.timeout_s if timeout_s is None else timeout_s):
                succeeded = await asyncio.shield(outcome)
        except TimeoutError:
            return self._serve(current=False, coalesced=False)
        return self._serve(current=succeeded, coalesced=joined)

    def change(self, poll: Poll, config: PollConfig) -> None:
        """Poll in another way from now on; the counters go on, and so does a poll under way."""
        self._poll = poll
        self._config = config

    async def pause(self, duration_s: float) -> None:
        """Keep off the battery for a while; return when it is disconnected."""
        self._paused_until_s = self._clock() + duration_s
        self._changed()
        await self.close()

    def resume(self) -> None:
        """End the pause, if there is one."""
        self._paused_until_s = float("-inf")
        self._changed()

    async def close(self) -> None:
        """End the poll under way, if any; return when the battery is disconnected."""
        if self._outcome is not None and self._task is not None:
            self._task.cancel()  # not while it disconnects: that would leave the battery connected
        if self._running:
            await asyncio.wait(self._running)

    def _pause_left_s(self) -> float:
        return self._paused_until_s - self._clock()

    def _age_s(self) -> float:
        return self._clock() - self._read_at_s

    def _is_backing_off(self) -> bool:
        """Whether the battery failed so lately that looking again is not worth the radio time."""
        retries = self._failures_in_row - 1
        if retries < 1 or self._failed_with is FailureReason.ADAPTER:
            return False  # without an adapter a look costs no radio time
        seen_at_s = self._stats.seen_at_s
        missing = self._failed_with is FailureReason.NOT_FOUND
        if missing and seen_at_s is not None and seen_at_s > self._failed_at_s:
            return False  # somebody else's scan heard it: it is back
        backoff_s = BACKOFF_S * 2 ** min(retries - 1, MAX_DOUBLINGS)
        wait_s: float = min(backoff_s, self._config.backoff_max_s)
        return self._clock() - self._failed_at_s < wait_s

    def _start(self) -> asyncio.Future[bool]:
        self._outcome = asyncio.get_running_loop().create_future()
        self._task = self._tasks.create_task(
            self._run(self._task, self._outcome), name=f"poll {self._battery}"
        )
        self._running.add(self._task)
        self._changed()
        self._task.add_done_callback(self._running.discard)
        return self._outcome

    async def _run(
        self, previous: asyncio.Task[None] | None, outcome: asyncio.Future[bool]
    ) -> None:
        try:
            if previous is not None and not previous.done():
                await asyncio.wait([previous])  # one connection at a time
            await self._poll_once(outcome)
        finally:
            if self._outcome is outcome:  # called off, or a bug: nobody shall wait for ever
                self._outcome = None
                outcome.set_result(False)
                self._changed()

    async def _poll_once(self, outcome: asyncio.Future[bool]) -> None:
        started_s = self._clock()

        def publish(result: Reading | BmsError) -> None:
            if isinstance(result, Reading):
                self._keep(result)
            else:
                self._note_failure(result)
            self._polls += 1
            self._poll_duration_s = self._clock() - started_s
            self._outcome = None
            outcome.set_result(isinstance(result, Reading))
            self._changed()

        try:
            await self._poll(publish)
        except BmsError as error:
            if not outcome.done():
                publish(error)

    def _keep(self, reading: Reading) -> None:
        if self._failures_in_row or self._reading is None:
            log.info("battery answers", extra={"battery": self._battery})
        self._reading = reading
        # Aged from its request on: the machine may have been suspended before the answer came.
        requested_at_s = reading.requested_at_s
        self._read_at_s = self._clock() if requested_at_s is None else requested_at_s
        self._failures_in_row = 0
        self._failed_with = None
        self._failing_since_s = None
        self._last_error = None
        if (basic := reading.basic) is not None:
            self.history.add(Sample(self._read_at_s, basic.remaining_ah, basic.current_a))

    def _note_failure(self, error: BmsError) -> None:
        changed = error.reason is not self._failed_with  # once, not at every scrape
        log.log(
            logging.WARNING if changed else logging.DEBUG,
            "poll failed",
            extra={"battery": self._battery, "reason": str(error.reason), "error": str(error)},
        )
        self._failures[error.reason] += 1
        self._failed_at_s = self._clock()
        if not self._failures_in_row:
            self._failing_since_s = self._failed_at_s
        self._failures_in_row += 1
        self._failed_with = error.reason
        self._last_error = str(error)

    def _serve(self, *, current: bool, coalesced: bool) -> Snapshot:
        """Return what a scrape may be shown, and count it.

        Args:
            current: The reading is the one that this scrape waited for, or younger than
                `min_interval`; the only kind that a `max_age` of 0 allows.
            coalesced: Another scrape started the poll that gave it.
        """
        instead_of_0_s = math.inf if current else -1.0
        shown = self._reading is not None and self._fits(instead_of_0_s)
        self._serving.served += shown
        self._serving.coalesced += shown and coalesced
        return self._snapshot(instead_of_0_s)

    def _fits(self, instead_of_0_s: float) -> bool:
        return self._age_s() <= (float(self._config.max_age_s) or instead_of_0_s)

    def peek(self, max_age_s: float) -> Snapshot:
        """Return what is known without reading or counting; `max_age_s` stands for a 0."""
        return self._snapshot(max_age_s)

    def _snapshot(self, instead_of_0_s: float) -> Snapshot:
        max_age_s = float(self._config.max_age_s) or instead_of_0_s
        seen_at_s = self._stats.seen_at_s
        heard = seen_at_s is not None and self._clock() - seen_at_s <= max_age_s
        shown = self._reading if self._fits(instead_of_0_s) else None
        last = self._last
        now = Snapshot(
            battery=self._battery,
            address=self._address,
            up=self._failed_with is None if self._polls else None,
            reading=shown,
            identity=self._reading.identity if self._reading else None,
            rssi_dbm=self._stats.rssi_dbm if heard else None,
            poll_duration_s=self._poll_duration_s,
            poll_timeout_s=self._config.timeout_s,
            polls=self._polls,
            failures=dict(self._failures),
            last_error=self._last_error,
            failure=self._failed_with,
            failing_since_s=self._failing_since_s,
            read_at_s=None if self._reading is None else self._read_at_s,
            max_age_s=max_age_s,
            polling=self._outcome is not None,
            paused_until_s=self._paused_until_s if self._pause_left_s() > 0 else None,
            clock_difference_s=self._wall.difference_s(),
            serving=self._serving,
            link=last.link if last and last.link == self._stats else deepcopy(self._stats),
            revision=last.revision if last else 0,
        )
        self._last = now if now == last else replace(now, revision=next(REVISIONS))
        return self._last
