"""Tiles fit every screen, and nothing moves or is cut off."""

import re

import pytest

from tests.support import fake_exporter as fake
from tests.support.browser import (
    CAMPER,
    FAULTS,
    LONGEST_NAME,
    PHONES,
    TABLETS,
    WALL,
    Makers,
    Open,
    make_all,
    overflow,
    sticking_out,
    text_of,
)
from tests.support.fake_exporter import FakeExporter


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
            ("en-GB", [r"empty in \d\d min", r"empty about \d\d:\d0", "empty in 24 h"]),
            ("de-DE", [r"leer in \d\d min", r"leer gegen \d\d:\d0", "leer in 24 h"]),
        ],
    )
    def test_current_and_forecast_are_never_cut_off(
        self, open_page: Open, viewport: tuple[int, int], locale: str, words: list[str]
    ) -> None:
        flows = [(-123.4, 3100.0), (-12.4, 20400.0), (-2.8, 86400.0)]
        exporter = FakeExporter(
            [
                fake.battery(
                    str(amps),
                    reading=fake.reading(current_a=amps, time_to_empty_s=left),
                    morning={"left_ah": 888.0, "enough": "low"},
                )
                for amps, left in flows
            ]
        )

        page = open_page(exporter.url, viewport=viewport, locale=locale)

        shown = [text_of(page.locator(".eta").nth(at)) for at in range(len(flows))]
        wrong = page.evaluate(
            """[...document.querySelectorAll(".flow")].flatMap((flow) => {
                const box = flow.getBoundingClientRect();
                const [way, eta, morning] = [...flow.children].map((part) => {
                    const range = document.createRange();
                    range.selectNodeContents(part);
                    return range.getBoundingClientRect();
                });
                return [way.right > box.right, morning.right > box.right, eta.right > box.right,
                    eta.bottom > box.bottom + 1,
                    eta.top < way.bottom - 2 && eta.left < way.right];
            })"""
        )
        out = sticking_out(page)
        exporter.close()
        assert all(map(re.fullmatch, words, shown)), shown
        assert wrong == [False] * 5 * len(flows)
        assert out == []

    @pytest.mark.parametrize("viewport", [*PHONES, *TABLETS])
    @pytest.mark.parametrize("count", [1, 3])
    def test_reason_without_a_reading_stands_below_the_dash_and_is_not_cut_off(
        self, open_page: Open, viewport: tuple[int, int], count: int
    ) -> None:
        failed = {"up": False, "reading": None, "failure": fake.failure("adapter", 900, "none")}
        exporter = FakeExporter([fake.battery(f"b{number}", **failed) for number in range(count)])
        page = open_page(exporter.url, viewport=viewport, locale="de-DE")

        cut_off, below_the_dash, curve_below = page.evaluate(
            """() => {
                const [tile, dash, status, curve] = [".tile", ".big", ".status", ".curve"]
                    .map((each) => document.querySelector(each).getBoundingClientRect());
                const list = document.querySelector(".status");
                return [list.scrollHeight > list.clientHeight + 1 || status.bottom > tile.bottom,
                    status.top - dash.bottom, curve.top >= status.bottom || curve.left > dash.left];
            }"""
        )

        exporter.close()
        assert not cut_off
        assert 0 <= below_the_dash < 20
        assert curve_below

    def test_answer_for_the_night_is_the_largest_text_of_its_line(
        self, exporter: FakeExporter, open_page: Open
    ) -> None:
        answer, line = open_page(exporter.url, locale="de-DE").evaluate(
            "['.enough', '.night'].map((each) =>"
            " parseFloat(getComputedStyle(document.querySelector(each)).fontSize))"
        )

        assert answer > 1.3 * line

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
