"""The HTTP surface, asked as Prometheus and people ask it."""

import asyncio
import gzip
import re
import zlib
from unittest.mock import Mock

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from tornado.httputil import HTTPHeaders

from exporter.config.schema import PollConfig, Seconds
from exporter.demo.battery import Faults, VirtualBattery
from exporter.demo.radio import make_air
from exporter.metrics import ExporterCollector
from exporter.web.app import make_app
from exporter.web.exposition import Exposition, Template
from exporter.web.subscribers import Subscribers
from tests.support.http_client import begin, client_of
from tests.support.virtual import battery, make_poller, make_routes, now_s

SECOND = "A4:C1:38:00:00:02"
OPENMETRICS = "application/openmetrics-text;version=1.0.0"
TIMEOUT = "X-Prometheus-Scrape-Timeout-Seconds"


class House:
    """Two batteries behind the whole exporter, and a client in front of it."""

    def __init__(
        self,
        tasks: asyncio.TaskGroup,
        *,
        telemetry_path: str = "/metrics",
        poll: PollConfig | None = None,
    ) -> None:
        self.camper: VirtualBattery = battery()
        self.trailer: VirtualBattery = battery(SECOND)
        routes = make_routes(make_air([self.camper, self.trailer]))
        batteries = {
            "camper": make_poller(routes, tasks, poll=poll),
            "my trailer": make_poller(routes, tasks, name="my trailer", address=SECOND, poll=poll),
        }
        self.app = make_app(
            batteries=batteries,
            subscribers=Subscribers(batteries, tasks),
            own=ExporterCollector(),
            timeout_offset_s=0.5,
            telemetry_path=telemetry_path,
        )
        self.client = client_of(self.app)

    @property
    def exposition(self) -> Exposition:
        exposition = self.app._routes["/probe"][1]["exposition"]
        assert isinstance(exposition, Exposition)
        return exposition

    async def let_the_trailer_age(self) -> None:
        """Return when it has to be read, slowly and in vain; the camper is fresh for 2 s yet."""
        await self.get("/probe?target=my%20trailer")
        await asyncio.sleep(4.0)
        await self.get("/probe?target=camper")
        self.trailer.faults = Faults(silent=True)
        await asyncio.sleep(8.0)

    async def get(self, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
        return await self.client.get(path, headers=headers)


def found(text: str, name: str) -> str:
    """Return the camper's counter of readings that were given to scrapes."""
    match = re.search(rf'^bms_readings_{name}_total{{battery="camper"}} (\S+)$', text, re.MULTILINE)
    assert match is not None
    return match[1]


def count_renderings(monkeypatch: pytest.MonkeyPatch) -> Mock:
    """Count how often prometheus_client renders."""
    rendering = Mock(wraps=Template.render)
    monkeypatch.setattr(Template, "render", rendering)
    return rendering


@pytest.fixture
async def house(tasks: asyncio.TaskGroup) -> House:
    return House(tasks)


class TestMetrics:
    async def test_all_batteries_and_the_exporter_are_shown(self, house: House) -> None:
        response = await house.get("/metrics")

        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert 'bms_remaining_capacity_amperehours{battery="camper"} 203.54' in response.text
        assert 'bms_remaining_capacity_amperehours{battery="my trailer"} 203.54' in response.text
        assert "bms_exporter_build_info" in response.text

    async def test_openmetrics_is_given_to_who_asks_for_it(self, house: House) -> None:
        response = await house.get("/metrics", {"Accept": OPENMETRICS})

        families = [family.name for family in text_string_to_metric_families(response.text)]
        assert "bms_remaining_capacity_amperehours" in families

    async def test_gzip_is_given_to_who_asks_for_it(self, house: House) -> None:
        async with house.client.stream(
            "GET", "/metrics", headers={"Accept-Encoding": "gzip"}
        ) as response:
            raw = b"".join([chunk async for chunk in response.aiter_raw()])

        assert b"bms_up" in gzip.decompress(raw)

    async def test_each_gzipped_answer_is_one_stream_with_counters_of_its_own(
        self, house: House
    ) -> None:
        texts = []
        for _ in range(3):
            async with house.client.stream(
                "GET", "/metrics", headers={"Accept-Encoding": "gzip"}
            ) as response:
                stream = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
                texts.append(stream.decompress(await anext(response.aiter_raw())).decode())
            assert stream.eof
            assert stream.unused_data == b""

        assert [text.count("# TYPE bms_up ") for text in texts] == [1, 1, 1]
        for served, text in enumerate(texts, start=1):
            assert f'bms_readings_served_total{{battery="camper"}} {served}.0\n' in text

    async def test_scrapes_of_one_poll_share_a_template(
        self, house: House, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rendering = count_renderings(monkeypatch)

        answers = await asyncio.gather(*(house.get("/metrics") for _ in range(50)))

        for answer in answers:
            assert "bms_remaining_capacity_amperehours{" in answer.text
        assert rendering.call_count == 1

    async def test_counters_do_not_decrease_between_overlapping_scrapes(self, house: House) -> None:
        await house.let_the_trailer_age()

        patient = asyncio.create_task(house.get("/metrics", {TIMEOUT: "20"}))
        await asyncio.sleep(0.5)
        first = await house.get("/metrics", {TIMEOUT: "2"})
        second = await house.get("/metrics", {TIMEOUT: "20"})

        answers = [first, second, await patient]
        served = [float(found(answer.text, "served")) for answer in answers]
        coalesced = [float(found(answer.text, "coalesced")) for answer in answers]
        assert served[0] < min(served[1:])
        assert coalesced[0] <= min(coalesced[1:])

    async def test_a_reading_that_became_too_old_beside_a_slow_battery_is_not_shown(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        poll = PollConfig(min_interval_s=Seconds(10.0), max_age_s=Seconds(11.0))
        house = House(tasks, poll=poll)
        await house.let_the_trailer_age()

        young = await house.get("/probe?target=camper")
        answer = await house.get("/metrics")

        assert "bms_voltage_volts{" in young.text
        assert "bms_voltage_volts{" not in answer.text
        assert 'bms_up{battery="camper"} 1.0' in answer.text

    async def test_new_readings_use_the_same_template(
        self, house: House, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        paths = ["/probe?target=camper", "/probe?target=my%20trailer", "/metrics"]
        for path in paths:
            await house.get(path)
        rendering = count_renderings(monkeypatch)
        for number in range(5):
            await asyncio.sleep(11.0)
            for path in paths:
                answer = await house.get(f"{path}{'&' if '?' in path else '?'}n={number}")

        assert 'bms_polls_total{battery="camper"} 6.0' in answer.text
        assert rendering.call_count == 0
        assert len(house.exposition._templates) == len(paths)  # the bound of memory is the promise

    @pytest.mark.parametrize("refusal", ["gzip;q=0", "br, gzip; q=0.0", "GZIP;q=0, br"])
    async def test_gzip_is_not_given_to_who_refuses_it(self, house: House, refusal: str) -> None:
        response = await house.get("/metrics", {"Accept-Encoding": refusal})

        assert "content-encoding" not in response.headers
        assert "bms_up" in response.text

    async def test_names_filter(self, house: House) -> None:
        response = await house.get("/metrics?name[]=bms_up&name[]=bms_polls_total")

        samples = [line for line in response.text.splitlines() if not line.startswith("#")]
        assert len(samples) == 4
        assert all(line.startswith(("bms_up", "bms_polls_total")) for line in samples)

    @pytest.mark.parametrize("accept", ["", OPENMETRICS])
    async def test_names_that_differ_every_time_cost_no_rendering(
        self, house: House, monkeypatch: pytest.MonkeyPatch, accept: str
    ) -> None:
        whole = (await house.get("/metrics", {"Accept": accept})).text
        rendering = count_renderings(monkeypatch)
        for number in range(10):
            path = f"/metrics?name[]=bms_polls_total&name[]=bms_up&name[]={number}"
            some = (await house.get(path, {"Accept": accept})).text

        assert rendering.call_count == 0
        assert [line for line in some.splitlines() if "bms_up" in line] == [
            line for line in whole.splitlines() if "bms_up" in line
        ]
        assert whole.endswith("# EOF\n") == some.endswith("# EOF\n")

    async def test_invented_versions_cost_no_rendering(
        self, house: House, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await house.get("/metrics")
        rendering = count_renderings(monkeypatch)
        for number in range(2, 12):
            accept = f"application/openmetrics-text; version={number}.0.0"
            response = await house.get("/metrics", {"Accept": accept})

        assert rendering.call_count == 0
        assert response.headers["content-type"].startswith("text/plain; version=0.0.4")

    async def test_head_is_answered_too(self, house: House) -> None:
        assert (await house.client.head("/metrics")).status_code == 200

    @pytest.mark.parametrize(
        "headers",
        [
            pytest.param({"Accept": "application/openmetrics-text; version=x"}, id="version"),
            pytest.param({"Accept": ";;,=,"}, id="nothing sensible"),
            pytest.param({"Accept-Encoding": "\xff;q=x"}, id="encoding"),
        ],
    )
    async def test_a_malformed_header_costs_the_format_not_the_scrape(
        self, house: House, headers: dict[str, str]
    ) -> None:
        latin = {name: value.encode("latin-1") for name, value in headers.items()}

        response = await house.client.get("/metrics", headers=latin)  # type: ignore[arg-type]

        assert response.status_code == 200
        assert "bms_up" in response.text

    async def test_another_path_can_be_chosen(self, tasks: asyncio.TaskGroup) -> None:
        house = House(tasks, telemetry_path="/batteries")

        assert "bms_up" in (await house.get("/batteries")).text
        assert (await house.get("/metrics")).status_code == 404


class TestTimeout:
    @pytest.mark.parametrize(
        ("value", "expected_s"),
        [
            pytest.param("3", 2.5, id="less half a second for the way"),
            pytest.param("10.000000", 9.5, id="as Prometheus writes it"),
            pytest.param("0.2", 0.0, id="never below zero"),
            pytest.param("nan", None, id="nonsense is none"),
            pytest.param("inf", None, id="so is for ever"),
            pytest.param("-1", None, id="so is the past"),
            pytest.param("0", None, id="so is nothing"),
            pytest.param("soon", None, id="so is a word"),
            pytest.param(None, None, id="so is silence"),
        ],
    )
    async def test_a_poll_is_waited_for_as_long_as_the_scrape_allows(
        self, value: str | None, expected_s: float | None
    ) -> None:
        waited: list[float | None] = []

        class Slow:
            is_fresh = False

            async def refresh(self, *, timeout_s: float | None) -> object:
                waited.append(timeout_s)
                raise asyncio.CancelledError

        client = client_of(make_app(batteries={"camper": Slow()}))  # type: ignore[dict-item]
        for path in ("/metrics", "/probe?target=camper"):
            await client.get(path, headers={} if value is None else {TIMEOUT: value})

        assert waited == [pytest.approx(expected_s)] * 2

    async def test_a_scrape_of_3_s_against_a_slower_poll_gets_up_and_counters_in_time(
        self, house: House
    ) -> None:
        house.camper.faults = Faults(lose_first=14)
        house.trailer.faults = Faults(lose_first=12)
        began_s = now_s()

        first = await house.get("/metrics", {TIMEOUT: "3"})
        answered_s = now_s() - began_s
        await asyncio.sleep(10.0)
        second = await house.get("/metrics", {TIMEOUT: "3"})

        assert answered_s == pytest.approx(2.5)
        assert 'bms_up{battery="camper"}' not in first.text
        assert 'bms_polls_total{battery="camper"} 0.0' in first.text
        assert "bms_remaining_capacity_amperehours{" not in first.text
        assert 'bms_poll_failures_total{battery="camper",reason="timeout"} 1.0' in second.text
        assert 'bms_remaining_capacity_amperehours{battery="my trailer"} 203.54' in second.text


class TestClientsThatLeave:
    @pytest.mark.parametrize("path", ["/metrics", "/probe?target=camper"])
    async def test_scrapes_of_clients_that_left_end_and_the_poll_goes_on(
        self, house: House, path: str
    ) -> None:
        before = len(asyncio.all_tasks())
        for _ in range(100):
            connection, delegate, _ = begin(house.app, "GET", path, HTTPHeaders({"Host": "camper"}))
            delegate.finish()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            connection.close()
        await asyncio.sleep(0.01)

        assert len(asyncio.all_tasks()) - before <= 2 + 8  # the polls, with what they wait for
        assert "bms_voltage_volts{" in (await house.get("/probe?target=camper")).text
        assert house.camper.connects == 1


class TestProbe:
    async def test_one_battery_without_the_exporters_own_metrics(self, house: House) -> None:
        response = await house.get("/probe?target=my%20trailer")

        assert response.status_code == 200
        assert 'bms_up{battery="my trailer"} 1.0' in response.text
        assert "camper" not in response.text
        assert "process_" not in response.text
        assert "bms_exporter" not in response.text
        assert house.camper.connects == 0

    @pytest.mark.parametrize(
        ("path", "status"),
        [
            ("/probe?target=boat", 404),
            ("/probe?target=A4:C1:38:00:00:01", 404),
            ("/probe", 400),
            ("/probe?target=", 400),
            ("/probe?target=camper&target=boat", 400),
        ],
    )
    async def test_anything_else_is_refused_with_the_names_that_work(
        self, house: House, path: str, status: int
    ) -> None:
        response = await house.get(path)

        assert response.status_code == status
        assert "camper, my trailer" in response.text
        assert house.camper.connects == 0


class TestOtherPaths:
    @pytest.mark.parametrize("path", ["/-/healthy", "/-/ready"])
    async def test_health_costs_no_radio_time(self, house: House, path: str) -> None:
        assert (await house.get(path)).status_code == 200
        assert house.camper.connects == 0

    async def test_an_unknown_path_is_404_and_names_the_known_ones(self, house: House) -> None:
        response = await house.get("/metric")

        assert response.status_code == 404
        assert "/metrics" in response.text

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
    @pytest.mark.parametrize("path", ["/metrics", "/probe?target=camper", "/", "/-/healthy"])
    async def test_nothing_can_be_changed(self, house: House, method: str, path: str) -> None:
        response = await house.client.request(method, path)

        assert response.status_code == 405
        assert response.headers["allow"] == "GET, HEAD"
        assert "Use GET" in response.text
        assert house.camper.connects == 0


class TestManyScrapers:
    async def test_a_thousand_at_once_cost_one_poll_and_get_the_same_values(
        self, house: House
    ) -> None:
        house.camper.faults = Faults(lose_first=3)

        responses = await asyncio.gather(*(house.get("/probe?target=camper") for _ in range(1000)))

        assert house.camper.connects == 1
        lines = {
            line
            for response in responses
            for line in response.text.splitlines()
            if line.startswith("bms_remaining_capacity_amperehours{")
        }
        assert lines == {'bms_remaining_capacity_amperehours{battery="camper"} 203.54'}

    async def test_a_battery_that_is_gone_leaves_the_other_untouched(self, house: House) -> None:
        await house.get("/metrics")
        house.camper.faults = Faults(gone=True)
        await asyncio.sleep(121.0)

        response = await house.get("/metrics")

        assert 'bms_up{battery="camper"} 0.0' in response.text
        assert 'bms_voltage_volts{battery="camper"}' not in response.text
        assert 'bms_poll_failures_total{battery="camper",reason="not_found"} 1.0' in response.text
        assert 'bms_voltage_volts{battery="my trailer"} 13.21' in response.text


class TestReload:
    @pytest.fixture
    def problems(self) -> list[str]:
        return []

    @pytest.fixture
    def client(self, problems: list[str]) -> httpx.AsyncClient:
        async def reload() -> list[str]:
            return problems

        return client_of(make_app(batteries={}, reload=reload))

    @pytest.mark.parametrize("method", ["POST", "PUT"])
    async def test_it_is_asked_for_by_post(self, method: str, client: httpx.AsyncClient) -> None:
        response = await client.request(method, "/-/reload")

        assert (response.status_code, response.text) == (200, "The configuration was reloaded.\n")

    async def test_a_link_reloads_nothing(self, client: httpx.AsyncClient) -> None:
        response = await client.get("/-/reload")

        assert response.status_code == 405
        assert response.headers["allow"] == "POST, PUT"

    async def test_what_is_wrong_with_the_file_is_said(
        self, client: httpx.AsyncClient, problems: list[str]
    ) -> None:
        problems += ["config.yaml:3: batteries[0].address: missing"]

        response = await client.post("/-/reload")

        assert response.status_code == 500
        assert "The old configuration stays" in response.text
        assert problems[0] in response.text

    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            ({"Origin": "http://evil.example"}, 403),
            ({"Origin": "null"}, 403),
            ({"Sec-Fetch-Site": "cross-site"}, 403),
            ({"Origin": "http://camper:12200", "Sec-Fetch-Site": "same-origin"}, 403),
            ({"Sec-Fetch-Site": "none"}, 200),
        ],
    )
    async def test_a_foreign_web_page_cannot(
        self, headers: dict[str, str], status: int, client: httpx.AsyncClient
    ) -> None:
        assert (await client.post("/-/reload", headers=headers)).status_code == status

    async def test_without_a_configuration_there_is_nothing_to_reload(self, house: House) -> None:
        assert (await house.client.post("/-/reload")).status_code == 404
