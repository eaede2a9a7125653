"""Print docs/licences.md: the licences of both lock files, as the installed packages declare them."""

import re
from importlib.metadata import metadata
from pathlib import Path
from typing import Final

LOCK: Final = Path(__file__).parent.parent / "requirements.lock"
EXTRA_LOCK: Final = LOCK.with_name("requirements-esphome.lock")
# All of these may be distributed with an Apache-2.0 program. Read another licence before you add it.
COMPATIBLE: Final = {"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "MIT", "MIT-0", "PSF-2.0"}
# Only for packages that users install themselves, and that are used unchanged.
BESIDE: Final = {"zeroconf": "LGPL-2.1-or-later"}
# For packages without `License-Expression`: the first line of `License`, and its SPDX expression.
SPDX: Final = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache-2.0": "Apache-2.0",
    "Apache-2.0 OR BSD-3-Clause": "Apache-2.0 OR BSD-3-Clause",
    "MIT": "MIT",
    "MIT License": "MIT",
    "PSF-2.0": "PSF-2.0",
    "The MIT License (MIT)": "MIT",
}
HEAD: Final = """\
# Licences

What runs beside the exporter, from `requirements.lock`; made by `make docs` from the metadata of the packages. All of
them may be distributed with a program under Apache-2.0. `flit-core` builds the exporter and does not run with it.
The page carries Preact (MIT) in `exporter/web/page/vendor/preact.js`, with its licence at its head.

| package | version | licence (SPDX) |
|---|---|---|
"""
EXTRA_HEAD: Final = """
What the extra `esphome` adds, from `requirements-esphome.lock`. It is in no package and no image of this project: users
install it themselves. `zeroconf` is under the LGPL and used unchanged.

| package | version | licence (SPDX) |
|---|---|---|
"""


def locked(lock: str) -> list[tuple[str, str]]:
    """Return the names and versions in the text of a lock file."""
    return re.findall(r"^([a-z0-9-]+)==(\S+)", lock, re.MULTILINE)


def licence(name: str) -> str:
    """Return the SPDX expression of an installed package.

    Raises:
        ValueError: The declared licence is unknown, or not in the list of compatible ones.
    """
    declared = metadata(name).json
    first_line = str(declared.get("license", "")).partition("\n")[0]
    expression = declared.get("license_expression") or SPDX.get(first_line)
    if expression is None:
        raise ValueError(f"{name}: license {first_line!r} is not in SPDX of scripts/licences.py")
    unknown = set(re.split(r" (?:AND|OR|WITH) |[() ]+", str(expression))) - COMPATIBLE - {""}
    if unknown and expression != BESIDE.get(name):
        raise ValueError(f"{name}: is {expression} compatible with Apache-2.0?")
    return str(expression)


def document(lock: str, extra_lock: str) -> str:
    """Return the document for the texts of both lock files."""
    packages = locked(lock)
    added = [package for package in locked(extra_lock) if package not in packages]
    return HEAD + _rows(packages) + EXTRA_HEAD + _rows(added)


def _rows(packages: list[tuple[str, str]]) -> str:
    return "".join(f"| {name} | {version} | {licence(name)} |\n" for name, version in packages)


if __name__ == "__main__":
    locks = (path.read_text(encoding="utf-8") for path in (LOCK, EXTRA_LOCK))
    print(document(*locks), end="")
