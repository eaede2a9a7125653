"""Print the version of the Debian package: deb_version.py RELEASE, the version of the exporter."""

import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

PROJECT: Final = Path(__file__).parent.parent
SHALLOW: Final = """\
This clone is shallow, so the tag of the release may be missing: then apt takes this package for an
older one than the release. Get the tags with: git fetch --unshallow --tags"""
REFUSED: Final = (
    "The version of the package is that of the commit, and git refuses to show it: see above"
)
PACKAGED: Final = ("exporter", "deploy", "docs", "scripts")


def deb_version(project: Path, release: str, *, now_s: float) -> str:
    """Return a version that rises from build to build, so that `apt install` upgrades.

    It is `release` on the tag of that release. Otherwise it names the commit: before the tag as
    `~git`, which dpkg sorts before the release, later as `+git`. Uncommitted changes add the time.
    """
    if not ((project / ".git").exists() and _git(project, "rev-list", "-1", "--all")):
        return _version_without_commits(project, release)
    tag = f"v{release}"
    is_dirty = bool(_git(project, "status", "--porcelain"))
    if not is_dirty and _git(project, "tag", "--points-at", "HEAD", "--list", tag):
        return release
    sign = "+" if _git(project, "tag", "--merged", "HEAD", "--list", tag) else "~"
    if sign == "~" and _git(project, "rev-parse", "--is-shallow-repository") == "true":
        print(SHALLOW, file=sys.stderr)
    committed_s, commit = _git(project, "log", "-1", "--abbrev=8", "--format=%ct %h").split()
    version = f"{release}{sign}git{_moment(float(committed_s))}.{commit}"
    return f"{version}+{_moment(now_s)}" if is_dirty else version


def _version_without_commits(project: Path, release: str) -> str:
    """Return `release` for an unpacked sdist; for other copies of the tree, add the newest file."""
    if (project / "PKG-INFO").exists():
        return release
    files = (
        path
        for folder in PACKAGED
        for path in (project / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    )
    return f"{release}~git{_moment(max(path.stat().st_mtime for path in files))}"


def _git(project: Path, *arguments: str) -> str:
    git = shutil.which("git")
    if git is None:
        raise SystemExit("The version of the package is that of the commit: install git")
    done = subprocess.run(  # noqa: S603 - our own arguments
        [git, "-C", str(project), *arguments], check=False, stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        raise SystemExit(REFUSED)
    return done.stdout.strip()


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%d%H%M%S")


if __name__ == "__main__":
    print(deb_version(PROJECT, sys.argv[1], now_s=time.time()))
