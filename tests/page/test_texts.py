"""The languages of the page, and texts that are complete."""

import re
from typing import Any

from tests.support import fake_exporter as fake
from tests.support.browser import Open, text_of
from tests.support.fake_exporter import FakeExporter

UNITS = "Ah|A|V|W|%|°C|K|mV|dBm|h|min|s|days?|Tage?n?|×"  # noqa: RUF001 - as it is shown


class TestTexts:
    def test_no_break_space_joins_every_number_and_its_unit(self) -> None:
        texts = (fake.PAGE / "i18n.js").read_text(encoding="utf-8")
        lines = [line for line in texts.splitlines() if not line.lstrip().startswith("/")]

        parted = [line for line in lines if re.search(rf"[\d}}] (?:{UNITS})(?!\w)", line)]

        assert parted == []

    def test_language_switch_is_remembered(self, exporter: FakeExporter, open_page: Open) -> None:
        page = open_page(exporter.url, "camper")

        page.click(".language")
        page.wait_for_selector("html[lang=de] .tile")
        german = text_of(page.locator("main"))
        page.goto(exporter.url)
        page.wait_for_selector(".tile")
        again = page.evaluate("document.documentElement.lang")
        page.click(".language")
        page.wait_for_selector("html[lang=en] .tile")

        assert "Zellen" in german
        assert "13,26 V" in german
        assert again == "de"
        assert "13.26 V" in text_of(page.locator("main"))

    def test_unknown_language_in_the_address_leaves_the_browsers(
        self, exporter: FakeExporter, open_page: Open
    ) -> None:
        page = open_page(exporter.url, locale="de-AT")

        page.goto(f"{exporter.url}?lang=constructor")
        page.wait_for_selector(".tile")

        assert page.evaluate("document.documentElement.lang") == "de"

    def test_line_below_the_current_is_never_empty(self, open_page: Open) -> None:
        nothing: dict[str, Any] = {"time_to_empty_s": None, "time_to_full_s": None}
        cases = {
            "charge stays the same": fake.reading(**nothing, current_a=0.0),
            "full": fake.reading(**nothing, current_a=0.0, rsoc_ratio=1.0),
            "empty in more than 30 days": fake.reading(**nothing, current_a=-0.06),
            "no forecast": fake.reading(**nothing, current_a=-5.0),
            r"full in \d\d min": fake.reading(
                **nothing | {"time_to_full_s": 3000.0}, current_a=9.0
            ),
        }
        exporter = FakeExporter([fake.battery(name, reading=one) for name, one in cases.items()])
        page = open_page(exporter.url)

        shown = [text_of(line) for line in page.locator(".eta").all()]

        exporter.close()
        assert all(map(re.fullmatch, cases, shown)), shown

    def test_view_has_only_rows_with_a_value(self, open_page: Open) -> None:
        exporter = FakeExporter([fake.missing(), fake.unread()])
        for name in ("missing", "new"):
            page = open_page(exporter.url, name)

            values = [text_of(value) for value in page.locator(".card .rows dd").all()]

            assert values
            assert [each for each in values if each in {"", "–"}] == []  # noqa: RUF001 - as shown
            assert page.locator(".card.temperatures, .card.switches").count() == 0
        exporter.close()
