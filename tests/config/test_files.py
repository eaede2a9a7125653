"""Files that users name are read without waiting and without surprises."""

import errno
import io
import os
from pathlib import Path

import pytest

from exporter.config import files
from exporter.config.files import (
    ChangeDetector,
    find_config,
    missing_config,
    read_config,
    read_small,
    read_text,
    stamp,
    why_unreadable,
)
from exporter.errors import ConfigError

OPEN_FILES = Path("/proc/self/fd")


class TestReadSmall:
    def test_content_of_a_file_is_returned(self, tmp_path: Path) -> None:
        (tmp_path / "pin").write_bytes(b"123456\n")

        assert read_small(tmp_path / "pin") == b"123456\n"

    def test_folder_is_refused_and_not_left_open(self, tmp_path: Path) -> None:
        before = len(list(OPEN_FILES.iterdir()))

        with pytest.raises(IsADirectoryError):
            read_small(tmp_path)

        assert len(list(OPEN_FILES.iterdir())) == before

    def test_pipe_is_refused_without_waiting(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")

        with pytest.raises(OSError, match="not a regular file"):
            read_small(tmp_path / "pipe")

    @pytest.mark.parametrize(("size", "is_read"), [(1_000_000, True), (1_000_001, False)])
    def test_file_above_a_megabyte_is_refused(
        self, size: int, is_read: bool, tmp_path: Path
    ) -> None:
        path = tmp_path / "large"
        with path.open("wb") as file:
            file.truncate(size)

        if is_read:
            assert len(read_small(path)) == size
        else:
            with pytest.raises(OSError, match="more than a megabyte"):
                read_small(path)


class TestReadConfig:
    def test_missing_file_is_refused_with_its_name(self, tmp_path: Path) -> None:
        path = tmp_path / "config.yaml"

        with pytest.raises(ConfigError) as caught:
            read_config(path)

        assert caught.value.problems == (f"{path}: there is no such file",)

    def test_binary_file_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "config.yaml").write_bytes(b"\xff\xfe\x00")

        with pytest.raises(ConfigError, match=r":1: not UTF-8: save the file as UTF-8 text"):
            read_config(tmp_path / "config.yaml")


class TestReadText:
    def test_byte_order_mark_is_dropped(self, tmp_path: Path) -> None:
        (tmp_path / "log.txt").write_bytes(b"\xef\xbb\xbfdd03")

        assert read_text(str(tmp_path / "log.txt")) == "dd03"

    def test_hyphen_reads_standard_input(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO("dd03"))

        assert read_text("-") == "dd03"

    @pytest.mark.parametrize(
        ("name", "reason"),
        [("missing", "there is no such file"), ("a\0b", "it is not text")],
    )
    def test_file_that_cannot_be_read_is_named(
        self, name: str, reason: str, tmp_path: Path
    ) -> None:
        path = str(tmp_path / name)

        with pytest.raises(ConfigError) as caught:
            read_text(path)

        assert caught.value.problems == (f"{path}: {reason}",)

    def test_long_text_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(files, "MAX_TEXT", 4)
        (tmp_path / "log.txt").write_text("dd030")

        with pytest.raises(ConfigError, match="more than 4 characters: give the frames only"):
            read_text(str(tmp_path / "log.txt"))


class TestStamp:
    @pytest.mark.parametrize("name", ["missing", "a\0b"])
    def test_missing_file_has_no_stamp(self, name: str, tmp_path: Path) -> None:
        assert stamp(tmp_path / name) is None

    def test_stamp_changes_with_content_and_with_permissions(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.write_text("a")
        first = stamp(path)
        path.write_text("ab")
        second = stamp(path)
        os.utime(path)
        path.chmod(0o600)

        assert len({first, second, stamp(path)}) == 3


class TestChangeDetector:
    def test_unchanged_file_is_not_read_again(self) -> None:
        assert not ChangeDetector("seen").is_due("seen")

    def test_changed_file_is_read_once(self) -> None:
        changes = ChangeDetector("before")

        assert changes.is_due("after")
        assert not changes.is_due("after")

    def test_failed_reading_is_tried_again_later(self, monkeypatch: pytest.MonkeyPatch) -> None:
        changes = ChangeDetector("seen")
        changes.note_failure()
        assert not changes.is_due("seen")

        monkeypatch.setattr(files, "RETRY_S", 0.0)
        changes.note_failure()

        assert changes.is_due("seen")
        assert not changes.is_due("seen")


class TestPlaces:
    def test_configuration_of_the_current_folder_comes_first(self, tmp_path: Path) -> None:
        here, installed = tmp_path / "config.yaml", tmp_path / "etc" / "config.yaml"
        installed.parent.mkdir()
        installed.touch()

        assert find_config((here, installed)) == installed
        here.touch()
        assert find_config((here, installed)) == here

    def test_missing_configuration_is_reported_with_both_places(self, tmp_path: Path) -> None:
        places = (tmp_path / "config.yaml", tmp_path / "etc" / "config.yaml")

        assert find_config(places) == places[0]
        assert missing_config(places[0], places) == (
            f"no configuration: config.yaml is neither in this folder nor in {tmp_path}/etc/: "
            "bms-exporter scan prints one for the batteries that it finds, --config.file FILE "
            "names another place"
        )

    def test_named_file_that_is_missing_is_reported_alone(self, tmp_path: Path) -> None:
        assert missing_config(tmp_path / "mine.yaml") == (
            f"{tmp_path}/mine.yaml: there is no such file: bms-exporter scan prints one for the "
            "batteries that it finds"
        )

    def test_path_that_cannot_be_examined_counts_as_present(self) -> None:
        assert find_config((Path("a\0b"), Path("config.yaml"))) == Path("a\0b")


def test_file_that_this_user_may_not_read_is_reported_with_what_to_do() -> None:
    error = PermissionError(errno.EACCES, "Permission denied")

    assert why_unreadable(error) == "this user may not read it: change its owner or its mode"
