"""hypercorn's settings: listening sockets, limits that silent and hostile clients meet, TLS."""

import asyncio
import errno
import logging
import os
import re
import resource
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from hypercorn.config import Config as ServerConfig
from hypercorn.config import Sockets
from hypercorn.protocol.h11 import H11Protocol

from exporter.errors import ConfigError

if TYPE_CHECKING:  # loaded by those who have TLS
    from exporter.tls import Certificates

log = logging.getLogger(__name__)

BACKLOG: Final = 4096  # thousands of scrapes wait in the kernel, which has this bound itself
# Who was taken is answered before others are. Were all taken at once, the last would seem silent.
TAKEN_AT_ONCE: Final = 32
KEEP_ALIVE_S: Final = 5
HANDSHAKE_S: Final = 5
# How long an answer may lie in a socket that nobody reads or that has lost its network. There is no
# read_timeout: it would end streams of events.
UNREAD_S: Final = 20
REQUESTS: Final = 100  # pipelined: what one connection may heap up before others get their turn
FEW: Final = re.compile(r"[1-9][0-9]?")
FIRST_FD: Final = 3  # of systemd's sockets: sd_listen_fds(3)
# Never given to clients: sockets of the kernel's Bluetooth, D-Bus and files need one each.
RESERVED_FDS: Final = 64
# Where the shell allows 1,024 only: 4,096 silent clients are 150 MB for the ten seconds they last.
WANTED_FDS: Final = 4096


class Server(ServerConfig):
    """hypercorn's settings for these sockets."""

    def __init__(
        self,
        listening: Sequence[socket.socket],
        certificates: "Certificates | None",
        patience_s: Callable[[], float],
    ) -> None:
        """Prepare.

        Args:
            listening: Where connections come in; taken over.
            certificates: Encrypt connections with these.
            patience_s: Tells for how long scrapes under way are waited for in the end.
        """
        super().__init__()
        self.certificates = certificates
        limit = allow_descriptors()
        self._listening = [Listening(sock.detach(), limit - RESERVED_FDS) for sock in listening]
        self._patience_s = patience_s
        self.backlog = TAKEN_AT_ONCE  # asyncio takes so many in a turn of its loop
        self.keep_alive_timeout = KEEP_ALIVE_S
        self.ssl_handshake_timeout = HANDSHAKE_S
        self.keep_alive_max_requests = REQUESTS
        self.include_server_header = False
        self.errorlog = logging.getLogger("hypercorn.error")

    @property
    def graceful_timeout(self) -> float:  # type: ignore[override]
        """For how long scrapes under way are waited for in the end."""
        return self._patience_s()

    @property
    def ssl_enabled(self) -> bool:
        """Whether connections are encrypted."""
        return self.certificates is not None

    def create_ssl_context(self) -> ssl.SSLContext | None:
        """Return how."""
        return None if self.certificates is None else self.certificates.context

    def create_sockets(self) -> Sockets:
        """Return the sockets: encrypted ones, others, QUIC's."""
        listening: list[socket.socket] = [*self._listening]
        return Sockets(listening, [], []) if self.ssl_enabled else Sockets([], listening, [])


async def _stay_with_http_1(_self: H11Protocol, _request: object) -> None:
    """Do not change to HTTP/2, for which hypercorn has no switch.

    It does not bound what a client may open and reset there, and answers that a client does not
    take stay for ever. Who asks for it by ALPN or an upgrade is answered in HTTP/1.1.
    """


H11Protocol._check_protocol = _stay_with_http_1  # type: ignore[assignment, method-assign]  # noqa: SLF001


class Listening(socket.socket):
    """A listening socket that leaves some file descriptors to the rest of the program."""

    def __init__(self, fileno: int, limit: int) -> None:
        """Take over `fileno`; take no connection whose descriptor would be `limit` or above."""
        super().__init__(fileno=fileno)
        self._limit = limit
        self.settimeout(0)

    def listen(self, _taken_at_once: int = 0, /) -> None:
        """Listen, with a queue of its own length."""
        super().listen(BACKLOG)

    def accept(self) -> tuple[socket.socket, Any]:
        """Return a new connection, as socket.accept does.

        Raises:
            OSError: There are too many; asyncio lets the others wait, and asks again in a second.
        """
        if self._next_descriptor() >= self._limit:
            raise OSError(errno.EMFILE, "too many connections")
        connection, address = super().accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * UNREAD_S)
        return connection, address

    def _next_descriptor(self) -> int:
        """Return the lowest free one, which the kernel gives next."""
        number = os.dup(self.fileno())
        os.close(number)
        return number


def on_unhandled(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Say in one line that a client broke its connection; let asyncio speak of anything else."""
    error = context.get("exception")
    if isinstance(error, asyncio.CancelledError):
        return  # Python 3.11 takes a connection that is called off in the end for an error
    if isinstance(error, OSError) and error.errno == errno.EMFILE:
        log.warning("too many connections, others wait until some have ended")
        return
    if error is None or "client_connected_cb" not in context["message"]:
        loop.default_exception_handler(context)
        return
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    log.warning("a client broke its connection", extra={"error": type(error).__name__})


def allow_descriptors() -> int:
    """Raise the soft limit of file descriptors as Go's programs do; return what it is then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    infinite = resource.RLIM_INFINITY
    wanted = WANTED_FDS if hard == infinite else min(WANTED_FDS, hard)
    if soft != infinite and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return WANTED_FDS if soft == infinite else soft


def from_systemd() -> list[socket.socket]:
    """Return the sockets that systemd has opened for this process.

    Raises:
        ConfigError: There are none.
    """
    wrong = "--web.systemd-socket: systemd has given no socket: is the .socket unit started?"
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        raise ConfigError([wrong])
    if FEW.fullmatch(os.environ.get("LISTEN_FDS", "")) is None:
        raise ConfigError([wrong])
    sockets = []
    for number in range(FIRST_FD, FIRST_FD + int(os.environ["LISTEN_FDS"])):
        try:
            given = socket.socket(fileno=number)
            listens = given.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except OSError as error:
            raise ConfigError([f"{wrong} Descriptor {number}: {error.strerror}"]) from error
        if not listens:
            raise ConfigError([f"--web.systemd-socket: descriptor {number} does not listen"])
        sockets.append(given)
    return sockets


def listen(address: str) -> socket.socket:
    """Open one socket; ":12200" is every IPv4 and IPv6 address of the machine.

    Raises:
        ConfigError: The address is malformed, taken, or not this machine's.
    """
    host, colon, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (colon and port.isascii() and port.isdigit() and int(port[:6]) < 1 << 16):
        raise ConfigError([f"--web.listen-address: expected HOST:PORT or :PORT, got {address!r}"])
    dual = not host and socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual or ":" in host else socket.AF_INET
    try:
        return socket.create_server(
            (host, int(port)), family=family, backlog=BACKLOG, dualstack_ipv6=dual
        )
    except (OSError, TypeError, ValueError) as error:  # the last two: no name of a host
        reason = error.strerror if isinstance(error, OSError) else "not an address"
        raise ConfigError(
            [f"cannot listen on {address!r}: {reason}; see --web.listen-address"]
        ) from error
