"""A virtual battery without I/O: request bytes in, notifications out, with faults to inject."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from exporter.protocol.frame import HEAD, MAX_FRAME, OVERHEAD, READ, TAIL, checksum
from exporter.protocol.profiles import PROFILES, Profile
from exporter.protocol.settings import SETTING_NAMES

if TYPE_CHECKING:  # benchmarks and tests of the direct link do not import bleak
    from bleak.assigned_numbers import CharacteristicPropertyName

UNKNOWN_REGISTER: Final = 0x80
REFUSED: Final = 0x81
# The only writes that it allows: they open and close the mode in which settings can be read.
# Not imported from the exporter, so that a mistake there is noticed here.
ENTER: Final = bytes.fromhex("dd5a00025678ff3077")
LEAVE: Final = bytes.fromhex("dd5a01020000fffd77")
ATT_PAYLOAD: Final = 20  # bytes of a notification at the MTU of most modules, 23
APART_S: Final = 0.0005  # minimum time between two notifications

Answers = Callable[[int], bytes]
"""Returns the whole reply frame of a register."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """The faults of a battery; by default it is healthy and in range."""

    lose_first: int = 0  # requests ignored after every connect
    silent: bool = False  # never replies
    one_at_a_time: bool = False  # drops requests that arrive while it is replying
    reply_s: float = 0.08  # recorded: 63 to 147 ms
    gap_s: float = 0.001  # between two notifications of one reply
    notification: int = ATT_PAYLOAD  # bytes; 0: the whole frame at once
    bad_checksum: bool = False
    wrong_register: bool = False
    refuses_mode: bool = False  # answers ENTER as a module with a PIN does
    truncated: bool = False  # the first notification only
    cut: bool = False  # the link drops after the first notification
    refuses: bool = False  # advertises, and fails every attempt to connect
    gone: bool = False  # switched off or out of range
    held: bool = False  # by the phone app
    stray: bytes = b""  # sent without a request after every connect
    leftover: bytes = b""  # of an earlier connection, sent at the subscription
    leftover_s: float = 0.0  # seconds from the subscription to `leftover`


@dataclass(frozen=True, slots=True)
class Delivery:
    """A notification that leaves `after_s` seconds after the request; None: the link drops."""

    after_s: float
    data: bytes | None


def encode_reply(register: int, payload: bytes = b"", status: int = 0) -> bytes:
    """Return a whole reply frame."""
    body = bytes([status, len(payload)]) + payload
    return bytes([HEAD, register]) + body + checksum(body) + bytes([TAIL])


@dataclass(slots=True, kw_only=True)
class VirtualBattery:
    """One battery, which records for the tests what it receives."""

    address: str
    answers: Answers
    name: str = "JBD-SP04S034"
    advertises: tuple[str, ...] = (PROFILES["ff00"].service,)
    gatt: tuple[Profile, ...] = (PROFILES["ff00"],)
    speaks: Profile = PROFILES["ff00"]
    write_properties: "tuple[CharacteristicPropertyName, ...]" = ("write-without-response",)
    takes_response: bool | None = None  # the only writes it takes: with or without; None: both
    rssi_dbm: int = -67
    faults: Faults = field(default_factory=Faults)
    choose_faults: Callable[[], Faults] | None = None  # called for every connection
    settings: Mapping[int, bytes] | None = None  # payloads; None: ENTER and LEAVE are illegal

    requests: list[int] = field(default_factory=list)  # registers, resends included
    connects: int = 0
    disconnects: int = 0
    illegal: list[bytes] = field(default_factory=list)  # everything that is not allowed
    mode_frames: list[bytes] = field(default_factory=list)  # ENTER and LEAVE, resends included
    is_mode_open: bool = False  # also when the connection ends: no source says otherwise
    writes: Counter[bool] = field(default_factory=Counter)  # by "with response"
    _to_lose: int = 0
    _busy_until_s: float = float("-inf")

    @property
    def advertising(self) -> bool:
        """Whether the battery advertises while it is not connected."""
        return not (self.faults.gone or self.faults.held)

    def connected(self) -> list[Delivery]:
        """Start a connection; return what the battery sends without a request."""
        self.connects += 1
        self._to_lose = self.faults.lose_first
        self._busy_until_s = float("-inf")
        return [Delivery(0.0, self.faults.stray)] if self.faults.stray else []

    def subscribed(self) -> list[Delivery]:
        """Return what the Bluetooth module kept from an earlier connection."""
        return self._cut(self.faults.leftover, self.faults.leftover_s, APART_S)

    def request(self, data: bytes, at_s: float | None = None) -> list[Delivery]:
        """Return the notifications that a request causes, in order.

        A BMS has one serial line, so a reply waits for the one before. `at_s` is the time of the
        request by any clock; None: the battery is idle.
        """
        faults = self.faults
        if not self._note(data) or faults.silent or faults.gone:
            return []
        if self._to_lose > 0:
            self._to_lose -= 1
            return []
        if faults.one_at_a_time and at_s is not None and at_s < self._busy_until_s:
            return []
        frame = bytearray(self._reply(data))
        if faults.bad_checksum:
            frame[-2] ^= 0x01
        if faults.wrong_register:
            frame[1] ^= 0x20
        notifications = self._notifications(bytes(frame))
        if at_s is None:
            return notifications
        queued = []
        for one in notifications:
            after_s = max(one.after_s, self._busy_until_s + APART_S - at_s)
            self._busy_until_s = at_s + after_s
            queued.append(Delivery(after_s, one.data))
        return queued

    def takes(self, *, response: bool) -> bool:
        """Count a write with or without response; return whether the battery takes it."""
        self.writes[response] += 1
        return self.takes_response in {None, response}

    def _note(self, data: bytes) -> bool:
        """Record a request; return whether it is allowed."""
        register = data[2] if data[2:] else 0
        if data == bytes([HEAD, READ, register, 0]) + checksum(data[2:4]) + bytes([TAIL]):
            self.requests.append(register)
        elif self.settings is not None and data in {ENTER, LEAVE}:
            self.mode_frames.append(data)
        else:
            self.illegal.append(data)
            return False
        return True

    def _reply(self, data: bytes) -> bytes:
        """Return the whole reply to a request that is allowed."""
        register = data[2]
        if data == ENTER and self.faults.refuses_mode:
            return encode_reply(register, status=REFUSED)
        if data in {ENTER, LEAVE}:
            self.is_mode_open = data == ENTER
            return encode_reply(register)
        if self.settings is None or register not in SETTING_NAMES:
            return self.answers(register)
        if not self.is_mode_open:
            return encode_reply(register, status=REFUSED)
        if register not in self.settings:
            return encode_reply(register, status=UNKNOWN_REGISTER)
        return encode_reply(register, self.settings[register])

    def _notifications(self, frame: bytes) -> list[Delivery]:
        faults = self.faults
        notifications = self._cut(frame, faults.reply_s, faults.gap_s)
        if faults.truncated or faults.cut:
            if len(notifications) == 1:  # a short frame loses its end
                notifications = [Delivery(faults.reply_s, frame[: OVERHEAD - 1])]
            del notifications[1:]
        if faults.cut:
            notifications.append(Delivery(faults.reply_s + faults.gap_s, None))
        return notifications

    def _cut(self, data: bytes, after_s: float, gap_s: float) -> list[Delivery]:
        size = self.faults.notification or MAX_FRAME
        return [
            Delivery(after_s + gap_s * number, data[at : at + size])
            for number, at in enumerate(range(0, len(data), size))
        ]
