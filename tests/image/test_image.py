"""The container image that ./build has made, run as an engine runs it: read-only, unprivileged."""

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


def until(done: Callable[[], bool], *, what: str) -> None:
    end_s = time.monotonic() + 30.0
    while not done():
        assert time.monotonic() < end_s, what
        time.sleep(0.1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A container; `pid` is its first process, seen from outside."""

    process: subprocess.Popen[str]
    pid: int
    as_user: Sequence[str]
    variables: dict[str, str]
    healthcheck: Sequence[str]

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in it, as `docker exec` does."""
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
        """Wait for its end; return its exit status and the lines that it said."""
        _, said = self.process.communicate(timeout=30)
        return self.process.returncode, said.splitlines()


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """Its files, and what it says about itself."""

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
        """Run it: --read-only --cap-drop ALL --security-opt no-new-privileges -v mount:/etc/..."""
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
        told, tell = os.pipe()
        box = [
            *("bwrap", "--die-with-parent", "--info-fd", str(tell)),
            *("--ro-bind", str(self.root), "/", "--proc", "/proc", "--dev", "/dev"),
            *(("--ro-bind", str(mount), f"/{ETC}") if mount else ()),
            *("--unshare-pid", "--as-pid-1", "--unshare-ipc", "--unshare-uts", "--unshare-net"),
            # setpriv needs them to become the user, and nothing is left of them then
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
            pass_fds=[tell],
        )
        os.close(tell)
        with os.fdopen(told) as pipe:  # the program holds its other end: there is no end of file
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


class TestTheImage:
    def test_says_how_it_is_run(self, image: Image) -> None:
        assert image.config["User"] == "65534:65534"
        assert image.config["Entrypoint"] == ["bms-exporter"]
        assert image.config["Cmd"] == ["--config.file", f"/{ETC}/config.yaml"]
        assert image.config["StopSignal"] == "SIGTERM"
        assert list(image.config["ExposedPorts"]) == ["12200/tcp"]

    def test_is_its_base_and_the_installation(self, image: Image) -> None:
        dockerfile = (PROJECT / "Dockerfile").read_text(encoding="utf-8")
        (base,) = set(re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE))

        with mounted(base) as root:
            added = files(image.root) - files(root)

        assert f"{INSTALLED}/bin/bms-exporter" in added
        assert {path for path in added if not path.startswith(f"{INSTALLED}/")} == set()

    def test_has_neither_tests_nor_what_installs_and_builds(self, image: Image) -> None:
        names = {part for path in files(image.root / INSTALLED) for part in Path(path).parts}

        assert {"exporter", "bleak", "dbus_fast"} <= names
        assert names & {"tests", "pip", "setuptools", "wheel", "flit_core"} == set()
        assert not any((image.root / "usr/bin" / name).exists() for name in ("cc", "gcc", "make"))

    def test_has_compiled_what_it_cannot_write(self, image: Image) -> None:
        modules = image.root / INSTALLED / "lib/python3.13/site-packages/exporter"

        assert (modules / "cli/__pycache__/commands.cpython-313.pyc").exists()


class TestTheDemo:
    def test_serves_without_any_privilege_on_a_file_system_that_is_read_only(
        self, image: Image
    ) -> None:
        with image.run("demo") as running:
            until(lambda: running.health() == 0, what="healthy")

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

    def test_ends_on_sigterm_as_the_first_process(self, image: Image) -> None:
        with image.run("demo") as running:
            until(lambda: running.health() == 0, what="healthy")

            running.send(signal.SIGTERM)

            status, said = running.end()
            assert status == 0, said


class TestTheHealthcheck:
    def test_fails_where_nothing_listens(self, image: Image) -> None:
        with image.run(command=["sleep", "60"]) as running:
            until(lambda: "sleep" in running.proc("comm"), what="runs")

            assert running.health() == 1

    def test_fails_when_the_program_hangs(self, image: Image) -> None:
        with image.run("demo") as running:
            until(lambda: running.health() == 0, what="healthy")

            running.send(signal.SIGSTOP)

            assert running.health() == 1
            running.send(signal.SIGCONT)
            assert running.health() == 0

    def test_follows_another_address(self, image: Image) -> None:
        listen = ("--web.listen-address", "[::1]:9100")
        with image.run("demo", *listen, health="::1:9100") as running:
            until(lambda: running.health() == 0, what="healthy")

    def test_needs_to_know_neither_certificates_nor_users(
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
        readable(tmp_path)
        web = f"--web.config.file=/{ETC}/web.yml"

        with image.run("demo", web, mount=tmp_path) as running:
            until(lambda: running.health() == 0, what="healthy")
            running.send(signal.SIGTERM)

            status, said = running.end()

        assert status == 0
        assert [line for line in said if "level=warning" in line or "level=error" in line] == []


class TestTheConfiguration:
    def test_that_is_wrong_is_told_in_one_line(self, image: Image, tmp_path: Path) -> None:
        (tmp_path / "config.yaml").write_text("batteries:\n  - name: camper\n", encoding="utf-8")
        readable(tmp_path)

        with image.run(mount=tmp_path) as running:
            status, said = running.end()

        assert status == 1
        assert said == [f"/{ETC}/config.yaml:2: batteries[0].address: missing"]

    def test_that_is_missing_is_told_in_one_line(self, image: Image) -> None:
        with image.run() as running:
            status, said = running.end()

        assert status == 1
        (line,) = said
        assert line.startswith(f"/{ETC}/config.yaml: cannot be read: No such file or directory")


def readable(folder: Path) -> None:
    """Let the image's user read a folder that pytest has made for root alone."""
    folder.chmod(0o755)
    for path in folder.iterdir():
        path.chmod(0o644)
