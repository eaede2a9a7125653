"""A release: reproducible, complete, installable, and locked for every platform."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.support.exporter_process import listening_port
from tests.support.paths import PROJECT

TOOLS: Final = PROJECT / ".venv-release"
# Packages without a wheel on PyPI: pip builds their sdists, as plain Python without a compiler.
WITHOUT_WHEEL: Final = {
    "x86_64": set[str](),
    "aarch64": set[str](),
    "armv7l": {"dbus-fast", "pyyaml", "tornado"},
}
GLIBC: Final = (17, 28, 31, 34, 35, 36)  # manylinux_2_N up to Debian 12


def run(*command: str | Path, cwd: Path, umask: int = 0o022, **environment: str) -> str:
    """Run a program; return what it printed, and show it if it failed."""
    result = subprocess.run(
        command,
        cwd=cwd,
        umask=umask,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def build_release(clone: Path, *, umask: int, **environment: str) -> dict[str, bytes]:
    """Clone the last commit, build a release in the clone, and return its files."""
    run("git", "clone", "--quiet", PROJECT, clone, cwd=clone.parent, umask=umask)
    (clone / "exporter" / "untracked.py").write_text("import nothing\n")
    (clone / "tests" / "__pycache__").mkdir()
    (clone / "tests" / "__pycache__" / "untracked.pyc").write_bytes(b"")
    run(clone / "scripts" / "release" / "make", TOOLS, cwd=clone, umask=umask, **environment)
    return read_files(clone / "dist")


def read_files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the clone in which the first release was built."""
    folder = tmp_path_factory.mktemp("first") / "clone"
    build_release(folder, umask=0o022, TZ="UTC")
    return folder


@pytest.fixture(scope="module")
def dist(clone: Path) -> Path:
    return clone / "dist"


@pytest.fixture(scope="module")
def installed(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a fresh virtual environment with the wheel and the locked dependencies."""
    venv = tmp_path_factory.mktemp("installed") / "venv"
    (wheel,) = dist.glob("*.whl")
    run(sys.executable, "-m", "venv", venv, cwd=venv.parent)
    pip = (venv / "bin" / "python", "-m", "pip", "--quiet", "--disable-pip-version-check")
    lock = PROJECT / "requirements.lock"
    run(*pip, "install", "--require-hashes", "-r", lock, cwd=venv.parent)
    run(*pip, "install", "--no-deps", "--no-index", wheel, cwd=venv.parent)
    return venv


class TestReproducible:
    def test_release_has_the_same_bytes_in_another_folder_umask_and_time_zone(
        self, dist: Path, tmp_path: Path
    ) -> None:
        first = read_files(dist)

        second = build_release(tmp_path / "elsewhere", umask=0o077, TZ="Asia/Kathmandu", LC_ALL="C")

        assert len(first) == 3
        assert {name for name in first | second if first.get(name) != second.get(name)} == set()

    def test_sdist_builds_the_same_release(self, dist: Path, tmp_path: Path) -> None:
        (sdist,) = dist.glob("*.tar.gz")
        with tarfile.open(sdist) as archive:
            archive.extractall(tmp_path, filter="data")
            epoch = archive.getmembers()[0].mtime
        source = tmp_path / sdist.name.removesuffix(".tar.gz")

        run(
            source / "scripts" / "release" / "build", source, tmp_path / "out", TOOLS,
            cwd=tmp_path, SOURCE_DATE_EPOCH=str(int(epoch)),
        )  # fmt: skip

        assert read_files(tmp_path / "out") == read_files(dist)

    def test_release_with_uncommitted_changes_is_refused(self, clone: Path, tmp_path: Path) -> None:
        run("git", "clone", "--quiet", clone, tmp_path / "dirty", cwd=tmp_path)
        with (tmp_path / "dirty" / "README.md").open("a") as readme:
            readme.write("\n")

        with pytest.raises(AssertionError, match="Commit first"):
            run(tmp_path / "dirty" / "scripts" / "release" / "make", TOOLS, cwd=tmp_path)


class TestReleaseCheck:
    """scripts/release/check.py, with which `make dist` ends."""

    @pytest.fixture
    def copy(self, clone: Path, tmp_path: Path) -> Path:
        """Return a folder with copies of release and source tree, which a test may change."""
        shutil.copytree(clone / "dist", tmp_path / "dist")
        run("git", "clone", "--quiet", clone, tmp_path / "source", cwd=tmp_path)
        shutil.rmtree(tmp_path / "source" / ".git")
        return tmp_path

    def check(self, copy: Path) -> str:
        script = str(PROJECT / "scripts" / "release" / "check.py")
        result = subprocess.run(
            [sys.executable, script, "source", "dist"],
            cwd=copy,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (result.returncode == 0) == ("are complete" in result.stdout), result.stderr
        return result.stdout

    def test_release_check_accepts_a_complete_release(self, copy: Path) -> None:
        assert "complete, and nothing else is in them" in self.check(copy)

    def test_release_check_names_a_test_file_in_the_wheel(self, copy: Path) -> None:
        (wheel,) = (copy / "dist").glob("*.whl")
        with zipfile.ZipFile(wheel, "a") as archive:
            archive.writestr("tests/test_it.py", "")

        assert "tests/test_it.py: does not belong in it" in self.check(copy)

    @pytest.mark.parametrize(
        ("file", "archive"),
        [("exporter/page.html", ".whl"), ("exporter/page.html", ".tar.gz"), ("new/a", ".tar.gz")],
    )
    def test_release_check_names_a_missing_file(self, copy: Path, file: str, archive: str) -> None:
        (copy / "source" / file).parent.mkdir(exist_ok=True)
        (copy / "source" / file).write_text("")

        assert re.search(rf"{re.escape(archive)}: {file}: missing", self.check(copy))

    def test_release_check_names_packages_that_sbom_and_lock_do_not_share(self, copy: Path) -> None:
        lock = copy / "source" / "requirements.lock"
        lock.write_text(lock.read_text().replace("bleak==", "bleak==9.", 1))

        assert "other than requirements.lock: [('bleak'" in self.check(copy)


class TestInstalled:
    def test_pip_finds_no_broken_requirement(self, installed: Path, tmp_path: Path) -> None:
        printed = run(installed / "bin" / "python", "-m", "pip", "check", cwd=tmp_path)

        assert "No broken requirements found." in printed

    def test_installed_program_prints_the_version_of_the_wheel(
        self, installed: Path, dist: Path, tmp_path: Path
    ) -> None:
        (wheel,) = dist.glob("*.whl")

        printed = run(installed / "bin" / "bms-exporter", "--version", cwd=tmp_path)

        assert printed.split()[-1] == wheel.name.split("-")[1]

    def test_installed_demo_runs_in_an_empty_folder(self, installed: Path, tmp_path: Path) -> None:
        process = subprocess.Popen(
            [
                installed / "bin" / "bms-exporter",
                "demo",
                "--web.listen-address",
                "127.0.0.1:0",
            ],
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            text = scrape(process)
        finally:
            process.terminate()
            _, log = process.communicate(timeout=30)

        assert 'bms_remaining_capacity_amperehours{battery="camper"} 131.0' in text
        assert process.returncode == 0, log
        assert list(tmp_path.iterdir()) == []


def scrape(process: subprocess.Popen[str]) -> str:
    """Return the exposition of a started demo."""
    end_s = time.monotonic() + 20.0
    while not (port := listening_port(process.pid)):
        assert process.poll() is None
        assert time.monotonic() < end_s
        time.sleep(0.1)
    return httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=30.0).text


def lock_entries(names: set[str], *, without: bool = False) -> str:
    """Return the entries of requirements.lock with these names, or all others with `without`."""
    lock = (PROJECT / "requirements.lock").read_text(encoding="utf-8")
    entries = re.findall(r"^[a-z0-9-]+==[^#]+", lock, re.MULTILINE)
    chosen = (each for each in entries if (each.partition("==")[0] in names) is not without)
    return "".join(each.rstrip() + "\n" for each in chosen)


def download(folder: Path, requirements: str, *options: str) -> set[str]:
    """Download packages with pip, which checks their hashes; return their names."""
    (folder / "requirements.txt").write_text(requirements)
    run(
        TOOLS / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "download", "--quiet",
        "--no-deps", "--require-hashes", "--dest=files", *options, "-r", "requirements.txt",
        cwd=folder,
    )  # fmt: skip
    files = (folder / "files").iterdir()
    return {path.name.partition("-")[0].replace("_", "-") for path in files}


class TestLock:
    @pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
    @pytest.mark.parametrize("machine", list(WITHOUT_WHEEL))
    def test_every_platform_has_wheels_with_locked_hashes(
        self, machine: str, python: str, tmp_path: Path
    ) -> None:
        wheels = lock_entries(WITHOUT_WHEEL[machine], without=True)
        platforms = [f"--platform=manylinux_2_{minor}_{machine}" for minor in GLIBC]

        found = download(
            tmp_path, wheels, "--only-binary=:all:", f"--python-version={python}", *platforms
        )

        assert found == set(re.findall(r"^([a-z0-9-]+)==", wheels, re.MULTILINE))

    def test_package_without_a_wheel_for_some_platform_has_an_sdist(self, tmp_path: Path) -> None:
        names = set[str]().union(*WITHOUT_WHEEL.values())

        # Only for these: Cython, with which pip builds one of them, may be a wheel.
        found = download(tmp_path, lock_entries(names), f"--no-binary={','.join(names)}")

        assert found == names
