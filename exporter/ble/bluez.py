"""What bluetoothd alone is asked, through bleak's insides; loaded by those who use it.

D-Bus and all that belongs to it take 4 MiB (`make bench-small`), which nobody needs whose batteries
are read over the direct link.
"""

from collections.abc import Callable
from contextlib import AsyncExitStack

from bleak.backends.bluezdbus.manager import get_global_bluez_manager
from bleak.backends.device import BLEDevice
from bleak.exc import BleakBluetoothNotAvailableError, BleakBluetoothNotAvailableReason
from bleak_retry_connector import close_stale_connections_by_address

from exporter.ble.bleak_errors import bleak_errors, translate
from exporter.ble.scanner import ANSWER_S
from exporter.ble.timeouts import within


async def watch(device: BLEDevice, changed: Callable[[bool], None], stack: AsyncExitStack) -> None:
    """Have bluetoothd tell when a battery is connected and when not, until the stack ends.

    Raises:
        LinkError: bluetoothd has gone, or has forgotten the battery since it was found.
    """
    try:
        manager = await get_global_bluez_manager()
        watcher = manager.add_device_watcher(
            device.details["path"],
            on_connected_changed=changed,
            on_characteristic_value_changed=lambda _path, _value: None,
        )
    except bleak_errors() as error:
        raise translate(error, f"connect to {device.address}") from error
    stack.callback(manager.remove_device_watcher, watcher)


async def free(address: str) -> None:
    """Have bluetoothd drop its connection to a battery. Raises `bleak_errors()`."""
    await within(close_stale_connections_by_address(address), ANSWER_S)


async def is_off_on_purpose() -> bool:
    """Whether there is a bluetoothd, and it says that Bluetooth is off."""
    try:
        manager = await within(get_global_bluez_manager(), ANSWER_S)
        manager.get_default_adapter()
    except BleakBluetoothNotAvailableError as error:
        return error.reason is BleakBluetoothNotAvailableReason.POWERED_OFF
    except bleak_errors():
        return False
    return True


async def forget() -> None:
    """Have bleak ask for everything anew: it did not notice that bluetoothd was killed.

    It would take a battery for connected, and its characteristics for present.
    """
    manager = await get_global_bluez_manager()
    if manager._bus is not None:  # noqa: SLF001 - it has no other way to be told
        manager._bus.disconnect()  # noqa: SLF001
