"""What `doctor` shows while it works, and what it writes."""

import asyncio
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TextIO

from exporter.ble.transport import Backend
from exporter.cli.options import Doctor
from exporter.cli.streams import complain
from exporter.doctor.facts import Sources
from exporter.doctor.redaction import Redaction
from exporter.doctor.report import Report
from exporter.doctor.run import Plan, run
from exporter.errors import ConfigError
from exporter.recording.file import open_recording
from exporter.recording.lines import Write

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
    try:
        with _recording(options.record) as record:
            plan = Plan(
                config_file=options.config_file,
                batteries=options.batteries,
                quick=options.quick,
                link=options.link,
                exporter_url=options.exporter_url,
                record=record,
            )
            return asyncio.run(run(plan, Sources(backend=backend), report))
    except ConfigError as error:
        for problem in error.problems:
            complain(problem)
        return WRONG_USAGE
    except asyncio.CancelledError:  # SIGTERM
        return FAILED
    finally:  # what is known is of use even if it is interrupted
        _show_wait("")
        if file is not None:
            _write(file, report.as_json())


@contextmanager
def _recording(path: Path | None) -> Iterator[Write | None]:
    """Create the file of a recording, and say at the end what it holds. Raises ConfigError."""
    if path is None:
        yield None
        return
    with open_recording(path) as file:
        yield file.write
    complain(file.problem or f"recorded: {path}; read it, then attach it to an issue")


def _create(path: Path | None) -> TextIO | None:
    """Open the file at once: after minutes of work it would be too late to complain."""
    return None if path is None else path.open("w", encoding="utf-8")


def _write(file: TextIO, text: str) -> None:
    try:
        with file:
            file.write(text)
    except OSError as error:
        complain(f"{file.name}: cannot be written: {error.strerror}")


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
