"""Ctrl-C and SIGTERM end commands quietly: the battery is disconnected, the recording is whole."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from exporter.ble.transport import Backend
from exporter.cli import main
from exporter.demo.battery import Faults, encode_reply
from exporter.demo.radio import Air, make_air, make_backend
from exporter.recording.session import parse_sessions
from tests.support.exporter_process import command, free_port
from tests.support.virtual import ADDRESS, battery


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporter.doctor.listen.LISTEN_S", 0.1)
    monkeypatch.setattr("exporter.doctor.listen.LONGEST_S", 0.3)


def interrupting(*signals: signal.Signals) -> tuple[Air, Backend]:
    """Return a slow battery, and a backend: the first request has this process signalled."""
    pending = list(signals)

    def answer(register: int) -> bytes:
        while pending:  # each from its own call of the loop
            asyncio.get_running_loop().call_soon(os.kill, os.getpid(), pending.pop())
        return encode_reply(register, status=0x80)

    virtual = battery(answers=answer, faults=Faults(reply_s=20.0))
    air = make_air([virtual], connect_s=0.0, disconnect_s=0.0, advertise_every_s=0.02)
    return air, make_backend(air)


def arguments(name: str, folder: Path) -> Sequence[str]:
    config = ["--config.file", str(folder / "config.yaml")]
    url = ["--exporter", f"http://127.0.0.1:{free_port()}", "--link", "bluez"]
    return [name, ADDRESS, *config, *(url if name == "doctor" else [])]


@pytest.mark.parametrize("name", ["read", "doctor"])
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 1)], ids=["ctrl_c", "sigterm"]
)
def test_interrupted_recording_is_whole_and_its_battery_is_disconnected(
    name: str,
    number: signal.Signals,
    status: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "session.jsonl"
    air, backend = interrupting(number)

    assert main([*arguments(name, tmp_path), "--record", str(path)], backend) == status

    assert air.connected == {}
    text = path.read_text()
    assert text.endswith("\n")
    lines = [json.loads(line) for line in text.splitlines()]
    assert "result" in lines[-1]
    assert any(line.get("ev") == "write" for line in lines)
    assert parse_sessions(text, "session")
    printed = capsys.readouterr().err
    assert f"recorded until it was interrupted: {path}" in printed
    assert "Traceback" not in printed


def test_second_ctrl_c_ends_at_once_and_leaves_whole_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "session.jsonl"
    air, backend = interrupting(signal.SIGINT, signal.SIGINT)

    assert main([*arguments("read", tmp_path), "--record", str(path)], backend) == 130

    assert air.connected == {}
    assert all(json.loads(line) for line in path.read_text().splitlines())
    assert "recorded until it was interrupted" in capsys.readouterr().err


def test_recording_without_a_line_is_not_left_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "session.jsonl"
    air = make_air([], connect_s=0.0, disconnect_s=0.0, advertise_every_s=0.02)
    words = [*arguments("doctor", tmp_path), "--quick", "--record", str(path)]

    main(words, make_backend(air))

    assert f"{path}: not written: there was nothing to record" in capsys.readouterr().err
    assert not path.exists()


@pytest.mark.parametrize("module", ["exporter.cli", "asyncio", "argparse"])
def test_ctrl_c_during_imports_ends_quietly(module: str) -> None:
    finder = f"""
import os, runpy, signal, sys
class Interrupting:
    def find_spec(self, name, *_):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.modules.pop({module!r}, None)
sys.meta_path.insert(0, Interrupting())
sys.argv = ["bms-exporter", "--version"]
runpy.run_module("exporter", run_name="__main__")
"""
    done = subprocess.run(
        [sys.executable, "-c", finder], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_ignored_ctrl_c_stays_ignored() -> None:
    words = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN)"
    start = f"{words}; os.execv(sys.executable, sys.argv[1:])"
    probe = (
        "import signal, exporter.cli, exporter.__main__ as start;"
        "exporter.cli.main = lambda: print(signal.getsignal(signal.SIGINT).name);"
        "start.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", start, *command()[:1], "-c", probe],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout == "SIG_IGN\n"
