"""The state of one battery as metrics, API and command line show it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from exporter.errors import FailureReason
from exporter.link_stats import LinkTotals
from exporter.reading import Identity, Reading


@dataclass(frozen=True, slots=True)
class Serving:
    """How often readings were given to scrapes, since the start of the process."""

    served: int = 0
    coalesced: int = 0  # of them from a poll that another scrape had started


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What one scrape may show of one battery; nothing in it changes afterwards."""

    battery: str
    address: str
    up: bool | None  # the last finished poll succeeded; None: none has finished yet
    reading: Reading | None  # None: there is none, or it is too old to be shown
    identity: Identity | None  # does not age
    rssi_dbm: int | None  # None: not advertised within max_age
    poll_duration_s: float | None  # of the last finished poll
    poll_timeout_s: float
    polls: int
    failures: Mapping[FailureReason, int]
    last_error: str | None  # of the last finished poll, if that failed
    failure: FailureReason | None = None  # the same
    failing_since_s: float | None = None  # by the clock: the first of the failures in a row
    read_at_s: float | None = None  # by the clock: the newest reading, also when it is too old
    max_age_s: float = 0.0  # how old a reading may be to be shown; 0: only a new one
    polling: bool = False  # a poll is under way
    paused_until_s: float | None = None  # by the clock: the end of a pause
    clock_difference_s: float = 0.0  # add it to these moments to get unix time
    link: LinkTotals
    serving: Serving = field(default_factory=Serving, compare=False)
    revision: int = 0  # equal values mean that nothing but `serving` differs

    @property
    def paused(self) -> bool:
        """Whether the battery is not polled, so that another client can connect to it."""
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
