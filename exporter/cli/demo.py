"""`demo`, and its virtual batteries for the commands that read batteries."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from time import monotonic

from exporter.app import ServeOptions, serve
from exporter.ble.transport import Backend
from exporter.cli.options import Demo
from exporter.cli.streams import complain
from exporter.config.schema import (
    BankConfig,
    BatteryConfig,
    Config,
    Name,
    SettingsChoice,
    normal_address,
)
from exporter.demo import fleet, past, radio, replay
from exporter.demo.battery import VirtualBattery


def run_demo(options: Demo) -> int:
    """Serve virtual batteries until the end of the program; return its exit status.

    Raises:
        ConfigError: A recording cannot be used, or an address cannot be listened on.
    """
    pasts: dict[str, past.Past] = {}
    if options.replay:
        recordings, remarks = replay.read_recordings(options.replay)
        for remark in remarks:
            complain(remark)
        batteries = fleet.build_replayed(recordings)
    else:
        pasts = past.simulate_pasts(fleet.SCENARIOS, speed=options.speed)
        batteries = fleet.build_camper(monotonic, speed=options.speed)
    web = replace(
        options.web,
        on_listening=partial(_show_hint, options.web, list(batteries)),
        make_settings=fleet.make_settings_reader,
        on_batteries=partial(past.fill_curves, pasts),
    )
    config, backend = _configured(batteries, () if options.replay else (fleet.BANK,))
    asyncio.run(serve(lambda: config, web, backend))
    return 0


def make_virtual() -> tuple[Config, Backend]:
    """Return the configuration and the radio of the virtual batteries, for one command."""
    batteries = fleet.build_camper(monotonic)
    complain(f"{', '.join(batteries)}: virtual batteries, no Bluetooth is used")
    return _configured(batteries, (fleet.BANK,))


def _configured(
    batteries: Mapping[str, VirtualBattery], banks: tuple[BankConfig, ...]
) -> tuple[Config, Backend]:
    config = Config(
        batteries=tuple(
            BatteryConfig(
                name=Name(name),
                address=normal_address(battery.address),
                settings=SettingsChoice.OFF if battery.settings is None else SettingsChoice.DAILY,
            )
            for name, battery in batteries.items()
        ),
        banks=banks,
    )
    return config, radio.make_backend(radio.make_air(batteries.values()))


def _show_hint(web: ServeOptions, names: Sequence[str], addresses: Sequence[str]) -> None:
    """Print what is served, and where, unless others decide the address or the scheme."""
    complain(f"{', '.join(names)}: virtual batteries, no Bluetooth is used")
    if web.web_config is None and not web.systemd_sockets:
        host, _, port = addresses[0].rpartition(":")
        where = f"{host or 'localhost'}:{port}"
        complain(f"try: curl {where}{web.telemetry_path}, or http://{where}/ in a browser")
