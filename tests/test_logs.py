"""Log lines: one an event, for people and for machines."""

import json
import logging
import re
from collections.abc import Iterator

import pytest

from exporter.logs import BURST, PAUSE_S, LogFormat, set_up

STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00"


@pytest.fixture(autouse=True)
def own_root() -> Iterator[None]:
    """Give the root logger back as it was."""
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    yield
    root.setLevel(before[0])
    root.handlers[:] = before[1]


def say() -> None:
    logging.getLogger("exporter.poller").warning(
        "poll failed", extra={"battery": "my camper", "reason": "not_found", "error": 'a\n"b"=c'}
    )


def test_logfmt_is_one_line_with_the_facts_behind_the_event(
    capsys: pytest.CaptureFixture[str],
) -> None:
    set_up(level="info", log_format=LogFormat.LOGFMT)

    say()

    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(
        f"ts={STAMP} level=warning logger=exporter.poller "
        r'msg="poll failed" battery="my camper" reason=not_found error="a\\n\\"b\\"=c"',
        line,
    )


def test_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    set_up(level="info", log_format=LogFormat.JSON)

    say()

    (line,) = capsys.readouterr().err.splitlines()
    event = json.loads(line)
    assert re.fullmatch(STAMP, event.pop("ts"))
    assert event == {
        "level": "warning",
        "logger": "exporter.poller",
        "msg": "poll failed",
        "battery": "my camper",
        "reason": "not_found",
        "error": 'a\n"b"=c',
    }


@pytest.mark.parametrize("log_format", list(LogFormat))
def test_a_traceback_stays_in_its_line(
    log_format: LogFormat, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up(level="info", log_format=log_format)

    try:
        raise ZeroDivisionError("a bug")  # noqa: TRY301
    except ZeroDivisionError:
        logging.getLogger("exporter.poller").exception("poll crashed")

    (line,) = capsys.readouterr().err.splitlines()
    assert "ZeroDivisionError: a bug" in line


@pytest.mark.parametrize(
    ("level", "shown"),
    [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)],
)
def test_the_level_is_the_least_that_is_shown(
    level: str, shown: int, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up(level=level, log_format=LogFormat.LOGFMT)

    for name in ("debug", "info", "warning", "error"):
        getattr(logging.getLogger("exporter"), name)("event")

    assert len(capsys.readouterr().err.splitlines()) == shown


@pytest.mark.parametrize(("level", "shown"), [("info", False), ("debug", True)])
def test_the_libraries_chatter_is_for_debugging(
    level: str, shown: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up(level=level, log_format=LogFormat.LOGFMT)

    logging.getLogger("bleak.backends").info("chatter")

    assert ("chatter" in capsys.readouterr().err) is shown


@pytest.mark.parametrize("log_format", list(LogFormat))
def test_addresses_are_shortened_on_demand(
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


def repeat(count: int, *, at_s: float, msg: str = "socket.send() raised exception.") -> None:
    for _ in range(count):
        record = logging.makeLogRecord(
            {"name": "asyncio", "levelno": logging.WARNING, "levelname": "warning", "msg": msg}
        )
        record.created = at_s
        logging.getLogger().handle(record)


def test_repeats_are_counted_instead_of_written(capsys: pytest.CaptureFixture[str]) -> None:
    set_up(level="info", log_format=LogFormat.LOGFMT)

    repeat(BURST + 90, at_s=1000.0)
    repeat(1, at_s=1000.0, msg="something else")
    flood = capsys.readouterr().err.splitlines()
    repeat(1, at_s=1000.0 + PAUSE_S)
    (after,) = capsys.readouterr().err.splitlines()

    assert len(flood) == BURST + 1
    assert flood[-1].endswith('msg="something else"')
    assert after.endswith("suppressed=90")


def test_what_is_suppressed_is_remembered_in_bounded_memory(
    capsys: pytest.CaptureFixture[str],
) -> None:
    set_up(level="info", log_format=LogFormat.LOGFMT)

    for number in range(3000):
        repeat(1, at_s=1000.0, msg=f"different {number}")

    (handler,) = logging.getLogger().handlers
    (repeats,) = handler.filters
    assert len(capsys.readouterr().err.splitlines()) == 3000
    assert len(repeats._seen) <= 1000  # type: ignore[union-attr] # the bound is the promise
