"""What is wrong with a battery: in its tile, in the header, and for screen readers."""

from collections.abc import Callable

import pytest

from tests.support import fake_exporter as fake
from tests.support.browser import LONGEST_NAME, PHONES, Open, text_of, violations, wait_until
from tests.support.fake_exporter import FakeExporter, Json


def cells(*volts: float) -> list[Json]:
    return [
        {"number": number, "voltage_v": volt, "balancing": False}
        for number, volt in enumerate(volts, start=1)
    ]


class TestProblems:
    def test_own_limits_of_a_battery_replace_those_of_lifepo4(self, open_page: Open) -> None:
        reading = fake.reading(cells=cells(2.65, 3.69), temperatures_c=[55.0])
        settings = fake.settings(cell_overvoltage_v=3.7)
        exporter = FakeExporter([fake.battery(reading=reading, settings=settings)])

        text = text_of(open_page(exporter.url).locator(".status"))

        exporter.close()
        assert text == "All is well"

    @pytest.mark.parametrize(
        ("battery", "words"),
        [
            pytest.param(fake.cold, ["Nearly empty", "Too cold: charging is blocked"], id="cold"),
            pytest.param(
                fake.missing,
                ["Not reached since", "(3 h)", "not seen", "Phone app connected?"],
                id="missing",
            ),
            pytest.param(
                lambda: fake.battery(thresholds=fake.thresholds(low={"remaining_ah": 131.5})),
                ["Low: below 131.5 Ah"],
                id="low in Ah",
            ),
            pytest.param(
                lambda: fake.battery(thresholds=fake.thresholds(critical={"rsoc_ratio": 0.7})),
                ["Nearly empty: below 70 %"],
                id="critical in %",
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
                lambda: fake.battery(reading=fake.reading(cells=cells(2.75, 3.7))),
                ["A cell is below 2.8 V", "A cell is above 3.65 V"],
                id="limits of LiFePO4",
            ),
            pytest.param(
                lambda: fake.battery(
                    settings=fake.settings(cell_undervoltage_v=2.7, cell_overvoltage_v=3.62),
                    reading=fake.reading(cells=cells(2.75, 3.63)),
                ),
                ["A cell is below 2.8 V", "A cell is above 3.62 V"],
                id="own limits of cells",
            ),
            pytest.param(
                lambda: fake.battery(reading=fake.reading(temperatures_c=[50.1])),
                ["Hot: above 50 °C"],
                id="hot",
            ),
            pytest.param(
                lambda: fake.battery(
                    settings=fake.settings(discharge_overtemperature_c=55.0),
                    reading=fake.reading(temperatures_c=[45.1]),
                ),
                ["Hot: above 45 °C"],
                id="hot by its own limit",
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
        title = page.title().replace("\xa0", " ")
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

    def test_header_counts_the_problems_of_all_batteries(self, open_page: Open) -> None:
        exporter = FakeExporter([fake.missing(), fake.cold(), fake.paused()])
        page = open_page(exporter.url)

        count, text = text_of(page.locator(".count")), text_of(page.locator(".worst .text"))

        exporter.close()
        assert count == "3 problems"
        assert text == "cold: Nearly empty: below 10 %"

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
