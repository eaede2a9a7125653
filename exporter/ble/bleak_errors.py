"""Translates the exceptions of bleak and D-Bus into errors with advice."""

from typing import Final

from bleak.exc import (
    BleakBluetoothNotAvailableError,
    BleakBluetoothNotAvailableReason,
    BleakDBusError,
    BleakError,
)
from dbus_fast.errors import DBusFastError

from exporter.errors import AdapterError, ConnectError, LinkError

# Not every failure is a BleakError. TimeoutError and a missing bus are OSErrors. A bus that ends
# during a call causes EOFError or, as bleak's own state is gone, AttributeError, AssertionError or
# KeyError. All of them are caught around single calls of bleak only.
BLEAK_ERRORS: Final[tuple[type[Exception], ...]] = (
    BleakError,
    DBusFastError,
    OSError,
    EOFError,
    AttributeError,
    AssertionError,
    KeyError,
    UnicodeDecodeError,
)

NOT_RUNNING: Final = "bluetoothd is not running: run systemctl start bluetooth"
SWITCHED_OFF: Final = (
    "Bluetooth is switched off: run bluetoothctl power on, or rfkill unblock bluetooth"
)
ADAPTER_ADVICE: Final = {
    BleakBluetoothNotAvailableReason.NO_BLUETOOTH: "no Bluetooth adapter: does bluetoothctl list "
    "show one, and is bluetoothd running (systemctl status bluetooth)?",
    BleakBluetoothNotAvailableReason.NO_BLE_CENTRAL_ROLE: "the Bluetooth adapter cannot do "
    "Bluetooth Low Energy: use another one",
    BleakBluetoothNotAvailableReason.POWERED_OFF: SWITCHED_OFF,
    BleakBluetoothNotAvailableReason.DENIED_BY_SYSTEM: "no permission to use D-Bus: add the user "
    "to the group bluetooth",
}
# D-Bus failed to start bluetoothd.
CANNOT_START: Final = "org.freedesktop.DBus.Error.Spawn."
DBUS_ADVICE: Final = {
    "org.freedesktop.DBus.Error.ServiceUnknown": NOT_RUNNING,
    "org.freedesktop.DBus.Error.NameHasNoOwner": NOT_RUNNING,
    "org.freedesktop.DBus.Error.AccessDenied": "no permission to talk to bluetoothd: add the user "
    "to the group bluetooth",
    "org.bluez.Error.NotReady": SWITCHED_OFF,
}


def _advice(error: BleakDBusError) -> str | None:
    if error.dbus_error.startswith(CANNOT_START):
        return NOT_RUNNING
    return DBUS_ADVICE.get(error.dbus_error)


def adapter_error(error: Exception, doing: str) -> AdapterError:
    """Return an error with advice for a failure that concerns the whole adapter."""
    advice = None
    if isinstance(error, BleakBluetoothNotAvailableError):
        advice = ADAPTER_ADVICE.get(error.reason)
    elif isinstance(error, BleakDBusError):
        advice = _advice(error)
    elif isinstance(error, FileNotFoundError | ConnectionRefusedError):
        advice = (
            "no D-Bus: is dbus installed and running? In a container, mount "
            "/run/dbus/system_bus_socket"
        )
    elif isinstance(error, PermissionError):
        advice = ADAPTER_ADVICE[BleakBluetoothNotAvailableReason.DENIED_BY_SYSTEM]
    elif isinstance(error, DBusFastError):
        advice = "no D-Bus: is DBUS_SYSTEM_BUS_ADDRESS right?"
    failure = f"{doing}: {text(error)}"
    return AdapterError(f"{advice} ({failure})" if advice else failure)


def translate(error: Exception, doing: str) -> LinkError:
    """Return the error for a failed attempt to connect."""
    cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
    adapter = isinstance(
        cause, BleakBluetoothNotAvailableError | FileNotFoundError | ConnectionRefusedError
    ) or (isinstance(cause, BleakDBusError) and _advice(cause) is not None)
    return adapter_error(cause, doing) if adapter else ConnectError(f"{doing}: {text(error)}")


def text(error: Exception) -> str:
    """Return the message of an error, or the name of its class if it has none."""
    if isinstance(error, BleakBluetoothNotAvailableError):
        return str(error.args[0])  # str() would show the reason's enum member too
    return str(error) or type(error).__name__
