"""Runs requests on an open link: the I/O and the timer of an `Exchange`."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from exporter.connection import Link
from exporter.errors import DecodeError
from exporter.link_stats import LinkStats
from exporter.protocol.auth import PasswordExchange
from exporter.protocol.exchange import Exchange
from exporter.protocol.frame import Command, FrameError

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(slots=True)
class OpenLink:
    """An open link that writes, receives and waits as its exchange says."""

    link: Link
    exchange: Exchange
    profile: str
    stats: LinkStats
    requested_at_s: float = 0.0  # of the first request; the values of every reply are newer

    async def authenticate(self, password: PasswordExchange) -> None:
        """Prove the password. Raises BmsError as `Exchange` does, or LinkLostError."""
        self.exchange.authenticate(password, now_s=asyncio.get_running_loop().time())
        await self._run()

    async def read(self, command: Command, decode: Callable[[bytes], T], *, give_up_s: float) -> T:
        """Request a register and return it decoded; count a payload that cannot be true.

        Raises:
            DecodeError: The payload cannot be true.
            LinkLostError: The connection ended.
            BmsError: As `Exchange` does.
        """
        now_s = asyncio.get_running_loop().time()
        self.exchange.request(command, now_s=now_s, give_up_s=give_up_s)
        await self._run()
        try:
            return decode(self.exchange.payload())
        except DecodeError:
            self.stats.frame_errors[FrameError.DECODE] += 1
            raise

    async def _run(self) -> None:
        exchange, loop = self.exchange, asyncio.get_running_loop()
        try:
            while exchange.is_waiting:
                try:
                    async with asyncio.timeout_at(exchange.deadline_s):
                        if data := exchange.data_to_send:
                            await self.link.write(data)
                            exchange.data_sent(loop.time())
                            continue
                        at_s, received = await self.link.receive()
                except TimeoutError:
                    exchange.timed_out(loop.time())
                    continue
                log.debug("received", extra={"hex": received.hex()})
                exchange.receive_data(received, at_s=at_s, now_s=loop.time())
        finally:
            exchange.stop()
