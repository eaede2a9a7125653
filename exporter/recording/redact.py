"""Removes addresses and serial numbers from bytes, texts and advertised names.

The maker's half of an address stays, as in logs; the other half becomes a number that is the same
throughout a recording. Every replacement has the length of what it replaces.
"""

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Final

from exporter.logs import ADDRESS
from exporter.protocol.advertisement import DH04_NAMES, NAMES

# Between two bytes of an address that is written as text: "12:34", "12-34", "1234", "0x12, 0x34".
SEPARATOR: Final = rb"([^0-9A-Za-z]{0,2}(?:0[xX])?)"
SERIAL: Final = re.compile(rb"[0-9]{6,}")  # shorter numbers name the board, as in SP04S034
SIG_BASE: Final = "-0000-1000-8000-00805f9b34fb"
SIG_BASE_BYTES: Final = bytes.fromhex(SIG_BASE.replace("-", ""))[::-1]
PATH: Final = re.compile(r"/[^\s:;,)'\"]+")
ROUNDS: Final = 100  # a replacement may complete another occurrence, at most once a byte
BLANK: Final = b"\xee"  # in place of a value that cannot be redacted otherwise
NUMBERS: Final = 255


class Redactor:
    """Replaces the addresses that it knows, and those that it recognises in texts."""

    def __init__(self, addresses: Iterable[str] = ()) -> None:
        """Know these addresses, in upper case with colons; they are numbered in this order."""
        self._numbers: dict[str, int] = {}
        self._rewrites: list[tuple[re.Pattern[bytes], bytes]] = []
        self._pairs: list[re.Pattern[str]] = []
        self._any: re.Pattern[bytes] | None = None  # all rewrites; None: not compiled yet
        for address in addresses:
            self.address(address)

    def __len__(self) -> int:
        """Return how many addresses it knows."""
        return len(self._numbers)

    def address(self, address: str) -> str:
        """Return the address with a number in place of its second half: A4:C1:38:00:00:01."""
        address = address.upper().replace("_", ":")
        if address not in self._numbers:
            self._add(address)
        return f"{address[:8]}:00:00:{self._numbers[address]:02X}"

    def _add(self, address: str) -> None:
        private = bytes.fromhex(address[9:].replace(":", ""))
        number = self._choose(private)
        self._numbers[address] = number
        new = bytes([0, 0, number])
        if private == new:  # it comes from a recording
            return
        for old, replacement in ((private, new), (private[::-1], new[::-1])):
            self._rewrites.append((re.compile(re.escape(old)), _literal(replacement)))
            text = SEPARATOR.join(b"%02x" % byte for byte in old)
            first, second, third = (b"%02x" % byte for byte in replacement)
            template = first + rb"\g<1>" + second + rb"\g<2>" + third
            self._rewrites.append((re.compile(text, re.IGNORECASE), template))
            for pair in (old[1:], old[:2]):
                text = SEPARATOR.join(b"%02x" % byte for byte in pair)
                self._pairs.append(re.compile(text.decode(), re.IGNORECASE))
        self._any = None

    def _knows_in(self, data: bytes) -> bool:
        """Return whether any of the rewrites would change these bytes."""
        if self._any is None and self._rewrites:
            alternatives = (
                b"(?i:%s)" % pattern.pattern if pattern.flags & re.IGNORECASE else pattern.pattern
                for pattern, _ in self._rewrites
            )
            self._any = re.compile(b"|".join(alternatives), re.DOTALL)
        return self._any is not None and self._any.search(data) is not None

    def _choose(self, private: bytes) -> int:
        """Return an unused number; its digits are none of the address, so that rewriting ends."""
        used = set(self._numbers.values())
        unused = [number for number in range(1, NUMBERS + 1) if number not in used]
        for number in unused:
            if not set(f"{number:x}") & set(private.hex()) or private == bytes([0, 0, number]):
                return number
        return unused[0] if unused else NUMBERS

    def data(self, data: bytes) -> bytes:
        """Replace every known address, in either byte order, as bytes or as text."""
        if not self._knows_in(data):
            return data
        for _ in range(ROUNDS):
            before = data
            for pattern, replacement in self._rewrites:
                data = pattern.sub(replacement, data)
            if data == before:
                return data
        return BLANK * len(data)

    def words(self, text: str) -> str:
        """Replace every address and run of six digits in a text."""
        text = ADDRESS.sub(lambda found: self.address(found[0]), text)
        return self._text(zero_serials(text.encode("utf-8", "replace")).decode())

    def message(self, text: str) -> str:
        """Replace every address, run of six digits and path in the message of an error."""
        return PATH.sub("/..", self.words(text))

    def uuid(self, uuid: str) -> str:
        """Replace every known address in a UUID, unless it is one of the Bluetooth SIG."""
        return uuid if uuid.endswith(SIG_BASE) else self._text(uuid)

    def table(self, entries: bytes) -> bytes:
        """Replace every known address in entries of a GATT table, beside UUIDs of the SIG."""
        return SIG_BASE_BYTES.join(self.data(part) for part in entries.split(SIG_BASE_BYTES))

    def _text(self, text: str) -> str:
        try:
            return self.data(text.encode("latin-1")).decode("latin-1")
        except UnicodeEncodeError:
            return self.data(text.encode("utf-8", "replace")).decode("utf-8", "replace")

    def name(self, name: str) -> str:
        """Replace addresses and digits in an advertised name, except those that JBD's patterns fix.

        Some modules advertise the end of their address, and some batteries their serial number.
        """
        fixed = max(
            (
                pattern.partition("*")[0]
                for pattern in (*NAMES, *DH04_NAMES)
                if fnmatchcase(name, pattern)
            ),
            key=len,
            default="",
        )
        redacted = self._text(ADDRESS.sub(lambda found: self.address(found[0]), name))
        for pair in self._pairs:
            redacted = pair.sub(r"00\g<1>00", redacted)
        zeroed = "".join(
            "0" if character.isdigit() and fixed[at : at + 1] != character else character
            for at, character in enumerate(redacted)
        )
        return self._text(zeroed)  # the zeros may be an address: 30:30:30

    def manufacturer_data(self, data: Mapping[int, bytes]) -> dict[int, bytes]:
        """Replace addresses, which may begin in the company's number, and serial numbers."""
        redacted = {}
        for company, value in data.items():
            raw = self.data(company.to_bytes(2, "little") + zero_serials(value))
            redacted[int.from_bytes(raw[:2], "little")] = raw[2:]
        return redacted


def _literal(data: bytes) -> bytes:
    return data.replace(b"\\", rb"\\")


def zero_serials(data: bytes) -> bytes:
    """Replace runs of six or more ASCII digits by zeros."""
    return SERIAL.sub(lambda found: b"0" * len(found[0]), data)
