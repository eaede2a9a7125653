"""A battery's tile and the texts of both languages."""

from exporter.errors import FailureReason
from exporter.reading import Protection
from tests.support import fake_exporter as fake
from tests.support.browser import Open, text_of
from tests.support.fake_exporter import FakeExporter


class TestTile:
    def test_tile_shows_remaining_charge_current_and_forecast(
        self, exporter: FakeExporter, open_page: Open
    ) -> None:
        page = open_page(exporter.url)

        text = text_of(page.locator(".tile", has_text="camper"))

        for words in ("131.0 Ah", "66 %", "of 200 Ah", "discharging 2.8 A", "empty in 47 h"):
            assert words in text
        for words in ("13.26 V", "37 W", "12.8 °C", "12 h ago", "200 Ah", "0 Ah", "All is well"):
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

    def test_files_of_the_page_are_below_100_kb(self) -> None:
        files = [path for path in fake.PAGE.rglob("*") if path.is_file() and path.suffix != ".png"]

        assert sum(path.stat().st_size for path in files) < 100_000
