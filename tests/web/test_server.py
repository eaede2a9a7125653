"""The HTTP server under hostile clients, over real sockets with short limits."""

import asyncio
import os
import resource
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import pytest
import trustme

from exporter.config.tls import CurrentTls
from exporter.errors import ConfigError
from exporter.web.handler import Handler
from exporter.web.limits import MIN_FDS, Limits, limits_here
from exporter.web.routing import App
from exporter.web.server import Server
from exporter.web.sockets import listen
from tests.support.waiting import wait_until

pytestmark = pytest.mark.looptime(False)  # noqa: FBT003 - its interface

# Times for clients that are quick, but late on a busy machine; and for those that must be closed.
PATIENT: Final = Limits(
    connections=50,
    grace_s=0.05,
    handshake_s=60.0,
    request_s=60.0,
    last_responses_s=1.0,
    last_reads_s=0.3,
)
SHORT: Final = replace(PATIENT, handshake_s=0.4, request_s=0.4)
BIG = b"x" * 20_000
HOST = b"Host: camper\r\n"


class Big(Handler):
    METHODS = ()

    async def respond(self) -> None:
        await self.send(200, BIG)


class Huge(Handler):
    async def respond(self) -> None:
        await self.send(200, BIG * 50, BIG)


class Endless(Handler):
    async def respond(self) -> None:
        while True:
            self.write(BIG)
            await self.deliver(self.flush())


class Slow(Handler):
    requests = 0

    def initialize(self, seconds: float) -> None:
        self._seconds = seconds

    async def respond(self) -> None:
        Slow.requests += 1
        await asyncio.sleep(self._seconds)
        await self.send(200, "slow")


class Broken(Handler):
    METHODS = ()

    def initialize(self, *, started: bool) -> None:
        self._started = started

    async def respond(self) -> None:
        if self._started:
            self.set_header("Content-Length", "100")
            self.write("begun")
            await self.flush()
        raise ZeroDivisionError


class TooShort(Handler):
    async def respond(self) -> None:
        self.set_header("Content-Length", "100")
        await self.send(200, "short")


APP_ROUTES: dict[str, Any] = {
    "/big": (Big, {}),
    "/huge": (Huge, {}),
    "/endless": (Endless, {}),
    "/slow": (Slow, {"seconds": 0.6}),
    "/too-slow": (Slow, {"seconds": 30.0}),
    "/broken": (Broken, {"started": False}),
    "/broken-later": (Broken, {"started": True}),
    "/too-short": (TooShort, {}),
}


@dataclass(slots=True)
class Serving:
    server: Server
    address: Any
    client_tls: ssl.SSLContext | None = None
    clients: list[socket.socket] = field(default_factory=list)

    def connect(self) -> socket.socket:
        """Return a connected client, whose handshake is still to be done with TLS."""
        family = socket.AF_UNIX if isinstance(self.address, str) else socket.AF_INET
        client = socket.socket(family)
        self.clients.append(client)
        client.connect(self.address)
        client.settimeout(5.0)
        return client

    async def open(self) -> socket.socket:
        """Return a connected client, with TLS where the server has it."""
        client = self.connect()
        if self.client_tls is None:
            return client
        wrap = self.client_tls.wrap_socket
        encrypted = await asyncio.to_thread(wrap, client, server_hostname="127.0.0.1")
        self.clients.append(encrypted)
        return encrypted

    async def ask(self, data: bytes) -> bytes:
        """Return everything that the server sends until it closes the connection."""
        client = await self.open()
        with suppress(OSError):  # it may close the connection earlier
            await asyncio.to_thread(client.sendall, data)
        return await read_all(client)

    async def get(self, path: str = "/big") -> bytes:
        return await self.ask(
            b"GET %s HTTP/1.1\r\n%sConnection: close\r\n\r\n" % (path.encode(), HOST)
        )


def receive_all(client: socket.socket) -> bytes:
    received = b""
    while True:
        try:
            chunk = client.recv(65536)
        except (ConnectionResetError, ssl.SSLError):
            return received
        if not chunk:
            return received
        received += chunk


async def read_all(client: socket.socket) -> bytes:
    return await asyncio.to_thread(receive_all, client)


async def closed_after(client: socket.socket) -> float:
    """Return the seconds until the server closes a connection."""
    began_s = time.monotonic()
    await read_all(client)
    return time.monotonic() - began_s


def descriptors() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


@asynccontextmanager
async def serving(
    limits: Limits = PATIENT,
    *,
    current_tls: CurrentTls = lambda: None,
    client_tls: ssl.SSLContext | None = None,
    listening: socket.socket | None = None,
) -> AsyncIterator[Serving]:
    sock = listening or listen("127.0.0.1:0")
    server = Server(App(APP_ROUTES), [sock], current_tls, limits)
    running = Serving(server, sock.getsockname(), client_tls)
    server.begin()
    try:
        yield running
    finally:
        for client in running.clients:
            client.close()
        await server.finish()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(params=["plain", "TLS"])
async def served(request: pytest.FixtureRequest, authority: trustme.CA) -> AsyncIterator[Serving]:
    """Serve with patient limits, or with those of the test's class."""
    limits = getattr(request.cls, "LIMITS", PATIENT)
    if request.param == "plain":
        async with serving(limits) as running:
            yield running
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with serving(
        limits, current_tls=lambda: (context, lambda _connection: True), client_tls=trusting
    ) as running:
        yield running


def status(answer: bytes) -> bytes:
    return answer.partition(b"\r\n")[0].partition(b" ")[2][:3]


class TestSlowClients:
    LIMITS: Final = SHORT

    async def test_silent_connection_is_closed(self, served: Serving) -> None:
        assert await closed_after(served.connect()) < 1.5

    @pytest.mark.parametrize("start", [b"G", b"GET /big HTTP/1.1\r\nHost: c"])
    async def test_half_sent_head_is_closed(self, served: Serving, start: bytes) -> None:
        client = await served.open()
        client.sendall(start)

        assert await closed_after(client) < 1.5

    async def test_head_that_trickles_in_is_closed_on_a_later_request_too(
        self, served: Serving
    ) -> None:
        client = await served.open()
        client.sendall(b"GET /big HTTP/1.1\r\n%s\r\n" % HOST)
        await asyncio.sleep(0.1)
        began_s = time.monotonic()
        with pytest.raises((OSError, ssl.SSLError)):
            for byte in b"GET /big HTTP/1.1\r\n" * 10:
                client.sendall(bytes([byte]))
                await asyncio.sleep(0.05)

        assert time.monotonic() - began_s < 2.0

    async def test_unfinished_handshake_is_closed(self, authority: trustme.CA) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        async with serving(
            SHORT, current_tls=lambda: (context, lambda _connection: True)
        ) as running:
            client = running.connect()
            client.sendall(b"\x16\x03\x01\x02\x00\x01")

            assert await closed_after(client) < 1.5

    async def test_client_that_never_answers_close_notify_is_closed(
        self, authority: trustme.CA
    ) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
        async with serving(
            current_tls=lambda: (context, lambda _connection: True), client_tls=trusting
        ) as running:
            await running.open()
            began_s = time.monotonic()

            await running.server.finish()

            assert time.monotonic() - began_s < 0.5

    @pytest.mark.parametrize(
        "announced",
        [
            b"Content-Length: 1000\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"Content-Length: %d\r\n" % (1 << 60),
        ],
        ids=["missing", "chunked", "huge"],
    )
    async def test_connection_whose_body_never_ends_is_closed(
        self, served: Serving, announced: bytes
    ) -> None:
        before = descriptors()
        clients = [await served.open() for _ in range(10)]
        for client in clients:
            client.sendall(b"POST /big HTTP/1.1\r\n%s%s\r\n1" % (HOST, announced))

        for client in clients:
            assert await closed_after(client) < 2.0
            client.close()
        await wait_until(lambda: descriptors() <= before)


class TestBodiesUnderWay:
    @pytest.mark.parametrize(
        ("path", "expected"), [("/big", b"200"), ("/none", b"404"), ("/broken", b"500")]
    )
    @pytest.mark.parametrize("size", [12, 1_000_000])
    async def test_client_in_the_middle_of_its_body_gets_the_response(
        self, served: Serving, path: str, expected: bytes, size: int
    ) -> None:
        client = await served.open()
        head = b"POST %s HTTP/1.1\r\n%sContent-Length: %d\r\nConnection: close\r\n\r\n"
        client.sendall(head % (path.encode(), HOST, size))
        sending = asyncio.to_thread(client.sendall, bytes(size))
        await asyncio.sleep(0.05)
        await sending

        assert status(await read_all(client)) == expected


class TestBodies:
    async def test_chunked_body_is_read_to_its_end(self, served: Serving) -> None:
        answer = await served.ask(
            b"POST /big HTTP/1.1\r\n%sTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
            b"5\r\nhello\r\n0\r\n\r\n" % HOST
        )

        assert status(answer) == b"200"
        assert answer.endswith(BIG)

    async def test_client_that_waits_for_100_continue_is_answered(self, served: Serving) -> None:
        client = await served.open()
        client.sendall(
            b"POST /big HTTP/1.1\r\n%sExpect: 100-continue\r\nContent-Length: 2\r\n"
            b"Connection: close\r\n\r\n" % HOST
        )
        assert (await asyncio.to_thread(client.recv, 100)).startswith(b"HTTP/1.1 100")
        client.sendall(b"ab")

        assert status(await read_all(client)) == b"200"


class TestMalformed:
    @pytest.mark.parametrize(
        "request_",
        [
            pytest.param(
                b"POST /big HTTP/1.1\r\n%sContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
                b"0\r\n\r\nGET /big HTTP/1.1\r\n%s\r\n" % (HOST, HOST),
                id="length and chunked",
            ),
            pytest.param(
                b"POST /big HTTP/1.1\r\n%sContent-Length: 4\r\nContent-Length: 5\r\n\r\n" % HOST,
                id="two lengths",
            ),
            pytest.param(b"POST /big HTTP/1.1\r\n%sContent-Length: +4\r\n\r\n" % HOST, id="plus"),
            pytest.param(
                b"POST /big HTTP/1.1\r\n%sTransfer-Encoding: xchunked\r\n\r\n" % HOST, id="xchunked"
            ),
            pytest.param(b"GET /big HTTP/1.1\r\n%sX : y\r\n\r\n" % HOST, id="space before colon"),
            pytest.param(b"GET /big HTTP/1.1\r\n%sX: \0\r\n\r\n" % HOST, id="NUL"),
            pytest.param(b"GET /big HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", id="two hosts"),
            pytest.param(b"GET /big HTTP/1.1\r\n\r\n", id="no host"),
            pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="HTTP/2"),
            pytest.param(b"\x80\x00\xff\r\n\r\n", id="garbage"),
        ],
    )
    async def test_malformed_request_gets_400_once_and_the_connection_is_closed(
        self, served: Serving, request_: bytes
    ) -> None:
        answer = await served.ask(request_)

        assert answer.count(b"HTTP/1.1 ") == 1
        assert status(answer) == b"400"

    async def test_head_above_16_kb_is_closed(self, served: Serving) -> None:
        assert await served.ask(b"GET /big HTTP/1.1\r\nX: %s" % (b"a" * 100_000)) == b""

    async def test_head_of_thousands_of_lines_is_closed(self, served: Serving) -> None:
        lines = b"".join(b"h%d:1\r\n" % number for number in range(1700))

        assert await served.ask(b"GET /big HTTP/1.1\r\n%s%s\r\n" % (HOST, lines)) == b""

    async def test_head_of_a_browser_is_answered(self, served: Serving) -> None:
        lines = b"".join(b"h%d: %s\r\n" % (number, b"x" * 100) for number in range(90))
        head = b"GET /big HTTP/1.1\r\nConnection: close\r\n"

        assert status(await served.ask(b"%s%s%s\r\n" % (head, HOST, lines))) == b"200"

    @pytest.mark.parametrize(
        ("request_", "expected"),
        [
            (b"GET http://camper:12200/big HTTP/1.1\r\n", b"200"),
            (b"CONNECT camper:443 HTTP/1.1\r\n", b"405"),
            (b"BREW /big HTTP/1.1\r\n", b"405"),
            (b"GET /big HTTP/1.1\r\nUpgrade: h2c\r\nConnection: Upgrade, close\r\n", b"200"),
            (b"GET /big HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n", b"200"),
        ],
    )
    async def test_other_protocols_get_an_ordinary_response(
        self, served: Serving, request_: bytes, expected: bytes
    ) -> None:
        client = await served.open()
        client.sendall(request_ + HOST + b"\r\n")

        assert status(await asyncio.to_thread(client.recv, 100)) == expected


class TestUnread:
    @pytest.fixture(autouse=True)
    def short_patience(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("exporter.web.handler.UNREAD_S", 0.4)

    async def test_long_response_is_complete(self, served: Serving) -> None:
        head, _, body = (await served.get("/huge")).partition(b"\r\n\r\n")

        assert b"Content-Length: 1020000\r\n" in head + b"\r\n"
        assert body == BIG * 51
        asked = b"HEAD /huge HTTP/1.1\r\n%sConnection: close\r\n\r\n" % HOST
        assert b"Content-Length: 1020000\r\n" in await served.ask(asked)

    @pytest.mark.parametrize(
        "path", [b"/endless", b"/big", b"/huge"], ids=["stream", "pipeline", "long response"]
    )
    async def test_client_that_does_not_read_is_closed(self, served: Serving, path: bytes) -> None:
        before = descriptors()
        client = await served.open()
        with pytest.raises((OSError, ssl.SSLError)):
            for _ in range(10_000):
                await asyncio.sleep(0)
                client.settimeout(5.0)
                await asyncio.to_thread(client.sendall, b"GET %s HTTP/1.1\r\n%s\r\n" % (path, HOST))

        client.close()
        await wait_until(lambda: descriptors() <= before)

    async def test_client_that_resets_leaves_nothing(self, served: Serving) -> None:
        before = descriptors()
        for _ in range(20):
            client = await served.open()
            client.sendall(b"GET /endless HTTP/1.1\r\n%s\r\n" % HOST)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()

        await wait_until(lambda: descriptors() <= before and len(asyncio.all_tasks()) <= 2)

    async def test_pipelined_requests_of_a_client_that_left_are_not_answered(
        self, served: Serving
    ) -> None:
        before = Slow.requests
        for _ in range(5):
            client = await served.open()
            client.sendall(b"GET /slow HTTP/1.1\r\n%s\r\n" % HOST * 500)
            await asyncio.sleep(0.1)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
        await asyncio.sleep(1.0)

        assert Slow.requests - before <= 2 * 5  # of 2,500


class TestBugs:
    @pytest.mark.parametrize(
        ("path", "start"),
        [("/broken", b"HTTP/1.1 500"), ("/broken-later", b"HTTP/1.1 200"), ("/too-short", b"")],
    )
    async def test_handler_that_fails_ends_its_own_connection_only(
        self, served: Serving, path: str, start: bytes
    ) -> None:
        answer = await served.get(path)

        assert answer.startswith(start)
        assert status(await served.get()) == b"200"


class TestHalfClosed:
    async def test_client_that_stops_sending_gets_its_response(self) -> None:
        async with serving() as running:
            client = running.connect()
            client.sendall(b"GET /big HTTP/1.0\r\n\r\n")
            client.shutdown(socket.SHUT_WR)

            assert (await read_all(client)).endswith(BIG)


class TestSilentClients:
    # No time-out ends the silent ones: a scrape is answered because they are closed.
    async def test_silent_clients_are_closed_for_a_scrape(
        self, served: Serving, caplog: pytest.LogCaptureFixture
    ) -> None:
        silent = [served.connect() for _ in range(3 * PATIENT.connections)]
        began_s = time.monotonic()

        answer = await served.get()

        assert status(answer) == b"200"
        assert time.monotonic() - began_s < PATIENT.request_s / 2
        assert caplog.text.count("too many connections") == 1
        assert len(silent) == 3 * PATIENT.connections


class TestFullTable:
    async def test_clients_with_requests_are_not_closed_for_others(self) -> None:
        async with serving() as running:
            clients = [running.connect() for _ in range(2 * PATIENT.connections)]
            for client in clients:
                client.sendall(b"GET /slow HTTP/1.0\r\n\r\n")

            answers = [await read_all(client) for client in clients]

        assert {status(answer) for answer in answers} == {b"200"}

    async def test_unread_streams_are_closed_for_a_scrape(self) -> None:
        async with serving() as running:
            for _ in range(PATIENT.connections):
                running.connect().sendall(b"GET /endless HTTP/1.1\r\n%s\r\n" % HOST)
            await asyncio.sleep(0.5)

            answer = await running.get()
            assert status(answer) == b"200"

    def test_too_few_descriptors_are_refused_with_the_reason(
        self, limited: Callable[[int], None]
    ) -> None:
        limited(MIN_FDS - 1)

        with pytest.raises(ConfigError, match=r"only 99 files, at least 100 .* `ulimit -n`"):
            limits_here()

    async def test_descriptors_are_left_for_bluetooth(self, limited: Callable[[int], None]) -> None:
        open_before = descriptors()
        limited(MIN_FDS + open_before)
        async with serving(limits_here()) as running:
            clients = [running.connect() for _ in range(30)]
            await asyncio.sleep(0.1)
            others = [os.open("/dev/null", os.O_RDONLY) for _ in range(10)]

        for number in others:
            os.close(number)
        assert len(clients) == 30

    @pytest.fixture
    def limited(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
        """Return a function that limits the descriptors of this process, until the test ends."""
        before = resource.getrlimit(resource.RLIMIT_NOFILE)

        def limit(number: int) -> None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (number, before[1]))
            monkeypatch.setattr(resource, "getrlimit", lambda _kind: (number, number))

        yield limit
        monkeypatch.undo()
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


class TestStop:
    async def test_stop_finishes_a_scrape_under_way(self, served: Serving) -> None:
        before = Slow.requests
        scraping = asyncio.create_task(served.get("/slow"))
        await wait_until(lambda: Slow.requests > before)
        began_s = time.monotonic()

        await served.server.finish()

        assert status(await scraping) == b"200"
        assert time.monotonic() - began_s < 0.6 + 0.3

    async def test_stop_takes_no_time_when_nothing_is_under_way(self, served: Serving) -> None:
        for start in (b"", b"G", b"POST /big HTTP/1.1\r\n%sContent-Length: 9\r\n\r\n1" % HOST):
            client = await served.open()
            client.sendall(start)
        keeping = await served.open()
        keeping.sendall(b"GET /big HTTP/1.1\r\n%s\r\n" % HOST)
        await asyncio.to_thread(keeping.recv, 100)
        began_s = time.monotonic()

        await served.server.finish()

        assert time.monotonic() - began_s < 0.3

    async def test_stop_waits_no_longer_than_the_limits(self, served: Serving) -> None:
        for path in (b"/too-slow", b"/endless", b"/big"):
            client = await served.open()
            client.sendall(b"GET %s HTTP/1.1\r\n%s\r\n" % (path, HOST) * 100)
        await asyncio.sleep(0.2)
        began_s = time.monotonic()

        await served.server.finish()

        elapsed_s = time.monotonic() - began_s
        assert elapsed_s < PATIENT.last_responses_s + PATIENT.last_reads_s + 1.0

    async def test_no_connection_is_accepted_after_the_stop(self, served: Serving) -> None:
        await served.server.finish()

        with pytest.raises(ConnectionRefusedError):
            served.connect()

    async def test_stop_serves_no_further_request_of_an_open_connection(self) -> None:
        async with serving() as running:
            client = running.connect()
            client.sendall(b"GET /slow HTTP/1.1\r\n%s\r\n" % HOST * 2)
            await asyncio.sleep(0.1)

            await running.server.finish()

            assert (await read_all(client)).count(b"HTTP/1.1 200") == 1


class TestSockets:
    async def test_unix_socket_is_served(self, tmp_path: Path) -> None:
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(tmp_path / "socket"))
        async with serving(listening=listening) as running:
            assert status(await running.get()) == b"200"

    async def test_20_kb_over_tls_take_no_delayed_acknowledgement(self, served: Serving) -> None:
        client = await served.open()

        def ask() -> float:
            began_s = time.monotonic()
            client.sendall(b"GET /big HTTP/1.1\r\n%s\r\n" % HOST)
            received = 0
            while received < len(BIG):
                received += len(client.recv(65536))
            return time.monotonic() - began_s

        times = [await asyncio.to_thread(ask) for _ in range(20)]

        assert sorted(times)[10] < 0.02  # Nagle's algorithm makes it 0.04

    async def test_newest_certificate_is_used_for_the_next_connection(
        self, authority: trustme.CA
    ) -> None:
        contexts = []
        for name in ("127.0.0.1", "127.0.0.2"):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            authority.issue_cert(name).configure_cert(context)
            contexts.append(context)
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
        newest: Callable[[], ssl.SSLContext] = lambda: contexts[0]  # noqa: E731
        async with serving(
            current_tls=lambda: (newest(), lambda _connection: True), client_tls=trusting
        ) as running:
            assert status(await running.get()) == b"200"
            del contexts[0]
            with pytest.raises(ssl.SSLCertVerificationError):
                await running.get()

    async def test_connection_with_an_older_certificate_ends_with_its_next_request(
        self, authority: trustme.CA
    ) -> None:
        contexts = []
        for _ in range(2):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            authority.issue_cert("127.0.0.1").configure_cert(context)
            contexts.append(context)
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
        async with serving(
            current_tls=lambda: (contexts[0], lambda _connection: True), client_tls=trusting
        ) as running:
            client = await running.open()
            client.sendall(b"GET /slow HTTP/1.1\r\n%s\r\n" % HOST * 3)
            await asyncio.sleep(0.2)
            del contexts[0]

            assert (await read_all(client)).count(b"HTTP/1.1 200") == 1

    async def test_refused_client_certificate_is_closed_before_any_request(
        self, authority: trustme.CA
    ) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
        async with serving(
            current_tls=lambda: (context, lambda _connection: False), client_tls=trusting
        ) as running:
            assert await running.get() == b""
