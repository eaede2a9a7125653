"""Splits received bytes into replies, requests, damaged frames and surplus bytes."""

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from typing import Final

from exporter.protocol.explain import HEADER, register_name
from exporter.protocol.frame import HEAD, OVERHEAD, READ, TAIL, checksum
from exporter.protocol.jbd import STATUS_NAMES
from exporter.protocol.settings import REGISTER_NAMES
from exporter.protocol.settings_exchange import ENTER

WRITE: Final = ENTER[1]  # logs of other programs have such requests
REQUESTS: Final = (READ, WRITE)


class Kind(StrEnum):
    """The kinds of parts."""

    REPLY = "reply"
    REQUEST = "request"
    DAMAGED = "damaged"  # begins like a frame, but is not valid
    SURPLUS = "surplus"


@dataclass(frozen=True, slots=True)
class Part:
    """A frame, or the bytes between two frames."""

    kind: Kind
    raw: bytes
    at: int  # its offset in all bytes


def split(pieces: Sequence[bytes]) -> Iterator[Part]:
    """Yield the parts of received bytes in order; no byte is left out.

    Valid frames are found first. The bytes between them are damaged frames where a frame begins,
    else surplus. If there is no frame at all, all bytes are one damaged frame.

    Args:
        pieces: Notifications, frames or parts of frames, in order. A DD at the start of a piece
            begins a frame; one in the middle may be a payload byte.
    """
    stream = b"".join(pieces)
    starts = frozenset(accumulate(map(len, pieces), initial=0))
    parts: list[Part] = []
    begin = at = 0
    while (at := stream.find(HEAD, at)) >= 0:
        end = _valid_end(stream, at)
        if end is None:
            at += 1
            continue
        parts += _split_gap(stream[begin:at], begin, starts)
        kind = Kind.REQUEST if stream[at + 1] in REQUESTS else Kind.REPLY
        parts.append(Part(kind, stream[at:end], at))
        begin = at = end
    parts += _split_gap(stream[begin:], begin, starts)
    if {part.kind for part in parts} == {Kind.SURPLUS}:
        return iter([Part(Kind.DAMAGED, stream, 0)])
    return iter(parts)


def _valid_end(stream: bytes, at: int) -> int | None:
    end = _declared_end(stream, at)
    if end is None or stream[end - 1] != TAIL:
        return None
    return end if stream[end - 3 : end - 1] == checksum(stream[at + 2 : end - 3]) else None


def _declared_end(stream: bytes, at: int) -> int | None:
    """Return the end of the frame at `at` by its length byte; None: the bytes end sooner."""
    if at + HEADER > len(stream):
        return None
    end = at + OVERHEAD + stream[at + 3]
    return end if end <= len(stream) else None


def _split_gap(gap: bytes, begin: int, starts: Container[int]) -> Iterator[Part]:
    """Divide bytes that hold no valid frame into damaged frames and surplus."""
    at = 0
    while at < len(gap):
        end = _next_head(gap, at + 1, begin, starts)
        kind = Kind.SURPLUS
        if gap[at] == HEAD:
            kind = Kind.DAMAGED
            declared = _declared_end(gap, at)
            if declared is not None and gap[declared - 1] == TAIL:
                end = declared
        yield Part(kind, gap[at:end], begin + at)
        at = end


def _next_head(gap: bytes, at: int, begin: int, starts: Container[int]) -> int:
    """Return the start of the next damaged frame, or the length of `gap`."""
    while (at := gap.find(HEAD, at)) >= 0:
        if begin + at in starts or _is_likely_head(gap, at):
            return at
        at += 1
    return len(gap)


def _is_likely_head(stream: bytes, at: int) -> bool:
    """Return whether the bytes after a DD could be the beginning of a reply."""
    register, status = stream[at + 1 : at + 2], stream[at + 2 : at + 3]
    known = bool(register) and register[0] in REGISTER_NAMES
    if known and (not status or status[0] in STATUS_NAMES):
        return True
    declared = _declared_end(stream, at)
    return declared is not None and stream[declared - 1] == TAIL


def request_name(raw: bytes) -> str:
    """Name a request: "request for register 0x04 (cell voltages)"."""
    verb = "request for" if raw[1] == READ else "request to write"
    return f"{verb} register {raw[2]:#04x} ({register_name(raw[2])})"
