"""The transport over the kernel's ATT channel: connects without bluetoothd and D-Bus."""

import asyncio
import errno
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Final

from exporter.ble.direct.channel import AttChannel
from exporter.ble.direct.connection import DirectConnection, Memory, read_table
from exporter.ble.direct.discovery import Table
from exporter.ble.direct.kernel import Kernel, Turns
from exporter.ble.direct.management import KINDS, Management
from exporter.ble.timeouts import ATTEMPTS, FIND_S
from exporter.ble.transport import Target, make_not_found
from exporter.clock import Clock, boot_s
from exporter.errors import (
    AdapterError,
    ConnectError,
    FailureReason,
    LinkLostError,
    NotFoundError,
    PairingError,
)

log = logging.getLogger(__name__)

RETRY_AFTER_S: Final = 0.1
# The kernel keeps an unused connection for 2 s, and a lost one until its supervision timeout, which
# is 4 s at most with our parameters.
DISCONNECT_S: Final = 8.0
CHECK_EVERY_S: Final = 0.05
CANCEL_S: Final = 0.1  # for the kernel to cancel an attempt to connect
# The two highest bits of a static random address are set; a private one changes by itself.
FIRST_STATIC: Final = "C0"


class DirectTransport:
    """Implements `Transport` over one adapter."""

    def __init__(
        self,
        *,
        adapter: str | None = None,
        kernel: Kernel | None = None,
        management: Management | None = None,
        clock: Clock = boot_s,
    ) -> None:
        """Configure the transport without using Bluetooth; `clock` gives `LinkStats.seen_at_s`.

        Without `adapter` it is the first one that is switched on.
        """
        self._adapter = adapter
        self._kernel = kernel or Kernel()
        self._management = management or Management(kernel=self._kernel)
        self._clock = clock
        self._turns = Turns()
        self.targets: Mapping[str, Target] = {}
        self._memories: dict[str, Memory] = {}  # by address

    @asynccontextmanager
    async def connect(
        self, target: Target, *, deadline_s: float
    ) -> AsyncIterator[DirectConnection]:
        """Connect as soon as the battery advertises, and disconnect at the end; see `Transport`."""
        types = KINDS[::-1] if target.address >= FIRST_STATIC else KINDS  # the likelier one first
        memory = self._memories.setdefault(target.address, Memory(types))
        try:
            await self._management.switch_on(self._adapter)
            await self._free(target.address)
            await self._management.load_parameters(sorted(self.targets))
            channel, table = await self._connect_in_time(target, memory, deadline_s)
            measuring = asyncio.create_task(self._management.record_rssi(target, self._clock))
            try:
                yield DirectConnection(channel, table, memory, target.stats, target.profile)
            finally:
                measuring.cancel()
                await self._disconnect(channel)
        finally:
            target.stats.record_connection(connected=False)

    async def _free(self, address: str) -> None:
        """Drop a connection that bluetoothd or an ended process has to the battery."""
        with suppress(OSError):  # the attempt to connect reports it
            if self._kernel.connected_on(address) is not None:
                from exporter.ble import bluez  # noqa: PLC0415 - D-Bus, which is rarely needed

                await self._management.disconnect(address)
                await bluez.free(address)

    async def _connect_in_time(
        self, target: Target, memory: Memory, deadline_s: float
    ) -> tuple[AttChannel, Table]:
        timeout_s = min(FIND_S, deadline_s - asyncio.get_running_loop().time())
        attempt = 0
        try:
            async with asyncio.timeout_at(deadline_s):
                while True:
                    attempt += 1
                    try:
                        return await self._attempt(target, memory, timeout_s)
                    except (ConnectError, LinkLostError) as error:
                        if attempt == ATTEMPTS:
                            raise ConnectError(
                                f"connect to {target.address}: Failed to connect after {attempt} "
                                f"attempt(s): {error}"
                            ) from error
                    await asyncio.sleep(RETRY_AFTER_S)
        except TimeoutError:
            raise NotFoundError(f"{target.address} not seen within poll.timeout") from None

    async def _attempt(
        self, target: Target, memory: Memory, timeout_s: float
    ) -> tuple[AttChannel, Table]:
        channel = None
        failure: FailureReason | None = FailureReason.NOT_FOUND  # also if cancelled
        try:
            channel = await self._open_channel(target.address, memory, timeout_s)
            target.stats.record_connection(connected=True)
            failure = FailureReason.CONNECT  # also if cancelled, or if the link is lost
            table = memory.table or await read_table(channel, memory)
            failure = None
        except (AdapterError, ConnectError, PairingError) as error:
            failure = error.reason
            raise
        finally:
            target.stats.record_attempt(failure)
            if failure is not None and channel is not None:
                channel.close()
        return channel, table

    async def _open_channel(self, address: str, memory: Memory, timeout_s: float) -> AttChannel:
        """Wait for the battery with the type of its address; if unknown, with one after the other.

        Never with both at once: after one of the two was cancelled, Linux 6.1 was seen to make no
        further connections until the adapter is reset.

        Raises:
            NotFoundError: The battery did not advertise in time.
            AdapterError: There is no adapter.
            ConnectError: The attempt failed.
        """
        adapter = self._kernel.find_adapter(self._adapter, address)
        for address_type in memory.address_types:
            try:
                async with self._turns.wait(timeout_s / len(memory.address_types)):
                    sock = await self._kernel.open_channel(address, address_type, adapter.address)
            except TimeoutError:
                await asyncio.sleep(CANCEL_S)
            except OSError as error:
                raise _refused(address, error) from None
            else:
                memory.address_types = [address_type]
                return AttChannel(sock, address)
        memory.address_types = memory.address_types[::-1]  # the next attempt may end early
        raise make_not_found(address, timeout_s)

    async def _disconnect(self, channel: AttChannel) -> None:
        """Close the channel; return when the kernel has disconnected."""
        try:
            if channel.is_open:
                await self._management.disconnect(channel.address)
            if channel.is_open:
                channel.close()
                async with asyncio.timeout(DISCONNECT_S):
                    # The kernel does not report the end of a connection to a closed socket.
                    while self._kernel.connected_on(channel.address) is not None:  # noqa: ASYNC110
                        await asyncio.sleep(CHECK_EVERY_S)
        except OSError as error:  # a TimeoutError is one
            log.debug("disconnect failed", extra={"address": channel.address, "error": str(error)})
        finally:
            channel.close()


def _refused(address: str, error: OSError) -> ConnectError | AdapterError:
    if error.errno in {errno.EHOSTUNREACH, errno.ENODEV, errno.ENETDOWN}:
        return AdapterError(f"the Bluetooth adapter went away (connect to {address})")
    if error.errno == errno.EBUSY:
        return ConnectError("another program on this machine is connected to it")
    return ConnectError(error.strerror or str(error))
