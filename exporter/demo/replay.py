"""Recorded reply frames as the answers of a virtual battery."""

from bisect import bisect_right
from collections import defaultdict
from itertools import accumulate, cycle
from pathlib import Path

from exporter.config.files import read_text
from exporter.demo.battery import UNKNOWN_REGISTER, Answers, encode_reply
from exporter.errors import ConfigError, DecodeError
from exporter.protocol.frame import HEAD
from exporter.protocol.pasted import lines_of, parse
from exporter.protocol.split import Kind, split


def load_recording(path: Path) -> tuple[Answers, list[str]]:
    """Read frames as `decode` takes them: in hex, in a log; `#` begins a comment.

    Several frames of one register are served in turn; a register without one is answered with
    status 0x80. Damaged frames are served as they are, so that one can see what becomes of them.

    Returns:
        The answers, and a remark for each damaged frame and for surplus bytes.

    Raises:
        ConfigError: The file cannot be read, holds no frame, or holds something else.
    """
    try:
        pieces = parse(lines_of(read_text(str(path)), str(path)))
    except DecodeError as error:
        raise ConfigError([str(error)]) from error
    ends = list(accumulate(len(piece.raw) for piece in pieces))
    frames: dict[int, list[bytes]] = defaultdict(list)
    remarks = []
    for part in split([piece.raw for piece in pieces]):
        where = pieces[bisect_right(ends, part.at)].where
        if part.kind is Kind.SURPLUS or len(part.raw) == 1:
            remarks.append(f"{where}surplus bytes, not served: {part.raw.hex()}")
        elif part.kind is not Kind.REQUEST and part.raw[0] == HEAD:
            frames[part.raw[1]].append(part.raw)
            if part.kind is Kind.DAMAGED:
                remarks.append(f"{where}a damaged frame, served as it is")
    if not frames:
        raise ConfigError([f"{path}: expected at least one reply frame (DD03...77), got none"])
    turns = {register: cycle(recorded) for register, recorded in frames.items()}

    def answer(register: int) -> bytes:
        if register not in turns:
            return encode_reply(register, status=UNKNOWN_REGISTER)
        return next(turns[register])

    return answer, remarks
