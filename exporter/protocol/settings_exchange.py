"""Reads the settings on one link: ENTER, the registers, LEAVE.

Sans-I/O, driven like an `Exchange`: the caller writes `data_to_send`, passes on what arrives, and
says when `deadline_s` has passed. All times are in seconds by one clock that never goes back.

ENTER and LEAVE are the only frames of this program that are no reads. They are literals: nothing
can encode another one. Neither changes a setting. Source: recorded traffic of the vendor's app.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from exporter.errors import DecodeError
from exporter.protocol.frame import HEAD, READ, TAIL, Frame, FrameAssembler, FrameError, checksum
from exporter.protocol.settings import CAPACITY, COUNT, SETTING_NAMES
from exporter.protocol.settings_values import LARGE_UNITS, decode_setting

ENTER: Final = bytes.fromhex("dd5a00025678ff3077")
LEAVE: Final = bytes.fromhex("dd5a01020000fffd77")  # without saving
READS: Final = {
    register: bytes([HEAD, READ, register, 0]) + checksum(bytes([register, 0])) + bytes([TAIL])
    for register in SETTING_NAMES
}
"""The request of every setting."""

ENTER_REGISTER: Final = 0x00
LEAVE_REGISTER: Final = 0x01
MODE: Final = (ENTER_REGISTER, LEAVE_REGISTER)
CELLS: Final = 0x2F
CAPACITY_REGISTER: Final = 0x10
READ_FIRST: Final = (CELLS, CAPACITY_REGISTER)
"""They must agree with 0x03: UP16S boards answer some registers with other meanings."""
UNKNOWN_REGISTER: Final = 0x80  # older firmware lacks 0x42 to 0x47

RESEND_S: Final = 0.4  # replies took 32 to 90 ms in recorded traffic
ANSWER_S: Final = 3.0  # for one frame, resends included
READ_S: Final = (
    5.0  # the registers of the metrics took 1.7 s; at an interval of 50 ms they take 3.5 s
)
LEAVE_S: Final = 3.0
LAST_S: Final = 1.0  # for leaving when reading took its whole time
EARLY_S: Final = 0.001  # timers end early, by rounding and the resolution of the clock


class SettingsFailure(StrEnum):
    """Why settings were not read."""

    TIMEOUT = "timeout"
    REFUSED = "refused"  # by a module with a PIN, or because something else closed the mode
    IMPLAUSIBLE = "implausible"  # the registers have other meanings on this board
    INTERRUPTED = "interrupted"  # the caller left, or the link was lost


class Counters(Protocol):
    """What an exchange counts."""

    requests: int
    resends: int
    frame_errors: Counter[FrameError]
    discarded_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What register 0x03 said; the settings of the same battery say it, too."""

    cell_count: int
    nominal_ah: float


@dataclass(slots=True)
class _Step:
    """A frame to send until its reply comes."""

    data: bytes
    register: int  # of its reply
    assembler: FrameAssembler
    resend_at_s: float | None = None  # None: `data` is to be written
    is_resend: bool = False


class SettingsExchange:
    """Opens the mode in which settings can be read, reads them, and closes it.

    Whatever fails, LEAVE is sent until it is acknowledged, for at most LEAVE_S, and not after
    `read_s` and LAST_S. Until then `is_left` is false: the mode may be open.

    The reply to a frame that was sent twice can come late, and the checksum does not cover the
    register, so one reply to LEAVE proves nothing. ENTER and LEAVE are executed in the order in
    which they were sent, and each is answered at most once. So the mode is closed when there were
    more replies than frames before the first LEAVE.
    """

    def __init__(self, counters: Counters, *, is_new: bool = False) -> None:
        """Start on a link, on which no request is under way.

        Args:
            counters: Where to count requests, resends, frame errors and discarded bytes.
            is_new: Whether a reply from an earlier connection may still arrive.
        """
        self._counters = counters
        self._step: _Step | None = None
        self._expected: Expected | None = None
        self._to_read: list[int] = []
        self._end_s = 0.0  # of this frame, or of leaving
        self._read_until_s = 0.0
        self._leave_until_s = float("inf")
        # By register, each time that its frame was written or may have been.
        self._sent = Counter({LEAVE_REGISTER: int(is_new)})
        self._replied: Counter[int] = Counter()
        self._sent_before_leaving = 0
        self.payloads: dict[int, bytes] = {}  # valid only without a failure
        self.failure: SettingsFailure | None = None
        self.is_left = False

    def read(
        self,
        registers: Sequence[int],
        expected: Expected,
        *,
        now_s: float,
        read_s: float = READ_S,
    ) -> None:
        """Read settings; those that the firmware lacks are not in `payloads`.

        Call it when nothing is under way.
        """
        self.payloads, self.failure, self.is_left = {}, None, False
        self._expected = expected
        self._to_read = [*READ_FIRST, *(one for one in registers if one not in READ_FIRST)]
        self._read_until_s = now_s + read_s
        self._leave_until_s = self._read_until_s + LAST_S
        self._request(ENTER, ENTER_REGISTER, now_s)

    def leave(self, *, now_s: float) -> None:
        """Close the mode now; settings that were not read yet are not read."""
        if self._is_leaving:
            return
        if self._step is None:
            self._leave_until_s = float("inf")
        else:
            self._fail(SettingsFailure.INTERRUPTED)
        self._leave(now_s)

    def stop(self) -> None:
        """End without another frame, because the link was lost."""
        if self._step is not None and not self._is_leaving:
            self._fail(SettingsFailure.INTERRUPTED)
        self._finish()

    @property
    def is_waiting(self) -> bool:
        """Whether something is to be sent or received."""
        return self._step is not None

    @property
    def data_to_send(self) -> bytes:
        """What to write now, before a call of `data_sent`; empty: wait for bytes."""
        step = self._step
        return b"" if step is None or step.resend_at_s is not None else step.data

    @property
    def deadline_s(self) -> float:
        """When to call `timed_out`, while writing and while waiting; infinite: never."""
        step = self._step
        if step is None:
            return float("inf")
        return self._end_s if step.resend_at_s is None else min(step.resend_at_s, self._end_s)

    def data_sent(self, now_s: float) -> None:
        """Note that `data_to_send` was written, before any other call."""
        step = self._step
        if step is None or step.resend_at_s is not None:
            return
        step.resend_at_s = now_s + RESEND_S
        self._counters.resends += step.is_resend
        self._counters.requests += not step.is_resend
        self._sent[step.register] += 1

    def receive_data(self, data: bytes, *, now_s: float) -> None:
        """Take a notification."""
        step = self._step
        if step is None:
            self._counters.discarded_bytes += len(data)
            return
        for frame in step.assembler.feed(data):
            if self._step is step:  # bytes behind the reply belong to no later request
                self._receive(frame, step, now_s)
        if self._step is step and step.resend_at_s is not None and step.assembler.pending:
            step.resend_at_s = now_s + RESEND_S

    def timed_out(self, now_s: float) -> None:
        """Send the frame again, or give up; reading ends with leaving."""
        step = self._step
        if step is None:
            return
        if now_s >= self._end_s - EARLY_S:
            if self._is_leaving:
                self._finish()
            else:
                self._fail(SettingsFailure.TIMEOUT)
                self._leave(now_s)
        elif step.resend_at_s is not None:
            self._resend(step)

    @property
    def _is_leaving(self) -> bool:
        return self._step is not None and self._step.register == LEAVE_REGISTER

    def _request(self, data: bytes, register: int, now_s: float) -> None:
        self._begin(data, register)
        self._end_s = min(now_s + ANSWER_S, self._read_until_s)

    def _begin(self, data: bytes, register: int) -> None:
        self._finish()
        self._step = _Step(data, register, FrameAssembler())

    def _resend(self, step: _Step) -> None:
        step.assembler.doubt()
        step.resend_at_s, step.is_resend = None, True

    def _finish(self) -> None:
        """End the current step, and count its frames and bytes."""
        step, self._step = self._step, None
        if step is None:
            return
        if step.resend_at_s is None:
            self._sent[step.register] += 1  # its write was interrupted: it may have been sent
        step.assembler.forget()
        self._counters.frame_errors.update(step.assembler.errors)
        self._counters.discarded_bytes += step.assembler.discarded

    def _fail(self, failure: SettingsFailure) -> None:
        self.failure = self.failure or failure
        self.payloads.clear()

    def _leave(self, now_s: float) -> None:
        self._begin(LEAVE, LEAVE_REGISTER)
        self._sent_before_leaving = sum(self._sent[register] for register in MODE)
        self._end_s = min(now_s + LEAVE_S, self._leave_until_s)

    def _receive(self, frame: Frame, step: _Step, now_s: float) -> None:
        if self._replied[frame.register] < self._sent[frame.register]:
            self._replied[frame.register] += 1
        if frame.register != step.register:
            if not self._sent[frame.register]:
                self._counters.frame_errors[FrameError.REGISTER] += 1
        elif step.register == LEAVE_REGISTER:
            self._receive_left(frame, step)
        elif frame.status == UNKNOWN_REGISTER and frame.register not in (
            ENTER_REGISTER,
            *READ_FIRST,
        ):
            self._next(now_s)
        elif frame.status:
            self._fail(SettingsFailure.REFUSED)
            self._leave(now_s)
        else:
            self._receive_setting(frame, now_s)

    def _receive_left(self, frame: Frame, step: _Step) -> None:
        """Believe that the mode is closed, or send LEAVE again at once."""
        if frame.status:
            return
        if sum(self._replied[register] for register in MODE) > self._sent_before_leaving:
            self.is_left = True
            self._finish()
        elif step.resend_at_s is not None:
            self._resend(step)

    def _receive_setting(self, frame: Frame, now_s: float) -> None:
        """Keep a setting, unless this board means something else by the registers."""
        if frame.register in SETTING_NAMES:
            try:
                decode_setting(frame.register, frame.payload)
            except DecodeError:
                self._counters.frame_errors[FrameError.DECODE] += 1
            else:
                self.payloads[frame.register] = frame.payload
        if frame.register in READ_FIRST and not self._is_plausible(frame):
            self._fail(SettingsFailure.IMPLAUSIBLE)
            self._leave(now_s)
        else:
            self._next(now_s)

    def _is_plausible(self, frame: Frame) -> bool:
        payload, expected = self.payloads.get(frame.register), self._expected
        if payload is None or expected is None:
            return False
        if frame.register == CELLS:
            return COUNT.raw(payload) == expected.cell_count
        # 0x2D, which says the unit, is read only after this.
        units = CAPACITY, LARGE_UNITS[CAPACITY]
        return expected.nominal_ah in [unit.read(payload) for unit in units]

    def _next(self, now_s: float) -> None:
        if self._to_read:
            register = self._to_read.pop(0)
            self._request(READS[register], register, now_s)
        else:
            self._leave(now_s)
