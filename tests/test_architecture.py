"""The house: who may import whom, and what its documents promise."""

import ast
import sys
from pathlib import Path
from typing import Final

import pytest

from exporter.errors import FailureReason
from exporter.metrics import ROWS
from exporter.protocol.frame import READ, Command, encode_request

ROOT: Final = Path(__file__).parent.parent
PACKAGE: Final = ROOT / "exporter"

# What each module may import, beside the standard library: an import that is not listed fails.
PROTOCOL: Final = {"protocol.auth", "protocol.frame", "protocol.jbd"}
MAY_IMPORT: Final[dict[str, set[str]]] = {
    "__init__": set(),
    "errors": set(),
    "reading": set(),
    "profiles": set(),
    "clock": set(),
    "protocol.__init__": set(),
    "protocol.frame": set(),
    "protocol.auth": {"errors"},
    "protocol.registers": {"errors"},
    "protocol.jbd": {"errors", "reading", "protocol.registers"},
    "protocol.explain": {"errors", "protocol.frame", "protocol.jbd", "protocol.registers"},
    "protocol.pasted": {"errors"},
    "protocol.split": {"protocol.explain", "protocol.frame", "protocol.jbd"},
    "files": {"errors"},
    "document": {"yaml", "errors"},
    "config": {"yaml", "cattrs", "document", "errors", "files", "profiles"},
    "logs": {"logfmter", "pythonjsonlogger", "clock"},
    "stats": {"errors", "protocol.frame"},
    "bms": {"clock", "errors", "reading", "stats"} | PROTOCOL,
    "discovery": set(),
    "within": set(),
    "trouble": {"bleak", "errors"},
    "scan": {"bleak", "bleak_retry_connector", "errors", "trouble"},
    "bluetoothd": {"bleak", "bleak_retry_connector", "scan", "trouble", "within"},
    "connection": {"bleak", "bluetoothd", "errors", "profiles", "stats", "trouble"},
    "direct.__init__": set(),
    "direct.att": {"profiles"},
    "direct.sockets": set(),
    "direct.management": {"direct.sockets"},
    "direct.client": {
        "bleak",
        "direct.__init__",
        "direct.att",
        "direct.sockets",
        "errors",
        "profiles",
    },
    "radio": {
        "bleak",
        "bleak_retry_connector",
        "bluetoothd",
        "clock",
        "connection",
        "direct.client",
        "direct.management",
        "discovery",
        "errors",
        "scan",
        "stats",
        "trouble",
        "within",
    },
    "spread": {"connection", "discovery", "errors", "radio"},
    "history": {"clock"},
    "poller": {"clock", "config", "errors", "history", "reading", "stats"},
    "metrics": {
        "prometheus_client",
        "__init__",
        "clock",
        "errors",
        "poller",
        "protocol.frame",
        "reading",
    },
    "api": {"history", "poller", "reading"},
    "watch": {"poller"},
    "webconfig": {"config", "document", "errors", "files"},
    "web.__init__": set(),
    "web.assets": set(),
    "web.auth": {"bcrypt", "webconfig"},
    "web.exposition": {"prometheus_client", "metrics", "poller"},
    "web.tls": {"errors", "files", "webconfig"},
    "web.server": {"tornado", "errors"},
    "web.handler": {"tornado", "web.auth", "web.server"},
    "web.page_handlers": {
        "__init__",
        "api",
        "clock",
        "poller",
        "watch",
        "web.assets",
        "web.handler",
    },
    "web.app": {
        "clock",
        "metrics",
        "poller",
        "watch",
        "web.auth",
        "web.exposition",
        "web.handler",
        "web.page_handlers",
    },
    "house": {
        "bms",
        "clock",
        "config",
        "direct.__init__",
        "direct.client",
        "direct.management",
        "direct.sockets",
        "errors",
        "poller",
        "radio",
        "spread",
        "stats",
    },
    "app": {
        "systemd_watchdog",
        "config",
        "errors",
        "house",
        "metrics",
        "poller",
        "radio",
        "watch",
        "web.app",
        "web.auth",
        "web.server",
        "web.tls",
        "webconfig",
    },
    "report": {"prometheus_client", "yaml", "config", "discovery", "metrics", "poller", "reading"},
    "decoded": {
        "prometheus_client",
        "errors",
        "files",
        "metrics",
        "poller",
        "protocol.explain",
        "protocol.frame",
        "protocol.jbd",
        "protocol.pasted",
        "protocol.split",
        "reading",
        "report",
        "stats",
    },
    "demo.__init__": set(),
    "demo.battery": {"bleak", "profiles", "protocol.frame"},
    "demo.day": {
        "demo.battery",
        "protocol.frame",
        "protocol.jbd",
        "protocol.registers",
        "reading",
    },
    "demo.replay": {
        "demo.battery",
        "errors",
        "files",
        "protocol.frame",
        "protocol.pasted",
        "protocol.split",
    },
    "demo.fleet": {"demo.battery", "demo.day", "profiles"},
    "demo.radio": {"bleak", "demo.battery", "radio"},
    "cli": {
        "__init__",
        "app",
        "config",
        "decoded",
        "demo.__init__",
        "demo.fleet",
        "demo.radio",
        "demo.replay",
        "discovery",
        "errors",
        "logs",
        "radio",
        "report",
    },
    "__main__": {"cli"},
}


def modules() -> list[str]:
    return sorted(
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in PACKAGE.rglob("*.py")
    )


def imported_by(module: str) -> set[str]:
    """Return what a module imports: the project's modules without "exporter.", others whole."""
    tree = ast.parse((PACKAGE / (module.replace(".", "/") + ".py")).read_text(encoding="utf-8"))
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if _is_module(name) else str(node.module) for name in names}
    return {_short(name) for name in found}


def _is_module(name: str) -> bool:
    return name.removeprefix("exporter.") in modules()


def _short(name: str) -> str:
    if name in (
        "exporter",
        "exporter.demo",
        "exporter.direct",
        "exporter.protocol",
        "exporter.web",
    ):
        return f"{name}.__init__".removeprefix("exporter.")
    return (
        name.removeprefix("exporter.")
        if name.startswith("exporter.")
        else name.split(".", maxsplit=1)[0]
    )


@pytest.mark.parametrize("module", modules())
def test_imports_point_one_way(module: str) -> None:
    assert imported_by(module) - sys.stdlib_module_names <= MAY_IMPORT[module]


def test_nothing_is_listed_that_is_not_there() -> None:
    assert sorted(MAY_IMPORT) == modules()


def test_the_arrows_form_no_circle() -> None:
    left = {module: imported_by(module) & set(MAY_IMPORT) for module in modules()}
    while free := [module for module, needs in left.items() if not needs & set(left)]:
        for module in free:
            del left[module]

    assert left == {}


def test_only_the_radio_reaches_bluetooth() -> None:
    users = {module for module in modules() if "bleak" in imported_by(module)}

    assert users == {
        "radio",
        "connection",
        "scan",
        "bluetoothd",
        "trouble",
        "direct.client",
        "demo.radio",
        "demo.battery",
    }


@pytest.mark.parametrize("command", list(Command))
def test_every_request_reads(command: Command) -> None:
    assert encode_request(command)[1] == READ == 0xA5


class TestReadme:
    TEXT: Final = (ROOT / "README.md").read_text(encoding="utf-8")

    @pytest.mark.parametrize("reason", list(FailureReason))
    def test_it_explains_every_reason_to_fail(self, reason: FailureReason) -> None:
        assert f"| `{reason}` |" in self.TEXT

    def test_it_names_only_metrics_that_exist(self) -> None:
        words = {word.strip("`,.") for word in self.TEXT.replace("{", " ").split()}
        named = {word for word in words if word.startswith("bms_")}
        known = {row.name for row in ROWS} | {f"{row.name}_total" for row in ROWS}

        assert named
        assert named <= known
