"""Reads files that users name, and detects their changes."""

import errno
import os
import stat
import sys
import time
from pathlib import Path
from typing import Final

from exporter.errors import ConfigError

MAX_BYTES: Final = 1_000_000
MAX_TEXT: Final = 10_000_000  # characters; a frame has 80, the log of one battery a million a day
RETRY_S: Final = 5.0

Stamp = tuple[int, ...] | None


def read_small(path: Path) -> bytes:
    """Return the content of a regular file. Never waits, as it would for a pipe.

    Raises:
        OSError: It cannot be read, is no regular file, or is larger than a megabyte.
        ValueError: No file can have this name.
    """
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise OSError(errno.EFBIG, "more than a megabyte")
    return content


def read_config(path: Path, *, hint: str = "") -> str:
    """Return the text of a configuration file; `hint` is the end of the message if that fails.

    Raises:
        ConfigError: It cannot be read, or is not UTF-8.
    """
    try:
        return read_small(path).decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError([f"{path}: cannot be read: {reason}{hint}"]) from error


def read_secret(
    folder: Path, *, file: str | None, variable: str | None, option: str
) -> bytes | None:
    """Return a secret from a file in `folder`, or from an environment variable; None: from neither.

    `option` is the key that names the file.

    Raises:
        ValueError: It is not there, or is given twice.
    """
    if file is not None and variable is not None:
        raise ValueError(f"{option} is given too; one of them is enough")
    if file is not None:
        try:
            return read_small(folder / file).rstrip(b"\r\n")
        except (OSError, ValueError) as error:  # ValueError: a name that no file can have
            reason = error.strerror if isinstance(error, OSError) else "no name of a file"
            raise ValueError(f"{file!r}: {reason}") from error
    if variable is None:
        return None
    if variable not in os.environ:
        raise ValueError(f"the variable {variable} is not set")
    return os.environb[variable.encode()]


def read_text(name: str) -> str:
    """Return the text of a file, a pipe or, for "-", standard input.

    Raises:
        ConfigError: It cannot be read, is no text, or is too long.
    """
    source = "standard input" if name == "-" else name
    try:
        if name == "-":
            text = sys.stdin.read(MAX_TEXT + 1)
        else:
            with Path(name).open(encoding="utf-8-sig") as file:
                text = file.read(MAX_TEXT + 1)
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, or a name that no file can have
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigError([f"{source}: cannot be read: {reason}"]) from error
    if len(text) > MAX_TEXT:
        raise ConfigError([f"{source}: more than {MAX_TEXT} characters: give the frames only"])
    return text


def stamp(path: Path) -> Stamp:
    """Return a value that changes with the file or its permissions; None: there is no file."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino


class ChangeDetector:
    """Decides when to read files again: after a change, and RETRY_S after a failure."""

    def __init__(self, seen: object) -> None:
        self._seen = seen
        self._again_s = float("inf")

    def is_due(self, now: object) -> bool:
        """Return whether to read again, given the current stamps; True once for each change."""
        if now == self._seen and time.monotonic() < self._again_s:
            return False
        self._seen = now
        self._again_s = float("inf")
        return True

    def note_failure(self) -> None:
        """Read again in RETRY_S even without a change: another file may be back by then."""
        self._again_s = time.monotonic() + RETRY_S
