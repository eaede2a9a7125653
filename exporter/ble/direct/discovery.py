"""GATT discovery without I/O: finds the handles of the known profiles in a battery's table.

Source: Bluetooth Core Specification 5.4, volume 3, part G (GATT).
"""

import struct
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from exporter.ble.direct.att import ERROR, AttError, checked
from exporter.protocol.profiles import Profile

FIND_INFORMATION: Final = 0x04
READ_BY_TYPE: Final = 0x08
READ_BY_GROUP_TYPE: Final = 0x10
ATTRIBUTE_NOT_FOUND: Final = 0x0A

PRIMARY_SERVICE: Final = 0x2800
CHARACTERISTIC: Final = 0x2803
SUBSCRIPTION: Final = 0x2902  # the client characteristic configuration descriptor

LAST_HANDLE: Final = 0xFFFF
CAN_WRITE_COMMAND: Final = 0x04
CAN_NOTIFY: Final = 0x10


@dataclass(frozen=True, slots=True, kw_only=True)
class Handles:
    """The handles of one profile in a battery's GATT table."""

    notify: int  # of the value
    subscription: int
    write: int  # of the value
    can_write_command: bool


@dataclass(frozen=True, slots=True)
class Table:
    """The result of discovery."""

    services: tuple[str, ...]  # the UUIDs of all of them
    profiles: Mapping[str, Handles]  # by the profile's name


Discovery = Generator[bytes, bytes, Table]
"""Yields requests, receives their responses, returns the table."""


def discover(wanted: Mapping[str, Profile]) -> Discovery:
    """Find all services, and the characteristics of the wanted ones.

    Raises:
        PairingError: The battery wants pairing.
        AttError: It refused a request for another reason, or its answer is malformed.
    """
    services = []
    for _, value in (yield from _read_all(READ_BY_GROUP_TYPE, PRIMARY_SERVICE, 1, LAST_HANDLE)):
        start, end = _handle(value, 0), _handle(value, 2)
        services.append((_uuid(value[4:]), start, end))
    profiles = {}
    for name, profile in wanted.items():
        for uuid, start, end in services:
            if uuid == profile.service and name not in profiles:
                handles = yield from _characteristics(profile, start, end)
                if handles is not None:
                    profiles[name] = handles
    return Table(tuple(uuid for uuid, _, _ in services), profiles)


def _characteristics(
    profile: Profile, start: int, end: int
) -> Generator[bytes, bytes, Handles | None]:
    found = {}
    declared = yield from _read_all(READ_BY_TYPE, CHARACTERISTIC, start, end)
    ends = [at - 1 for at, _ in declared[1:]] + [end] * bool(declared)
    for (_, declaration), last in zip(declared, ends, strict=True):
        # handle of the declaration, properties, handle of the value, UUID
        found[_uuid(declaration[5:])] = (declaration[2], _handle(declaration, 3), last)
    if not {profile.notify, profile.write} <= set(found):
        return None
    notify_properties, notify, last = found[profile.notify]
    properties, write, _ = found[profile.write]
    subscription = yield from _descriptor(SUBSCRIPTION, notify + 1, last)
    if subscription is None or not notify_properties & CAN_NOTIFY:
        return None
    return Handles(
        notify=notify,
        subscription=subscription,
        write=write,
        can_write_command=bool(properties & CAN_WRITE_COMMAND),
    )


def _read_all(
    opcode: int, kind: int, start: int, end: int
) -> Generator[bytes, bytes, list[tuple[int, bytes]]]:
    """Return handle and entry of every attribute of one type; an entry starts with its handle."""
    found: list[tuple[int, bytes]] = []
    last_at = 2 if opcode == READ_BY_GROUP_TYPE else 0  # a service names its last handle
    while start <= end:
        answer = yield struct.pack("<BHHH", opcode, start, end, kind)
        if _is_end(answer):
            break
        entries = list(_entries(checked(answer), answer[1] if answer[1:] else 0))
        if _handle(entries[-1], last_at) < start:
            raise AttError(f"malformed answer to {opcode:#04x}: handles that do not ascend")
        start = _handle(entries[-1], last_at) + 1
        found += [(_handle(entry, 0), entry) for entry in entries]
    return found


def _descriptor(kind: int, start: int, end: int) -> Generator[bytes, bytes, int | None]:
    """Return the handle of the first descriptor of one type, None when there is none."""
    while start <= end:
        answer = yield struct.pack("<BHH", FIND_INFORMATION, start, end)
        if _is_end(answer):
            break
        checked(answer)
        size = {1: 4, 2: 18}.get(answer[1] if answer[1:] else 0, 0)  # handle and UUID
        for entry in _entries(answer, size):
            if _handle(entry, 0) < start:
                raise AttError("malformed answer to 0x04: handles that do not ascend")
            if entry[2:] == kind.to_bytes(2, "little"):
                return _handle(entry, 0)
            start = _handle(entry, 0) + 1
    return None


def _is_end(answer: bytes) -> bool:
    return answer[0] == ERROR and answer[4] == ATTRIBUTE_NOT_FOUND


def _entries(answer: bytes, size: int) -> Iterator[bytes]:
    body = answer[2:]
    if size < 4 or not body or len(body) % size:  # noqa: PLR2004 - two handles, or one and a UUID
        raise AttError(f"malformed answer {answer[0]:#04x}: {answer.hex()}")
    return (body[at : at + size] for at in range(0, len(body), size))


def _handle(entry: bytes, at: int) -> int:
    return int.from_bytes(entry[at : at + 2], "little")


def _uuid(raw: bytes) -> str:
    """Return a UUID as text, from its 2 or 16 bytes, last byte first.

    Raises:
        AttError: It has another length.
    """
    if len(raw) == 2:  # noqa: PLR2004
        return f"0000{raw[::-1].hex()}-0000-1000-8000-00805f9b34fb"
    if len(raw) != 16:  # noqa: PLR2004
        raise AttError(f"malformed UUID: {raw.hex()}")
    digits = raw[::-1].hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
