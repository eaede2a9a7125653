"""Reads raw advertisements, as a proxy forwards them: bytes in, facts out."""

from collections.abc import Iterator
from typing import Final

from exporter.protocol.advertisement import Advertisement

MAX_DATA: Final = 255  # bytes; an ESP32 sends up to 62: an advertisement and its scan response
MAX_ADDRESS: Final = 0xFFFF_FFFF_FFFF
RSSI_DBM: Final = range(-127, 21)  # Core Specification: 127 means unknown
ADDRESS_TYPES: Final = ("public", "random")
# Types of the fields (Assigned Numbers, 2.3), and the bytes of each UUID in them.
UUID_BYTES: Final = {0x02: 2, 0x03: 2, 0x04: 4, 0x05: 4, 0x06: 16, 0x07: 16}
SHORT_NAME: Final = 0x08
NAME: Final = 0x09
MANUFACTURER: Final = 0xFF
BASE_UUID: Final = "-0000-1000-8000-00805f9b34fb"


def format_address(address: int) -> str:
    """Return an address in upper case with colons."""
    return address.to_bytes(6, "big").hex(":").upper()


def parse_address(address: str) -> int:
    """Return the number that the library uses for an address."""
    return int(address.replace(":", ""), 16)


def is_plausible(address: int, rssi_dbm: int, data: bytes) -> bool:
    """Return whether a radio can have received this: the proxy is not trusted."""
    return 0 < address <= MAX_ADDRESS and rssi_dbm in RSSI_DBM and len(data) <= MAX_DATA


def read_raw(address: str, rssi_dbm: int, address_type: int, data: bytes) -> Advertisement:
    """Return the facts in an advertisement; fields that are cut off or unknown are left out."""
    name = short_name = b""
    uuids: set[str] = set()
    makers: dict[int, bytes] = {}
    for kind, value in _fields(data):
        if kind == NAME:
            name = value
        elif kind == SHORT_NAME:
            short_name = value
        elif kind == MANUFACTURER and len(value) > 1:
            makers[int.from_bytes(value[:2], "little")] = value[2:]
        elif size := UUID_BYTES.get(kind):
            uuids.update(_uuids(value, size))
    return Advertisement(
        address=address,
        name=(name or short_name).decode(errors="replace").strip(" \0"),
        rssi_dbm=rssi_dbm,
        service_uuids=frozenset(uuids),
        manufacturer_data=makers,
        address_type=ADDRESS_TYPES[address_type & 1],
    )


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and value of each field; each begins with its length."""
    at = 0
    while at + 1 < len(data):
        end = at + 1 + data[at]
        if end > len(data):
            return
        if data[at]:
            yield data[at + 1], data[at + 2 : end]
        at = end


def _uuids(value: bytes, size: int) -> Iterator[str]:
    for at in range(0, len(value) - size + 1, size):
        digits = value[at : at + size][::-1].hex()
        if size <= 4:  # noqa: PLR2004 - a short form
            yield f"{digits:0>8}{BASE_UUID}"
        else:
            yield "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
