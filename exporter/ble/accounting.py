"""Records attempts, connected time and signal strength in the statistics of a battery."""

import asyncio

from exporter.ble.direct.management import Management, optional
from exporter.ble.transport import Target
from exporter.clock import Clock
from exporter.errors import FailureReason
from exporter.link_stats import LinkStats


def count_attempt(stats: LinkStats, failure: FailureReason | None) -> None:
    """Count one attempt to connect, unless it only waited for an advertisement.

    Args:
        stats: Those of the battery.
        failure: Why it failed; None: it succeeded.
    """
    if failure is not FailureReason.NOT_FOUND:
        stats.connection_attempts += 1
        stats.connection_failures.update([failure] if failure else [])


class Hold:
    """Counts the time for which a battery is connected, including attempts that fail later."""

    def __init__(self, stats: LinkStats) -> None:
        self._stats = stats
        self._since_s: float | None = None

    @property
    def is_connected(self) -> bool:
        """Whether the battery is connected now."""
        return self._since_s is not None

    def note(self, *, connected: bool) -> None:
        """Record a change of state; repeated reports are ignored."""
        now_s = asyncio.get_running_loop().time()
        if self._since_s is not None and not connected:
            self._stats.held_s += now_s - self._since_s
            self._since_s = None
        elif self._since_s is None and connected:
            self._since_s = now_s


async def note_rssi(target: Target, management: Management, clock: Clock) -> None:
    """Record the signal strength of a connected battery where the kernel measures it."""
    with optional("no RSSI", target.address):
        rssi_dbm = await management.rssi_dbm(target.address)
        if rssi_dbm is not None:
            target.stats.rssi_dbm = rssi_dbm
            target.stats.seen_at_s = clock()
