"""Log lines for people (logfmt) and machines (json), one line an event, on stderr."""

import logging
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from logfmter import Logfmter


class LogFormat(StrEnum):
    """The values of --log.format."""

    LOGFMT = "logfmt"
    JSON = "json"


LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


class _Logfmt(Logfmter):
    """logfmt with ISO 8601 times."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802, ARG002
        """Return the time of the event in UTC, to the millisecond."""
        return _iso(record)


def _iso(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def set_up(*, level: str, log_format: LogFormat) -> None:
    """Send every log line of this process to stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(_formatter(log_format))
    for name, number in LEVELS.items():
        logging.addLevelName(number, name)  # in lower case, as other exporters write them
    logging.basicConfig(level=LEVELS[level], handlers=[handler], force=True)
    for noisy in ("bleak", "bleak_retry_connector", "hypercorn", "asyncio"):
        # They say at info what their exceptions say again.
        logging.getLogger(noisy).setLevel(logging.NOTSET if level == "debug" else logging.WARNING)


def _formatter(log_format: LogFormat) -> logging.Formatter:
    if log_format is LogFormat.LOGFMT:
        return _Logfmt(
            keys=["ts", "level", "logger"],
            mapping={"ts": "asctime", "level": "levelname", "logger": "name"},
        )
    from pythonjsonlogger.json import JsonFormatter  # noqa: PLC0415 - 2.6 MB that logfmt saves

    class Json(JsonFormatter):
        def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802, ARG002
            return _iso(record)

    return Json(
        "{asctime}{levelname}{name}{message}",
        style="{",
        rename_fields={
            "asctime": "ts",
            "levelname": "level",
            "name": "logger",
            "message": "msg",
        },
    )
