"""What `read` prints can be used by people and by programs."""

import json
from dataclasses import replace
from datetime import date

import pytest

from exporter.battery.snapshot import Snapshot
from exporter.cli.output import (
    dump_json,
    reading_json,
    reading_table,
)
from exporter.config.presentation import Presentation
from exporter.link_stats import LinkTotals, Route
from exporter.protocol.jbd import decode_basic
from exporter.reading import Reading
from tests.support.recorded import MOBILEKTRO


class TestTable:
    def test_sensors_have_configured_names_and_an_empty_socket_is_left_out(self) -> None:
        basic = replace(decode_basic(MOBILEKTRO[4:-3]), temperatures_c=(21.5, -30.0, None))
        snapshot = Snapshot(
            battery="camper",
            address="A4:C1:38:00:00:01",
            reading=Reading(basic=basic),
            presentation=Presentation(sensors=("cells", None)),
        )

        rows = [row for row in reading_table(snapshot).splitlines() if row.startswith("NTC")]
        assert rows == ["NTC 1 (cells)     21.5 °C", "NTC 3             open or shorted"]
        assert json.loads(reading_json(snapshot))["sensors"] == ["cells", None, "ntc3"]

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
