"""Requests to bluetoothd for which bleak has no interface, through bleak's internals.

D-Bus and its libraries take 4 MiB (`make bench-small`). A process that reads its batteries over the
direct link does not load them.
"""

import logging
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress

from bleak.backends.bluezdbus.defs import ADAPTER_INTERFACE
from bleak.backends.bluezdbus.manager import get_global_bluez_manager
from bleak.backends.device import BLEDevice
from bleak.exc import BleakBluetoothNotAvailableError, BleakBluetoothNotAvailableReason
from bleak_retry_connector import close_stale_connections_by_address, get_device
from bleak_retry_connector.bluez import get_connected_devices

from exporter.ble.bleak_errors import BLEAK_ERRORS, text, translate
from exporter.ble.timeouts import ANSWER_S, with_timeout

log = logging.getLogger(__name__)


async def follow(device: BLEDevice, changed: Callable[[bool], None], stack: AsyncExitStack) -> None:
    """Call `changed` when bluetoothd connects or loses a battery, until the stack ends.

    Raises:
        LinkError: bluetoothd is gone, or has forgotten the battery since it was found.
    """
    try:
        manager = await get_global_bluez_manager()
        watcher = manager.add_device_watcher(
            device.details["path"],
            on_connected_changed=changed,
            on_characteristic_value_changed=lambda _path, _value: None,
        )
    except BLEAK_ERRORS as error:
        raise translate(error, f"connect to {device.address}") from error
    stack.callback(manager.remove_device_watcher, watcher)


async def is_connected(address: str) -> bool:
    """Return whether bluetoothd is connected to a battery, for any program. Never raises."""
    try:
        device = await with_timeout(get_device(address), ANSWER_S)
        if device is None:
            return False
        return bool(await with_timeout(get_connected_devices(device), ANSWER_S))
    except BLEAK_ERRORS as error:
        log.debug("connections not listed", extra={"error": text(error)})
        return False


async def is_paired(address: str) -> bool:
    """Return whether bluetoothd has paired with a battery. Never raises."""
    try:
        manager = await with_timeout(get_global_bluez_manager(), ANSWER_S)
        name = f"dev_{address.replace(':', '_')}"
        paths = [path for path in manager._properties if path.endswith(name)]  # noqa: SLF001
        return any(manager.is_paired(path) for path in paths)
    except BLEAK_ERRORS as error:
        log.debug("pairing unknown", extra={"error": text(error)})
        return False


async def free(address: str) -> None:
    """Have bluetoothd drop its connection to a battery, if it has one. Never raises."""
    try:
        await with_timeout(close_stale_connections_by_address(address), ANSWER_S)
    except BLEAK_ERRORS as error:
        log.debug("no stale connection dropped", extra={"error": text(error)})


async def is_off_on_purpose() -> bool:
    """Return whether bluetoothd runs and has switched Bluetooth off."""
    try:
        manager = await with_timeout(get_global_bluez_manager(), ANSWER_S)
        manager.get_default_adapter()
    except BleakBluetoothNotAvailableError as error:
        return error.reason is BleakBluetoothNotAvailableReason.POWERED_OFF
    except BLEAK_ERRORS:
        return False
    return True


async def find_default_adapter() -> str | None:
    """Return the name of the adapter that bleak uses if none is named; None: there is none."""
    try:
        manager = await with_timeout(get_global_bluez_manager(), ANSWER_S)
        return manager.get_default_adapter().split("/")[3]
    except BLEAK_ERRORS:
        return None


async def is_discovering(adapter: str) -> bool:
    """Return whether bluetoothd runs and scans on this adapter, for any program."""
    try:
        manager = await with_timeout(get_global_bluez_manager(), ANSWER_S)
        properties = manager._properties[f"/org/bluez/{adapter}"]  # noqa: SLF001 - as `forget`
        return bool(properties[ADAPTER_INTERFACE]["Discovering"])
    except BLEAK_ERRORS:
        return False


async def forget_table(path: str) -> None:
    """Read a device's GATT table from bluetoothd at the next connect: bleak keeps it otherwise.

    bleak's copy outlives a table that was incomplete. bluetoothd notices by itself. Never raises.
    """
    with suppress(*BLEAK_ERRORS):  # without bluetoothd there is no copy either
        manager = await with_timeout(get_global_bluez_manager(), ANSWER_S)
        manager._services_cache.pop(path, None)  # noqa: SLF001 - as `forget`


async def forget() -> None:
    """Drop everything that bleak has cached: it does not notice that bluetoothd was killed."""
    manager = await get_global_bluez_manager()
    if manager._bus is not None:  # noqa: SLF001 - bleak has no public way
        manager._bus.disconnect()  # noqa: SLF001
