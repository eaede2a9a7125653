"""Banks in scrapes and on the page: with a missing, a paused and a renamed battery, and reloads."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest
from tornado.httputil import HTTPHeaders

from exporter.batteries import Batteries
from exporter.ble.machine import build_routes
from exporter.clock import WallClock
from exporter.config.schema import (
    BankConfig,
    BatteryConfig,
    Config,
    Name,
    PollConfig,
    Seconds,
    Wiring,
    normal_address,
)
from exporter.demo.battery import Faults, VirtualBattery
from exporter.demo.radio import make_air, make_backend
from exporter.metrics import ExporterCollector
from exporter.web.app import make_app
from exporter.web.subscribers import Subscribers
from tests.support.http_client import make_client, send_head
from tests.support.virtual import ANSWERS, WallTime, answering, now_s

MAX_AGE_S = 120.0
ADDRESSES = ("A4:C1:38:00:00:01", "A4:C1:38:00:00:02")
TOTAL = 'bms_bank_remaining_capacity_amperehours{bank="both"} 407.08'


def configured(*names: str, poll: PollConfig | None = None) -> Config:
    batteries = tuple(
        BatteryConfig(name=Name(name), address=normal_address(address))
        for name, address in zip(names, ADDRESSES, strict=True)
    )
    members = tuple(battery.name for battery in batteries)
    bank = BankConfig(name=Name("both"), batteries=members, wiring=Wiring.PARALLEL)
    return Config(batteries=batteries, banks=(bank,), poll=poll or PollConfig())


class Exporter:
    """The application with a bank of two virtual batteries, and a client of it."""

    def __init__(self, batteries: Batteries, tasks: asyncio.TaskGroup, virtual: Any) -> None:
        self.batteries = batteries
        self.left, self.right = virtual
        self.subscribers = Subscribers(batteries.pollers, tasks)
        batteries.subscribe(self.subscribers.publish)
        self.app = make_app(
            batteries=batteries.pollers,
            banks=batteries.banks,
            own=ExporterCollector(),
            subscribers=self.subscribers,
            wall=batteries.wall,
        )
        self.client = make_client(self.app)

    async def get(self, path: str = "/metrics") -> str:
        response: httpx.Response = await self.client.get(path)
        assert response.status_code == 200
        return response.text

    async def bank(self) -> dict[str, Any]:
        (bank,) = json.loads(await self.get("/api/v1/batteries"))["banks"]
        return dict(bank)


@pytest.fixture
async def exporter(tasks: asyncio.TaskGroup) -> AsyncIterator[Exporter]:
    virtual = [VirtualBattery(address=one, answers=answering(ANSWERS)) for one in ADDRESSES]
    backend = make_backend(make_air(virtual))
    config = configured("left", "right")
    routes = await build_routes(config, backend)
    wall = WallClock(now_s, WallTime())
    batteries = Batteries(config, routes, tasks, backend=backend, wall=wall)
    exporter = Exporter(batteries, tasks, virtual)
    yield exporter
    exporter.subscribers.close()
    await batteries.close()


@contextmanager
def listening(exporter: Exporter) -> Iterator[list[dict[str, Any]]]:
    """Open a stream; the list gets the data of its `battery` events."""
    events: list[dict[str, Any]] = []

    def wrote(chunk: bytes) -> None:
        for block in chunk.decode().split("\n\n")[:-1]:
            name, _, data = block.removeprefix("event: ").partition("\ndata: ")
            if name == "battery":
                events.append(json.loads(data))

    headers = HTTPHeaders({"Host": "camper:12200"})
    connection, delegate, _ = send_head(exporter.app, "GET", "/api/v1/stream", headers)
    connection.wrote = wrote
    delegate.finish()
    yield events
    connection.close()


class TestScrapes:
    async def test_scrape_of_all_batteries_shows_the_total(self, exporter: Exporter) -> None:
        text = await exporter.get()

        assert TOTAL in text
        assert 'bms_bank_batteries_read{bank="both"} 2.0' in text
        assert 'bms_bank_member{bank="both",battery="left"} 1.0' in text

    async def test_probe_of_one_battery_shows_no_bank(self, exporter: Exporter) -> None:
        await exporter.get()

        assert "bms_bank" not in await exporter.get("/probe?target=left")

    async def test_metrics_of_banks_can_be_chosen_by_name(self, exporter: Exporter) -> None:
        text = await exporter.get("/metrics?name[]=bms_bank_remaining_capacity_amperehours")

        assert [line for line in text.splitlines() if line[0] != "#"] == [TOTAL]

    async def test_total_ends_when_one_reading_is_too_old(self, exporter: Exporter) -> None:
        await exporter.get()
        exporter.right.faults = Faults(silent=True)

        await asyncio.sleep(MAX_AGE_S / 2)
        assert TOTAL in await exporter.get()
        await asyncio.sleep(MAX_AGE_S / 2)
        text = await exporter.get()

        assert "bms_bank_remaining" not in text
        assert 'bms_bank_batteries_read{bank="both"} 1.0' in text
        assert 'bms_bank_batteries{bank="both"} 2.0' in text

    async def test_total_with_max_age_0_needs_readings_of_this_scrape(
        self, exporter: Exporter
    ) -> None:
        poll = PollConfig(max_age_s=Seconds(0.0), min_interval_s=Seconds(0.0))
        await exporter.batteries.apply(configured("left", "right", poll=poll))

        assert TOTAL in await exporter.get()
        exporter.right.faults = Faults(silent=True)
        assert "bms_bank_remaining" not in await exporter.get()


class TestPause:
    async def test_paused_battery_counts_until_its_reading_is_too_old(
        self, exporter: Exporter
    ) -> None:
        await exporter.get()
        await exporter.batteries.pollers["right"].pause(600.0)

        assert TOTAL in await exporter.get()
        await asyncio.sleep(MAX_AGE_S + 1.0)
        assert "bms_bank_remaining" not in await exporter.get()
        exporter.batteries.pollers["right"].resume()
        assert TOTAL in await exporter.get()


class TestReload:
    async def test_renamed_battery_counts_when_it_is_read(self, exporter: Exporter) -> None:
        await exporter.get()

        await exporter.batteries.apply(configured("left", "starboard"))
        after_reload = await exporter.bank()

        assert after_reload["batteries"] == ["left", "starboard"]
        assert (after_reload["batteries_read"], after_reload["total"]) == (1, None)
        text = await exporter.get()
        assert TOTAL in text
        assert 'bms_bank_member{bank="both",battery="starboard"} 1.0' in text
        assert 'battery="right"' not in text

    async def test_removed_bank_is_no_longer_shown(self, exporter: Exporter) -> None:
        await exporter.get()

        await exporter.batteries.apply(replace(configured("left", "right"), banks=()))

        assert "bms_bank" not in await exporter.get()
        assert json.loads(await exporter.get("/api/v1/batteries"))["banks"] == []

    async def test_changed_wiring_is_shown_at_once(self, exporter: Exporter) -> None:
        await exporter.get()
        config = configured("left", "right")

        series = replace(config.banks[0], wiring=Wiring.SERIES)
        await exporter.batteries.apply(replace(config, banks=(series,)))

        assert (await exporter.bank())["total"]["remaining_ah"] == 203.54


class TestPage:
    async def test_state_has_the_bank_without_a_poll(self, exporter: Exporter) -> None:
        before = await exporter.bank()
        await exporter.get()

        assert before == {
            "name": "both",
            "wiring": "parallel",
            "batteries": ["left", "right"],
            "batteries_read": 0,
            "total": None,
            "morning": None,
        }
        after = await exporter.bank()
        assert after["batteries_read"] == 2
        assert after["total"]["nominal_ah"] == 438.64
        assert after["total"]["rsoc_difference_ratio"] == 0.0
        assert exporter.left.connects == 1

    async def test_stream_sends_the_bank_with_each_of_its_batteries(
        self, exporter: Exporter
    ) -> None:
        with listening(exporter) as events:
            await asyncio.sleep(8.0)

        assert events[0]["banks"][0]["total"] is None
        assert events[-1]["banks"][0]["batteries_read"] == 2

    async def test_event_of_an_unchanged_battery_has_its_changed_bank(
        self, exporter: Exporter
    ) -> None:
        with listening(exporter) as events:
            await asyncio.sleep(8.0)
            exporter.subscribers.publish("left")
            await asyncio.sleep(0.1)
            (bank,) = exporter.batteries.banks
            exporter.batteries.banks[:] = [replace(bank, wiring=Wiring.SERIES)]
            exporter.subscribers.publish("left")
            await asyncio.sleep(0.1)

        assert [one["banks"][0]["wiring"] for one in events[-2:]] == ["parallel", "series"]
