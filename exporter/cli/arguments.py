"""Turns the command line into options."""

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Final, TypeVar

from exporter import __version__
from exporter.app import ServeOptions
from exporter.cli.options import (
    Check,
    Decode,
    Demo,
    Doctor,
    LogOptions,
    Options,
    Read,
    Scan,
    Serve,
)
from exporter.config.schema import Seconds, normal_name, parse_adapter, parse_duration
from exporter.logs import LEVELS, LogFormat

PATH: Final = re.compile(r"/[A-Za-z0-9._~/-]+")
URL: Final = re.compile(r"https?://[^/\s]+/?")
MAX_SCAN_S: Final = 600.0
MAX_SPEED: Final = 86400  # a day in a second

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


def _checked(parse: Callable[[str], T]) -> Callable[[str], T]:
    """Return a parser whose ValueErrors argparse shows as they are."""

    def checked(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return checked


def _scan_duration(text: str) -> Seconds:
    duration_s = parse_duration(text)
    if not 0 < duration_s <= MAX_SCAN_S:
        raise ValueError(f"expected more than 0s, up to {MAX_SCAN_S:g}s")
    return duration_s


def _telemetry_path(text: str) -> str:
    if not PATH.fullmatch(text) or text.startswith(("/-/", "/api/", "/page/")) or text == "/probe":
        raise ValueError(f"expected a path like /metrics, got {text!r}")
    return text


def _exporter_url(text: str) -> str:
    if not URL.fullmatch(text):
        raise ValueError(f"expected a URL like http://localhost:12200, got {text!r}")
    return text


def _speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed <= MAX_SPEED:
        raise ValueError(f"expected a number above 0, up to {MAX_SPEED}, got {text!r}")
    return speed


def _recording(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not (equals and path):
        raise ValueError(f"expected NAME=FILE, got {text!r}")
    return normal_name(name), Path(path)


def _optional_path(text: str) -> Path | None:
    return Path(text) if text else None  # empty: as if the option were not given


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
    _add_scan(commands, common)
    _add_read(commands, common)
    _add_doctor(commands, common)
    _add_decode(commands, common)
    _add_demo(commands, common, web)
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
        type=_optional_path,
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
        type=_checked(_telemetry_path),
        help="where the metrics are (default: /metrics)",
    )
    web.add_argument(
        "--web.timeout-offset",
        dest="timeout_offset_s",
        metavar="DURATION",
        type=_checked(parse_duration),
        help="how much of Prometheus' scrape time-out is kept in reserve (default: 500ms)",
    )


def _add_scan(commands: Any, common: argparse.ArgumentParser) -> None:
    scan = commands.add_parser("scan", parents=[common], help="list the batteries nearby")
    scan.add_argument(
        "--adapter", type=_checked(parse_adapter), help="hci0 and the like, or its address"
    )
    scan.add_argument(
        "--duration",
        dest="duration_s",
        metavar="DURATION",
        type=_checked(_scan_duration),
        help="how long to listen (10s)",
    )
    scan.add_argument("--all", action="store_true", help="list every device, not only JBD")
    scan.add_argument(
        "--no-read",
        dest="read",
        action="store_false",
        help="do not read the devices that only may be JBD batteries, one after the other "
        "(about 3 s each, 15 s if one does not answer)",
    )
    scan.set_defaults(command=Scan, usual_level="error")


def _add_read(commands: Any, common: argparse.ArgumentParser) -> None:
    read = commands.add_parser("read", parents=[common], help="read one battery once")
    read.add_argument(
        "battery",
        nargs="?",
        metavar="NAME|ADDRESS",
        help="may be left out if one is configured; an address need not be",
    )
    read.add_argument("--format", choices=["table", "json", "metrics"])
    recording = read.add_mutually_exclusive_group()
    recording.add_argument(
        "--record",
        metavar="FILE",
        type=Path,
        help="record the session into a new FILE, without address, password and serial number",
    )
    recording.add_argument(
        "--replay",
        metavar="FILE",
        type=Path,
        help="run a recorded session instead of reading a battery; needs no Bluetooth",
    )
    read.set_defaults(command=Read, usual_level="error")  # it prints the failure itself


def _add_doctor(commands: Any, common: argparse.ArgumentParser) -> None:
    doctor = commands.add_parser(
        "doctor", parents=[common], help="find out why a battery cannot be read"
    )
    doctor.add_argument(
        "batteries",
        nargs="*",
        metavar="NAME|ADDRESS",
        help="batteries to examine (default: all that are configured, or found)",
    )
    doctor.add_argument(
        "--quick", action="store_true", help="check the machine only, without radio"
    )
    doctor.add_argument(
        "--link", choices=["direct", "bluez", "both"], help="the ways to a battery to try"
    )
    doctor.add_argument(
        "--json", dest="json_file", metavar="FILE", type=Path, help="write the facts to FILE, too"
    )
    doctor.add_argument(
        "--record",
        metavar="FILE",
        type=Path,
        help="record every connection into a new FILE, without address, password and serial number",
    )
    doctor.add_argument(
        "--show-addresses",
        action="store_true",
        help="show whole addresses and names; without it, the output may be published",
    )
    doctor.add_argument(
        "--exporter",
        dest="exporter_url",
        metavar="URL",
        type=_checked(_exporter_url),
        help="the exporter that leaves the batteries alone meanwhile (http://localhost:12200)",
    )
    doctor.set_defaults(command=Doctor, usual_level="error")  # it prints the failures itself


def _add_decode(commands: Any, common: argparse.ArgumentParser) -> None:
    decode = commands.add_parser("decode", parents=[common], help="explain recorded reply frames")
    decode.add_argument(
        "frames",
        nargs="+",
        metavar="HEX|FILE|-",
        help="reply frames or their notifications, in hex as logs print it (DD03...77), "
        "a file with such text, or - for standard input",
    )
    decode.add_argument("--format", choices=["explain", "json", "metrics"])
    decode.set_defaults(command=Decode)


def _add_demo(commands: Any, common: argparse.ArgumentParser, web: argparse.ArgumentParser) -> None:
    demo = commands.add_parser(
        "demo", parents=[common, web], help="serve virtual batteries, without Bluetooth"
    )
    demo.add_argument(
        "--speed", type=_checked(_speed), help="run the day faster: 60 is an hour a minute"
    )
    demo.add_argument(
        "--replay",
        action="append",
        type=_checked(_recording),
        metavar="NAME=FILE",
        help="serve the recorded reply frames of FILE as NAME; repeatable. "
        "FILE is a recording, or holds what decode takes",
    )
    demo.set_defaults(command=Demo)
