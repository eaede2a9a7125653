"""The client side of the Attribute Protocol: bytes to facts, without I/O.

Source: Bluetooth Core Specification 5.4, volume 3, part F (ATT) and part G (GATT).

One request is under way at a time; a command needs no answer. The server may notify, indicate, and
ask questions of its own, in between.
"""

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from exporter.protocol.profiles import Profile

ERROR: Final = 0x01
MTU_REQUEST: Final = 0x02
MTU_RESPONSE: Final = 0x03
FIND_INFORMATION: Final = 0x04
READ_BY_TYPE: Final = 0x08
READ_BY_GROUP_TYPE: Final = 0x10
WRITE: Final = 0x12
NOTIFICATION: Final = 0x1B
INDICATION: Final = 0x1D
CONFIRMATION: Final = 0x1E
WRITE_COMMAND: Final = 0x52
COMMAND_FLAG: Final = 0x40
FIRST_AFTER_REQUESTS: Final = 0x1B  # below it, even opcodes ask and odd ones answer

REQUEST_NOT_SUPPORTED: Final = 0x06
ATTRIBUTE_NOT_FOUND: Final = 0x0A
INSUFFICIENT: Final = {0x05: "authentication", 0x08: "authorization", 0x0F: "encryption"}

PRIMARY_SERVICE: Final = 0x2800
CHARACTERISTIC: Final = 0x2803
SUBSCRIPTION: Final = 0x2902  # the client characteristic configuration descriptor
SUBSCRIBE: Final = b"\x01\x00"

DEFAULT_MTU: Final = 23
OUR_MTU: Final = 517  # no notification is longer
LAST_HANDLE: Final = 0xFFFF
CAN_WRITE_COMMAND: Final = 0x04
CAN_WRITE: Final = 0x08
CAN_NOTIFY: Final = 0x10


class AttError(Exception):
    """The server refused a request, or answered it with nonsense."""

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code

    @property
    def wants_pairing(self) -> bool:
        """Whether the refusal is about authentication or encryption."""
        return self.code in INSUFFICIENT


@dataclass(frozen=True, slots=True)
class Notification:
    """A value that came unasked, from the characteristic whose value has this handle."""

    handle: int
    value: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """The whole PDU that ends the request under way."""

    pdu: bytes


@dataclass(frozen=True, slots=True)
class Reaction:
    """What must be sent because of what came."""

    pdu: bytes


Event = Notification | Answer | Reaction


class Att:
    """Which request is under way, how long a PDU may be, and what each one received means."""

    def __init__(self) -> None:
        self.mtu = DEFAULT_MTU
        """Bytes; larger once the server asked for it. We do not ask: it costs a round trip."""
        self._asked: int | None = None

    def request(self, pdu: bytes) -> bytes:
        """Note that this request is under way; return it.

        Raises:
            AttError: Another one is.
        """
        if self._asked is not None:
            raise AttError(f"request {self._asked:#04x} is still under way")
        self._asked = pdu[0]
        return pdu

    def receive(self, pdu: bytes) -> Iterator[Event]:
        """Yield what one received PDU means; nothing for one that fits nowhere. Never raises."""
        opcode = pdu[0] if pdu else 0
        if opcode in (NOTIFICATION, INDICATION) and pdu[2:]:
            yield Notification(int.from_bytes(pdu[1:3], "little"), pdu[3:])
            if opcode == INDICATION:
                yield Reaction(bytes([CONFIRMATION]))
        elif self._answers(pdu):
            self._asked = None
            yield Answer(pdu)
        elif opcode == MTU_REQUEST and pdu[2:]:
            self.mtu = max(DEFAULT_MTU, min(OUR_MTU, int.from_bytes(pdu[1:3], "little")))
            yield Reaction(bytes([MTU_RESPONSE]) + OUR_MTU.to_bytes(2, "little"))
        elif opcode and not opcode & (COMMAND_FLAG | 1) and opcode < FIRST_AFTER_REQUESTS:
            yield Reaction(bytes([ERROR, opcode, 0, 0, REQUEST_NOT_SUPPORTED]))

    def _answers(self, pdu: bytes) -> bool:
        if self._asked is None:
            return False
        refusal = bytes([ERROR, self._asked])
        return pdu[:1] == bytes([self._asked + 1]) or (
            pdu[:2] == refusal and len(pdu) == 5  # noqa: PLR2004 - opcode, asked, handle x2, code
        )


def write_request(handle: int, value: bytes) -> bytes:
    """Return the request to write a value and say so."""
    return bytes([WRITE]) + handle.to_bytes(2, "little") + value


def write_command(handle: int, value: bytes) -> bytes:
    """Return the command to write a value."""
    return bytes([WRITE_COMMAND]) + handle.to_bytes(2, "little") + value


def checked(answer: bytes) -> bytes:
    """Return an answer that is no refusal.

    Raises:
        AttError: It is one.
    """
    if answer[0] != ERROR:
        return answer
    asked, code = answer[1], answer[4]
    handle = int.from_bytes(answer[2:4], "little")
    meaning = f", insufficient {INSUFFICIENT[code]}" if code in INSUFFICIENT else ""
    raise AttError(f"ATT error {code:#04x}{meaning} on {asked:#04x}, handle {handle:#06x}", code)


@dataclass(frozen=True, slots=True, kw_only=True)
class Handles:
    """Where one profile stands in a battery's GATT table."""

    notify: int  # of the value
    subscription: int
    write: int  # of the value
    can_write: bool
    can_write_command: bool


@dataclass(frozen=True, slots=True)
class Table:
    """What discovery found."""

    services: tuple[str, ...]  # the UUIDs of all of them
    profiles: Mapping[str, Handles]  # by the profile's name


Discovery = Generator[bytes, bytes, Table]
"""Yields requests, takes their answers, returns the table."""


def discover(wanted: Mapping[str, Profile]) -> Discovery:
    """Find all services, and the characteristics of the wanted ones only.

    Raises:
        AttError: A request was refused, or its answer is malformed.
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
        can_write=bool(properties & CAN_WRITE),
        can_write_command=bool(properties & CAN_WRITE_COMMAND),
    )


def _read_all(
    opcode: int, kind: int, start: int, end: int
) -> Generator[bytes, bytes, list[tuple[int, bytes]]]:
    """Read every attribute of one type: handle, and the entry that begins with it."""
    found: list[tuple[int, bytes]] = []
    last_at = 2 if opcode == READ_BY_GROUP_TYPE else 0  # a service tells where it ends
    while start <= end:
        answer = yield (
            bytes([opcode])
            + start.to_bytes(2, "little")
            + end.to_bytes(2, "little")
            + kind.to_bytes(2, "little")
        )
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
        answer = yield (
            bytes([FIND_INFORMATION]) + start.to_bytes(2, "little") + end.to_bytes(2, "little")
        )
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
    return str(UUID(bytes=raw[::-1]))
