"""The page in a real browser, against a fake exporter and against the demo."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import pytest

from exporter.errors import FailureReason
from exporter.reading import Protection
from tests.support import fake_exporter as fake
from tests.support.fake_exporter import FakeExporter, Json
from tests.support.paths import PROJECT

Page = Any  # of playwright, which is installed for `make test-page` only
Open = Callable[..., Page]
Makers = Sequence[Callable[[], Json]]

PHONES: Final = [(320, 640), (390, 844)]
TABLETS: Final = [(768, 1024), (1024, 600), (1280, 800), (1920, 1080)]
WALL: Final = [(1024, 600), (1280, 800)]
LONGEST_NAME: Final = "W" * 64
HTML_NAME: Final = '<img src=x onerror="alert(1)"><b>&amp;</b>'
CAMPER: Final[Makers] = [fake.battery, fake.flaky, fake.cold]
FAULTS: Final[Makers] = [fake.charging, fake.missing, fake.paused, fake.unread]
# The browser logs this for an exporter that is gone.
GONE: Final = "Failed to load resource"


def size(width: int, height: int) -> dict[str, int]:
    return {"width": width, "height": height}


def make_all(makers: Makers) -> list[Json]:
    return [make() for make in makers]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    give_up = pytest.fail if os.environ.get("REQUIRE_TOOLS") else pytest.skip
    chromium = shutil.which("chromium")
    if chromium is None:
        give_up("no chromium: apt-get install chromium")
    try:
        from playwright.sync_api import sync_playwright  # noqa: PLC0415 - see above
    except ImportError:
        give_up("no playwright: make test-page")
    with sync_playwright() as play:
        flags = ["--no-sandbox", "--disable-gpu"]
        launched = play.chromium.launch(executable_path=chromium, args=flags)
        yield launched
        launched.close()


@pytest.fixture
def exporter() -> Iterator[FakeExporter]:
    with_history = FakeExporter(make_all(CAMPER))
    with_history.history = {each["name"]: fake.samples(each) for each in with_history.batteries}
    yield with_history
    with_history.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Open]:
    """Open pages; fail if one logs anything, violates its policy, or requests another origin."""
    contexts, logged, requested = [], [], []

    def opened(
        url: str,
        view: str = "",
        *,
        viewport: tuple[int, int] = (1280, 800),
        ready: str = ".tile",
        locale: str = "en-GB",
        **options: Any,
    ) -> Page:
        context = browser.new_context(viewport=size(*viewport), locale=locale, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("console", lambda message: logged.append(message.text))
        page.on("pageerror", lambda error: logged.append(str(error)))
        page.on("dialog", lambda dialog: logged.append(f"dialog {dialog.message}"))
        page.on("request", lambda request: requested.append((url, request.url)))
        page.goto(url + (f"#/{view}" if view else ""))
        page.wait_for_selector(ready)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert [text for text in logged if not text.startswith(GONE)] == []
    assert [there for url, there in requested if not there.startswith(url)] == []


def overflow(page: Page) -> tuple[bool, bool]:
    """Return whether the page scrolls horizontally, and whether vertically."""
    horizontal, vertical = page.evaluate(
        "(({scrollWidth: w, scrollHeight: h, clientWidth: cw, clientHeight: ch}) =>"
        " [w > cw, h > ch])(document.scrollingElement)"
    )
    return horizontal, vertical


def sticking_out(page: Page) -> list[str]:
    """Return the texts that are not completely inside their tile."""
    found: list[str] = page.evaluate(
        """() => [...document.querySelectorAll(".tiles .tile")].flatMap((tile) => {
            const box = tile.getBoundingClientRect();
            return [...tile.querySelectorAll("span, p, dd, dt, li, svg")].filter((part) => {
                const own = part.getBoundingClientRect();
                const shown = own.width > 1 && own.height > 1; // the others are for screen readers
                return shown && (own.right > box.right + 1 || own.bottom > box.bottom + 1
                    || own.left < box.left - 1);
            }).map((part) => part.textContent || part.outerHTML);
        })"""
    )
    return found


def violations(page: Page) -> list[str]:
    """Return the accessibility violations that axe finds."""
    from axe_playwright_python.sync_playwright import Axe  # noqa: PLC0415 - see above

    found = Axe().run(page).response["violations"]
    return [
        f"{each['id']}: {node['html'][:160]} {node['failureSummary']}"
        for each in found
        for node in each["nodes"]
    ]


def text_of(place: Any) -> str:
    """Return the text of a part of the page, with no-break spaces replaced by spaces."""
    return str(place.inner_text()).replace("\xa0", " ")


def wait_until(done: Callable[[], bool], timeout_s: float = 10.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < end_s
        time.sleep(0.05)


def set_visibility(page: Page, visibility: str) -> None:
    """Hide or show the page, as the browser does when another tab is opened."""
    page.evaluate(
        "state => { Object.defineProperty(document, 'visibilityState', "
        "{configurable: true, get: () => state}); "
        "document.dispatchEvent(new Event('visibilitychange')); }",
        visibility,
    )


class TestTile:
    def test_tile_shows_remaining_charge_current_and_forecast(
        self, exporter: FakeExporter, open_page: Open
    ) -> None:
        page = open_page(exporter.url)

        text = text_of(page.locator(".tile", has_text="camper"))

        for words in ("131.0 Ah", "66 %", "of 200 Ah", "discharging 2.8 A", "empty in 47 h"):
            assert words in text
        for words in ("13.26 V", "37 W", "12.8 °C", "12 h ago", "All is well"):
            assert words in text

    def test_german_browser_gets_german_texts_and_numbers(
        self, exporter: FakeExporter, open_page: Open
    ) -> None:
        page = open_page(exporter.url, locale="de-DE")

        text = text_of(page.locator(".tile", has_text="camper"))

        for words in (
            "131,0 Ah",
            "13,26 V",
            "Entladung mit 2,8 A",
            "leer in 47 h",
            "Alles in Ordnung",
        ):
            assert words in text
        assert page.evaluate("document.documentElement.lang") == "de"

    def test_browser_of_another_language_gets_english(
        self, exporter: FakeExporter, open_page: Open
    ) -> None:
        page = open_page(exporter.url, locale="fr-FR")

        assert "13.26 V" in text_of(page.locator(".tile").first)

    def test_both_languages_have_a_text_for_every_key_failure_and_protection(
        self, exporter: FakeExporter, open_page: Open
    ) -> None:
        words = [
            open_page(exporter.url, locale=locale).evaluate(
                """async () => {
                    const keys = (value) => typeof value === "object" && !Array.isArray(value)
                        ? Object.fromEntries(Object.keys(value).sort().map(
                            (key) => [key, keys(value[key])]))
                        : typeof value;
                    return keys((await import("/page/i18n.js")).t);
                }"""
            )
            for locale in ("en-GB", "de-DE")
        ]

        assert words[0] == words[1]
        assert set(words[0]["failures"]) == set(FailureReason)
        assert {each for each in Protection if not each.startswith("bit")} == set(
            words[0]["protections"]
        )

    def test_files_of_the_page_are_below_80_kb(self) -> None:
        files = [path for path in fake.PAGE.rglob("*") if path.is_file() and path.suffix != ".png"]

        assert sum(path.stat().st_size for path in files) < 80_000


class TestProblems:
    @pytest.mark.parametrize(
        ("battery", "words"),
        [
            pytest.param(fake.cold, ["Nearly empty", "Too cold: charging is blocked"], id="cold"),
            pytest.param(
                fake.missing,
                ["Not reached since", "(3 h)", "not seen", "Phone app connected?"],
                id="missing",
            ),
            pytest.param(fake.paused, ["Left to the phone app until", "min left)"], id="paused"),
            pytest.param(fake.unread, ["Not read yet"], id="unread"),
            pytest.param(
                fake.flaky, ["The last attempt to read it failed", "1 min ago"], id="flaky"
            ),
            pytest.param(
                lambda: fake.battery(reading=fake.reading(discharge_fet_on=False)),
                ["The output is switched off"],
                id="MOSFET off",
            ),
            pytest.param(
                lambda: fake.battery(reading=fake.reading(temperatures_c=[-2.0], current_a=3.0)),
                ["Is being charged below 0"],
                id="charged in frost",
            ),
            pytest.param(
                lambda: fake.battery(reading=fake.reading(protections=["bit14"])),
                ["Protection bit14 is active"],
                id="a protection without a name",
            ),
        ],
    )
    def test_tile_explains_the_problem_in_words(
        self, open_page: Open, battery: Callable[[], Json], words: list[str]
    ) -> None:
        exporter = FakeExporter([battery()])

        text = text_of(open_page(exporter.url).locator(".tile"))

        exporter.close()
        assert [each for each in words if each not in text] == []

    @pytest.mark.parametrize("viewport", [*PHONES, (1280, 800)])
    @pytest.mark.parametrize(
        ("locale", "words"),
        [
            ("en-GB", "fridge: Nearly empty: below 10 %"),
            ("de-DE", "fridge: Fast leer: unter 10 %"),
        ],
    )
    def test_alarm_of_a_battery_below_the_fold_is_in_the_header(
        self, open_page: Open, viewport: tuple[int, int], locale: str, words: str
    ) -> None:
        healthy = [fake.battery(f"b{number}") for number in range(4)]
        exporter = FakeExporter([*healthy, fake.cold("fridge")])
        page = open_page(exporter.url, viewport=viewport, locale=locale)
        link = page.get_by_role("link", name=f"Alarm {words}")

        box = link.bounding_box()
        shown = link.evaluate("link => link.lastChild.scrollHeight <= link.lastChild.clientHeight")
        contact = page.locator(".connection").bounding_box()
        title = page.title()
        found = violations(page)
        link.click()
        page.wait_for_selector(".details")

        exporter.close()
        assert shown
        assert box["y"] >= 0
        assert box["x"] + box["width"] <= contact["x"]
        assert contact["x"] + contact["width"] <= viewport[0]
        assert title.startswith(f"Alarm: {words}")
        assert page.locator("h1").inner_text() == "fridge"
        assert found == []

    @pytest.mark.parametrize("viewport", PHONES)
    def test_long_battery_name_does_not_hide_the_problem_in_the_header(
        self, open_page: Open, viewport: tuple[int, int]
    ) -> None:
        exporter = FakeExporter([fake.battery(), fake.cold(LONGEST_NAME)])
        page = open_page(exporter.url, viewport=viewport)

        words = page.locator(".worst .text")

        shown = words.evaluate("words => words.scrollHeight <= words.clientHeight + 1")
        width, text = words.evaluate("words => words.clientWidth"), text_of(words)
        exporter.close()
        assert shown
        assert width > 100
        assert "Nearly empty: below 10 %" in text

    @pytest.mark.parametrize("viewport", [*PHONES, (1280, 800)])
    def test_nothing_moves_when_a_problem_appears_in_the_header_or_disappears(
        self, open_page: Open, viewport: tuple[int, int]
    ) -> None:
        exporter = FakeExporter([fake.battery(), fake.battery("fridge")])
        page = open_page(exporter.url, viewport=viewport)
        places = """[...document.querySelectorAll("h1, .connection, .tile")].map((part) => {
            const {x, y, width, height} = part.getBoundingClientRect();
            return [x, y, width, height];
        })"""
        before = page.evaluate(places)
        assert page.title() == "Batteries"
        assert page.locator(".worst").count() == 0

        exporter.publish(fake.cold("fridge"))
        page.wait_for_selector(".worst.alarm")
        during = page.evaluate(places)
        exporter.publish(fake.battery("fridge"))
        page.wait_for_selector(".worst", state="detached")

        after = page.evaluate(places)
        exporter.close()
        assert before == during == after
        assert page.title() == "Batteries"

    @pytest.mark.parametrize(
        ("locale", "words"),
        [
            ("en-GB", ["Temperature not known", "All is well"]),
            ("de-DE", ["Temperatur unbekannt", "Alles in Ordnung"]),
        ],
    )
    @pytest.mark.parametrize(
        ("temperatures", "known"), [([-31.5, -30.9], False), ([-31.5, 12.0], True), ([], True)]
    )
    def test_unusable_temperature_sensors_are_reported_as_unknown_temperature(
        self,
        open_page: Open,
        temperatures: list[float],
        known: bool,
        locale: str,
        words: list[str],
    ) -> None:
        exporter = FakeExporter([fake.battery(reading=fake.reading(temperatures_c=temperatures))])

        text = text_of(open_page(exporter.url, locale=locale).locator(".status"))

        exporter.close()
        assert [each in text for each in words] == [not known, known]

    def test_battery_without_a_reading_shows_a_dash_and_its_curve(self, open_page: Open) -> None:
        exporter = FakeExporter([fake.missing()])
        exporter.history = {"missing": fake.samples(fake.missing(), until_s=10800)}
        page = open_page(exporter.url)
        page.wait_for_selector(".line[d^=M]", state="attached")

        shown = page.locator(".big").inner_text()

        exporter.close()
        assert shown.split() == ["–", "Ah"]  # noqa: RUF001 - as it is shown
        assert not any(digit in page.locator(".amount").inner_text() for digit in "0123456789")

    def test_screen_reader_announces_problems_but_not_numbers(
        self, exporter: FakeExporter, open_page: Open
    ) -> None:
        page = open_page(exporter.url)
        page.evaluate(
            "window.announced = []; new MutationObserver(() => announced.push("
            "document.getElementById('announcer').textContent)).observe("
            "document.getElementById('announcer'), "
            "{childList: true, characterData: true, subtree: true})"
        )

        exporter.publish(fake.battery(reading=fake.reading(remaining_ah=130.2, voltage_v=13.21)))
        wait_until(lambda: page.evaluate("document.body.textContent.includes('13.21')"))
        assert page.evaluate("announced") == []

        exporter.publish(fake.battery(reading=fake.reading(protections=["short_circuit"])))
        wait_until(
            lambda: page.evaluate(
                "announced.length === 1 && announced[0].includes('camper: Short circuit')"
            )
        )


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
        exporter = FakeExporter([fake.battery(reading=fake.reading(age_s=118.0))], alive_s=0.5)
        page = open_page(exporter.url)
        assert page.locator(".stale").count() == 0

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
        asked = exporter.paths.count("/api/v1/history")
        age, missed = page.locator(".age").first, page.locator(".status").last
        before = text_of(age), text_of(missed)

        for each in exporter.batteries:  # every time follows
            each["last_success_unix_s"] += step_s
        exporter.batteries[0]["reading"]["read_unix_s"] += step_s
        exporter.batteries[1]["failure"]["since_unix_s"] += step_s
        for curve in exporter.history.values():
            curve[:] = [[at_s + step_s, *rest] for at_s, *rest in curve]
        exporter.ahead_s = step_s
        wait_until(lambda: exporter.paths.count("/api/v1/history") == asked + 1)
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
        def asked() -> int:
            return exporter.paths.count("/api/v1/history")

        exporter.alive_s = 0.1
        page = open_page(exporter.url)
        page.clock.install()
        page.reload()
        page.wait_for_selector(".line[d^=M]", state="attached")
        before = asked()
        for _ in range(30):
            page.clock.run_for(10_000)
            page.wait_for_timeout(150)
        assert page.locator(".connection.connected").count() == 1
        assert asked() == before

        exporter.end_streams()

        wait_until(lambda: asked() == before + 1)

    def test_hidden_page_closes_its_stream_and_requests_nothing(
        self, exporter: FakeExporter, open_page: Open
    ) -> None:
        page = open_page(exporter.url)
        wait_until(lambda: len(exporter.streams) == 1)

        set_visibility(page, "hidden")
        wait_until(lambda: not exporter.streams)
        asked = len(exporter.paths)
        page.wait_for_timeout(4_000)
        assert len(exporter.paths) == asked

        set_visibility(page, "visible")
        wait_until(lambda: len(exporter.paths) == asked + 2)
        assert set(exporter.paths[asked:]) == {"/api/v1/stream", "/api/v1/history"}

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


class TestLayout:
    @pytest.mark.parametrize("makers", [CAMPER, FAULTS[1:]], ids=["camper", "faults"])
    @pytest.mark.parametrize("viewport", [*PHONES, *TABLETS])
    @pytest.mark.parametrize("locale", ["en-GB", "de-DE"])
    def test_three_batteries_fit_every_screen(
        self,
        open_page: Open,
        makers: Makers,
        viewport: tuple[int, int],
        locale: str,
    ) -> None:
        exporter = FakeExporter(make_all(makers))

        page = open_page(exporter.url, viewport=viewport, locale=locale)

        scrolls_horizontally, scrolls = overflow(page)
        out = sticking_out(page)
        exporter.close()
        assert not scrolls_horizontally
        assert not scrolls or viewport == (320, 640)
        assert out == []

    @pytest.mark.parametrize("viewport", WALL)
    @pytest.mark.parametrize("count", [1, 2, 4])
    def test_up_to_four_batteries_fit_a_wall_tablet_without_scrolling(
        self, open_page: Open, viewport: tuple[int, int], count: int
    ) -> None:
        exporter = FakeExporter(make_all(FAULTS[:count]))

        page = open_page(exporter.url, viewport=viewport, locale="de-DE")

        shown = overflow(page)
        out = sticking_out(page)
        used = page.evaluate(
            "document.querySelector('.tiles').getBoundingClientRect().bottom / innerHeight"
        )
        exporter.close()
        assert shown == (False, False)
        assert out == []
        assert used == pytest.approx(1.0, abs=0.01)

    @pytest.mark.parametrize("viewport", [*PHONES, *WALL])
    @pytest.mark.parametrize("view", ["", LONGEST_NAME])
    def test_long_names_and_large_numbers_fit_their_tiles(
        self, open_page: Open, viewport: tuple[int, int], view: str
    ) -> None:
        large = fake.reading(remaining_ah=2345.6, nominal_ah=2800.0, voltage_v=54.12)
        large |= {"current_a": -123.4, "power_w": -6678.0, "temperatures_c": [-13.2]}
        exporter = FakeExporter(
            [fake.battery(LONGEST_NAME, reading=large), fake.battery("Батарея " * 8)]
        )

        page = open_page(exporter.url, view, viewport=viewport, locale="de-DE")

        scrolls_horizontally, _ = overflow(page)
        out = sticking_out(page)
        exporter.close()
        assert not scrolls_horizontally
        assert out == []

    @pytest.mark.parametrize("viewport", [*PHONES, *WALL])
    @pytest.mark.parametrize(
        ("locale", "words"),
        [
            ("en-GB", ["empty in 1 h 10 min", "empty in 5 h 40 min", "empty in 24 h"]),
            ("de-DE", ["leer in 1 h 10 min", "leer in 5 h 40 min", "leer in 24 h"]),
        ],
    )
    def test_current_and_forecast_are_never_cut_off(
        self, open_page: Open, viewport: tuple[int, int], locale: str, words: list[str]
    ) -> None:
        flows = [(-123.4, 4300.0), (-12.4, 20400.0), (-2.8, 86400.0)]
        exporter = FakeExporter(
            [
                fake.battery(str(amps), reading=fake.reading(current_a=amps, time_to_empty_s=left))
                for amps, left in flows
            ]
        )

        page = open_page(exporter.url, viewport=viewport, locale=locale)

        shown = [text_of(page.locator(".eta").nth(at)) for at in range(len(flows))]
        wrong = page.evaluate(
            """[...document.querySelectorAll(".flow")].flatMap((flow) => {
                const box = flow.getBoundingClientRect();
                const [way, eta] = [...flow.children].map((part) => {
                    const range = document.createRange();
                    range.selectNodeContents(part);
                    return range.getBoundingClientRect();
                });
                return [way.right > box.right, eta.right > box.right, eta.bottom > box.bottom + 1,
                    eta.top < way.bottom - 2 && eta.left < way.right];
            })"""
        )
        out = sticking_out(page)
        exporter.close()
        assert shown == words
        assert wrong == [False] * 4 * len(flows)
        assert out == []

    def test_digits_of_the_charge_are_readable_from_two_metres(
        self, exporter: FakeExporter, open_page: Open
    ) -> None:
        heights = [
            open_page(exporter.url, viewport=viewport).evaluate(
                "parseFloat(getComputedStyle(document.querySelector('.whole')).fontSize)"
            )
            for viewport in WALL
        ]

        # Digits are 0.7 of it. 10 inches are 217 mm wide: 10 mm high is read at 2 m.
        assert heights[0] * 0.7 * 217 / 1024 > 10
        assert heights[1] * 0.7 * 217 / 1280 > 10

    @pytest.mark.parametrize(
        ("view", "viewport"),
        [
            ("", (1280, 800)),
            *(("", phone) for phone in PHONES),
            ("", (768, 1024)),
            ("camper", (1280, 800)),
        ],
    )
    def test_layout_does_not_shift_when_numbers_change(
        self, exporter: FakeExporter, open_page: Open, view: str, viewport: tuple[int, int]
    ) -> None:
        page = open_page(exporter.url, view, viewport=viewport)
        page.wait_for_timeout(500)
        # The ".0 Ah" of a longer number moves within its line; no part of the page does.
        page.evaluate(
            """window.total = 0; window.parts = [];
            new PerformanceObserver((list) => list.getEntries().forEach((entry) => {
                total += entry.value;
                parts.push(...entry.sources.filter((source) => source.node
                    && source.node.nodeType === Node.ELEMENT_NODE
                    && getComputedStyle(source.node).display !== "inline"
                ).map((source) => source.node.outerHTML));
            })).observe({type: "layout-shift"})"""
        )

        for changes in (
            {"remaining_ah": 99.9, "rsoc_ratio": 0.49, "voltage_v": 9.98, "current_a": 0.0},
            {"remaining_ah": 7.1, "rsoc_ratio": 0.04, "power_w": -1210.4, "current_a": -101.0},
            {"time_to_empty_s": None, "time_to_full_s": 400.0, "current_a": 4.0},
            {"temperatures_c": [-11.2, 3.0], "protections": ["charge_undertemperature"]},
        ):
            exporter.publish(fake.battery(reading=fake.reading(**changes)))
            page.wait_for_timeout(300)

        assert page.evaluate("parts") == []
        assert page.evaluate("total") < 0.03

    def test_reduced_motion_disables_animations(
        self, exporter: FakeExporter, open_page: Open
    ) -> None:
        page = open_page(exporter.url, reduced_motion="reduce")

        assert page.evaluate("getComputedStyle(document.querySelector('.fill')).transition") in (
            "none",
            "none 0s ease 0s",
            "all 0s ease 0s",
            "none 0s",
        )
        assert page.evaluate("document.getAnimations().length") == 0


class TestAccessibility:
    @pytest.mark.parametrize("scheme", ["dark", "light"])
    @pytest.mark.parametrize("makers", [CAMPER, FAULTS], ids=["camper", "faults"])
    def test_axe_finds_no_violation(self, open_page: Open, makers: Makers, scheme: str) -> None:
        exporter = FakeExporter(make_all(makers))
        exporter.history = {each["name"]: fake.samples(each) for each in exporter.batteries}
        found = {}
        for view in ("", exporter.batteries[0]["name"], exporter.batteries[1]["name"]):
            page = open_page(exporter.url, view, color_scheme=scheme)
            page.wait_for_timeout(700)  # the bars' transition
            found[view] = violations(page)

        exporter.close()

        assert {view: each for view, each in found.items() if each} == {}

    @pytest.mark.parametrize("scheme", ["dark", "light"])
    def test_axe_finds_no_violation_when_the_exporter_is_gone(
        self, exporter: FakeExporter, open_page: Open, scheme: str
    ) -> None:
        pages = [open_page(exporter.url, view, color_scheme=scheme) for view in ("", "cold")]
        exporter.refuses = 503
        exporter.end_streams()
        for page in pages:
            page.wait_for_selector(".connection.offline")
            page.wait_for_timeout(700)

        assert [violations(page) for page in pages] == [[], []]

    def test_keyboard_reaches_every_link_and_button(
        self, exporter: FakeExporter, open_page: Open
    ) -> None:
        page = open_page(exporter.url)

        def focused() -> str:
            return str(page.evaluate("document.activeElement.textContent"))

        page.keyboard.press("Tab")
        assert focused().strip().startswith("cold: Nearly empty")
        page.keyboard.press("Tab")
        assert focused() == "camper"
        outline = page.evaluate(
            "getComputedStyle(document.activeElement, '::after').outlineStyle + "
            "getComputedStyle(document.activeElement, '::after').outlineWidth"
        )
        assert outline == "solid3px"
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        assert focused() == "cold"
        page.keyboard.press("Enter")
        page.wait_for_selector(".details")
        assert page.evaluate("document.activeElement.tagName") == "H1"
        assert focused() == "cold"
        assert page.title().endswith("cold – Batteries")  # noqa: RUF001 - as it is shown
        page.keyboard.press("Tab")
        assert focused().startswith("Release for the phone app")
        page.keyboard.press("Enter")
        page.wait_for_selector("button:has-text('Read again')")
        assert focused() == "Read again"
        page.keyboard.press("Enter")
        page.wait_for_selector("button:has-text('Release')")
        assert exporter.posts == ["/api/v1/release cold", "/api/v1/resume cold"]
        page.go_back()
        page.wait_for_selector(".tiles")
        assert focused() == "cold"

    def test_tap_anywhere_on_a_tile_opens_the_battery(
        self, exporter: FakeExporter, open_page: Open
    ) -> None:
        page = open_page(exporter.url, viewport=(390, 844))
        for part in (".plot", ".flow", ".status", ".bar"):
            box = page.locator(f".tile {part}").first.bounding_box()

            page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)

            page.wait_for_selector(".details")
            page.go_back()
            page.wait_for_selector(".tiles")

    def test_refused_release_shows_the_status(
        self, exporter: FakeExporter, open_page: Open
    ) -> None:
        page = open_page(exporter.url, "camper")
        exporter.refuses = 403

        page.click("button")

        page.wait_for_selector(".problem:has-text('403')")

    def test_battery_names_are_never_interpreted_as_html_or_urls(self, open_page: Open) -> None:
        exporter = FakeExporter([fake.battery(HTML_NAME), fake.battery("..%2F&#?")])
        page = open_page(exporter.url)

        for name in (HTML_NAME, "..%2F&#?"):
            page.locator(".tile a").filter(has_text=name).click()
            page.wait_for_selector(".details")
            assert page.locator("h1").inner_text() == name
            page.click("button")
            page.wait_for_selector("button:has-text('Read again')")
            page.click(".back")
            page.wait_for_selector(".tiles")

        inside = page.locator("#page img, #page b").count()
        exporter.close()
        assert inside == 0
        assert exporter.posts == [f"/api/v1/release {HTML_NAME}", "/api/v1/release ..%2F&#?"]

    def test_address_of_an_unknown_battery_shows_a_message(
        self, exporter: FakeExporter, open_page: Open
    ) -> None:
        page = open_page(exporter.url, "nobody", ready=".empty:has-text('no battery called')")

        page.click(".back")

        page.wait_for_selector(".tiles")


class TestBatteryView:
    def test_links_to_metrics_and_api_are_relative(
        self, exporter: FakeExporter, open_page: Open
    ) -> None:
        links = open_page(exporter.url, "camper").locator(".about a").all()

        assert [each.get_attribute("href") for each in links] == ["metrics", "api/v1/batteries"]

    def test_view_of_a_battery_shows_cells_counters_and_identity(self, open_page: Open) -> None:
        exporter = FakeExporter([fake.charging("garage")])

        text = text_of(open_page(exporter.url, "garage").locator("main"))

        exporter.close()
        for words in ("3.436 V", "35 mV", "Cell 3", "12.8 °C", "13.1 °C", "full in 1 h"):
            assert words in text
        for words in ("Short circuit", "14 ×", "−60 dBm"):  # noqa: RUF001 - as it is shown
            assert words in text
        for words in ("JBD-SP04S034", "12 Aug 2022", "1,412"):
            assert words in text

    def test_last_failure_comes_with_what_to_do(self, open_page: Open) -> None:
        exporter = FakeExporter([fake.flaky()])

        card = open_page(exporter.url, "flaky", locale="de-DE").locator(".failure").inner_text()

        exporter.close()
        assert "Die Verbindung ist abgebrochen" in card
        assert "Was tun: Schwaches Signal" in card
        assert "the connection ended in mid-poll" in card


class TestDemo:
    @pytest.fixture
    def demo(self) -> Iterator[str]:
        port = FakeExporter([])
        port.close()
        url = f"http://127.0.0.1:{port.port}/"
        words = ["-m", "exporter", "demo", "--web.listen-address", f"127.0.0.1:{port.port}"]
        with subprocess.Popen([sys.executable, *words], cwd=PROJECT) as process:
            yield url
            process.terminate()

    def test_demo_batteries_are_read_while_the_page_is_open(
        self, demo: str, open_page: Open, browser: Any
    ) -> None:
        context = browser.new_context()
        answers = context.request
        wait_until(lambda: _answers(answers, demo), 30)
        assert answers.get(demo).headers["content-security-policy"] == fake.CSP
        assert "bms_polls_total" in answers.get(f"{demo}metrics").text()

        page = open_page(demo)
        wait_until(
            lambda: page.evaluate("document.querySelectorAll('.tile:not(.unread)').length === 3"),
            30,
        )

        assert "charging is blocked" in page.locator(".tile", has_text="cold").inner_text()
        page.get_by_role("link", name="cold", exact=True).click()
        page.click("button")
        page.wait_for_selector("button:has-text('Read again')")
        assert 'bms_paused{battery="cold"} 1.0' in answers.get(f"{demo}metrics").text()
        page.click("button")
        page.wait_for_selector("button:has-text('Release')")
        assert 'bms_paused{battery="cold"} 0.0' in answers.get(f"{demo}metrics").text()
        context.close()


def _answers(requests: Any, url: str) -> bool:
    from playwright.sync_api import Error  # noqa: PLC0415 - see above

    try:
        return bool(requests.get(f"{url}-/healthy").ok)
    except Error:
        return False
