"""Logging to stderr, one line an event, as logfmt or JSON, without blocking the event loop."""

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
from enum import StrEnum
from typing import Any, Final

from logfmter import Logfmter

from exporter.clock import Clock, boot_s

log = logging.getLogger(__name__)


class LogFormat(StrEnum):
    """The values of --log.format."""

    LOGFMT = "logfmt"
    JSON = "json"


LEVELS: Final = ("debug", "info", "warning", "error")

BURST: Final = 10  # equal lines in PAUSE_S; a flooded port or a bug repeats more
PAUSE_S: Final = 60.0  # then a suppressed line is written again
MAX_QUEUED: Final = 1000  # about 300 kB, more lines than a poll of many batteries at debug
FLUSH_S: Final = 1.0  # to write the queue at the end
MAX_KEYS: Final = 1000  # different lines; those of tornado and asyncio may quote a client

# Also in BlueZ's paths: dev_A4_C1_38_00_00_01.
ADDRESS: Final = re.compile(r"((?:[0-9A-Fa-f]{2}[:_]){3})(?:[0-9A-Fa-f]{2}[:_]){2}[0-9A-Fa-f]{2}")


class _Redacted(logging.Formatter):
    """Wraps a formatter and removes the second half of every Bluetooth address."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__()
        self._formatter = formatter

    def format(self, record: logging.LogRecord) -> str:
        """Return the redacted line, with a traceback if there is one."""
        return ADDRESS.sub(r"\1..", self._formatter.format(record))


class _Repeats(logging.Filter):
    """Suppresses equal lines after `BURST` of them in `PAUSE_S`; the next one has their number."""

    def __init__(self, clock: Clock = boot_s) -> None:
        super().__init__()
        self._clock = clock  # not record.created: the wall clock may be set back by days
        # By the facts that make lines equal: the time of the first one, and their number.
        self._seen: dict[tuple[object, ...], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the line is written."""
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
        if len(self._seen) > MAX_KEYS:
            self._seen.clear()
        return count < BURST


def set_up(*, level: str, log_format: LogFormat, redact_addresses: bool = False) -> None:
    """Log to stderr; what libraries log at info is only written at debug."""
    handler = logging.StreamHandler()
    formatter = _formatter(log_format)
    handler.addFilter(_Repeats())
    handler.setFormatter(_Redacted(formatter) if redact_addresses else formatter)
    for name in LEVELS:  # in lower case, as other exporters write them
        logging.addLevelName(logging.getLevelNamesMapping()[name.upper()], name)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for noisy, least in {
        # At info these log what their exceptions say, too.
        "bleak": logging.WARNING,
        "bleak_retry_connector": logging.WARNING,
        "asyncio": logging.WARNING,
        "tornado": logging.WARNING,
        # At warning it logs each failed TLS handshake, as health checks by TCP cause them.
        "tornado.general": logging.ERROR,
    }.items():
        logging.getLogger(noisy).setLevel(logging.NOTSET if level == "debug" else least)


def _formatter(log_format: LogFormat) -> logging.Formatter:
    """Return a formatter whose times are ISO 8601 in UTC, to the millisecond."""
    formatter: logging.Formatter
    if log_format is LogFormat.LOGFMT:
        keys = {"ts": "asctime", "level": "levelname", "logger": "name"}
        formatter = Logfmter(keys=list(keys), mapping=keys)
    else:
        from pythonjsonlogger.json import JsonFormatter  # noqa: PLC0415 - 2.6 MB that logfmt saves

        keys = {"asctime": "ts", "levelname": "level", "name": "logger", "message": "msg"}
        formatter = JsonFormatter(list(keys), rename_fields=keys)
    formatter.converter = time.gmtime
    formatter.default_time_format = "%Y-%m-%dT%H:%M:%S"
    formatter.default_msec_format = "%s.%03d+00:00"
    return formatter


class QueuedStderr(io.BufferedIOBase):
    """Writes to standard error in a thread, so that a full pipe does not block the event loop.

    The queue is bounded. Lines that do not fit or cannot be written are lost and counted.
    """

    name = "<stderr>"  # what TextIOWrapper shows

    def __init__(self, descriptor: int = 2) -> None:
        self._descriptor = descriptor
        self._queue: queue.Queue[bytes | None] = queue.Queue(MAX_QUEUED)
        self._refused = 0
        self._unwritten = 0
        self._reported = 0
        # A daemon thread does not keep the program alive while the pipe is full.
        self._thread = threading.Thread(target=self._write_queued, name="stderr", daemon=True)
        self._thread.start()

    @property
    def lost_lines(self) -> int:
        """Lines that did not fit into the queue or could not be written."""
        return self._refused + self._unwritten

    def writable(self) -> bool:
        """Return True, as TextIOWrapper requires."""
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
        """Write what is queued, for at most `FLUSH_S`."""
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
    """Queue everything that is written to standard error in the block, log lines included."""
    queued = QueuedStderr(descriptor)
    text = io.TextIOWrapper(
        queued, encoding="utf-8", errors="backslashreplace", line_buffering=True
    )
    with redirect_stderr(text):
        try:
            yield queued
        finally:
            queued.stop()
