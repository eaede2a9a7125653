"""JBD frames: encode requests, and find replies in notifications of any size.

Source: vendor documents General Protocol V4 and V13, section "frame".

    request   DD A5 <register> 00                 <checksum:2> 77
    reply     DD <register> <status> <length> <payload> <checksum:2> 77

The checksum is the two's complement of the byte sum, big endian. In a reply it covers status to
payload: the register byte is not protected, so a reply's register is always compared with the
requested one.
"""

from collections import Counter
from collections.abc import Container
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final

HEAD: Final = 0xDD
TAIL: Final = 0x77
READ: Final = 0xA5
OVERHEAD: Final = 7  # head, register, status, length, checksum x2, tail
MAX_FRAME: Final = OVERHEAD + 0xFF


class Command(IntEnum):
    """The registers to read. No command that writes is listed, so none can be sent."""

    BASIC_INFO = 0x03
    CELL_VOLTAGES = 0x04
    HARDWARE = 0x05
    EVENT_COUNTERS = 0xAA


class FrameError(StrEnum):
    """The label `reason` of `bms_frame_errors_total`."""

    CHECKSUM = "checksum"
    REGISTER = "register"
    DECODE = "decode"  # valid, but its fields cannot be true


@dataclass(frozen=True, slots=True)
class Frame:
    """A reply whose length, checksum and tail are right."""

    register: int
    status: int
    payload: bytes


def checksum(covered: bytes) -> bytes:
    """Return the two checksum bytes for the covered part of a frame."""
    return (-sum(covered) & 0xFFFF).to_bytes(2, "big")


def encode_request(command: Command) -> bytes:
    """Return the frame that requests one register."""
    body = bytes([command, 0])
    return bytes([HEAD, READ]) + body + checksum(body) + bytes([TAIL])


class FrameAssembler:
    """Finds the replies to one request in a stream of notifications.

    Notifications split and join frames anywhere, and 77 and DD are legal payload bytes, so only
    the length says where a frame ends. Every DD may be a head until its frame is complete. Each
    is checked once and independently, so a false head never hides a good frame behind it: time is
    linear, memory below one frame of 262 bytes.
    """

    def __init__(
        self, expected: int | None = None, answered: Container[int] = (), early: int | None = None
    ) -> None:
        """Accept replies from register `expected`; None: from any.

        Args:
            expected: The register that was requested.
            answered: Registers answered earlier on this link. A second reply from one of them,
                to a request that was sent twice, is dropped and is no error.
            early: The register of the early request, which may have been lost.
        """
        self._expected = expected
        self._answered = answered
        self._early = early
        self.early_frames: list[Frame] = []  # replies to the early request, trusted or not
        self._buffer = bytearray()
        self._heads: list[int] = []  # where frames may begin, in `_buffer`, ascending
        self._doubtful = 0  # a frame that begins before this offset may have lost its end
        self._too_soon = 0  # a frame that begins before this offset cannot be a reply
        self.discarded = 0  # bytes that belong to no accepted frame
        self.errors: Counter[FrameError] = Counter()  # complete frames that were refused
        self.echoed = False  # a request came back: such a BMS wants pairing before it answers
        self.leftover_seen = False  # a frame of the expected register came too soon to be a reply
        self.late: Counter[int] = Counter()  # replies to earlier requests, by register
        self.resends = 0

    @property
    def pending(self) -> bool:
        """Whether bytes are held that may be the beginning of a reply."""
        return bool(self._heads) and self._heads[-1] >= self._too_soon

    @property
    def early_frame(self) -> Frame | None:
        """The reply to the early request; None: there is none that can be trusted.

        The checksum does not cover the register byte: a damaged reply to the second request can
        look like a reply to the early one. So a reply is trusted only if no other one came, and if
        the second request needed no resend.
        """
        return self.early_frames[0] if len(self.early_frames) == 1 and not self.resends else None

    def doubt(self) -> None:
        """Note that the request is sent again: the end of a frame received so far may be lost.

        If its end still comes, the frame is used. If not, it takes bytes of the next reply for its
        end; its wrong checksum is then no error.
        """
        self._doubtful = len(self._buffer)
        self.resends += 1

    def forget(self) -> None:
        """Drop an unfinished frame: the next bytes do not belong to it."""
        self._drop(len(self._buffer), discarded=True)

    def feed(self, chunk: bytes, possible: int | None = None) -> list[Frame]:
        """Add one notification; return the frames it completes, oldest first. Never raises.

        Args:
            chunk: The notification.
            possible: How many bytes of a reply can have come so far, this notification included;
                None: any number. A frame that begins before these bytes came too soon to be a
                reply: it is discarded, and is no error.
        """
        start = len(self._buffer)
        self._buffer += chunk
        self._heads += [start + i for i, byte in enumerate(chunk) if byte == HEAD]
        if possible is not None:
            self._too_soon = max(self._too_soon, len(self._buffer) - possible)
        frames = []
        while (found := self._next_complete()) is not None:
            at, frame = found
            accepted = self._accept(frame, is_too_soon=at < self._too_soon)
            self._drop(at, discarded=True)
            self._drop(OVERHEAD + len(frame.payload), discarded=not accepted)
            if accepted:
                frames.append(frame)
        self._drop(self._heads[0] if self._heads else len(self._buffer), discarded=True)
        return frames

    def _next_complete(self) -> tuple[int, Frame] | None:
        """Return the first valid frame and its offset; drop false heads."""
        waiting: list[int] = []
        heads = self._heads
        for index, at in enumerate(heads):
            raw = self._candidate(at)
            if raw is None:
                waiting.append(at)
            elif raw[-1] == TAIL and raw[-3:-1] == checksum(raw[2:-3]):
                self._heads = waiting + heads[index:]
                return at, Frame(register=raw[1], status=raw[2], payload=raw[4:-3])
            elif self._expected in (raw[1], None) and at >= max(self._doubtful, self._too_soon):
                self.errors[FrameError.CHECKSUM] += 1
        self._heads = waiting
        return None

    def _candidate(self, at: int) -> bytes | None:
        length_at = at + 3
        if length_at >= len(self._buffer):
            return None
        end = at + OVERHEAD + self._buffer[length_at]
        return bytes(self._buffer[at:end]) if end <= len(self._buffer) else None

    def _accept(self, frame: Frame, *, is_too_soon: bool) -> bool:
        if frame.register == READ:
            self.echoed = True
        if is_too_soon:
            self.leftover_seen |= frame.register == self._expected
            return False
        if self._expected is None or frame.register == self._expected:
            return True
        if frame.register == self._early:
            self.early_frames.append(frame)
            return False
        if frame.register in self._answered:
            self.late[frame.register] += 1
        else:
            self.errors[FrameError.REGISTER] += 1
        return False

    def _drop(self, count: int, *, discarded: bool) -> None:
        del self._buffer[:count]
        self._heads = [at - count for at in self._heads if at >= count]
        self._doubtful = max(0, self._doubtful - count)
        self._too_soon = max(0, self._too_soon - count)
        if discarded:
            self.discarded += count
