"""Coalesces the scrapes of one battery into polls, and turns failures into values."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from exporter.battery.backoff import Backoff
from exporter.battery.energy import EnergyMeter, Flow
from exporter.battery.forecast import MeanCurrent
from exporter.battery.history import History, Sample
from exporter.battery.notes import Notes
from exporter.battery.outcome_log import OutcomeLog
from exporter.battery.recordings import Recordings
from exporter.battery.running_polls import RunningPolls
from exporter.battery.settings_reader import SettingsReader
from exporter.battery.snapshot import Snapshot
from exporter.clock import WallClock
from exporter.config.presentation import Presentation
from exporter.config.schema import PollConfig
from exporter.errors import BmsError, FailureReason
from exporter.link_stats import LinkStats
from exporter.reading import Reading

SHOWN_S: Final = 300.0  # how long a reading counts as the present one, where `poll.max_age` is 0
OVERRUN_S: Final = 1.0  # a poll that its time-out ends has its outcome just after it

Publish = Callable[[Reading | BmsError], None]
"""Takes the result of a poll; called once, before the poll disconnects."""

Poll = Callable[[Publish], Awaitable[None]]
"""Reads a battery once: calls its argument with the result, returns when disconnected."""


@dataclass(frozen=True, slots=True)
class Latest:
    """The newest reading of a battery, however old."""

    reading: Reading
    read_at_s: float  # by the clock


@dataclass(slots=True)
class Finished:
    """The finished polls of a battery since the start of the process."""

    polls: int = 0
    failures: Counter[FailureReason] = field(default_factory=Counter)
    duration_s: float | None = None  # of the last one; None: none has finished yet


class Poller:
    """Coalesces the scrapes of one battery into polls."""

    def __init__(  # noqa: PLR0913 - everything that one battery needs, by name
        self,
        *,
        battery: str,
        address: str,
        poll: Poll,
        config: PollConfig,
        stats: LinkStats,
        tasks: asyncio.TaskGroup,
        wall: WallClock,
        changed: Callable[[], None] = lambda: None,
        recordings: Recordings | None = None,
        settings: SettingsReader | None = None,
        presentation: Presentation | None = None,
    ) -> None:
        """Start without a reading; the first refresh polls.

        Args:
            battery: The configured name.
            address: For `bms_battery_info`.
            poll: Not called while an earlier call is still disconnecting.
            config: How often to poll, and how long to show a reading.
            stats: What `poll` counts.
            tasks: Owns the polls, so that a bug in one ends the program.
            wall: The clock by which readings age, and its conversion to unix time.
            changed: Called when a poll or a pause has begun or ended.
            recordings: Of what `poll` did.
            settings: What `poll` reads after the reading.
            presentation: What the snapshots show besides readings; None: the defaults.
        """
        self._battery = battery
        self._address = address
        self._poll = poll
        self._config = config
        self._stats = stats
        self._clock = wall.now_s
        self._wall = wall
        self._changed = changed
        self.history = History(wall)
        self.recordings = recordings or Recordings(stats)
        self._settings = settings
        self._presentation = presentation or Presentation()
        self._notes = Notes(battery)
        self._running = RunningPolls(tasks, f"poll {battery}", changed=changed)
        self._finished = Finished()
        self._latest: Latest | None = None
        self._energy = EnergyMeter()
        self._mean = MeanCurrent()
        self._backoff = Backoff()
        self._log = OutcomeLog(battery, wall.now_s)
        self._paused_until_s: float | None = None
        self._served = self._coalesced = 0

    @property
    def is_fresh(self) -> bool:
        """Whether its reading is younger than `min_interval`."""
        latest = self._latest
        return latest is not None and self._age_s(latest.read_at_s) < self._config.min_interval_s

    def show(self) -> Snapshot:
        """Return the snapshot for one scrape, without polling."""
        return self._serve(is_current=self.is_fresh, is_coalesced=True)

    def peek(self, max_age_s: float) -> Snapshot:
        """Return the snapshot without polling or counting.

        Where `poll.max_age` is 0, a reading is shown for `max_age_s`.
        """
        return self._snapshot(float(self._config.max_age_s) or max_age_s, is_current=False)

    async def refresh(self, *, timeout_s: float | None = None) -> Snapshot:
        """Return the snapshot, after a poll if the reading is not fresh and time allows.

        Never raises a BmsError. Never cancels a poll: the next scrape gets the reading of a poll
        that takes longer than `timeout_s` (None: than a poll may take).
        """
        if self.is_fresh or self._is_reading_settings():
            return self.show()
        outcome = self._running.outcome
        is_coalesced = outcome is not None
        if outcome is None:
            if self._pause_end_s() is not None or self._is_backing_off():
                return self._serve(is_current=False, is_coalesced=False)
            outcome = self._running.start(self._poll_once)
        if timeout_s is None:
            timeout_s = self._config.timeout_s + OVERRUN_S
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await asyncio.shield(outcome)
        # The outcome can come in the instant in which the time ends.
        succeeded = outcome.done() and outcome.result()
        return self._serve(is_current=succeeded, is_coalesced=is_coalesced and outcome.done())

    def change(self, poll: Poll, config: PollConfig, presentation: Presentation) -> None:
        """Replace how the battery is polled and shown; counters and a poll under way continue."""
        self._poll = poll
        self._config = config
        self._presentation = presentation

    async def pause(self, duration_s: float) -> None:
        """Do not poll for this time; return when the battery is disconnected."""
        self._paused_until_s = self._clock() + duration_s
        self._changed()
        await self.close()

    def resume(self) -> None:
        """End the pause, if there is one."""
        self._paused_until_s = None
        self._changed()

    async def close(self) -> None:
        """End the poll under way, if any; return when the battery is disconnected."""
        if self._settings is not None:
            self._settings.end()
        await self._running.end()

    def _age_s(self, at_s: float) -> float:
        return self._clock() - at_s

    def _is_reading_settings(self) -> bool:
        """Return whether settings are being read, and the reading before them can be shown.

        A new poll would have to wait for their end. So where `max_age` allows it, scrapes show
        that reading, however small `min_interval` is; with a `max_age` of 0 they wait.
        """
        latest, max_age_s = self._latest, self._config.max_age_s
        is_running = self._settings is not None and self._settings.is_running
        return is_running and latest is not None and self._age_s(latest.read_at_s) < max_age_s

    def _pause_end_s(self) -> float | None:
        until_s = self._paused_until_s
        return until_s if until_s is not None and until_s > self._clock() else None

    def _is_backing_off(self) -> bool:
        return self._backoff.is_active(
            self._clock(), max_s=self._config.backoff_max_s, seen_at_s=self._stats.seen_at_s
        )

    async def _poll_once(self, outcome: asyncio.Future[bool]) -> None:
        started_s = self._clock()

        def publish(result: Reading | BmsError) -> None:
            if isinstance(result, Reading):
                self._keep(result)
            else:
                self._note_failure(result)
            self._finished.polls += 1
            self._finished.duration_s = self._clock() - started_s
            outcome.set_result(isinstance(result, Reading))
            self._changed()

        try:
            await self._poll(publish)
        except BmsError as error:
            if not outcome.done():
                publish(error)

    def _keep(self, reading: Reading) -> None:
        self._log.note_success()
        # It ages from its request on: the machine may have been suspended before the reply came.
        requested_at_s = reading.requested_at_s
        read_at_s = self._clock() if requested_at_s is None else requested_at_s
        self._latest = Latest(reading, read_at_s)
        self._backoff.note_success()
        if (basic := reading.basic) is not None:
            self.history.add(Sample(read_at_s, basic.remaining_ah, basic.current_a))
            self._notes.check(self._presentation, basic)
            max_age_s = float(self._config.max_age_s) or SHOWN_S
            self._energy.add(Flow(read_at_s, basic.voltage_v, basic.current_a), max_age_s)
            self._mean.add(read_at_s, basic.current_a, max_age_s)

    def _note_failure(self, error: BmsError) -> None:
        self._log.note_failure(error)
        self._finished.failures[error.reason] += 1
        self._backoff.note_failure(error, self._clock())

    def _serve(self, *, is_current: bool, is_coalesced: bool) -> Snapshot:
        """Return the snapshot for one scrape, and count it if it shows a reading.

        Args:
            is_current: Whether this scrape waited for the reading, or it is younger than
                `min_interval`. With a `max_age` of 0 no other reading is shown.
            is_coalesced: Whether another scrape started the poll of the reading.
        """
        max_age_s = float(self._config.max_age_s)
        latest = self._latest
        if latest and self._is_shown(latest.read_at_s, max_age_s, is_current=is_current):
            self._served += 1
            self._coalesced += is_coalesced
        return self._snapshot(max_age_s, is_current=is_current)

    def _is_shown(self, at_s: float, max_age_s: float, *, is_current: bool) -> bool:
        return self._age_s(at_s) <= max_age_s if max_age_s else is_current

    def _snapshot(self, max_age_s: float, *, is_current: bool) -> Snapshot:
        def shown(at_s: float | None) -> bool:
            return at_s is not None and self._is_shown(at_s, max_age_s, is_current=is_current)

        def unix_s(at_s: float | None) -> float | None:
            return None if at_s is None else at_s + difference_s

        difference_s = self._wall.difference_s()
        latest, backoff = self._latest, self._backoff
        read_at_s = latest.read_at_s if latest else None
        settings = self._settings.show() if self._settings else None
        return Snapshot(
            battery=self._battery,
            address=self._address,
            up=backoff.reason is None if self._finished.polls else None,
            reading=latest.reading if latest and shown(read_at_s) else None,
            mean_current_a=self._mean.value_a,
            energy=self._energy.totals,
            identity=latest.reading.identity if latest else None,
            nominal_ah=latest.reading.basic.nominal_ah if latest and latest.reading.basic else None,
            presentation=self._presentation,
            rssi_dbm=self._stats.rssi_dbm if shown(self._stats.rssi_at_s) else None,
            poll_duration_s=self._finished.duration_s,
            poll_timeout_s=self._config.timeout_s,
            polls=self._finished.polls,
            failures=dict(self._finished.failures),
            last_error=backoff.message,
            failure=backoff.reason,
            failing_since_unix_s=unix_s(backoff.since_s),
            last_success_unix_s=unix_s(read_at_s),
            max_age_s=max_age_s,
            polling=self._running.outcome is not None,
            paused_until_unix_s=unix_s(self._pause_end_s()),
            route_since_unix_s=unix_s(self._stats.route_since_s),
            link=self._stats.totals(),
            settings=settings,
            settings_read_unix_s=unix_s(settings.read_at_s) if settings else None,
            served=self._served,
            coalesced=self._coalesced,
        )
