"""Every expression of dashboards and recording rules finds something in two days of the demo."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import ANY_PORT, Server, program

from tests.support.expressions import EXPRESSIONS
from tests.support.paths import PROJECT

THREE_DAYS_S = 3 * 86400  # two whole ones, and what there is of today
STEP_S = 600
OF_A_DAY = {
    place: expr
    for place, expr in EXPRESSIONS.items()
    if not place.startswith("bms-alerts") and "bms:" not in expr and "absent(" not in expr
}


@pytest.fixture(scope="module")
def a_day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("day")
    history = folder / "history.om"
    with history.open("w") as file:
        subprocess.run(
            [sys.executable, PROJECT / "scripts" / "history.py", "2", "60"], stdout=file, check=True
        )
    subprocess.run(
        [program("promtool"), "tsdb", "create-blocks-from", "openmetrics", history, folder / "db"],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    with serving(folder) as server:
        yield server


def serving(folder: Path) -> Server:
    return Server(
        [program("prometheus"), "--config.file=/dev/null", f"--storage.tsdb.path={folder}/db",
         "--storage.tsdb.retention.time=60d", f"--web.listen-address={ANY_PORT}"],
        folder,
    )  # fmt: skip


@pytest.mark.parametrize("place", OF_A_DAY)
def test_an_expression_finds_something_in_a_day(place: str, a_day: Server) -> None:
    # What a panel shows of now, of every moment of the day.
    expr = re.sub(r" and on \(\) \(vector\(time\(\)\) > .*?/ 1000\)", "", OF_A_DAY[place])
    now = time.time()

    found = a_day.ask(
        "query_range", query=expr, start=str(now - THREE_DAYS_S), end=str(now), step=str(STEP_S)
    )

    assert found["result"], expr
