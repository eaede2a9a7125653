"""The commands beside serving, with their own options."""

from pathlib import Path
from typing import Any, Final

from exporter.cli.options import EXPORTER_URL, Decode, Demo, Doctor, Read, ReadSettings, Scan
from exporter.cli.parser import (
    Parser,
    checked,
    one_of,
    parse_exporter_url,
    parse_recording,
    parse_scan_duration,
    parse_speed,
)
from exporter.config.schema import parse_adapter

FORMATS: Final = ("table", "json", "metrics")
WHICH: Final = "a configured name, or any address; may be left out if one battery is configured"
WITH_DEMO: Final = "use the virtual batteries of the demo: camper, camper2, flaky and cold"


def add_scan(commands: Any) -> Parser:
    """Add `scan` and its options."""
    scan: Parser = commands.add_parser(
        "scan",
        usage="bms-exporter scan [OPTION ...]",
        help="list the batteries nearby",
        description="List the batteries nearby, and print a configuration to paste. Devices that "
        "only may be JBD batteries are read, one after the other.",
        example="  bms-exporter scan\n  bms-exporter scan --duration 30s --all",
    )
    antenna = scan.add_mutually_exclusive_group()
    antenna.add_argument(
        "--adapter",
        metavar="ADAPTER",
        type=checked(parse_adapter),
        help="listen with this Bluetooth adapter: hci0 and the like, or its address "
        "(default: the first that is switched on)",
    )
    antenna.add_argument(
        "--proxy", metavar="NAME", help="listen through a proxy of the configuration"
    )
    antenna.add_argument("--demo", action="store_true", help=WITH_DEMO)
    scan.add_argument(
        "--duration",
        dest="duration_s",
        metavar="DURATION",
        type=checked(parse_scan_duration),
        help="how long to listen (default: 10s)",
    )
    scan.add_argument("--all", action="store_true", help="list every device, not only JBD")
    scan.add_argument(
        "--no-read",
        dest="read",
        action="store_false",
        help="connect to nothing: do not read the devices that only may be JBD batteries "
        "(about 3 s each, 15 s if one does not answer)",
    )
    scan.set_defaults(command=Scan, usual_level="error")
    return scan


def add_read(commands: Any) -> Parser:
    """Add `read` and its options."""
    read: Parser = commands.add_parser(
        "read",
        usage="bms-exporter read [OPTION ...] [NAME|ADDRESS]",
        help="read one battery once",
        description="Read one battery once, and print what it says.",
        example="  bms-exporter read camper\n"
        "  bms-exporter read A4:C1:38:12:34:56 --format json\n"
        "  bms-exporter read --demo camper",
    )
    read.add_argument("battery", nargs="?", metavar="NAME|ADDRESS", help=WHICH)
    _add_format(read, FORMATS)
    source = read.add_mutually_exclusive_group()
    source.add_argument(
        "--record",
        metavar="FILE",
        type=Path,
        help="record the session into a new FILE, without address, password and serial number",
    )
    source.add_argument(
        "--replay",
        metavar="FILE",
        type=Path,
        help="run a recorded session instead of reading a battery; needs no Bluetooth",
    )
    source.add_argument("--demo", action="store_true", help=WITH_DEMO)
    read.set_defaults(command=Read, usual_level="error")  # it prints the failure itself
    return read


def add_settings(commands: Any) -> Parser:
    """Add `settings` and its options."""
    settings: Parser = commands.add_parser(
        "settings",
        usage="bms-exporter settings [OPTION ...] [NAME|ADDRESS]",
        help="read the limits and other settings of one battery once",
        description="Read the settings of one battery once. Two fixed frames open and close the "
        "mode in which the battery shows them; nothing can change one.",
        example="  bms-exporter settings camper\n  bms-exporter settings camper --all",
    )
    settings.add_argument("battery", nargs="?", metavar="NAME|ADDRESS", help=WHICH)
    settings.add_argument("--all", action="store_true", help="show what is rarely needed, too")
    _add_format(settings, FORMATS)
    settings.add_argument("--demo", action="store_true", help=WITH_DEMO)
    settings.set_defaults(command=ReadSettings, usual_level="error")  # as in add_read
    return settings


def add_doctor(commands: Any) -> Parser:
    """Add `doctor` and its options."""
    doctor: Parser = commands.add_parser(
        "doctor",
        usage="bms-exporter doctor [OPTION ...] [NAME|ADDRESS ...]",
        help="find out why a battery cannot be read",
        description="Check the machine, then each battery, and say the one thing to do. It may "
        "run beside the exporter.",
        example="  bms-exporter doctor\n  bms-exporter doctor camper --link both",
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
        "--link",
        metavar="LINK",
        **one_of(("direct", "bluez", "both")),
        help="the ways to a battery to try: direct, bluez or both (default: what may help)",
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
        help=f"the exporter that leaves the batteries alone meanwhile (default: {EXPORTER_URL})",
    )
    doctor.set_defaults(command=Doctor, usual_level="error")  # it prints the failures itself
    return doctor


def add_decode(commands: Any) -> Parser:
    """Add `decode` and its options."""
    decode: Parser = commands.add_parser(
        "decode",
        usage="bms-exporter decode [OPTION ...] HEX|FILE|- ...",
        help="explain recorded reply frames",
        description="Explain recorded reply frames byte by byte.",
        example="  bms-exporter decode DD060000000077\n"
        "  bms-exporter read camper --log.level debug 2>&1 | bms-exporter decode -",
    )
    decode.add_argument(
        "frames",
        nargs="+",
        metavar="HEX|FILE|-",
        help="reply frames or their notifications, in hex as logs print it (DD03...77), "
        "a file with such text or a recording, or - for standard input",
    )
    _add_format(decode, ("explain", "json", "metrics"))
    decode.set_defaults(command=Decode)
    return decode


def add_demo(commands: Any) -> Parser:
    """Add `demo` and its options beside those of serving."""
    demo: Parser = commands.add_parser(
        "demo",
        usage="bms-exporter demo [OPTION ...]",
        help="serve virtual batteries, without Bluetooth",
        description="Serve virtual batteries, without Bluetooth and without a configuration.",
        example="  bms-exporter demo\n  bms-exporter demo --speed 60",
    )
    demo.add_argument(
        "--speed",
        metavar="NUMBER",
        type=checked(parse_speed),
        help="run the day faster: 60 is an hour a minute (default: 1)",
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
    return demo


def _add_format(parser: Parser, formats: tuple[str, ...]) -> None:
    parser.add_argument(
        "--format",
        metavar="FORMAT",
        **one_of(formats),
        help=f"the form of the output: {', '.join(formats)} (default: {formats[0]})",
    )
