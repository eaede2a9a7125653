"""The interfaces of the transports, and the data that they share with their users."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from exporter.config.schema import Link
from exporter.connection import Connection
from exporter.errors import AdapterError, Cause, ConnectError, NotFoundError
from exporter.link_stats import LinkStats
from exporter.protocol.advertisement import Advertisement, read_backwards

if TYPE_CHECKING:  # the direct link does not import bleak
    from bleak.backends.client import BaseBleakClient
    from bleak.backends.scanner import BaseBleakScanner

log = logging.getLogger(__name__)

TAKE_EVERY_S: Final = 600.0
Hear = Callable[[Advertisement], None]
Renew = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A battery to connect to, and the counters of its link."""

    address: str  # upper case with colons
    stats: LinkStats
    profile: str | None = None  # None: by its GATT table
    adapter: str | None = None  # None: `Routes` chooses by signal and load
    link: Link | None = None  # None: as for all batteries
    gentle: bool = False  # only the gentle style
    takes_over: bool = True  # drops a connection that another program may have left


class Transport(Protocol):
    """Connects to batteries over one adapter."""

    targets: Mapping[str, Target]
    """By address: batteries to prepare connections for; `Routes` sets and changes them."""

    def connect(
        self, target: Target, *, deadline_s: float, is_gentle: bool = False
    ) -> AbstractAsyncContextManager[Connection]:
        """Connect, and disconnect when the context ends.

        Attempts end at `deadline_s`, by the loop's clock. The disconnect takes about 2 s without
        the management socket; it never raises and completes even if the caller is cancelled.
        `is_gentle` means the kernel's own interval, an exchange of the MTU and no early request,
        where the transport would do otherwise.

        Raises:
            AdapterError: Bluetooth cannot be used.
            NotFoundError: The battery does not advertise.
            ConnectError: The battery advertises, but no attempt succeeded.
            ProfileError: It has none of the profiles, or not the configured one.
            PairingError: It wants pairing.
            LinkLostError: The connection ended while the context was open.
        """


class ScanningTransport(Transport, Protocol):
    """A transport that can also scan."""

    def advertisements(self, hear: Hear) -> AbstractAsyncContextManager[Renew]:
        """Call `hear` for every advertisement while the context is open.

        The context yields a function to call every few seconds: it restarts a scan that may have
        missed a battery.

        Raises:
            AdapterError: Bluetooth cannot be used.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """The implementation of bleak's interfaces to use; None: bleak's own for this platform."""

    client: "type[BaseBleakClient] | None" = None
    scanner: "type[BaseBleakScanner] | None" = None


@asynccontextmanager
async def preparing(target: Target, deadline_s: float) -> AsyncIterator[None]:
    """Limit the work before a look to half of the time that is left.

    A look in too short a time would call a battery absent that is there.

    Raises:
        AdapterError: The work took longer.
    """
    began_s = asyncio.get_running_loop().time()
    limit = asyncio.timeout_at((began_s + deadline_s) / 2)
    try:
        async with limit:
            yield
    except TimeoutError:
        if not limit.expired():  # the kernel's
            raise
        raise AdapterError(
            "the adapter was not ready within half of poll.timeout: it is being restarted, or does "
            "not answer. The next poll tries again; if it stays so, run bluetoothctl power off, "
            f"then bluetoothctl power on (connect to {target.address})"
        ) from None


def note_taken(target: Target, now_s: float, seen_by: str) -> None:
    """Record that a connection to the battery is about to be dropped, unless it was lately.

    A killed program leaves its connection behind; a running one connects again. So the battery is
    taken once, and then left to the running program.

    Args:
        target: The battery.
        now_s: By the clock of `LinkStats`.
        seen_by: What reports the connection: bluetoothd, or the name of an adapter.

    Raises:
        ConnectError: It was taken less than TAKE_EVERY_S ago, and is connected again; or it must
            not be taken.
    """
    stats = target.stats
    if stats.may_be_left:
        return
    was_taken = stats.taken_at_s is not None and now_s - stats.taken_at_s < TAKE_EVERY_S
    if was_taken or not target.takes_over:
        raise ConnectError(
            f"another program on this machine keeps {target.address} connected (seen on "
            f"{seen_by}): stop that program, or run bluetoothctl disconnect {target.address}",
            Cause.HELD,
        )
    stats.taken_at_s = now_s
    log.info("connection of another program dropped", extra={"address": target.address})


def make_not_found(target: Target, waited_s: float, *, scanned: str | None = None) -> NotFoundError:
    """Return the error for a battery that did not advertise in this time.

    `scanned` names the adapter if another program scans with it.
    """
    hint = f" Another program scans on {scanned}, which delays connections" if scanned else ""
    if backwards := read_backwards(target.address):
        hint += f" If the address is from a phone app, it may be backwards: try {backwards}"
    elif target.stats.route is not None:  # it was read before
        hint += " Some batteries switch Bluetooth off while no current flows"
    return NotFoundError(
        f"{target.address} not seen in {waited_s:.0f} s: is it switched on and in range, and is "
        f"the phone app disconnected?{hint}"
    )
