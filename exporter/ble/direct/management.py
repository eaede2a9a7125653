"""The kernel's management socket: disconnects at once, sets connection parameters, reads RSSI.

Source: BlueZ, doc/mgmt-api.txt. It needs CAP_NET_ADMIN, in the host's network and user namespace.

Every command has its own socket: no answer belongs to another command, and no open socket breaks
when the adapter or the kernel's module goes away.
"""

import asyncio
import logging
import struct
from collections.abc import Awaitable, Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from exporter.ble.direct.intervals import KINDS, Intervals, Wanted
from exporter.ble.direct.kernel import Kernel
from exporter.ble.direct.sockets import AF_BLUETOOTH, bind, hci_socket, packed
from exporter.ble.transport import Target
from exporter.clock import Clock

log = logging.getLogger(__name__)

CONTROL_CHANNEL: Final = struct.pack("<HHH", AF_BLUETOOTH, 0xFFFF, 3)  # of no adapter
HEADER: Final = struct.Struct("<HHH")  # opcode or event, adapter, length
COMMAND_COMPLETE: Final = 0x0001
COMMAND_STATUS: Final = 0x0002
ANSWER: Final = struct.Struct("<HB")  # opcode, status
MAX_EVENT: Final = 1024
SOL_BLUETOOTH: Final = 274
BT_SNDMTU: Final = 12

SET_POWERED: Final = 0x0005
DISCONNECT: Final = 0x0014
GET_CONNECTIONS: Final = 0x0015
GET_CONNECTION_INFORMATION: Final = 0x0031
LOAD_CONNECTION_PARAMETERS: Final = 0x0035
SUCCESS: Final = 0x00
NOT_CONNECTED: Final = 0x02
PERMISSION_DENIED: Final = 0x14
NOTHING_DONE: Final = {0x0A, 0x0C, 0x11, PERMISSION_DENIED}  # busy, not supported, no such adapter
UNKNOWN_RSSI: Final = 127
ANSWER_S: Final = 3.0  # only Disconnect waits, for the battery; all others are answered at once
# The kernel waits 2 s for each answer of an adapter that hangs, and 10 s for that to a reset.
SWITCH_S: Final = 12.0
OFF_S: Final = 1.0  # between off and on
ON_ATTEMPTS: Final = 2

Command = Callable[[int, int, bytes], Awaitable[tuple[int, bytes]]]
"""Opcode, adapter and payload in; status and data out. Raises OSError and ManagementError."""


class ManagementError(Exception):
    """A management command failed."""


class RefusedError(ManagementError):
    """The kernel refused a management command."""

    def __init__(self, opcode: int, status: int) -> None:
        super().__init__(f"command {opcode:#06x} refused: status {status:#04x}")
        self.status = status


@contextmanager
def _optional(failure: str, address: str | None = None) -> Iterator[None]:
    """Log a failed management command: readings do not depend on it."""
    try:
        yield
    except (OSError, ManagementError) as error:
        about = {} if address is None else {"address": address}
        log.debug(failure, extra=about | {"error": str(error)})


async def command(opcode: int, adapter: int, payload: bytes) -> tuple[int, bytes]:
    """Send one command to the kernel; return its status and what came with it.

    Raises:
        OSError: This machine has no management socket.
        ManagementError: No answer came.
    """
    loop = asyncio.get_running_loop()
    with hci_socket() as sock:
        sock.setblocking(False)  # noqa: FBT003 - its interface
        bind(sock, CONTROL_CHANNEL)
        with suppress(OSError):  # before Linux 5.16 a longer command than 1,028 bytes is EINVAL
            sock.setsockopt(SOL_BLUETOOTH, BT_SNDMTU, struct.pack("H", 0xFFFF))
        # It is one datagram. For a command that the kernel refuses, `send` returns 0.
        sock.send(HEADER.pack(opcode, adapter, len(payload)) + payload)
        limit_s = SWITCH_S if opcode == SET_POWERED else ANSWER_S
        try:
            async with asyncio.timeout(limit_s):
                while True:
                    answer = _answer(await loop.sock_recv(sock, MAX_EVENT), opcode)
                    if answer is not None:
                        return answer
        except TimeoutError:
            raise ManagementError(f"no answer to {opcode:#06x} in {limit_s:g} s") from None


async def why_not(command: Command = command) -> str | None:
    """Return why the management socket cannot be used; None: it can."""
    try:
        status, _ = await command(GET_CONNECTIONS, 0, b"")  # any command that needs the capability
    except OSError as error:
        return f"no Bluetooth sockets: {error.strerror}"
    except ManagementError as error:
        return str(error)
    return "CAP_NET_ADMIN is not given" if status == PERMISSION_DENIED else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Management:
    """Commands through the management socket; disabled ones do nothing, failed ones are logged."""

    release: bool = False
    parameters: bool = False
    rssi: bool = False
    power: bool = False
    command: Command = command
    kernel: Kernel = field(default_factory=Kernel)
    _intervals: Intervals = field(default_factory=Intervals, init=False)

    async def switch_on(self, name: str | None) -> None:
        """Switch on an adapter that is off because bluetoothd has ended.

        Without a name it is the first one, if all are off.
        """
        if not self.power:
            return
        with _optional("not switched on"):
            named = [one for one in self.kernel.adapters() if name in {None, one.name}]
            if named and not any(one.up for one in named):
                from exporter.ble import bluez  # noqa: PLC0415 - D-Bus, which is rarely needed

                if not await bluez.is_off_on_purpose():
                    await self._send(SET_POWERED, named[0].index, b"\x01")

    async def restart(self, adapter: int) -> bool:
        """Switch an adapter off and on again; return whether it is on.

        A cancelled restart switches it on before it ends.

        Raises:
            RefusedError: The kernel did not switch it off.
        """
        try:
            try:
                await self._send(SET_POWERED, adapter, b"\x00")
            except RefusedError as error:
                if error.status in NOTHING_DONE:
                    raise
            except (OSError, ManagementError) as error:  # one that hangs may not answer, and be off
                log.debug("not switched off", extra={"error": str(error)})
            return await self._switch_on(adapter)
        except asyncio.CancelledError:
            await self._switch_on(adapter)
            raise

    async def _switch_on(self, adapter: int) -> bool:
        for _ in range(ON_ATTEMPTS):
            await asyncio.sleep(OFF_S)
            with _optional("not switched on"):
                await self._send(SET_POWERED, adapter, b"\x01")
                return True
        return False

    async def disconnect(self, address: str) -> None:
        """End our connection to a battery; return when it is disconnected."""
        if self.release:
            with _optional("not released", address):
                await self._send_about(address, DISCONNECT)

    async def load_parameters(
        self,
        adapter: str | None,
        addresses: Iterable[str],
        *,
        kinds: Sequence[int] = KINDS,
        gentle: Container[str] = (),
    ) -> None:
        """Request a short connection interval for the next connection to a battery.

        Args:
            adapter: The one that connects; None: the first one that is switched on.
            addresses: All batteries, first the one to connect to.
            kinds: Of which its address may be.
            gentle: Those of them that get the kernel's own interval back.
        """
        if not self.parameters:
            return
        wanted = Wanted(addresses=list(dict.fromkeys(addresses)), kinds=kinds, gentle=gentle)
        send = partial(self._send, LOAD_CONNECTION_PARAMETERS)
        with _optional("connection parameters not loaded"):
            for one in self.kernel.adapters():
                if one.up and adapter in {None, one.name}:
                    await self._intervals.load(send, one.index, wanted)
                    break

    async def record_rssi(self, target: Target, clock: Clock) -> None:
        """Record the signal strength of a connected battery if `rssi` is on."""
        if not self.rssi:
            return
        with _optional("no RSSI", target.address):
            data = await self._send_about(target.address, GET_CONNECTION_INFORMATION)
            if data[7:]:  # after address and type
                (rssi_dbm,) = struct.unpack_from("<b", data, 7)
                if rssi_dbm != UNKNOWN_RSSI:
                    target.stats.record_rssi(rssi_dbm, clock())

    async def _send_about(self, address: str, opcode: int) -> bytes:
        """Send a command about a battery; return the answer, empty if it is not connected."""
        adapter = self.kernel.connected_on(address)
        if adapter is not None:
            for kind in KINDS:
                data = await self._send(opcode, adapter, _device(address, kind))
                if data is not None:
                    return data
        return b""

    async def _send(self, opcode: int, adapter: int, payload: bytes) -> bytes | None:
        """Send a command; return the answer, None if the battery is not connected."""
        status, data = await self.command(opcode, adapter, payload)
        if status not in {SUCCESS, NOT_CONNECTED}:
            raise RefusedError(opcode, status)
        return data if status == SUCCESS else None


def _device(address: str, kind: int) -> bytes:
    return packed(address) + bytes([kind])


def _answer(event: bytes, opcode: int) -> tuple[int, bytes] | None:
    """Return status and data if this event ends our command; None for other events."""
    if len(event) < HEADER.size + ANSWER.size:
        return None
    kind, _, _ = HEADER.unpack_from(event)
    ended, status = ANSWER.unpack_from(event, HEADER.size)
    if kind not in (COMMAND_COMPLETE, COMMAND_STATUS) or ended != opcode:
        return None
    return status, event[HEADER.size + ANSWER.size :]
