"""Reads files that users name, and detects their changes."""

import errno
import os
import stat
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from exporter.errors import ConfigError

MAX_BYTES: Final = 1_000_000
MAX_TEXT: Final = 10_000_000  # characters; a frame has 80, the log of one battery a million a day
RETRY_S: Final = 5.0
PLACES: Final = (Path("config.yaml"), Path("/etc/bms-exporter/config.yaml"))
# In the repository a link to the file at its top; a file in a wheel.
EXAMPLE: Final = Path(__file__).with_name("config.example.yaml")

CANNOT_READ: Final = {
    errno.ENOENT: "there is no such file",
    errno.ENOTDIR: "there is no such file",
    errno.EISDIR: "it is a folder: name a file",
}

Stamp = tuple[int, ...] | None


def find_config(places: Sequence[Path] = PLACES) -> Path:
    """Return the first of these files that exists; if none does, the first."""
    return next((path for path in places if not _is_absent(path)), places[0])


def missing_config(path: Path, places: Sequence[Path] = PLACES) -> str:
    """Return the complaint about a configuration that does not exist."""
    cure = "bms-exporter scan prints one for the batteries that it finds"
    if path == places[0] and all(map(_is_absent, places)):
        return (
            f"no configuration: {path.name} is neither in this folder nor in {places[-1].parent}/: "
            f"{cure}, --config.file FILE names another place"
        )
    return f"{path}: there is no such file: {cure}"


def _is_absent(path: Path) -> bool:
    """Return whether there is no such file for certain; it may be in a folder that is closed."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
    return False


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


def read_config(
    path: Path, *, describe_missing: Callable[[Path], str] = "{}: there is no such file".format
) -> str:
    """Return the text of a configuration file.

    Raises:
        ConfigError: It cannot be read, or is not UTF-8; `describe_missing` makes the complaint
            about a file that does not exist.
    """
    try:
        return read_small(path).decode()
    except FileNotFoundError as error:
        raise ConfigError([describe_missing(path)]) from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError([f"{path}:{line}: not UTF-8: save the file as UTF-8 text"]) from error
    except (OSError, ValueError) as error:
        raise ConfigError([f"{path}: {why_unreadable(error)}"]) from error


def shown_path(path: Path) -> str:
    """Return a path for a message."""
    return str(path) if str(path).isprintable() else repr(str(path))


def why_unreadable(error: Exception) -> str:
    """Return why a file cannot be read, and what to do."""
    if not isinstance(error, OSError):
        return "this cannot be the name of a file"  # it has a null character
    if error.errno == errno.EACCES:
        return "this user may not read it: change its owner or its mode"
    return CANNOT_READ.get(error.errno or 0, f"it cannot be read: {error.strerror}")


def read_secret(
    folder: Path, *, file: str | None, variable: str | None, option: str
) -> bytes | None:
    """Return a secret from a file in `folder`, or from an environment variable; None: from neither.

    `option` is the key that names the file.

    Raises:
        ValueError: It is not there, or is given twice.
    """
    if file is not None and variable is not None:
        raise ValueError(f"{option} is given too: remove one of them")
    if file is not None:
        try:
            return read_small(folder / file).rstrip(b"\r\n")
        except FileNotFoundError as error:
            # A name without an ending may be the secret itself.
            where = f"{shown_path(folder / file)}: " if "." in file else ""
            cure = "write the secret into a file, and the name of the file here"
            raise ValueError(f"{where}there is no such file: {cure}") from error
        except (OSError, ValueError) as error:  # ValueError: a name that no file can have
            raise ValueError(f"{shown_path(folder / file)}: {why_unreadable(error)}") from error
    if variable is None:
        return None
    if variable not in os.environ:
        # Its name is not quoted: it may be the secret itself.
        raise ValueError("this environment variable is not set: set it before the start")
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
        reason = why_unreadable(error) if isinstance(error, OSError) else "it is not text"
        raise ConfigError([f"{source}: {reason}"]) from error
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
