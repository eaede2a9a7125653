"""The command line: arguments in, exit status out."""

import argparse
import asyncio
import errno
import os
import re
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, TextIO

from exporter import __version__
from exporter.app import ServeOptions, check_web, read_once, serve
from exporter.ble.bleak import Backend, Radio
from exporter.config import Config, load
from exporter.config.schema import (
    AdapterName,
    BatteryConfig,
    Name,
    Seconds,
    normal_address,
    normal_name,
    parse_adapter,
    parse_duration,
)
from exporter.errors import BmsError, ConfigError, DecodeError
from exporter.logs import LEVELS, LogFormat, queued_stderr, set_up
from exporter.protocol.advertisement import Advertisement, is_certain, why_jbd

OK: Final = 0
FAILED: Final = 1
# Errors of standard output, the only stream that a command must be able to write.
UNWRITABLE: Final = (errno.EPIPE, errno.ENOSPC)
PATH: Final = re.compile(r"/[A-Za-z0-9._~/-]+")
MAX_SCAN_S: Final = 600.0

DESCRIPTION: Final = """\
Prometheus exporter for LiFePO4 batteries with a JBD BMS (Bluetooth Low Energy).
Without a command it serves /metrics and reads the batteries of the configuration when scraped."""


def main(argv: Sequence[str] | None = None, backend: Backend | None = None) -> int:
    """Run one command; `backend` replaces Bluetooth in tests.

    Returns:
        0 done or stopped, 1 failed. argparse exits with 2 on wrong usage.
    """
    _open_standard_streams()
    options = _parser().parse_args(argv, _defaults())
    if options.run not in (_serve, _demo) or options.config_check:
        status = _run(options, backend)
        _flush_stderr()
        return status
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until its handler is set
    with queued_stderr() as stderr:
        options.log_lines_lost = lambda: stderr.lost_lines
        return _run(options, backend)


def _run(options: argparse.Namespace, backend: Backend | None) -> int:
    level = options.log_level or options.usual_log_level
    set_up(
        level=level,
        log_format=LogFormat(options.log_format),
        redact_addresses=options.redact_addresses,
    )
    try:
        status = int(options.run(options, backend))
        sys.stdout.flush()
    except ConfigError as error:
        for problem in error.problems:
            _complain(problem)
    except KeyboardInterrupt:
        pass
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        sys.stdout = _discarded()
        if error.errno != errno.EPIPE:  # a closed pipe is normal: ... | head
            _complain(f"standard output: {error.strerror}")
    else:
        return status
    return FAILED


def _open_standard_streams() -> None:
    """Open /dev/null for closed standard streams, so that no socket gets their number."""
    while (number := os.open(os.devnull, os.O_RDWR)) < 3:  # noqa: PLR2004 - after stderr
        pass
    os.close(number)
    sys.stdout = sys.stdout or _discarded()
    sys.stderr = sys.stderr or _discarded()


def _flush_stderr() -> None:
    """Flush standard error; after an error discard it, or Python fails again at exit."""
    try:
        sys.stderr.flush()
    except OSError:
        sys.stderr = _discarded()


def _discarded() -> TextIO:
    """Return a stream that discards what Python flushes at exit."""
    return open(os.devnull, "w")  # noqa: PTH123 - it stays open


def _serve(options: argparse.Namespace, backend: Backend | None) -> int:
    path = Path(options.config_file)
    if options.config_check:
        if options.web_config_file:
            check_web(Path(options.web_config_file))
        print(f"{options.config_file}: no complaint; batteries: {len(load(path).batteries)}")
        return OK
    asyncio.run(serve(partial(load, path), _serve_options(options), backend))
    return OK


def _demo(options: argparse.Namespace, _backend: Backend | None) -> int:
    from time import monotonic  # noqa: PLC0415 - who serves does not load the other commands

    from exporter.demo import fleet, radio, replay  # noqa: PLC0415

    if options.replay:
        recordings = {}
        for name, path in options.replay:
            if name in recordings:
                raise ConfigError([f"--replay: {name!r} is given twice"])
            recordings[name], remarks = replay.load_recording(Path(path))
            for remark in remarks:
                _complain(remark)
        batteries = fleet.replayed(recordings)
    else:
        batteries = fleet.camper(monotonic, speed=options.speed)
    config = Config(
        batteries=tuple(
            BatteryConfig(name=Name(name), address=normal_address(battery.address))
            for name, battery in batteries.items()
        )
    )
    backend = radio.backend_of(radio.air_of(batteries.values()))
    serve_options = _serve_options(options)
    hint = f"{', '.join(batteries)}: virtual, no Bluetooth needed."
    if serve_options.web_config is None and not serve_options.systemd_sockets:
        host, _, port = serve_options.listen_addresses[0].rpartition(":")
        where = f"{host or 'localhost'}:{port}"
        hint += f" Try: curl {where}{serve_options.telemetry_path}, or http://{where}/ in a browser"
    _complain(hint)
    asyncio.run(serve(lambda: config, serve_options, backend))
    return OK


def _read(options: argparse.Namespace, backend: Backend | None) -> int:
    from exporter.cli import output as report  # noqa: PLC0415 - as in _demo

    battery, config = _battery_to_read(options)
    snapshot = asyncio.run(read_once(battery, config, backend))
    if snapshot.last_error is not None or snapshot.reading is None:
        _complain(f"{battery.name}: {snapshot.last_error or 'no answer in time'}")
        return FAILED
    formats = {
        "table": report.reading_text,
        "json": report.reading_json,
        "metrics": report.reading_metrics,
    }
    print(formats[options.format](snapshot).rstrip())
    return OK


def _battery_to_read(options: argparse.Namespace) -> tuple[BatteryConfig, Config]:
    """Return a configured battery, or the stranger with the address that was given."""
    wanted = options.battery
    path = Path(options.config_file)
    try:
        address = normal_address(wanted or "")
    except ValueError:
        address = None
    if address is not None and not path.exists():
        return BatteryConfig(name=Name(address), address=address), Config(batteries=())
    config = load(path)
    matching = [b for b in config.batteries if wanted in (None, b.name) or b.address == address]
    if address is not None and not matching:
        return BatteryConfig(name=Name(address), address=address), config
    if len(matching) != 1:
        names = ", ".join(battery.name for battery in config.batteries)
        question = f"no battery {wanted!r}" if wanted else "which battery?"
        raise ConfigError([f"read: {question}; {path} has {names}; an address works too"])
    return matching[0], config


def _scan(options: argparse.Namespace, backend: Backend | None) -> int:
    from exporter.cli import output as report  # noqa: PLC0415 - as in _demo

    heard: dict[str, Advertisement] = {}
    try:
        asyncio.run(_listen(options, backend, heard))
    except BmsError as error:
        _complain(str(error))
        return FAILED
    batteries = [advertisement for advertisement in heard.values() if why_jbd(advertisement)]
    shown = list(heard.values()) if options.all else batteries
    if shown:
        print(report.scan_table(shown))
    if not batteries:
        _complain(
            f"No JBD battery among {len(heard)} devices heard: is it switched on and in range, "
            "and is the phone app disconnected? --all shows every device; "
            "bms-exporter read ADDRESS tries one."
        )
        return FAILED
    if not any(map(is_certain, batteries)):
        _complain(
            "No configuration is printed: the Bluetooth module is the only sign of a JBD battery. "
            "Try bms-exporter read ADDRESS; if the battery answers, put its address into "
            f"{options.config_file}."
        )
        return FAILED
    print(f"\n# for {report.printable(options.config_file)}\n{report.scan_yaml(batteries)}")
    return OK


async def _listen(
    options: argparse.Namespace, backend: Backend | None, heard: dict[str, Advertisement]
) -> None:
    from exporter.cli import output as report  # noqa: PLC0415 - as in _demo

    def hear(advertisement: Advertisement) -> None:
        known = heard.get(advertisement.address)
        heard[advertisement.address] = advertisement
        if why_jbd(advertisement) and not (known and why_jbd(known)):
            name = report.printable(advertisement.name)
            found = "found" if is_certain(advertisement) else "perhaps a battery:"
            _complain(f"{found} {name or 'a battery without a name'} at {advertisement.address}")

    async with Radio(adapter=options.adapter, backend=backend).advertisements(hear) as renew:
        left_s = options.duration
        while left_s > 0:
            if sys.stderr.isatty():
                print(
                    f"\rlistening, {left_s:.0f} s left, {len(heard)} devices heard ",
                    end="\r",
                    flush=True,
                    file=sys.stderr,
                )
            await asyncio.sleep(min(left_s, 1.0))
            left_s -= 1.0
            if left_s > 0:
                await renew()


def _decode(options: argparse.Namespace, _backend: Backend | None) -> int:
    from exporter.cli import decode as decoded  # noqa: PLC0415 - as in _demo

    if "-" in options.hex and sys.stdin.isatty():
        _complain("Paste frames or a log, then press Ctrl+D in an empty line.")
    try:
        frames = decoded.decode_all(decoded.read_arguments(options.hex))
    except DecodeError as error:
        _complain(str(error))
        return FAILED
    if not frames:
        _complain("expected at least one frame in hex, got none")
        return FAILED
    if decoded.explained(frames):
        formats = {"explain": decoded.text, "json": decoded.json, "metrics": decoded.metrics}
        print(formats[options.format](frames).rstrip())
        for note in decoded.notes(frames) if options.format != "explain" else ():
            _complain(note)
    problems = decoded.problems(frames)
    for problem in problems:
        _complain(problem)
    return FAILED if problems else OK


def _serve_options(options: argparse.Namespace) -> ServeOptions:
    if options.systemd_socket and options.listen_addresses:
        raise ConfigError(
            ["--web.systemd-socket: --web.listen-address is given too: one is enough"]
        )
    return ServeOptions(
        listen_addresses=options.listen_addresses or [":12200"],
        telemetry_path=options.telemetry_path,
        timeout_offset_s=options.timeout_offset,
        web_config=Path(options.web_config_file) if options.web_config_file else None,
        systemd_sockets=options.systemd_socket,
        log_lines_lost=options.log_lines_lost,
    )


def _complain(text: str) -> None:
    with suppress(OSError):  # a full disk or a closed pipe must not end the program
        print(text, file=sys.stderr)
    _flush_stderr()


def _duration(text: str) -> Seconds:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _listening_time(text: str) -> Seconds:
    duration_s = _duration(text)
    if not 0 < duration_s <= MAX_SCAN_S:
        raise argparse.ArgumentTypeError(f"expected more than 0s, up to {MAX_SCAN_S:g}s")
    return duration_s


def _telemetry_path(text: str) -> str:
    if not PATH.fullmatch(text) or text.startswith(("/-/", "/api/", "/page/")) or text == "/probe":
        raise argparse.ArgumentTypeError(f"expected a path like /metrics, got {text!r}")
    return text


def _adapter(text: str) -> AdapterName:
    try:
        return parse_adapter(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed <= 86400:  # noqa: PLR2004 - a day in a second
        raise argparse.ArgumentTypeError(f"expected a number above 0, up to 86400, got {text!r}")
    return speed


def _replay(text: str) -> tuple[str, str]:
    name, equals, path = text.partition("=")
    if not (equals and path):
        raise argparse.ArgumentTypeError(f"expected NAME=FILE, got {text!r}")
    try:
        return normal_name(name), path
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _defaults() -> argparse.Namespace:
    """Return what no option says; not the parser's, which a command would put over an option."""
    return argparse.Namespace(
        run=_serve,
        config_file="config.yaml",
        log_level=None,
        usual_log_level="info",
        log_format=LogFormat.LOGFMT,
        redact_addresses=False,
        listen_addresses=[],
        telemetry_path="/metrics",
        timeout_offset=0.5,
        web_config_file="",
        systemd_socket=False,
        log_lines_lost=lambda: 0,
    )


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument(
        "--config.file",
        dest="config_file",
        metavar="FILE",
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
    web = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    web.add_argument(
        "--web.listen-address",
        dest="listen_addresses",
        metavar="ADDRESS",
        action="append",
        help="HOST:PORT or :PORT to serve on; repeatable (default: :12200)",
    )
    web.add_argument(
        "--web.config.file",
        dest="web_config_file",
        metavar="FILE",
        help="TLS, users and headers, in the format of Prometheus' exporter-toolkit",
    )
    web.add_argument(
        "--web.systemd-socket",
        dest="systemd_socket",
        action="store_true",
        help="serve on the sockets of systemd instead of listen addresses",
    )
    web.add_argument(
        "--web.telemetry-path",
        dest="telemetry_path",
        metavar="PATH",
        type=_telemetry_path,
        help="where the metrics are (default: /metrics)",
    )
    web.add_argument(
        "--web.timeout-offset",
        dest="timeout_offset",
        metavar="DURATION",
        type=_duration,
        help="how much of Prometheus' scrape time-out is kept in reserve (default: 500ms)",
    )

    parser = argparse.ArgumentParser(
        prog="bms-exporter",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[common, web],
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"bms-exporter {__version__}")
    parser.add_argument(
        "--config.check",
        dest="config_check",
        action="store_true",
        help="check the configuration and exit",
    )
    commands = parser.add_subparsers(title="commands", metavar="")
    _add_scan(commands, common)
    _add_read(commands, common)
    _add_decode(commands, common)
    _add_demo(commands, common, web)
    return parser


def _add_scan(commands: Any, common: argparse.ArgumentParser) -> None:
    scan = commands.add_parser("scan", parents=[common], help="list the batteries nearby")
    scan.add_argument("--adapter", type=_adapter, help="hci0 and the like")
    scan.add_argument(
        "--duration", type=_listening_time, default=Seconds(10.0), help="how long to listen (10s)"
    )
    scan.add_argument("--all", action="store_true", help="list every device, not only JBD")
    scan.set_defaults(run=_scan, usual_log_level="error")


def _add_read(commands: Any, common: argparse.ArgumentParser) -> None:
    read = commands.add_parser("read", parents=[common], help="read one battery once")
    read.add_argument(
        "battery",
        nargs="?",
        metavar="NAME|ADDRESS",
        help="may be left out if one is configured; an address need not be",
    )
    read.add_argument("--format", choices=["table", "json", "metrics"], default="table")
    read.set_defaults(run=_read, usual_log_level="error")  # it says itself what failed


def _add_decode(commands: Any, common: argparse.ArgumentParser) -> None:
    decode = commands.add_parser("decode", parents=[common], help="explain recorded reply frames")
    decode.add_argument(
        "hex",
        nargs="+",
        metavar="HEX|FILE|-",
        help="reply frames or their notifications, in hex as logs print it (DD03...77), "
        "a file with such text, or - for standard input",
    )
    decode.add_argument("--format", choices=["explain", "json", "metrics"], default="explain")
    decode.set_defaults(run=_decode)


def _add_demo(commands: Any, common: argparse.ArgumentParser, web: argparse.ArgumentParser) -> None:
    demo = commands.add_parser(
        "demo", parents=[common, web], help="serve virtual batteries, without Bluetooth"
    )
    demo.add_argument(
        "--speed", type=_speed, default=1.0, help="run the day faster: 60 is an hour a minute"
    )
    demo.add_argument(
        "--replay",
        action="append",
        type=_replay,
        metavar="NAME=FILE",
        help="serve the recorded reply frames of FILE as NAME; repeatable. "
        "FILE holds what decode takes",
    )
    demo.set_defaults(run=_demo)
