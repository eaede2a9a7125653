"""Imports point one way, every request reads, and documents name what exists."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from exporter.errors import FailureReason
from exporter.metrics import INFOS, ROWS
from exporter.protocol.frame import READ, Command, encode_request
from tests.support.paths import PROJECT

# A name imports only names to its left; those between two "<" do not import each other.
RULE: Final = (
    "errors reading clock < logs protocol < recording < config connection link_stats"
    " < battery ble localtime < metrics bank_metrics batteries process demo < replay"
    " < web reload doctor < app < cli < __main__"
)
RANKS: Final = {name: n for n, names in enumerate(RULE.split("<")) for name in names.split()}
MODULES: Final = sorted((PROJECT / "exporter").rglob("*.py"))


def imports_of(path: Path) -> Iterator[str]:
    """Yield "exporter.protocol.jbd" for each import of it, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_imports_point_one_way(path: Path) -> None:
    own = path.relative_to(PROJECT / "exporter").with_suffix("").parts[0]
    for name in imports_of(path):
        package, _, rest = name.partition(".")
        imported = rest.partition(".")[0]
        if package == "exporter" and imported in RANKS and imported != own:
            assert RANKS[imported] < RANKS[own], name
            assert imported not in {"demo", "replay"} or own == "cli", name
        assert package != "bleak" or own in {"ble", "demo", "replay"}, name


def test_no_test_module_imports_another() -> None:
    helpers = {"conftest", "support"}
    for path in (PROJECT / "tests").rglob("*.py"):
        for name in imports_of(path):
            imported = name.split(".")
            assert not any(part.startswith("test_") for part in imported[:-1]), (path, name)
            assert imported[0] != "tests" or imported[1] in helpers, (path, name)


@pytest.mark.parametrize("command", list(Command))
def test_every_request_reads(command: Command) -> None:
    assert encode_request(command)[1] == READ == 0xA5


@pytest.mark.parametrize("reason", list(FailureReason))
def test_troubleshooting_explains_every_reason_to_fail(reason: FailureReason) -> None:
    text = (PROJECT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")

    assert f"| `{reason}` |" in text


class TestReadme:
    TEXT: Final = (PROJECT / "README.md").read_text(encoding="utf-8")

    def test_it_names_only_metrics_that_exist(self) -> None:
        words = {word.strip("`,.") for word in self.TEXT.replace("{", " ").split()}
        named = {word for word in words if word.startswith("bms_")}
        known = {row.name for row in ROWS} | {f"{row.name}_total" for row in ROWS}
        known |= {f"{info.name}_info" for info in INFOS}

        assert named
        assert named <= known
