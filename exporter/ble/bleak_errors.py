"""Translates the exceptions of bleak and D-Bus into errors with advice."""

from typing import Final

from bleak.exc import (
    BleakBluetoothNotAvailableError,
    BleakBluetoothNotAvailableReason,
    BleakDBusError,
    BleakError,
)
from dbus_fast.errors import DBusFastError

from exporter.errors import AdapterError, Cause, ConnectError, LinkError

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
# bluetoothd's answer to a scan that the kernel refuses. The text tells it apart from "In Progress".
BUSY: Final = ("org.bluez.Error.InProgress", "Operation already in progress")
NOT_READY: Final = "org.bluez.Error.NotReady"
# bluetoothd has dropped its object of the battery: only a scan finds it again.
FORGOTTEN: Final = ("UnknownObject", "not found")
# D-Bus failed to start bluetoothd.
CANNOT_START: Final = "org.freedesktop.DBus.Error.Spawn."
DBUS_ADVICE: Final = {
    "org.freedesktop.DBus.Error.ServiceUnknown": NOT_RUNNING,
    "org.freedesktop.DBus.Error.NameHasNoOwner": NOT_RUNNING,
    "org.freedesktop.DBus.Error.AccessDenied": "no permission to talk to bluetoothd: add the user "
    "to the group bluetooth",
    NOT_READY: SWITCHED_OFF,
}


def _advice(error: BleakDBusError) -> str | None:
    if error.dbus_error.startswith(CANNOT_START):
        return NOT_RUNNING
    return DBUS_ADVICE.get(error.dbus_error)


def is_busy(error: Exception) -> bool:
    """Return whether bluetoothd refused a scan because the kernel did."""
    return (
        isinstance(error, BleakDBusError) and (error.dbus_error, error.dbus_error_details) == BUSY
    )


def adapter_error(error: Exception, doing: str) -> AdapterError:
    """Return an error with advice for a failure that concerns the whole adapter."""
    cause: Cause | None = Cause.MACHINE
    if isinstance(error, BleakBluetoothNotAvailableError):
        advice = ADAPTER_ADVICE.get(error.reason)
        cause = None  # for all ways to a battery: they need the adapter
    elif isinstance(error, BleakDBusError):
        advice = _advice(error)
        if advice is None or error.dbus_error == NOT_READY:
            cause = None
    elif isinstance(error, FileNotFoundError | ConnectionRefusedError):
        advice = (
            "no D-Bus: is dbus installed and running? In a container, mount "
            "/run/dbus/system_bus_socket"
        )
    elif isinstance(error, PermissionError):
        advice = ADAPTER_ADVICE[BleakBluetoothNotAvailableReason.DENIED_BY_SYSTEM]
    elif isinstance(error, DBusFastError):
        advice = "no D-Bus: is DBUS_SYSTEM_BUS_ADDRESS right?"
    else:
        advice = None
        cause = None
    message = f"{advice} ({doing}: {text(error)})" if advice else f"{doing}: {text(error)}"
    return AdapterError(message, cause)


def translate(error: Exception, doing: str) -> LinkError:
    """Return the error for a failed attempt to connect."""
    root = error.__cause__ if isinstance(error.__cause__, Exception) else error
    if isinstance(
        root, BleakBluetoothNotAvailableError | FileNotFoundError | ConnectionRefusedError
    ) or (isinstance(root, BleakDBusError) and _advice(root) is not None):
        return adapter_error(root, doing)
    failed = ConnectError(f"{doing}: {text(root)}")
    if any(words in text(root) for words in FORGOTTEN):
        failed.cause = None
    elif "discover services" in text(root):
        failed.cause = Cause.GATT
    return failed


def describe(error: BaseException | None) -> dict[str, str | None]:
    """Return an error of bleak as JSON has it, for recordings."""
    reason = error.reason if isinstance(error, BleakBluetoothNotAvailableError) else None
    return {
        "error": type(error).__name__,
        "dbus": error.dbus_error if isinstance(error, BleakDBusError) else None,
        "reason": None if reason is None else reason.name,
        "text": (error.dbus_error_details if isinstance(error, BleakDBusError) else str(error)),
    }


def text(error: Exception) -> str:
    """Return the message of an error, or the name of its class if it has none."""
    if isinstance(error, BleakBluetoothNotAvailableError):
        return str(error.args[0])  # str() would show the reason's enum member too
    if isinstance(error, OSError) and error.strerror:
        return error.strerror  # without Python's [Errno 2]
    if isinstance(error, TimeoutError) and not str(error):
        return "no answer in time"
    return str(error) or type(error).__name__
