"""Log lines for people (logfmt) and machines (json), one line an event, on stderr."""

import logging
import re
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


# In text, and in BlueZ's paths: dev_A4_C1_38_00_00_01.
ADDRESS: Final = re.compile(r"((?:[0-9A-Fa-f]{2}[:_]){3})(?:[0-9A-Fa-f]{2}[:_]){2}[0-9A-Fa-f]{2}")


class _Redacted(logging.Formatter):
    """Another formatter's lines, with the maker's half of every Bluetooth address only."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__()
        self._formatter = formatter

    def format(self, record: logging.LogRecord) -> str:
        """Return the whole line, a traceback included."""
        return ADDRESS.sub(r"\1..", self._formatter.format(record))


class _Logfmt(Logfmter):
    """logfmt with ISO 8601 times."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802, ARG002
        """Return the time of the event in UTC, to the millisecond."""
        return _iso(record)


def _iso(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def set_up(*, level: str, log_format: LogFormat, redact_addresses: bool = False) -> None:
    """Send every log line of this process to stderr."""
    handler = logging.StreamHandler()
    formatter = _formatter(log_format)
    handler.setFormatter(_Redacted(formatter) if redact_addresses else formatter)
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
