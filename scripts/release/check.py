"""Check the files of a release against their source tree: check.py SOURCE DIST."""

import json
import re
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any, Final

EXECUTABLE: Final = 0o755
PLAIN: Final = 0o644
BUILD_ONLY: Final = "flit-core"  # in requirements.lock to build the package, not to run it


def main(source: Path, dist: Path) -> int:
    """Print what is wrong; return the exit status."""
    (wheel,) = dist.glob("*.whl")
    (sdist,) = dist.glob("*.tar.gz")
    (sbom,) = dist.glob("*.cdx.json")
    name = sdist.name.removesuffix(".tar.gz")
    tree = {str(path.relative_to(source)): path for path in source.rglob("*") if path.is_file()}
    problems = [
        *(f"{sdist.name}: {text}" for text in wrong_in_sdist(sdist, name, tree)),
        *(f"{wheel.name}: {text}" for text in wrong_in_wheel(wheel, name, tree, sbom.read_bytes())),
        *(f"{sbom.name}: {text}" for text in wrong_in_sbom(sbom, name, tree)),
    ]
    print(*problems, sep="\n", end="\n" if problems else "")
    if not problems:
        print(f"{name}: sdist, wheel and SBOM are complete, and nothing else is in them")
    return 1 if problems else 0


def wrong_in_sdist(sdist: Path, name: str, tree: dict[str, Path]) -> list[str]:
    """Compare with every file of the tree: all tracked files are needed to build or to test."""
    with tarfile.open(sdist) as archive:
        members = archive.getmembers()
        contents = {
            member.name.removeprefix(f"{name}/"): opened.read()
            for member in members
            if (opened := archive.extractfile(member))
        }
    wrong = differences(contents, tree, {"PKG-INFO"})
    if any("missing" in text for text in wrong):
        wrong.append("[tool.flit.sdist] in pyproject.toml lists the files of the sdist")
    return wrong + [
        f"{member.name}: mode {member.mode:o}, owner {member.uid}:{member.gid}"
        for member in members
        if member.mode not in (PLAIN, EXECUTABLE) or (member.uid, member.gid) != (0, 0)
    ]


def wrong_in_wheel(wheel: Path, name: str, tree: dict[str, Path], sbom: bytes) -> list[str]:
    """Compare with the package of the tree: its modules and data, without tests and caches."""
    about = f"{name}.dist-info"
    licence, inner = f"{about}/licenses/LICENSE", f"{about}/sboms/bms-exporter.cdx.json"
    made = {f"{about}/{file}" for file in ("METADATA", "RECORD", "WHEEL", "entry_points.txt")}
    expected = {file: path for file, path in tree.items() if file.startswith("exporter/")}
    expected[licence] = tree["LICENSE"]
    with zipfile.ZipFile(wheel) as archive:
        members = archive.infolist()
        contents = {member.filename: archive.read(member) for member in members}
    wrong = differences(contents, expected, made | {inner})
    if contents.get(inner) != sbom:
        wrong.append(f"{inner}: not the SBOM beside it")
    return wrong + [
        f"{member.filename}: mode {mode:o}"
        for member in members
        if (mode := member.external_attr >> 16 & 0o7777) not in (PLAIN, EXECUTABLE)
        and (member.filename, mode) != (f"{about}/RECORD", 0o664)  # as `wheel pack` writes it
    ]


def wrong_in_sbom(sbom: Path, name: str, tree: dict[str, Path]) -> list[str]:
    """Compare with requirements.lock; cyclonedx-py has already checked the schema."""
    document: dict[str, Any] = json.loads(sbom.read_text(encoding="utf-8"))
    root = document["metadata"]["component"]
    lock = tree["requirements.lock"].read_text(encoding="utf-8")
    locked = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", lock, re.MULTILINE))
    del locked[BUILD_ONLY]
    listed = {normal(each["name"]): each["version"] for each in document["components"]}
    wrong = [
        f"{each['name']}: no licence"
        for each in (root, *document["components"])
        if not each.get("licenses")
    ]
    if f"{root['name'].replace('-', '_')}-{root.get('version')}" != name:
        wrong.append(f"it is about {root['name']} {root.get('version')}")
    if listed != locked:
        wrong.append(f"other than requirements.lock: {sorted(listed.items() ^ locked.items())}")
    return wrong


def differences(contents: dict[str, bytes], tree: dict[str, Path], made: set[str]) -> list[str]:
    """Compare an archive with the files of the tree, and with those that the build adds (`made`)."""
    expected = set(tree) | made
    return [
        *(f"{file}: missing" for file in sorted(expected - set(contents))),
        *(f"{file}: does not belong in it" for file in sorted(set(contents) - expected)),
        *(
            f"{file}: changed"
            for file in sorted(set(tree) & set(contents))
            if contents[file] != tree[file].read_bytes()
        ),
    ]


def normal(name: str) -> str:
    """Return a package's name as PyPI spells it."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
