"""The API of the page, its stream of events, and the polls that open pages cause."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from importlib.resources import files
from types import SimpleNamespace
from typing import Any

import bcrypt
import httpx
import pytest
from tornado.httputil import HTTPHeaders

from exporter.battery.history import HOURS, LENGTH, SPACING_S, History, Sample
from exporter.battery.settings_state import SettingsState, decode_settings
from exporter.battery.snapshot import Snapshot
from exporter.clock import WallClock
from exporter.config.presentation import Presentation, parse_threshold
from exporter.config.schema import PollConfig, Seconds
from exporter.config.web import WebConfig
from exporter.demo.battery import Faults
from exporter.demo.radio import make_air
from exporter.protocol.settings_exchange import Expected
from exporter.reading import Reading
from exporter.web import api_json as api
from exporter.web.api_handlers import LIFE_S, RELEASE_S
from exporter.web.api_state import OWN_MAX_AGE_S
from exporter.web.app import make_app
from exporter.web.auth import Access
from exporter.web.subscribers import ALIVE_S, INTERVAL_S, MAX_STREAMS, MAX_STREAMS_EACH, Subscribers
from tests.support.api_schema import EVENTS, check
from tests.support.http_client import FakeConnection, make_client, send_head
from tests.support.settings import BASIC, SETTINGS
from tests.support.virtual import WallTime, answering, battery, make_poller, make_routes, now_s

SECOND = "A4:C1:38:00:00:02"
# 100 %, charged with 2 A, 260 of 280 Ah. Derived from what Louisvdw/dbus-serialbattery#729 and
# syssi/esphome-jbd-bms#97 report.
FULL = bytes.fromhex("dd03001b058c00c865906d6000052c7c00000000000020640304020b730b73fa9477")


class Exporter:
    """The application with two virtual batteries, and a client of it."""

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
        self.client = make_client(self.app)

    @property
    def connects(self) -> int:
        return self.virtual["camper"].connects

    async def state(self, name: str = "camper") -> dict[str, Any]:
        state = (await self.client.get("/api/v1/batteries")).json()
        (found,) = (one for one in state["batteries"] if one["name"] == name)
        return dict(found)


@pytest.fixture
async def exporter(tasks: asyncio.TaskGroup) -> AsyncIterator[Exporter]:
    exporter = Exporter(tasks)
    yield exporter
    exporter.subscribers.close()


class Page:
    """An open page, and the events that it has received."""

    def __init__(self, connection: FakeConnection) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self._connection = connection

    @property
    def ended(self) -> bool:
        return self._connection.finished.is_set()

    def names(self) -> list[str]:
        return [name for name, _ in self.events]


@asynccontextmanager
async def open_page(exporter: Exporter, method: str = "GET") -> AsyncIterator[Page]:
    headers = HTTPHeaders({"Host": "camper:12200"})
    connection, delegate, _ = send_head(exporter.app, method, "/api/v1/stream", headers)
    page = Page(connection)

    def wrote(chunk: bytes) -> None:
        for block in chunk.decode().split("\n\n")[:-1]:
            name, _, data = block.removeprefix("event: ").partition("\ndata: ")
            page.events.append((name, json.loads(data)))
            check(EVENTS[name], page.events[-1][1])

    connection.wrote = wrote
    delegate.finish()
    try:
        yield page
    finally:
        connection.close()
        for _ in range(10):
            await asyncio.sleep(0)


class TestState:
    async def test_unknown_values_are_null(self, exporter: Exporter) -> None:
        sent = await exporter.state()

        assert sent["reading"] is None
        assert sent["last_success_unix_s"] is None
        assert sent["up"] is None
        assert exporter.connects == 0

    async def test_reading_has_units_in_its_keys(self, exporter: Exporter) -> None:
        await exporter.pollers["camper"].refresh()

        reading = (await exporter.state())["reading"]

        assert reading["remaining_ah"] == 203.54
        assert reading["voltage_v"] == 13.21
        assert reading["power_w"] == pytest.approx(
            reading["voltage_v"] * reading["current_a"], 0.01
        )
        assert [cell["number"] for cell in reading["cells"]] == [1, 2, 3, 4]
        assert reading["cell_spread_v"] < 0.1

    async def test_settings_that_are_switched_off_are_null(self, exporter: Exporter) -> None:
        assert (await exporter.state())["settings"] is None

    def test_settings_have_the_names_that_decode_gives_them(self) -> None:
        rows = decode_settings(SETTINGS, Expected(cell_count=4, nominal_ah=BASIC.nominal_ah))
        shot = Snapshot(
            battery="camper",
            address=SECOND,
            settings=SettingsState(rows=rows, is_left=True),
            settings_read_unix_s=1_795_391_224.5,
        )

        sent = json.loads(api.to_json(api.battery(shot)))["settings"]

        assert (sent["read_unix_s"], sent["mode_left"]) == (1_795_391_224.5, True)
        assert sent["values"]["cell_undervoltage_v"] == 2.5
        assert sent["values"]["manufactured"] == "2022-08-12"
        assert sent["values"]["functions"] == ["balancing", "load_detection"]

    async def test_thresholds_are_shown_in_ampere_hours_and_as_ratios(
        self, exporter: Exporter
    ) -> None:
        before = (await exporter.state())["thresholds"]
        await exporter.pollers["camper"].refresh()

        assert before["low"] == {"remaining_ah": None, "rsoc_ratio": 0.2}
        assert (await exporter.state())["thresholds"] == {
            "low": {"remaining_ah": 43.864, "rsoc_ratio": 0.2},
            "critical": {"remaining_ah": 21.932, "rsoc_ratio": 0.1},
        }

    def test_threshold_for_low_is_at_least_that_for_critical(self) -> None:
        both = Presentation(low=parse_threshold("60Ah"), critical=parse_threshold("50%"))
        shot = Snapshot(battery="camper", address=SECOND, nominal_ah=200.0, presentation=both)

        thresholds = api.battery(shot)["thresholds"]

        assert thresholds["low"] == thresholds["critical"]
        assert thresholds["critical"] == {"remaining_ah": 100.0, "rsoc_ratio": 0.5}

    def test_socket_that_is_configured_as_empty_has_neither_name_nor_temperature(self) -> None:
        shot = Snapshot(
            battery="camper",
            address=SECOND,
            reading=Reading(basic=replace(BASIC, temperatures_c=(21.5, -30.0, 22.0))),
            presentation=Presentation(sensors=("cells", None)),
        )

        reading = api.battery(shot)["reading"]

        assert reading["temperatures_c"] == [21.5, None, 22.0]
        assert reading["sensors"] == ["cells", None, "ntc3"]

    async def test_key_factory_mode_stays_and_is_null(self, exporter: Exporter) -> None:
        await exporter.pollers["camper"].refresh()

        reading = (await exporter.state())["reading"]

        assert "factory_mode" in reading
        assert reading["factory_mode"] is None

    async def test_stale_reading_is_null(self, exporter: Exporter) -> None:
        await exporter.pollers["camper"].refresh()
        await asyncio.sleep(121.0)

        assert (await exporter.state())["reading"] is None

    async def test_with_max_age_0_the_page_shows_its_own_readings(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        exporter = Exporter(tasks, PollConfig(max_age_s=Seconds(0.0)))
        await exporter.pollers["camper"].refresh()

        assert (await exporter.state())["max_age_s"] == OWN_MAX_AGE_S
        assert (await exporter.state())["reading"]["remaining_ah"] == 203.54
        await asyncio.sleep(OWN_MAX_AGE_S + 1.0)
        assert (await exporter.state())["reading"] is None

    async def test_failure_has_its_reason_and_its_beginning(self, exporter: Exporter) -> None:
        exporter.virtual["camper"].faults = Faults(gone=True)
        await exporter.pollers["camper"].refresh()
        first = (await exporter.state())["failure"]
        await exporter.pollers["camper"].refresh()

        failure = (await exporter.state())["failure"]

        assert failure["reason"] == "not_found"
        assert "not seen" in failure["error"]
        assert failure["since_unix_s"] == first["since_unix_s"]

    @pytest.mark.parametrize("step_s", [-432_000.0, 432_000.0])
    async def test_ages_stay_right_when_the_wall_clock_jumps(
        self, exporter: Exporter, step_s: float
    ) -> None:
        await exporter.pollers["camper"].refresh()
        read_s = now_s()
        await asyncio.sleep(30.0)

        exporter.wall_time.ahead_s += step_s
        state = (await exporter.client.get("/api/v1/batteries")).json()

        age_s = state["now_unix_s"] - state["batteries"][0]["reading"]["read_unix_s"]
        assert age_s == pytest.approx(now_s() - read_s, abs=1.0)

    @pytest.mark.parametrize("step_s", [-432_000.0, 432_000.0])
    async def test_jump_of_the_wall_clock_is_scraped_at_once(
        self, exporter: Exporter, step_s: float
    ) -> None:
        async def scraped() -> float:
            text = (await exporter.client.get("/metrics")).text
            name = 'bms_last_poll_success_timestamp_seconds{battery="camper"} '
            (line,) = (line for line in text.splitlines() if line.startswith(name))
            return float(line.removeprefix(name))

        first = await scraped()
        await asyncio.sleep(3.0)
        exporter.wall_time.ahead_s += 0.4
        drifted = await scraped()
        exporter.wall_time.ahead_s += step_s
        stepped = await scraped()

        assert drifted == first
        assert stepped == pytest.approx(first + step_s, abs=1.0)
        assert exporter.connects == 1

    async def test_request_for_the_state_counts_as_no_scrape(self, exporter: Exporter) -> None:
        await exporter.pollers["camper"].refresh()
        before = exporter.pollers["camper"].peek(0.0).served

        await exporter.state()

        assert exporter.pollers["camper"].peek(0.0).served == before


class TestForecast:
    async def test_time_to_full_is_null_at_100_percent(self, tasks: asyncio.TaskGroup) -> None:
        exporter = Exporter(tasks)
        exporter.virtual["camper"].answers = answering({0x03: FULL})
        await exporter.pollers["camper"].refresh()

        reading = (await exporter.state())["reading"]

        assert (reading["remaining_ah"], reading["nominal_ah"]) == (260.0, 280.0)
        assert (reading["rsoc_ratio"], reading["current_a"]) == (1.0, 2.0)
        assert reading["time_to_full_s"] is None

    async def test_forecast_has_the_time_of_the_clock(self, exporter: Exporter) -> None:
        poller = exporter.pollers["camper"]
        snapshot = await poller.refresh()
        basic = replace(snapshot.reading.basic, remaining_ah=50.0, current_a=-8.0)
        snapshot = replace(
            snapshot,
            reading=replace(snapshot.reading, basic=basic),
            mean_current_a=-10.0,
            last_success_unix_s=1_795_391_224.5,
        )

        sent = api.battery(snapshot)["reading"]

        assert (sent["time_to_empty_s"], sent["time_to_full_s"]) == (18000.0, None)
        assert (sent["empty_unix_s"], sent["full_unix_s"]) == (1_795_409_224.5, None)


class TestHistory:
    def test_history_is_bounded_in_time_and_memory(self) -> None:
        end_s = 2 * HOURS * 3600.0
        history = History(WallClock(lambda: end_s, lambda: end_s + 1_795_391_224.5))
        for second in range(0, 2 * HOURS * 3600, 30):
            history.add(Sample(float(second), 100.0, 0.0))

        curve = history.curve()
        assert len(curve) == LENGTH
        assert curve[0][0] >= HOURS * 3600 + 1_795_391_224.5

    @pytest.mark.parametrize("step_s", [-432_000.0, -2.0, 2.0, 432_000.0])
    async def test_jump_of_the_wall_clock_keeps_the_whole_curve(
        self, exporter: Exporter, step_s: float
    ) -> None:
        for _ in range(30):
            await exporter.client.get("/metrics")
            await asyncio.sleep(SPACING_S)
        before = (await exporter.client.get("/api/v1/history")).json()["batteries"][0]["samples"]

        exporter.wall_time.ahead_s += step_s
        await exporter.client.get("/metrics")
        sent = (await exporter.client.get("/api/v1/history")).json()

        after = sent["batteries"][0]["samples"]
        assert len(before) == 30
        assert len(after) == 31
        assert [at_s - step_s for at_s, _, _ in after[:30]] == pytest.approx(
            [at_s for at_s, _, _ in before]
        )
        assert sent["now_unix_s"] == pytest.approx(exporter.wall_time())
        assert after[-1][0] == pytest.approx(exporter.wall_time(), abs=5.0)

    async def test_history_response_has_the_current_time(self, exporter: Exporter) -> None:
        await exporter.client.get("/metrics")
        first = (await exporter.client.get("/api/v1/history")).json()
        await asyncio.sleep(60.0)

        second = (await exporter.client.get("/api/v1/history")).json()

        assert second["now_unix_s"] == pytest.approx(first["now_unix_s"] + 60.0)
        assert second["batteries"] == first["batteries"]

    async def test_history_drops_old_samples_without_new_ones(self, exporter: Exporter) -> None:
        await exporter.client.get("/metrics")
        await asyncio.sleep(HOURS * 3600 - 10.0)
        young = (await exporter.client.get("/api/v1/history")).json()
        await asyncio.sleep(20.0)

        old = (await exporter.client.get("/api/v1/history")).json()

        assert len(young["batteries"][0]["samples"]) == 1
        assert old["batteries"][0] == {"name": "camper", "samples": []}

    async def test_scrapes_add_samples_to_the_history(self, exporter: Exporter) -> None:
        await exporter.client.get("/metrics")

        sent = (await exporter.client.get("/api/v1/history")).json()["batteries"]

        assert [one["name"] for one in sent] == ["camper", "my trailer"]
        ((_, remaining_ah, _),) = sent[0]["samples"]
        assert remaining_ah == 203.54


class TestStream:
    async def test_ten_open_pages_cause_one_poll_every_half_minute(
        self, exporter: Exporter
    ) -> None:
        async with asyncio.TaskGroup() as group:
            leave = asyncio.Event()

            async def open_until_left() -> None:
                async with open_page(exporter):
                    await leave.wait()

            for _ in range(10):
                group.create_task(open_until_left())
            await asyncio.sleep(10 * INTERVAL_S - 1.0)
            leave.set()

        assert exporter.connects == 10

    async def test_closed_page_causes_no_polls(self, exporter: Exporter) -> None:
        async with open_page(exporter):
            await asyncio.sleep(5.0)
        await asyncio.sleep(600.0)

        assert exporter.connects == 1

    async def test_page_that_is_reloaded_often_causes_no_extra_polls(
        self, exporter: Exporter
    ) -> None:
        for _ in range(30):
            async with open_page(exporter):
                await asyncio.sleep(2.0)

        assert exporter.connects == 2

    async def test_prometheus_and_the_page_share_a_poll(self, exporter: Exporter) -> None:
        async with open_page(exporter):
            await exporter.client.get("/metrics")

        assert exporter.connects == 1

    async def test_stream_sends_everything_first_and_then_changes(self, exporter: Exporter) -> None:
        async with open_page(exporter) as page:
            await asyncio.sleep(0.0)
            await asyncio.sleep(0.0)
            await asyncio.sleep(8.0)

        assert page.names()[0] == "batteries"
        sent = [event["battery"] for name, event in page.events if name == "battery"]
        mine = [one for one in sent if one["name"] == "camper"]
        assert mine[0]["polling"]
        assert mine[-1]["reading"]["remaining_ah"] == 203.54

    async def test_stream_without_changes_sends_a_sign_of_life(self, exporter: Exporter) -> None:
        async with open_page(exporter) as page:
            await asyncio.sleep(8.0)
            before = len(page.events)
            await asyncio.sleep(ALIVE_S + 2.0)

        assert page.names()[before:] == ["alive"]

    async def test_stream_sends_everything_when_the_batteries_change(
        self, exporter: Exporter
    ) -> None:
        async with open_page(exporter) as page:
            await asyncio.sleep(8.0)
            del exporter.pollers["my trailer"]
            exporter.subscribers.publish(None)
            await asyncio.sleep(0.1)

        name, state = page.events[-1]
        assert name == "batteries"
        assert [one["name"] for one in state["batteries"]] == ["camper"]

    async def test_stop_of_the_exporter_ends_the_stream(self, exporter: Exporter) -> None:
        async with open_page(exporter) as page:
            await asyncio.sleep(1.0)
            exporter.subscribers.close()
            await asyncio.sleep(0.1)

            assert page.ended

    async def test_too_many_streams_are_refused_with_503(self, exporter: Exporter) -> None:
        def ask() -> Awaitable[httpx.Response]:
            return exporter.client.get("/api/v1/stream")

        with ExitStack() as stack:
            for _ in range(MAX_STREAMS_EACH):
                stack.enter_context(exporter.subscribers.subscribe("127.0.0.1"))
            assert (await ask()).status_code == 503
        with ExitStack() as stack:
            for number in range(MAX_STREAMS):
                stack.enter_context(exporter.subscribers.subscribe(f"192.0.2.{number}"))
            assert (await ask()).status_code == 503

    async def test_stream_ends_after_its_lifetime(self, exporter: Exporter) -> None:
        async with open_page(exporter) as page:
            await asyncio.sleep(LIFE_S - ALIVE_S)
            assert not page.ended
            await asyncio.sleep(2 * ALIVE_S)
            assert page.ended

    async def test_change_is_encoded_once_for_all_streams(self, exporter: Exporter) -> None:
        async with open_page(exporter) as first, open_page(exporter) as second:
            await asyncio.sleep(8.0)

        changes = [event for event in first.events if event[0] == "battery"]
        assert changes
        assert changes == [event for event in second.events if event[0] == "battery"]

    async def test_event_has_the_time_at_which_it_is_sent(self, exporter: Exporter) -> None:
        async with open_page(exporter) as page:
            await asyncio.sleep(8.0)
            exporter.subscribers.publish("camper")
            await asyncio.sleep(9.0)
            exporter.subscribers.publish("camper")
            await asyncio.sleep(0.1)

        times = [event["now_unix_s"] for name, event in page.events if name == "battery"]
        assert times[-1] - times[-2] == pytest.approx(9.0)

    async def test_head_request_for_the_stream_causes_no_poll(self, exporter: Exporter) -> None:
        async with open_page(exporter, "HEAD") as page:
            await asyncio.sleep(5.0)
            assert page.ended

        assert page.events == []
        assert exporter.connects == 0


class TestRelease:
    async def test_released_battery_is_not_polled_for_ten_minutes(self, exporter: Exporter) -> None:
        answer = await exporter.client.post("/api/v1/release?battery=my%20trailer")
        metrics = (await exporter.client.get("/metrics")).text
        await asyncio.sleep(RELEASE_S - 10.0)
        await exporter.client.get("/metrics")
        released = exporter.virtual["my trailer"].connects
        await asyncio.sleep(10.0)
        await exporter.client.get("/metrics")

        assert answer.json()["paused_until_unix_s"] is not None
        assert 'bms_paused{battery="my trailer"} 1.0' in metrics
        assert 'bms_paused{battery="camper"} 0.0' in metrics
        assert released == 0
        assert exporter.virtual["my trailer"].connects == 1

    async def test_release_of_a_battery_that_a_reload_removes_is_no_error(
        self, exporter: Exporter
    ) -> None:
        async with open_page(exporter):
            await asyncio.sleep(1.0)
            releasing = asyncio.create_task(
                exporter.client.post("/api/v1/release?battery=my%20trailer")
            )
            await asyncio.sleep(0.0)
            await asyncio.sleep(0.0)
            del exporter.pollers["my trailer"]

            assert (await releasing).status_code in (200, 404)

    async def test_released_battery_can_be_resumed(self, exporter: Exporter) -> None:
        await exporter.client.post("/api/v1/release?battery=camper")

        answer = await exporter.client.post("/api/v1/resume?battery=camper")

        assert answer.json()["paused_until_unix_s"] is None
        await exporter.client.get("/metrics")
        assert exporter.connects == 1

    async def test_release_and_resume_are_logged(
        self, exporter: Exporter, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO", "exporter.web")

        for action in ("release", "resume", "release"):
            await exporter.client.post(f"/api/v1/{action}?battery=camper")

        logged = [(one.getMessage(), vars(one)["battery"]) for one in caplog.records]
        assert logged == [(f"battery {done}", "camper") for done in ("released", "resumed")] + [
            ("battery released", "camper")
        ]
        assert not any("user" in vars(one) for one in caplog.records)

    async def test_release_is_logged_with_its_user(
        self, tasks: asyncio.TaskGroup, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO", "exporter.web")
        config = WebConfig(users=(("jo", bcrypt.hashpw(b"x", bcrypt.gensalt(4)).decode()),))
        access = Access(lambda: config)
        subscribers = Exporter(tasks).subscribers
        client = make_client(
            make_app(batteries=subscribers.batteries, subscribers=subscribers, access=access)
        )

        answer = await client.post("/api/v1/release?battery=camper", auth=("jo", "x"))
        access.close()
        subscribers.close()

        assert answer.status_code == 200
        (record,) = caplog.records
        assert (vars(record)["battery"], vars(record)["user"]) == ("camper", "jo")

    @pytest.mark.parametrize("path", ["/api/v1/release", "/api/v1/resume"])
    async def test_release_needs_a_post_of_our_own_page_for_a_configured_battery(
        self, exporter: Exporter, path: str
    ) -> None:
        foreign = {"Origin": "http://evil.example"}
        ours = f"{path}?battery=camper"

        for method in ("GET", "PUT"):
            assert (await exporter.client.request(method, ours)).status_code == 405
        assert (await exporter.client.post(ours, headers=foreign)).status_code == 403
        assert (await exporter.client.post(f"{path}?battery=neighbour")).status_code == 404
        missing = await exporter.client.post(path)
        assert missing.status_code == 400
        assert missing.json()["error"].startswith(f"Name one battery: {path}?battery=NAME ")
        assert not (await exporter.state())["paused_until_unix_s"]


class TestFailures:
    async def test_failed_polls_of_a_battery_are_served_as_recordings(
        self, exporter: Exporter
    ) -> None:
        before = await exporter.client.get("/api/v1/batteries/my%20trailer/failures")
        exporter.virtual["my trailer"].faults = Faults(silent=True)
        await exporter.pollers["my trailer"].refresh()
        await exporter.pollers["my trailer"].close()

        answer = await exporter.client.get("/api/v1/batteries/my%20trailer/failures")
        other = await exporter.client.get("/api/v1/batteries/camper/failures")

        assert (before.status_code, before.text) == (200, "")
        assert answer.headers["Content-Type"] == "application/x-ndjson"
        lines = [json.loads(line) for line in answer.text.splitlines()]
        assert lines[0]["record"] == 1
        assert lines[-1]["result"]["error"] == "ReplyTimeoutError"
        assert other.text == ""

    @pytest.mark.parametrize("name", ["garage", "", "camper/failures"])
    async def test_unknown_battery_is_not_found(self, name: str, exporter: Exporter) -> None:
        answer = await exporter.client.get(f"/api/v1/batteries/{name}/failures")

        assert answer.status_code == 404
        assert "camper" in answer.json()["error"] or "/api/v1" in answer.json()["error"]

    async def test_head_has_the_headers_of_get_and_no_body(self, exporter: Exporter) -> None:
        exporter.virtual["camper"].faults = Faults(silent=True)
        await exporter.pollers["camper"].refresh()
        await exporter.pollers["camper"].close()
        path = "/api/v1/batteries/camper/failures"

        head, get = await exporter.client.head(path), await exporter.client.get(path)

        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["Content-Type"] == "application/x-ndjson"
        assert head.headers["Cache-Control"] == "no-store"
        assert head.headers["Content-Length"] == get.headers["Content-Length"] != "0"

    @pytest.mark.parametrize("name", ["c%61mper", "%63%61%6D%70%65%72"])
    async def test_percent_encoded_name_is_the_same_battery(
        self, name: str, exporter: Exporter
    ) -> None:
        answer = await exporter.client.get(f"/api/v1/batteries/{name}/failures")

        assert answer.status_code == 200

    @pytest.mark.parametrize(
        "name", ["%2563amper", "camper%00", "camper%0d%0aX-Evil:1", "%ff%fe", "..%2fcamper", "%"]
    )
    async def test_odd_name_is_not_found(self, name: str, exporter: Exporter) -> None:
        answer = await exporter.client.get(f"/api/v1/batteries/{name}/failures")

        assert answer.status_code == 404
        assert answer.json().keys() == {"error"}
        assert "x-evil" not in answer.headers

    async def test_removed_battery_has_no_failures_and_a_renamed_one_its_new_name(
        self, exporter: Exporter
    ) -> None:
        exporter.virtual["camper"].faults = Faults(silent=True)
        await exporter.pollers["camper"].refresh()
        await exporter.pollers["camper"].close()

        exporter.pollers["van"] = exporter.pollers.pop("camper")  # as a reload does
        old = await exporter.client.get("/api/v1/batteries/camper/failures")
        new = await exporter.client.get("/api/v1/batteries/van/failures")

        assert (old.status_code, new.status_code) == (404, 200)
        assert '"record"' not in old.text
        assert new.text.count('"record"') == 1

    async def test_other_origins_get_no_permission_to_read_failures(
        self, exporter: Exporter
    ) -> None:
        path = "/api/v1/batteries/camper/failures"
        foreign = {"Origin": "http://evil.example"}

        answer = await exporter.client.get(path, headers=foreign)
        preflight = await exporter.client.options(path, headers=foreign)

        assert preflight.status_code == 405
        for one in (answer, preflight):
            assert not [name for name in one.headers if name.startswith("access-control")]

    async def test_failures_are_only_read(self, exporter: Exporter) -> None:
        answer = await exporter.client.post("/api/v1/batteries/camper/failures")

        assert answer.status_code == 405

    async def test_failures_need_a_user_where_there_are_users(self) -> None:
        config = WebConfig(users=(("jo", bcrypt.hashpw(b"x", bcrypt.gensalt(4)).decode()),))
        access = Access(lambda: config)
        poller: Any = object()
        subscribers: Any = SimpleNamespace(batteries={"camper": poller})
        client = make_client(make_app(batteries={}, subscribers=subscribers, access=access))

        answer = await client.get("/api/v1/batteries/camper/failures")
        access.close()

        assert answer.status_code == 401


class TestFiles:
    async def test_page_has_a_strict_content_security_policy(self, exporter: Exporter) -> None:
        answer = await exporter.client.get("/")

        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert "unsafe" not in policy
        assert exporter.connects == 0

    async def test_unchanged_page_file_is_answered_with_304(self, exporter: Exporter) -> None:
        first = await exporter.client.get("/")

        again = await exporter.client.get("/", headers={"If-None-Match": first.headers["etag"]})

        assert (again.status_code, again.content) == (304, b"")

    async def test_all_page_files_are_served_and_small(self, exporter: Exporter) -> None:
        sizes = {}
        for path, route in exporter.app._routes.items():
            if path.startswith("/page/"):
                answer = await exporter.client.get(path)
                assert answer.status_code == 200, route
                sizes[path] = len(answer.content)

        assert len(sizes) >= sum(
            1 for one in (files("exporter.web") / "page").iterdir() if one.is_file()
        )
        assert sum(size for path, size in sizes.items() if not path.endswith(".png")) < 100_000

    @pytest.mark.parametrize("path", ["/page/../config.py", "/page/", "/page/%2e%2e/api_json.py"])
    async def test_other_files_than_those_of_the_page_are_404(
        self, exporter: Exporter, path: str
    ) -> None:
        assert (await exporter.client.get(path)).status_code == 404


def test_json_numbers_are_rounded_and_never_nan() -> None:
    assert api.to_json({"a": [0.1 + 0.2, (1.0,)], "b": None}) == b'{"a": [0.3, [1.0]], "b": null}'
    with pytest.raises(ValueError, match="Out of range"):
        api.to_json({"a": float("nan")})


async def test_the_clock_of_these_tests_is_virtual() -> None:
    began_s = now_s()
    await asyncio.sleep(3600.0)
    assert now_s() - began_s == 3600.0
