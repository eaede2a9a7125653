"""What happened on the way to one battery, counted where it happens."""

from collections import Counter
from dataclasses import dataclass, field

from exporter.errors import FailureReason
from exporter.protocol.frame import FrameError


@dataclass(slots=True, kw_only=True)
class LinkStats:
    """Counters since the start of the process, and the last advertisement.

    The one mutable record: radio and conversation add to it while a poll is under way, so that a
    scrape that gives up on a slow poll still sees what the poll has done so far.
    """

    connection_attempts: int = 0
    connection_failures: Counter[FailureReason] = field(default_factory=Counter)
    held_s: float = 0.0
    requests: int = 0
    resends: int = 0
    frame_errors: Counter[FrameError] = field(default_factory=Counter)
    discarded_bytes: int = 0
    rssi_dbm: int | None = None
    seen_at_s: float | None = None  # by the clock
