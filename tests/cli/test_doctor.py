"""`doctor` over a virtual radio, and its recordings."""

import json
from pathlib import Path

import pytest

from exporter.cli import main
from exporter.demo.battery import Faults
from exporter.demo.radio import Air, make_air, make_backend
from exporter.doctor.run import Plan
from tests.support.exporter_process import free_port
from tests.support.virtual import ADDRESS, battery


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporter.doctor.listen.LISTEN_S", 0.1)
    monkeypatch.setattr("exporter.doctor.listen.LONGEST_S", 0.3)


def air() -> Air:
    virtual = battery(name="JBD-SP04S034-4711", faults=Faults(reply_s=0.05))
    return make_air([virtual], connect_s=0.0, disconnect_s=0.0, advertise_every_s=0.02)


def doctor(folder: Path, *arguments: str) -> int:
    missing = folder / "config.yaml"
    url = f"http://127.0.0.1:{free_port()}"
    words = ["doctor", "--config.file", str(missing), "--exporter", url, "--link", "bluez"]
    return main([*words, *arguments], backend=make_backend(air()))


def test_battery_is_found_and_read_without_a_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = tmp_path / "facts.json"

    doctor(tmp_path, "--json", str(facts))

    output = capsys.readouterr().out
    assert "read over bluez: 13.21 V, 93%" in output
    assert '"JBD-SP00S000-0000"' in output
    (record,) = json.loads(facts.read_text())["batteries"]
    assert record["attempts"][0]["route"] == "bluez"
    assert "4711" not in facts.read_text()


def test_whole_names_are_shown_if_that_is_wanted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    doctor(tmp_path, ADDRESS, "--show-addresses")

    assert '"JBD-SP04S034-4711"' in capsys.readouterr().out


def test_recorded_session_is_replayed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recording = tmp_path / "session.jsonl"

    doctor(tmp_path, ADDRESS, "--record", str(recording))
    recorded = capsys.readouterr()
    main(["read", "--replay", str(recording)])  # on a busy machine a late reply is left over

    assert f"recorded: {recording}" in recorded.err
    assert "203.54 Ah" in capsys.readouterr().out


def test_recording_is_never_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recording = tmp_path / "session.jsonl"
    recording.write_text("kept\n")

    status = doctor(tmp_path, ADDRESS, "--record", str(recording))

    assert status == 2
    assert "exists already" in capsys.readouterr().err
    assert recording.read_text() == "kept\n"


@pytest.mark.parametrize("option", ["--json", "--record"])
def test_file_that_cannot_be_written_fails(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def is_well(plan: Plan, *_: object) -> int:
        if plan.record is not None:
            plan.record("{}")
        return 0

    monkeypatch.setattr("exporter.cli.doctor.run", is_well)

    well = doctor(tmp_path)
    status = doctor(tmp_path, option, "/dev/full")

    assert (well, status) == (0, 1)
    assert "/dev/full: " in capsys.readouterr().err
