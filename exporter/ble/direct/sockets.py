"""The kernel's Bluetooth sockets: adapters, connections, and the ATT channel to a battery.

Source: Linux, include/net/bluetooth/{bluetooth,hci_sock,l2cap}.h. Python's socket module cannot
express these addresses before 3.14, so bind and connect are called in libc.
"""

import asyncio
import ctypes
import errno
import fcntl
import os
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

AF_BLUETOOTH: Final = 31
BTPROTO_L2CAP: Final = 0
BTPROTO_HCI: Final = 1
ATT_CHANNEL: Final = 4
PUBLIC: Final = 1
RANDOM: Final = 2
ANY_ADDRESS: Final = "00:00:00:00:00:00"
HCI_DEVICE_LIST: Final = 0x800448D2
HCI_DEVICE_INFO: Final = 0x800448D3
HCI_CONNECTION_LIST: Final = 0x800448D4
MAX_ADAPTERS: Final = 16
MAX_CONNECTIONS: Final = 32
FLAG_UP: Final = 1
LOW_ENERGY: Final = 0x80
CONNECTED: Final = 1
CONNECTING: Final = 5  # BT_CONNECT
DEVICE_INFO_SIZE: Final = 92  # struct hci_dev_info
COUNTERS: Final = 60  # of cmd_tx and evt_rx in it
CONNECTION: Final = struct.Struct("<H6sBBHI")  # handle, address, type, out, state, link mode

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Adapter:
    """A Bluetooth adapter as the kernel sees it."""

    index: int
    address: str
    up: bool  # switched on
    commands_sent: int = 0  # since it was found
    events_received: int = 0
    order: int = 0  # in which the kernel looks for an address: the newest adapter is first

    @property
    def name(self) -> str:
        """hci0 and the like."""
        return f"hci{self.index}"


def packed(address: str) -> bytes:
    """Return an address in the kernel's byte order: last byte first."""
    return bytes.fromhex(address.replace(":", ""))[::-1]


def hci_socket() -> socket.socket:
    """Open a socket for queries about adapters.

    Raises:
        OSError: This kernel, network namespace or sandbox has no Bluetooth sockets.
    """
    return socket.socket(AF_BLUETOOTH, socket.SOCK_RAW | socket.SOCK_CLOEXEC, BTPROTO_HCI)


def why_not() -> str | None:
    """Return why these sockets cannot be used; None: they can."""
    try:
        socket.socket(AF_BLUETOOTH, socket.SOCK_SEQPACKET, BTPROTO_L2CAP).close()
        adapters()
    except OSError as error:
        if error.errno == errno.EAFNOSUPPORT:
            return "no Bluetooth sockets: in a container they need the host's network"
        return f"no Bluetooth sockets: {error.strerror}"
    return None


def bind(sock: socket.socket, address: bytes) -> None:
    """Bind to a packed address. Raises OSError if the kernel refuses."""
    if _libc.bind(sock.fileno(), address, len(address)):
        _raise(ctypes.get_errno())


def adapters() -> list[Adapter]:
    """Return every adapter, switched on or not.

    Raises:
        OSError: As for hci_socket.
    """
    with hci_socket() as sock:
        request = bytearray(struct.pack("<HH", MAX_ADAPTERS, 0).ljust(4 + 8 * MAX_ADAPTERS, b"\0"))
        fcntl.ioctl(sock, HCI_DEVICE_LIST, request)
        (count,) = struct.unpack_from("<H", request)
        found = []
        listed = [struct.unpack_from("<H", request, 4 + 8 * n)[0] for n in range(count)]
        for index in sorted(listed):
            info = bytearray(struct.pack("<H", index).ljust(DEVICE_INFO_SIZE, b"\0"))
            try:
                fcntl.ioctl(sock, HCI_DEVICE_INFO, info)
            except OSError:  # unplugged since it was listed
                continue
            _, _, address, flags = struct.unpack_from("<H8s6sI", info)
            sent, received = struct.unpack_from("<II", info, COUNTERS)
            found.append(
                Adapter(
                    index,
                    address[::-1].hex(":").upper(),
                    bool(flags & FLAG_UP),
                    sent,
                    received,
                    listed.index(index),
                )
            )
    return found


def _connections(index: int) -> list[tuple[str, int, int]]:
    """Return address, type and state of every connection of an adapter, made or being made.

    Raises:
        OSError: As for hci_socket, or the adapter was pulled out.
    """
    size = 4 + CONNECTION.size * MAX_CONNECTIONS
    request = bytearray(struct.pack("<HH", index, MAX_CONNECTIONS).ljust(size, b"\0"))
    with hci_socket() as sock:
        fcntl.ioctl(sock, HCI_CONNECTION_LIST, request)
    (count,) = struct.unpack_from("<H", request, 2)
    listed = CONNECTION.iter_unpack(request[4 : 4 + CONNECTION.size * count])
    return [(peer[::-1].hex(":").upper(), kind, state) for _, peer, kind, _, state, _ in listed]


def low_energy_connections(index: int) -> list[tuple[str, int]]:
    """Return address and state of every Low Energy connection of an adapter, made or being made.

    Raises:
        OSError: As for hci_socket, or the adapter was pulled out.
    """
    return [(peer, state) for peer, kind, state in _connections(index) if kind == LOW_ENERGY]


def connected_devices(index: int) -> list[str]:
    """Return the address of every device that is connected to an adapter, keyboards included.

    Raises:
        OSError: As for hci_socket, or the adapter was pulled out.
    """
    return [peer for peer, _, state in _connections(index) if state == CONNECTED]


def connected_on(address: str) -> int | None:
    """Return the index of the adapter that is connected to this address; None: none is.

    Raises:
        OSError: As for hci_socket.
    """
    for adapter in adapters():
        with suppress(OSError):  # pulled out in this moment
            if (address, CONNECTED) in low_energy_connections(adapter.index):
                return adapter.index
    return None


async def open_att_channel(
    address: str, address_type: int, adapter_address: str = ANY_ADDRESS
) -> socket.socket:
    """Connect to a battery as soon as it advertises; wait until cancelled.

    Raises:
        OSError: The kernel refused the request, or the attempt to connect failed.
    """
    kind = socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC
    sock = socket.socket(AF_BLUETOOTH, kind, BTPROTO_L2CAP)
    try:
        sock.setblocking(False)  # noqa: FBT003 - its interface
        bind(sock, _channel_address(adapter_address, PUBLIC))
        there = _channel_address(address, address_type)
        if _libc.connect(sock.fileno(), there, len(there)):
            if (code := ctypes.get_errno()) != errno.EINPROGRESS:
                _raise(code)
            await _writable(sock)
            if code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                _raise(code)
    except BaseException:  # cancellation included: nothing else would close this socket
        sock.close()
        raise
    return sock


def _channel_address(address: str, address_type: int) -> bytes:
    """Return a struct sockaddr_l2: family, PSM, address, channel, type of the address."""
    return struct.pack("<HH6sHBx", AF_BLUETOOTH, 0, packed(address), ATT_CHANNEL, address_type)


async def _writable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    loop.add_writer(sock, done.set)
    try:
        await done.wait()
    finally:
        loop.remove_writer(sock)


def _raise(code: int) -> None:
    raise OSError(code, os.strerror(code))
