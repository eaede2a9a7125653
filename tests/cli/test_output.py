"""What `read` and `scan` print can be used by people and by programs."""

import json
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.battery.snapshot import Snapshot
from exporter.cli.output import (
    dump_json,
    printable,
    reading_json,
    reading_table,
    scan_table,
    scan_yaml,
)
from exporter.config.loader import parse
from exporter.link_stats import LinkTotals, Route
from exporter.protocol.advertisement import NAMES, is_certain
from exporter.protocol.jbd import decode_basic
from exporter.reading import Reading
from tests.support.advertisements import make_advertisement
from tests.support.recorded import MOBILEKTRO

YAML_NAMES = (
    "yes",
    "null",
    "1.5",
    "1:30",
    "=",
    "<<",
    "# JBD",
    "- a",
    "a: b",
    "'",
    '"',
    "🔋",
    "שלום",
)
PREFIXES = [name.split("*", maxsplit=1)[0].replace("?", "0") for name in NAMES]
ANY_NAME = st.one_of(
    st.text(max_size=80),
    st.sampled_from(YAML_NAMES),
    st.builds(str.__add__, st.sampled_from(PREFIXES), st.text(max_size=80)),
    st.builds("JBD-{0}\n{0}".format, st.sampled_from(YAML_NAMES)),
    st.sampled_from(["JBD-", "JBD- 2", "JBD-" + 70 * "x", "JBD-" + 58 * " " + "x y"]),
)


class TestYaml:
    @given(names=st.lists(ANY_NAME, max_size=8), last=st.sampled_from(["JBD-1", "AP", "JBD-"]))
    def test_scanned_configuration_always_loads_with_every_certain_battery(
        self, names: list[str], last: str
    ) -> None:
        batteries = [
            make_advertisement(name, f"A4:C1:38:00:00:{number:02X}")
            for number, name in enumerate([*names, last])
        ]
        certain = {one.address for one in batteries if is_certain(one)}

        text = scan_yaml(batteries)
        uncommented = "\n".join(
            line.removeprefix("# ")
            for line in text.splitlines()
            if not line.startswith("# P") and not line.startswith("# remove")
        )

        assert {one.address for one in parse(text).batteries} == certain
        assert {one.address for one in parse(uncommented).batteries} == {
            one.address for one in batteries
        }

    def test_address_of_digits_stays_an_address(self) -> None:
        (battery,) = parse(scan_yaml([make_advertisement("JBD-1", "10:20:30:40:50:59")])).batteries

        assert battery.address == "10:20:30:40:50:59"

    def test_batteries_with_one_name_are_numbered(self) -> None:
        names = ("JBD-1", "JBD-1", "JBD-1 2", "")
        batteries = [
            make_advertisement(name, f"A4:C1:38:00:00:0{n}") for n, name in enumerate(names)
        ]

        text = scan_yaml(batteries)

        assert text.splitlines()[:7] == [
            "batteries:",
            "- name: JBD-1",
            "  address: A4:C1:38:00:00:00",
            "- name: JBD-1 2",
            "  address: A4:C1:38:00:00:01",
            "- name: JBD-1 2 2",
            "  address: A4:C1:38:00:00:02",
        ]
        assert text.splitlines()[-2:] == [
            "# - name: A4:C1:38:00:00:03",
            "#   address: A4:C1:38:00:00:03",
        ]


class TestTable:
    def test_scan_table_puts_certain_batteries_first_and_others_last(self) -> None:
        shown = scan_table(
            [
                make_advertisement("Headphones", services=()),
                make_advertisement("camper", "A4:C1:38:00:00:01"),
                make_advertisement("JBD-1", "A4:C1:38:00:00:02"),
            ]
        )

        rows = [line.split("  ") for line in shown.splitlines()[1:]]
        assert [row[0] for row in rows] == ["JBD-1", "camper", "Headphones"]
        assert rows[1][-1] == "perhaps: service ff00, address block A4:C1:38"
        assert rows[2][-1] == "no sign of one"

    def test_advertised_name_cannot_control_the_terminal(self) -> None:
        assert printable(" JBD-\x1b[31m\n1 ") == "JBD-[31m1"

    @pytest.mark.parametrize(
        ("route", "attempts", "row"),
        [
            (
                Route("direct", "hci0", "gentle"),
                2,
                "link              direct (gentle) over hci0, 2 attempts",
            ),
            (
                Route("bluez", "hci1", "fast"),
                1,
                "link              bluez (fast) over hci1, 1 attempt",
            ),
        ],
    )
    def test_reading_ends_with_the_link(self, route: Route, attempts: int, row: str) -> None:
        link = LinkTotals(route=route, connection_attempts=attempts)
        snapshot = Snapshot(
            battery="camper",
            address="A4:C1:38:00:00:01",
            reading=Reading(basic=decode_basic(MOBILEKTRO[4:-3])),
            link=link,
        )

        assert reading_table(snapshot).splitlines()[-1] == row

    def test_reading_without_a_connection_has_no_link(self) -> None:
        snapshot = Snapshot(
            battery="camper",
            address="A4:C1:38:00:00:01",
            reading=Reading(basic=decode_basic(MOBILEKTRO[4:-3])),
        )

        assert "link" not in reading_table(snapshot)


class TestJson:
    def test_reading_has_the_route_and_the_attempts(self) -> None:
        link = LinkTotals(route=Route("direct", "hci0", "fast"), connection_attempts=1)
        snapshot = Snapshot(battery="camper", address="A4:C1:38:00:00:01", link=link)

        facts = json.loads(reading_json(snapshot))

        assert facts["link"] == {"transport": "direct", "adapter": "hci0", "style": "fast"}
        assert facts["connection_attempts"] == 1

    def test_reading_without_a_connection_has_no_route(self) -> None:
        facts = json.loads(reading_json(Snapshot(battery="b", address="A4:C1:38:00:00:01")))

        assert facts["link"] is None

    def test_json_writes_dates_and_sorted_sets(self) -> None:
        assert dump_json([date(2022, 8, 12), frozenset("ba")]).split() == [
            "[", '"2022-08-12",', "[", '"a",', '"b"', "]", "]",
        ]  # fmt: skip

    def test_json_refuses_other_objects(self) -> None:
        with pytest.raises(TypeError):
            dump_json(object())
