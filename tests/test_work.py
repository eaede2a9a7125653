"""How much work is done: calls, modules and packets, which no other program on the machine changes.

The figures are in work.json, for each Python. `make work` renews them; the commit says why.
"""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import Any, Final, Self

import pytest
from tornado.httputil import HTTPHeaders

from exporter.battery.poller import Poller
from exporter.ble.bleak import Radio
from exporter.config.schema import PollConfig, Seconds
from exporter.demo.battery import Faults
from exporter.demo.radio import air_of
from exporter.metrics import ExporterCollector
from exporter.protocol.frame import FrameAssembler
from exporter.protocol.jbd import decode_basic, decode_cells, decode_event_counters
from exporter.web.app import make_app
from tests.support import att_server
from tests.support.http_client import begin
from tests.support.recorded import CELLS, COUNTERS, MOBILEKTRO
from tests.support.virtual import battery, now_s, poller_on, radio_on

FILE: Final = Path(__file__).parent / "work.json"
PYTHON: Final = f"{sys.version_info.major}.{sys.version_info.minor}"
TOLERANCE: Final = 0.05  # other versions of libraries; less work is told too, so that it stays so
BATTERIES: Final = 4
AS_PROMETHEUS: Final = {
    "Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5",
    "Accept-Encoding": "gzip",
}


class Calls:
    """Counts the calls of functions in this thread, those of C included."""

    def __init__(self) -> None:
        self.number = 0

    def __enter__(self) -> Self:
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_error: object) -> None:
        sys.setprofile(None)

    def _note(self, _frame: FrameType, event: str, _argument: Any) -> None:
        self.number += event in ("call", "c_call")


def compare(name: str, number: int, within: int | None = None) -> None:
    """Fail if this is not the stored figure; RENEW=1 stores it."""
    figures = json.loads(FILE.read_text())
    if os.environ.get("RENEW"):
        figures.setdefault(PYTHON, {})[name] = number
        FILE.write_text(json.dumps(figures, indent=2, sort_keys=True) + "\n")
    if PYTHON not in figures and not os.environ.get("REQUIRE_TOOLS"):
        pytest.skip(f"no figures for Python {PYTHON}: make work")
    assert name in figures.get(PYTHON, {}), f"no {name} for Python {PYTHON}: make work"
    stored = figures[PYTHON][name]
    expected = pytest.approx(stored, rel=None if within else TOLERANCE, abs=within)
    assert number == expected, f"{name} was {stored}: make work"


class House:
    """Batteries on the virtual radio behind the web, as the exporter builds them."""

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        addresses = [f"A4:C1:38:00:00:{number:02X}" for number in range(BATTERIES)]
        radio = radio_on(air_of([battery(address) for address in addresses]))
        poll = PollConfig(min_interval_s=Seconds(60.0), max_age_s=Seconds(600.0))
        self.pollers: dict[str, Poller] = {
            address: poller_on(radio, tasks, name=address, address=address, poll=poll)
            for address in addresses
        }
        own = ExporterCollector()
        self.app = make_app(batteries=self.pollers, own=own)

    async def scrape(self, headers: dict[str, str]) -> int:
        """Return how many calls one scrape takes."""
        await asyncio.sleep(0)  # who asks in the same turn of the loop shares an answer
        asked = HTTPHeaders({"Host": "camper", **headers})
        with Calls() as calls:
            connection, delegate, ready = begin(self.app, "GET", "/metrics", asked)
            await ready
            delegate.finish()
            await connection.finished.wait()
        return calls.number

    async def age(self) -> None:
        """Let all readings become too old, and every connection end."""
        await asyncio.sleep(61.0)

    async def read(self) -> None:
        for poller in self.pollers.values():
            await poller.refresh()


class TestScrapes:
    @pytest.mark.parametrize(
        ("name", "headers"), [("plain", {}), ("openmetrics_gzip", AS_PROMETHEUS)]
    )
    async def test_one_of_unchanged_readings(
        self, tasks: asyncio.TaskGroup, name: str, headers: dict[str, str]
    ) -> None:
        house = House(tasks)
        await house.scrape(headers)
        await house.scrape(headers)

        compare(f"scrape_unchanged_{name}", await house.scrape(headers))

    @pytest.mark.parametrize(
        ("name", "headers"), [("plain", {}), ("openmetrics_gzip", AS_PROMETHEUS)]
    )
    async def test_one_of_changed_readings(
        self, tasks: asyncio.TaskGroup, name: str, headers: dict[str, str]
    ) -> None:
        house = House(tasks)
        await house.scrape(headers)
        await house.age()
        await house.read()

        compare(f"scrape_changed_{name}", await house.scrape(headers))

    async def test_two_instead_of_one_are_noticed(
        self, tasks: asyncio.TaskGroup, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("RENEW", raising=False)
        house = House(tasks)
        await house.scrape({})
        await house.scrape({})
        twice = await house.scrape({}) + await house.scrape({})

        with pytest.raises(AssertionError, match="scrape_unchanged_plain was"):
            compare("scrape_unchanged_plain", twice)


class TestReadings:
    def test_decoding_one(self) -> None:
        def decode() -> None:
            basic, cells, counters = FrameAssembler().feed(MOBILEKTRO + CELLS + COUNTERS)
            decode_basic(basic.payload)
            decode_cells(cells.payload)
            decode_event_counters(counters.payload)

        decode()
        with Calls() as calls:
            decode()

        compare("decode", calls.number)

    async def test_one_poll_on_the_virtual_radio(self, tasks: asyncio.TaskGroup) -> None:
        house = House(tasks)
        poller = next(iter(house.pollers.values()))
        await poller.refresh()
        await house.age()

        with Calls() as calls:
            await poller.refresh()

        compare("poll", calls.number)

    @pytest.mark.looptime(False)  # noqa: FBT003 - sockets live in real time
    async def test_the_packets_of_one_over_the_direct_link(self, tasks: asyncio.TaskGroup) -> None:
        virtual = battery(faults=Faults(reply_s=0.06))
        air = att_server.Air({virtual.address: virtual})
        poll = PollConfig(min_interval_s=Seconds(0.0), max_age_s=Seconds(0.0))
        poller = poller_on(
            Radio(kernel=air.kernel(), clock=now_s), tasks, address=virtual.address, poll=poll
        )
        for _ in range(4):
            assert (await poller.refresh()).up
            await poller.close()
        packets = [len(server.received) for server in air.servers]

        compare("att_packets_first", packets[0])
        compare("att_packets", min(packets[1:]))  # a busy machine may resend


class TestModules:
    @pytest.mark.parametrize("module", ["exporter.app", "exporter.cli"])
    def test_those_that_are_loaded(self, module: str) -> None:
        program = f"import sys; n = len(sys.modules); import {module}; print(len(sys.modules) - n)"
        environment = {key: value for key, value in os.environ.items() if "COV" not in key}

        said = subprocess.run(
            [sys.executable, "-c", program],
            check=True,
            capture_output=True,
            text=True,
            env=environment,
        )

        compare(f"modules_of_{module}", int(said.stdout), within=2)
