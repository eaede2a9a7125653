"""Each event is one log line, for people or for programs, and logging never blocks."""

import json
import logging
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from exporter.logs import (
    BURST,
    FLUSH_S,
    MAX_QUEUED,
    PAUSE_S,
    LogFormat,
    QueuedStderr,
    _Repeats,
    queued_stderr,
    set_up,
)

STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00"


def say() -> None:
    logging.getLogger("exporter.battery.poller").warning(
        "poll failed", extra={"battery": "my camper", "reason": "not_found", "error": 'a\n"b"=c'}
    )


def test_logfmt_line_has_the_facts_behind_the_event(
    capsys: pytest.CaptureFixture[str],
) -> None:
    set_up(level="info", log_format=LogFormat.LOGFMT)

    say()

    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(
        f"ts={STAMP} level=warning logger=exporter.battery.poller "
        r'msg="poll failed" battery="my camper" reason=not_found error="a\\n\\"b\\"=c"',
        line,
    )


def test_json_line_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    set_up(level="info", log_format=LogFormat.JSON)

    say()

    (line,) = capsys.readouterr().err.splitlines()
    event = json.loads(line)
    assert re.fullmatch(STAMP, event.pop("ts"))
    assert event == {
        "level": "warning",
        "logger": "exporter.battery.poller",
        "msg": "poll failed",
        "battery": "my camper",
        "reason": "not_found",
        "error": 'a\n"b"=c',
    }


@pytest.mark.parametrize("log_format", list(LogFormat))
def test_traceback_stays_in_its_log_line(
    log_format: LogFormat, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up(level="info", log_format=log_format)

    try:
        raise ZeroDivisionError("a bug")  # noqa: TRY301
    except ZeroDivisionError:
        logging.getLogger("exporter.battery.poller").exception("poll crashed")

    (line,) = capsys.readouterr().err.splitlines()
    assert "ZeroDivisionError: a bug" in line


@pytest.mark.parametrize(
    ("level", "shown"),
    [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)],
)
def test_events_below_the_level_are_not_logged(
    level: str, shown: int, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up(level=level, log_format=LogFormat.LOGFMT)

    for name in ("debug", "info", "warning", "error"):
        getattr(logging.getLogger("exporter"), name)("event")

    assert len(capsys.readouterr().err.splitlines()) == shown


@pytest.mark.parametrize(("level", "shown"), [("info", False), ("debug", True)])
def test_info_of_libraries_is_logged_at_debug_only(
    level: str, shown: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up(level=level, log_format=LogFormat.LOGFMT)

    logging.getLogger("bleak.backends").info("chatter")

    assert ("chatter" in capsys.readouterr().err) is shown


@pytest.mark.parametrize("log_format", list(LogFormat))
def test_addresses_are_redacted_on_demand(
    log_format: LogFormat, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up(level="info", log_format=log_format, redact_addresses=True)

    logging.getLogger("exporter").warning(
        "no answer from A4:C1:38:12:34:56", extra={"path": "/org/bluez/hci0/dev_A4_C1_38_12_34_56"}
    )

    line = capsys.readouterr().err
    assert "A4:C1:38:.." in line
    assert "dev_A4_C1_38_.." in line
    assert "12:34" not in line
    assert "12_34" not in line


def line(msg: str = "socket.send() raised exception.") -> logging.LogRecord:
    return logging.makeLogRecord(
        {"name": "asyncio", "levelno": logging.WARNING, "levelname": "warning", "msg": msg}
    )


def test_repeated_log_lines_are_suppressed(capsys: pytest.CaptureFixture[str]) -> None:
    set_up(level="info", log_format=LogFormat.LOGFMT)

    for _ in range(BURST + 90):
        logging.getLogger().handle(line())
    logging.getLogger().handle(line("something else"))

    written = capsys.readouterr().err.splitlines()
    assert len(written) == BURST + 1
    assert written[-1].endswith('msg="something else"')


def test_first_line_after_a_pause_counts_the_suppressed_ones() -> None:
    now_s = 1000.0
    repeats = _Repeats(lambda: now_s)
    for _ in range(BURST + 90):
        repeats.filter(line())
    now_s += PAUSE_S
    after = line()

    assert repeats.filter(after)
    assert vars(after)["suppressed"] == 90


@pytest.mark.parametrize(
    "step_s",
    [pytest.param(-5 * 86400.0, id="back"), pytest.param(5 * 86400.0, id="forward")],
)
def test_step_of_the_wall_clock_changes_no_suppression(step_s: float) -> None:
    now_s = 1000.0
    repeats = _Repeats(lambda: now_s)
    shown = []
    for minute in range(14):
        for _ in range(BURST + 1):
            record = line()
            record.created = 1_795_391_224.0 + now_s + (step_s if minute else 0.0)
            shown.append(repeats.filter(record))
        now_s += PAUSE_S

    assert shown == ([True] * BURST + [False]) * 14


def test_suppression_needs_bounded_memory() -> None:
    repeats = _Repeats()

    assert all(repeats.filter(line(f"different {number}")) for number in range(3000))
    assert len(repeats._seen) <= 1000  # the bound is the promise


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Return both ends of a pipe, for reading and for writing."""
    reading, writing = os.pipe()
    yield reading, writing
    for number in (reading, writing):
        with suppress(OSError):  # closed by the test
            os.close(number)


def until(queued: QueuedStderr, lost: int) -> None:
    deadline_s = time.monotonic() + 10.0
    while queued.lost_lines < lost:
        assert time.monotonic() < deadline_s
        time.sleep(0.001)


class TestQueuedStderr:
    def test_queued_lines_arrive_in_order(self, capfd: pytest.CaptureFixture[str]) -> None:
        with queued_stderr() as queued:
            set_up(level="info", log_format=LogFormat.LOGFMT)
            say()
            sys.stderr.write("for people: \xe4 \ud800\n")
            try:
                raise ZeroDivisionError("a bug")  # noqa: TRY301
            except ZeroDivisionError:
                logging.getLogger("exporter.battery.poller").exception(
                    "poll crashed", extra={"n": 1}
                )

        first, second, third = capfd.readouterr().err.splitlines()
        assert first.endswith(r'battery="my camper" reason=not_found error="a\n\"b\"=c"')
        assert second == "for people: \xe4 \\ud800"
        assert "ZeroDivisionError: a bug" in third
        assert "n=1" in third
        assert queued.lost_lines == 0

    def test_full_pipe_does_not_block_logging(self, pipe: tuple[int, int]) -> None:
        line = b"x" * 999 + b"\n"
        queued = QueuedStderr(pipe[1])
        started_s = time.monotonic()

        for _ in range(3 * MAX_QUEUED):
            assert queued.write(line) == 1000
        lost = queued.lost_lines
        queued.stop()

        assert time.monotonic() - started_s < FLUSH_S + 2.0
        assert 2 * MAX_QUEUED - 100 <= lost <= 2 * MAX_QUEUED  # the pipe has taken some
        os.close(pipe[0])
        queued.stop()  # now the thread ends

    def test_lost_lines_are_logged_when_the_pipe_is_read_again(self, pipe: tuple[int, int]) -> None:
        reading, writing = pipe
        os.set_blocking(writing, False)  # as another program may leave it
        with queued_stderr(writing) as queued, os.fdopen(reading, "rb", closefd=False) as reader:
            set_up(level="info", log_format=LogFormat.LOGFMT)
            for number in range(3 * MAX_QUEUED):
                event = f"event {number}" + "x" * 1000
                logging.getLogger().info(event)
            lost = queued.lost_lines
            assert lost > 0

            lines = [reader.readline() for _ in range(3 * MAX_QUEUED - lost + 1)]

        assert b"event 0x" in lines[0]
        assert lines[-1].endswith(b'msg="log lines were lost" lines=%d\n' % lost)

    def test_log_lines_that_cannot_be_written_are_counted(self) -> None:
        number = os.open("/dev/full", os.O_WRONLY)
        queued = QueuedStderr(number)

        queued.write(b"two\nlines\n")
        queued.write(b"and another\n")

        until(queued, 3)
        queued.stop()
        os.close(number)

    def test_log_lines_without_a_reader_are_counted(self, pipe: tuple[int, int]) -> None:
        os.close(pipe[0])
        queued = QueuedStderr(pipe[1])

        queued.write(b"nobody reads it\n")

        until(queued, 1)
        queued.stop()
