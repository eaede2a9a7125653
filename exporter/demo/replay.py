"""Recorded reply frames as the answers of a virtual battery."""

from collections import defaultdict
from itertools import cycle
from pathlib import Path

from exporter.demo.battery import UNKNOWN_REGISTER, Answers, encode_reply
from exporter.errors import ConfigError
from exporter.protocol.frame import HEAD, OVERHEAD, FrameAssembler


def load_recording(path: Path) -> tuple[Answers, list[str]]:
    """Read a file of one hex frame a line; `#` begins a comment.

    Several frames of one register are served in turn; a register without one is answered with
    status 0x80. Damaged frames are served as they are, so that one can see what becomes of them.

    Returns:
        The answers, and a remark for each damaged frame.

    Raises:
        ConfigError: The file cannot be read, holds no frame, or holds something else.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigError([f"{path}: cannot be read: {reason}"]) from error
    frames: dict[int, list[bytes]] = defaultdict(list)
    problems, remarks = [], []
    for number, line in enumerate(lines, start=1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        where = f"{path}: line {number}"
        frame = _reply(text)
        if frame is None:
            problems.append(f"{where}: expected a reply frame in hex (DD ...), got {text[:40]!r}")
            continue
        if len(FrameAssembler().feed(frame)) != 1:
            remarks.append(f"{where}: a damaged frame, served as it is")
        frames[frame[1]].append(frame)
    if not frames and not problems:
        problems.append(f"{path}: expected at least one frame, got none")
    if problems:
        raise ConfigError(problems)
    turns = {register: cycle(recorded) for register, recorded in frames.items()}

    def answer(register: int) -> bytes:
        if register not in turns:
            return encode_reply(register, status=UNKNOWN_REGISTER)
        return next(turns[register])

    return answer, remarks


def _reply(text: str) -> bytes | None:
    """Return what may be served as a reply frame, None for anything else."""
    try:
        frame = bytes.fromhex(text)
    except ValueError:
        return None
    return frame if len(frame) >= OVERHEAD and frame[0] == HEAD else None
