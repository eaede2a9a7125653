"""Opens listening sockets, or takes those of systemd."""

import errno
import os
import re
import socket
from collections.abc import Sequence
from typing import Final

from exporter.errors import ConfigError

FIRST_FD: Final = 3  # of systemd's sockets: sd_listen_fds(3)
PORT: Final = re.compile(r"[0-9]{1,5}")
EXPECTED: Final = "--web.listen-address: expected HOST:PORT or :PORT, with a port up to 65535"
NO_HOST: Final = "this host name cannot be resolved: use an IP address of this machine, or :PORT"
CURES: Final = {
    errno.EADDRINUSE: "another program uses this port, perhaps a second bms-exporter: stop it "
    "(systemctl stop bms-exporter), or choose another port (--web.listen-address :12201)",
    errno.EADDRNOTAVAIL: "this machine does not have this address: --web.listen-address :PORT "
    "serves on every address that it has",
    errno.EACCES: "ports below 1024 need root: choose a higher one with --web.listen-address",
}
FEW: Final = re.compile(r"[1-9][0-9]?")


def from_systemd() -> Sequence[socket.socket]:
    """Return the sockets that systemd has opened for this process.

    Raises:
        ConfigError: There are none.
    """
    wrong = "--web.systemd-socket: systemd has given no socket: is the .socket unit started?"
    count = os.environ.get("LISTEN_FDS", "")
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or FEW.fullmatch(count) is None:
        raise ConfigError([wrong])
    sockets = []
    for number in range(FIRST_FD, FIRST_FD + int(count)):
        try:
            given = socket.socket(fileno=number)
            listens = given.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except OSError as error:
            raise ConfigError([f"{wrong} Descriptor {number}: {error.strerror}"]) from error
        if not listens:
            raise ConfigError([f"--web.systemd-socket: descriptor {number} does not listen"])
        sockets.append(given)
    return sockets


def with_port(address: str, sock: socket.socket) -> str:
    """Return a listen address; the kernel's choice replaces port 0."""
    return f"{address.rpartition(':')[0]}:{sock.getsockname()[1]}"


def listen(address: str) -> socket.socket:
    """Open one socket; ":12200" means every IPv4 and IPv6 address of the machine.

    Raises:
        ConfigError: The address is malformed, in use, or not of this machine.
    """
    host, colon, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (colon and port.isascii() and port.isdigit() and int(port[:6]) < 1 << 16):
        cure = f", did you mean :{address}?" if PORT.fullmatch(address) else ""
        raise ConfigError([f"{EXPECTED}, got {address!r}{cure}"])
    if "/" in host:  # a URL
        raise ConfigError([f"{EXPECTED}, got {address!r}"])
    dual = not host and socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual or ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, int(port)), family=family, dualstack_ipv6=dual)
    except (OSError, TypeError, ValueError) as error:  # the last two: not a host name
        # Not its strerror: create_server appends a tuple. A resolver's errors are negative.
        number = (error.errno or 0) if isinstance(error, OSError) else 0
        reason = CURES.get(number) or (os.strerror(number) if number > 0 else NO_HOST)
        raise ConfigError([f"cannot listen on {address}: {reason}"]) from error
