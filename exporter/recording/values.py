"""Redacts the values of one characteristic, which may split a frame over several pieces."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from exporter.protocol import auth
from exporter.protocol.frame import HEAD, OVERHEAD, TAIL, Command, checksum
from exporter.protocol.jbd import STATUS_NAMES
from exporter.protocol.settings import REGISTER_NAMES
from exporter.recording.redact import Redactor, zero_serials

HEADER: Final = 4  # head, register, status, length; the same in the password exchange
CHECKED: Final = 3  # checksum x2, tail
MOST_HELD: Final = 600  # bytes: two frames and more
KEPT: Final = 16  # bytes that may hold the first part of an address
MAY_BEGIN: Final = re.compile(rb"[\xdd\xff]")
ANSWERED: Final = (auth.APP_KEY, auth.PASSWORD)  # the answer says only: accepted or rejected
DIGITS: Final = b"0123456789"
NOISE: Final = -1  # in place of a register: bytes outside frames
PASSWORD: Final = -2


class Password(NamedTuple):
    """A frame of the password exchange, without its data."""

    step: int
    answer: int | None  # 0: continue or accepted, 1: rejected, 2: no password is set


@dataclass(slots=True)
class Piece:
    """A value as it may be recorded."""

    data: bytes
    edited: set[int] = field(default_factory=set)  # the registers, or NOISE, that were changed
    password: Password | None = None  # it held the end of such a frame


class _Part(NamedTuple):
    start: int
    end: int
    register: int  # or NOISE, PASSWORD


class Values:
    """The values of one characteristic in one direction; holds pieces until their frame ends."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._pieces: list[bytes] = []
        self._before = b""  # the end of what was returned before

    def add(self, data: bytes) -> list[Piece]:
        """Add a value; return all that are held, or nothing while a frame is incomplete."""
        self._pieces.append(data)
        return self._settle(is_final=sum(map(len, self._pieces)) > MOST_HELD)

    def flush(self) -> list[Piece]:
        """Return what is held: no more bytes come."""
        return self._settle(is_final=True)

    def _settle(self, *, is_final: bool) -> list[Piece]:
        raw = b"".join(self._pieces)
        parts = _split(raw, is_final=is_final)
        if parts is None:
            return []
        redacted = self._redact(raw, parts)
        self._before = (self._before + raw)[-KEPT:]
        pieces, begin = [], 0
        for data in self._pieces:
            pieces.append(_cut(raw, redacted, parts, begin, begin + len(data)))
            begin += len(data)
        self._pieces = []
        return pieces

    def _redact(self, raw: bytes, parts: Sequence[_Part]) -> bytes:
        data = bytearray(raw)
        for part in parts:
            begin, end = _payload(raw, part)
            if part.register in {NOISE, Command.HARDWARE}:
                data[begin:end] = _without_serials(raw[begin:end], is_whole=end < part.end)
                if begin == 0 and self._before[-1:].isdigit():  # the rest of a number
                    data[:end] = data[:end].lstrip(DIGITS).rjust(end, b"0")
            elif part.register not in list(Command):  # a serial number, a name or a password
                data[begin:end] = bytes(end - begin)
        start = len(self._before)
        redacted = bytearray(self._redactor.data(self._before + data)[start:])
        if redacted == raw:
            return raw
        for part in parts:
            _correct_checksum(raw, redacted, part)
        return self._redactor.data(self._before + redacted)[start:]


def _split(raw: bytes, *, is_final: bool) -> list[_Part] | None:
    """Divide bytes into frames, frames of the password exchange, and noise; None: incomplete."""
    parts: list[_Part] = []
    at = 0
    while at < len(raw):
        part = _part_at(raw, at)
        if part.end > len(raw):
            if not is_final:
                return None
            part = _cut_short(raw, part)
        if parts and parts[-1].register == part.register == NOISE:
            part = part._replace(start=parts.pop().start)
        parts.append(part)
        at = part.end
    return parts


def _part_at(raw: bytes, at: int) -> _Part:
    """Return the part that begins here; its end is beyond the bytes if it is incomplete."""
    head = raw[at : at + HEADER]
    length = head[3] if len(head) == HEADER else HEADER
    if head[:2] in {auth.HEAD, auth.HEAD[:1]}:
        return _Part(at, at + auth.OVERHEAD + length, PASSWORD)
    end = at + OVERHEAD + length
    if head[0] == HEAD and (end > len(raw) or raw[end - 1] == TAIL or _is_likely(head)):
        return _Part(at, end, head[1] if head[1:] else NOISE)
    found = MAY_BEGIN.search(raw, at + 1)
    return _Part(at, found.start() if found else len(raw), NOISE)


def _cut_short(raw: bytes, part: _Part) -> _Part:
    """Return what to make of the beginning of a part whose end never came."""
    head = raw[part.start : part.start + HEADER]
    if head[:2] == auth.HEAD or (part.register != PASSWORD and _is_likely(head)):
        return part._replace(end=len(raw))
    return _Part(part.start, part.start + 1, NOISE)


def _is_likely(head: bytes) -> bool:
    """Return whether these bytes are the header of a reply, whatever follows."""
    return (
        len(head) == HEADER
        and head[0] == HEAD
        and head[1] in REGISTER_NAMES
        and head[2] in STATUS_NAMES
    )


def _payload(raw: bytes, part: _Part) -> tuple[int, int]:
    """Return where the payload of a frame begins and ends; of noise everything."""
    if part.register in {NOISE, PASSWORD}:
        return part.start, part.end
    begin = min(part.start + HEADER, part.end)
    return begin, begin + raw[part.start + 3] if _is_complete(raw, part) else part.end


def _is_complete(raw: bytes, part: _Part) -> bool:
    length_at = part.start + HEADER - 1
    return length_at < part.end and part.end - part.start == OVERHEAD + raw[length_at]


def _without_serials(data: bytes, *, is_whole: bool) -> bytes:
    """Replace long numbers by zeros, and a short one at the end, which may go on."""
    redacted = zero_serials(data)
    if is_whole:
        return redacted
    return redacted.rstrip(DIGITS).ljust(len(data), b"0")


def _correct_checksum(raw: bytes, redacted: bytearray, part: _Part) -> None:
    """Make the checksum of a changed frame right again, or as wrong as it was."""
    covered = slice(part.start + 2, part.end - CHECKED)
    at = slice(part.end - CHECKED, part.end - 1)
    if part.register in {NOISE, PASSWORD} or not _is_complete(raw, part):
        return
    if raw[covered] != redacted[covered]:
        right, new = (int.from_bytes(checksum(bytes(one[covered]))) for one in (raw, redacted))
        wrong_by = int.from_bytes(raw[at]) - right
        redacted[at] = ((new + wrong_by) & 0xFFFF).to_bytes(2)


def _cut(raw: bytes, redacted: bytes, parts: Sequence[_Part], begin: int, end: int) -> Piece:
    """Return the piece between two offsets, without frames of the password exchange."""
    piece = Piece(b"")
    for part in parts:
        start, stop = max(begin, part.start), min(end, part.end)
        if start >= stop:
            continue
        if part.register != PASSWORD:
            piece.data += redacted[start:stop]
            if raw[start:stop] != redacted[start:stop]:
                piece.edited.add(part.register)
        elif stop == part.end:
            piece.password = _read_password(raw[part.start : part.end])
    return piece


def _read_password(frame: bytes) -> Password:
    step = frame[2] if frame[2:] else 0
    is_answer = step in ANSWERED and len(frame) == auth.OVERHEAD + 1
    return Password(step, frame[HEADER] if is_answer else None)
