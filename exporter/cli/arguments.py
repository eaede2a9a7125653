"""Turns the command line into options."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Final, TypeVar

from exporter import __version__
from exporter.app import ServeOptions
from exporter.cli.options import Check, Demo, Example, LogOptions, Options, Serve
from exporter.cli.parser import (
    PROGRAM,
    Parser,
    UsageError,
    checked,
    commands_of,
    one_of,
    parse_optional_path,
    parse_telemetry_path,
)
from exporter.cli.streams import complain
from exporter.cli.subcommands import (
    add_decode,
    add_demo,
    add_doctor,
    add_read,
    add_scan,
    add_settings,
)
from exporter.config.files import find_config
from exporter.config.schema import parse_duration
from exporter.logs import LEVELS, LogFormat

USAGE: Final = """\
bms-exporter [OPTION ...]
       bms-exporter COMMAND [OPTION ...]"""
DESCRIPTION: Final = """\
Prometheus exporter for LiFePO4 batteries with a JBD BMS (Bluetooth Low Energy).
Without a command it serves /metrics and reads the batteries of the configuration when scraped."""
EXAMPLE: Final = """\
  bms-exporter demo              # virtual batteries at http://localhost:12200/
  bms-exporter scan              # finds batteries, prints a configuration
  bms-exporter                   # serves those of config.yaml"""
WRONG_USAGE: Final = 2
USUAL_LEVEL: Final = "info"  # of the log; some commands have another one

T = TypeVar("T")


def parse_arguments(argv: Sequence[str] | None) -> tuple[LogOptions, Options]:
    """Return the options in `argv`, or in the program's own arguments.

    Raises:
        SystemExit: Help was asked for (0), or the usage is wrong (2).
    """
    words = sys.argv[1:] if argv is None else argv
    parser = build_parser()
    try:
        given = _parse(parser, words)
    except UsageError as error:
        from exporter.cli.usage import explain  # noqa: PLC0415 - only a mistake needs it

        complain(explain(parser, words, str(error)))
        raise SystemExit(WRONG_USAGE) from None
    log_options = LogOptions(
        level=given.get("log_level", given["usual_level"]),
        log_format=LogFormat(given.get("log_format", LogFormat.LOGFMT)),
        redact_addresses="redact_addresses" in given,
    )
    return log_options, _build(given["command"], given | {"web": _build(ServeOptions, given)})


def _parse(parser: Parser, words: Sequence[str]) -> dict[str, Any]:
    usual = argparse.Namespace(command=Serve, usual_level=USUAL_LEVEL)
    given: dict[str, Any] = vars(parser.parse_args(words, usual))
    if "help_on" in given:
        (parser if given["help_on"] is None else commands_of(parser)[given["help_on"]]).print_help()
        raise SystemExit(0)
    serves = given["command"] in {Serve, Demo}
    if serves and "listen_addresses" in given and "systemd_sockets" in given:
        parser.error("--web.systemd-socket: not allowed with argument --web.listen-address")
    if given.get("battery") and "replay" in given:
        parser.error("--replay: not allowed with argument NAME|ADDRESS")
    if "config_file" not in given:
        given["config_file"] = find_config()
    return given


def _build(kind: type[T], given: Mapping[str, Any]) -> T:
    """Return the options of one class; those that are not given keep their defaults."""
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in given.items() if name in names})


def build_parser() -> Parser:
    """Return the parser of the whole command line."""
    parser = Parser(prog=PROGRAM, usage=USAGE, description=DESCRIPTION, example=EXAMPLE)
    parser.add_argument(
        "--version",
        action="version",
        version=f"{PROGRAM} {__version__}",
        help="print the version and exit",
    )
    for option, command, text in (
        ("--config.check", Check, "check the configuration and exit"),
        ("--config.example", Example, "print a configuration with every option and exit"),
    ):
        parser.add_argument(option, dest="command", action="store_const", const=command, help=text)
    commands = parser.add_subparsers(title="commands", metavar="", prog=PROGRAM)
    for add in (add_scan, add_read, add_settings, add_doctor, add_decode):
        _add_common_options(add(commands))
    for serving in (parser, add_demo(commands)):
        _add_web_options(serving)
        _add_common_options(serving)
    _add_help(commands)
    return parser


def _add_help(commands: Any) -> None:
    parser = commands.add_parser(
        "help",
        usage="bms-exporter help [COMMAND]",
        help="print the help of a command",
        description="Print the help of a command, as its option --help does.",
        example="  bms-exporter help read",
    )
    names = tuple(name for name in commands.choices if name != "help")
    parser.add_argument(
        "help_on",
        nargs="?",
        metavar="COMMAND",
        default=None,
        **one_of(names),
        help=f"one of {', '.join(names)}",
    )


def _add_common_options(parser: Parser) -> None:
    common = parser.add_argument_group("common options")
    common.add_argument(
        "--config.file",
        dest="config_file",
        metavar="FILE",
        type=Path,
        help="the configuration (default: config.yaml in this folder, or in /etc/bms-exporter/)",
    )
    common.add_argument(
        "--log.level",
        dest="log_level",
        metavar="LEVEL",
        **one_of(LEVELS, {"warn": "warning"}),
        help=f"least severe level to log: {', '.join(LEVELS)} "
        f"(default: {parser.get_default('usual_level') or USUAL_LEVEL})",
    )
    common.add_argument(
        "--log.format",
        dest="log_format",
        metavar="FORMAT",
        **one_of(list(LogFormat)),
        help=f"form of a log line: {' or '.join(LogFormat)} (default: logfmt)",
    )
    common.add_argument(
        "--log.redact-addresses",
        dest="redact_addresses",
        action="store_true",
        help="log only the first half of Bluetooth addresses",
    )


def _add_web_options(parser: Parser) -> None:
    web = parser.add_argument_group("options of serving")
    web.add_argument(
        "--web.listen-address",
        dest="listen_addresses",
        metavar="ADDRESS",
        action="append",
        help="HOST:PORT or :PORT to serve on; repeatable (default: :12200)",
    )
    web.add_argument(
        "--web.config.file",
        dest="web_config",
        metavar="FILE",
        type=parse_optional_path,
        help="TLS, users and headers, in the format of Prometheus' exporter-toolkit "
        "(default: no file)",
    )
    web.add_argument(
        "--web.systemd-socket",
        dest="systemd_sockets",
        action="store_true",
        help="serve on the sockets of systemd instead of listen addresses",
    )
    web.add_argument(
        "--web.telemetry-path",
        dest="telemetry_path",
        metavar="PATH",
        type=checked(parse_telemetry_path),
        help="where the metrics are (default: /metrics)",
    )
    web.add_argument(
        "--web.timeout-offset",
        dest="timeout_offset_s",
        metavar="DURATION",
        type=checked(parse_duration),
        help="how much of Prometheus' scrape time-out is kept in reserve (default: 500ms)",
    )
