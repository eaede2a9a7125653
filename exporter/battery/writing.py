"""Decides how requests to one battery are written: varied after silence, kept while it answers.

Sources: an Ultimatron takes no write with response (BMS_BLE-HA 279); a Bulltron takes writes
without response, which it does not offer (BMS_BLE-HA, pull request 321).
"""

from enum import StrEnum, auto
from typing import Final

from exporter.errors import Cause

USUAL_AGAIN_S: Final = 3600.0  # until the usual way is tried again; doubled while it is silent
LONGEST_S: Final = 24 * 3600.0


class Way(StrEnum):
    """A way to write requests."""

    USUAL = auto()  # one before the subscription; all as the characteristic offers
    OTHER = auto()  # none before the subscription; with response instead of without, or the reverse
    LATE = auto()  # none before the subscription; as the characteristic offers


class Writing:
    """The way to write to one battery, and what is known of it; all moments are of one clock."""

    def __init__(self) -> None:
        self.way = Way.USUAL
        self._has_worked = False
        self._pause_s = USUAL_AGAIN_S
        self._usual_from_s = float("-inf")

    def start(self, way: Way, now_s: float) -> None:
        """Begin with this way; the usual one is tried again as after silence."""
        if way is not Way.USUAL:
            self._leave(now_s)
            self.way = way

    def choose(self, now_s: float) -> Way:
        """Return the way of the next poll."""
        if self.way is not Way.USUAL and now_s >= self._usual_from_s:
            self._change(Way.USUAL)
        return self.way

    def note_answer(self) -> None:
        """Keep the way: the battery answered."""
        self._has_worked = True
        if self.way is Way.USUAL:
            self._pause_s = USUAL_AGAIN_S

    def note_silence(self, now_s: float) -> Cause | None:
        """Change the way: the battery sent nothing.

        Returns the cause of the failure; None: another way to write comes before another route.
        """
        if self.way is Way.OTHER:
            cause = None if self._has_worked else Cause.QUIET
            self._change(Way.LATE)
            return cause
        self._leave(now_s)
        return None

    def note_loss(self, now_s: float, cause: Cause | None) -> bool:
        """Change the way if the battery refused a write, or hung up at a trial of the other kind.

        Returns whether the way has changed, so that another route can wait.
        """
        if cause is not Cause.GATT and (self.way is not Way.OTHER or self._has_worked):
            return False
        if self.way is Way.OTHER:
            self._change(Way.LATE)
        else:
            self._leave(now_s)
        return True

    def _leave(self, now_s: float) -> None:
        """Use the other kind of write for a while; for longer each time."""
        if self.way is Way.USUAL:
            self._usual_from_s = now_s + self._pause_s
            self._pause_s = min(2 * self._pause_s, LONGEST_S)
        self._change(Way.OTHER)

    def _change(self, way: Way) -> None:
        self.way = way
        self._has_worked = False
