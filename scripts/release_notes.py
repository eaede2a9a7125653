"""Print what CHANGELOG.md says about a release: release_notes.py TAG; fails unless tag, version and date agree."""

import re
import sys
from pathlib import Path
from typing import Final

PROJECT: Final = Path(__file__).parent.parent


def notes(tag: str, package: str, changelog: str) -> str:
    """Return the section of a tag.

    Args:
        tag: The tag, such as v0.2.0.
        package: The text of exporter/__init__.py.
        changelog: The text of CHANGELOG.md.

    Raises:
        ValueError: The tag is not that of the version, or the section or its date is missing.
    """
    (version,) = re.findall(r'^__version__.* = "(.+)"$', package, re.MULTILINE)
    if tag != f"v{version}":
        raise ValueError(f"exporter/__init__.py: __version__ is {version}, but the tag is {tag}")
    heading, _, section = changelog.partition(f"\n## [{version}]")[2].partition("\n")
    if not re.fullmatch(r" - \d{4}-\d{2}-\d{2}", heading):
        raise ValueError(f"CHANGELOG.md: write the heading ## [{version}] - YYYY-MM-DD")
    return section.partition("\n## [")[0].strip() + "\n"


if __name__ == "__main__":
    texts = (
        (PROJECT / name).read_text("utf-8") for name in ("exporter/__init__.py", "CHANGELOG.md")
    )
    try:
        print(notes(sys.argv[1], *texts), end="")
    except ValueError as error:
        sys.exit(str(error))
