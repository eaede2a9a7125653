"""Base classes of the request handlers: access control, methods, complete responses."""

import asyncio
import json
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast
from urllib.parse import parse_qs, unquote

from tornado.httputil import HTTPHeaders, HTTPServerRequest
from tornado.iostream import StreamClosedError
from tornado.web import RequestHandler, stream_request_body

from exporter.web.auth import Access, Login, Verdict
from exporter.web.limits import client_key
from exporter.web.server import UNREAD_S

if TYPE_CHECKING:
    from tornado.http1connection import HTTP1Connection

API: Final = "/api/"
JSON: Final = "application/json"
METHOD_NOT_ALLOWED: Final = 405
PIECE_BYTES: Final = 32 * 1024
TEXT: Final = "text/plain; charset=utf-8"


def requested_path(request: HTTPServerRequest) -> str:
    """Return the path of a request; proxies send it as http://camper:12200/metrics."""
    target = request.path
    if target.startswith(("http://", "https://")):
        _, _, rest = target.partition("://")
        target = "/" + rest.partition("/")[2]
    return unquote(target)


@stream_request_body  # a body is dropped as it arrives, and the response is sent behind it
class Handler(RequestHandler):
    """Checks rate limit, password and method; subclasses implement `respond`."""

    METHODS: ClassVar[Sequence[str]] = ("GET", "HEAD")
    """The allowed methods; empty: all of them."""

    has_left = False  # the client closed its connection
    _login: Login | None = None

    @property
    def client(self) -> str:
        """The key of this client for limits."""
        return client_key(self.request.remote_ip or "")

    @property
    def user(self) -> str | None:
        """The name of the user who sent the request; None: no users are configured."""
        return (self._login.name or None) if self._login else None

    def set_default_headers(self) -> None:
        """Set the headers of every response, those of errors included."""
        self.clear_header("Server")
        self.set_header("Content-Type", TEXT)
        for name, value in self._access.headers if self._access else ():
            self.set_header(name, value)

    def compute_etag(self) -> None:
        """Send no ETag: a scrape must never be answered with 304."""

    def data_received(self, chunk: bytes) -> None:
        """Drop a piece of the request's body."""

    def on_connection_close(self) -> None:
        """Note that the client left."""
        super().on_connection_close()
        self.has_left = True

    @property
    def is_still_allowed(self) -> bool:
        """Whether the user of a long response is still configured, with that password."""
        return self._access is None or self._login is None or self._access.allows(self._login)

    @property
    def _access(self) -> Access | None:
        return cast("Access | None", self.settings["access"])

    async def _answer(self) -> None:
        with suppress(StreamClosedError):  # the client left
            await self._check_and_respond()

    get = head = post = put = delete = patch = options = _answer

    async def _check_and_respond(self) -> None:
        if self._access is not None and not await self._is_admitted(self._access):
            return
        if self.METHODS and self.request.method not in self.METHODS:
            self.set_header("Allow", ", ".join(self.METHODS))
            await self.fail(405, f"Use {self.METHODS[0]} for {requested_path(self.request)}.")
            return
        await self.respond()

    async def _is_admitted(self, access: Access) -> bool:
        """Return whether the request is allowed; if not, send the error."""
        if not access.take():
            await self.fail(429, "Too many requests: see rate_limit.")
            return False
        authorization = self.request.headers.get("Authorization", "")
        verdict, self._login = await access.check(authorization, self.client)
        if verdict is Verdict.ALLOWED:
            return True
        if verdict is Verdict.BUSY:
            await self.fail(429, "Too many passwords at once.")
        else:
            self.set_header("WWW-Authenticate", 'Basic realm="bms-exporter"')
            await self.fail(401, "Unauthorized: a user name and password are needed.")
        return False

    async def respond(self) -> None:
        """Send the response. Raises StreamClosedError when the client leaves."""
        raise NotImplementedError

    async def send(self, status: int, *body: str | bytes) -> None:
        """Send a complete response: bytes as they are, texts as lines.

        A long body is sent in pieces, so that a client that does not read costs only one in memory.
        """
        self.set_status(status)
        parts = []
        for part in body:
            if isinstance(part, str):
                self.set_header("Content-Type", TEXT)
                part = (part.rstrip("\n") + "\n").encode()  # noqa: PLW2901
            parts.append(part)
        if sum(map(len, parts)) <= PIECE_BYTES:
            await self.deliver(self.finish(b"".join(parts) or None))
            return
        self.set_header("Content-Length", str(sum(map(len, parts))))
        for part in parts if self.request.method != "HEAD" else ():
            for start in range(0, len(part), PIECE_BYTES):
                self.write(part[start : start + PIECE_BYTES])
                await self.deliver(self.flush())
        await self.deliver(self.finish())

    async def deliver(self, sent: Awaitable[None]) -> None:
        """Wait until the kernel has taken everything; disconnect a client that does not read.

        Raises:
            StreamClosedError: The connection is closed.
        """
        try:
            async with asyncio.timeout(UNREAD_S):
                await sent
        except TimeoutError:
            cast("HTTP1Connection", self.request.connection).close()
            raise StreamClosedError from None

    async def fail(self, status: int, message: str) -> None:
        """Send an error: as JSON below /api/, else as text."""
        await self.send(status, self._error(message))

    def write_error(self, status_code: int, **_kwargs: Any) -> None:
        """Send an error of Tornado, or 500 after a bug."""
        if status_code == METHOD_NOT_ALLOWED and self.METHODS:  # one that Tornado does not know
            self.set_header("Allow", ", ".join(self.METHODS))
        self.finish(self._error(f"{status_code} {self._reason}"))

    def _error(self, message: str) -> bytes:
        if not requested_path(self.request).startswith(API):
            self.set_header("Content-Type", TEXT)
            return f"{message}\n".encode()
        self.set_header("Content-Type", JSON)
        return json.dumps({"error": message}, ensure_ascii=False).encode() + b"\n"

    async def battery_name(self, parameter: str, batteries: Mapping[str, object]) -> str | None:
        """Return the configured battery that the query names; None: an error was sent instead."""
        names = ", ".join(batteries)
        wanted = parse_qs(self.request.query).get(parameter, [])
        if len(wanted) != 1:
            await self.fail(
                400,
                f"Name one battery: {requested_path(self.request)}?{parameter}=NAME "
                f"with one of {names}.",
            )
        elif wanted[0] not in batteries:
            await self.fail(404, f"No battery of that name is configured, only {names}.")
        else:
            return wanted[0]
        return None


class ChangeHandler(Handler):
    """Changes something: allows no GET, and no request of a foreign web page."""

    METHODS: ClassVar[Sequence[str]] = ("POST", "PUT")
    FROM_PAGE: ClassVar[bool] = True  # our own page may send it

    async def respond(self) -> None:
        """Refuse foreign pages, then change."""
        if is_foreign(self.request.headers, from_page=self.FROM_PAGE):
            await self.fail(403, "This request comes from another web page.")
        else:
            await self.change()

    async def change(self) -> None:
        """Change something and send the response."""
        raise NotImplementedError


def is_foreign(headers: HTTPHeaders, *, from_page: bool) -> bool:
    """Return whether a browser sent this request for a web page that must not send it.

    If our own page may not send it, no page may: with DNS rebinding any page can be same-origin.
    """
    origin = headers.get("Origin")
    site = headers.get("Sec-Fetch-Site", "none")
    if not from_page:
        return origin is not None or site != "none"
    if site not in ("none", "same-origin"):
        return True
    return origin is not None and origin.partition("://")[2] != headers.get("Host")
