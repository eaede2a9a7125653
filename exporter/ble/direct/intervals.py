"""Keeps the entries of the kernel's list of connection parameters that batteries need.

Source: Linux, net/bluetooth/mgmt.c (load_conn_param), hci_core.c (hci_conn_params_clear_disabled).
A command with several entries removes all others, and those of other programs with them. From Linux
6.11 one with a single entry only changes it if it exists. So all batteries are loaded once, and
later the one that is connected to. Before, every command removes the others; it keeps those of
batteries that are waited for.
"""

import errno
import struct
from collections.abc import Awaitable, Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from exporter.ble.direct.sockets import PUBLIC, RANDOM, packed

KINDS: Final = (PUBLIC, RANDOM)  # of addresses; a command for the wrong one does nothing
MOST_BATTERIES: Final = 34  # in one command of 1,028 bytes, with both kinds of address

# 7.5 to 11.25 ms in units of 1.25 ms, no event left out, lost after 4 s in units of 10 ms.
# BlueZ's own default is 30 to 50 ms.
FAST: Final = struct.pack("<HHHH", 6, 9, 0, 400)
KERNELS_OWN: Final = struct.pack("<HHHH", 24, 40, 0, 400)  # 30 to 50 ms

Send = Callable[[int, bytes], Awaitable[object]]
"""Adapter and payload of Load Connection Parameters in. Raises OSError and ManagementError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The batteries that need entries."""

    addresses: Sequence[str]  # first the one to connect to
    kinds: Sequence[int]  # of which its address may be
    gentle: Container[str]  # those of them that get the kernel's own interval

    def encode(self, addresses: Iterable[str], kinds: Iterable[int]) -> bytes:
        """Return the payload for some of the batteries."""
        entries = [
            packed(address) + bytes([kind]) + (KERNELS_OWN if address in self.gentle else FAST)
            for address in addresses
            for kind in kinds
        ]
        return struct.pack("<H", len(entries)) + b"".join(entries)


class Intervals:
    """The batteries that were loaded, by adapter."""

    def __init__(self) -> None:
        self._loaded: dict[int, set[str]] = {}

    async def load(self, send: Send, adapter: int, wanted: Wanted) -> None:
        """Give the next connection to a battery its interval.

        Raises:
            OSError: As `send` does.
            ManagementError: As `send` does.
        """
        addresses = wanted.addresses
        if len(wanted.kinds) == 1 and self._loaded.get(adapter) == set(addresses):
            await send(adapter, wanted.encode(addresses[:1], wanted.kinds))
            return
        try:
            await send(adapter, wanted.encode(addresses, KINDS))
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            await send(adapter, wanted.encode(addresses[:MOST_BATTERIES], KINDS))
        self._loaded[adapter] = set(addresses)
