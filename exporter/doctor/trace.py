"""Records what one attempt to read a battery did, and when, from outside of the transport."""

import asyncio
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from exporter.ble.direct.kernel import Kernel
from exporter.ble.direct.sockets import PUBLIC
from exporter.connection import Connection, Link
from exporter.link_stats import LinkStats
from exporter.protocol.frame import HEAD

ATT_MTU: Final = 23  # unless another one is agreed on
MTU_RESPONSE: Final = 0x03
DISCOVERY: Final = frozenset({0x04, 0x08, 0x10})  # ATT requests that read the GATT table
MOST_PIECES: Final = 200  # of notifications; a battery that floods must not fill the report


@dataclass(slots=True)
class Trace:
    """The steps of one attempt, each with its seconds since the beginning, and what passed."""

    began_s: float
    steps: dict[str, float] = field(default_factory=dict)
    errno: int | None = None  # of the last failed connect
    address_type: str | None = None
    mtu: int | None = None
    table_requests: int = 0
    pdus: int = 0
    round_trips_s: list[float] = field(default_factory=list)
    pieces: list[list[int]] = field(default_factory=list)  # lengths, one list for each frame
    profile: str | None = None
    is_early: bool = False  # the first request was sent before the subscription
    other_write: bool = False  # with response where none is offered, or the reverse
    _asked_s: float | None = None

    def restart(self) -> None:
        """Time the steps of another connection."""
        self.began_s = asyncio.get_running_loop().time()
        self.steps.clear()

    def note(self, step: str) -> None:
        """Record the first time that a step is reached."""
        self.steps.setdefault(step, asyncio.get_running_loop().time() - self.began_s)

    def sent(self, pdu: bytes) -> None:
        """Record one PDU of the direct link that left."""
        self.pdus += 1
        self.table_requests += pdu[:1] != b"" and pdu[0] in DISCOVERY
        if pdu and pdu[0] % 2 == 0 and pdu[0] < 0x1B:  # noqa: PLR2004 - the requests
            self._asked_s = asyncio.get_running_loop().time()

    def received(self, pdu: bytes) -> None:
        """Record one PDU of the direct link that arrived."""
        self.pdus += 1
        if pdu[:1] == bytes([MTU_RESPONSE]) and pdu[2:]:
            self.mtu = max(ATT_MTU, int.from_bytes(pdu[1:3], "little"))
        if self._asked_s is not None and pdu and pdu[0] < 0x1B:  # noqa: PLR2004 - no notification
            self.round_trips_s.append(asyncio.get_running_loop().time() - self._asked_s)
            self._asked_s = None

    def notified(self, value: bytes) -> None:
        """Record a notification: a frame begins with its head."""
        self.note("answer")
        if value[:1] == bytes([HEAD]) or not self.pieces:
            self.pieces.append([])
        if sum(map(len, self.pieces)) < MOST_PIECES:
            self.pieces[-1].append(len(value))

    @property
    def longest_frame(self) -> Sequence[int]:
        """The pieces of the frame that came in the most."""
        return max(self.pieces, key=len, default=[])


class TracedStats(LinkStats):
    """Counters of a link that tell a trace when the battery was heard and connected."""

    trace: Trace

    def record_rssi(self, rssi_dbm: int, at_s: float) -> None:
        """Record the signal strength, and that the battery was heard."""
        self.trace.note("heard")
        super().record_rssi(rssi_dbm, at_s)

    def record_connection(self, *, connected: bool) -> None:
        """Record that the connection began or ended."""
        if connected:
            self.trace.note("connected")
        super().record_connection(connected=connected)


def make_stats(trace: Trace) -> TracedStats:
    """Return counters that tell `trace`."""
    stats = TracedStats()
    stats.trace = trace
    return stats


class TracedSocket(socket.socket):
    """The socket of an ATT channel that shows its PDUs to a trace."""

    trace: Trace

    def send(self, data: Any, *flags: int) -> int:
        """Send one PDU."""
        sent = super().send(data, *flags)
        self.trace.sent(bytes(data))
        return sent

    def recv(self, size: int, *flags: int) -> bytes:
        """Receive one PDU."""
        pdu = super().recv(size, *flags)
        self.trace.received(pdu)
        return pdu


def make_kernel(kernel: Kernel, trace: Trace) -> Kernel:
    """Return the kernel's functions, with a trace of the connects and of their PDUs."""

    async def open_channel(address: str, address_type: int, adapter: str) -> socket.socket:
        trace.note("open")
        try:
            sock = await kernel.open_channel(address, address_type, adapter)
        except OSError as error:
            trace.errno = error.errno
            raise
        trace.note("connected")
        trace.address_type = "public" if address_type == PUBLIC else "random"
        traced = TracedSocket(sock.family, sock.type, sock.proto, fileno=sock.detach())
        traced.setblocking(False)  # noqa: FBT003 - its interface
        traced.trace = trace
        return traced

    return replace(kernel, open_channel=open_channel)


class TracedConnection:
    """A `Connection` that tells a trace about its links."""

    def __init__(self, connection: Connection, trace: Trace) -> None:
        self._connection = connection
        self._trace = trace
        self.adapter = connection.adapter

    @property
    def profiles(self) -> Sequence[str]:
        """The profiles that the battery has."""
        return self._connection.profiles

    async def open(self, profile: str, early: bytes, *, other_write: bool = False) -> "TracedLink":
        """Subscribe to the notifications of one profile; see `Connection`."""
        link = await self._connection.open(profile, early, other_write=other_write)
        self._trace.note("subscribed")
        self._trace.profile = profile
        self._trace.is_early = link.early_sent
        self._trace.other_write = other_write
        return TracedLink(link, self._trace)


class TracedLink:
    """A `Link` that tells a trace about its notifications."""

    def __init__(self, link: Link, trace: Trace) -> None:
        self._link = link
        self._trace = trace
        self.early_sent = link.early_sent
        self.is_gentle = link.is_gentle
        self.write = link.write

    async def receive(self) -> tuple[float, bytes]:
        """Return the next notification; see `Link`."""
        at_s, value = await self._link.receive()
        self._trace.notified(value)
        return at_s, value
