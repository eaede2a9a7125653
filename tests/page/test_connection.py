"""The stream, the history and the clocks: the page shows no old value as current."""

import re
from typing import Any

import pytest

from tests.support import fake_exporter as fake
from tests.support.browser import CAMPER, Open, make_all, set_visibility, text_of, wait_until
from tests.support.fake_exporter import FakeExporter


class TestConnection:
    def test_values_are_dimmed_and_show_their_age_when_the_exporter_is_gone(
        self, exporter: FakeExporter, open_page: Open
    ) -> None:
        page = open_page(exporter.url)
        page.clock.install()
        page.reload()
        page.wait_for_selector(".connection.connected")

        gone = exporter.url
        exporter.close()
        page.wait_for_timeout(500)
        page.clock.run_for(6_000)
        assert "Exporter not reached" in page.locator(".connection").inner_text()
        page.clock.run_for(300_000)

        tile = page.locator(".tile", has_text="camper")
        assert "as of 5\xa0min ago" in tile.inner_text()
        assert "131" in tile.inner_text()
        assert "All is well" not in tile.inner_text()
        assert "stale" in tile.get_attribute("class")
        assert "as of 5\xa0min ago" in page.locator(".connection").inner_text()
        back = FakeExporter(make_all(CAMPER), port=exporter.port)
        assert back.url == gone
        page.clock.run_for(5_000)
        wait_until(lambda: bool(back.streams))
        page.wait_for_selector(".connection.connected")
        assert page.locator(".stale").count() == 0
        page.context.close()
        back.close()

    def test_silent_stream_counts_as_offline_and_is_reopened(
        self, exporter: FakeExporter, open_page: Open
    ) -> None:
        exporter.alive_s = None
        page = open_page(exporter.url)
        page.clock.install()
        page.reload()
        page.wait_for_selector(".connection.connected")
        assert len(exporter.streams) >= 1
        before = exporter.paths.count("/api/v1/stream")

        page.clock.run_for(20_000)
        assert page.locator(".connection.connected").count() == 1
        exporter.refuses = 502
        page.clock.run_for(7_000)

        assert "Exporter not reached" in page.locator(".connection").inner_text()
        assert page.locator(".tile.stale").count() == 3
        wait_until(lambda: exporter.paths.count("/api/v1/stream") > before)

    def test_reading_becomes_stale_without_any_event(self, open_page: Open) -> None:
        exporter = FakeExporter([fake.battery()])
        page = open_page(exporter.url)
        assert page.locator(".stale").count() == 0
        exporter.publish(fake.battery(reading=fake.reading(age_s=118.0)))

        page.wait_for_selector(".tile.stale")

        text = page.locator(".tile").inner_text()
        exporter.close()
        assert "as of 2\xa0min ago" in text
        assert "No newer value" in text

    @pytest.mark.parametrize("step_s", [-432_000.0, 432_000.0])
    def test_ages_and_curve_stay_when_the_exporters_clock_is_set(
        self, open_page: Open, step_s: float
    ) -> None:
        exporter = FakeExporter([fake.battery(), fake.missing()], alive_s=0.5)
        exporter.history = {each["name"]: fake.samples(each) for each in exporter.batteries}
        page = open_page(exporter.url)
        wait_until(lambda: page.locator(".line[d^=M]").count() == 2)
        requested = exporter.paths.count("/api/v1/history")
        age, missed = page.locator(".age").first, page.locator(".status").last
        before = text_of(age), text_of(missed)

        for each in exporter.batteries:  # every time follows
            each["last_success_unix_s"] += step_s
        exporter.batteries[0]["reading"]["read_unix_s"] += step_s
        exporter.batteries[1]["failure"]["since_unix_s"] += step_s
        for curve in exporter.history.values():
            curve[:] = [[at_s + step_s, *rest] for at_s, *rest in curve]
        exporter.ahead_s = step_s
        wait_until(lambda: exporter.paths.count("/api/v1/history") == requested + 1)
        page.wait_for_timeout(1_500)

        assert (text_of(age), text_of(missed)) == before
        assert page.locator(".stale").count() == 0
        assert page.locator(".line[d^=M]").count() == 2
        assert exporter.paths.count("/api/v1/stream") == 2
        page.context.close()
        exporter.close()

    @pytest.mark.parametrize("status", [401, 503])
    def test_refused_stream_is_retried(
        self, exporter: FakeExporter, open_page: Open, status: int
    ) -> None:
        exporter.refuses = status
        page = open_page(exporter.url, ready=".empty")

        exporter.refuses = None

        page.wait_for_selector(".tile")

    @pytest.mark.parametrize(
        ("status", "locale", "words"),
        [
            (503, "en-GB", "Too many pages are open"),
            (503, "de-DE", "Zu viele Seiten geöffnet"),
            (401, "en-GB", "Not allowed"),
            (401, "de-DE", "Zugriff verweigert"),
            (429, "de-DE", "Zu viele Anfragen"),
            (502, "en-GB", "Exporter not reached"),
        ],
    )
    def test_header_says_why_the_stream_is_refused(
        self, exporter: FakeExporter, open_page: Open, status: int, locale: str, words: str
    ) -> None:
        exporter.full = status == 503
        exporter.refuses = None if exporter.full else status

        page = open_page(exporter.url, locale=locale, ready=".connection.offline")

        assert page.locator(".connection").inner_text().strip() == words
        assert page.locator(".empty").inner_text() == words
        assert page.title().startswith(words)
        exporter.full, exporter.refuses = False, None
        page.wait_for_selector(".connection.connected")

    def test_title_and_header_of_one_drawing_use_the_same_time(
        self, exporter: FakeExporter, browser: Any
    ) -> None:
        exporter.refuses = 502
        context = browser.new_context(locale="en-GB")
        context.add_init_script(  # 6 s pass in the middle of the first drawing
            """
            const [date, find] = [Date.now, document.getElementById];
            let late = 0;
            Date.now = () => date() + late;
            document.getElementById = (id) => {
                if (id === "page" && !late) {
                    late = 6000;
                    queueMicrotask(() => { window.seen = [
                        document.title, document.querySelector(".connection").className]; });
                }
                return find.call(document, id);
            };
            """
        )
        page = context.new_page()
        page.goto(exporter.url)

        page.wait_for_selector(".connection.offline")

        assert page.evaluate("seen") == ["Batteries", "connection"]
        assert page.title() == "Exporter not reached · Batteries"
        context.close()

    def test_age_below_a_minute_is_shown_in_seconds_when_offline(
        self, exporter: FakeExporter, open_page: Open
    ) -> None:
        page = open_page(exporter.url)
        exporter.refuses = 502
        exporter.end_streams()

        page.wait_for_selector(".connection.offline")

        assert re.search(r"as of \d+\xa0s ago$", page.locator(".connection").inner_text())
        assert re.search(r"as of \d+\xa0s ago$", page.locator(".age").first.inner_text())

    def test_new_battery_with_a_known_name_does_not_inherit_its_curve(
        self, open_page: Open
    ) -> None:
        old = FakeExporter([fake.battery("moved"), fake.battery("kept"), fake.battery("gone")])
        old.history = {each["name"]: fake.samples(each) for each in old.batteries}
        page = open_page(old.url)
        wait_until(lambda: page.locator(".line[d^=M]").count() == len(old.batteries))

        old.close()
        other = {**fake.unread("moved"), "address": "A4:C1:38:00:00:99"}
        new = FakeExporter([other, fake.battery("kept")], port=old.port)
        wait_until(lambda: page.locator(".tile").count() == len(new.batteries))
        new.batteries.append(fake.unread("gone"))
        new.end_streams()
        wait_until(lambda: page.locator(".tile").count() == len(new.batteries))

        lines = [line.get_attribute("d") for line in page.locator(".line").all()]
        page.context.close()
        new.close()
        assert [bool(line) for line in lines] == [False, True, False]

    @pytest.mark.parametrize("name", ["constructor", "__proto__", "toString"])
    def test_battery_named_like_an_object_property_has_a_curve_and_a_button(
        self, open_page: Open, name: str
    ) -> None:
        exporter = FakeExporter([fake.battery(name)])
        exporter.history = {name: fake.samples(exporter.batteries[0])}
        page = open_page(exporter.url, name)

        page.wait_for_selector(".line[d^=M]", state="attached")
        page.click("button")

        page.wait_for_selector("button:has-text('Read again')")
        page.context.close()
        exporter.close()

    def test_history_is_requested_once_per_connection(
        self, exporter: FakeExporter, open_page: Open
    ) -> None:
        def requested() -> int:
            return exporter.paths.count("/api/v1/history")

        exporter.alive_s = 0.1
        page = open_page(exporter.url)
        page.clock.install()
        page.reload()
        page.wait_for_selector(".line[d^=M]", state="attached")
        before = requested()
        for _ in range(30):
            page.clock.run_for(10_000)
            page.wait_for_timeout(150)
        assert page.locator(".connection.connected").count() == 1
        assert requested() == before

        exporter.end_streams()

        wait_until(lambda: requested() == before + 1)

    def test_hidden_page_closes_its_stream_and_requests_nothing(
        self, exporter: FakeExporter, open_page: Open
    ) -> None:
        page = open_page(exporter.url)
        wait_until(lambda: len(exporter.streams) == 1)

        set_visibility(page, "hidden")
        wait_until(lambda: not exporter.streams)
        requested = len(exporter.paths)
        page.wait_for_timeout(4_000)
        assert len(exporter.paths) == requested

        set_visibility(page, "visible")
        wait_until(lambda: len(exporter.paths) == requested + 2)
        assert set(exporter.paths[requested:]) == {"/api/v1/stream", "/api/v1/history"}

    def test_stream_closes_when_the_page_is_left_and_reopens_on_return(
        self, exporter: FakeExporter, open_page: Open
    ) -> None:
        page = open_page(exporter.url)
        wait_until(lambda: len(exporter.streams) == 1)

        page.goto("about:blank")
        wait_until(lambda: not exporter.streams)
        page.go_back()

        wait_until(lambda: len(exporter.streams) == 1)
        page.wait_for_selector(".connection.connected")

    def test_open_page_reloads_after_an_update_of_the_exporter(
        self, exporter: FakeExporter, open_page: Open
    ) -> None:
        page = open_page(exporter.url)
        exporter.version = "0.2.0"

        with page.expect_event("load"):
            exporter.end_streams()

        page.wait_for_selector(".tile")
        assert exporter.paths.count("/page/page.js") == 2
