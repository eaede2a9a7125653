"""The dependencies: locked for every platform, under known licences, silent on the network."""

import hashlib
import importlib.metadata
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import distribution, requires
from pathlib import Path

import deb_copyright
import licences
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.paths import PROJECT

LOCK = licences.LOCK.read_text(encoding="utf-8")
LOCKED = dict(licences.locked(LOCK))
EXTRA_LOCK = licences.EXTRA_LOCK.read_text(encoding="utf-8")
EXTRA_LOCKED = dict(licences.locked(EXTRA_LOCK))
PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
PLATFORMS = [
    pytest.param(
        {
            "implementation_name": "cpython",
            "platform_machine": machine,
            "platform_python_implementation": "CPython",
            "platform_system": "Linux",
            "python_full_version": f"{python}.0",
            "python_version": python,
            "sys_platform": "linux",
        },
        id=f"{machine} {python}",
    )
    for machine in ("x86_64", "aarch64", "armv7l")
    for python in ("3.11", "3.12", "3.13")
]


def needed(texts: list[str], platform: dict[str, str], extras: set[str]) -> Iterator[Requirement]:
    """Yield the requirements that apply to a platform, and their own requirements in turn."""
    for requirement in map(Requirement, texts):
        marker = requirement.marker
        if marker and not any(marker.evaluate(platform | {"extra": x}) for x in extras or {""}):
            continue
        yield requirement
        yield from needed(requires(requirement.name) or [], platform, requirement.extras)


class TestLock:
    @pytest.mark.parametrize("platform", PLATFORMS)
    def test_lock_file_has_exactly_the_packages_that_each_platform_needs(
        self, platform: dict[str, str]
    ) -> None:
        roots = PYPROJECT["project"]["dependencies"] + PYPROJECT["build-system"]["requires"]

        requirements = list(needed(roots, platform, set()))

        assert {canonicalize_name(each.name) for each in requirements} == set(LOCKED)
        for each in requirements:
            assert each.specifier.contains(LOCKED[canonicalize_name(each.name)]), each

    @pytest.mark.parametrize("platform", PLATFORMS)
    def test_lock_file_of_proxies_has_exactly_the_packages_that_each_platform_needs(
        self, platform: dict[str, str]
    ) -> None:
        project = PYPROJECT["project"]
        roots = project["dependencies"] + project["optional-dependencies"]["esphome"]

        requirements = list(needed(roots, platform, set()))

        names = {canonicalize_name(each.name) for each in requirements}
        if platform["platform_machine"] == "armv7l":
            assert names == set(LOCKED) - {"flit-core"}  # the extra is not offered there
            return
        assert names == set(EXTRA_LOCKED)
        for each in requirements:
            assert each.specifier.contains(EXTRA_LOCKED[canonicalize_name(each.name)]), each

    def test_both_lock_files_have_the_same_versions(self) -> None:
        shared = LOCKED.keys() & EXTRA_LOCKED

        assert {name: EXTRA_LOCKED[name] for name in shared} == {
            name: LOCKED[name] for name in shared
        }

    @pytest.mark.parametrize("lock", [LOCK, EXTRA_LOCK], ids=["exporter", "proxies"])
    def test_every_locked_package_has_hashes(self, lock: str) -> None:
        entries = re.findall(r"^[a-z0-9-]+==[^#]+", lock, re.MULTILINE)

        assert len(entries) == len(licences.locked(lock))
        assert [each for each in entries if "--hash=sha256:" not in each] == []

    @pytest.mark.parametrize(
        "path",
        [
            "requirements.lock",
            "requirements-dev.lock",
            "requirements-esphome.lock",
            "scripts/release/requirements.lock",
            "tests/api/requirements.lock",
            "tests/page/requirements.lock",
        ],
    )
    def test_no_lock_file_names_an_index(self, path: str) -> None:
        text = (PROJECT / path).read_text(encoding="utf-8")

        assert re.findall(r"://|^\s*-[^-]|^--|/[a-z]+/.*/", text, re.MULTILINE) == []


class TestVendored:
    def test_vendored_preact_is_the_file_of_its_npm_package(self) -> None:
        path = PROJECT / "exporter" / "web" / "page" / "vendor" / "preact.js"

        _, _, packaged = path.read_bytes().partition(b"*/\n")

        # dist/preact.mjs of preact 11.2.0 in the npm registry
        assert hashlib.sha256(packaged).hexdigest() == (
            "bdcbd9abdf2c77c5c45326eab42191e949222d479d0d5f69467387a77040cb55"
        )


class TestLicences:
    def test_licence_document_matches_the_lock_file(self) -> None:
        written = (PROJECT / "docs" / "licences.md").read_text(encoding="utf-8")

        assert written == licences.document(LOCK, EXTRA_LOCK), "make docs"

    def test_copyright_of_the_debian_package_has_every_locked_package(self) -> None:
        names = LOCKED.keys() - {"flit-core"}

        text = deb_copyright.document(PROJECT, map(distribution, names))

        fields = re.findall(r"^(Files|Copyright|License):((?: .+\n)+)", text, re.MULTILINE)
        files = [value for key, value in fields if key == "Files"]
        for name in names:
            folder = f"/{name.replace('-', '_')}-{LOCKED[name]}.dist-info/*"
            assert any(folder in value for value in files), name
        assert [key for key, _ in fields].count("Copyright") == len(files) == len(names) + 2
        assert "Version 2.0, January 2004" not in text  # Debian has that text

    def test_installed_versions_are_the_locked_ones(self) -> None:
        assert {name: importlib.metadata.version(name) for name in LOCKED} == LOCKED

    def test_licence_missing_in_the_list_of_compatible_ones_is_an_error(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        info = tmp_path / "strange-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            "Metadata-Version: 2.4\nName: strange\nVersion: 1\n"
            "License-Expression: MIT AND (GPL-3.0-only OR MIT)\n"
        )
        monkeypatch.syspath_prepend(str(tmp_path))

        with pytest.raises(ValueError, match=r"GPL-3\.0-only OR MIT"):
            licences.licence("strange")


# Prints every use of the network: each name that is looked up, and each socket except local ones
# and the one that listens. An audit hook sees the interpreter's calls, not those of C code: here
# libc's bind and connect on Bluetooth sockets, in exporter/ble/direct/sockets.py.
AUDIT_NETWORK = """
import runpy, socket, sys
LOCAL = {socket.AF_UNIX, getattr(socket, "AF_BLUETOOTH", 31)}
def hook(event, arguments):
    if event in ("socket.bind", "socket.connect", "socket.sendto", "socket.sendmsg"):
        if arguments[0].family in LOCAL or (event == "socket.bind" and arguments[1] == LISTENS):
            return
    elif event == "socket.__new__":
        family, kind = arguments[1:3]
        if family in LOCAL or family == -1:  # -1: accepted, or handed over
            return
        if family in (socket.AF_INET, socket.AF_INET6) and kind & 0xF == socket.SOCK_STREAM:
            return  # may listen; connect and bind are judged above
    elif not event.startswith(("socket.get", "urllib.", "http.", "ftplib.", "smtplib.")):
        return
    elif event == "socket.gethostname":
        return
    print("NETWORK", event, *map(str, arguments[:3]), file=sys.stderr, flush=True)
LISTENS = ("127.0.0.1", int(sys.argv[1]))
sys.argv = ["bms-exporter", *sys.argv[2:]]
sys.addaudithook(hook)
"""
IMPORT_ALL = """
import importlib, pkgutil, exporter
for module in pkgutil.walk_packages(exporter.__path__, "exporter."):
    if module.name != "exporter.__main__":
        importlib.import_module(module.name)
print("done", file=sys.stderr)
"""
START = "runpy.run_module('exporter', run_name='__main__')"


def network_uses(program: str, *arguments: str, until: str) -> list[str]:
    """Run a program until its log contains `until`; return each use of the network."""
    process = subprocess.Popen(
        [sys.executable, "-c", AUDIT_NETWORK + program, *arguments],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr
    lines = []
    for line in process.stderr:
        lines.append(line)
        if until in line:
            break
    process.send_signal(signal.SIGTERM)
    rest = process.communicate(timeout=30)[1].splitlines()
    assert until in lines[-1], lines
    return [line for line in lines + rest if line.startswith("NETWORK")]


class TestNetwork:
    def test_importing_the_modules_does_not_use_the_network(self) -> None:
        assert network_uses(IMPORT_ALL, "0", until="done") == []

    def test_demo_opens_no_connection_and_only_listens(self) -> None:
        used = network_uses(
            START, "0", "demo", "--web.listen-address", "127.0.0.1:0", until="msg=listening"
        )

        assert used == []

    def test_exporter_opens_no_connection_and_only_listens(self, tmp_path: Path) -> None:
        config = tmp_path / "config.yaml"
        config.write_text("batteries: [{name: camper, address: 'A4:C1:38:12:34:56'}]\n")

        used = network_uses(
            START, "0", "--config.file", str(config), "--web.listen-address", "127.0.0.1:0",
            until="msg=listening",
        )  # fmt: skip

        assert used == []

    @pytest.mark.parametrize(
        ("program", "event"),
        [
            ("socket.getaddrinfo('127.0.0.1', 80)", "socket.getaddrinfo"),
            ("socket.gethostbyname('127.0.0.1')", "socket.gethostbyname"),
            ("socket.socket().connect_ex(('127.0.0.1', 9))", "socket.connect"),
            ("socket.socket().bind(('127.0.0.1', 0))", "socket.bind"),
            ("socket.socket(type=socket.SOCK_DGRAM)", "socket.__new__"),
        ],
    )
    def test_audit_hook_reports_each_use_of_the_network(self, program: str, event: str) -> None:
        used = network_uses(f"{program}\nprint('done', file=sys.stderr)", "1", until="done")

        assert [line.split()[1] for line in used] == [event]
