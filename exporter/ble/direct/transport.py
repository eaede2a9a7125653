"""The transport over the kernel's ATT channel: connects without bluetoothd and D-Bus."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Final

from exporter.ble.adapter_health import AdapterHealths
from exporter.ble.direct.channel import AttChannel
from exporter.ble.direct.connection import DirectConnection, Memory, read_table
from exporter.ble.direct.discovery import Table
from exporter.ble.direct.intervals import KINDS
from exporter.ble.direct.kernel import Kernel
from exporter.ble.direct.management import Management
from exporter.ble.direct.other_scans import OtherScans
from exporter.ble.direct.settings import find_adapter
from exporter.ble.direct.waiting import Waiting
from exporter.ble.direct.wedge import WedgeError
from exporter.ble.timeouts import FIND_S, limit_look, may_retry, retry_pauses
from exporter.ble.transport import Target, make_not_found, note_taken, preparing
from exporter.clock import Clock, boot_s
from exporter.errors import (
    AdapterError,
    BmsError,
    Cause,
    ConnectError,
    FailureReason,
    LinkLostError,
    NotFoundError,
    PairingError,
)

log = logging.getLogger(__name__)

# The kernel keeps an unused connection for 2 s, and a lost one until its supervision timeout, which
# is 4 s at most with our parameters.
DISCONNECT_S: Final = 8.0
CHECK_EVERY_S: Final = 0.05
SCANNED_S: Final = 1.0  # a wait for which the kernel has begun its scan even on a busy machine
AFTER_WAIT_S: Final = 0.5  # of the time left, to find out why a wait had no result
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
        healths: AdapterHealths | None = None,
        clock: Clock = boot_s,
    ) -> None:
        """Configure the transport without using Bluetooth; `clock` gives `LinkStats.seen_at_s`.

        Without `adapter` it is the first one that is switched on. All transports share `healths`.
        """
        self._adapter = adapter
        self._kernel = kernel or Kernel()
        self._management = management or Management(kernel=self._kernel)
        self._clock = clock
        self._waiting = Waiting(self._kernel, self._management)
        self.targets: Mapping[str, Target] = {}
        self.memories: dict[str, Memory] = {}  # by address
        self._healths = healths or AdapterHealths(clock)

    @asynccontextmanager
    async def connect(
        self, target: Target, *, deadline_s: float, is_gentle: bool = False
    ) -> AsyncIterator[DirectConnection]:
        """Connect as soon as the battery advertises, and disconnect at the end; see `Transport`."""
        memory = self._remember(target.address)
        memory.is_gentle = is_gentle
        if target.stats.recorder is not None:
            target.stats.recorder.memory(**memory.describe())
        try:
            async with preparing(target, deadline_s):
                await self._healths.settle(self._adapter, self._management)
                await self._management.switch_on(self._adapter)
                await self._free(target)
            channel, table = await self._connect_in_time(target, memory, deadline_s)
            measuring = asyncio.create_task(self._management.record_rssi(target, self._clock))
            try:
                yield DirectConnection(channel, table, memory, target)
            finally:
                measuring.cancel()
                await self._disconnect(channel, target)
        finally:
            target.stats.record_connection(connected=False)

    def _remember(self, address: str) -> Memory:
        """Return what is known of a battery; forget those that are not configured any more."""
        if address in self.targets:  # a transport without `Routes` has none
            for removed in self.memories.keys() - self.targets.keys():
                del self.memories[removed]
        types = KINDS[::-1] if address >= FIRST_STATIC else KINDS  # the likelier one first
        return self.memories.setdefault(address, Memory(types))

    async def _free(self, target: Target) -> None:
        """Drop a connection that bluetoothd or an ended process has to the battery.

        Raises:
            ConnectError: Another program keeps it.
        """
        address = target.address
        with suppress(OSError):  # the attempt to connect reports it
            adapter = self._kernel.connected_on(address)
            if adapter is not None:
                note_taken(target, self._clock(), f"hci{adapter}")
                from exporter.ble import bluez  # noqa: PLC0415 - D-Bus, which is rarely needed

                await self._management.disconnect(address)
                await bluez.free(address)
                if self._kernel.connected_on(address) is None:
                    target.stats.may_be_left = False

    async def _connect_in_time(
        self, target: Target, memory: Memory, deadline_s: float
    ) -> tuple[AttChannel, Table]:
        """Attempt to connect until the deadline, while what is known says that it may succeed."""
        now = asyncio.get_running_loop().time
        heard: BmsError | None = None
        for number, pause_s in enumerate(retry_pauses(), 1):
            try:
                async with asyncio.timeout_at(deadline_s):
                    left_s = deadline_s - now()
                    look_s = limit_look(target.stats.missed, FIND_S)
                    usable_s = left_s - min(AFTER_WAIT_S, left_s / 3)
                    wait_s = min(look_s, usable_s)
                    again_s = min(wait_s, usable_s - wait_s)
                    return await self._attempt(target, memory, wait_s, again_s)
            except WedgeError as error:  # after the deadline, a restart goes on
                health = self._healths[error.adapter]
                why = await health.handle(error.evidence, self._management, deadline_s)
                message = f"{why} (connect to {target.address})"
                raise AdapterError(message, Cause.WEDGE) from None
            except TimeoutError:
                raise heard or _out_of_time(target) from None
            except NotFoundError as error:
                raise heard or error from None  # one that was heard before is not absent
            except (ConnectError, LinkLostError) as error:
                heard = ConnectError(
                    f"connect to {target.address}, {number} attempt(s): {error}", error.cause
                )
            if not may_retry(heard.cause, number) or now() + pause_s >= deadline_s:
                raise heard
            await asyncio.sleep(pause_s)
        raise AssertionError  # the pauses have no end

    async def _attempt(
        self, target: Target, memory: Memory, timeout_s: float, again_s: float
    ) -> tuple[AttChannel, Table]:
        channel = None
        failure: FailureReason | None = FailureReason.NOT_FOUND  # also if cancelled
        try:
            channel = await self._open_channel(target, memory, timeout_s, again_s)
            target.stats.record_connection(connected=True)
            target.stats.may_be_left = True  # closing the channel leaves it for 2 s
            failure = FailureReason.CONNECT  # also if cancelled, or if the link is lost
            if memory.is_gentle:
                await channel.exchange_mtu()
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

    async def _open_channel(
        self, target: Target, memory: Memory, timeout_s: float, again_s: float
    ) -> AttChannel:
        """Wait for the battery with the type of its address; if unknown, with one after the other.

        Beside another program's scan, wait again for `again_s`.
        Never with both at once: after one of the two was cancelled, Linux 6.1 was seen to make no
        further connections until the adapter is reset.

        Raises:
            NotFoundError: The battery did not advertise in time.
            AdapterError: There is no adapter.
            ConnectError: The attempt failed.
        """
        address = target.address
        command = self._management.command
        adapter = await find_adapter(self._kernel, command, self._adapter, address)
        health = self._healths[adapter.name]
        with suppress(OSError):
            health.note_idle(address, self._kernel.connections(adapter.index))
        async with health.use(address):
            # Now: other programs' commands, and those for other batteries, may remove the entry.
            await self._management.load_parameters(
                adapter.name,
                [address, *self.targets],
                kinds=memory.choose_types(target.stats.missed),
                gentle={other for other, one in self.memories.items() if one.is_gentle},
            )
            types = memory.address_types
            scans = OtherScans(self._kernel, adapter)
            sock = await self._waiting.wait(target, memory, timeout_s, scans)
            scanned = sock is None and await scans.is_scanned(timeout_s)
            if scanned and again_s:  # the battery may be reported in the next scan only
                memory.address_types = types
                sock = await self._waiting.wait(target, memory, again_s, scans)
            evidence = None
            if sock is None and not scanned:
                evidence = self._waiting.find_evidence(
                    adapter, health, needs_scan=timeout_s >= SCANNED_S
                )
        if sock is not None:
            health.note_success()
            return AttChannel(sock, address, adapter.name, target.stats.recorder)
        if error := await self._waiting.explain(target, adapter, evidence):
            raise error
        if scanned:
            raise make_not_found(target, timeout_s + again_s, scanned=adapter.name)
        raise make_not_found(target, timeout_s)

    async def _disconnect(self, channel: AttChannel, target: Target) -> None:
        """Close the channel; return when the kernel has disconnected."""
        if channel.recorder is not None:
            channel.recorder.closed("us")
        try:
            if channel.is_open:
                await self._management.disconnect(channel.address)
            if channel.is_open:
                channel.close()
                async with asyncio.timeout(DISCONNECT_S):
                    # The kernel does not report the end of a connection to a closed socket.
                    while self._kernel.connected_on(channel.address) is not None:  # noqa: ASYNC110
                        await asyncio.sleep(CHECK_EVERY_S)
                if channel.recorder is not None:
                    channel.recorder.event("gone")
            target.stats.may_be_left = False
        except OSError as error:  # a TimeoutError is one
            log.debug("disconnect failed", extra={"address": channel.address, "error": str(error)})
        finally:
            channel.close()


def _out_of_time(target: Target) -> BmsError:
    if target.stats.connected_at_s is None:
        return NotFoundError(f"{target.address} not seen within poll.timeout")
    return ConnectError(
        f"connect to {target.address}: its GATT table did not come within poll.timeout", Cause.GATT
    )
