"""What `doctor` shows while it works, and what it writes."""

import asyncio
import shutil
import sys
from pathlib import Path
from typing import Final, TextIO

from exporter.ble.transport import Backend
from exporter.cli.options import Doctor
from exporter.cli.recorded import recording
from exporter.cli.streams import complain
from exporter.doctor.facts import Sources
from exporter.doctor.redaction import Redaction
from exporter.doctor.report import Report
from exporter.doctor.run import Plan, run
from exporter.errors import ConfigError

FAILED: Final = 1
WRONG_USAGE: Final = 2
CLEAR_LINE: Final = "\r\x1b[K"


def diagnose(options: Doctor, backend: Backend | None = None) -> int:
    """Run `doctor`; return its exit status.

    Raises:
        OSError: Standard output cannot be written.
    """
    report = Report(
        write=_print_line,
        on_wait=_show_wait,
        width=shutil.get_terminal_size().columns if sys.stdout.isatty() else None,
        redaction=Redaction(is_on=not options.show_addresses),
    )
    try:
        file = _create(options.json_file)
    except OSError as error:
        complain(f"{options.json_file}: cannot be written: {error.strerror}")
        return WRONG_USAGE
    status = FAILED
    is_complete = True
    try:
        with recording(options.record) as recorded:
            plan = Plan(
                config_file=options.config_file,
                batteries=options.batteries,
                quick=options.quick,
                link=options.link,
                exporter_url=options.exporter_url,
                record=None if recorded is None else recorded.write,
            )
            status = asyncio.run(run(plan, Sources(backend=backend), report))
        is_complete = recorded is None or recorded.problem is None
    except ConfigError as error:
        for problem in error.problems:
            complain(problem)
        status = WRONG_USAGE
    finally:  # what is known is of use even if it is interrupted
        _show_wait("")
        is_complete &= file is None or _write(file, report.as_json())
    return status if is_complete else status or FAILED


def _create(path: Path | None) -> TextIO | None:
    """Open the file at once: after minutes of work it would be too late to complain."""
    return None if path is None else path.open("w", encoding="utf-8")


def _write(file: TextIO, text: str) -> bool:
    """Write the file; return whether that succeeded."""
    try:
        with file:
            file.write(text)
    except OSError as error:
        complain(f"{file.name}: cannot be written: {error.strerror}")
        return False
    return True


def _print_line(text: str) -> None:
    print(text, flush=True)


def _show_wait(text: str) -> None:
    """Show what is waited for, on a terminal only; an empty text removes it."""
    if sys.stderr.isatty():
        columns = shutil.get_terminal_size().columns
        print(
            CLEAR_LINE + f"{text} ..."[: columns - 1] * bool(text),
            end="",
            flush=True,
            file=sys.stderr,
        )
