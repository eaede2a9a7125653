"""The settings of an adapter that prevent a connection or change what a connect does.

Source: BlueZ, doc/mgmt-api.txt (Read Controller Information, which needs no capability); Linux,
net/bluetooth/mgmt.c (mgmt_untrusted_commands, get_current_settings).
"""

import errno
import struct
from contextlib import suppress
from enum import IntFlag
from socket import socket
from typing import Final

from exporter.ble.direct.kernel import Kernel
from exporter.ble.direct.management import SUCCESS, Command, ManagementError
from exporter.ble.direct.sockets import ANY_ADDRESS, Adapter
from exporter.errors import AdapterError

READ_CONTROLLER_INFORMATION: Final = 0x0004
INVALID_INDEX: Final = 0x11
CURRENT: Final = 13  # of the current settings in the answer: after address, versions, supported


class Setting(IntFlag):
    """The current settings that matter for a connect; others are kept as they are."""

    LOW_ENERGY = 1 << 9
    ADVERTISING = 1 << 10
    PRIVACY = 1 << 13
    STATIC_ADDRESS = 1 << 15


UNMANAGED: Final = (
    "{adapter} is not configured, or another program uses it for itself alone (a user channel): "
    "bluetoothctl list does not show it. End that program, or use another adapter"
)
NOT_MANAGED: Final = Setting(0)  # an adapter that is switched on has at least the bit for that


async def read_settings(command: Command, adapter: int) -> Setting | None:
    """Return the current settings of an adapter; None: unknown.

    The kernel manages none that is not configured, or that a program uses for itself alone.
    """
    try:
        status, data = await command(READ_CONTROLLER_INFORMATION, adapter, b"")
    except (OSError, ManagementError):
        return None
    if status == INVALID_INDEX:
        return NOT_MANAGED
    if status != SUCCESS or len(data) < CURRENT + 4:
        return None
    return Setting(struct.unpack_from("<I", data, CURRENT)[0])


async def find_adapter(kernel: Kernel, command: Command, name: str | None, address: str) -> Adapter:
    """Return the adapter to connect over; see `Kernel.find_adapter`.

    Raises:
        AdapterError: It is missing, switched off, or used by another program alone.
    """
    try:
        return kernel.find_adapter(name, address)
    except AdapterError:
        with suppress(OSError):
            for one in kernel.adapters():
                is_meant = name in {None, one.name} and not one.up
                if is_meant and await read_settings(command, one.index) == NOT_MANAGED:
                    message = UNMANAGED.format(adapter=one.name)
                    raise AdapterError(f"{message} (connect to {address})") from None
        raise


async def open_channel(
    kernel: Kernel, command: Command, adapter: Adapter, address: str, address_type: int
) -> socket:
    """Connect to a battery through this adapter; see `sockets.open_att_channel`.

    The kernel looks for the adapter by its identity. That is another than the public address if a
    static one is set, and no interface gives it. Without an address it takes the first adapter
    that is switched on.
    """
    try:
        return await kernel.open_channel(address, address_type, adapter.address)
    except OSError as error:
        if error.errno != errno.EHOSTUNREACH or [one for one in kernel.adapters() if one.up] != [
            adapter
        ]:
            raise
        settings = await read_settings(command, adapter.index)
        if settings is None or Setting.STATIC_ADDRESS not in settings:
            raise
    return await kernel.open_channel(address, address_type, ANY_ADDRESS)
