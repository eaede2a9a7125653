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
    """The registers we read. None that writes is listed, so none can be sent."""

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
    """Find the replies to one request in a stream of notifications.

    Notifications split and join frames anywhere, and 77 and DD are legal payload bytes, so only
    the length says where a frame ends. Every DD is a possible head until its frame is complete
    and proves otherwise. Heads are checked independently, so a false one never hides a good frame
    behind it, and each is checked once: time is linear, memory below one frame of 262 bytes.
    """

    def __init__(
        self, expected: int | None = None, answered: Container[int] = (), early: int | None = None
    ) -> None:
        """Accept replies from register `expected`, or from any when None.

        Args:
            expected: The register that was requested.
            answered: Registers answered earlier on this link: a late second reply to a request
                that was sent twice is dropped without being counted as an error.
            early: The register that was requested just before; that request may be lost.
        """
        self._expected = expected
        self._answered = answered
        self._early = early
        self.early_frames: list[Frame] = []
        """Replies to the early request, trusted or not."""
        self._buffer = bytearray()
        self._heads: list[int] = []  # where frames may begin, in `_buffer`, ascending
        self._doubtful = 0  # a frame that begins before this place may have lost its end
        self._too_soon = 0  # a frame that begins before this offset cannot be a reply
        self.discarded = 0
        """Bytes dropped so far because they belong to no accepted frame."""
        self.errors: Counter[FrameError] = Counter()
        """Complete frames refused so far."""
        self.echoed = False
        """Whether a request came back: such a BMS wants pairing before it answers."""
        self.leftover_seen = False
        """Whether a frame that looks like the reply came before the reply could."""
        self.late: Counter[int] = Counter()
        """Replies to earlier requests, by register."""
        self.resends = 0
        """How often the request was sent again."""

    @property
    def pending(self) -> bool:
        """Whether bytes are held that may be the beginning of a reply."""
        return bool(self._heads) and self._heads[-1] >= self._too_soon

    @property
    def early_frame(self) -> Frame | None:
        """The reply to the early request, if it can be trusted.

        The register byte is not protected. With two requests under way only their order tells a
        damaged reply to the second from a reply to the first: so it counts only if it came once,
        and if the second request was answered without being repeated.
        """
        return self.early_frames[0] if len(self.early_frames) == 1 and not self.resends else None

    def doubt(self) -> None:
        """Note that the request is sent again: what is unfinished now may never be finished.

        If it is, it is a frame like any other; if not, joined with the next reply it would look
        like a damaged one, and is then dropped without being counted as an error.
        """
        self._doubtful = len(self._buffer)
        self.resends += 1

    def forget(self) -> None:
        """Drop an unfinished frame: whatever comes next does not belong to it."""
        self._drop(len(self._buffer), discarded=True)

    def feed(self, chunk: bytes, possible: int | None = None) -> list[Frame]:
        """Add one notification; return the frames it completes, oldest first. Never raises.

        Args:
            chunk: The notification.
            possible: How many bytes of a reply can have come by now, this notification included;
                None: any number. A frame with more bytes than that is not a reply: its bytes are
                discarded, and it is no error.
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
        """Return the first valid frame and its place; forget the heads that proved false."""
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
        """Return the bytes that would be the frame at `at`, None while some are missing."""
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
        """Remove bytes from the front."""
        del self._buffer[:count]
        self._heads = [at - count for at in self._heads if at >= count]
        self._doubtful = max(0, self._doubtful - count)
        self._too_soon = max(0, self._too_soon - count)
        if discarded:
            self.discarded += count
