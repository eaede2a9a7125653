"""`read --replay`: runs recorded sessions, and compares each with what was recorded."""

import asyncio
from pathlib import Path
from typing import Literal

from exporter.cli.output import show_reading
from exporter.cli.streams import complain
from exporter.config.files import read_text
from exporter.recording.session import RecordedSession, parse_sessions
from exporter.replay.run import replay


def run_replay(path: Path, form: Literal["table", "json", "metrics"]) -> int:
    """Replay every session of a file; return 0 if each ended as it was recorded.

    Raises:
        ConfigError: The file is no recording, or the exporter asks for what it does not hold.
    """
    sessions = parse_sessions(read_text(str(path)), str(path))
    statuses = [_replay(session, form) for session in sessions]
    return max(statuses)


def _replay(session: RecordedSession, form: Literal["table", "json", "metrics"]) -> int:
    replayed = asyncio.run(replay(session))
    status = show_reading(replayed.snapshot, form)
    if session.result is None:
        complain(f"{session.header.where}: this session was not recorded to its end")
        return status
    for difference in replayed.differences:
        complain(f"{session.header.where}: not as recorded: {difference}")
    if replayed.differences:
        return 1
    complain(f"{session.header.where}: as recorded")
    return 0
