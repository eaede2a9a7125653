"""The program as a user starts it: requests over real sockets, in real time."""

import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.support.exporter_process import (
    TIMEOUT_HEADER,
    ExporterProcess,
    command,
    remaining_ah,
    running,
    running_demo,
)
from tests.support.paths import PROJECT
from tests.support.recorded import CELLS, MOBILEKTRO

NAMES = ("camper", "camper2", "flaky", "cold")


@pytest.fixture(scope="module")
def demo() -> Iterator[ExporterProcess]:
    """Return one demo for all tests that only send requests to it."""
    with running_demo() as exporter:
        yield exporter


class TestDemo:
    def test_demo_shows_the_remaining_ah_of_its_batteries_and_bank_in_one_scrape(
        self, demo: ExporterProcess
    ) -> None:
        text = demo.get().text

        assert remaining_ah(text) == {
            "camper": 131.0,
            "camper2": 127.5,
            "flaky": 58.0,
            "cold": 6.5,
        }
        assert 'bms_bank_remaining_capacity_amperehours{bank="living area"} 258.5' in text
        assert 'bms_protection_active{battery="cold",protection="charge_undertemperature"} 1.0' in (
            text
        )

    def test_metrics_shown_in_the_readme_are_those_of_the_demo(self) -> None:
        readme = (PROJECT / "README.md").read_text(encoding="utf-8")
        sample = [line for line in readme.splitlines() if line.startswith("bms_")]
        with running_demo() as exporter:  # its numbers change after half a minute
            shown = exporter.get().text.splitlines()

        assert len(sample) > 5
        assert set(sample) <= set(shown)

    def test_promtool_accepts_the_metrics(self, demo: ExporterProcess, promtool: str) -> None:
        text = demo.get().text

        result = subprocess.run(
            [promtool, "check", "metrics"], input=text, text=True, capture_output=True, check=False
        )

        assert (result.returncode, result.stderr) == (0, "")

    def test_request_line_may_contain_an_absolute_url(self, demo: ExporterProcess) -> None:
        with socket.create_connection(("127.0.0.1", demo.port)) as connection:
            connection.sendall(
                b"GET http://camper:12200/metrics?name[]=bms_up HTTP/1.1\r\n"
                b"Host: camper:12200\r\nConnection: close\r\n\r\n"
            )
            answer = b"".join(iter(lambda: connection.recv(65536), b""))

        assert answer.startswith(b"HTTP/1.1 200")
        assert b'bms_up{battery="camper"} 1.0' in answer

    def test_address_without_a_host_listens_on_ipv4_and_ipv6(self, demo: ExporterProcess) -> None:
        assert demo.get("/-/ready").status_code == 200
        assert demo.get("/-/ready", host="[::1]").status_code == 200

    def test_exporter_without_scrapes_uses_no_processor_time(self, demo: ExporterProcess) -> None:
        demo.get()
        time.sleep(2.5)  # until the batteries are disconnected
        before = demo.cpu_ticks()

        time.sleep(2.0)

        assert demo.cpu_ticks() - before <= 1

    def test_demo_stays_below_46_mb(self, demo: ExporterProcess) -> None:
        demo.get()

        assert demo.status("VmRSS") < 46_000  # with a day of curves of four batteries

    def test_scrape_with_a_timeout_of_1_s_is_answered_in_time_without_readings(self) -> None:
        with running_demo() as exporter:
            response = exporter.get(**{TIMEOUT_HEADER: "1"})

        # A busy machine may be late, but the polls take longer: one battery is looked for for 10 s.
        assert response.elapsed.total_seconds() < 3.0
        assert remaining_ah(response.text) == {}
        assert all(f'bms_polls_total{{battery="{name}"}} 0.0' in response.text for name in NAMES)
        assert "bms_up{" not in response.text


class TestReplay:
    def test_recorded_frames_are_replayed_as_a_battery(self, tmp_path: Path) -> None:
        recording = tmp_path / "mobilektro.hex"
        recording.write_text(f"# MLB-12200-NT\n{MOBILEKTRO.hex()}\n\n{CELLS.hex(' ')} # cells\n")
        damaged = tmp_path / "damaged.hex"
        damaged.write_text(MOBILEKTRO.hex().replace("4f82", "4f83"))

        with running_demo(
            "--replay", f"recorded={recording}", "--replay", f"damaged={damaged}"
        ) as exporter:
            text = exporter.get().text
            _, log = exporter.stop()

        assert remaining_ah(text) == {"recorded": 203.54}
        assert 'bms_cell_voltage_volts{battery="recorded",cell="04"} 3.386' in text
        assert 'bms_poll_failures_total{battery="damaged",reason="protocol"} 1.0' in text
        assert "damaged.hex:1: a damaged frame, served as it is" in log


class TestConcurrentScrapes:
    def test_thousand_concurrent_scrapes_share_one_poll(self) -> None:
        request = b"GET /probe?target=camper HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

        with running_demo() as exporter, ExitStack() as stack:
            clients = []
            for _ in range(1000):
                client = socket.create_connection(("127.0.0.1", exporter.port), timeout=30)
                clients.append(stack.enter_context(client))
                client.sendall(request)
            answers = [b"".join(iter(partial(client.recv, 65536), b"")) for client in clients]
            after = exporter.get("/probe?target=camper").text

        shown = {str(remaining_ah(answer.decode())) for answer in answers}
        assert shown == {"{'camper': 131.0}"}
        assert 'bms_polls_total{battery="camper"} 1.0' in after
        assert 'bms_readings_served_total{battery="camper"} 1001.0' in after


def start_scrape(exporter: ExporterProcess) -> socket.socket:
    """Send a scrape, which takes at least 2 s; return its connection once a poll has begun."""
    scrape = socket.create_connection(("127.0.0.1", exporter.port), timeout=30.0)
    scrape.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    while not any(
        each["polling"] for each in exporter.get("/api/v1/batteries").json()["batteries"]
    ):
        time.sleep(0.02)
    return scrape


class TestStopping:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_stop_finishes_the_running_scrape_and_disconnects_every_battery(
        self, number: signal.Signals
    ) -> None:
        with running_demo() as exporter:
            scrape = start_scrape(exporter)
            status, log = exporter.stop(number)
            text = b"".join(iter(partial(scrape.recv, 65536), b"")).decode()
            scrape.close()

        assert status == 0
        assert set(remaining_ah(text)) == set(NAMES)
        assert "Traceback" not in log
        assert log.rstrip().endswith("msg=stopped")

    def test_second_signal_stops_without_waiting_for_the_scrape(self) -> None:
        with running_demo() as exporter:
            scrape = start_scrape(exporter)
            began_s = time.monotonic()

            exporter.process.send_signal(signal.SIGINT)
            time.sleep(0.2)
            status, log = exporter.stop(signal.SIGINT)

            scrape.close()
        assert status == 0
        assert time.monotonic() - began_s < 2.0
        assert "Traceback" not in log
        assert log.rstrip().endswith('msg="stopped at once"')

    def test_silent_connection_does_not_delay_the_stop(self) -> None:
        with running_demo() as exporter:
            connection = socket.create_connection(("127.0.0.1", exporter.port))
            connection.send(b"GET /metr")
            began_s = time.monotonic()

            status, _ = exporter.stop()

            connection.close()
        assert status == 0
        assert time.monotonic() - began_s < 8.0

    def test_port_in_use_is_named_and_exits_with_1(self) -> None:
        with running_demo() as exporter:
            result = subprocess.run(
                command("demo", "--web.listen-address", f":{exporter.port}"),
                capture_output=True,
                text=True,
                check=False,
                timeout=20,
            )

        assert result.returncode == 1
        (line,) = result.stderr.splitlines()[-1:]
        assert line.startswith(f"cannot listen on :{exporter.port}: another program uses this port")
        assert "virtual" not in result.stderr  # nothing is announced before it is true


class TestSystemd:
    def test_systemd_is_notified_of_readiness_and_then_by_the_watchdog(
        self, tmp_path: Path
    ) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            systemd.bind(str(tmp_path / "notify"))
            systemd.settimeout(20.0)
            settings = f"NOTIFY_SOCKET={tmp_path}/notify WATCHDOG_USEC=400000"
            with running_demo(prefix=["/usr/bin/env", *settings.split()]) as exporter:
                notified = [systemd.recv(100) for _ in range(4)]
                answer = exporter.get("/-/ready")
                exporter.process.send_signal(signal.SIGSTOP)
                time.sleep(0.3)
                systemd.settimeout(0.5)
                with pytest.raises(TimeoutError):
                    while systemd.recv(100):
                        pass

        assert notified == [b"READY=1\n", *[b"WATCHDOG=1\n"] * 3]
        assert answer.status_code == 200

    @pytest.mark.parametrize("interval", ["0", "\u00b2", "9" * 30, "x", ""])
    def test_malformed_watchdog_interval_is_ignored(self, interval: str, tmp_path: Path) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            systemd.bind(str(tmp_path / "notify"))
            systemd.settimeout(20.0)
            settings = [f"NOTIFY_SOCKET={tmp_path}/notify", f"WATCHDOG_USEC={interval}"]
            with running_demo(prefix=["/usr/bin/env", *settings]) as exporter:
                assert systemd.recv(100) == b"READY=1\n"
                assert exporter.get("/-/ready").status_code == 200
                status, log = exporter.stop()

        assert status == 0
        assert "Traceback" not in log

    def test_missing_notify_socket_of_systemd_does_not_stop_the_exporter(
        self, tmp_path: Path
    ) -> None:
        with running_demo(prefix=["/usr/bin/env", f"NOTIFY_SOCKET={tmp_path}/gone"]) as exporter:
            assert exporter.get("/-/ready").status_code == 200
            _, log = exporter.stop()

        assert 'msg="systemd was not notified: the socket in NOTIFY_SOCKET cannot be used"' in log
        assert "Errno" not in log


class TestReload:
    def test_reload_adds_a_battery_and_ignores_an_invalid_file(self, tmp_path: Path) -> None:
        config = tmp_path / "config.yaml"
        config.write_text(battery_config("one"))
        words = command("--config.file", str(config), "--web.listen-address", "127.0.0.1:0")
        with running(words) as exporter, httpx.Client(timeout=60.0) as client:
            url = f"http://127.0.0.1:{exporter.port}"
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
