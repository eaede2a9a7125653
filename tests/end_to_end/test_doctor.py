"""`doctor` as a user starts it, on a machine that may have no Bluetooth, and beside an exporter."""

import asyncio
import json
import os
import resource
import signal
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from exporter.cli.options import EXPORTER_URL
from exporter.demo.battery import Faults
from exporter.doctor.bluetoothd import Bluetoothd
from exporter.doctor.check import LABELS, State
from exporter.doctor.facts import Sources
from exporter.doctor.files import Files
from exporter.doctor.report import Report
from exporter.doctor.rights import Rights
from exporter.doctor.run import Plan, run
from exporter.doctor.running_exporter import (
    Presence,
    ReleaseError,
    RunningExporter,
    check_exporter,
)
from tests.support import att_server
from tests.support.exporter_process import ExporterProcess, command, free_port, running_demo
from tests.support.machines import LAPTOP
from tests.support.virtual import ADDRESS, battery
from tests.support.web_config import USERS, serving

CONFIG = f"batteries: [{{name: mine, address: '{ADDRESS}'}}]\n"
real_time = pytest.mark.looptime(False)  # noqa: FBT003 - sockets live in real time


@dataclass(frozen=True, slots=True)
class Done:
    status: int
    output: str
    errors: str
    cpu_s: float  # the elapsed time depends on what else runs


def doctor(*arguments: str, url: str | None = None, env: dict[str, str] | None = None) -> Done:
    """Run the command; the exporter at `url` is none unless it is given."""
    url = url or f"http://127.0.0.1:{free_port()}"
    used_s = children_s()
    done = subprocess.run(
        command("doctor", "--exporter", url, *arguments),
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nonexistent"} | (env or {}),
    )
    return Done(done.returncode, done.stdout, done.stderr, children_s() - used_s)


def children_s() -> float:
    """Return the processor time of all processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def demo() -> Iterator[ExporterProcess]:
    with running_demo() as exporter:
        yield exporter


def url_of(exporter: ExporterProcess) -> str:
    return f"http://127.0.0.1:{exporter.port}"


def paused(exporter: ExporterProcess) -> set[str]:
    """Return the names of the batteries that the exporter leaves alone."""
    batteries = exporter.get("/api/v1/batteries").json()["batteries"]
    return {one["name"] for one in batteries if one["paused_until_unix_s"] is not None}


def release(exporter: ExporterProcess, name: str, action: str = "release") -> None:
    httpx.post(f"{url_of(exporter)}/api/v1/{action}?battery={name}").raise_for_status()


class TestMachineWithoutBluetooth:
    def test_output_is_useful_and_quick(self, config: Path) -> None:
        done = doctor("--config.file", str(config), env={"PYTHONWARNINGS": "error"})

        assert done.status == 1
        assert done.errors == ""
        assert "Traceback" not in done.output
        assert "One thing to do: " in done.output
        assert done.cpu_s < 2.0
        labels = [line.partition(" ")[0] for line in done.output.splitlines()]
        for label in ("machine", "kernel", "sockets", "bluetoothd", "config", "verdict"):
            assert label in labels

    def test_quick_check_is_quicker(self, config: Path) -> None:
        done = doctor("--quick", "--config.file", str(config))

        assert done.status == 1
        assert "mine" not in done.output
        assert done.cpu_s < 1.2

    def test_facts_are_written_beside_the_text(self, config: Path, tmp_path: Path) -> None:
        file = tmp_path / "facts.json"

        done = doctor("mine", "--config.file", str(config), "--json", str(file))

        facts = json.loads(file.read_text(encoding="utf-8"))
        assert done.status == 1
        assert done.output
        assert {check["id"] for check in facts["checks"]} <= set(LABELS)
        assert facts["batteries"] == [{"name": "mine", "address": ADDRESS}]
        assert str(tmp_path) not in file.read_text(encoding="utf-8")

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["boat"], "no battery 'boat': configured: mine"),
            (["--json", "/nonexistent/facts.json"], "cannot be written: No such file or directory"),
            (["--link", "wifi"], "expected one of direct, bluez, both, got 'wifi'"),
            (["--exporter", "localhost"], "expected a URL like http://localhost:12200"),
        ],
    )
    def test_wrong_usage_has_its_own_status(
        self, arguments: list[str], words: str, config: Path
    ) -> None:
        done = subprocess.run(
            command("doctor", "--config.file", str(config), *arguments),
            capture_output=True,
            text=True,
            check=False,
        )

        assert done.returncode == 2
        assert words in done.stderr

    def test_mistake_in_the_configuration_is_one_check_of_many(self, tmp_path: Path) -> None:
        (tmp_path / "config.yaml").write_text("speed: 1\n")

        done = doctor("--config.file", str(tmp_path / "config.yaml"))

        assert done.status == 1
        assert "config     FAIL" in done.output
        assert "kernel log" in done.output

    def test_output_into_a_closed_pipe_is_no_error(self, config: Path) -> None:
        words = command("doctor", "--quick", "--config.file", str(config))
        with subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.close()
            assert process.stderr.read() == ""


class TestBesideAnExporter:
    def test_release_is_ended_when_doctor_is_done(
        self, demo: ExporterProcess, config: Path
    ) -> None:
        done = doctor("--config.file", str(config), url=url_of(demo))

        assert "it leaves camper alone meanwhile" in done.output
        assert paused(demo) == set()

    def test_exporter_of_other_batteries_goes_on(self, demo: ExporterProcess, config: Path) -> None:
        done = doctor("--quick", "A4:C1:38:99:99:99", url=url_of(demo))

        assert "it goes on as before" in done.output

    @real_time
    async def test_battery_is_released_and_resumed(self, demo: ExporterProcess) -> None:
        exporter = RunningExporter(url_of(demo))

        await exporter.find()
        await exporter.release(ADDRESS)
        during = await asyncio.to_thread(paused, demo)
        failed = await exporter.resume()

        assert exporter.presence is Presence.OPEN
        assert during == {"camper"}
        assert failed == []
        assert await asyncio.to_thread(paused, demo) == set()

    @real_time
    async def test_battery_that_it_does_not_read_needs_no_release(
        self, demo: ExporterProcess
    ) -> None:
        exporter = RunningExporter(url_of(demo))
        await exporter.find()

        await exporter.release("A4:C1:38:00:00:99")

        assert exporter.released == []

    @real_time
    async def test_release_of_somebody_else_stays(self, demo: ExporterProcess) -> None:
        await asyncio.to_thread(release, demo, "cold")
        exporter = RunningExporter(url_of(demo))
        await exporter.find()
        address = next(key for key, name in exporter.names.items() if name == "cold")

        await exporter.release(address)
        await exporter.resume()

        assert await asyncio.to_thread(paused, demo) == {"cold"}
        await asyncio.to_thread(release, demo, "cold", "resume")

    @real_time
    async def test_interrupted_doctor_ends_its_releases(
        self, demo: ExporterProcess, config: Path, tmp_path: Path
    ) -> None:
        waiting = asyncio.Event()

        def note(text: str) -> None:
            if "over direct" in text:
                waiting.set()

        report = Report(write=lambda _: None, on_wait=note)
        plan = Plan(config_file=config, exporter_url=url_of(demo))
        task = asyncio.create_task(run(plan, missing_battery(tmp_path), report))
        await waiting.wait()
        during = await asyncio.to_thread(paused, demo)

        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert during == {"camper"}
        assert await asyncio.to_thread(paused, demo) == set()

    @real_time
    async def test_sigterm_ends_the_releases_too(
        self, demo: ExporterProcess, config: Path, tmp_path: Path
    ) -> None:
        def stop(text: str) -> None:
            if "over direct" in text:
                signal.raise_signal(signal.SIGTERM)

        report = Report(write=lambda _: None, on_wait=stop)
        plan = Plan(config_file=config, exporter_url=url_of(demo))

        with pytest.raises(asyncio.CancelledError):
            await asyncio.create_task(run(plan, missing_battery(tmp_path), report))

        assert await asyncio.to_thread(paused, demo) == set()

    def test_exporter_that_wants_a_user_keeps_its_batteries(
        self, config: Path, tmp_path: Path
    ) -> None:
        with serving(tmp_path, USERS) as exporter:
            done = doctor("--config.file", str(config), url=url_of(exporter))

        assert "wants a user: its batteries are left alone" in done.output
        assert done.status == 1

    def test_exporter_that_wants_a_user_is_a_note_for_the_quick_check(
        self, config: Path, tmp_path: Path
    ) -> None:
        with serving(tmp_path, USERS) as exporter:
            done = doctor("--quick", "--config.file", str(config), url=url_of(exporter))

        assert "exporter   note one runs at" in done.output
        assert "systemctl stop bms-exporter" not in done.output

    @real_time
    async def test_server_that_answers_nothing_may_be_an_exporter(self) -> None:
        async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            exporter = RunningExporter(f"http://127.0.0.1:{port}")
            await exporter.find()

        assert exporter.presence is Presence.LOCKED
        with pytest.raises(ReleaseError, match="may be reading it"):
            await exporter.release(ADDRESS)

    @pytest.mark.parametrize(
        ("answer", "presence"),
        [
            (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", Presence.FOREIGN),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", Presence.FOREIGN),
            (
                (
                    b"HTTP/1.1 200 OK\r\nContent-Length: 44\r\n\r\n"
                    b'{"batteries": [{"name": 1, "address": [2]}]}'
                ),
                Presence.FOREIGN,
            ),
            (
                b"HTTP/1.1 200 OK\r\nContent-Length: 90000\r\n\r\n" + b"[" * 90_000,
                Presence.FOREIGN,
            ),
            (
                b"HTTP/1.1 302 Found\r\nLocation: https://x/\r\nContent-Length: 0\r\n\r\n",
                Presence.LOCKED,
            ),
            (b"\x16\x03\x01garbage\r\n\r\n", Presence.LOCKED),
            (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", Presence.LOCKED),
        ],
    )
    @real_time
    async def test_other_servers_are_told_apart(self, answer: bytes, presence: Presence) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            exporter = RunningExporter(f"http://user:secret@127.0.0.1:{port}")
            await exporter.find()

        assert exporter.presence is presence
        assert exporter.place == f"127.0.0.1:{port}"

    @real_time
    async def test_port_without_a_server_has_no_exporter(self) -> None:
        exporter = RunningExporter(f"http://127.0.0.1:{free_port()}")

        await exporter.find()

        assert exporter.presence is Presence.NONE

    def test_default_exporter_is_found_where_no_name_can_be_resolved(self) -> None:
        assert urlsplit(EXPORTER_URL).hostname == "127.0.0.1"

    @real_time
    async def test_name_without_an_address_is_not_taken_for_a_missing_exporter(self) -> None:
        exporter = RunningExporter("http://[fe80::1%no-such-link]:12200")  # fails without a server

        await exporter.find()
        check = check_exporter(exporter, [])

        assert check.state is State.WARN
        assert "cannot be resolved: give an IP address with --exporter" in check.text


def missing_battery(folder: Path) -> Sources:
    """Return a laptop near which no battery is, with the kernel's sockets only."""
    virtual = battery(faults=Faults(gone=True))
    air = att_server.Air({ADDRESS: virtual}, adapters=list(LAPTOP.adapters))

    async def not_running(*_: object) -> Bluetoothd:
        return Bluetoothd(problem="not_running")

    async def nothing(_arguments: Sequence[str], _timeout_s: float) -> Any:
        return None

    def allowed(_files: Files) -> Rights:
        return Rights(channel_errno=None, query_errno=None, capabilities=0)

    return Sources(
        files=LAPTOP.write(folder / "root"),
        kernel=air.make_kernel(),
        command=LAPTOP.command,
        run_program=nothing,
        read_rights=allowed,
        read_bluetoothd=not_running,
    )
