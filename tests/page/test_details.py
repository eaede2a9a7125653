"""A battery's own view."""

import re

import pytest

from tests.support import fake_exporter as fake
from tests.support.browser import Open, text_of
from tests.support.fake_exporter import FakeExporter


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
        for words in ("3.436 V", "35 mV", "Cell 3", "12.8 °C", "13.1 °C", "full about "):
            assert words in text
        for words in ("Short circuit", "14 ×", "−60 dBm"):  # noqa: RUF001 - as it is shown
            assert words in text
        for words in ("JBD-SP04S034", "12 Aug 2022", "1,412"):
            assert words in text

    @pytest.mark.parametrize(
        ("locale", "route", "words"),
        [
            ("en-GB", {}, "the kernel, hci0, since "),
            ("de-DE", {"style": "gentle"}, "den Kernel, hci0, schonend, seit "),
            ("en-GB", {"transport": "bluez", "adapter": "hci1"}, "bluetoothd, hci1, since "),
            ("de-DE", {"transport": "virtual", "adapter": "virtual"}, "eine Simulation, seit "),
        ],
    )
    def test_view_of_a_battery_says_over_which_route_and_since_when(
        self, open_page: Open, locale: str, route: dict[str, str], words: str
    ) -> None:
        one = fake.charging("garage")
        one["link"]["route"].update(route)
        exporter = FakeExporter([one])

        text = text_of(open_page(exporter.url, "garage", locale=locale).locator(".link"))

        exporter.close()
        assert re.search(words + r"\d\d:\d\d", text)

    def test_last_failure_comes_with_what_to_do(self, open_page: Open) -> None:
        exporter = FakeExporter([fake.flaky()])

        card = open_page(exporter.url, "flaky", locale="de-DE").locator(".failure").inner_text()

        exporter.close()
        assert "Die Verbindung ist abgebrochen" in card
        assert "Was tun: Schwaches Signal" in card
        assert "the connection ended in mid-poll" in card

    @pytest.mark.parametrize(
        ("locale", "words"),
        [
            pytest.param(
                "en-GB",
                [
                    ("Lowest cell above the cut-off (2.50 V)", "0.812 V"),
                    ("Highest cell below the charge limit (3.65 V)", "0.332 V"),
                    ("Coldest sensor above the frost limit (0 °C)", "12.8 K"),
                    ("Discharging current below the limit (220 A)", "217 A"),
                    "The limits are the battery’s own, read 3 h ago.",  # noqa: RUF001 - as it is shown
                ],
                id="English",
            ),
            pytest.param(
                "de-DE",
                [
                    ("Niedrigste Zelle bis zur Abschaltung (2,50 V)", "0,812 V"),
                    ("Höchste Zelle bis zum Ladestopp (3,65 V)", "0,332 V"),
                    ("Kältester Sensor bis zur Frostgrenze (0 °C)", "12,8 K"),
                    ("Entladestrom bis zum Höchstwert (220 A)", "217 A"),
                    "Die Grenzen sind die der Batterie, ausgelesen vor 3 h.",
                ],
                id="German",
            ),
        ],
    )
    def test_headroom_is_shown_where_the_limits_are_known(
        self, open_page: Open, locale: str, words: list[str | tuple[str, str]]
    ) -> None:
        exporter = FakeExporter([fake.battery("camper", settings=fake.settings())])

        card = open_page(exporter.url, "camper", locale=locale).locator(".headroom")

        text = text_of(card)
        exporter.close()
        for each in words:
            assert "\n".join(each if isinstance(each, tuple) else [each]) in text

    def test_headroom_leaves_out_what_is_not_known(self, open_page: Open) -> None:
        unknown = fake.settings(cell_overvoltage_v=None)
        del unknown["values"]["discharge_overcurrent_a"]
        one = fake.battery("a", settings=unknown)
        one["reading"]["temperatures_c"] = [-30.0]
        unread = fake.battery("b", settings=fake.settings(), reading=None)
        early = fake.battery("d", settings=fake.settings() | {"read_unix_s": None, "values": {}})
        exporter = FakeExporter([one, unread, fake.battery("c"), early])

        page = open_page(exporter.url, "a")
        terms = [each.inner_text() for each in page.locator(".headroom dt").all()]
        counts = [open_page(exporter.url, name).locator(".headroom").count() for name in "bcd"]

        exporter.close()
        assert terms == ["Lowest cell above the cut-off (2.50\u00a0V)"]
        assert counts == [0, 0, 0]

    def test_blocked_charge_looks_other_than_a_heater_that_is_off(self, open_page: Open) -> None:
        exporter = FakeExporter(
            [
                fake.battery(
                    "cold",
                    reading=fake.reading(
                        charge_fet_on=False,
                        heater_on=False,
                        protections=["charge_undertemperature"],
                    ),
                ),
                fake.battery("off", reading=fake.reading(discharge_fet_on=False)),
            ]
        )

        def switches(name: str) -> list[str]:
            rows = open_page(exporter.url, name).locator(".switches dd").all()
            return [text_of(row).strip() + " !" * row.locator("svg").count() for row in rows]

        shown = switches("cold"), switches("off")
        exporter.close()
        assert shown == (["blocked !", "on", "off"], ["on", "switched off !"])
