"""bleak's errors and GATT tables, made from the lines of a recording."""

from typing import Final, cast

from bleak.assigned_numbers import CharacteristicPropertyName
from bleak.backends.characteristic import BleakGATTCharacteristic
from bleak.backends.service import BleakGATTService, BleakGATTServiceCollection
from bleak.exc import (
    BleakBluetoothNotAvailableError,
    BleakBluetoothNotAvailableReason,
    BleakDBusError,
    BleakError,
)

from exporter.ble.bleak_connection import UNKNOWN_OBJECT
from exporter.recording.session import Event
from exporter.replay.script import read_services

MTU: Final = 23
BUILT_IN: Final = {
    kind.__name__: kind
    for kind in (
        TimeoutError,
        FileNotFoundError,
        ConnectionRefusedError,
        PermissionError,
        EOFError,
        AttributeError,
        AssertionError,
        KeyError,
    )
}


def make_error(event: Event) -> Exception:
    """Return an error like the one that bleak raised; it touches no bus."""
    dbus, text = event.get("dbus", str, ""), event.get("text", str, "")
    reason, kind = event.get("reason", str, ""), event.get("error", str, "")
    if reason in BleakBluetoothNotAvailableReason.__members__:
        return BleakBluetoothNotAvailableError(text, BleakBluetoothNotAvailableReason[reason])
    if dbus and dbus != UNKNOWN_OBJECT:  # for that one bleak's cache of bluetoothd is dropped
        return BleakDBusError(dbus, [text])
    return BUILT_IN.get(kind, BleakError)(text)


def make_table(event: Event | None) -> BleakGATTServiceCollection:
    """Return the recorded GATT table, with handles of its own."""
    table = BleakGATTServiceCollection()
    handle = 0
    for service_uuid, characteristics in ({} if event is None else read_services(event)).items():
        handle += 1
        service = BleakGATTService(None, handle, service_uuid)
        table.add_service(service)
        for uuid, properties in characteristics.items():
            handle += 2
            names = cast("list[CharacteristicPropertyName]", list(properties))
            table.add_characteristic(
                BleakGATTCharacteristic(None, handle, uuid, names, lambda: MTU - 3, service)
            )
    return table
