"""A release is made only of a tag, a version and a dated changelog that agree."""

import re
from typing import Final

import pytest
from release_notes import notes

from tests.support.paths import PROJECT

PACKAGE: Final = '__version__: Final = "0.2.0"\n'
CHANGELOG: Final = """\
# Changelog

## [0.2.0] - 2027-01-15

### Added

- This.

## [0.1.0] - 2026-01-15

- That.
"""


def test_notes_are_the_section_of_the_tag() -> None:
    assert notes("v0.2.0", PACKAGE, CHANGELOG) == "### Added\n\n- This.\n"


@pytest.mark.parametrize(
    ("tag", "changelog", "complaint"),
    [
        pytest.param("v0.3.0", CHANGELOG, "is 0.2.0, but the tag is v0.3.0", id="other tag"),
        pytest.param("0.2.0", CHANGELOG, "but the tag is 0.2.0", id="tag without v"),
        pytest.param("v0.2.0", "", "## [0.2.0] - YYYY-MM-DD", id="no section"),
        pytest.param(
            "v0.2.0",
            CHANGELOG.replace("2027-01-15", "unreleased"),
            "## [0.2.0] - YYYY-MM-DD",
            id="no date",
        ),
    ],
)
def test_release_that_is_not_ready_is_refused(tag: str, changelog: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=re.escape(complaint)):
        notes(tag, PACKAGE, changelog)


def test_changelog_of_the_project_has_a_section_for_the_next_release() -> None:
    package = (PROJECT / "exporter" / "__init__.py").read_text(encoding="utf-8")
    (version,) = re.findall(r'"(\d+\.\d+\.\d+)"', package)
    changelog = (PROJECT / "CHANGELOG.md").read_text(encoding="utf-8")

    dated = re.sub(r"(## \[[\d.]+\]) - unreleased", r"\1 - 2027-01-15", changelog)

    assert "### Added" in notes(f"v{version}", package, dated)
