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
from tests.support.http_client import make_client, send_head
from tests.support.virtual import battery, make_poller, make_routes, now_s

SECOND = "A4:C1:38:00:00:02"
OPENMETRICS = "application/openmetrics-text;version=1.0.0"
TIMEOUT = "X-Prometheus-Scrape-Timeout-Seconds"


class Exporter:
    """The application with two virtual batteries, and a client of it."""

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
        self.client = make_client(self.app)

    @property
    def exposition(self) -> Exposition:
        exposition = self.app._routes["/probe"][1]["exposition"]
        assert isinstance(exposition, Exposition)
        return exposition

    async def let_the_trailer_age(self) -> None:
        """Return when the silent trailer is due, and the camper stays fresh for 2 s more."""
        await self.get("/probe?target=my%20trailer")
        await asyncio.sleep(4.0)
        await self.get("/probe?target=camper")
        self.trailer.faults = Faults(silent=True)
        await asyncio.sleep(8.0)

    async def get(self, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
        return await self.client.get(path, headers=headers)


def readings_counter(text: str, name: str) -> str:
    """Return how many readings of the camper scrapes got, by kind of reading."""
    match = re.search(rf'^bms_readings_{name}_total{{battery="camper"}} (\S+)$', text, re.MULTILINE)
    assert match is not None
    return match[1]


def count_renderings(monkeypatch: pytest.MonkeyPatch) -> Mock:
    """Return a mock that counts how often prometheus_client renders."""
    rendering = Mock(wraps=Template.render)
    monkeypatch.setattr(Template, "render", rendering)
    return rendering


@pytest.fixture
async def exporter(tasks: asyncio.TaskGroup) -> Exporter:
    return Exporter(tasks)


class TestMetrics:
    async def test_metrics_show_all_batteries_and_the_exporter(self, exporter: Exporter) -> None:
        response = await exporter.get("/metrics")

        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert 'bms_remaining_capacity_amperehours{battery="camper"} 203.54' in response.text
        assert 'bms_remaining_capacity_amperehours{battery="my trailer"} 203.54' in response.text
        assert "bms_exporter_build_info" in response.text

    async def test_openmetrics_is_sent_when_accepted(self, exporter: Exporter) -> None:
        response = await exporter.get("/metrics", {"Accept": OPENMETRICS})

        families = [family.name for family in text_string_to_metric_families(response.text)]
        assert "bms_remaining_capacity_amperehours" in families

    async def test_response_is_gzipped_when_accepted(self, exporter: Exporter) -> None:
        async with exporter.client.stream(
            "GET", "/metrics", headers={"Accept-Encoding": "gzip"}
        ) as response:
            raw = b"".join([chunk async for chunk in response.aiter_raw()])

        assert b"bms_up" in gzip.decompress(raw)

    async def test_each_gzipped_response_is_one_stream_with_its_own_counters(
        self, exporter: Exporter
    ) -> None:
        texts = []
        for _ in range(3):
            async with exporter.client.stream(
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
        self, exporter: Exporter, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rendering = count_renderings(monkeypatch)

        answers = await asyncio.gather(*(exporter.get("/metrics") for _ in range(50)))

        for answer in answers:
            assert "bms_remaining_capacity_amperehours{" in answer.text
        assert rendering.call_count == 1

    async def test_counters_do_not_decrease_between_overlapping_scrapes(
        self, exporter: Exporter
    ) -> None:
        await exporter.let_the_trailer_age()

        patient = asyncio.create_task(exporter.get("/metrics", {TIMEOUT: "20"}))
        await asyncio.sleep(0.5)
        first = await exporter.get("/metrics", {TIMEOUT: "2"})
        second = await exporter.get("/metrics", {TIMEOUT: "20"})

        answers = [first, second, await patient]
        served = [float(readings_counter(answer.text, "served")) for answer in answers]
        coalesced = [float(readings_counter(answer.text, "coalesced")) for answer in answers]
        assert served[0] < min(served[1:])
        assert coalesced[0] <= min(coalesced[1:])

    async def test_reading_that_expires_while_another_battery_is_read_is_not_shown(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        poll = PollConfig(min_interval_s=Seconds(10.0), max_age_s=Seconds(11.0))
        exporter = Exporter(tasks, poll=poll)
        await exporter.let_the_trailer_age()

        young = await exporter.get("/probe?target=camper")
        answer = await exporter.get("/metrics")

        assert "bms_voltage_volts{" in young.text
        assert "bms_voltage_volts{" not in answer.text
        assert 'bms_up{battery="camper"} 1.0' in answer.text

    async def test_new_readings_use_the_same_template(
        self, exporter: Exporter, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        paths = ["/probe?target=camper", "/probe?target=my%20trailer", "/metrics"]
        for path in paths:
            await exporter.get(path)
        rendering = count_renderings(monkeypatch)
        for number in range(5):
            await asyncio.sleep(11.0)
            for path in paths:
                answer = await exporter.get(f"{path}{'&' if '?' in path else '?'}n={number}")

        assert 'bms_polls_total{battery="camper"} 6.0' in answer.text
        assert rendering.call_count == 0
        assert len(exporter.exposition._templates) == len(
            paths
        )  # the bound of memory is the promise

    @pytest.mark.parametrize("refusal", ["gzip;q=0", "br, gzip; q=0.0", "GZIP;q=0, br"])
    async def test_response_is_not_gzipped_when_refused(
        self, exporter: Exporter, refusal: str
    ) -> None:
        response = await exporter.get("/metrics", {"Accept-Encoding": refusal})

        assert "content-encoding" not in response.headers
        assert "bms_up" in response.text

    async def test_name_parameter_chooses_metrics(self, exporter: Exporter) -> None:
        response = await exporter.get("/metrics?name[]=bms_up&name[]=bms_polls_total")

        samples = [line for line in response.text.splitlines() if not line.startswith("#")]
        assert len(samples) == 4
        assert all(line.startswith(("bms_up", "bms_polls_total")) for line in samples)

    @pytest.mark.parametrize("accept", ["", OPENMETRICS])
    async def test_new_name_parameters_cause_no_rendering(
        self, exporter: Exporter, monkeypatch: pytest.MonkeyPatch, accept: str
    ) -> None:
        whole = (await exporter.get("/metrics", {"Accept": accept})).text
        rendering = count_renderings(monkeypatch)
        for number in range(10):
            path = f"/metrics?name[]=bms_polls_total&name[]=bms_up&name[]={number}"
            some = (await exporter.get(path, {"Accept": accept})).text

        assert rendering.call_count == 0
        assert [line for line in some.splitlines() if "bms_up" in line] == [
            line for line in whole.splitlines() if "bms_up" in line
        ]
        assert whole.endswith("# EOF\n") == some.endswith("# EOF\n")

    async def test_invented_format_versions_cause_no_rendering(
        self, exporter: Exporter, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await exporter.get("/metrics")
        rendering = count_renderings(monkeypatch)
        for number in range(2, 12):
            accept = f"application/openmetrics-text; version={number}.0.0"
            response = await exporter.get("/metrics", {"Accept": accept})

        assert rendering.call_count == 0
        assert response.headers["content-type"].startswith("text/plain; version=0.0.4")

    async def test_head_request_for_metrics_is_answered(self, exporter: Exporter) -> None:
        assert (await exporter.client.head("/metrics")).status_code == 200

    @pytest.mark.parametrize(
        "headers",
        [
            pytest.param({"Accept": "application/openmetrics-text; version=x"}, id="version"),
            pytest.param({"Accept": ";;,=,"}, id="nothing sensible"),
            pytest.param({"Accept-Encoding": "\xff;q=x"}, id="encoding"),
        ],
    )
    async def test_malformed_accept_header_gets_plain_text(
        self, exporter: Exporter, headers: dict[str, str]
    ) -> None:
        latin = {name: value.encode("latin-1") for name, value in headers.items()}

        response = await exporter.client.get("/metrics", headers=latin)  # type: ignore[arg-type]

        assert response.status_code == 200
        assert "bms_up" in response.text

    async def test_metrics_path_can_be_configured(self, tasks: asyncio.TaskGroup) -> None:
        exporter = Exporter(tasks, telemetry_path="/batteries")

        assert "bms_up" in (await exporter.get("/batteries")).text
        assert (await exporter.get("/metrics")).status_code == 404


class TestTimeout:
    @pytest.mark.parametrize(
        ("value", "expected_s"),
        [
            pytest.param("3", 2.5, id="half a second is kept for sending"),
            pytest.param("10.000000", 9.5, id="as Prometheus writes it"),
            pytest.param("0.2", 0.0, id="never below zero"),
            pytest.param("nan", None, id="not a number"),
            pytest.param("inf", None, id="infinite"),
            pytest.param("-1", None, id="negative"),
            pytest.param("0", None, id="zero"),
            pytest.param("soon", None, id="a word"),
            pytest.param(None, None, id="no header"),
        ],
    )
    async def test_scrape_waits_for_a_poll_as_long_as_its_time_out_allows(
        self, value: str | None, expected_s: float | None
    ) -> None:
        waited: list[float | None] = []

        class Slow:
            is_fresh = False

            async def refresh(self, *, timeout_s: float | None) -> object:
                waited.append(timeout_s)
                raise asyncio.CancelledError

        client = make_client(make_app(batteries={"camper": Slow()}))  # type: ignore[dict-item]
        for path in ("/metrics", "/probe?target=camper"):
            await client.get(path, headers={} if value is None else {TIMEOUT: value})

        assert waited == [pytest.approx(expected_s)] * 2

    async def test_scrape_with_3_s_gets_counters_in_time_from_a_slower_poll(
        self, exporter: Exporter
    ) -> None:
        exporter.camper.faults = Faults(lose_first=14)
        exporter.trailer.faults = Faults(lose_first=12)
        began_s = now_s()

        first = await exporter.get("/metrics", {TIMEOUT: "3"})
        answered_s = now_s() - began_s
        await asyncio.sleep(10.0)
        second = await exporter.get("/metrics", {TIMEOUT: "3"})

        assert answered_s == pytest.approx(2.5)
        assert 'bms_up{battery="camper"}' not in first.text
        assert 'bms_polls_total{battery="camper"} 0.0' in first.text
        assert "bms_remaining_capacity_amperehours{" not in first.text
        assert 'bms_poll_failures_total{battery="camper",reason="timeout"} 1.0' in second.text
        assert 'bms_remaining_capacity_amperehours{battery="my trailer"} 203.54' in second.text


class TestClientsThatLeave:
    @pytest.mark.parametrize("path", ["/metrics", "/probe?target=camper"])
    async def test_scrapes_of_clients_that_left_end_and_the_poll_goes_on(
        self, exporter: Exporter, path: str
    ) -> None:
        before = len(asyncio.all_tasks())
        for _ in range(100):
            connection, delegate, _ = send_head(
                exporter.app, "GET", path, HTTPHeaders({"Host": "camper"})
            )
            delegate.finish()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            connection.close()
        await asyncio.sleep(0.01)

        assert len(asyncio.all_tasks()) - before <= 2 + 8  # the polls, with what they wait for
        assert "bms_voltage_volts{" in (await exporter.get("/probe?target=camper")).text
        assert exporter.camper.connects == 1


class TestProbe:
    async def test_probe_shows_one_battery_without_the_exporters_own_metrics(
        self, exporter: Exporter
    ) -> None:
        response = await exporter.get("/probe?target=my%20trailer")

        assert response.status_code == 200
        assert 'bms_up{battery="my trailer"} 1.0' in response.text
        assert "camper" not in response.text
        assert "process_" not in response.text
        assert "bms_exporter" not in response.text
        assert exporter.camper.connects == 0

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
    async def test_probe_of_an_unknown_target_lists_the_configured_names(
        self, exporter: Exporter, path: str, status: int
    ) -> None:
        response = await exporter.get(path)

        assert response.status_code == status
        assert "camper, my trailer" in response.text
        assert exporter.camper.connects == 0


class TestOtherPaths:
    @pytest.mark.parametrize("path", ["/-/healthy", "/-/ready"])
    async def test_health_check_causes_no_poll(self, exporter: Exporter, path: str) -> None:
        assert (await exporter.get(path)).status_code == 200
        assert exporter.camper.connects == 0

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
    @pytest.mark.parametrize("path", ["/metrics", "/probe?target=camper", "/", "/-/healthy"])
    async def test_methods_that_change_something_are_refused(
        self, exporter: Exporter, method: str, path: str
    ) -> None:
        response = await exporter.client.request(method, path)

        assert response.status_code == 405
        assert response.headers["allow"] == "GET, HEAD"
        assert "Use GET" in response.text
        assert exporter.camper.connects == 0


class TestManyScrapers:
    async def test_thousand_concurrent_scrapes_share_one_poll(self, exporter: Exporter) -> None:
        exporter.camper.faults = Faults(lose_first=3)

        responses = await asyncio.gather(
            *(exporter.get("/probe?target=camper") for _ in range(1000))
        )

        assert exporter.camper.connects == 1
        lines = {
            line
            for response in responses
            for line in response.text.splitlines()
            if line.startswith("bms_remaining_capacity_amperehours{")
        }
        assert lines == {'bms_remaining_capacity_amperehours{battery="camper"} 203.54'}

    async def test_missing_battery_does_not_affect_the_other(self, exporter: Exporter) -> None:
        await exporter.get("/metrics")
        exporter.camper.faults = Faults(gone=True)
        await asyncio.sleep(121.0)

        response = await exporter.get("/metrics")

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

        return make_client(make_app(batteries={}, reload=reload))

    @pytest.mark.parametrize("method", ["POST", "PUT"])
    async def test_reload_is_requested_by_post_or_put(
        self, method: str, client: httpx.AsyncClient
    ) -> None:
        response = await client.request(method, "/-/reload")

        assert (response.status_code, response.text) == (200, "The configuration was reloaded.\n")

    async def test_get_request_does_not_reload(self, client: httpx.AsyncClient) -> None:
        response = await client.get("/-/reload")

        assert response.status_code == 405
        assert response.headers["allow"] == "POST, PUT"

    async def test_reload_of_a_wrong_file_lists_its_mistakes(
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
    async def test_reload_is_refused_to_web_pages(
        self, headers: dict[str, str], status: int, client: httpx.AsyncClient
    ) -> None:
        assert (await client.post("/-/reload", headers=headers)).status_code == status

    async def test_reload_is_404_without_a_configuration_file(self, exporter: Exporter) -> None:
        assert (await exporter.client.post("/-/reload")).status_code == 404
