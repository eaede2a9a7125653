"""Decides when to request a register again that a battery refused or left unanswered."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from exporter.protocol.frame import Command

ASK_AGAIN_S: Final = 3600.0  # after a refusal, or after SILENCES
SILENCES: Final = 3  # polls in a row without a usable reply; a weak link may cause one or two

T = TypeVar("T")


@dataclass(slots=True)
class OptionalRegister(Generic[T]):
    """A register that a reading can do without, and when to request it again."""

    command: Command
    decode: Callable[[bytes], T]
    give_up_s: float
    wanted: bool = True
    _silences: int = field(default=0, init=False)  # in a row
    _not_before_s: float = field(default=float("-inf"), init=False)

    def is_due(self, now_s: float) -> bool:
        """Return whether to request the register now."""
        return self.wanted and now_s >= self._not_before_s

    def note_refusal(self, now_s: float) -> None:
        """Request the register again in an hour: the battery does not have it."""
        self._not_before_s = now_s + ASK_AGAIN_S

    def note_silence(self, now_s: float) -> None:
        """Request the register again in the next poll; after SILENCES in a row, in an hour."""
        self._silences += 1
        if self._silences >= SILENCES:
            self.note_refusal(now_s)

    def note_answer(self) -> None:
        """Forget earlier silences and refusals."""
        self._silences = 0
        self._not_before_s = float("-inf")
