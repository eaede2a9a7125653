"""Banks as tiles: a total, or why there is none; and whether the charge lasts until the morning."""

from collections.abc import Callable

import pytest

from tests.support import fake_exporter as fake
from tests.support.browser import (
    PHONES,
    TABLETS,
    Open,
    overflow,
    sticking_out,
    text_of,
    violations,
    wait_until,
)
from tests.support.fake_exporter import FakeExporter, Json

STALE_S = 400.0  # older than max_age_s


def make_exporter(left: Json, right: Json, **changes: str) -> FakeExporter:
    return FakeExporter([left, right], banks=[fake.bank("living area", [left, right], **changes)])


class TestBanks:
    @pytest.mark.parametrize(
        ("wiring", "words"),
        [
            ("parallel", ["262.0 Ah", "of 400 Ah", "13.26 V", "5.5 A", "2 batteries in parallel"]),
            ("series", ["131.0 Ah", "of 200 Ah", "26.52 V", "2.8 A", "2 batteries in series"]),
        ],
    )
    def test_first_tile_is_the_bank_with_its_total_and_its_batteries(
        self, open_page: Open, wiring: str, words: list[str]
    ) -> None:
        exporter = make_exporter(fake.battery("left"), fake.battery("right"), wiring=wiring)
        page = open_page(exporter.url)

        text = text_of(page.locator(".tile").first).replace("\n", "")
        rows = [text_of(row).split() for row in page.locator(".members li").all()]
        found = violations(page)

        exporter.close()
        assert "living area" in text
        assert [each for each in words if each not in text] == []
        assert rows == [["left", "66", "%"], ["right", "66", "%"]]
        assert found == []

    @pytest.mark.parametrize(
        ("make", "locale", "words"),
        [
            pytest.param(
                fake.missing, "en-GB", "No total without right. Not reached since", id="missing"
            ),
            pytest.param(
                fake.paused, "en-GB", "No total without right. Left to the phone app", id="paused"
            ),
            pytest.param(
                fake.unread, "de-DE", "Keine Summe ohne right. Noch nicht", id="renamed or new"
            ),
        ],
    )
    @pytest.mark.parametrize("wiring", ["parallel", "series"])
    def test_bank_without_all_of_its_batteries_has_no_total_and_says_why(
        self,
        open_page: Open,
        make: Callable[[str], Json],
        locale: str,
        words: str,
        wiring: str,
    ) -> None:
        exporter = make_exporter(fake.battery("left"), make("right"), wiring=wiring)
        tile = open_page(exporter.url, locale=locale).locator(".tile").first

        amount, status = text_of(tile.locator(".amount")), text_of(tile.locator(".status"))

        exporter.close()
        assert amount.split() == ["–", "Ah"]  # noqa: RUF001 - as it is shown
        assert words in status

    def test_bank_with_an_old_reading_is_grey_and_names_the_battery(self, open_page: Open) -> None:
        right = fake.battery("right", reading=fake.reading(STALE_S))
        exporter = make_exporter(fake.battery("left"), right)
        tile = open_page(exporter.url).locator(".tile").first

        classes, status = tile.get_attribute("class").split(), text_of(tile.locator(".status"))
        answer = text_of(tile.locator(".night"))

        exporter.close()
        assert "stale" in classes
        assert "right: No newer value" in status
        assert answer == "Until morning: –"  # noqa: RUF001 - as it is shown

    @pytest.mark.parametrize(
        ("difference_ratio", "locale", "words"),
        [
            (0.1, "en-GB", "All is well"),
            (0.27, "en-GB", "Its batteries are charged unequally: 27 % apart. Charge all of them"),
            (0.27, "de-DE", "Batterien ungleich geladen: 27 % Unterschied. Alle auf 100 % laden."),
        ],
    )
    def test_bank_with_unequal_batteries_warns_in_its_tile_and_in_the_header(
        self, open_page: Open, difference_ratio: float, locale: str, words: str
    ) -> None:
        members = [fake.battery("left"), fake.battery("right")]
        bank = fake.bank("living area", members)
        bank["total"]["rsoc_difference_ratio"] = difference_ratio
        exporter = FakeExporter(members, banks=[bank])
        page = open_page(exporter.url, locale=locale)

        status = text_of(page.locator(".status").first)
        in_header = [text_of(each) for each in page.locator(".worst").all()]
        announced = page.locator("#announcer").inner_text()
        found = violations(page)

        exporter.close()
        assert words in status
        short = f"living area: {words.partition(':')[0]}"
        assert in_header == ([short] if difference_ratio > 0.1 else [])
        assert announced == (f"{short}." if difference_ratio > 0.1 else "")
        assert found == []

    def test_total_disappears_with_the_event_of_a_battery(self, open_page: Open) -> None:
        left, right = fake.battery("left"), fake.battery("right")
        exporter = make_exporter(left, right)
        page = open_page(exporter.url)
        assert page.locator(".bank.unread").count() == 0

        gone = fake.missing("right")
        exporter.publish(gone, [fake.bank("living area", [left, gone])])

        wait_until(lambda: page.locator(".bank.unread").count() == 1)
        exporter.close()

    @pytest.mark.parametrize("viewport", [*PHONES, *TABLETS])
    @pytest.mark.parametrize("locale", ["en-GB", "de-DE"])
    def test_bank_fits_every_screen(
        self, open_page: Open, viewport: tuple[int, int], locale: str
    ) -> None:
        members = [fake.battery("left"), fake.missing("right"), fake.cold(), fake.charging()]
        others = [*members, fake.unread("fifth")]
        banks = [fake.bank("living area", members[:1]), fake.bank("roof", others)]
        exporter = FakeExporter(members, banks=banks)
        page = open_page(exporter.url, viewport=viewport, locale=locale)

        scrolls_horizontally, _ = overflow(page)
        out = sticking_out(page)

        exporter.close()
        assert not scrolls_horizontally
        assert out == []


class TestUntilMorning:
    @pytest.mark.parametrize(
        ("morning", "english", "german"),
        [
            ({"left_ah": 86.9, "enough": "yes"}, "yes, 86 Ah left", "ja, noch 86 Ah"),
            ({"left_ah": 18.0, "enough": "low"}, "just, 18 Ah left", "knapp, noch 18 Ah"),
            ({"left_ah": 3.0, "enough": "no"}, "no", "nein"),
            (None, "not known yet", "noch nicht bekannt"),
        ],
    )
    def test_tile_answers_whether_the_charge_lasts_until_the_morning(
        self, open_page: Open, morning: Json | None, english: str, german: str
    ) -> None:
        exporter = FakeExporter([fake.battery(morning=morning)])

        shown = [
            text_of(open_page(exporter.url, locale=locale).locator(".night"))
            for locale in ("en-GB", "de-DE")
        ]

        exporter.close()
        assert shown == [f"Until morning: {english}", f"Über Nacht: {german}"]
