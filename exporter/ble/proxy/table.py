"""Finds the profiles in the GATT table that a proxy reports, which may be anything."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from aioesphomeapi.model import BluetoothGATTCharacteristic, BluetoothGATTService

from exporter.errors import Cause, ConnectError
from exporter.protocol.profiles import PROFILES

CCCD: Final = "00002902-0000-1000-8000-00805f9b34fb"
MAX_HANDLE: Final = 0xFFFF
MAX_SERVICES: Final = 100
MAX_CHARACTERISTICS: Final = 500  # in all
# Characteristic properties (Core Specification, Vol 3, Part G, 3.3.1.1) that matter here.
PROPERTIES: Final = {
    0x02: "read", 0x04: "write-without-response", 0x08: "write", 0x10: "notify", 0x20: "indicate",
}  # fmt: skip
WRITE_COMMAND: Final = 0x04


@dataclass(frozen=True, slots=True)
class Handles:
    """The handles of one profile."""

    notify: int
    subscription: int
    write: int
    can_write_command: bool


def find_profiles(services: Sequence[BluetoothGATTService]) -> Mapping[str, Handles]:
    """Return the known profiles in a table.

    Raises:
        ConnectError: The table is too large, or a profile in it is incomplete.
    """
    count = sum(len(service.characteristics) for service in services)
    if len(services) > MAX_SERVICES or count > MAX_CHARACTERISTICS:
        raise ConnectError(
            f"its GATT table has {len(services)} services and {count} characteristics, which no "
            "battery has",
            Cause.GATT,
        )
    found = {}
    for name, profile in PROFILES.items():
        for service in services:
            notify = _find(service.characteristics, profile.notify)
            write = _find(service.characteristics, profile.write)
            if service.uuid == profile.service and notify and write:
                found[name] = _make_handles(notify, write)
    return found


def describe(services: Iterable[BluetoothGATTService]) -> dict[str, dict[str, list[str]]]:
    """Return the properties by characteristic by service, for recordings."""
    return {
        service.uuid: {
            one.uuid: [text for bit, text in PROPERTIES.items() if one.properties & bit]
            for one in service.characteristics
        }
        for service in services
    }


def _find(
    characteristics: Iterable[BluetoothGATTCharacteristic], uuid: str
) -> BluetoothGATTCharacteristic | None:
    return next((one for one in characteristics if one.uuid == uuid), None)


def _make_handles(
    notify: BluetoothGATTCharacteristic, write: BluetoothGATTCharacteristic
) -> Handles:
    subscription = next((one.handle for one in notify.descriptors if one.uuid == CCCD), 0)
    handles = Handles(
        notify.handle, subscription, write.handle, bool(write.properties & WRITE_COMMAND)
    )
    if not subscription:
        raise ConnectError(
            "the GATT table that the proxy keeps of it has no descriptor for notifications: set "
            "bluetooth_proxy: cache_services: false in the YAML of the proxy",
            Cause.GATT,
        )
    if not all(0 < one <= MAX_HANDLE for one in (handles.notify, subscription, handles.write)):
        raise ConnectError("its GATT table has impossible handles", Cause.GATT)
    return handles
