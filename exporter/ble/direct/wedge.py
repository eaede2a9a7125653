"""Recognises an adapter or a kernel that no longer makes connections.

Both look like a battery that is away. The kernel's counters and its list of connections tell them
apart, without privilege and without radio time.

Sources: Raspberry Pi 3 and 4 on Linux 6.1, "command tx timeout" (raspberrypi/linux 5460); a
connection that stays in BT_CONNECT for ever on BCM43438 (bluetooth-next, pull request 643); a
discovery that never ends, so that the kernel begins no scan for a connect (bluez 464, 807, 1554).
Linux 6.1 and 6.12 send four commands or more for each wait, as measured.
"""

from collections.abc import Container, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from exporter.ble.direct.sockets import CONNECTING, Adapter
from exporter.errors import AdapterError, Cause

# A program that waits for a battery of its own gives up earlier.
LEFT_BEHIND_S: Final = 30.0


class WedgeReason(StrEnum):
    """What proves a wedge; the label `reason` of `bms_adapter_restarts_total`."""

    NO_EVENTS = "no_events"  # it answers no command
    LEFT_CONNECTION = "left_connection"  # the kernel connects, and no program waits
    DISCOVERY = "discovery"  # the kernel refuses scans, and bluetoothd has none
    NO_SCAN = "no_scan"  # the kernel begins no scan for a connect


@dataclass(frozen=True, slots=True)
class Evidence:
    """One observation that an adapter lets nothing connect."""

    reason: WedgeReason
    why: str  # for users, with the adapter's name


class WedgeError(AdapterError):
    """A wait found no battery, and the adapter is to blame."""

    cause = Cause.WEDGE

    def __init__(self, adapter: str, evidence: Evidence) -> None:
        super().__init__(evidence.why)
        self.adapter = adapter
        self.evidence = evidence


class WedgeDetector:
    """What the kernel reported about one adapter after waits that found no battery."""

    def __init__(self) -> None:
        self._since_s: dict[str, float] = {}  # when a connection was first seen, by address

    def note_success(self) -> None:
        """Forget everything: the adapter connects."""
        self._since_s.clear()

    def note_idle(self, address: str, connections: Iterable[tuple[str, int]], now_s: float) -> None:
        """Record whether a battery is being connected to while nothing here waits for it.

        A connection that was left behind is shared by the next wait for the battery, which hides
        it.
        """
        if (address, CONNECTING) in connections:
            self._since_s.setdefault(address, now_s)
        else:
            self._since_s.pop(address, None)

    def find_evidence(
        self,
        before: Adapter,
        after: Adapter,
        connections: Iterable[tuple[str, int]],
        waiting: Container[str],
        now_s: float,
    ) -> Evidence | None:
        """Return why nothing can connect; None: nothing says so.

        Args:
            before: The adapter before a wait that found no battery.
            after: The same after it.
            connections: Address and state of its Low Energy connections now.
            waiting: The addresses that are waited for here.
            now_s: The present moment.
        """
        sent = after.commands_sent - before.commands_sent
        if sent > 0 and after.events_received == before.events_received:
            return Evidence(
                WedgeReason.NO_EVENTS,
                f"{after.name} does not answer any more ({sent} commands, no event)",
            )
        connecting = {address for address, state in connections if state == CONNECTING}
        self._since_s = {
            address: self._since_s.get(address, now_s)
            for address in connecting
            if address in self._since_s or address not in waiting
        }
        for address, since_s in self._since_s.items():
            if now_s - since_s >= LEFT_BEHIND_S:
                return Evidence(
                    WedgeReason.LEFT_CONNECTION,
                    f"the kernel connects to no battery over {after.name}: it still connects to "
                    f"{address}, although no program waits for it",
                )
        return None

    def find_missing_scan(self, before: Adapter, after: Adapter) -> Evidence | None:
        """Return that the kernel did not begin to look for a battery; None: it did."""
        if after.commands_sent != before.commands_sent:
            return None
        return Evidence(
            WedgeReason.NO_SCAN,
            f"the kernel begins no scan over {after.name}, and connects to no battery",
        )
