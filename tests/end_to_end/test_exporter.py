"""The program itself: started as a user starts it, asked over real sockets, in real time."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.support.paths import PROJECT
from tests.support.recorded import CELLS, MOBILEKTRO

NAMES = ("camper", "flaky", "cold")
TIMEOUT = "X-Prometheus-Scrape-Timeout-Seconds"


@dataclass(slots=True)
class Running:
    """A started exporter."""

    process: subprocess.Popen[bytes]
    port: int
    started_s: float
    errors: Path  # its standard error, which can be read while it runs

    def get(
        self, path: str = "/metrics", host: str = "127.0.0.1", **headers: str
    ) -> httpx.Response:
        return httpx.get(f"http://{host}:{self.port}{path}", headers=headers, timeout=30.0)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Ask it to end; return its exit status and what it logged."""
        self.process.send_signal(number)
        status = self.process.wait(timeout=60)
        return status, self.log()

    def log(self) -> str:
        """Return what it logged so far."""
        return self.errors.read_text(encoding="utf-8")

    def status(self, key: str) -> int:
        """Return a number out of /proc/PID/status."""
        text = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        found = re.search(rf"{key}:\s+(\d+)", text)
        assert found
        return int(found[1])

    def cpu_ticks(self) -> int:
        """Return the hundredths of a second of processor time so far."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii")
        user, system = stat.rpartition(")")[2].split()[11:13]
        return int(user) + int(system)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "exporter", *arguments]


@contextmanager
def started(words: Sequence[str], port: int, pass_fds: Sequence[int] = ()) -> Iterator[Running]:
    """Start a command that will listen on `port`; kill it in the end if it still runs."""
    with tempfile.NamedTemporaryFile() as errors:
        process = subprocess.Popen(
            words,
            stderr=errors,
            env=os.environ | {"PYTHONWARNINGS": "error"},
            pass_fds=pass_fds,
        )
        try:
            yield Running(process, port, time.monotonic(), Path(errors.name))
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


@contextmanager
def running(*arguments: str, prefix: Sequence[str] = ()) -> Iterator[Running]:
    """Start the demo, as arguments of `prefix`; return when it listens."""
    port = free_port()
    words = [*prefix, *command("demo", "--web.listen-address", f":{port}", *arguments)]
    with started(words, port) as exporter:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert exporter.process.poll() is None, exporter.log()
                assert time.monotonic() - exporter.started_s < 20
                time.sleep(0.02)
        yield exporter


def remaining(text: str) -> dict[str, float]:
    found = re.findall(
        r'^bms_remaining_capacity_amperehours{battery="(.*)"} (.*)$', text, re.MULTILINE
    )
    return {name: float(number) for name, number in found}


@pytest.fixture(scope="module")
def demo() -> Iterator[Running]:
    """One demo for every test that only looks."""
    with running() as exporter:
        yield exporter


class TestDemo:
    def test_one_scrape_shows_the_remaining_ah_of_three_batteries(self, demo: Running) -> None:
        text = demo.get().text

        assert remaining(text) == {"camper": 131.0, "flaky": 58.0, "cold": 6.5}
        assert 'bms_protection_active{battery="cold",protection="charge_undertemperature"} 1.0' in (
            text
        )

    def test_the_readme_shows_what_the_demo_shows(self) -> None:
        readme = (PROJECT / "README.md").read_text(encoding="utf-8")
        sample = [line for line in readme.splitlines() if line.startswith("bms_")]
        with running() as exporter:  # its numbers change after half a minute
            shown = exporter.get().text.splitlines()

        assert len(sample) > 5
        assert set(sample) <= set(shown)

    def test_promtool_has_nothing_to_say_about_it(self, demo: Running, promtool: str) -> None:
        text = demo.get().text

        result = subprocess.run(
            [promtool, "check", "metrics"], input=text, text=True, capture_output=True, check=False
        )

        assert (result.returncode, result.stderr) == (0, "")

    def test_a_proxy_may_name_the_host_in_the_request_line(self, demo: Running) -> None:
        with socket.create_connection(("127.0.0.1", demo.port)) as connection:
            connection.sendall(
                b"GET http://camper:12200/metrics?name[]=bms_up HTTP/1.1\r\n"
                b"Host: camper:12200\r\nConnection: close\r\n\r\n"
            )
            answer = b"".join(iter(lambda: connection.recv(65536), b""))

        assert answer.startswith(b"HTTP/1.1 200")
        assert b'bms_up{battery="camper"} 1.0' in answer

    def test_it_listens_on_ipv4_and_ipv6(self, demo: Running) -> None:
        assert demo.get("/-/ready").status_code == 200
        assert demo.get("/-/ready", host="[::1]").status_code == 200

    def test_nobody_scraping_costs_no_processor_time(self, demo: Running) -> None:
        demo.get()
        time.sleep(2.5)  # until the batteries are disconnected
        before = demo.cpu_ticks()

        time.sleep(2.0)

        assert demo.cpu_ticks() - before <= 1

    def test_it_stays_below_45_mb(self, demo: Running) -> None:
        demo.get()

        assert demo.status("VmRSS") < 45_000

    def test_a_scrape_with_a_time_out_of_1_s_is_answered_in_time(self) -> None:
        with running() as exporter:
            response = exporter.get(**{TIMEOUT: "1"})

        assert response.elapsed.total_seconds() < 1.0
        assert remaining(response.text) == {}
        assert all(f'bms_polls_total{{battery="{name}"}} 0.0' in response.text for name in NAMES)
        assert "bms_up{" not in response.text


class TestReplay:
    def test_recorded_frames_are_served_as_a_battery(self, tmp_path: Path) -> None:
        recording = tmp_path / "mobilektro.hex"
        recording.write_text(f"# MLB-12200-NT\n{MOBILEKTRO.hex()}\n\n{CELLS.hex(' ')} # cells\n")
        damaged = tmp_path / "damaged.hex"
        damaged.write_text(MOBILEKTRO.hex().replace("4f82", "4f83"))

        with running(
            "--replay", f"recorded={recording}", "--replay", f"damaged={damaged}"
        ) as exporter:
            text = exporter.get().text
            _, log = exporter.stop()

        assert remaining(text) == {"recorded": 203.54}
        assert 'bms_cell_voltage_volts{battery="recorded",cell="04"} 3.386' in text
        assert 'bms_poll_failures_total{battery="damaged",reason="protocol"} 1.0' in text
        assert "damaged.hex: line 1: a damaged frame, served as it is" in log


class TestCrowd:
    def test_a_thousand_scrapes_at_once_are_all_answered_from_one_poll(self) -> None:
        request = b"GET /probe?target=camper HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

        with running() as exporter, ExitStack() as stack:
            clients = []
            for _ in range(1000):
                client = socket.create_connection(("127.0.0.1", exporter.port), timeout=30)
                clients.append(stack.enter_context(client))
                client.sendall(request)
            answers = [b"".join(iter(partial(client.recv, 65536), b"")) for client in clients]
            after = exporter.get("/probe?target=camper").text

        shown = {str(remaining(answer.decode())) for answer in answers}
        assert shown == {"{'camper': 131.0}"}
        assert 'bms_polls_total{battery="camper"} 1.0' in after
        assert 'bms_readings_served_total{battery="camper"} 1001.0' in after


class TestStopping:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_running_scrape_is_finished_and_every_battery_disconnected(
        self, number: signal.Signals
    ) -> None:
        with running() as exporter:
            scraper = subprocess.Popen(
                [sys.executable, "-c", "import sys, httpx; print(httpx.get(sys.argv[1]).text)",
                 f"http://127.0.0.1:{exporter.port}/metrics"],
                stdout=subprocess.PIPE,
                text=True,
            )  # fmt: skip
            time.sleep(1.2)

            status, log = exporter.stop(number)
            text, _ = scraper.communicate(timeout=10)

        assert status == 0
        assert set(remaining(text)) == set(NAMES)
        assert "Traceback" not in log
        assert log.rstrip().endswith("msg=stopped")

    def test_a_second_signal_does_not_wait_for_the_scrape(self) -> None:
        with running() as exporter:
            scrape = socket.create_connection(("127.0.0.1", exporter.port))
            scrape.send(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")  # takes 2 s and more
            time.sleep(0.2)
            began_s = time.monotonic()

            exporter.process.send_signal(signal.SIGINT)
            time.sleep(0.2)
            status, log = exporter.stop(signal.SIGINT)

            scrape.close()
        assert status == 0
        assert time.monotonic() - began_s < 2.0
        assert "Traceback" not in log
        assert log.rstrip().endswith('msg="stopped at once"')

    def test_a_silent_connection_does_not_hold_it_up(self) -> None:
        with running() as exporter:
            connection = socket.create_connection(("127.0.0.1", exporter.port))
            connection.send(b"GET /metr")
            began_s = time.monotonic()

            status, _ = exporter.stop()

            connection.close()
        assert status == 0
        assert time.monotonic() - began_s < 8.0

    def test_a_taken_port_is_named_and_ends_it_with_1(self) -> None:
        with running() as exporter:
            result = subprocess.run(
                command("demo", "--web.listen-address", f":{exporter.port}"),
                capture_output=True,
                text=True,
                check=False,
                timeout=20,
            )

        assert result.returncode == 1
        assert f"cannot listen on ':{exporter.port}': Address already in use" in result.stderr
        assert "Traceback" not in result.stderr


class TestSystemd:
    def test_it_says_when_it_serves_and_then_that_it_lives(self, tmp_path: Path) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            systemd.bind(str(tmp_path / "notify"))
            systemd.settimeout(20.0)
            settings = f"NOTIFY_SOCKET={tmp_path}/notify WATCHDOG_USEC=400000"
            with running(prefix=["/usr/bin/env", *settings.split()]) as exporter:
                told = [systemd.recv(100) for _ in range(4)]
                answer = exporter.get("/-/ready")
                exporter.process.send_signal(signal.SIGSTOP)
                time.sleep(0.3)
                systemd.settimeout(0.5)
                with pytest.raises(TimeoutError):
                    while systemd.recv(100):
                        pass

        assert told == [b"READY=1\n", *[b"WATCHDOG=1\n"] * 3]
        assert answer.status_code == 200

    @pytest.mark.parametrize("interval", ["0", "\u00b2", "9" * 30, "x", ""])
    def test_a_malformed_interval_is_none(self, interval: str, tmp_path: Path) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            systemd.bind(str(tmp_path / "notify"))
            systemd.settimeout(20.0)
            settings = [f"NOTIFY_SOCKET={tmp_path}/notify", f"WATCHDOG_USEC={interval}"]
            with running(prefix=["/usr/bin/env", *settings]) as exporter:
                assert systemd.recv(100) == b"READY=1\n"
                assert exporter.get("/-/ready").status_code == 200
                status, log = exporter.stop()

        assert status == 0
        assert "Traceback" not in log

    def test_a_systemd_that_is_gone_does_not_end_it(self, tmp_path: Path) -> None:
        with running(prefix=["/usr/bin/env", f"NOTIFY_SOCKET={tmp_path}/gone"]) as exporter:
            assert exporter.get("/-/ready").status_code == 200
            _, log = exporter.stop()

        assert 'msg="systemd was not told"' in log


class TestReload:
    def test_batteries_come_and_a_bad_file_changes_nothing(self, tmp_path: Path) -> None:
        config = tmp_path / "config.yaml"
        config.write_text(battery_config("one"))
        port = free_port()
        words = command("--config.file", str(config), "--web.listen-address", f"127.0.0.1:{port}")
        url = f"http://127.0.0.1:{port}"
        transport = httpx.HTTPTransport(retries=8)
        with (
            started(words, port) as exporter,
            httpx.Client(transport=transport, timeout=60.0) as client,
        ):
            assert 'battery="one"' in client.get(f"{url}/metrics").text

            config.write_text(battery_config("one", "two"))
            answer = client.post(f"{url}/-/reload")
            assert answer.status_code == 200, answer.text
            assert 'battery="two"' in client.get(f"{url}/metrics").text

            config.write_text("batteries: [{name: one}]\n")
            exporter.process.send_signal(signal.SIGHUP)
            failed = "bms_exporter_config_last_reload_successful 0.0"
            end_s = time.monotonic() + 10.0
            while failed not in (text := client.get(f"{url}/metrics").text):
                assert time.monotonic() < end_s
                time.sleep(0.2)
            assert 'battery="two"' in text
            status, log = exporter.stop()
        assert status == 0
        assert "the old one stays" in log
        assert "address: missing" in log


def battery_config(*names: str) -> str:
    lines = (
        f"  - {{name: {name}, address: 'A4:C1:38:00:00:{number:02X}'}}\n"
        for number, name in enumerate(names, start=1)
    )
    return "poll: {timeout: 1s}\nbatteries:\n" + "".join(lines)
