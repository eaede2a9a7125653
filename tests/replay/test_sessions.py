"""Every recorded session ends as it did; at other speeds no number becomes wrong."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.paths import PROJECT
from tests.support.sessions import replay_text

FOLDER: Final = PROJECT / "tests/sessions"
SESSIONS: Final = sorted(FOLDER.glob("*.jsonl"))


def recorded_result(text: str) -> Mapping[str, Any]:
    result: Mapping[str, Any] = json.loads(text.splitlines()[-1])["result"]
    return result


@pytest.mark.parametrize("path", SESSIONS, ids=lambda path: path.stem)
def test_session_ends_as_recorded(path: Path) -> None:
    text = path.read_text(encoding="utf-8")

    replayed = replay_text(text, source=path.name)

    assert replayed.differences == ()
    assert ("reading" in recorded_result(text)) is (replayed.snapshot.reading is not None)


@pytest.mark.parametrize("factor", [0.0, 3.0])
@pytest.mark.parametrize("path", SESSIONS, ids=lambda path: path.stem)
def test_session_at_another_speed_shows_no_other_number(path: Path, factor: float) -> None:
    text = path.read_text(encoding="utf-8")
    recorded = recorded_result(text)

    result = replay_text(text, source=path.name, factor=factor).result

    for part, value in result.get("reading", {}).items():
        if value is not None and not recorded["edited"]:
            assert value == recorded["reading"][part]


@pytest.mark.parametrize("path", SESSIONS, ids=lambda path: path.stem)
def test_session_is_redacted(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    header = json.loads(text.splitlines()[0])

    assert header["redacted"] is True
    assert header["battery"][8:14] == ":00:00"


def test_readme_describes_every_session() -> None:
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")

    assert SESSIONS
    assert [path.name for path in SESSIONS if f"`{path.stem}`" not in readme] == []
