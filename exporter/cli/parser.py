"""The argument parser of every command, and parsers for the values of options."""

import argparse
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

from exporter.config.schema import Seconds, normal_name, parse_duration

PROGRAM: Final = "bms-exporter"
PATH: Final = re.compile(r"/[A-Za-z0-9._~/-]+")
URL: Final = re.compile(r"https?://[^/\s]+/?")
MAX_SCAN_S: Final = 600.0
MAX_SPEED: Final = 86400  # a day in a second

T = TypeVar("T")


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Wraps the sentences of a description, and keeps its lines and those of an example."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines = super()._fill_text(text, width, indent).splitlines()
        return "\n".join(
            line if line.startswith(" ") else textwrap.fill(line, width) for line in lines
        )


class UsageError(Exception):
    """The command line is wrong; the message is argparse's."""


class Parser(argparse.ArgumentParser):
    """Raises its errors, and omits options that are not given.

    A command's default would replace an option that stands before the command.
    """

    def __init__(self, *, example: str = "", **options: Any) -> None:
        """Add what argparse knows; `example` ends the help."""
        super().__init__(
            argument_default=argparse.SUPPRESS,
            allow_abbrev=False,
            add_help=False,
            epilog=f"for example:\n{example}" if example else None,
            formatter_class=HelpFormatter,
            **options,
        )
        self._positionals.title = "arguments"
        self.add_argument("-h", "--help", action="help", help="print this help and exit")

    def format_help(self) -> str:
        """Return the help, without the empty line that argparse puts above the commands."""
        return super().format_help().replace("\n  \n", "\n")

    def error(self, message: str) -> NoReturn:
        """Raise a UsageError: argparse would print the whole usage, too."""
        raise UsageError(message)


def commands_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the parsers of the commands by name; a command itself has none."""
    for action in parser._actions:  # noqa: SLF001 - argparse has no public name for them
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            return dict(action.choices)
    return {}


def arguments_of(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Return the options and arguments of one command, without its commands."""
    actions = parser._actions  # noqa: SLF001 - as above
    return [one for one in actions if not isinstance(one, argparse._SubParsersAction)]  # noqa: SLF001


def one_of(choices: Sequence[str], aliases: Mapping[str, str] | None = None) -> Any:
    """Return the arguments of an option with these values, or with other words for them."""

    def parse(text: str) -> str:
        value = (aliases or {}).get(text, text)
        if value not in choices:
            raise argparse.ArgumentTypeError(f"expected one of {', '.join(choices)}, got {text!r}")
        return value

    return {"type": parse, "choices": list(choices)}


def checked(parse: Callable[[str], T]) -> Callable[[str], T]:
    """Return a parser whose ValueErrors argparse shows as they are."""

    def parse_checked(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parse_checked


def parse_scan_duration(text: str) -> Seconds:
    """Return how long to scan, in seconds."""
    duration_s = parse_duration(text)
    if not 0 < duration_s <= MAX_SCAN_S:
        raise ValueError(f"expected more than 0s, up to {MAX_SCAN_S:g}s")
    return duration_s


def parse_telemetry_path(text: str) -> str:
    """Return the path of the metrics, which is none of the exporter's other pages."""
    if not PATH.fullmatch(text) or text.startswith(("/-/", "/api/", "/page/")) or text == "/probe":
        raise ValueError(f"expected a path like /metrics, got {text!r}")
    return text


def parse_exporter_url(text: str) -> str:
    """Return the URL of an exporter, without a path."""
    if not URL.fullmatch(text):
        raise ValueError(f"expected a URL like http://localhost:12200, got {text!r}")
    return text


def parse_speed(text: str) -> float:
    """Return how much faster the demo's day runs."""
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed <= MAX_SPEED:
        raise ValueError(f"expected a number above 0, up to {MAX_SPEED}, got {text!r}")
    return speed


def parse_recording(text: str) -> tuple[str, Path]:
    """Return name and file of one of the demo's batteries."""
    name, equals, path = text.partition("=")
    if not (equals and path):
        raise ValueError(f"expected NAME=FILE, got {text!r}")
    return normal_name(name), Path(path)


def parse_optional_path(text: str) -> Path | None:
    """Return a path; an empty text is as if the option were not given."""
    return Path(text) if text else None
