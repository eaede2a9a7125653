"""The interfaces between the ways to a battery and their users, and the data that they share."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from exporter.config.schema import TransportChoice
from exporter.connection import Connection
from exporter.errors import NotFoundError
from exporter.link_stats import LinkStats
from exporter.protocol.advertisement import Advertisement

if TYPE_CHECKING:  # the direct link does without bleak
    from bleak.backends.client import BaseBleakClient
    from bleak.backends.scanner import BaseBleakScanner

Hear = Callable[[Advertisement], None]
Renew = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A battery to connect to, and the record of what happens."""

    address: str  # upper case with colons
    stats: LinkStats
    profile: str | None = None  # None: by its GATT table
    adapter: str | None = None  # None: the one with the strongest signal
    link: TransportChoice | None = None  # None: as for all batteries


class Transport(Protocol):
    """Connects to batteries over one adapter."""

    targets: Mapping[str, Target]
    """The batteries to prepare for and to record, by address; `Routes` sets and changes them."""

    def connect(
        self, target: Target, *, deadline_s: float
    ) -> AbstractAsyncContextManager[Connection]:
        """Connect, and disconnect when the context ends.

        Without the management socket the disconnect takes about 2 s. It never raises and survives
        cancellation.

        Args:
            target: The battery.
            deadline_s: By the loop's clock: the end of every attempt to connect.

        Raises:
            AdapterError: Bluetooth cannot be used.
            NotFoundError: The battery does not advertise.
            ConnectError: It does, and no attempt succeeded.
            ProfileError: It has none of the profiles, or not the configured one.
            PairingError: It wants pairing.
            LinkLostError: The connection ended while the context was open.
        """


class ScanningTransport(Transport, Protocol):
    """A transport that can also scan."""

    def advertisements(self, hear: Hear) -> AbstractAsyncContextManager[Renew]:
        """Call `hear` for every advertisement while the context is open.

        The context is a function to call now and then: it restarts a scan that may have missed a
        battery.

        Raises:
            AdapterError: Bluetooth cannot be used.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """Which implementation of bleak's interfaces to use; None is this platform's own."""

    client: "type[BaseBleakClient] | None" = None
    scanner: "type[BaseBleakScanner] | None" = None


def make_not_found(address: str, waited_s: float) -> NotFoundError:
    """Return the error for a battery that did not advertise in this time."""
    return NotFoundError(
        f"{address} not seen in {waited_s:.0f} s: is it switched on and in range, and is the "
        "phone app disconnected?"
    )
