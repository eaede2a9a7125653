"""The batteries of the demo are found, read, and fail as intended."""

import asyncio

from exporter.batteries import build_battery
from exporter.config.schema import (
    BatteryConfig,
    Name,
    PollConfig,
    SettingsChoice,
    normal_address,
)
from exporter.demo.battery import VirtualBattery
from exporter.demo.fleet import build_camper, build_replayed, make_settings_reader
from exporter.demo.radio import make_air
from tests.support.virtual import make_poller, make_routes, now_s


class TestFleet:
    async def test_first_poll_of_each_demo_battery_succeeds(self, tasks: asyncio.TaskGroup) -> None:
        batteries: dict[str, VirtualBattery] = build_camper(now_s)
        routes = make_routes(make_air(batteries.values()))
        pollers = [
            make_poller(routes, tasks, name=name, address=one.address)
            for name, one in batteries.items()
        ]

        snapshots = await asyncio.gather(*(one.refresh(timeout_s=30.0) for one in pollers))

        assert [(one.battery, one.up) for one in snapshots] == [
            ("camper", True),
            ("camper2", True),
            ("flaky", True),
            ("cold", True),
        ]

    async def test_first_poll_of_each_demo_battery_reads_its_settings(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        batteries = build_camper(now_s)
        routes = make_routes(make_air(batteries.values()))
        pollers = [
            build_battery(
                BatteryConfig(
                    name=Name(name),
                    address=normal_address(one.address),
                    settings=SettingsChoice.DAILY,
                ),
                PollConfig(),
                routes,
                tasks=tasks,
                settings=make_settings_reader,
            ).poller
            for name, one in batteries.items()
        ]

        await asyncio.gather(*(one.refresh(timeout_s=30.0) for one in pollers))
        await asyncio.sleep(20.0)  # the settings come after the reading
        for name, poller in zip(batteries, pollers, strict=True):
            settings = poller.show().settings
            assert settings is not None, name
            assert settings.number("cell_undervoltage_v") == 2.5, name
            assert settings.is_left, name
            assert batteries[name].illegal == [], name

    async def test_flaky_demo_battery_fails_and_recovers(self, tasks: asyncio.TaskGroup) -> None:
        batteries = build_camper(now_s)
        routes = make_routes(make_air(batteries.values()))
        poller = make_poller(routes, tasks, name="flaky", address=batteries["flaky"].address)

        ups = []
        for _ in range(60):
            ups.append((await poller.refresh(timeout_s=30.0)).up)
            await asyncio.sleep(60.0)

        assert 20 < ups.count(True) < 60
        assert ups[-20:].count(True) > 5

    def test_each_recording_becomes_a_battery_with_its_own_address(self) -> None:
        batteries = build_replayed({f"b{number}": lambda _: b"" for number in range(300)})

        assert len({one.address for one in batteries.values()}) == 300
        assert batteries["b0"].address == "A4:C1:38:00:00:01"
        assert batteries["b299"].address == "A4:C1:38:00:01:2C"
