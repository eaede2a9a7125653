"""The page's API, and what it costs the batteries when somebody looks."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from importlib.resources import files
from typing import Any

import httpx
import pytest
from tornado.httputil import HTTPHeaders

from exporter.battery.history import HOURS, LENGTH, SPACING_S, History, Sample
from exporter.clock import WallClock
from exporter.config.schema import PollConfig, Seconds
from exporter.demo.battery import Faults
from exporter.demo.radio import make_air
from exporter.web import api_json as api
from exporter.web.app import make_app
from exporter.web.page_handlers import LIFE_S, OWN_MAX_AGE_S, RELEASE_S
from exporter.web.subscribers import ALIVE_S, INTERVAL_S, MAX_STREAMS, MAX_STREAMS_EACH, Subscribers
from tests.support.http_client import FakeConnection, begin, client_of
from tests.support.virtual import WallTime, answering, battery, make_poller, make_routes, now_s

SECOND = "A4:C1:38:00:00:02"
# 100 %, charged with 2 A, 260 of 280 Ah. Derived from what Louisvdw/dbus-serialbattery#729 and
# syssi/esphome-jbd-bms#97 report.
FULL = bytes.fromhex("dd03001b058c00c865906d6000052c7c00000000000020640304020b730b73fa9477")


class Camper:
    """Two batteries, a scraper and pages that look on."""

    def __init__(self, tasks: asyncio.TaskGroup, poll: PollConfig | None = None) -> None:
        self.virtual = {"camper": battery(), "my trailer": battery(SECOND)}
        routes = make_routes(make_air(self.virtual.values()))
        self.pollers: dict[str, Any] = {}
        self.subscribers = Subscribers(self.pollers, tasks)
        self.wall_time = WallTime()
        wall = WallClock(now_s, self.wall_time)
        for name, one in self.virtual.items():
            self.pollers[name] = make_poller(
                routes,
                tasks,
                name=name,
                address=one.address,
                poll=poll,
                wall=wall,
                on_change=partial(self.subscribers.publish, name),
            )
        self.app = make_app(batteries=self.pollers, subscribers=self.subscribers, wall=wall)
        self.client = client_of(self.app)

    @property
    def connects(self) -> int:
        return self.virtual["camper"].connects

    async def state(self, name: str = "camper") -> dict[str, Any]:
        state = (await self.client.get("/api/v1/batteries")).json()
        (found,) = (one for one in state["batteries"] if one["name"] == name)
        return dict(found)


@pytest.fixture
async def camper(tasks: asyncio.TaskGroup) -> AsyncIterator[Camper]:
    camper = Camper(tasks)
    yield camper
    camper.subscribers.close()


class Page:
    """A page that is open: what the stream has told it."""

    def __init__(self, connection: FakeConnection) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self._connection = connection

    @property
    def ended(self) -> bool:
        return self._connection.finished.is_set()

    def names(self) -> list[str]:
        return [name for name, _ in self.events]


@asynccontextmanager
async def looking(camper: Camper, method: str = "GET") -> AsyncIterator[Page]:
    headers = HTTPHeaders({"Host": "camper:12200"})
    connection, delegate, _ = begin(camper.app, method, "/api/v1/stream", headers)
    page = Page(connection)

    def wrote(chunk: bytes) -> None:
        for block in chunk.decode().split("\n\n")[:-1]:
            name, _, data = block.removeprefix("event: ").partition("\ndata: ")
            page.events.append((name, json.loads(data)))

    connection.wrote = wrote
    delegate.finish()
    try:
        yield page
    finally:
        connection.close()
        for _ in range(10):
            await asyncio.sleep(0)


class TestState:
    async def test_what_is_not_known_is_null(self, camper: Camper) -> None:
        told = await camper.state()

        assert told["reading"] is None
        assert told["last_success_unix_s"] is None
        assert told["up"] is None
        assert camper.connects == 0

    async def test_a_reading_has_its_units_in_its_names(self, camper: Camper) -> None:
        await camper.pollers["camper"].refresh()

        reading = (await camper.state())["reading"]

        assert reading["remaining_ah"] == 203.54
        assert reading["voltage_v"] == 13.21
        assert reading["power_w"] == pytest.approx(
            reading["voltage_v"] * reading["current_a"], 0.01
        )
        assert [cell["number"] for cell in reading["cells"]] == [1, 2, 3, 4]
        assert reading["cell_spread_v"] < 0.1

    async def test_the_key_factory_mode_stays_and_is_null(self, camper: Camper) -> None:
        await camper.pollers["camper"].refresh()

        reading = (await camper.state())["reading"]

        assert "factory_mode" in reading
        assert reading["factory_mode"] is None

    async def test_a_reading_that_is_too_old_is_null(self, camper: Camper) -> None:
        await camper.pollers["camper"].refresh()
        await asyncio.sleep(121.0)

        assert (await camper.state())["reading"] is None

    async def test_with_a_max_age_of_0_the_page_shows_what_it_has_read_itself(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        camper = Camper(tasks, PollConfig(max_age_s=Seconds(0.0)))
        await camper.pollers["camper"].refresh()

        assert (await camper.state())["max_age_s"] == OWN_MAX_AGE_S
        assert (await camper.state())["reading"]["remaining_ah"] == 203.54
        await asyncio.sleep(OWN_MAX_AGE_S + 1.0)
        assert (await camper.state())["reading"] is None

    async def test_a_failure_says_why_and_since_when(self, camper: Camper) -> None:
        camper.virtual["camper"].faults = Faults(gone=True)
        await camper.pollers["camper"].refresh()
        first = (await camper.state())["failure"]
        await camper.pollers["camper"].refresh()

        failure = (await camper.state())["failure"]

        assert failure["reason"] == "not_found"
        assert "not seen" in failure["error"]
        assert failure["since_unix_s"] == first["since_unix_s"]

    @pytest.mark.parametrize("step_s", [-432_000.0, 432_000.0])
    async def test_ages_stay_right_after_a_step_of_the_wall_clock(
        self, camper: Camper, step_s: float
    ) -> None:
        await camper.pollers["camper"].refresh()
        read_s = now_s()
        await asyncio.sleep(30.0)

        camper.wall_time.ahead_s += step_s
        state = (await camper.client.get("/api/v1/batteries")).json()

        age_s = state["now_unix_s"] - state["batteries"][0]["reading"]["read_unix_s"]
        assert age_s == pytest.approx(now_s() - read_s, abs=1.0)

    @pytest.mark.parametrize("step_s", [-432_000.0, 432_000.0])
    async def test_a_step_of_the_wall_clock_is_scraped_at_once(
        self, camper: Camper, step_s: float
    ) -> None:
        async def scraped() -> float:
            text = (await camper.client.get("/metrics")).text
            name = 'bms_last_poll_success_timestamp_seconds{battery="camper"} '
            (line,) = (line for line in text.splitlines() if line.startswith(name))
            return float(line.removeprefix(name))

        first = await scraped()
        await asyncio.sleep(3.0)
        camper.wall_time.ahead_s += 0.4
        drifted = await scraped()
        camper.wall_time.ahead_s += step_s
        stepped = await scraped()

        assert drifted == first
        assert stepped == pytest.approx(first + step_s, abs=1.0)
        assert camper.connects == 1

    async def test_to_look_at_it_is_no_scrape(self, camper: Camper) -> None:
        await camper.pollers["camper"].refresh()
        before = camper.pollers["camper"].peek(0.0).served

        await camper.state()

        assert camper.pollers["camper"].peek(0.0).served == before


class TestForecast:
    @pytest.mark.parametrize(
        ("charge_ah", "current_a", "expected_s"),
        [
            pytest.param(100.0, 10.0, 36000.0, id="ten hours"),
            pytest.param(0.0, 10.0, 0.0, id="now"),
            pytest.param(100.0, 0.0, None, id="nothing flows"),
            pytest.param(100.0, 0.01, None, id="next to nothing flows"),
            pytest.param(100.0, -10.0, None, id="it flows the other way"),
            pytest.param(-1.0, 10.0, None, id="more than full"),
            pytest.param(200.0, 0.06, None, id="not this month"),
        ],
    )
    def test_time_is_charge_by_current(
        self, charge_ah: float, current_a: float, expected_s: float | None
    ) -> None:
        assert api._time_s(charge_ah, current_a) == expected_s

    async def test_at_100_percent_there_is_no_time_to_full(self, tasks: asyncio.TaskGroup) -> None:
        camper = Camper(tasks)
        camper.virtual["camper"].answers = answering({0x03: FULL})
        await camper.pollers["camper"].refresh()

        reading = (await camper.state())["reading"]

        assert (reading["remaining_ah"], reading["nominal_ah"]) == (260.0, 280.0)
        assert (reading["rsoc_ratio"], reading["current_a"]) == (1.0, 2.0)
        assert reading["time_to_full_s"] is None

    async def test_it_never_contradicts_the_current(self, camper: Camper) -> None:
        poller = camper.pollers["camper"]
        await poller.refresh()
        snapshot = poller.peek(60.0)
        discharging = replace(snapshot.reading.basic, current_a=-2.0)
        snapshot = replace(snapshot, reading=replace(snapshot.reading, basic=discharging))
        for _ in range(5):
            await asyncio.sleep(SPACING_S)
            poller.history.add(Sample(now_s(), 100.0, 50.0))

        told = api.battery(snapshot, poller.history)["reading"]

        assert (told["time_to_empty_s"], told["time_to_full_s"]) == (None, None)

    def test_a_fridge_that_switches_is_a_mean(self) -> None:
        clock_s = 7 * SPACING_S
        history = History(WallClock(lambda: clock_s))
        for number in range(8):
            history.add(Sample(number * SPACING_S, 100.0, -6.0 if number % 2 else 0.0))

        assert history.mean_current_a() == -3.0
        clock_s = 86400.0
        assert history.mean_current_a() is None


class TestHistory:
    def test_it_is_bounded_in_time_and_memory(self) -> None:
        end_s = 2 * HOURS * 3600.0
        history = History(WallClock(lambda: end_s, lambda: end_s + 1_795_391_224.5))
        for second in range(0, 2 * HOURS * 3600, 30):
            history.add(Sample(float(second), 100.0, 0.0))

        curve = history.curve()
        assert len(curve) == LENGTH
        assert curve[0][0] >= HOURS * 3600 + 1_795_391_224.5

    @pytest.mark.parametrize("step_s", [-432_000.0, -2.0, 2.0, 432_000.0])
    async def test_a_step_of_the_wall_clock_keeps_the_whole_curve(
        self, camper: Camper, step_s: float
    ) -> None:
        for _ in range(30):
            await camper.client.get("/metrics")
            await asyncio.sleep(SPACING_S)
        before = (await camper.client.get("/api/v1/history")).json()["batteries"][0]["samples"]

        camper.wall_time.ahead_s += step_s
        await camper.client.get("/metrics")
        told = (await camper.client.get("/api/v1/history")).json()

        after = told["batteries"][0]["samples"]
        assert len(before) == 30
        assert len(after) == 31
        assert [at_s - step_s for at_s, _, _ in after[:30]] == pytest.approx(
            [at_s for at_s, _, _ in before]
        )
        assert told["now_unix_s"] == pytest.approx(camper.wall_time())
        assert after[-1][0] == pytest.approx(camper.wall_time(), abs=5.0)

    async def test_every_answer_has_the_time_of_this_answer(self, camper: Camper) -> None:
        await camper.client.get("/metrics")
        first = (await camper.client.get("/api/v1/history")).json()
        await asyncio.sleep(60.0)

        second = (await camper.client.get("/api/v1/history")).json()

        assert second["now_unix_s"] == pytest.approx(first["now_unix_s"] + 60.0)
        assert second["batteries"] == first["batteries"]

    async def test_old_samples_are_dropped_without_new_ones(self, camper: Camper) -> None:
        await camper.client.get("/metrics")
        await asyncio.sleep(HOURS * 3600 - 10.0)
        young = (await camper.client.get("/api/v1/history")).json()
        await asyncio.sleep(20.0)

        old = (await camper.client.get("/api/v1/history")).json()

        assert len(young["batteries"][0]["samples"]) == 1
        assert old["batteries"][0] == {"name": "camper", "samples": []}

    async def test_every_scraper_adds_to_it(self, camper: Camper) -> None:
        await camper.client.get("/metrics")

        told = (await camper.client.get("/api/v1/history")).json()["batteries"]

        assert [one["name"] for one in told] == ["camper", "my trailer"]
        ((_, remaining_ah, _),) = told[0]["samples"]
        assert remaining_ah == 203.54


class TestLooking:
    async def test_ten_pages_are_one_scraper_every_half_minute(self, camper: Camper) -> None:
        async with asyncio.TaskGroup() as group:
            leave = asyncio.Event()

            async def look() -> None:
                async with looking(camper):
                    await leave.wait()

            for _ in range(10):
                group.create_task(look())
            await asyncio.sleep(10 * INTERVAL_S - 1.0)
            leave.set()

        assert camper.connects == 10

    async def test_nobody_who_looks_costs_nothing(self, camper: Camper) -> None:
        async with looking(camper):
            await asyncio.sleep(5.0)
        await asyncio.sleep(600.0)

        assert camper.connects == 1

    async def test_a_page_that_is_opened_again_and_again_is_not_more_than_one(
        self, camper: Camper
    ) -> None:
        for _ in range(30):
            async with looking(camper):
                await asyncio.sleep(2.0)

        assert camper.connects == 2

    async def test_prometheus_and_the_page_share_a_poll(self, camper: Camper) -> None:
        async with looking(camper):
            await camper.client.get("/metrics")

        assert camper.connects == 1

    async def test_all_is_told_at_once_and_then_what_changes(self, camper: Camper) -> None:
        async with looking(camper) as page:
            await asyncio.sleep(0.0)
            await asyncio.sleep(0.0)
            await asyncio.sleep(8.0)

        assert page.names()[0] == "batteries"
        told = [event["battery"] for name, event in page.events if name == "battery"]
        mine = [one for one in told if one["name"] == "camper"]
        assert mine[0]["polling"]
        assert mine[-1]["reading"]["remaining_ah"] == 203.54

    async def test_silence_says_that_it_lives(self, camper: Camper) -> None:
        async with looking(camper) as page:
            await asyncio.sleep(8.0)
            before = len(page.events)
            await asyncio.sleep(ALIVE_S + 2.0)

        assert page.names()[before:] == ["alive"]

    async def test_new_batteries_are_told(self, camper: Camper) -> None:
        async with looking(camper) as page:
            await asyncio.sleep(8.0)
            del camper.pollers["my trailer"]
            camper.subscribers.publish(None)
            await asyncio.sleep(0.1)

        name, state = page.events[-1]
        assert name == "batteries"
        assert [one["name"] for one in state["batteries"]] == ["camper"]

    async def test_the_end_of_the_exporter_ends_the_stream(self, camper: Camper) -> None:
        async with looking(camper) as page:
            await asyncio.sleep(1.0)
            camper.subscribers.close()
            await asyncio.sleep(0.1)

            assert page.ended

    async def test_there_are_not_more_streams_than_it_can_bear(self, camper: Camper) -> None:
        def ask() -> Awaitable[httpx.Response]:
            return camper.client.get("/api/v1/stream")

        with ExitStack() as stack:
            for _ in range(MAX_STREAMS_EACH):
                stack.enter_context(camper.subscribers.subscribe("127.0.0.1"))
            assert (await ask()).status_code == 503
        with ExitStack() as stack:
            for number in range(MAX_STREAMS):
                stack.enter_context(camper.subscribers.subscribe(f"192.0.2.{number}"))
            assert (await ask()).status_code == 503

    async def test_a_stream_ends_after_a_while_so_that_who_may_no_more_may_no_more(
        self, camper: Camper
    ) -> None:
        async with looking(camper) as page:
            await asyncio.sleep(LIFE_S - ALIVE_S)
            assert not page.ended
            await asyncio.sleep(2 * ALIVE_S)
            assert page.ended

    async def test_a_change_is_encoded_once_for_all(self, camper: Camper) -> None:
        async with looking(camper) as first, looking(camper) as second:
            await asyncio.sleep(8.0)

        changes = [event for event in first.events if event[0] == "battery"]
        assert changes
        assert changes == [event for event in second.events if event[0] == "battery"]

    async def test_an_event_has_the_time_at_which_it_is_sent(self, camper: Camper) -> None:
        async with looking(camper) as page:
            await asyncio.sleep(8.0)
            camper.subscribers.publish("camper")
            await asyncio.sleep(9.0)
            camper.subscribers.publish("camper")
            await asyncio.sleep(0.1)

        times = [event["now_unix_s"] for name, event in page.events if name == "battery"]
        assert times[-1] - times[-2] == pytest.approx(9.0)

    async def test_head_is_answered_and_looks_at_nothing(self, camper: Camper) -> None:
        async with looking(camper, "HEAD") as page:
            await asyncio.sleep(5.0)
            assert page.ended

        assert page.events == []
        assert camper.connects == 0


class TestRelease:
    async def test_the_phone_app_gets_the_battery_for_ten_minutes(self, camper: Camper) -> None:
        answer = await camper.client.post("/api/v1/release?battery=my%20trailer")
        metrics = (await camper.client.get("/metrics")).text
        await asyncio.sleep(RELEASE_S - 10.0)
        await camper.client.get("/metrics")
        released = camper.virtual["my trailer"].connects
        await asyncio.sleep(10.0)
        await camper.client.get("/metrics")

        assert answer.json()["paused_until_unix_s"] is not None
        assert 'bms_paused{battery="my trailer"} 1.0' in metrics
        assert 'bms_paused{battery="camper"} 0.0' in metrics
        assert released == 0
        assert camper.virtual["my trailer"].connects == 1

    async def test_a_reload_that_takes_it_away_meanwhile_is_no_error(self, camper: Camper) -> None:
        async with looking(camper):
            await asyncio.sleep(1.0)
            releasing = asyncio.create_task(
                camper.client.post("/api/v1/release?battery=my%20trailer")
            )
            await asyncio.sleep(0.0)
            await asyncio.sleep(0.0)
            del camper.pollers["my trailer"]

            assert (await releasing).status_code in (200, 404)

    async def test_it_can_be_taken_back(self, camper: Camper) -> None:
        await camper.client.post("/api/v1/release?battery=camper")

        answer = await camper.client.post("/api/v1/resume?battery=camper")

        assert answer.json()["paused_until_unix_s"] is None
        await camper.client.get("/metrics")
        assert camper.connects == 1

    @pytest.mark.parametrize("path", ["/api/v1/release", "/api/v1/resume"])
    async def test_only_a_post_of_our_own_page_about_our_battery_does_it(
        self, camper: Camper, path: str
    ) -> None:
        foreign = {"Origin": "http://evil.example"}
        ours = f"{path}?battery=camper"

        assert (await camper.client.get(ours)).status_code == 405
        assert (await camper.client.post(ours, headers=foreign)).status_code == 403
        assert (await camper.client.post(f"{path}?battery=neighbour")).status_code == 404
        missing = await camper.client.post(path)
        assert (missing.status_code, missing.headers["content-type"][:10]) == (400, "text/plain")
        assert not (await camper.state())["paused_until_unix_s"]


class TestFiles:
    async def test_the_page_comes_with_a_strict_policy(self, camper: Camper) -> None:
        answer = await camper.client.get("/")

        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert "unsafe" not in policy
        assert camper.connects == 0

    async def test_an_unchanged_file_is_not_sent_again(self, camper: Camper) -> None:
        first = await camper.client.get("/")

        again = await camper.client.get("/", headers={"If-None-Match": first.headers["etag"]})

        assert (again.status_code, again.content) == (304, b"")

    async def test_every_file_is_there_and_together_they_are_small(self, camper: Camper) -> None:
        sizes = {}
        for path, route in camper.app._routes.items():
            if path.startswith("/page/"):
                answer = await camper.client.get(path)
                assert answer.status_code == 200, route
                sizes[path] = len(answer.content)

        assert len(sizes) >= sum(
            1 for one in (files("exporter.web") / "page").iterdir() if one.is_file()
        )
        assert sum(size for path, size in sizes.items() if not path.endswith(".png")) < 100_000

    @pytest.mark.parametrize("path", ["/page/../config.py", "/page/", "/page/%2e%2e/api_json.py"])
    async def test_nothing_else_is_served(self, camper: Camper, path: str) -> None:
        assert (await camper.client.get(path)).status_code == 404


def test_numbers_have_no_tails_and_are_never_nan() -> None:
    assert api.to_json({"a": [0.1 + 0.2, (1.0,)], "b": None}) == b'{"a": [0.3, [1.0]], "b": null}'
    with pytest.raises(ValueError, match="Out of range"):
        api.to_json({"a": float("nan")})


async def test_the_clock_of_these_tests_is_virtual() -> None:
    began_s = now_s()
    await asyncio.sleep(3600.0)
    assert now_s() - began_s == 3600.0
