"""The kernel's management socket: disconnects at once, speeds connections up, measures the RSSI.

Source: BlueZ, doc/mgmt-api.txt. It needs CAP_NET_ADMIN, in the host's network and user namespace.

Every command has its own socket: its answer cannot be mistaken for another's, and no open socket
breaks when the adapter or the kernel's module goes away.
"""

import asyncio
import logging
import struct
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from exporter.ble.direct.sockets import (
    AF_BLUETOOTH,
    PUBLIC,
    RANDOM,
    Adapter,
    adapters,
    bind,
    connected_on,
    hci_socket,
    packed,
)

log = logging.getLogger(__name__)

CONTROL_CHANNEL: Final = struct.pack("<HHH", AF_BLUETOOTH, 0xFFFF, 3)  # of no adapter
HEADER: Final = struct.Struct("<HHH")  # opcode or event, adapter, length
COMMAND_COMPLETE: Final = 0x0001
COMMAND_STATUS: Final = 0x0002
ANSWER: Final = struct.Struct("<HB")  # opcode, status
MAX_EVENT: Final = 1024

SET_POWERED: Final = 0x0005
DISCONNECT: Final = 0x0014
GET_CONNECTIONS: Final = 0x0015
GET_CONNECTION_INFORMATION: Final = 0x0031
LOAD_CONNECTION_PARAMETERS: Final = 0x0035
SUCCESS: Final = 0x00
NOT_CONNECTED: Final = 0x02
PERMISSION_DENIED: Final = 0x14
UNKNOWN_RSSI: Final = 127
KINDS: Final = (PUBLIC, RANDOM)  # a battery's address is one of them, and the other does no harm

# 7.5 to 11.25 ms in units of 1.25 ms, no event left out, lost after 4 s in units of 10 ms.
# BlueZ's own default is 30 to 50 ms.
FAST: Final = struct.pack("<HHHH", 6, 9, 0, 400)
# The kernel answers at once, but for Disconnect: that waits for the battery's side.
ANSWER_S: Final = 3.0


Command = Callable[[int, int, bytes], Awaitable[tuple[int, bytes]]]
"""Opcode, adapter and payload in; status and data out. Raises OSError and ManagementError."""


class ManagementError(Exception):
    """A management command failed."""


@contextmanager
def optional(failure: str, address: str | None = None) -> Iterator[None]:
    """Log a management command that failed: a reading does without it."""
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
        # One datagram. The kernel says that it has sent 0 bytes of a command that it refuses.
        sock.send(HEADER.pack(opcode, adapter, len(payload)) + payload)
        try:
            async with asyncio.timeout(ANSWER_S):
                while True:
                    answer = _answer(await loop.sock_recv(sock, MAX_EVENT), opcode)
                    if answer is not None:
                        return answer
        except TimeoutError:
            raise ManagementError(f"no answer to {opcode:#06x} in {ANSWER_S:g} s") from None


async def why_not(command: Command = command) -> str | None:
    """Return why the management socket cannot be used; None: it can."""
    try:
        status, _ = await command(GET_CONNECTIONS, 0, b"")  # any that wants the capability
    except OSError as error:
        return f"no Bluetooth sockets: {error.strerror}"
    except ManagementError as error:
        return str(error)
    return "CAP_NET_ADMIN is not given" if status == PERMISSION_DENIED else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Management:
    """Commands through the management socket; those that are off do nothing."""

    release: bool = False
    parameters: bool = False
    rssi: bool = False
    power: bool = False
    command: Command = command
    connected_on: Callable[[str], int | None] = connected_on
    adapters: Callable[[], list[Adapter]] = adapters

    async def switch_on(self, adapter: int) -> None:
        """Switch an adapter on.

        Raises:
            OSError: This machine has no management socket.
            ManagementError: The kernel refused, as it does when rfkill blocks it.
        """
        if self.power:
            status, _ = await self.command(SET_POWERED, adapter, b"\x01")
            if status != SUCCESS:
                raise ManagementError(f"not switched on: status {status:#04x}")

    async def disconnect(self, address: str) -> None:
        """End our connection to a battery; return when it is disconnected.

        Raises:
            OSError: This machine has no management socket.
            ManagementError: The kernel did not do it.
        """
        adapter = self.connected_on(address) if self.release else None
        if adapter is None:
            return
        for kind in KINDS:
            status, _ = await self.command(DISCONNECT, adapter, _device(address, kind))
            if status == SUCCESS:
                return
            if status != NOT_CONNECTED:
                raise ManagementError(f"not disconnected: status {status:#04x}")

    async def load_parameters(self, addresses: Iterable[str]) -> None:
        """Give the next connection to each battery a fast connection interval.

        All batteries at once: on kernels before 6.11 each call clears what an earlier one loaded.

        Raises:
            OSError: This machine has no management socket.
            ManagementError: The kernel refused.
        """
        if not self.parameters:
            return
        entries = [_device(address, kind) + FAST for address in addresses for kind in KINDS]
        payload = struct.pack("<H", len(entries)) + b"".join(entries)
        for adapter in self.adapters():
            if not adapter.up:
                continue
            status, _ = await self.command(LOAD_CONNECTION_PARAMETERS, adapter.index, payload)
            if status != SUCCESS:
                raise ManagementError(f"connection parameters not loaded: status {status:#04x}")

    async def rssi_dbm(self, address: str) -> int | None:
        """Return the signal strength of a connected battery; None: unknown.

        Raises:
            OSError: This machine has no management socket.
            ManagementError: The kernel did not answer.
        """
        adapter = self.connected_on(address) if self.rssi else None
        if adapter is None:
            return None
        for kind in KINDS:
            status, data = await self.command(
                GET_CONNECTION_INFORMATION, adapter, _device(address, kind)
            )
            if status == SUCCESS and data[7:]:
                (rssi,) = struct.unpack_from("<b", data, 7)  # after address and type
                return None if rssi == UNKNOWN_RSSI else int(rssi)
        return None


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
