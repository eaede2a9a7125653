"""Attacks on the running program while Prometheus scrapes it."""

import asyncio
import base64
import os
import re
import resource
import signal
import socket
import ssl
import struct
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import trustme

from exporter.web.limits import limits_here
from tests.support.exporter_process import (
    TIMEOUT_HEADER,
    ExporterProcess,
    remaining_ah,
    running_demo,
)
from tests.support.waiting import wait_until
from tests.support.web_config import PASSWORD, TLS, USERS, serving, write_certificate

SCRAPE = b"GET /metrics HTTP/1.1\r\nHost: camper\r\nConnection: close\r\n\r\n"
MANY = 300  # connections of an attack
LASTS_S = 1.0  # duration of an attack
IDLE_KB = 41_000  # of the demo, with TLS and users
pytestmark = pytest.mark.looptime(False)  # noqa: FBT003 - its interface


@dataclass(slots=True)
class Target:
    """A running exporter, and how to reach it."""

    exporter: ExporterProcess
    context: ssl.SSLContext | None
    auth: tuple[str, str] | None = None

    async def open(self, *, encrypted: bool = True) -> "Connection":
        context = self.context if encrypted else None
        return Connection(
            *await asyncio.open_connection(
                "127.0.0.1",
                self.exporter.port,
                ssl=context,
                server_hostname="127.0.0.1" if context else None,
                limit=1 << 24,
            )
        )

    async def scrape(self, timeout_s: float = 10.0) -> str:
        """Return the metrics; fail if they take longer than `timeout_s`, as Prometheus does."""
        scheme = "https" if self.context else "http"
        response = await asyncio.to_thread(
            httpx.get,
            f"{scheme}://127.0.0.1:{self.exporter.port}/metrics",
            headers={TIMEOUT_HEADER: "10"},
            auth=self.auth,
            verify=self.context or False,
            timeout=timeout_s,
        )
        assert response.status_code == 200
        return response.text

    def descriptors(self) -> int:
        return len([*Path(f"/proc/{self.exporter.process.pid}/fd").iterdir()])


@dataclass(frozen=True, slots=True)
class Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


@asynccontextmanager
async def using(connection: Connection) -> AsyncIterator[Connection]:
    try:
        yield connection
    finally:
        connection.writer.transport.abort()


async def crowd(
    target: Target, count: int, act: Callable[[Connection], Awaitable[None]], **how: bool
) -> None:
    """Open `count` connections at once, run `act` on each, and hold them for the attack."""

    async def one() -> None:
        with suppress(OSError, ssl.SSLError, asyncio.IncompleteReadError):
            async with using(await target.open(**how)) as connection:
                await act(connection)
                await asyncio.sleep(LASTS_S)

    await asyncio.gather(*(one() for _ in range(count)))


async def silent(target: Target) -> None:
    async def act(_connection: Connection) -> None:
        pass

    await crowd(target, MANY, act, encrypted=False)


async def half_sent(target: Target) -> None:
    async def act(connection: Connection) -> None:
        connection.writer.write(b"GET /metr")

    await crowd(target, MANY, act)


async def unfinished_handshakes(target: Target) -> None:
    hello = ssl.MemoryBIO()
    shaking = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), hello, server_hostname="x")
    with suppress(ssl.SSLWantReadError):
        shaking.do_handshake()
    whole = hello.read()

    async def act(connection: Connection) -> None:
        connection.writer.write(whole[:-20])

    await crowd(target, MANY, act, encrypted=False)


async def one_byte_at_a_time(target: Target) -> None:
    async def act(connection: Connection) -> None:
        for byte in SCRAPE[:12]:
            connection.writer.write(bytes([byte]))
            await asyncio.sleep(LASTS_S / 12)

    await crowd(target, 100, act)


async def two_megabytes_of_headers(target: Target) -> None:
    async def act(connection: Connection) -> None:
        connection.writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n")
        for number in range(2000):
            if connection.writer.is_closing():
                return
            connection.writer.write(b"X-%d: %s\r\n" % (number, b"a" * 1000))
            await connection.writer.drain()

    await crowd(target, 20, act)


async def pipelined_and_never_read(target: Target) -> None:
    async def act(connection: Connection) -> None:
        connection.reader._transport.pause_reading()  # type: ignore[attr-defined]
        connection.writer.write(SCRAPE.replace(b"close", b"keep-alive") * 200)

    await crowd(target, 20, act)


async def flood_of_probes(target: Target) -> None:
    ends_s = time.monotonic() + LASTS_S

    async def act(connection: Connection) -> None:
        for number in range(10_000):
            name = b"camper" if number % 2 else b"%0d%0ayours-level=error"
            connection.writer.write(b"GET /probe?target=%s HTTP/1.1\r\nHost: x\r\n\r\n" % name)
            await connection.reader.readuntil(b"\r\n\r\n")
            if time.monotonic() > ends_s:
                return

    await crowd(target, 10, act)


async def forbidden_reloads(target: Target) -> None:
    async def act(connection: Connection) -> None:
        for start in (b"GET", b"HEAD", b"DELETE"):
            connection.writer.write(start + b" /-/reload HTTP/1.1\r\nHost: x\r\n\r\n")
        connection.writer.write(
            b"POST /-/reload HTTP/1.1\r\nHost: x\r\nOrigin: https://evil.example\r\n\r\n"
        )

    await crowd(target, 20, act)


async def garbage(target: Target) -> None:
    async def act(connection: Connection) -> None:
        connection.writer.write(os.urandom(5000))

    await crowd(target, 100, act)
    await crowd(target, 50, act, encrypted=False)


async def reset_after_the_request(target: Target) -> None:
    async def act(connection: Connection) -> None:
        connection.writer.write(SCRAPE)
        raw: socket.socket = connection.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise ConnectionResetError

    await crowd(target, MANY, act)


async def http_2_without_negotiation(target: Target) -> None:
    async def act(connection: Connection) -> None:
        settings = b"\0\0\x06\x04\0\0\0\0\0" + b"\0\x04\0\0\0\0"  # a window of 0 bytes
        connection.writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings)

    await crowd(target, MANY, act)


async def unfinished_bodies(target: Target) -> None:
    async def act(connection: Connection) -> None:
        connection.writer.write(
            b"POST /-/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + bytes(12)
        )

    await crowd(target, 200, act)


async def megabytes_of_chunks(target: Target) -> None:
    async def act(connection: Connection) -> None:
        connection.writer.write(
            b"PUT /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for _ in range(40):
            connection.writer.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")
            await connection.writer.drain()

    await crowd(target, 50, act)


async def chunks_of_one_byte(target: Target) -> None:
    ends_s = time.monotonic() + LASTS_S

    async def act(connection: Connection) -> None:
        connection.writer.write(
            b"PUT /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        while time.monotonic() < ends_s:
            connection.writer.write(b"1\r\nx\r\n" * 1000)
            await connection.writer.drain()

    await crowd(target, 2, act)


async def failed_websocket_handshakes(target: Target) -> None:
    async def act(connection: Connection) -> None:
        connection.writer.write(
            b"GET /api/v1/stream HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Version: 1\r\n\r\n"
        )

    await crowd(target, 50, act)


async def streams_never_read(target: Target) -> None:
    async def act(connection: Connection) -> None:
        connection.reader._transport.pause_reading()  # type: ignore[attr-defined]
        connection.writer.write(b"GET /api/v1/stream HTTP/1.1\r\nHost: x\r\n\r\n")

    await crowd(target, 20, act)


async def wrong_passwords(target: Target) -> None:
    async def act(connection: Connection) -> None:
        for number in range(20):
            credentials = base64.b64encode(b"prometheus:%d" % number)
            connection.writer.write(
                b"GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Basic %s\r\n\r\n" % credentials
            )

    await crowd(target, 50, act)


async def thousands_of_headers(target: Target) -> None:
    head = b"".join(b"h%d:1\r\n" % number for number in range(1700))

    async def act(connection: Connection) -> None:
        connection.writer.write(b"GET /x HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n")

    for _ in range(3):
        await crowd(target, 200, act)


ATTACKS = (
    silent,
    half_sent,
    unfinished_handshakes,
    one_byte_at_a_time,
    two_megabytes_of_headers,
    pipelined_and_never_read,
    flood_of_probes,
    forbidden_reloads,
    garbage,
    reset_after_the_request,
    http_2_without_negotiation,
    unfinished_bodies,
    megabytes_of_chunks,
    chunks_of_one_byte,
    failed_websocket_handshakes,
    streams_never_read,
    wrong_passwords,
    thousands_of_headers,
)
QUICK = {half_sent, garbage, streams_never_read, wrong_passwords}  # in every `make test`


@pytest.fixture(scope="module", params=["plain", "users over TLS"])
def target(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Target]:
    if request.param == "plain":
        with running_demo() as exporter:
            yield Target(exporter, None)
        return
    folder: Path = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    write_certificate(authority, folder, "127.0.0.1")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with serving(folder, TLS + USERS) as exporter:
        yield Target(exporter, context, ("alice", PASSWORD))


def polls(text: str) -> float:
    found = re.search(r'^bms_polls_total{battery="camper"} (.*)$', text, re.MULTILINE)
    assert found
    return float(found[1])


@pytest.mark.parametrize(
    "attack",
    [
        pytest.param(one, id=one.__name__, marks=[] if one in QUICK else pytest.mark.slow)
        for one in ATTACKS
    ],
)
async def test_every_scrape_during_an_attack_is_answered(
    target: Target, attack: Callable[[Target], Coroutine[object, object, None]]
) -> None:
    began_s = time.monotonic()
    before = polls(await target.scrape())
    quiet = target.descriptors()
    attacking = asyncio.create_task(attack(target))
    answers = []

    while not attacking.done():
        answers.append(await target.scrape())
        await asyncio.sleep(0.1)

    await attacking
    await wait_until(lambda: target.descriptors() <= quiet)
    assert answers
    for answer in answers:
        assert remaining_ah(answer).keys() >= {"camper", "cold"}
    assert polls(answers[-1]) - before <= 1 + (time.monotonic() - began_s) / 10.0
    assert "bms_exporter_config_last_reload_successful 1.0" in answers[-1]


async def test_memory_and_threads_are_bounded_after_all_attacks(target: Target) -> None:
    answer = await target.scrape()

    assert 'bms_poll_failures_total{battery="camper",reason="not_found"} 0.0' in answer
    assert target.exporter.status("VmRSS") < IDLE_KB + 40_000
    # The main thread, that of the log, and asyncio's own for passwords and configurations. It may
    # start one more while the last one has its result but is not idle yet, up to this limit.
    executor = min(32, (os.cpu_count() or 1) + 4)
    assert target.exporter.status("Threads") <= 2 + executor


@pytest.mark.parametrize(
    "attack",
    [
        streams_never_read,
        pytest.param(unfinished_bodies, marks=pytest.mark.slow),
        pytest.param(silent, marks=pytest.mark.slow),
    ],
)
async def test_sigterm_does_not_wait_for_attackers(
    attack: Callable[[Target], Coroutine[object, object, None]],
) -> None:
    with running_demo() as exporter:
        target = Target(exporter, None)
        await target.scrape()
        attacking = asyncio.create_task(attack(target))
        await asyncio.sleep(0.6 * LASTS_S)
        began_s = time.monotonic()

        status, log = await asyncio.to_thread(exporter.stop)

        stopped_s = time.monotonic() - began_s
        await attacking
    assert status == 0
    assert stopped_s < 15.0  # 4 s, if the mode of settings is left, and more on a busy machine
    assert "Traceback" not in log


def test_flood_of_sighup_loses_no_sigterm() -> None:
    with running_demo() as exporter:
        flood = subprocess.Popen(
            ["/bin/bash", "-c", f"while kill -HUP {exporter.process.pid} 2>/dev/null; do :; done"],
            stderr=subprocess.DEVNULL,
        )
        try:
            time.sleep(1.0)
            began_s = time.monotonic()
            status, log = exporter.stop()
            stopped_s = time.monotonic() - began_s
        finally:
            flood.kill()
            flood.wait()
    assert status == 0
    assert stopped_s < 15.0
    assert "Traceback" not in log


async def test_plain_request_to_a_tls_port_is_not_logged(tmp_path: Path) -> None:
    write_certificate(trustme.CA(), tmp_path, "127.0.0.1")
    with serving(tmp_path, TLS) as exporter:
        target = Target(exporter, None)
        connection = await target.open()
        connection.writer.write(SCRAPE)
        with suppress(ConnectionError):
            await connection.reader.read()
        connection.writer.transport.abort()

        status, log = exporter.stop()

    assert status == 0
    assert "level=warning" not in log
    assert "level=error" not in log


async def test_streams_leave_connections_for_scrapes_when_few_descriptors_are_allowed() -> None:
    with running_demo(prefix=["bash", "-c", 'ulimit -n 110 && exec "$@"', "-"]) as exporter:
        target = Target(exporter, None)
        stream = b"GET /api/v1/stream HTTP/1.1\r\nHost: x\r\n\r\n"
        clients = []
        for number in range(60):
            source = (f"127.0.0.{2 + number % 5}", 0)
            writer = (await asyncio.open_connection("127.0.0.1", exporter.port, local_addr=source))[
                1
            ]
            writer.write(stream)
            clients.append(writer)
        await asyncio.sleep(0.5)

        text = await target.scrape()

        for client in clients:
            client.transport.abort()
    assert remaining_ah(text).keys() >= {"camper", "cold"}


@pytest.mark.slow
async def test_thousands_of_tls_clients_use_less_memory_than_the_unit_allows(
    tmp_path: Path,
) -> None:
    authority = trustme.CA()
    write_certificate(authority, tmp_path, "127.0.0.1")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, hard), hard))
    try:
        with serving(tmp_path, TLS) as exporter:
            target = Target(exporter, context)

            async def act(connection: Connection) -> None:
                connection.writer.write(b"GET /metrics HTTP/1.1\r\nX: " + b"a" * 15_000)

            attacking = asyncio.create_task(crowd(target, 2000, act))
            answers = []
            while not attacking.done():
                # The clients' own handshakes take most of the processor.
                answers.append(await target.scrape(timeout_s=60.0))
                await asyncio.sleep(0.5)
            peak = exporter.status("VmHWM")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert answers
    assert peak < 120_000


async def test_clients_that_use_up_the_descriptors_leave_some_for_the_batteries() -> None:
    with running_demo(prefix=["bash", "-c", 'ulimit -n 128 && exec "$@"', "-"]) as exporter:
        target = Target(exporter, None)
        clients = [await target.open() for _ in range(100)]
        await asyncio.sleep(0.3)

        taken = target.descriptors()
        waited = await target.scrape()  # replaces a silent connection
        for client in clients:
            client.writer.transport.abort()
        await wait_until(lambda: target.descriptors() < 20)
        answer = await target.scrape()
        _, log = exporter.stop()

    assert 50 < taken <= 128 - 50
    for text in (waited, answer):
        assert set(remaining_ah(text)) >= {"camper", "cold"}
    assert "too many connections" in log
    _, _, trace = log.partition("Traceback")
    assert trace == "", trace[:4000]


@pytest.mark.slow
def test_more_than_a_thousand_concurrent_connections_are_all_answered() -> None:
    limits_here()
    many = min(1200, int(Path("/proc/sys/net/core/somaxconn").read_text()))
    with running_demo() as exporter, ExitStack() as stack:
        exporter.process.send_signal(signal.SIGSTOP)
        address = "127.0.0.1", exporter.port
        clients = [
            stack.enter_context(socket.create_connection(address, timeout=10.0))
            for _ in range(many)
        ]
        for client in clients:
            client.sendall(SCRAPE)
        exporter.process.send_signal(signal.SIGCONT)

        statuses = {client.recv(15) for client in clients}

    assert statuses == {b"HTTP/1.1 200 OK"}
