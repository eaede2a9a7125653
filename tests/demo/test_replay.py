"""Recorded frames are served as they are, and an unusable recording is explained."""

from pathlib import Path

import pytest

from exporter.demo.battery import encode_reply
from exporter.demo.replay import read_recording, read_recordings
from exporter.errors import ConfigError
from tests.support.paths import PROJECT
from tests.support.recorded import CELLS, MOBILEKTRO


class TestReplay:
    def test_recorded_frames_of_one_register_are_served_in_turn(self, tmp_path: Path) -> None:
        other = encode_reply(0x03, bytes(23))
        path = tmp_path / "frames.hex"
        path.write_text(
            f"# two readings\n{MOBILEKTRO.hex()}\n  {other.hex(' ')}  # comment\n{CELLS.hex()}\n"
        )

        answers, remarks = read_recording(path)

        assert [answers(0x03) for _ in range(3)] == [MOBILEKTRO, other, MOBILEKTRO]
        assert answers(0x04) == CELLS
        assert remarks == []

    def test_register_without_a_recorded_frame_is_refused_with_status_80(
        self, tmp_path: Path
    ) -> None:
        path = tmp_path / "frames.hex"
        path.write_text(MOBILEKTRO.hex())

        answers, _ = read_recording(path)

        assert answers(0x05) == bytes.fromhex("dd058000ff8077")

    @pytest.mark.parametrize("link", ["direct", "bluez"])
    def test_replies_of_a_recording_are_served(self, link: str) -> None:
        answers, remarks = read_recording(PROJECT / f"tests/sessions/virtual-{link}-nus.jsonl")

        assert answers(0x03) == MOBILEKTRO
        assert answers(0x04) == CELLS
        assert remarks == []

    def test_recording_without_a_reply_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="expected at least one reply frame"):
            read_recording(PROJECT / "tests/sessions/virtual-direct-silent.jsonl")

    def test_malformed_recording_is_refused_with_its_line(self, tmp_path: Path) -> None:
        path = tmp_path / "first.jsonl"
        path.write_text('{"record":1}\n{"t":0,"rx":"1b0"}\n')

        with pytest.raises(ConfigError, match=r"first\.jsonl:2: rx: expected hex"):
            read_recording(path)

    def test_damaged_frame_is_served_with_a_remark(self, tmp_path: Path) -> None:
        path = tmp_path / "frames.hex"
        damaged = MOBILEKTRO.hex().replace("4f82", "4f83")
        path.write_text(f"{CELLS.hex()}\n{damaged}\n")

        answers, remarks = read_recording(path)

        assert answers(0x03).hex() == damaged
        assert remarks == [f"{path}:2: a damaged frame, served as it is"]

    def test_replies_in_a_log_with_requests_are_served(self, tmp_path: Path) -> None:
        path = tmp_path / "log.txt"
        start = "ts=2026-11-28T00:42:19.573+00:00 level=debug logger=exporter.bms msg=received hex="
        path.write_text(
            f"{start}dda50300fffd77\n{start}{MOBILEKTRO[:20].hex()}\n{start}{MOBILEKTRO[20:].hex()}\n"
        )

        answers, remarks = read_recording(path)

        assert answers(0x03) == MOBILEKTRO
        assert remarks == []

    def test_surplus_bytes_are_not_served(self, tmp_path: Path) -> None:
        path = tmp_path / "frames.hex"
        path.write_text(f"00\n{CELLS.hex('.').upper()} (15)\n0102\ndd\n")

        answers, remarks = read_recording(path)

        assert answers(0x04) == CELLS
        assert remarks == [
            f"{path}:1: surplus bytes, not served: 00",
            f"{path}:3: surplus bytes, not served: 0102",
            f"{path}:4: surplus bytes, not served: dd",
        ]

    @pytest.mark.parametrize(
        ("content", "complaint"),
        [
            (b"dda50300fffd77", "expected at least one reply frame .DD03...77., got none"),
            (b"0178290029000000", "expected at least one reply frame .DD03...77., got none"),
            (b"\xff\xff", "it is not text"),
            (b"hello\nworld\n", "frames.hex:1: expected hex like DD03...77, got 'hello'"),
            (
                b"dd0300\ndd0\n",
                "frames.hex:2: expected hex like DD03...77, got 'dd0': 3 digits",
            ),
        ],
    )
    def test_file_that_is_no_recording_is_refused_with_a_reason(
        self, content: bytes, complaint: str, tmp_path: Path
    ) -> None:
        path = tmp_path / "frames.hex"
        path.write_bytes(content)

        with pytest.raises(ConfigError, match=complaint):
            read_recording(path)

    def test_recordings_are_read_by_name_with_all_remarks(self, tmp_path: Path) -> None:
        first, second = tmp_path / "a.hex", tmp_path / "b.hex"
        first.write_text(CELLS.hex())
        second.write_text(f"{MOBILEKTRO.hex()}\n00\n")

        answers, remarks = read_recordings([("a", first), ("b", second)])

        assert answers["a"](0x04) == CELLS
        assert answers["b"](0x03) == MOBILEKTRO
        assert remarks == [f"{second}:2: surplus bytes, not served: 00"]
