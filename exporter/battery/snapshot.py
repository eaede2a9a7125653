"""What metrics, API and command line show of one battery."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from exporter.battery.energy import EnergyTotals
from exporter.battery.settings_state import SettingsState
from exporter.config.presentation import Presentation, Threshold
from exporter.errors import FailureReason
from exporter.link_stats import LinkTotals
from exporter.reading import Identity, Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What one scrape may show of one battery; equality ignores `served` and `coalesced`."""

    battery: str
    address: str
    up: bool | None = None  # the last finished poll succeeded; None: none has finished yet
    reading: Reading | None = None  # None: there is none, or it is too old to be shown
    mean_current_a: float | None = None  # of the half hour before the newest reading
    energy: EnergyTotals | None = None  # None: never read
    identity: Identity | None = None  # does not age
    nominal_ah: float | None = None  # of the newest reading; does not age
    presentation: Presentation = field(default_factory=Presentation)
    rssi_dbm: int | None = None  # None: not advertised within max_age
    poll_duration_s: float | None = None  # of the last finished poll
    poll_timeout_s: float = 0.0
    polls: int = 0
    failures: Mapping[FailureReason, int] = field(default_factory=dict)
    last_error: str | None = None  # of the last finished poll, if that failed
    failure: FailureReason | None = None  # the same
    failing_since_unix_s: float | None = None  # the first of the failures in a row
    last_success_unix_s: float | None = None  # the newest reading, also when it is too old
    max_age_s: float = 0.0  # how old a reading may be to be shown; 0: only a new one
    polling: bool = False  # a poll is under way
    paused_until_unix_s: float | None = None  # the end of a pause
    route_since_unix_s: float | None = None  # of the first connection in a row over `link.route`
    link: LinkTotals = field(default_factory=LinkTotals)
    settings: SettingsState | None = None  # None: they are switched off
    settings_read_unix_s: float | None = None
    # Readings given to scrapes, since the start of the process:
    served: int = field(default=0, compare=False)
    coalesced: int = field(default=0, compare=False)  # from a poll that another scrape had started

    def temperatures(self) -> Sequence[tuple[str | None, float | None]]:
        """Return name and temperature of each NTC, in the BMS's order.

        A name of None means a socket that is configured as empty.
        """
        basic = self.reading and self.reading.basic
        measured_c = basic.temperatures_c if basic else ()
        names = self.presentation.sensor_names(len(measured_c))
        return [*zip(names, measured_c, strict=True)]

    @property
    def critical(self) -> Threshold:
        """The threshold below which the battery is critical."""
        return self.presentation.critical

    @property
    def low(self) -> Threshold:
        """The threshold below which the battery is low; a critical battery is always low, too.

        If one is in Ah and the other in %, only the nominal capacity shows which is higher.
        """
        low, critical = self.presentation.low, self.presentation.critical
        low_ah, critical_ah = low.in_ah(self.nominal_ah), critical.in_ah(self.nominal_ah)
        if low_ah is None or critical_ah is None:
            return low
        return critical if critical_ah > low_ah else low

    @property
    def paused(self) -> bool:
        """Whether the battery is not polled, so that another client can connect to it."""
        return self.paused_until_unix_s is not None
