"""Print the copyright file of the Debian package: deb_copyright.py FOLDER, where pip installed all of it."""

import re
import sys
from collections.abc import Iterable
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Final

from licences import licence

NAME: Final = "bms-exporter"
HEAD: Final = f"""\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: {NAME}
Comment: The package contains its Python dependencies, as pip installs them.

Files: *
Copyright: the authors of bms-exporter
License: Apache-2.0
"""
VENDORED: Final = "exporter/web/page/vendor/preact.js"
APACHE: Final = """
License: Apache-2.0
 On Debian systems the text is in /usr/share/common-licenses/Apache-2.0.
"""
APACHE_TITLE: Final = "Version 2.0, January 2004"  # the last paragraph says where that text is
LICENCE_FILE: Final = re.compile(r"licen[cs]e|copying|notice", re.IGNORECASE)


def document(folder: Path, packages: Iterable[Distribution]) -> str:
    """Return the file in Debian's machine-readable format, with a paragraph for each package.

    `folder` contains the exporter.
    """
    vendored = _vendored((folder / VENDORED).read_text(encoding="utf-8"))
    ordered = sorted(packages, key=lambda each: each.name.lower())
    others = (_paragraph(each) for each in ordered if each.name != NAME)
    return "".join([HEAD, vendored, *others, APACHE])


def _vendored(script: str) -> str:
    text = script.partition("\n")[2].partition("*/")[0]
    return _stanza(VENDORED, _holders(text), "Expat", text)


def _paragraph(package: Distribution) -> str:
    files = package.files or []
    tops = {file.parts[0] for file in files} - {"..", "__pycache__"}
    paths = "\n ".join(sorted(top if top.endswith(".py") else f"{top}/*" for top in tops))
    texts = [
        file.read_text()
        for file in files
        if ".dist-info" in file.parts[0] and LICENCE_FILE.search(file.name)
    ]
    holders = _holders("\n".join(texts)) or [f"the authors of {package.name}"]
    expression = re.sub(r" (OR|AND) ", lambda found: found[0].lower(), licence(package.name))
    text = "\n".join(text for text in texts if APACHE_TITLE not in text)
    return _stanza(paths, holders, re.sub(r"\bMIT\b", "Expat", expression), text)


def _holders(text: str) -> list[str]:
    """Return the lines of a licence that name who holds the copyright, not those of its template."""
    lines = re.findall(r"^\W*(Copyright\b.*\d{4}.*)", text, re.MULTILINE | re.IGNORECASE)
    return list(dict.fromkeys(line.strip() for line in lines))


def _stanza(paths: str, holders: list[str], expression: str, text: str = "") -> str:
    lines = "".join(f" {line.strip() or '.'}\n" for line in text.strip().splitlines())
    where = "\n ".join(f"usr/lib/{NAME}/{path}" for path in paths.split("\n "))
    return f"\nFiles: {where}\nCopyright: {f'{chr(10)} '.join(holders)}\nLicense: {expression}\n{lines}"


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])  # where `licence` looks packages up
    print(document(Path(sys.argv[1]), distributions(path=[sys.argv[1]])), end="")
