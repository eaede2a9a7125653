"""The file of a recording is new, and holds each line as soon as it is written."""

from pathlib import Path

import pytest

from exporter.errors import ConfigError
from exporter.recording.file import open_recording


class TestFile:
    def test_each_line_is_in_the_file_at_once(self, tmp_path: Path) -> None:
        path = tmp_path / "first.jsonl"

        with open_recording(path) as file:
            file.write('{"record":1}')
            written = path.read_text()

        assert written == '{"record":1}\n'
        assert file.problem is None

    def test_existing_recording_is_not_overwritten(self, tmp_path: Path) -> None:
        path = tmp_path / "first.jsonl"
        path.write_text("kept")

        with (
            pytest.raises(ConfigError, match=r"first\.jsonl: exists already: give another name"),
            open_recording(path),
        ):
            pass

        assert path.read_text() == "kept"

    @pytest.mark.parametrize(
        ("name", "why"),
        [("no/such/folder", "No such file"), (".", "Is a directory"), ("a\0b", "no file can have")],
    )
    def test_file_that_cannot_be_created_is_explained(
        self, name: str, why: str, tmp_path: Path
    ) -> None:
        with (
            pytest.raises(ConfigError, match=f"cannot be written: {why}"),
            open_recording(tmp_path / name),
        ):
            pass

    def test_full_disk_is_a_problem_of_the_file_and_ends_no_session(self) -> None:
        with open_recording(Path("/dev/full")) as file:
            file.write("{}")
            file.write("{}")

        assert file.problem == ("/dev/full: the recording is incomplete: No space left on device")
