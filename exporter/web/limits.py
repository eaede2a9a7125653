"""Limits of connections and times, and the key by which addresses count as one client."""

import resource
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final

from exporter.errors import ConfigError

PLAIN_CONNECTIONS: Final = 1000  # each takes up to 25 kB
TLS_CONNECTIONS: Final = 500  # about 80 kB
# For Bluetooth sockets, D-Bus and files.
RESERVED_FDS: Final = 64
MIN_FDS: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How many connections the server accepts, and how long it waits for clients."""

    connections: int = PLAIN_CONNECTIONS  # more clients wait in the kernel
    grace_s: float = 0.5  # for a first request, before the connection may be closed for a new one
    handshake_s: float = 5.0
    request_s: float = 5.0  # for a request to arrive, and for the next one to begin
    last_responses_s: float = 30.0  # after SIGTERM, for scrapes under way
    last_reads_s: float = 2.0  # then, for clients that still read their responses


def limits_here(connections: int = PLAIN_CONNECTIONS) -> Limits:
    """Return the limits for this process; raise its soft limit of open files if necessary.

    Raises:
        ConfigError: It may open fewer than MIN_FDS files.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return Limits(connections=connections)
    wanted = connections + 2 * RESERVED_FDS
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    if soft < MIN_FDS:
        problem = f"this process may open only {soft} files, at least {MIN_FDS} are needed"
        raise ConfigError([f"{problem}: raise `ulimit -n`, or LimitNOFILE= in its systemd unit"])
    return Limits(connections=min(connections, soft - RESERVED_FDS))


def client_key(address: str) -> str:
    """Return the key for limits: the IPv4 address, the IPv6 /64 prefix, "" for a UNIX socket."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return ""
    mapped = getattr(parsed, "ipv4_mapped", None)
    if isinstance(parsed, IPv6Address) and mapped is None:
        return str(ip_network((parsed, 64), strict=False))
    return str(mapped or parsed)
