"""The file of `--record`, and what its end is called."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from exporter.cli.streams import complain
from exporter.recording.file import RecordingFile, open_recording


@contextmanager
def recording(path: Path | None) -> Iterator[RecordingFile | None]:
    """Create the file of a recording, and say at the end what it holds.

    Raises:
        ConfigError: The file exists, or cannot be created.
    """
    if path is None:
        yield None
        return
    with open_recording(path) as file:
        try:
            yield file
        except (KeyboardInterrupt, asyncio.CancelledError):  # Ctrl-C, SIGTERM
            _conclude(path, file, "recorded until it was interrupted")
            raise
    _conclude(path, file, "recorded")


def _conclude(path: Path, file: RecordingFile, how: str) -> None:
    if file.problem is not None:
        complain(file.problem)
    elif not file.lines:
        complain(f"{path}: not written: there was nothing to record")
    else:
        complain(f"{how}: {path}; read it, then attach it to an issue")
