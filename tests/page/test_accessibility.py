"""Screen readers, keyboards and touch screens reach everything."""

import pytest

from tests.support import fake_exporter as fake
from tests.support.browser import CAMPER, FAULTS, HTML_NAME, Makers, Open, make_all, violations
from tests.support.fake_exporter import FakeExporter


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
        assert "cold: Nearly empty" in focused()
        page.keyboard.press("Tab")
        assert focused() == "DE"
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
