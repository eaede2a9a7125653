"""The batteries of the demo are found, read, and fail as intended."""

import asyncio

from exporter.demo.battery import VirtualBattery
from exporter.demo.fleet import build_camper, build_replayed
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
            ("flaky", True),
            ("cold", True),
        ]

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
