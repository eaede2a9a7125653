"""The client side of the Attribute Protocol: bytes to events, without I/O.

Source: Bluetooth Core Specification 5.4, volume 3, part F (ATT).

One request is under way at a time; a command gets no response. Meanwhile the server may notify,
indicate, and send requests of its own.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from exporter.errors import HOW_TO_PAIR, Cause, LinkLostError, PairingError

ERROR: Final = 0x01
MTU_REQUEST: Final = 0x02
MTU_RESPONSE: Final = 0x03
WRITE: Final = 0x12
NOTIFICATION: Final = 0x1B
INDICATION: Final = 0x1D
CONFIRMATION: Final = 0x1E
WRITE_COMMAND: Final = 0x52
COMMAND_FLAG: Final = 0x40
FIRST_AFTER_REQUESTS: Final = 0x1B  # below it, even opcodes are requests, odd ones responses

REQUEST_NOT_SUPPORTED: Final = 0x06
INSUFFICIENT: Final = {0x05: "authentication", 0x08: "authorization", 0x0F: "encryption"}

OUR_MTU: Final = 517  # no notification is longer; requesting it would cost a round trip


class AttError(LinkLostError):
    """The server refused a request, or sent a malformed response."""

    cause = Cause.GATT


@dataclass(frozen=True, slots=True)
class Notification:
    """A notified or indicated value of the characteristic with this value handle."""

    handle: int
    value: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """The response to the request under way, as a whole PDU."""

    pdu: bytes


@dataclass(frozen=True, slots=True)
class Reaction:
    """A PDU to send in response to the server."""

    pdu: bytes


Event = Notification | Answer | Reaction


class Att:
    """The state of one channel: the request under way."""

    def __init__(self) -> None:
        self._asked: int | None = None

    def request(self, pdu: bytes) -> bytes:
        """Record that this request is under way; return it.

        Raises:
            AttError: Another request is under way.
        """
        if self._asked is not None:
            raise AttError(f"request {self._asked:#04x} is still under way")
        self._asked = pdu[0]
        return pdu

    def receive(self, pdu: bytes) -> Iterator[Event]:
        """Yield the events of one received PDU; none if it is unexpected. Never raises."""
        opcode = pdu[0] if pdu else 0
        if opcode in (NOTIFICATION, INDICATION) and pdu[2:]:
            yield Notification(int.from_bytes(pdu[1:3], "little"), pdu[3:])
            if opcode == INDICATION:
                yield Reaction(bytes([CONFIRMATION]))
        elif self._answers(pdu):
            self._asked = None
            yield Answer(pdu)
        elif opcode == MTU_REQUEST and pdu[2:]:
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
    """Return the request to write a value; the server sends a response."""
    return bytes([WRITE]) + handle.to_bytes(2, "little") + value


def write_command(handle: int, value: bytes) -> bytes:
    """Return the command to write a value; the server sends no response."""
    return bytes([WRITE_COMMAND]) + handle.to_bytes(2, "little") + value


def checked(answer: bytes) -> bytes:
    """Return a response unless it is a refusal.

    Raises:
        PairingError: The server wants authentication or encryption.
        AttError: It refused the request for another reason.
    """
    if answer[0] != ERROR:
        return answer
    asked, code = answer[1], answer[4]
    where = f"on {asked:#04x}, handle {int.from_bytes(answer[2:4], 'little'):#06x}"
    if code in INSUFFICIENT:
        refusal = f"ATT error {code:#04x}, insufficient {INSUFFICIENT[code]} {where}"
        raise PairingError(f"the battery wants pairing ({refusal}): {HOW_TO_PAIR}")
    raise AttError(f"ATT error {code:#04x} {where}")
