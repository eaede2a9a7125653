"""Files that users name, and whether they have changed."""

import errno
import os
import stat
import sys
import time
from pathlib import Path
from typing import Final

from exporter.errors import ConfigError

MOST_BYTES: Final = 1_000_000
MOST_TEXT: Final = 10_000_000  # characters; a frame has 80, a day's log of one battery a million
RETRY_S: Final = 5.0

Stamp = tuple[int, ...] | None


def read_small(path: Path) -> bytes:
    """Return what a file holds. Never waits: a pipe is no file.

    Raises:
        OSError: It cannot be read, is none, or is larger than a megabyte.
        ValueError: No file can have this name.
    """
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(number, "rb") as file:  # noqa: PTH123 - a number
        mode = os.fstat(number).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, "Is a directory")
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "not a regular file")
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise OSError(errno.EFBIG, "more than a megabyte")
    return content


def read_text(name: str) -> str:
    """Return the text of a file, a pipe or, for "-", standard input.

    Raises:
        ConfigError: It cannot be read, is no text, or is too long.
    """
    source = "standard input" if name == "-" else name
    try:
        if name == "-":
            text = sys.stdin.read(MOST_TEXT + 1)
        else:
            with Path(name).open(encoding="utf-8-sig") as file:
                text = file.read(MOST_TEXT + 1)
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, or a name that no file can have
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigError([f"{source}: cannot be read: {reason}"]) from error
    if len(text) > MOST_TEXT:
        raise ConfigError([f"{source}: more than {MOST_TEXT} characters: give the frames only"])
    return text


def stamp(path: Path) -> Stamp:
    """Return what changes when a file or its permissions do; None: it is not there."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino


class Following:
    """When to read again: after a change, and some time after a failure."""

    def __init__(self, seen: object) -> None:
        """Begin with what was read."""
        self._seen = seen
        self._again_s = float("inf")

    def is_due(self, now: object) -> bool:
        """Whether to read, because this is not what was seen the last time."""
        if now == self._seen and time.monotonic() < self._again_s:
            return False
        self._seen = now
        self._again_s = float("inf")
        return True

    def failed(self) -> None:
        """Say that reading failed: it may have been for want of something that comes back."""
        self._again_s = time.monotonic() + RETRY_S
