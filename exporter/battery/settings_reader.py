"""Reads the settings of one battery once a day, and remembers whether their mode was left."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from exporter.battery.settings_session import SettingsSession
from exporter.battery.settings_state import SettingsState, decode_settings
from exporter.clock import Clock
from exporter.connection import Link
from exporter.errors import DecodeError
from exporter.link_stats import LinkStats
from exporter.protocol.settings_exchange import (
    READ_S,
    Expected,
    SettingsExchange,
    SettingsFailure,
)
from exporter.protocol.settings_values import Decoded
from exporter.reading import BasicInfo

log = logging.getLogger(__name__)

EVERY_S: Final = 20 * 3600.0
MIN_CHARGE_RATIO: Final = 0.1
MAX_LOAD_RATIO: Final = 0.5  # of the limit of the discharge current
LIMIT: Final = "discharge_overcurrent_a"  # negative
METRIC_REGISTERS: Final = (0x11, 0x12, 0x13, *range(0x18, 0x2C), 0x2D, *range(0x3A, 0x40))
"""The registers of the metrics; 0x2F and 0x10 are read first anyway."""
ADVICE: Final = (
    "keep the battery in range: the next connection closes the mode; if this is logged again, "
    "open the parameters of the battery in the phone app and go back"
)


class SettingsReader:
    """Reads the settings of one battery after a reading, on the same connection.

    The mode in which they can be read may be open: after each ENTER until LEAVE was acknowledged,
    and after a start, because a killed exporter leaves it open. Then the next connection begins
    with LEAVE.
    """

    def __init__(  # noqa: PLR0913 - all that it depends on, by name
        self,
        battery: str,
        stats: LinkStats,
        clock: Clock,
        changed: Callable[[], None] = lambda: None,
        *,
        is_on_demand: bool = False,
        registers: Sequence[int] = METRIC_REGISTERS,
        read_s: float = READ_S,
    ) -> None:
        """Start without settings, switched off.

        Args:
            battery: The configured name.
            stats: Counts the requests.
            clock: By which settings age.
            changed: Called after each change of what `show` returns.
            is_on_demand: Whether to read them in any state of the battery: somebody waits, or it
                is virtual.
            registers: What to read.
            read_s: How long to read; leaving the mode is not included.
        """
        self._battery = battery
        self._stats = stats
        self._clock = clock
        self._is_enabled = False
        self._is_on_demand = is_on_demand
        self._registers = registers
        self._read_s = read_s
        self._changed = changed
        self._session: SettingsSession | None = None  # on the newest link
        self._is_running = False  # after a reading
        self._must_end = False
        self._leaves_late = False  # on this connection LEAVE comes after the reading
        self._was_lost_at_leave = False
        self._is_warned = False
        self._began_at_s = float("-inf")
        self._state = SettingsState()

    @property
    def is_running(self) -> bool:
        """Whether it uses the connection after the reading."""
        return self._is_running

    @property
    def leaves_first(self) -> bool:
        """Whether the next connection begins with LEAVE."""
        return self._may_be_open and not self._was_lost_at_leave

    @property
    def _may_be_open(self) -> bool:
        is_left = self._state.is_left
        return not is_left if self._is_enabled else is_left is False

    def show(self) -> SettingsState | None:
        """Return the settings as last read; None: they are switched off."""
        return self._state if self._is_enabled else None

    def change(self, *, is_enabled: bool) -> None:
        """Switch it on or off; off, it forgets the settings, and still leaves an open mode."""
        if is_enabled is not self._is_enabled:
            self._is_enabled = is_enabled
            self.end()
            self._keep((), None)

    def end(self) -> None:
        """Make what runs after a reading leave the mode now."""
        self._must_end = True
        if self._is_running and self._session is not None:
            self._session.leave_early()

    def restore(self, *, leaves_first: bool) -> None:
        """Begin the next connection with LEAVE, or not; for replays."""
        self._state = replace(self._state, is_left=not leaves_first)

    def begin(self) -> bool:
        """Note a new connection; return whether it begins with LEAVE."""
        leaves_first = self.leaves_first
        self._leaves_late, self._was_lost_at_leave = self._was_lost_at_leave, False
        return leaves_first

    async def leave(self, link: Link) -> None:
        """Close the mode on a link that may be new.

        Some batteries disconnect instead of refusing. So that such a battery can still be read,
        LEAVE comes after the reading on the connection that follows a loss here. If there is no
        reading then, the connection after it begins with LEAVE again.
        """
        session = self._session_on(link)
        try:
            await session.leave()
        finally:
            self._was_lost_at_leave = session.is_lost
            self._note_left(session.exchange)

    async def run(self, link: Link, basic: BasicInfo) -> None:
        """Read the settings after a reading of 0x03 on this link, if they are due."""
        leaves_late = self._leaves_late and self._may_be_open
        if not (leaves_late or self._is_due(basic)):
            return
        self._is_running, self._must_end = True, False
        self._changed()
        try:
            if leaves_late:
                await self.leave(link)
            if self._is_due(basic) and not self._must_end:
                await self._read(link, basic)
        finally:
            self._is_running = False
            self._changed()

    def _is_due(self, basic: BasicInfo) -> bool:
        if not self._is_enabled or self._may_be_open:
            return False
        if self._clock() - self._began_at_s < EVERY_S:
            return False
        if self._is_on_demand:
            return True
        limit_a = self._state.number(LIMIT)
        return (
            not basic.protections
            and basic.rsoc_ratio >= MIN_CHARGE_RATIO
            and (limit_a is None or basic.current_a >= limit_a * MAX_LOAD_RATIO)
        )

    def _session_on(self, link: Link) -> SettingsSession:
        """Return the session on this link: it counts which replies can still arrive."""
        if self._session is None or self._session.link is not link:
            self._session = SettingsSession(link, self._stats)
        return self._session

    async def _read(self, link: Link, basic: BasicInfo) -> None:
        session = self._session_on(link)
        expected = Expected(cell_count=basic.cell_count, nominal_ah=basic.nominal_ah)
        self._began_at_s = self._clock()
        self._state = replace(self._state, is_left=False)  # from now on the mode may be open
        try:
            await session.read(self._registers, expected, read_s=self._read_s)
        finally:
            self._note_left(session.exchange)
            self._note_read(session.exchange, expected)

    def _note_left(self, exchange: SettingsExchange) -> None:
        self._state = replace(self._state, is_left=exchange.is_left)
        if not exchange.is_left:
            level = logging.DEBUG if self._is_warned else logging.WARNING
            extra = {"battery": self._battery, "advice": ADVICE}
            log.log(level, "settings mode may be open", extra=extra)
        self._is_warned = not exchange.is_left

    def _note_read(self, exchange: SettingsExchange, expected: Expected) -> None:
        failure, error = exchange.failure, ""
        rows: tuple[Decoded, ...] = ()
        if failure is None:
            try:
                rows = decode_settings(exchange.payloads, expected)
            except DecodeError as wrong:
                failure, error = SettingsFailure.IMPLAUSIBLE, str(wrong)
        self._state = replace(self._state, reads=self._state.reads + 1)
        if failure is None:
            log.info("settings read", extra={"battery": self._battery, "settings": len(rows)})
            self._keep(rows, self._clock())
            return
        failures = Counter(self._state.failures)
        failures[failure] += 1
        self._state = replace(self._state, failures=failures)
        extra = {"battery": self._battery, "reason": str(failure)}
        log.warning("settings not read", extra=extra | ({"error": error} if error else {}))
        if failure is SettingsFailure.IMPLAUSIBLE:
            self._keep((), None)

    def _keep(self, rows: tuple[Decoded, ...], read_at_s: float | None) -> None:
        self._state = replace(self._state, rows=rows, read_at_s=read_at_s)
