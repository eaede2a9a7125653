"""Makes a virtual battery answer with recorded reply frames."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable
from itertools import accumulate, cycle
from pathlib import Path

from exporter.config.files import read_text
from exporter.demo.battery import UNKNOWN_REGISTER, Answers, encode_reply
from exporter.errors import ConfigError, DecodeError
from exporter.protocol.frame import HEAD
from exporter.protocol.pasted import Piece, parse, split_lines
from exporter.protocol.split import Kind, split
from exporter.recording.notifications import read_notifications
from exporter.recording.session import is_recording


def read_recordings(
    files: Iterable[tuple[str, Path]],
) -> tuple[dict[str, Answers], list[str]]:
    """Return the answers of each recording by name, and the remarks about all of them.

    Raises:
        ConfigError: A name is given twice, or a recording cannot be used.
    """
    answers: dict[str, Answers] = {}
    remarks: list[str] = []
    for name, path in files:
        if name in answers:
            raise ConfigError([f"--replay: {name!r} is given twice"])
        answers[name], own_remarks = read_recording(path)
        remarks += own_remarks
    return answers, remarks


def read_recording(path: Path) -> tuple[Answers, list[str]]:
    """Return answers with the frames in a file, and remarks about damaged and surplus bytes.

    The file is a recording, or has any format of `decode`; there `#` begins a comment. Frames of
    one register are served in turn; a register without a frame is refused with status 0x80.
    Damaged frames are served unchanged, to show how the exporter treats them.

    Raises:
        ConfigError: The file cannot be read, holds no reply frame, or holds other text.
    """
    text = read_text(str(path))
    try:
        pieces = (
            [Piece(data, f"{at}: ") for at, data in read_notifications(text, str(path))]
            if is_recording(text)
            else parse(split_lines(text, str(path)))
        )
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
