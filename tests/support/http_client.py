"""An httpx client of the application without any network, on virtual time."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    RequestStartLine,
    ResponseStartLine,
)

from exporter.web.routing import App
from tests.support.api_schema import check_response

BASE_URL = "http://camper:12200"


@dataclass(slots=True)
class Context:
    """What Tornado knows about a connection."""

    remote_ip: str = "127.0.0.1"
    protocol: str = "http"


class FakeConnection(HTTPConnection):
    """A connection whose client reads everything at once, or nothing if `reads` is false."""

    def __init__(self, client: str = "127.0.0.1") -> None:
        self.context = Context(client)
        self.status = 0
        self.headers = HTTPHeaders()
        self.body = b""
        self.reads = True
        self.closed = False
        self.finished = asyncio.Event()
        self.wrote: Callable[[bytes], None] = lambda _chunk: None
        self._on_close: Callable[[], None] | None = None

    def set_close_callback(self, callback: Callable[[], None] | None) -> None:
        self._on_close = callback

    def write_headers(
        self,
        start_line: RequestStartLine | ResponseStartLine,
        headers: HTTPHeaders,
        chunk: bytes | None = None,
    ) -> "asyncio.Future[None]":
        assert isinstance(start_line, ResponseStartLine)
        self.status = start_line.code
        self.headers = headers
        return self.write(chunk or b"")

    def write(self, chunk: bytes) -> "asyncio.Future[None]":
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.reads:
            self.body += chunk
            self.wrote(chunk)
            written.set_result(None)
        return written

    def finish(self) -> None:
        self.finished.set()

    def close(self) -> None:
        self.closed = True
        self.finished.set()
        if self._on_close is not None:
            self._on_close()


def send_head(
    app: App,
    method: str,
    target: str,
    headers: HTTPHeaders,
    *,
    client: str = "127.0.0.1",
) -> tuple[FakeConnection, HTTPMessageDelegate, Any]:
    """Send the head of a request; return what Tornado waits for before it reads the body."""
    connection = FakeConnection(client)
    delegate = app.start_request(None, connection)
    ready = delegate.headers_received(RequestStartLine(method, target, "HTTP/1.1"), headers)
    return connection, delegate, ready


@dataclass(frozen=True, slots=True)
class AppTransport(httpx.AsyncBaseTransport):
    """Pass httpx's requests to the application as Tornado's server does.

    Every response of /api/v1 must match its OpenAPI description.
    """

    app: App
    client: str = "127.0.0.1"
    connections: list[FakeConnection] = field(default_factory=list)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        headers = HTTPHeaders()
        for name, value in request.headers.raw:
            headers.add(name.decode("latin-1"), value.decode("latin-1"))
        target = request.url.raw_path.decode("ascii")
        connection, delegate, ready = send_head(
            self.app, request.method, target, headers, client=self.client
        )
        if ready is not None:
            await ready
        assert isinstance(request.stream, httpx.AsyncByteStream)
        async for chunk in request.stream:
            delegate.data_received(chunk)
        delegate.finish()
        await connection.finished.wait()
        content_type = connection.headers.get("Content-Type", "")
        path = request.url.path
        check_response(request.method, path, connection.status, content_type, connection.body)
        return httpx.Response(
            connection.status,
            headers=list(connection.headers.get_all()),
            stream=httpx.ByteStream(b"" if request.method == "HEAD" else connection.body),
        )


def make_client(app: App, client: str = "127.0.0.1") -> httpx.AsyncClient:
    """Return a client of the application whose address is `client`."""
    return httpx.AsyncClient(transport=AppTransport(app, client), base_url=BASE_URL, timeout=60.0)
