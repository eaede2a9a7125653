"""Restarts an adapter over which nothing connects; all transports share the evidence.

A power cycle ends every connection and every scan of the adapter. So it needs evidence that lasts,
an adapter that no other program uses, and the permission in `management`.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Final

from exporter.ble.direct.management import Management, RefusedError
from exporter.ble.direct.sockets import Adapter
from exporter.ble.direct.wedge import Evidence, WedgeDetector, WedgeReason
from exporter.ble.timeouts import leave_behind
from exporter.clock import Clock, boot_s

log = logging.getLogger(__name__)

CERTAIN_S: Final = 30.0  # between the first evidence and the one that restarts the adapter
GAP_S: Final = 600.0  # between two restarts; doubled while no connect followed
LONGEST_GAP_S: Final = 24 * 3600.0
CURE: Final = "run bluetoothctl power off, then bluetoothctl power on, or plug it in again"
RESTARTED: Final = "it was restarted, and the next poll tries again"


class AdapterHealth:
    """The evidence against one adapter, its users of this process, and its restarts."""

    def __init__(self, name: str, clock: Clock = boot_s) -> None:
        """Start without evidence; `clock` goes on while the machine is suspended."""
        self.name = name
        self.restarts: Counter[WedgeReason] = Counter()
        self.restarting = asyncio.Lock()
        self._clock = clock
        self._detector = WedgeDetector()
        self._since_s: dict[WedgeReason, float] = {}  # the first evidence
        self._users: Counter[str] = Counter()  # batteries that are being connected to
        self._restarted_s: float | None = None
        self._gap_s = 0.0  # after the last restart; 0: a connect followed
        self._is_left_off = False  # by a restart that failed

    @asynccontextmanager
    async def use(self, address: str) -> AsyncIterator[None]:
        """Prevent restarts while a battery is being connected to; wait for one under way."""
        async with self.restarting:
            self._users[address] += 1
        try:
            yield
        finally:
            self._users -= Counter([address])

    def note_success(self) -> None:
        """Forget all evidence: a battery was connected to."""
        self._since_s.clear()
        self._detector.note_success()
        self._gap_s = 0.0

    def note_scan(self) -> None:
        """Forget that a scan was refused: a later one was not."""
        self._since_s.pop(WedgeReason.DISCOVERY, None)

    def note_idle(self, address: str, connections: Iterable[tuple[str, int]]) -> None:
        """Record, before a wait for a battery, whether it is being connected to already."""
        self._detector.note_idle(address, connections, self._clock())

    def find_evidence(
        self,
        before: Adapter,
        after: Adapter,
        connections: Iterable[tuple[str, int]],
        *,
        needs_scan: bool = False,
    ) -> Evidence | None:
        """Return what a wait that found no battery says about the adapter; None: nothing.

        Args:
            before: The adapter before the wait.
            after: The same after it.
            connections: Address and state of its Low Energy connections now.
            needs_scan: Whether the kernel had to begin a scan for this wait.
        """
        evidence = self._detector.find_evidence(
            before, after, connections, self._users, self._clock()
        )
        if needs_scan and (evidence is None or evidence.reason is WedgeReason.LEFT_CONNECTION):
            # The kernel scans beside another program's wait, and not beside a connection left.
            missing = self._detector.find_missing_scan(before, after)
            evidence = missing and (evidence or missing)
        for reason in set(WedgeReason) - {WedgeReason.DISCOVERY}:
            if evidence is None or evidence.reason is not reason:
                self._since_s.pop(reason, None)
        return evidence

    async def handle(self, evidence: Evidence, management: Management, deadline_s: float) -> str:
        """Restart the adapter if the evidence lasts and nothing else uses it; return the message.

        The caller does not use the adapter any more. The restart is completed after `deadline_s`,
        too, by the loop's clock, and if the caller is cancelled: nothing else would switch the
        adapter on.
        """
        restarting = asyncio.ensure_future(self._handle(evidence, management))
        try:
            left_s = max(0.0, deadline_s - asyncio.get_running_loop().time())
            done, _ = await asyncio.wait([restarting], timeout=left_s)
        except asyncio.CancelledError:
            await asyncio.wait([restarting])
            raise
        if done:
            return restarting.result()
        leave_behind(restarting)
        return f"{evidence.why}: it is being restarted, and the next poll tries again"

    async def _handle(self, evidence: Evidence, management: Management) -> str:
        if not management.power:
            return f"{evidence.why}: {CURE}"
        now_s = self._clock()
        async with self.restarting:
            if self._restarted_s is not None and self._restarted_s > now_s:
                return f"{evidence.why}: {RESTARTED}"  # for another battery
            if now_s - self._since_s.setdefault(evidence.reason, now_s) < CERTAIN_S:
                return f"{evidence.why}: it is restarted if this lasts for {CERTAIN_S:.0f} s"
            if why_not := await self._why_not(evidence.reason, management):
                return f"{evidence.why}. It is not restarted, because {why_not}: {CURE}"
            return await self._restart(evidence, management)

    async def _why_not(self, reason: WedgeReason, management: Management) -> str | None:
        """Return what forbids a restart now."""
        if self._users:
            return f"{next(iter(self._users))} is being connected to"
        if (left_s := self._gap_left_s()) > 0.0:
            return f"the last restart was too recent (wait {left_s / 60:.0f} min)"
        if why_not := self._why_not_usable(management):
            return why_not
        if reason is not WedgeReason.DISCOVERY:
            from exporter.ble import bluez  # noqa: PLC0415 - D-Bus, which is rarely needed

            if await bluez.is_discovering(self.name):
                return "another program scans with it"
        return None

    def _why_not_usable(self, management: Management) -> str | None:
        try:
            (adapter,) = (one for one in management.kernel.adapters() if one.name == self.name)
            connected = management.kernel.connected_devices(adapter.index)
        except (OSError, ValueError):
            return "it is not there any more"
        if not adapter.up:
            return "it is switched off"
        return f"{', '.join(connected)} would be disconnected" if connected else None

    def _gap_left_s(self) -> float:
        if self._restarted_s is None:
            return 0.0
        return self._restarted_s + max(self._gap_s, GAP_S) - self._clock()

    async def _restart(self, evidence: Evidence, management: Management) -> str:
        try:
            await self._power_cycle(management)
        except RefusedError as error:
            return f"{evidence.why}. It cannot be restarted ({error}): {CURE}"
        self._gap_s = min(max(GAP_S, 2 * self._gap_s), LONGEST_GAP_S)
        self.restarts[evidence.reason] += 1
        self._since_s.clear()
        self._detector.note_success()
        self._restarted_s = self._clock()
        if self._is_left_off:
            return f"{evidence.why}: it was switched off, and does not switch on again: {CURE}"
        log.warning("adapter restarted", extra={"adapter": self.name, "why": evidence.why})
        return f"{evidence.why}: {RESTARTED}"

    async def _power_cycle(self, management: Management) -> None:
        self._is_left_off = not await management.restart(int(self.name.removeprefix("hci")))

    async def settle(self, management: Management) -> None:
        """Return when no restart is under way; switch on what a failed one has left off."""
        async with self.restarting:
            if self._is_left_off and management.kernel.is_up(self.name):
                self._is_left_off = False  # who switches it off from now on means it
            if self._is_left_off and management.power:
                with suppress(RefusedError):
                    await self._power_cycle(management)


class AdapterHealths:
    """The health of every adapter of this machine; a reload of the configuration keeps it."""

    def __init__(self, clock: Clock = boot_s) -> None:
        self._clock = clock
        self._by_name: dict[str, AdapterHealth] = {}

    def __getitem__(self, name: str) -> AdapterHealth:
        """Return the health of the adapter with this name, hci0 and the like."""
        if name not in self._by_name:
            self._by_name[name] = AdapterHealth(name, self._clock)
        return self._by_name[name]

    async def settle(self, name: str | None, management: Management) -> None:
        """Return when this adapter is not being restarted.

        Without a name it is the first one that is switched on; if none is, all of them.
        """
        if name is None:
            with suppress(OSError):
                on = (one.name for one in management.kernel.adapters() if one.up)
                name = next(on, None)
        for health in tuple(self._by_name.values()):
            if name in {None, health.name}:
                await health.settle(management)

    def restarts(self) -> Mapping[tuple[str, str], int]:
        """Return the restarts by adapter and reason, also at 0."""
        return {
            (health.name, str(reason)): health.restarts[reason]
            for health in self._by_name.values()
            for reason in WedgeReason
        }
