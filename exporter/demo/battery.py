"""A virtual battery: request bytes in, notifications out, with faults to inject; no I/O."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from bleak.assigned_numbers import CharacteristicPropertyName

from exporter.profiles import PROFILES, Profile
from exporter.protocol.frame import HEAD, OVERHEAD, READ, TAIL, checksum

UNKNOWN_REGISTER: Final = 0x80
ATT_PAYLOAD: Final = 20  # what a notification carries at the MTU of 23 that most modules have

Answers = Callable[[int], bytes]
"""A register's whole reply frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What goes wrong; the defaults are a healthy battery in range."""

    lose_first: int = 0  # requests ignored after every connect
    silent: bool = False
    reply_s: float = 0.08  # recorded: 63 to 147 ms
    gap_s: float = 0.001  # between two notifications of one reply
    notification: int = ATT_PAYLOAD  # bytes; 0: the whole frame at once
    bad_checksum: bool = False
    wrong_register: bool = False
    truncated: bool = False  # the first notification only
    cut: bool = False  # the link drops after the first notification
    refuses: bool = False  # advertises, and fails every attempt to connect
    gone: bool = False  # switched off or out of range
    held: bool = False  # by the phone app
    stray: bytes = b""  # sent unasked after every connect


@dataclass(frozen=True, slots=True)
class Notification:
    """What leaves the battery `after_s` seconds after the request; None: it drops the link."""

    after_s: float
    data: bytes | None


def encode_reply(register: int, payload: bytes = b"", status: int = 0) -> bytes:
    """Return a whole reply frame."""
    body = bytes([status, len(payload)]) + payload
    return bytes([HEAD, register]) + body + checksum(body) + bytes([TAIL])


@dataclass(slots=True, kw_only=True)
class VirtualBattery:
    """One battery on the air, with a diary for the tests."""

    address: str
    answers: Answers
    name: str = "JBD-SP04S034"
    advertises: tuple[str, ...] = (PROFILES["ff00"].service,)
    gatt: tuple[Profile, ...] = (PROFILES["ff00"],)
    speaks: Profile = PROFILES["ff00"]
    write_properties: tuple[CharacteristicPropertyName, ...] = ("write-without-response",)
    rssi_dbm: int = -67
    faults: Faults = field(default_factory=Faults)
    moods: Callable[[], Faults] | None = None  # asked for new faults before every connect

    requests: list[int] = field(default_factory=list)  # registers, resends included
    connects: int = 0
    disconnects: int = 0
    illegal: list[bytes] = field(default_factory=list)  # everything that is not a read request
    writes: Counter[bool] = field(default_factory=Counter)  # by "with response"
    _to_lose: int = 0

    @property
    def advertising(self) -> bool:
        """Whether it can be seen; the radio adds: not while connected."""
        return not (self.faults.gone or self.faults.held)

    def connected(self) -> list[Notification]:
        """Begin a connection; return what it says unasked."""
        self.connects += 1
        self._to_lose = self.faults.lose_first
        return [Notification(0.0, self.faults.stray)] if self.faults.stray else []

    def request(self, data: bytes) -> list[Notification]:
        """Take what was written; return what will be notified, in order."""
        faults = self.faults
        body = data[2:4]
        register = data[2] if data[2:] else 0
        if data != bytes([HEAD, READ, register, 0]) + checksum(body) + bytes([TAIL]):
            self.illegal.append(data)
            return []
        self.requests.append(register)
        if faults.silent or faults.gone:
            return []
        if self._to_lose > 0:
            self._to_lose -= 1
            return []
        frame = bytearray(self.answers(register))
        if faults.bad_checksum:
            frame[-2] ^= 0x01
        if faults.wrong_register:
            frame[1] ^= 0x20
        return self._notifications(bytes(frame))

    def _notifications(self, frame: bytes) -> list[Notification]:
        faults = self.faults
        size = faults.notification or len(frame)
        notifications = [
            Notification(faults.reply_s + faults.gap_s * number, frame[start : start + size])
            for number, start in enumerate(range(0, len(frame), size))
        ]
        if faults.truncated or faults.cut:
            del notifications[1:]
            if len(frame) <= size:  # a short frame loses its end
                notifications[0] = Notification(faults.reply_s, frame[: OVERHEAD - 1])
        if faults.cut:
            notifications.append(Notification(faults.reply_s + faults.gap_s, None))
        return notifications
