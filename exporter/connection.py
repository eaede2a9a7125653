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

    async def open(self, profile: str, early: bytes, *, other_write: bool = False) -> Link:
        """Subscribe to the notifications of one profile.

        Args:
            profile: One of `profiles`.
            early: Written before the subscription if that is possible without response. The first
                request after a connect is often lost: so only this one is lost.
            other_write: Whether to write with response where the battery offers to write without
                one, and the reverse: some offer what they do not take.

        Raises:
            PairingError: The battery wants pairing.
            LinkLostError: The connection ended, or the battery refused.
        """
