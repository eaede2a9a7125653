"""Every panel of the dashboards around a change of daylight saving time in Berlin."""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import dashboards
import pytest
from servers import ANY_PORT, Server, program
from synthetic_weeks import BERLIN, Week

from tests.support.expressions import VARIABLES

FORWARD, BACK = date(2026, 3, 29), date(2026, 10, 25)
EMPTY_ON_THE_FIRST_DAY = {"Enough until morning?"}  # it needs a night
PANELS = {
    f"{name}: {panel['title']} {panel['id']}": panel
    for name in dashboards.DASHBOARDS
    for panel in json.loads(dashboards.text(name))["panels"]
    if panel["type"] != "row"
}


@dataclass(frozen=True, slots=True)
class Recorded:
    server: Server
    week: Week
    change: date

    def range(self, expr: str, start_s: float, end_s: float, step_s: int) -> list[Any]:
        found = self.server.api(
            "query_range", query=expr, start=str(start_s), end=str(end_s), step=str(step_s)
        )
        result: list[Any] = found["result"]
        return result

    def at(self, expr: str, moment_s: float) -> dict[str, float]:
        found = self.server.api("query", query=plain(expr), time=str(moment_s))["result"]
        return {
            one["metric"].get("bank") or one["metric"].get("battery", ""): float(one["value"][1])
            for one in found
        }


def plain(expr: str) -> str:
    """Return the expression with every variable at "All", for the whole of its range."""
    expr = expr.replace(f" {dashboards.NOW}", "")
    for variable, value in VARIABLES.items():
        expr = expr.replace(variable, value)
    return expr


@pytest.fixture(scope="module", params=[FORWARD, BACK], ids=["forward", "back"])
def recorded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Recorded]:
    folder = tmp_path_factory.mktemp("week")
    week = Week(request.param - timedelta(days=7))
    (folder / "week.om").write_text("\n".join([*week.lines(), ""]))
    subprocess.run(
        [program("promtool"), "tsdb", "create-blocks-from", "openmetrics", "--quiet",
         "--max-block-duration=500h", folder / "week.om", folder / "db"],
        check=True,
    )  # fmt: skip
    with Server(
        [program("prometheus"), "--config.file=/dev/null", f"--storage.tsdb.path={folder}/db",
         "--storage.tsdb.retention.time=99y", f"--web.listen-address={ANY_PORT}"],
        folder,
    ) as server:  # fmt: skip
        yield Recorded(server, week, request.param)


@pytest.mark.parametrize("panel", PANELS.values(), ids=PANELS)
def test_panel_has_a_result_on_every_day(recorded: Recorded, panel: dict[str, Any]) -> None:
    week = recorded.week
    step_s = 900 if panel.get("interval") == "15m" else 3600
    seen: set[date] = set()
    for target in panel["targets"]:
        expr = plain(target["expr"])
        for series in recorded.range(expr, week.at(week.first), week.at(week.days[-1], 23), step_s):
            seen |= {datetime.fromtimestamp(one[0], BERLIN).date() for one in series["values"]}

    assert seen >= set(week.days[panel["title"] in EMPTY_ON_THE_FIRST_DAY :])


@pytest.mark.parametrize(("letter", "sign"), [("A", 1), ("B", -1)], ids=["charged", "discharged"])
def test_bar_of_every_local_day_is_its_energy(recorded: Recorded, letter: str, sign: int) -> None:
    (panel,) = (one for one in PANELS.values() if one["title"].startswith("Energy of"))
    (target,) = (one for one in panel["targets"] if one["refId"] == letter)
    week = recorded.week
    found = recorded.range(
        plain(target["expr"]), week.at(week.first), week.at(week.days[-1], 24), 900
    )

    assert {one["metric"]["battery"] for one in found} == set(week.counts)
    for series in found:
        bars = {int(moment_s): sign * float(value) for moment_s, value in series["values"]}
        counted = {
            int(week.at(day)): both[letter == "B"]
            for day, both in week.counts[series["metric"]["battery"]].of_day.items()
            if day in week.days
        }
        assert bars == pytest.approx(counted, rel=0.01)


def test_night_consumption_is_that_of_the_night_hours(recorded: Recorded) -> None:
    for day in recorded.week.days[1:]:
        shown = recorded.at(dashboards.NIGHT_WH, recorded.week.at(day, 7))

        assert shown == pytest.approx(
            {name: count.of_night[day - timedelta(days=1)]
             for name, count in recorded.week.counts.items()},
            rel=0.02,
        )  # fmt: skip


@pytest.mark.parametrize("hour", [8, 19, 21, 24, 28])
def test_time_until_morning_ends_when_clocks_show_it(recorded: Recorded, hour: int) -> None:
    for day in recorded.week.days[1:-1]:
        from_s = max(recorded.week.at(day, hour), recorded.week.at(day, 20))
        morning_s = recorded.week.at(day + timedelta(days=1), 7)

        shown = recorded.at(dashboards.UNTIL_MORNING_S, recorded.week.at(day, hour))

        assert shown[""] == pytest.approx(morning_s - from_s, abs=240)


@pytest.mark.parametrize("days", [-1, 0, 1], ids=["before", "change", "after"])
def test_rest_in_the_morning_is_what_the_last_night_would_leave(
    recorded: Recorded, days: int
) -> None:
    evening = recorded.change + timedelta(days=days - 1)
    moment_s = recorded.week.at(evening, 22)
    hours = (recorded.week.at(evening + timedelta(days=1), 7) - moment_s) / 3600
    night_a = recorded.at(dashboards.NIGHT_OF_TOTAL_A, moment_s)
    left_ah = recorded.at(dashboards.REMAINING_AH, moment_s)

    shown = recorded.at(dashboards.MORNING_AH, moment_s)

    assert set(shown) == {"both", "solo"}
    for name, value in shown.items():
        assert value == pytest.approx(max(left_ah[name] - night_a[name] * hours, 0.0), abs=0.2)
