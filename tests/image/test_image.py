"""The container image built by ./build, run read-only and unprivileged, as an engine runs it."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import bcrypt
import pytest
import trustme

from tests.support.paths import PROJECT

CACHE: Final = Path.home() / ".cache/bms-exporter-image"
ETC: Final = "etc/bms-exporter"
INSTALLED: Final = "opt/bms-exporter"
SCRAPE: Final = (
    "from urllib.request import urlopen; print(urlopen('http://127.0.0.1:12200/metrics').read())"
)


def buildah(*arguments: str) -> str:
    command = ["buildah", "--root", str(CACHE / "storage"), "--runroot", str(CACHE / "run")]
    done = subprocess.run([*command, *arguments], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()


@contextmanager
def mounted(image: str) -> Iterator[Path]:
    container = buildah("from", "--pull-never", image)
    try:
        yield Path(buildah("mount", container))
    finally:
        buildah("rm", container)


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()}


def wait_until(done: Callable[[], bool], *, what: str) -> None:
    end_s = time.monotonic() + 30.0
    while not done():
        assert time.monotonic() < end_s, what
        time.sleep(0.1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A running container; `pid` is its first process as the host numbers it."""

    process: subprocess.Popen[str]
    pid: int
    as_user: Sequence[str]
    variables: dict[str, str]
    healthcheck: Sequence[str]

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the container, as `docker exec` does."""
        enter = ["nsenter", f"--target={self.pid}", "--all", "--root", "--wd"]
        return subprocess.run(
            [*enter, *self.as_user, *command],
            check=False,
            capture_output=True,
            text=True,
            env=self.variables,
            timeout=30,
        )

    def health(self) -> int:
        return self.execute(*self.healthcheck).returncode

    def proc(self, name: str) -> str:
        return Path(f"/proc/{self.pid}/{name}").read_text(encoding="utf-8")

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def end(self) -> tuple[int, list[str]]:
        """Wait until it has ended; return its exit status and the lines of its log."""
        _, log = self.process.communicate(timeout=30)
        return self.process.returncode, log.splitlines()


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """The files of the image and its configuration."""

    root: Path
    config: dict[str, Any]

    @contextmanager
    def run(
        self,
        *arguments: str,
        mount: Path | None = None,
        command: Sequence[str] = (),
        health: str = "",
    ) -> Iterator[Running]:
        """Run it like `docker run --read-only --cap-drop ALL` with `mount` at /etc/bms-exporter."""
        user, group = self.config["User"].split(":")
        as_user = [
            *("setpriv", "--clear-groups", "--no-new-privs", "--inh-caps=-all"),
            "--bounding-set=-all",
            *(f"--reuid={user}", f"--regid={group}"),
        ]
        variables = dict(pair.split("=", 1) for pair in self.config["Env"])
        if health:
            variables["HEALTH"] = health
        if mount is not None:
            (self.root / ETC).mkdir(exist_ok=True)  # as an engine does
        kind, *healthcheck = self.config["Healthcheck"]["Test"]
        assert kind == "CMD"
        read_end, write_end = os.pipe()
        box = [
            *("bwrap", "--die-with-parent", "--info-fd", str(write_end)),
            *("--ro-bind", str(self.root), "/", "--proc", "/proc", "--dev", "/dev"),
            *(("--ro-bind", str(mount), f"/{ETC}") if mount else ()),
            *("--unshare-pid", "--as-pid-1", "--unshare-ipc", "--unshare-uts", "--unshare-net"),
            # setpriv needs these to become the user, and then drops them.
            *("--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"),
            *("--cap-add", "CAP_SETPCAP"),
        ]
        program = [*self.config["Entrypoint"], *(arguments or self.config["Cmd"])]
        process = subprocess.Popen(
            [*box, *as_user, *(command or program)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=variables,
            pass_fds=[write_end],
        )
        os.close(write_end)
        with os.fdopen(read_end) as pipe:  # no end of file: the program keeps its other end open
            pid = json.loads("".join(iter(lambda: pipe.read(1), "}")) + "}")["child-pid"]
        try:
            yield Running(
                process=process,
                pid=pid,
                as_user=as_user,
                variables=variables,
                healthcheck=healthcheck,
            )
        finally:
            if process.poll() is None:
                os.kill(pid, signal.SIGKILL)
            process.communicate(timeout=30)


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    name = "localhost/bms-exporter"
    config = json.loads(buildah("inspect", "--type", "image", name))["Docker"]["config"]
    with mounted(name) as root:
        yield Image(root=root, config=config)


class TestFiles:
    def test_image_declares_user_command_signal_and_port(self, image: Image) -> None:
        assert image.config["User"] == "65534:65534"
        assert image.config["Entrypoint"] == ["bms-exporter"]
        assert image.config["Cmd"] == ["--config.file", f"/{ETC}/config.yaml"]
        assert image.config["StopSignal"] == "SIGTERM"
        assert list(image.config["ExposedPorts"]) == ["12200/tcp"]

    def test_image_adds_only_the_installation_to_its_base(self, image: Image) -> None:
        dockerfile = (PROJECT / "Dockerfile").read_text(encoding="utf-8")
        (base,) = set(re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE))

        with mounted(base) as root:
            added = files(image.root) - files(root)

        assert f"{INSTALLED}/bin/bms-exporter" in added
        assert {path for path in added if not path.startswith(f"{INSTALLED}/")} == set()

    def test_image_contains_neither_tests_nor_build_tools(self, image: Image) -> None:
        names = {part for path in files(image.root / INSTALLED) for part in Path(path).parts}

        assert {"exporter", "bleak", "dbus_fast"} <= names
        assert names & {"tests", "pip", "setuptools", "wheel", "flit_core"} == set()
        assert not any((image.root / "usr/bin" / name).exists() for name in ("cc", "gcc", "make"))

    def test_image_contains_bytecode_since_it_runs_read_only(self, image: Image) -> None:
        modules = image.root / INSTALLED / "lib/python3.13/site-packages/exporter"

        assert (modules / "cli/__pycache__/commands.cpython-313.pyc").exists()


class TestDemo:
    def test_demo_runs_without_privileges_on_a_read_only_file_system(self, image: Image) -> None:
        with image.run("demo") as running:
            wait_until(lambda: running.health() == 0, what="healthy")

            assert 'bms_up{battery="camper"} 1.0' in running.execute("python", "-c", SCRAPE).stdout
            status = running.proc("status")
            assert re.search(r"^Uid:\s+65534\s+65534\s+65534\s+65534$", status, re.MULTILINE)
            assert re.search(r"^Groups:\s*$", status, re.MULTILINE)
            assert set(re.findall(r"^Cap\w+:\s+(\w+)$", status, re.MULTILINE)) == {"0" * 16}
            assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)
            assert re.search(r"^NSpid:\s+\d+\s+1$", status, re.MULTILINE)
            (options,) = re.findall(
                r"^\S+ \S+ \S+ \S+ / (\S+)", running.proc("mountinfo"), re.MULTILINE
            )
            assert "ro" in options.split(",")

    def test_sigterm_ends_the_exporter_as_the_first_process(self, image: Image) -> None:
        with image.run("demo") as running:
            wait_until(lambda: running.health() == 0, what="healthy")

            running.send(signal.SIGTERM)

            status, log = running.end()
            assert status == 0, log


class TestHealthCheck:
    def test_health_check_fails_when_nothing_listens(self, image: Image) -> None:
        with image.run(command=["sleep", "60"]) as running:
            wait_until(lambda: "sleep" in running.proc("comm"), what="runs")

            assert running.health() == 1

    def test_health_check_fails_while_the_exporter_hangs(self, image: Image) -> None:
        with image.run("demo") as running:
            wait_until(lambda: running.health() == 0, what="healthy")

            running.send(signal.SIGSTOP)

            assert running.health() == 1
            running.send(signal.SIGCONT)
            assert running.health() == 0

    def test_health_check_uses_the_address_in_health(self, image: Image) -> None:
        listen = ("--web.listen-address", "[::1]:9100")
        with image.run("demo", *listen, health="::1:9100") as running:
            wait_until(lambda: running.health() == 0, what="healthy")

    def test_health_check_needs_neither_certificates_nor_users(
        self, image: Image, tmp_path: Path
    ) -> None:
        authority = trustme.CA()
        certificate = authority.issue_cert("camper.example")
        certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
        certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        hashed = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
        (tmp_path / "web.yml").write_text(
            "tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n"
            "  client_ca_file: ca.pem\n  client_auth_type: RequireAndVerifyClientCert\n"
            f"basic_auth_users:\n  prometheus: {hashed}\n",
            encoding="utf-8",
        )
        make_readable(tmp_path)
        web = f"--web.config.file=/{ETC}/web.yml"

        with image.run("demo", web, mount=tmp_path) as running:
            wait_until(lambda: running.health() == 0, what="healthy")
            running.send(signal.SIGTERM)

            status, log = running.end()

        assert status == 0
        assert [line for line in log if "level=warning" in line or "level=error" in line] == []


class TestConfiguration:
    def test_invalid_configuration_is_reported_in_one_line(
        self, image: Image, tmp_path: Path
    ) -> None:
        (tmp_path / "config.yaml").write_text("batteries:\n  - name: camper\n", encoding="utf-8")
        make_readable(tmp_path)

        with image.run(mount=tmp_path) as running:
            status, log = running.end()

        assert status == 1
        (line,) = log
        assert line.startswith(f"/{ETC}/config.yaml:2: batteries[0].address: missing: ")

    def test_missing_configuration_is_reported_in_one_line(self, image: Image) -> None:
        with image.run() as running:
            status, log = running.end()

        assert status == 1
        (line,) = log
        assert line.startswith(f"/{ETC}/config.yaml: there is no such file: ")


def make_readable(folder: Path) -> None:
    """Let the image's user read a folder that pytest created for root alone."""
    folder.chmod(0o755)
    for path in folder.iterdir():
        path.chmod(0o644)
