"""The notifications of one link, in the order in which they arrived."""

import asyncio

from exporter.errors import LinkLostError


class Notifications:
    """A queue of notifications that ends with the connection."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[tuple[float, bytes] | None] = asyncio.Queue()
        self._why = "the connection ended in mid-poll"

    def add(self, value: bytes) -> None:
        """Add a notification that has just arrived."""
        self._queue.put_nowait((asyncio.get_running_loop().time(), value))

    def end(self, why: str | None = None) -> None:
        """Let `receive` fail after the last notification: the connection ended."""
        self._why = why or self._why
        self._queue.put_nowait(None)

    async def receive(self) -> tuple[float, bytes]:
        """Return the arrival of the next notification, by the loop's clock, and its bytes.

        Raises:
            LinkLostError: The connection ended.
        """
        notification = await self._queue.get()
        if notification is None:
            self.end()  # so that the next call fails, too
            raise LinkLostError(self._why)
        return notification
