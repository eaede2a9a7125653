"""Writes a recording into a file, line by line, so that a crash leaves what there is."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from exporter.errors import ConfigError


class RecordingFile:
    """A file that takes the lines of a recording; it never raises while a battery is read."""

    def __init__(self, path: Path, descriptor: int) -> None:
        """Write to an open descriptor, which the caller closes."""
        self._path = path
        self._descriptor = descriptor
        self.lines = 0
        """How many are written, whole."""
        self.problem: str | None = None
        """Why lines are missing; None: none is."""

    def write(self, line: str) -> None:
        """Write one line at once."""
        data = f"{line}\n".encode()
        try:
            while data and self.problem is None:
                data = data[os.write(self._descriptor, data) :]
            self.lines += not data
        except OSError as error:
            self.problem = f"{self._path}: the recording is incomplete: {error.strerror}"


@contextmanager
def open_recording(path: Path) -> Iterator[RecordingFile]:
    """Create the file of a recording; an existing one is never overwritten.

    A new file that stays empty is removed: the next attempt can have its name.

    Raises:
        ConfigError: The file exists, or cannot be created.
    """
    # A pipe or /dev/stdout exists, and is written to.
    is_new = not path.exists() or path.is_file()
    flags = os.O_WRONLY | os.O_CREAT | (os.O_EXCL if is_new else 0)
    try:
        descriptor = os.open(path, flags, 0o644)
    except FileExistsError as error:
        raise ConfigError(
            [f"{path}: exists already: give another name, so that no recording is lost"]
        ) from error
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        reason = error.strerror if isinstance(error, OSError) else "no file can have this name"
        raise ConfigError([f"{path}: cannot be written: {reason}"]) from error
    file = RecordingFile(path, descriptor)
    try:
        yield file
    finally:
        os.close(descriptor)
        if is_new and not file.lines and file.problem is None:
            path.unlink(missing_ok=True)
