"""Standard streams that are full, closed or not read stop nothing."""

import os
import shlex
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.exporter_process import TIMEOUT_HEADER, ExporterProcess, command, started

QUICKLY = {TIMEOUT_HEADER: "0.6"}
LOST = "bms_exporter_log_lines_lost_total"


@contextmanager
def demo(redirections: str, *arguments: str, descriptor: int = -1) -> Iterator[ExporterProcess]:
    """Start the demo with these redirections of the shell; yield when it answers."""
    words = command("demo", "--web.listen-address", "127.0.0.1:0", *arguments)
    shell = ["/bin/bash", "-c", f"exec {shlex.join(words)} {redirections}"]
    with started(shell, pass_fds=[] if descriptor < 0 else [descriptor]) as exporter:
        exporter.wait_until_listening()
        yield exporter


def lost(exporter: ExporterProcess) -> float:
    text = exporter.get(**QUICKLY).text
    (line,) = [line for line in text.splitlines() if line.startswith(LOST)]
    return float(line.split()[1])


class TestServing:
    @pytest.mark.parametrize(
        "redirections",
        ["2>&-", "<&- >&- 2>&-", "2>/dev/full", ">/dev/full 2>&1"],
    )
    def test_closed_and_full_streams_do_not_stop_serving(self, redirections: str) -> None:
        with demo(redirections) as exporter:
            assert (lost(exporter) > 0) == ("2>/dev/full" in redirections or "2>&1" in redirections)
            assert exporter.stop()[0] == 0

    def test_log_whose_reader_has_gone_does_not_stop_serving(self) -> None:
        reading, writing = os.pipe()
        os.close(reading)
        with demo(f"2>&{writing}", descriptor=writing) as exporter:
            os.close(writing)
            assert lost(exporter) > 0
            assert exporter.stop()[0] == 0

    def test_full_pipe_does_not_stop_serving(self) -> None:
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        try:
            while True:  # full before it starts: not even its first line finds room
                os.write(writing, b"x")
        except BlockingIOError:
            os.set_blocking(writing, True)
        with demo(f"2>&{writing}", "--log.level", "debug", descriptor=writing) as exporter:
            for _ in range(3):
                assert "bms_polls_total" in exporter.get(**QUICKLY).text
            started_s = time.monotonic()
            status, _ = exporter.stop()

        assert status == 0
        assert time.monotonic() - started_s < 5.0
        os.close(reading)
        os.close(writing)

    def test_lost_lines_do_not_end_up_in_other_descriptors(self) -> None:
        with demo("2>&-") as exporter:
            opened = Path(f"/proc/{exporter.process.pid}/fd/2").readlink()

        assert opened == Path("/dev/null")


class TestOneResult:
    @pytest.mark.parametrize(
        ("redirections", "status", "errors"),
        [
            (">/dev/full", 1, ["standard output: No space left on device"]),
            (">&-", 0, []),
            ("2>/dev/full", 0, []),
            ("2>&-", 0, []),
            ("| true", 0, []),
        ],
    )
    def test_result_that_cannot_be_written_is_reported_in_one_sentence(
        self, redirections: str, status: int, errors: list[str]
    ) -> None:
        words = shlex.join(command("--config.check", "--config.file", "config.example.yaml"))

        result = subprocess.run(
            ["/bin/bash", "-c", f"{words} {redirections}"],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )

        assert result.returncode == status
        assert result.stderr.splitlines() == errors

    @pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-"])
    def test_complaint_that_cannot_be_written_keeps_the_exit_status(self, redirection: str) -> None:
        words = shlex.join(command("--config.check", "--config.file", "no-such-file"))

        result = subprocess.run(
            ["/bin/bash", "-c", f"{words} {redirection}"],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )

        assert (result.returncode, result.stdout, result.stderr) == (1, "", "")
