"""Every expression of dashboards, recording rules and docs/metrics.md has a result in the demo."""

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

# The demo has no proxy. It reads every battery of its bank, charges them equally, has enough in the
# morning, and only cold blocks it. Its history has no metrics of the exporter but the local time.
# The opposite comparison has a result.
WITHOUT_CASE = {
    "metrics.md: Does the exporter work?": None,
    "metrics.md: Does the proxy work?": None,
    "camper-energy.json: What is wrong A": ("protection!~", "protection=~"),
    "camper-energy.json: What is wrong G": ("} < bms_bank_batteries", "} == bms_bank_batteries"),
    "camper-energy.json: What is wrong H": ("} > 0.1", "} <= 0.1"),
    "camper-energy.json: Enough until morning? C": ("/ 3600, 0) < (", "/ 3600, 0) >= ("),
}
THREE_DAYS_S = 3 * 86400  # two complete days, and today so far
STEP_S = 600
WITH_RESULTS = {
    place: expr
    for place, expr in EXPRESSIONS.items()
    if not place.startswith("bms-alerts")
    and "bms:" not in expr
    and "absent(" not in expr
    and WITHOUT_CASE.get(place, "") is not None
}


@pytest.fixture(scope="module")
def two_days(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("day")
    history = folder / "history.om"
    with history.open("w") as file:
        subprocess.run(
            [sys.executable, PROJECT / "scripts" / "history.py", "2", "60"], stdout=file, check=True
        )
    subprocess.run(
        [program("promtool"), "tsdb", "create-blocks-from", "openmetrics",
         "--max-block-duration=500h", history, folder / "db"],  # reads all of it for each block
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    with serving(folder) as server:
        yield server


def serving(folder: Path) -> Server:
    return Server(
        [program("prometheus"), "--config.file=/dev/null", f"--storage.tsdb.path={folder}/db",
         "--storage.tsdb.retention.time=60d", f"--web.listen-address={ANY_PORT}"],
        folder,
    )  # fmt: skip


@pytest.mark.parametrize("place", WITH_RESULTS)
def test_expression_has_a_result_in_two_days_of_the_demo(place: str, two_days: Server) -> None:
    # Without the condition that limits a panel to the last moment of its range.
    expr = re.sub(r" and on \(\) \(vector\(time\(\)\) > .*?/ 1000\)", "", WITH_RESULTS[place])
    if (opposite := WITHOUT_CASE.get(place)) is not None:
        assert opposite[0] in expr
        expr = expr.replace(*opposite)
    now = time.time()

    found = two_days.api(
        "query_range", query=expr, start=str(now - THREE_DAYS_S), end=str(now), step=str(STEP_S)
    )

    assert found["result"], expr
