"""The argument parser of every command: its help, and errors that `usage` puts into words."""

import argparse
from typing import Any, Final, NoReturn

PROGRAM: Final = "bms-exporter"


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
            formatter_class=argparse.RawDescriptionHelpFormatter,
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
