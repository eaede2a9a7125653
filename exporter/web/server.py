"""The HTTP server: accepts connections, limits hostile clients, and stops gracefully."""

import asyncio
import errno
import fcntl
import logging
import socket
import ssl
import termios
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream, SSLIOStream, StreamClosedError

from exporter.config.tls import Admit, CurrentTls
from exporter.web.limits import Limits, client_key

if TYPE_CHECKING:
    from tornado.http1connection import HTTP1ServerConnection
    from tornado.httputil import HTTPConnection, HTTPMessageDelegate

log = logging.getLogger(__name__)

BACKLOG: Final = 4096  # connections that may wait in the kernel, whose own default limit this is
ACCEPTS_PER_TURN: Final = 32  # then accepted ones are served, so that a burst delays none for long
PAUSE_S: Final = 0.05  # between two checks whether a connection or a descriptor is free
UNREAD_S: Final = 10.0  # then a client that does not read, or is out of reach, is disconnected
MAX_HEAD_BYTES: Final = 16 * 1024  # of request line and headers
MAX_HEAD_LINES: Final = 100  # a browser sends 20; parsing 1,700 takes 20 ms
# Bodies of any size are read and dropped: a client that is still sending does not read a response.
MAX_BODY_BYTES: Final = 1 << 62
BUFFERS: Final = {"max_buffer_size": 64 * 1024, "read_chunk_size": 16 * 1024}
SEND_BUFFER_BYTES: Final = 64 * 1024  # in the kernel, which would let it grow to megabytes
LOG_AGAIN_S: Final = 60.0


class _Client(NamedTuple):
    key: str
    since_s: float
    context: ssl.SSLContext | None


class _Stream(IOStream):
    """Reads the head of a request in linear time, and refuses thousands of headers."""

    async def read_until_regex(self, _regex: bytes, max_bytes: int | None = None) -> bytes:
        """Return the head of the next request: Tornado calls this for nothing else.

        Tornado's own method matches the whole buffer again whenever bytes arrive.

        Raises:
            StreamClosedError: The connection ended, or the head is too long.
        """
        head = await self.read_until(b"\r\n\r\n", max_bytes)
        if head.count(b"\n") > MAX_HEAD_LINES:
            self.close()
            raise StreamClosedError
        return head


class _EncryptedStream(SSLIOStream, _Stream):
    pass


class Server(HTTPServer):
    """Tornado's server with a bound on connections, TLS that can change, and an orderly stop.

    When all connections are in use, each new one closes one that waits for a request: the oldest
    of the client with most of them. If none waits, it closes one whose client does not read its
    response. So silent clients never keep others out. If all the connections have requests that
    are being answered, new clients wait in the kernel.
    """

    def initialize(  # type: ignore[override] # Tornado's constructor
        self,
        app: Any,
        listening: Sequence[socket.socket],
        current_tls: CurrentTls,
        limits: Limits,
    ) -> None:
        """Serve a tornado.web.Application on sockets, which the server will close.

        `current_tls` is called for every connection and request.
        """
        super().initialize(
            app,
            idle_connection_timeout=limits.request_s,
            body_timeout=limits.request_s,
            max_header_size=MAX_HEAD_BYTES,
            max_body_size=MAX_BODY_BYTES,
        )
        self._current_tls = current_tls
        self._listening = list(listening)
        self._limits = limits
        self._clients: dict[IOStream, _Client] = {}  # the oldest first
        self._handshakes: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._log_full_at_s = float("-inf")

    def begin(self) -> None:
        """Start accepting connections."""
        for sock in self._listening:
            sock.settimeout(0)
            sock.listen(BACKLOG)
            self._accept_from(sock)

    async def finish(self) -> None:
        """Stop accepting connections, finish the responses under way, then close everything.

        This takes at most `last_responses_s` and `last_reads_s` together.
        """
        self._stopping = True
        while self._listening:
            sock = self._listening.pop()
            asyncio.get_running_loop().remove_reader(sock)
            sock.close()
        await self._drain(self._limits.last_responses_s, lambda stream: not stream.writing())
        await self._drain(self._limits.last_reads_s, lambda _stream: True)
        for stream in list(self._clients):
            stream.close()
        await self.close_all_connections()

    async def _drain(self, timeout_s: float, is_busy: Callable[[IOStream], bool]) -> None:
        """Wait until no connection is busy; close those that wait for a request."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while True:
                    for stream in [one for one in self._clients if one.reading()]:
                        self._close(stream)
                    if not any(map(is_busy, self._clients)):
                        return
                    await asyncio.sleep(PAUSE_S)

    def start_request(
        self, server_conn: object, request_conn: "HTTPConnection"
    ) -> "HTTPMessageDelegate":
        """Wait for the next request of a connection, unless the server stops.

        A connection with an outdated TLS context is closed: the current one may require another
        certificate, or another name in it.
        """
        stream = cast("HTTP1ServerConnection", server_conn).stream
        client = self._clients.get(stream)
        tls = self._current_tls()
        is_outdated = client and tls and client.context is not tls[0]
        if self._stopping or is_outdated:
            stream.close()
        return super().start_request(server_conn, request_conn)

    def on_close(self, server_conn: object) -> None:
        """Forget a connection."""
        super().on_close(server_conn)
        self._clients.pop(cast("HTTP1ServerConnection", server_conn).stream, None)

    def _close(self, stream: IOStream) -> None:
        self._clients.pop(stream, None)
        stream.close()

    def _accept_from(self, sock: socket.socket) -> None:
        if not self._stopping:
            asyncio.get_running_loop().add_reader(sock, self._accept, sock)

    def _pause(self, sock: socket.socket, why: str) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(sock)
        loop.call_later(PAUSE_S, self._accept_from, sock)
        self._log_full(why)

    def _accept(self, sock: socket.socket) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            if not self._can_accept():
                self._pause(sock, f"{self._limits.connections} are open")
                return
            try:
                connection, address = sock.accept()
            except OSError as error:  # mostly BlockingIOError: all are accepted
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._pause(sock, str(error.strerror))
                return
            self._serve(connection, address)

    def _can_accept(self) -> bool:
        """Return whether to accept one more connection; close an idle one for it if necessary."""
        if len(self._clients) < self._limits.connections:
            return True
        latest_s = asyncio.get_running_loop().time() - self._limits.grace_s
        idle = [s for s, client in self._clients.items() if client.since_s <= latest_s]
        idle = [s for s in idle if s.reading() and not _has_unread_bytes(s)] or [
            s for s in idle if s.writing()
        ]
        if not idle:
            return False
        self._log_full(f"{self._limits.connections} are open")
        (crowd, _), *_ = Counter(self._clients[stream].key for stream in idle).most_common(1)
        self._close(next(stream for stream in idle if self._clients[stream].key == crowd))
        return True

    def _log_full(self, why: str) -> None:
        now_s = time.monotonic()
        if now_s - self._log_full_at_s > LOG_AGAIN_S:
            self._log_full_at_s = now_s
            log.warning(
                "too many connections: idle ones are closed, new ones wait", extra={"error": why}
            )

    def _serve(self, connection: socket.socket, address: tuple[object, ...]) -> None:
        connection.settimeout(0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        key = ""
        if connection.family != socket.AF_UNIX:
            key = client_key(str(address[0]))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(1000 * UNREAD_S))
        now_s = asyncio.get_running_loop().time()
        tls = self._current_tls()
        if tls is None:
            stream = _Stream(connection, **BUFFERS)
            self._clients[stream] = _Client(key, now_s, None)
            self.handle_stream(stream, address)
            return
        context, admit = tls
        try:
            connection = context.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        except OSError:  # the client has left already
            connection.close()
            return
        encrypted = _EncryptedStream(connection, **BUFFERS)
        self._clients[encrypted] = _Client(key, now_s, context)
        handshake = asyncio.create_task(self._shake_hands(encrypted, address, admit))
        self._handshakes.add(handshake)
        handshake.add_done_callback(self._handshakes.discard)

    async def _shake_hands(
        self, stream: SSLIOStream, address: tuple[object, ...], admit: Admit
    ) -> None:
        admitted = False
        try:
            with suppress(TimeoutError, StreamClosedError, OSError):
                async with asyncio.timeout(self._limits.handshake_s):
                    await stream.wait_for_handshake()
                admitted = not self._stopping and admit(stream.socket)
        finally:
            if not admitted:
                self._close(stream)
        if admitted:
            self.handle_stream(stream, address)


def _has_unread_bytes(stream: IOStream) -> bool:
    """Return whether the kernel has bytes of a client: its request has come, but was not read."""
    unread = bytearray(4)
    fcntl.ioctl(stream.socket, termios.FIONREAD, unread)
    return any(unread)
