"""Log lines for people (logfmt) and machines (json), one line an event, on stderr."""

import io
import logging
import os
import queue
import re
import select
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from logfmter import Logfmter

from exporter.clock import Clock, boot_s

log = logging.getLogger(__name__)


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


BURST: Final = 10  # of equal lines in PAUSE_S: somebody floods the port, or a bug repeats itself
PAUSE_S: Final = 60.0
QUEUED_LINES: Final = 1000  # some 300 kB; more than a poll of many batteries logs at debug
FLUSH_S: Final = 1.0  # for the rest of the queue at the end
MOST_KEYS: Final = 1000  # different lines: those of tornado and asyncio may quote a client

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


class _Repeats(logging.Filter):
    """Lets through the first few of lines that say the same, and counts the rest.

    The first line after the pause says in `suppressed` how many there were.
    """

    def __init__(self, clock: Clock = boot_s) -> None:
        super().__init__()
        self._clock = clock  # not record.created: that clock may be set back by days
        self._seen: dict[tuple[object, ...], tuple[float, int]] = {}  # since when, how many

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is written."""
        if record.levelno <= logging.DEBUG:
            return True
        facts = (getattr(record, name, None) for name in ("battery", "error"))
        key = (record.name, record.levelno, record.msg, *facts)
        now_s = self._clock()
        since_s, count = self._seen.get(key, (now_s, 0))
        if now_s - since_s < PAUSE_S:
            self._seen[key] = since_s, count + 1
        else:
            self._seen[key] = now_s, 1
            if count > BURST:
                record.suppressed = count - BURST
            count = 0
        if len(self._seen) > MOST_KEYS:
            self._seen.clear()
        return count < BURST


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
    handler.addFilter(_Repeats())
    handler.setFormatter(_Redacted(formatter) if redact_addresses else formatter)
    for name, number in LEVELS.items():
        logging.addLevelName(number, name)  # in lower case, as other exporters write them
    logging.basicConfig(level=LEVELS[level], handlers=[handler], force=True)
    for noisy, least in {
        # At info they log what their exceptions say again.
        "bleak": logging.WARNING,
        "bleak_retry_connector": logging.WARNING,
        "asyncio": logging.WARNING,
        "tornado": logging.WARNING,
        # At warning it logs every client whose TLS handshake fails, such as plain health checks.
        "tornado.general": logging.ERROR,
    }.items():
        logging.getLogger(noisy).setLevel(logging.NOTSET if level == "debug" else least)


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


class QueuedStderr(io.BufferedIOBase):
    """Writes to standard error in a thread, so that a full pipe does not block the event loop.

    The queue is bounded. Lines that do not fit or cannot be written are lost and counted.
    """

    name = "<stderr>"  # what TextIOWrapper shows

    def __init__(self, descriptor: int = 2) -> None:
        """Start the thread, which has to be stopped."""
        self._descriptor = descriptor
        self._queue: queue.Queue[bytes | None] = queue.Queue(QUEUED_LINES)
        self._refused = 0
        self._unwritten = 0
        self._reported = 0
        # A daemon: the program ends although the thread waits for the reader of the pipe.
        self._thread = threading.Thread(target=self._write_queued, name="stderr", daemon=True)
        self._thread.start()

    @property
    def lost_lines(self) -> int:
        """How many lines were lost."""
        return self._refused + self._unwritten

    def writable(self) -> bool:
        """Return True: TextIOWrapper requires it."""
        return True

    def write(self, data: Any) -> int:
        """Queue whole lines without waiting."""
        lines = bytes(data)
        try:
            self._queue.put_nowait(lines)
        except queue.Full:
            self._refused += lines.count(b"\n")
        return len(lines)

    def stop(self) -> None:
        """Write what is queued, as far as that takes no longer than `FLUSH_S`."""
        until_s = time.monotonic() + FLUSH_S
        with suppress(queue.Full):
            self._queue.put(None, timeout=FLUSH_S)
        self._thread.join(max(0.0, until_s - time.monotonic()))

    def _write_queued(self) -> None:
        while (lines := self._queue.get()) is not None:
            try:
                self._write_all(lines)
            except OSError:  # the disk is full, or the reader has gone
                self._unwritten += lines.count(b"\n")
                continue
            if self._queue.empty() and (lost := self.lost_lines - self._reported):
                self._reported += lost
                log.warning("log lines were lost", extra={"lines": lost})

    def _write_all(self, lines: bytes) -> None:
        while lines:
            try:
                lines = lines[os.write(self._descriptor, lines) :]
            except BlockingIOError:  # another program made the terminal or pipe non-blocking
                select.select([], [self._descriptor], [])


@contextmanager
def queued_stderr(descriptor: int = 2) -> Iterator[QueuedStderr]:
    """Queue everything that is written to standard error inside the block, log lines included."""
    queued = QueuedStderr(descriptor)
    text = io.TextIOWrapper(
        queued, encoding="utf-8", errors="backslashreplace", line_buffering=True
    )
    with redirect_stderr(text):
        try:
            yield queued
        finally:
            queued.stop()
