"""What reads a battery needs of a connection to it, however that was made."""

from collections.abc import Sequence
from typing import Protocol


class Link(Protocol):
    """One profile of an open connection: bytes out, notifications in."""

    early_sent: bool
    """Whether a request was written before the subscription."""

    async def write(self, data: bytes) -> None:
        """Send one request. Raises LinkLostError."""

    async def receive(self) -> tuple[float, bytes]:
        """Return when the next notification came, by the loop's clock, and its bytes.

        Raises:
            LinkLostError: The connection ended.
        """


class Connection(Protocol):
    """An open connection to one battery."""

    @property
    def profiles(self) -> Sequence[str]:
        """The names of the known profiles that the battery has, best first; never empty."""

    async def open(self, profile: str, early: bytes) -> Link:
        """Subscribe to the notifications of one profile.

        Args:
            profile: One of `profiles`.
            early: Written before the subscription if that costs no time. The first request after
                a connect is often lost, so this one is lost during the subscription.

        Raises:
            PairingError: The battery wants pairing.
            LinkLostError: The connection ended, or the battery refused.
        """
