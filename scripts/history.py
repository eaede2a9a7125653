"""Write days of the demo as OpenMetrics with timestamps: scripts/history.py DAYS STEP_S >FILE.

The exporter's own code polls the virtual batteries, and a missing one, in virtual time.
`promtool tsdb create-blocks-from openmetrics FILE FOLDER` turns the file into a Prometheus database.
"""

import asyncio
import logging
import selectors
import sys
import time
from itertools import chain
from typing import Final

from exporter.bank_metrics import BankCollector
from exporter.batteries import build_battery
from exporter.ble.bleak import BleakTransport
from exporter.ble.routes import Routes
from exporter.clock import WallClock
from exporter.config.schema import (
    BatteryConfig,
    Config,
    Name,
    PollConfig,
    SettingsChoice,
    normal_address,
)
from exporter.demo import fleet, radio
from exporter.localtime import LocalTime
from exporter.metrics import ROWS, SETTINGS_ROWS, BatteryCollector, Row

DAY_S: Final = 86400
SLACK_S: Final = 600  # the data ends in the future, so that it is still current when it is queried
START_H: Final = 8  # the demo's day begins at 8 o'clock
SETTINGS_EVERY_S: Final = 240  # they do not change; Prometheus looks back for 300 s
WITHOUT_SETTINGS: Final = tuple(row for row in ROWS if row not in SETTINGS_ROWS)
MISSING: Final = ("workshop", "A4:C1:38:00:00:0F")
RELEASED_S: Final = 900  # the missing battery is released at first: no poll of it has finished then
BANKS: Final = (fleet.BANK,)
JOB: Final = 'job="bms",instance="camper:12200"'


class HastyLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps instead of waiting."""

    def __init__(self) -> None:
        self.skipped_s = 0.0
        loop = self

        class Selector(selectors.DefaultSelector):
            def select(
                self, timeout: float | None = None
            ) -> list[tuple[selectors.SelectorKey, int]]:
                ready = super().select(0)
                if not ready and timeout:
                    loop.skipped_s += timeout
                return ready

        super().__init__(Selector())

    def time(self) -> float:
        """Return the loop's time in seconds, including the skipped ones."""
        return super().time() + self.skipped_s


async def write(days: float, step_s: float) -> None:
    """Write every scrape, oldest first, up to now."""
    loop = asyncio.get_running_loop()
    now_s = time.time()
    began_s = (now_s - days * DAY_S) // DAY_S * DAY_S + START_H * 3600
    offset_s = began_s - loop.time()
    wall = WallClock(loop.time, lambda: offset_s + loop.time())
    local_time = LocalTime(Config(batteries=()), wall)
    batteries = fleet.build_camper(loop.time)
    backend = radio.make_backend(radio.make_air(batteries.values()))
    routes = Routes(
        bluez=lambda adapter: BleakTransport(adapter=adapter, backend=backend, clock=loop.time),
        adapters=list,
    )
    addresses = {name: virtual.address for name, virtual in batteries.items()} | dict([MISSING])
    async with asyncio.TaskGroup() as tasks:
        pollers = [
            build_battery(
                BatteryConfig(
                    name=Name(name), address=normal_address(address), settings=SettingsChoice.DAILY
                ),
                PollConfig(),
                routes,
                tasks=tasks,
                wall=wall,
                settings=fleet.make_settings_reader,
            ).poller
            for name, address in addresses.items()
        ]
        await pollers[-1].pause(RELEASED_S)
        at_s, settings_at_s = began_s, began_s
        while at_s < time.time() + SLACK_S:  # the clock goes on while this writes
            await asyncio.sleep(max(0.0, at_s - offset_s - loop.time()))
            snapshots = await asyncio.gather(*(one.refresh(timeout_s=14.5) for one in pollers))
            print(f"up{{{JOB}}} 1 {at_s:.0f}")
            rows: tuple[Row, ...] = WITHOUT_SETTINGS
            if at_s >= settings_at_s:
                rows, settings_at_s = ROWS, at_s + SETTINGS_EVERY_S
            collectors = (
                BatteryCollector(snapshots, rows),
                BankCollector(BANKS, snapshots),
                local_time,
            )
            for family in chain.from_iterable(each.collect() for each in collectors):
                for sample in family.samples:
                    labels = [JOB, *(f'{key}="{value}"' for key, value in sample.labels.items())]
                    print(f"{sample.name}{{{','.join(labels)}}} {float(sample.value)} {at_s:.0f}")
            at_s += step_s
        for one in pollers:
            await one.close()
    print("# EOF")


if __name__ == "__main__":
    logging.disable()
    with asyncio.Runner(loop_factory=HastyLoop) as runner:
        runner.run(write(float(sys.argv[1]), float(sys.argv[2])))
