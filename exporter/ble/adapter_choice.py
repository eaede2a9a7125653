"""Chooses the adapter through which each battery is read: by success, signal and load."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from exporter.ble.timeouts import leave_behind
from exporter.ble.transport import ScanningTransport
from exporter.errors import AdapterError, BmsError, Cause
from exporter.protocol.advertisement import Advertisement

log = logging.getLogger(__name__)

# JBD modules advertise about every second: all adapters in range receive one in this time.
COMPARE_S: Final = 3.0
STOP_S: Final = 1.0  # for the end of these scans; bluetoothd takes milliseconds
# The RSSI of a battery that does not move varies by as much from one advertisement to the next.
SIMILAR_DB: Final = 6


@dataclass(slots=True)
class Choice:
    """The adapter of one battery, and what is remembered of it."""

    adapter: str | None = None  # chosen or configured
    proven: str | None = None  # that of the last success
    failures: int = 0  # in a row over `adapter`
    is_useless: bool = False  # the last poll received nothing over it, or could not use it
    was_heard: bool | None = None  # by the comparison that chose it; None: it has worked since
    failed: set[str] = field(default_factory=set)  # received it and did not connect since a success

    def note_success(self) -> None:
        """Prefer this adapter from now on."""
        self.proven = self.adapter
        self.failures = 0
        self.was_heard = None
        self.failed.clear()

    def note_failure(self, error: BmsError) -> None:
        """Record a failed poll."""
        self.failures += 1
        self.is_useless = isinstance(error, AdapterError) or error.cause is Cause.ABSENT

    @property
    def has_failed(self) -> bool:
        """Whether another adapter should be tried: its first failure may be interference.

        One that replaces the proven adapter gets a single attempt.
        """
        is_first = self.proven in {None, self.adapter} and not self.is_useless
        return self.failures > (1 if is_first else 0)


class AdapterChoice:
    """Chooses among the adapters of this machine, for all batteries."""

    def __init__(
        self,
        scanning: Callable[[str], ScanningTransport],
        choices: Callable[[], Sequence[Choice]],
    ) -> None:
        """Compare adapters by their scans; `choices` returns those of all batteries."""
        self._scanning = scanning
        self._choices = choices

    async def choose(
        self, choice: Choice, address: str, present: Sequence[str], deadline_s: float
    ) -> None:
        """Keep the adapter that worked last; compare those present if it is gone or failed.

        A battery that none of them received is away: until it is back they take turns without a
        comparison, which costs the radio time of several looks. It leaves most of the time until
        `deadline_s`, by the loop's clock, for the connection.
        """
        if len(present) < 2:  # noqa: PLR2004 - nothing to choose from
            choice.adapter = None
        elif choice.adapter not in present or choice.has_failed:
            rssi_dbm: dict[str, int] = {}
            is_away = choice.was_heard is False and choice.is_useless and choice.adapter in present
            if not is_away:
                left_s = deadline_s - asyncio.get_running_loop().time()
                seconds = min(COMPARE_S, left_s / 3)
                rssi_dbm = dict(await self._listen(address, present, seconds))
            before, choice.adapter = choice.adapter, self._choose_best(choice, rssi_dbm, present)
            choice.was_heard = bool(rssi_dbm)
            choice.failures = 0
            extra = {"address": address, "adapter": choice.adapter}
            is_news = not is_away and choice.adapter != before
            log.log(logging.INFO if is_news else logging.DEBUG, "adapter chosen", extra=extra)

    def _choose_best(self, choice: Choice, rssi_dbm: dict[str, int], present: Sequence[str]) -> str:
        """Return the best adapter for a battery, by the RSSI over those that receive it.

        Of those that receive the battery about as well as the best one, it is the one of the last
        success, else the one with the fewest batteries: an adapter makes one connection at a time.
        Those that receive it and did not connect to it are left out, until all of them have had a
        turn. Without any reception they take turns.
        """
        used_by = Counter(other.adapter for other in self._choices() if other is not choice)
        is_to_blame = choice.was_heard or not choice.is_useless
        if len(rssi_dbm) > 1 and choice.has_failed and is_to_blame and choice.adapter:
            choice.failed.add(choice.adapter)
            if choice.failed.issuperset(rssi_dbm):
                choice.failed = {choice.adapter}
            rssi_dbm = {name: dbm for name, dbm in rssi_dbm.items() if name not in choice.failed}
        if rssi_dbm:
            similar_dbm = max(rssi_dbm.values()) - SIMILAR_DB
            return min(
                (adapter for adapter in rssi_dbm if rssi_dbm[adapter] >= similar_dbm),
                key=lambda adapter: (
                    adapter != choice.proven,
                    used_by[adapter],
                    -rssi_dbm[adapter],
                ),
            )
        if choice.adapter in present:
            return present[(present.index(choice.adapter) + 1) % len(present)]
        return min(present, key=lambda adapter: used_by[adapter])

    async def _listen(
        self, address: str, present: Sequence[str], seconds: float
    ) -> Mapping[str, int]:
        """Scan for some seconds; return the battery's RSSI, in dBm, by adapter that receives it.

        All scan at once: one that refuses or hangs delays nothing.
        """
        rssi_dbm: dict[str, int] = {}

        async def listen(adapter: str) -> None:
            def hear(advertisement: Advertisement) -> None:
                if advertisement.address == address:
                    rssi_dbm[adapter] = advertisement.rssi_dbm

            try:
                async with self._scanning(adapter).advertisements(hear):
                    scans.add(asyncio.current_task())
                    await asyncio.sleep(seconds)
            except AdapterError as error:
                log.debug("cannot listen", extra={"adapter": adapter, "error": str(error)})

        scans: set[asyncio.Task[None] | None] = set()
        tasks = [asyncio.create_task(listen(adapter)) for adapter in present]
        try:
            await asyncio.wait(tasks, timeout=seconds)
        finally:
            for task in tasks:
                task.cancel()
            if ending := [task for task in tasks if task in scans]:
                await asyncio.wait(ending, timeout=STOP_S)
            for task in tasks:
                leave_behind(task)
        return rssi_dbm
