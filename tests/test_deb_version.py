"""The version of the Debian package rises from build to build, as dpkg compares versions."""

import itertools
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest
from deb_version import deb_version

from exporter import __version__
from tests.support.paths import PROJECT

START_S: Final = 1_800_000_000  # 2027-01-15 08:00:00 UTC


class Tree:
    """A git work tree; each commit is a minute later than the one before."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now_s = START_S
        self.git("init", "--quiet", "--initial-branch=main")
        self.commit()

    def git(self, *arguments: str) -> None:
        moment = f"{self.now_s} +0000"
        identity = {
            f"GIT_{role}_{field}": value
            for role in ("AUTHOR", "COMMITTER")
            for field, value in (("NAME", "a"), ("EMAIL", "a@example.org"), ("DATE", moment))
        }
        outside = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
        subprocess.run(
            ["git", *arguments],  # noqa: S607 - from PATH, as users run it
            cwd=self.folder,
            check=True,
            env=os.environ | identity | outside,
        )

    def change(self) -> None:
        self.now_s += 60
        (self.folder / "file").write_text(str(self.now_s))

    def commit(self) -> None:
        self.change()
        self.git("add", ".")
        self.git("commit", "--quiet", "--message=change")

    def version(self, release: str = "0.2.0") -> str:
        return deb_version(self.folder, release, now_s=self.now_s)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def is_lower(first: str, second: str) -> bool:
    program = shutil.which("dpkg")
    if program is None and "REQUIRE_TOOLS" not in os.environ:
        pytest.skip("dpkg is not installed: this is not Debian")
    assert program, "dpkg is not installed"
    compared = subprocess.run(
        [program, "--compare-versions", first, "lt", second], check=False, stderr=subprocess.PIPE
    )
    assert not compared.stderr, compared.stderr
    return compared.returncode == 0


def test_each_build_has_a_higher_version_than_the_one_before(tree: Tree) -> None:
    versions = ["0.1.0", tree.version()]
    tree.change()
    versions.append(tree.version())  # not committed
    tree.change()
    versions.append(tree.version())
    tree.commit()
    versions.append(tree.version())
    tree.commit()
    tree.git("tag", "v0.2.0")
    versions.append(tree.version())  # the release
    tree.change()
    versions.append(tree.version())
    tree.commit()
    versions.append(tree.version())  # the tag is an ancestor
    tree.commit()
    versions += [tree.version(), tree.version("0.3.0")]

    assert [pair for pair in itertools.pairwise(versions) if not is_lower(*pair)] == []


def test_version_names_release_commit_and_time(tree: Tree) -> None:
    before = tree.version()
    tree.git("tag", "v0.2.0")
    tagged = tree.version()
    tree.commit()
    later = tree.version()
    tree.change()
    changed = tree.version()

    assert re.fullmatch(r"0\.2\.0~git20270115080100\.[0-9a-f]{8}", before)
    assert tagged == "0.2.0"
    assert re.fullmatch(r"0\.2\.0\+git20270115080200\.[0-9a-f]{8}", later)
    assert changed == f"{later}+20270115080300"


def test_tag_that_is_no_ancestor_does_not_count(tree: Tree) -> None:
    tree.git("checkout", "--quiet", "-b", "other")
    tree.commit()
    tree.git("tag", "v0.2.0")
    tree.git("checkout", "--quiet", "main")

    assert tree.version().startswith("0.2.0~git")


def test_shallow_clone_says_how_to_get_the_tags(
    tree: Tree, capsys: pytest.CaptureFixture[str]
) -> None:
    tree.git("tag", "v0.2.0")
    tree.commit()
    tree.git("clone", "--quiet", "--depth=1", f"file://{tree.folder}", "shallow")

    version = deb_version(tree.folder / "shallow", "0.2.0", now_s=0)
    said = capsys.readouterr().err
    tree.git("-C", "shallow", "fetch", "--quiet", "--unshallow", "--tags")

    assert version.startswith("0.2.0~git")
    assert said.endswith("git fetch --unshallow --tags\n")
    assert deb_version(tree.folder / "shallow", "0.2.0", now_s=0).startswith("0.2.0+git")
    assert capsys.readouterr().err == ""


def test_missing_git_is_one_sentence(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")

    with pytest.raises(SystemExit, match=r"install git$"):
        tree.version()


def test_git_that_refuses_is_one_sentence_below_its_own(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".git").touch()

    with pytest.raises(SystemExit, match=r"git refuses to show it: see above$"):
        deb_version(tmp_path, "0.2.0", now_s=0)

    assert capfd.readouterr().err.startswith("fatal: ")


def test_repository_without_commits_is_like_an_unpacked_archive(tree: Tree) -> None:
    path = tree.folder / "new" / "exporter" / "file"
    path.parent.mkdir(parents=True)
    path.touch()
    os.utime(path, (START_S, START_S))
    tree.git("init", "--quiet", "new")

    assert deb_version(tree.folder / "new", "0.2.0", now_s=0) == "0.2.0~git20270115080000"


def test_unpacked_archive_has_the_time_of_its_newest_file(tmp_path: Path) -> None:
    for folder, age_s in (("exporter", 0), ("docs", 60)):
        path = tmp_path / folder / "file"
        path.parent.mkdir()
        path.touch()
        os.utime(path, (START_S - age_s, START_S - age_s))

    assert deb_version(tmp_path, "0.2.0", now_s=0) == "0.2.0~git20270115080000"
    (tmp_path / "PKG-INFO").touch()
    assert deb_version(tmp_path, "0.2.0", now_s=0) == "0.2.0"


def test_version_of_the_exporter_is_one_of_a_release_and_has_a_changelog() -> None:
    changelog = (PROJECT / "CHANGELOG.md").read_text(encoding="utf-8")

    assert re.fullmatch(r"\d+\.\d+\.\d+", __version__)
    assert f"\n## [{__version__}]" in changelog
