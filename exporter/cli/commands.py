"""The commands: each takes its options and returns the exit status."""

import asyncio
import sys
from dataclasses import replace
from functools import partial
from typing import Final

from exporter.app import read_once, serve
from exporter.battery.snapshot import Snapshot
from exporter.ble.proxies import load_library
from exporter.ble.transport import Backend
from exporter.cli.options import (
    Check,
    Decode,
    Demo,
    Doctor,
    Example,
    Options,
    Read,
    ReadSettings,
    Scan,
    Serve,
)
from exporter.cli.streams import complain
from exporter.config import Config, load
from exporter.config.files import EXAMPLE, shown_path
from exporter.config.schema import BatteryConfig, Name, is_address, normal_address, wrong_address
from exporter.config.web import WebConfigFile
from exporter.errors import ConfigError, DecodeError, FailureReason
from exporter.process import cancel_on_sigterm
from exporter.protocol.advertisement import read_backwards

# Imports inside functions are for one command each; serving, which runs for months, needs none.
OK: Final = 0
FAILED: Final = 1
CHECKED: Final = "Files were checked, not batteries: bms-exporter doctor tries to read those."
# Failures whose message is the whole cause: doctor would find no other.
EXPLAINED: Final = {FailureReason.AUTH, FailureReason.DEVICE}


def run(options: Options, backend: Backend | None) -> int:  # noqa: PLR0911 - one a command
    """Run the command and return its exit status; `backend` replaces Bluetooth in tests.

    Raises:
        ConfigError: A configuration, a recording or an argument cannot be used.
        OSError: Standard output cannot be written.
    """
    config, backend = _virtual(options, backend)
    match options:
        case Serve():
            web = replace(options.web, config_name=str(options.config_file))
            asyncio.run(serve(partial(load, options.config_file), web, backend))
            return OK
        case Check():
            return _check(options)
        case Example():
            print(EXAMPLE.read_text(encoding="utf-8").rstrip())
            return OK
        case Demo():
            from exporter.cli.demo import run_demo  # noqa: PLC0415 - see above

            return run_demo(options)
        case Read():
            return _read(options, config, backend)
        case ReadSettings():
            from exporter.cli.settings import run_settings  # noqa: PLC0415 - see above

            return run_settings(options, *_battery_to_read(options, config), backend)
        case Scan():
            from exporter.cli.scan import run_scan  # noqa: PLC0415 - see above

            return asyncio.run(cancel_on_sigterm(run_scan(options, backend, config)))
        case Decode():
            return _decode(options)
        case Doctor():
            from exporter.cli.doctor import diagnose  # noqa: PLC0415 - see above

            return diagnose(options, backend)


def _virtual(options: Options, backend: Backend | None) -> tuple[Config | None, Backend | None]:
    """Return the virtual batteries for --demo; else no configuration, and the given backend."""
    if isinstance(options, Read | ReadSettings | Scan) and options.demo:
        from exporter.cli.demo import make_virtual  # noqa: PLC0415 - see above

        return make_virtual()
    return None, backend


def _check(options: Check) -> int:
    if options.web_config is not None:
        WebConfigFile(options.web_config)
    config = load(options.config_file)
    if config.proxies:
        load_library()
    batteries = config.batteries
    for battery in batteries:
        if backwards := read_backwards(battery.address):
            complain(
                f"{battery.name}: {battery.address} may be backwards, as some phone apps show it: "
                f"{backwards} is an address of a JBD module"
            )
    count = "1 battery" if len(batteries) == 1 else f"{len(batteries)} batteries"
    print(f"{shown_path(options.config_file.absolute())}: valid, {count}")
    if options.web_config is not None:
        print(f"{shown_path(options.web_config.absolute())}: valid")
    print(CHECKED)
    return OK


def _read(options: Read, config: Config | None, backend: Backend | None) -> int:
    if options.replay is not None:
        from exporter.cli.replay import run_replay  # noqa: PLC0415 - see above

        return run_replay(options.replay, options.format)
    battery, config = _battery_to_read(options, config)
    from exporter.cli.recorded import recording  # noqa: PLC0415 - see above

    with recording(options.record) as file:
        record = None if file is None else file.write
        snapshot = asyncio.run(cancel_on_sigterm(read_once(battery, config, backend, record)))
        status = _show(snapshot, options)
    return FAILED if file and file.problem else status


def _show(snapshot: Snapshot, options: Read) -> int:
    from exporter.cli import output  # noqa: PLC0415 - see above

    status = output.show_reading(snapshot, options.format)
    if status != OK and snapshot.failure not in EXPLAINED:
        from shlex import quote  # noqa: PLC0415 - see above

        complain(f"bms-exporter doctor {quote(snapshot.battery)} finds the cause.")
    return status


def _battery_to_read(
    options: Read | ReadSettings, config: Config | None
) -> tuple[BatteryConfig, Config]:
    """Return the wanted battery; if an address is given, it need not be configured.

    `config` is that of the demo; None: the file decides.
    """
    wanted, path = options.battery, options.config_file
    address = normal_address(wanted) if wanted is not None and is_address(wanted) else None
    source = str(path) if config is None else "the demo"
    wrong = None if wanted is None else wrong_address(wanted)
    if config is None:
        config = Config(batteries=()) if (address or wrong) and not path.exists() else load(path)
    matching = [b for b in config.batteries if wanted in (None, b.name) or b.address == address]
    if address is not None and not matching:
        return BatteryConfig(name=Name(address), address=address), config
    if len(matching) != 1:
        command = "read" if isinstance(options, Read) else "settings"
        if wrong:
            raise ConfigError([f"{command}: {wrong}"])
        names = ", ".join(battery.name for battery in config.batteries)
        question = "which battery?" if wanted is None else f"no battery is named {wanted!r}:"
        raise ConfigError([f"{command}: {question} {source} has {names}; an address works, too"])
    return matching[0], config


def _decode(options: Decode) -> int:
    from exporter.cli import decode, decode_input  # noqa: PLC0415 - see above

    if "-" in options.frames and sys.stdin.isatty():
        complain("Paste frames or a log, then press Ctrl+D in an empty line.")
    try:
        frames = decode.decode_all(decode_input.read_arguments(options.frames))
    except DecodeError as error:
        complain(str(error))
        return FAILED
    if not frames:
        complain("expected at least one frame in hex, got none")
        return FAILED
    if any(frame.facts is not None for frame in frames):
        formats = {"explain": decode.to_text, "json": decode.to_json, "metrics": decode.to_metrics}
        print(formats[options.format](frames).rstrip())
        for note in decode.notes(frames) if options.format != "explain" else ():
            complain(note)
    problems = decode.problems(frames)
    for problem in problems:
        complain(problem)
    return FAILED if problems else OK
