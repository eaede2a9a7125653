"""Checks of what this program may do: Bluetooth sockets, capabilities, D-Bus."""

import errno
import os
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from exporter.ble.direct.sockets import AF_BLUETOOTH, BTPROTO_L2CAP, hci_socket
from exporter.doctor.check import Check, State
from exporter.doctor.files import Files

NET_ADMIN: Final = 1 << 12
NET_RAW: Final = 1 << 13
ALL_USERS: Final = "4294967295"  # the length of the only line of uid_map without a user namespace
UNCONFINED: Final = {"", "unconfined", "kernel"}

OpenSocket = Callable[[], None]
"""Opens a socket and closes it again. Raises OSError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rights:
    """What the kernel allows this program; an errno is None where the socket opens."""

    channel_errno: int | None  # of the sockets of `link: direct`
    query_errno: int | None  # of the sockets for queries about adapters
    capabilities: int | None  # effective
    seccomp: bool = False
    no_new_privileges: bool = False
    confinement: str = ""  # AppArmor's or SELinux's name
    user_namespace: bool = False

    @property
    def has_sockets(self) -> bool:
        """Whether the direct link is possible."""
        return self.channel_errno is None and self.query_errno is None


def read_rights(
    files: Files, channel: OpenSocket | None = None, query: OpenSocket | None = None
) -> Rights:
    """Open both kinds of sockets, and read what /proc says about this process."""
    status = files.text("proc/self/status") or ""

    def field(name: str, base: int = 10) -> int | None:
        found = re.search(rf"^{name}:\s*([0-9a-fA-F]+)$", status, re.MULTILINE)
        return int(found[1], base) if found else None

    users = (files.text("proc/self/uid_map") or ALL_USERS).split()
    return Rights(
        channel_errno=_errno(channel or _open_channel),
        query_errno=_errno(query or _open_query),
        capabilities=field("CapEff", 16),
        seccomp=bool(field("Seccomp")),
        no_new_privileges=bool(field("NoNewPrivs")),
        confinement=files.text("proc/self/attr/current") or "",
        user_namespace=users[-1] != ALL_USERS,
    )


def _open_channel() -> None:
    socket.socket(AF_BLUETOOTH, socket.SOCK_SEQPACKET, BTPROTO_L2CAP).close()


def _open_query() -> None:
    hci_socket().close()


def _errno(open_socket: OpenSocket) -> int | None:
    try:
        open_socket()
    except OSError as error:
        return error.errno or errno.EIO
    return None


def check_sockets(rights: Rights, *, is_needed: bool, in_container: bool) -> Check:
    """Say whether the direct link is possible, and what would allow it."""
    number = rights.channel_errno or rights.query_errno
    facts = {
        "channel_errno": rights.channel_errno,
        "query_errno": rights.query_errno,
        "seccomp": rights.seccomp,
        "no_new_privileges": rights.no_new_privileges,
        "confinement": rights.confinement not in UNCONFINED,
    }
    if number is None:
        return Check(id="sockets", state=State.OK, text="link: direct is possible", facts=facts)
    return Check(
        id="sockets",
        state=State.FAIL if is_needed else State.NOTE,
        text=f"link: direct cannot open Bluetooth sockets ({os.strerror(number)})",
        facts=facts,
        advice=_socket_advice(number, rights, in_container=in_container),
    )


def _socket_advice(number: int, rights: Rights, *, in_container: bool) -> str:
    if number == errno.EAFNOSUPPORT and in_container:
        return (
            "run the container with the host's network: --network host (docker run), or "
            "network_mode: host (compose.yaml)"
        )
    if number == errno.EAFNOSUPPORT and rights.seccomp:
        return "allow AF_BLUETOOTH in RestrictAddressFamilies of the systemd unit"
    if number == errno.EAFNOSUPPORT:
        return "load the kernel's module: sudo modprobe bluetooth"
    if number in {errno.EPERM, errno.EACCES} and rights.confinement not in UNCONFINED:
        return f"allow Bluetooth sockets to {rights.confinement} (AppArmor or SELinux)"
    if number in {errno.EPERM, errno.EACCES}:
        return "allow Bluetooth sockets: a seccomp profile or a sandbox forbids them"
    return "run sudo dmesg | grep Bluetooth"


def check_rights(rights: Rights, why_not_managed: str | None) -> Check:
    """Say what this user gets; docs/permissions.md has the same table."""
    facts = {
        "net_admin": why_not_managed is None,
        "net_raw": None if rights.capabilities is None else bool(rights.capabilities & NET_RAW),
        "user_namespace": rights.user_namespace,
    }
    if why_not_managed is None:
        text = "CAP_NET_ADMIN: a reading holds its battery for about 0.2 s"
        return Check(id="rights", state=State.OK, text=text, facts=facts)
    if not rights.has_sockets:
        text = "not needed without Bluetooth sockets"
        return Check(id="rights", state=State.NOTE, text=text, facts=facts)
    held = bool(rights.capabilities and rights.capabilities & NET_ADMIN)
    why = "it does not count in a user namespace" if held else "see docs/permissions.md"
    return Check(
        id="rights",
        state=State.NOTE,
        text=f"no CAP_NET_ADMIN: each reading holds its battery 2 s longer ({why})",
        facts=facts,
    )
