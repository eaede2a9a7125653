"""The commands beside serving and their options, and the parsers for values of options."""

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from exporter.cli.options import Decode, Demo, Doctor, Read, ReadSettings, Scan
from exporter.config.schema import Seconds, normal_name, parse_adapter, parse_duration

PATH: Final = re.compile(r"/[A-Za-z0-9._~/-]+")
URL: Final = re.compile(r"https?://[^/\s]+/?")
MAX_SCAN_S: Final = 600.0
MAX_SPEED: Final = 86400  # a day in a second

T = TypeVar("T")


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


def add_scan(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add `scan` and its options."""
    scan = commands.add_parser("scan", parents=[common], help="list the batteries nearby")
    antenna = scan.add_mutually_exclusive_group()
    antenna.add_argument(
        "--adapter", type=checked(parse_adapter), help="hci0 and the like, or its address"
    )
    antenna.add_argument(
        "--proxy", metavar="NAME", help="listen through a proxy of the configuration"
    )
    scan.add_argument(
        "--duration",
        dest="duration_s",
        metavar="DURATION",
        type=checked(parse_scan_duration),
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


def add_read(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add `read` and its options."""
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


def add_settings(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add `settings` and its options."""
    settings = commands.add_parser(
        "settings",
        parents=[common],
        help="read the limits and other settings of one battery once",
        description="Read the settings of one battery once. Two fixed frames open and close the "
        "mode in which the battery shows them; nothing can change one.",
    )
    settings.add_argument(
        "battery",
        nargs="?",
        metavar="NAME|ADDRESS",
        help="may be left out if one is configured; an address need not be",
    )
    settings.add_argument("--all", action="store_true", help="also what is rarely needed")
    settings.add_argument("--format", choices=["table", "json", "metrics"])
    settings.set_defaults(command=ReadSettings, usual_level="error")  # as in add_read


def add_doctor(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add `doctor` and its options."""
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
        type=checked(parse_exporter_url),
        help="the exporter that leaves the batteries alone meanwhile (http://localhost:12200)",
    )
    doctor.set_defaults(command=Doctor, usual_level="error")  # it prints the failures itself


def add_decode(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add `decode` and its options."""
    decode = commands.add_parser("decode", parents=[common], help="explain recorded reply frames")
    decode.add_argument(
        "frames",
        nargs="+",
        metavar="HEX|FILE|-",
        help="reply frames or their notifications, in hex as logs print it (DD03...77), "
        "a file with such text or a recording, or - for standard input",
    )
    decode.add_argument("--format", choices=["explain", "json", "metrics"])
    decode.set_defaults(command=Decode)


def add_demo(commands: Any, common: argparse.ArgumentParser, web: argparse.ArgumentParser) -> None:
    """Add `demo`, which takes the options of serving, too."""
    demo = commands.add_parser(
        "demo", parents=[common, web], help="serve virtual batteries, without Bluetooth"
    )
    demo.add_argument(
        "--speed", type=checked(parse_speed), help="run the day faster: 60 is an hour a minute"
    )
    demo.add_argument(
        "--replay",
        action="append",
        type=checked(parse_recording),
        metavar="NAME=FILE",
        help="serve the recorded reply frames of FILE as NAME; repeatable. "
        "FILE is a recording, or holds what decode takes",
    )
    demo.set_defaults(command=Demo)
