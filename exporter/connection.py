"""The interface of a connection to a battery, which every transport implements."""

from collections.abc import Sequence
from typing import Protocol


class Link(Protocol):
    """One profile of an open connection: bytes out, notifications in."""

    early_sent: bool  # a request was written before the subscription
    is_gentle: bool  # the battery gets more time for a reply

    async def write(self, data: bytes) -> None:
        """Send one request. Raises LinkLostError if the connection ended."""

    async def receive(self) -> tuple[float, bytes]:
        """Return the arrival of the next notification, by the loop's clock, and its bytes.

        Raises:
            LinkLostError: The connection ended.
        """


class Connection(Protocol):
    """An open connection to one battery."""

    adapter: str
    """The adapter that is used: hci0 and the like."""

    @property
    def profiles(self) -> Sequence[str]:
        """The names of the known profiles that the battery has, in order of trial; never empty."""

    async def open(self, profile: str, early: bytes) -> Link:
        """Subscribe to the notifications of one profile.

        `early` is written before the subscription if the battery takes writes without response.
        The first request after a connect is often lost: so only this one is lost.

        Raises:
            PairingError: The battery wants pairing.
            LinkLostError: The connection ended, or the battery refused.
        """
