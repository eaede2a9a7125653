"""What `decode` takes: hex, or files with hex, logs or recordings."""

import os
from collections.abc import Sequence

from exporter.config.files import read_text
from exporter.errors import ConfigError
from exporter.protocol.pasted import TextLine, is_plain, parse, split_lines
from exporter.recording.notifications import NONE, read_notifications
from exporter.recording.session import is_recording


def read_arguments(arguments: Sequence[str]) -> list[bytes]:
    """Return the bytes in each argument: hex, the name of a file, or "-" for standard input.

    Of a recording these are the notifications; they come first.

    Raises:
        ConfigError: A file cannot be read, or is a recording in which the battery sent nothing.
        DecodeError: An argument holds no bytes, or a number lacks a digit.
    """
    lines: list[TextLine] = []
    pieces: list[bytes] = []
    for argument in arguments:
        if not _is_file(argument):
            lines += split_lines(argument)
            continue
        text, source = read_text(argument), "standard input" if argument == "-" else argument
        if is_recording(text):
            pieces += _read_recording(text, source)
        else:
            lines += split_lines(text, source)
    return [*pieces, *(piece.raw for piece in parse(lines))]


def _is_file(argument: str) -> bool:
    # os.path: Path() refuses a null character.
    return argument == "-" or (not is_plain(argument) and os.path.exists(argument))  # noqa: PTH110


def _read_recording(text: str, source: str) -> list[bytes]:
    """Return what the battery sent; its sessions need not be whole for that."""
    values = [value for _, value in read_notifications(text, source)]
    if not values:
        raise ConfigError([f"{source}: {NONE}"])
    return values
