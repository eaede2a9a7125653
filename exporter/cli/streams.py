"""The standard streams of a command, which may be closed, unwritable or without a reader."""

import os
import sys
from contextlib import suppress
from typing import TextIO


def open_standard_streams() -> None:
    """Open /dev/null in place of closed standard streams, so that no socket gets their number."""
    while (number := os.open(os.devnull, os.O_RDWR)) < 3:  # noqa: PLR2004 - after stderr
        pass
    os.close(number)
    sys.stdout = sys.stdout or discarded()
    sys.stderr = sys.stderr or discarded()


def complain(text: str) -> None:
    """Write a line for the user to standard error."""
    with suppress(OSError):  # the disk is full, or the reader has gone: no reason to end
        print(text, file=sys.stderr)
    flush_stderr()


def flush_stderr() -> None:
    """Flush standard error; if that fails, replace it, or Python would fail again at exit."""
    try:
        sys.stderr.flush()
    except OSError:
        sys.stderr = discarded()


def discarded() -> TextIO:
    """Return a stream to /dev/null."""
    return open(os.devnull, "w")  # noqa: PTH123 - it stays open
