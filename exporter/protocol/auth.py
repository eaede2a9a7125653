"""The password exchange of newer modules (frames that begin with FF AA), as a state machine.

Source: recorded traffic of the vendor's app; the formula reproduces every recorded vector.
It permits reading only. The step that would permit settings does not exist here.

    us    FF AA 15 06 "000000" cs      the app's key: a constant, not the user's password
    BMS   FF AA 15 01 00 cs            00 continue, 01 rejected, 02 no password is set
    us    FF AA 17 00 cs
    BMS   FF AA 17 01 <random> cs
    us    FF AA 18 06 <encrypted> cs
    BMS   FF AA 18 01 00 cs            00 accepted, 01 wrong password

The checksum cs is the low byte of the sum of command, length and data.
"""

from typing import Final

from exporter.errors import AuthError

HEAD: Final = b"\xff\xaa"
OVERHEAD: Final = 5  # head x2, command, length, checksum
APP_KEY: Final = 0x15
RANDOM: Final = 0x17
PASSWORD: Final = 0x18
ACCEPTED: Final = 0x00
NOT_NEEDED: Final = 0x02


def encode(command: int, data: bytes = b"") -> bytes:
    """Return one authentication frame."""
    body = bytes([command, len(data)]) + data
    return HEAD + body + bytes([sum(body) & 0xFF])


def encrypt(password: bytes, mac: bytes, random: int) -> bytes:
    """Return the six bytes that prove the password: ((mac XOR password) + random) & 0xFF."""
    return bytes(((m ^ p) + random) & 0xFF for m, p in zip(mac, password, strict=True))


class PasswordExchange:
    """One password exchange: send `request` and feed notifications, until `done`."""

    def __init__(self, password: bytes, mac: bytes) -> None:
        """Start with the app's key; `password` and `mac`, the address as written, are six bytes."""
        self._password = password
        self._mac = mac
        self._buffer = b""
        self.request = encode(APP_KEY, b"000000")
        self.done = False

    def feed(self, chunk: bytes) -> bool:
        """Add one notification; return whether there is a new `request` to send.

        Raises:
            AuthError: The battery rejected the app's key or the password.
        """
        self._buffer = (self._buffer + chunk)[-64:]  # an answer is six bytes; the rest is noise
        command = self.request[2]
        answer = self._answer(command)
        if answer is None:
            return False
        self._buffer = b""
        if command == RANDOM:
            self.request = encode(PASSWORD, encrypt(self._password, self._mac, answer))
            return True
        if command == APP_KEY and answer == ACCEPTED:
            self.request = encode(RANDOM)
            return True
        self.done = answer == ACCEPTED or (command == APP_KEY and answer == NOT_NEEDED)
        if not self.done:
            what = "the app key" if command == APP_KEY else "the password"
            raise AuthError(f"the battery rejected {what} (answer {answer:#04x})")
        return False

    def _answer(self, command: int) -> int | None:
        """Return the data byte of the answer to `command`; None: it is not complete."""
        at = self._buffer.find(HEAD + bytes([command, 1]))
        raw = self._buffer[at : at + OVERHEAD + 1] if at >= 0 else b""
        return raw[4] if len(raw) == OVERHEAD + 1 and encode(command, raw[4:5]) == raw else None
