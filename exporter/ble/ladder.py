"""Decides how the next poll reaches a battery, from what is known of the failures before.

A ladder has rungs. The lowest is the fastest; a higher one helps against other kinds of failure. A
poll climbs only on evidence that the battery is there, and only to a rung that can help: a battery
that is away costs the same radio time on every rung, and stays where it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from exporter.errors import UNRELATED, Cause

HOUR_S: Final = 3600.0
RETURN_S: Final = HOUR_S  # until a lower rung is tried again; doubled while that fails
LONGEST_S: Final = 24 * HOUR_S
SETTLED: Final = 2  # successes in a row that make a rung the usual one
RADIO_FAILURES: Final = 3  # in a row: a single one is interference
UNLEARN_FAILURES: Final = 3  # in a row on a rung that used to work


class Kind(StrEnum):
    """The transports, as the label `transport` of the metrics names them."""

    DIRECT = "direct"
    BLUEZ = "bluez"
    PROXY = "proxy"


class Style(StrEnum):
    """How a connection is used, as the label `style` of the metrics names it."""

    FAST = "fast"
    GENTLE = "gentle"  # the kernel's own interval, no early request, the MTU asked for


@dataclass(frozen=True, slots=True)
class Rung:
    """One way to use the radio for a battery."""

    kind: Kind
    style: Style = Style.FAST

    def __str__(self) -> str:
        return f"{self.kind} ({self.style})" if self.style is Style.GENTLE else str(self.kind)


DIRECT: Final = Rung(Kind.DIRECT)
GENTLE: Final = Rung(Kind.DIRECT, Style.GENTLE)
BLUEZ: Final = Rung(Kind.BLUEZ)
BLUEZ_GENTLE: Final = Rung(Kind.BLUEZ, Style.GENTLE)
PROXY: Final = Rung(Kind.PROXY)
PROXY_GENTLE: Final = Rung(Kind.PROXY, Style.GENTLE)


@dataclass(slots=True)
class _Climbs:
    """The climbs for one cause that did not help."""

    pause_s: float = 0.0
    next_at_s: float = 0.0


class Ladder:
    """The rungs of one battery, and where it stands; all moments are those of one clock."""

    def __init__(self, rungs: Sequence[Rung]) -> None:
        """Start at the lowest rung.

        Args:
            rungs: At least one, the lowest first.
        """
        self._rungs = tuple(rungs)
        self._home = 0
        self._at = 0
        self._successes = 0  # in a row, above home
        self._failures = 0  # in a row, of a battery that is there
        self._return_after_s = RETURN_S
        self._return_at_s = 0.0
        self._climbs: dict[Cause, _Climbs] = {}
        self._climbing: Cause | None = None  # why it stands above home

    @property
    def rung(self) -> Rung:
        """Where the battery stands now."""
        return self._rungs[self._at]

    def choose(self, now_s: float, *, may_explore: bool) -> Rung:
        """Return the rung of the next poll.

        Args:
            now_s: The present moment.
            may_explore: Whether a failure would not be seen, because the last reading is young
                enough to be shown until the poll after it. Then a lower rung is tried now and then.
        """
        if self._at == self._home > 0 and may_explore and now_s >= self._return_at_s:
            self._at -= 1
        return self.rung

    def note_success(self, now_s: float) -> None:
        """Record a poll that read the battery."""
        self._failures = 0
        if self._at < self._home:
            self._settle(self._at, now_s)
        elif self._at > self._home:
            self._successes += 1
            if self._successes >= SETTLED:
                self._settle(self._at, now_s)

    def note_pairing(self, now_s: float) -> None:
        """Use the transport that can encrypt: the battery wanted pairing, and has it now."""
        self._climbs.pop(Cause.SECURITY, None)
        self._climb(Cause.SECURITY, now_s)

    @property
    def has_other_kind(self) -> bool:
        """Whether there is a rung of another transport than the present one's."""
        return any(rung.kind is not self.rung.kind for rung in self._rungs)

    def note_failure(self, cause: Cause | None, now_s: float) -> None:
        """Record a failed poll, or a failure of the machine in it.

        Args:
            cause: What is known of it; None: nothing that another rung could change.
            now_s: The present moment.
        """
        if cause is None or cause in UNRELATED:
            return
        self._successes = 0
        self._failures += 1
        if self._at < self._home:
            self._at = self._home
            self._return_after_s = min(2 * self._return_after_s, LONGEST_S)
            self._return_at_s = now_s + self._return_after_s
            return
        if cause is Cause.MACHINE and self._climbing is not None:
            self._end_climb(self._climbing, now_s)  # bluetoothd is not there to help
        elif cause is Cause.MACHINE:
            self._change_kind()
        elif cause is Cause.RADIO:
            self._note_radio()
        else:
            self._climb(cause, now_s)
        if self._at == self._home > 0 and self._failures >= UNLEARN_FAILURES:
            self._settle(0, now_s)
            self._climbs.clear()

    def forget_radio(self) -> None:
        """Forget failures that the adapter or the signal may have caused: one of them is new."""
        if self._climbing is None and self._at >= self._home:
            self._at = self._home
            self._failures = 0

    def faster_in_s(self, now_s: float) -> float | None:
        """Return when a lower rung is tried again if this one works; None: there is none."""
        if self._at == 0:
            return None
        return RETURN_S if self._at != self._home else max(0.0, self._return_at_s - now_s)

    def _settle(self, rung: int, now_s: float) -> None:
        self._home = self._at = rung
        self._climbing = None
        self._successes = self._failures = 0
        self._return_after_s = RETURN_S
        self._return_at_s = now_s + RETURN_S

    def _change_kind(self) -> None:
        kind = self.rung.kind
        others = [number for number, rung in enumerate(self._rungs) if rung.kind is not kind]
        self._at = next(iter(others), self._at)

    def _note_radio(self) -> None:
        """Try the gentle style for one poll after some failures: another transport cannot help."""
        if self._at > self._home:
            self._at = self._home
            self._climbing = None
            self._failures = 0
        elif self._failures >= RADIO_FAILURES:
            gentle = Rung(self.rung.kind, Style.GENTLE)
            if gentle in self._rungs[self._at :]:
                self._at = self._rungs.index(gentle)

    def _climb(self, cause: Cause, now_s: float) -> None:
        """Go one rung up; from the highest one back, and stay there for a while."""
        climbs = self._climbs.setdefault(cause, _Climbs())
        if self._at == self._home and now_s < climbs.next_at_s:
            return
        above = self._at + 1
        if cause is Cause.SECURITY and BLUEZ in self._rungs:  # nothing else can pair
            above = max(above, self._rungs.index(BLUEZ))
        if above < len(self._rungs):
            self._at = above
            self._climbing = cause
        elif self._at > self._home:
            self._end_climb(cause, now_s)

    def _end_climb(self, cause: Cause, now_s: float) -> None:
        self._at = self._home
        self._climbing = None
        climbs = self._climbs[cause]
        climbs.pause_s = min(2 * climbs.pause_s, LONGEST_S) if climbs.pause_s else RETURN_S
        if cause is Cause.QUIET:  # its GATT server works, its registers do not: no route helps
            climbs.pause_s = LONGEST_S
        climbs.next_at_s = now_s + climbs.pause_s
