"""Turns the command line into options."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Final, TypeVar

from exporter import __version__
from exporter.app import ServeOptions
from exporter.cli.options import Check, Demo, LogOptions, Options, Serve
from exporter.cli.subcommands import (
    add_decode,
    add_demo,
    add_doctor,
    add_read,
    add_scan,
    add_settings,
    checked,
    parse_optional_path,
    parse_telemetry_path,
)
from exporter.config.schema import parse_duration
from exporter.logs import LEVELS, LogFormat

DESCRIPTION: Final = """\
Prometheus exporter for LiFePO4 batteries with a JBD BMS (Bluetooth Low Energy).
Without a command it serves /metrics and reads the batteries of the configuration when scraped."""

T = TypeVar("T")


def parse_arguments(argv: Sequence[str] | None) -> tuple[LogOptions, Options]:
    """Return the options in `argv`, or in the program's own arguments.

    Raises:
        SystemExit: Help was asked for (0), or the usage is wrong (2).
    """
    parser = _build_parser()
    usual = argparse.Namespace(command=Serve, usual_level="info")
    given = vars(parser.parse_args(argv, usual))
    serves = given["command"] in {Serve, Demo}
    if serves and "listen_addresses" in given and "systemd_sockets" in given:
        parser.error("--web.systemd-socket: --web.listen-address is given too: one is enough")
    if "replay" in given and given.get("battery"):
        parser.error("read: expected a battery or --replay FILE, got both")
    log_options = LogOptions(
        level=given.get("log_level", given["usual_level"]),
        log_format=LogFormat(given.get("log_format", LogFormat.LOGFMT)),
        redact_addresses="redact_addresses" in given,
    )
    return log_options, _build(given["command"], given | {"web": _build(ServeOptions, given)})


def _build(kind: type[T], given: Mapping[str, Any]) -> T:
    """Return the options of one class; those that are not given keep their defaults."""
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in given.items() if name in names})


class _Parser(argparse.ArgumentParser):
    """Omits options not given: a command's default would replace an option before the command."""

    def __init__(self, **options: Any) -> None:
        super().__init__(argument_default=argparse.SUPPRESS, **options)


def _build_parser() -> argparse.ArgumentParser:
    common, web = _Parser(add_help=False), _Parser(add_help=False)
    _add_common_options(common)
    _add_web_options(web)
    parser = _Parser(
        prog="bms-exporter",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[common, web],
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"bms-exporter {__version__}")
    parser.add_argument(
        "--config.check",
        dest="command",
        action="store_const",
        const=Check,
        help="check the configuration and exit",
    )
    commands = parser.add_subparsers(title="commands", metavar="")
    add_scan(commands, common)
    add_read(commands, common)
    add_settings(commands, common)
    add_doctor(commands, common)
    add_decode(commands, common)
    add_demo(commands, common, web)
    return parser


def _add_common_options(common: argparse.ArgumentParser) -> None:
    common.add_argument(
        "--config.file",
        dest="config_file",
        metavar="FILE",
        type=Path,
        help="the configuration (default: config.yaml)",
    )
    common.add_argument(
        "--log.level", dest="log_level", choices=LEVELS, help="least severe level to log (info)"
    )
    common.add_argument(
        "--log.format",
        dest="log_format",
        choices=list(LogFormat),
        help="form of a log line (logfmt)",
    )
    common.add_argument(
        "--log.redact-addresses",
        dest="redact_addresses",
        action="store_true",
        help="log only the first half of Bluetooth addresses",
    )


def _add_web_options(web: argparse.ArgumentParser) -> None:
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
        help="TLS, users and headers, in the format of Prometheus' exporter-toolkit",
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
