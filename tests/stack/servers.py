"""Prometheus, Alertmanager, VictoriaMetrics and the demo as processes, on free ports."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any, Final, Self

import httpx
import pytest

from tests.support.exporter_process import listening_port

ANY_PORT: Final = "127.0.0.1:0"
NUMBERS: Final = count(1)  # distinguish the files of several servers in one folder
PACKAGES: Final = {
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "prometheus-alertmanager": "prometheus-alertmanager",
    "amtool": "prometheus-alertmanager",
    "victoria-metrics": "victoria-metrics",
    "vmagent": "victoria-metrics",
    "curl": "curl",
    "openssl": "openssl",
}


def program(name: str) -> str:
    """Return the path of a program; without it the test is skipped, in CI it fails."""
    path = shutil.which(name)
    if path is None:
        give_up = pytest.fail if os.environ.get("REQUIRE_TOOLS") else pytest.skip
        give_up(f"no {name}: apt-get install {PACKAGES[name]}")
    return path


def wait_for(done: Callable[[], Any], *, timeout_s: float, what: str) -> Any:
    """Call a function until it returns something true; return that."""
    end_s = time.monotonic() + timeout_s
    while True:
        try:
            if answer := done():
                return answer
        except httpx.TransportError:
            pass
        assert time.monotonic() < end_s, f"{what}: not after {timeout_s:.0f} s"
        time.sleep(0.25)


class Server:
    """A process that serves HTTP on ANY_PORT; `ready` is a path that succeeds once it is ready."""

    def __init__(
        self, command: Sequence[str], folder: Path, ready: str | None = "/-/ready"
    ) -> None:
        self._log = folder / f"{Path(command[0]).name}-{next(NUMBERS)}.log"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([*command], stdout=log, stderr=log)
        self.port: int = wait_for(self._listening_port, timeout_s=60, what=self._log.name)
        self.url = f"http://127.0.0.1:{self.port}"
        if ready is not None:
            wait_for(lambda: self._succeeds(ready), timeout_s=60, what=self._log.name)

    def _listening_port(self) -> int:
        assert self._process.poll() is None, self._log.read_text()[-3000:]
        return listening_port(self._process.pid)

    def _succeeds(self, path: str) -> bool:
        assert self._process.poll() is None, self._log.read_text()[-3000:]
        return httpx.get(f"{self.url}{path}").is_success

    def freeze(self) -> None:
        """Suspend the process, which looks like a lost uplink."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        self.thaw()
        if self._process.poll() is None:
            self._process.terminate()
            self._process.wait(60)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def api(self, path: str, **parameters: str) -> Any:
        """Return the data of a response of Prometheus's HTTP API."""
        response = httpx.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=60).json()
        assert response["status"] == "success", response
        return response["data"]

    def query(self, expr: str) -> list[Any]:
        result: list[Any] = self.api("query", query=expr)["result"]
        return result

    def value(self, expr: str) -> float | None:
        """Return the value of an expression with at most one series."""
        found = self.query(expr)
        assert len(found) <= 1, found
        return float(found[0]["value"][1]) if found else None


def demo(folder: Path, *arguments: str, answers: bool = True) -> Server:
    """Start the demo; `answers` is false if the arguments require TLS or a password."""
    program = str(Path(sys.executable).parent / "bms-exporter")
    words = [program, "demo", *arguments, "--web.listen-address", ANY_PORT]
    return Server(words, folder, "/-/healthy" if answers else None)


def prometheus(folder: Path, config: str, *arguments: str, agent: bool = False) -> Server:
    number = next(NUMBERS)
    file = folder / f"prometheus-{number}.yml"
    file.write_text(config, encoding="utf-8")
    storage = (
        ["--enable-feature=agent", f"--storage.agent.path={folder}/agent-{number}"]
        if agent
        else [f"--storage.tsdb.path={folder}/tsdb-{number}"]
    )
    return Server(
        [program("prometheus"), f"--config.file={file}", *storage,
         f"--web.listen-address={ANY_PORT}", *arguments],
        folder,
    )  # fmt: skip


def alertmanager(folder: Path, config: str) -> Server:
    file = folder / "alertmanager.yml"
    file.write_text(config, encoding="utf-8")
    return Server(
        [program("prometheus-alertmanager"), f"--config.file={file}",
         f"--storage.path={folder}/alertmanager", "--cluster.listen-address=",
         f"--web.listen-address={ANY_PORT}"],
        folder,
    )  # fmt: skip


class Webhook:
    """A receiver of Alertmanager's notifications."""

    def __init__(self) -> None:
        self.alerts: list[tuple[str, str, str]] = []  # name, battery, firing or resolved
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                for alert in body["alerts"]:
                    labels = alert["labels"]
                    webhook.alerts.append(
                        (labels["alertname"], labels.get("battery", ""), alert["status"])
                    )
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def has(self, name: str, battery: str, status: str) -> bool:
        return (name, battery, status) in self.alerts

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
