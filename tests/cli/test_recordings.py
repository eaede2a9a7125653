"""`read` records a session into a file, and replays one without Bluetooth."""

import json
from pathlib import Path

import pytest

from exporter.cli import main
from exporter.cli.arguments import parse_arguments
from exporter.cli.options import Read
from exporter.demo.battery import Faults
from exporter.demo.radio import make_air, make_backend
from tests.support.paths import PROJECT
from tests.support.virtual import battery

ADDRESS = "A4:C1:38:5E:F1:6B"
SESSIONS = PROJECT / "tests/sessions"


def read(*arguments: str, faults: Faults | None = None) -> int:
    """Run `read` on a battery that takes no long time."""
    virtual = battery(address=ADDRESS, faults=faults or Faults(reply_s=0.05))
    air = make_air([virtual], connect_s=0.0, disconnect_s=0.0, advertise_every_s=0.02)
    return main(["read", *arguments], backend=make_backend(air))


class TestRecord:
    def test_session_is_recorded_and_replayed(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)

        recorded = read(ADDRESS, "--record", "first.jsonl", "--format", "json")
        first = capsys.readouterr()
        replayed = main(["read", "--replay", "first.jsonl", "--format", "json"])
        second = capsys.readouterr()

        assert (recorded, replayed) == (0, 0)
        assert "recorded: first.jsonl" in first.err
        assert "first.jsonl:1: as recorded" in second.err
        was, now = json.loads(first.out), json.loads(second.out)
        other = {"battery": "recorded", "address": "A4:C1:38:00:00:02", "link": now["link"]}
        assert now == was | other
        text = Path("first.jsonl").read_text()
        assert "5e" not in text.lower()
        assert "virtual" not in json.loads(text.splitlines()[0])

    def test_failed_session_is_recorded(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Path("config.yaml").write_text(
            f"poll: {{timeout: 1s}}\nbatteries: [{{name: a, address: '{ADDRESS}'}}]\n"
        )

        status = read("--record", "first.jsonl", faults=Faults(silent=True))

        result = json.loads(Path("first.jsonl").read_text().splitlines()[-1])["result"]
        assert status == 1
        assert result["error"] == "ReplyTimeoutError"
        assert "no reading within poll.timeout" in capsys.readouterr().err

    def test_battery_is_not_read_if_the_file_exists(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "first.jsonl"
        path.touch()

        status = read(ADDRESS, "--record", str(path))

        shown = capsys.readouterr()
        assert status == 1
        assert shown.out == ""
        assert "exists already" in shown.err

    def test_incomplete_recording_fails_after_the_reading(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        status = read(ADDRESS, "--record", "/dev/full")

        shown = capsys.readouterr()
        assert status == 1
        assert "203.54 Ah" in shown.out
        assert "/dev/full: the recording is incomplete" in shown.err


class TestReplay:
    def test_recorded_failure_is_shown_and_is_as_recorded(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = SESSIONS / "virtual-direct-wants-pairing.jsonl"

        status = main(["read", "--replay", str(path)])

        shown = capsys.readouterr()
        assert status == 0
        assert "the battery wants pairing" in shown.err
        assert "as recorded" in shown.err

    def test_unknown_keys_of_the_first_line_are_ignored(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "newer.jsonl"
        text = (SESSIONS / "virtual-direct-nus.jsonl").read_text()
        more = {"adapters": [{"name": "hci0", "new": [1]}], "caps": None, "phase": {"moon": 0.5}}
        first, rest = text.split("\n", 1)
        path.write_text(json.dumps(json.loads(first) | more) + "\n" + rest)

        assert main(["read", "--replay", str(path)]) == 0

        assert "as recorded" in capsys.readouterr().err

    def test_difference_from_the_recording_fails(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "other.jsonl"
        text = (SESSIONS / "virtual-direct-nus.jsonl").read_text()
        path.write_text(text.replace('"voltage_v":13.21', '"voltage_v":13.22'))

        status = main(["read", "--replay", str(path)])

        assert status == 1
        assert f"{path}:1: not as recorded: basic: recorded" in capsys.readouterr().err

    def test_session_without_its_end_is_replayed_as_far_as_it_goes(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "cut.jsonl"
        lines = (SESSIONS / "virtual-direct-nus.jsonl").read_text().splitlines()
        path.write_text("\n".join(lines[:-1]))

        status = main(["read", "--replay", str(path)])

        shown = capsys.readouterr()
        assert status == 0
        assert "203.54 Ah" in shown.out
        assert f"{path}:1: this session was not recorded to its end" in shown.err

    @pytest.mark.parametrize(
        ("name", "complaint"), [("no.jsonl", "there is no such file"), ("x.jsonl", ":1: expected")]
    )
    def test_file_that_is_no_recording_is_refused(
        self, name: str, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "x.jsonl").write_text("hello\n")

        status = main(["read", "--replay", str(tmp_path / name)])

        assert status == 1
        assert complaint in capsys.readouterr().err


class TestArguments:
    def test_files_are_read(self) -> None:
        _, record = parse_arguments(["read", "camper", "--record", "a"])
        _, replay = parse_arguments(["read", "--replay", "a"])

        assert record == Read(battery="camper", record=Path("a"))
        assert replay == Read(replay=Path("a"))

    @pytest.mark.parametrize(
        "arguments", [["--record", "a", "--replay", "b"], ["camper", "--replay", "a"]]
    )
    def test_recording_and_battery_exclude_a_replay(self, arguments: list[str]) -> None:
        with pytest.raises(SystemExit, match="2"):
            parse_arguments(["read", *arguments])
