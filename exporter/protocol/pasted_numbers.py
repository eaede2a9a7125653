"""Numbers in pasted text: hex with any separators, 0x prefixes, decimal bytes."""

import re
from collections.abc import Sequence
from itertools import takewhile
from typing import Final

from exporter.errors import DecodeError

MAX_QUOTED: Final = 40  # characters of a piece that a message quotes
TAIL: Final = 0x77  # the last byte of a frame
FIRST_DECIMAL: Final = "221"  # 0xDD; as hex it would lack a digit
MIN_DECIMALS: Final = 4  # numbers of the shortest list that counts inside a sentence

SEPARATORS: Final = re.compile(r"""[\s,;:._|\-\[\](){}<>"'`\u2018-\u201f]+""")
UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
PREFIX: Final = re.compile(r"0[xX]|\\x")
DIGITS: Final = re.compile(r"(?:0x)?[0-9A-Fa-f]*")


def split_numbers(text: str) -> list[str] | None:
    """Return the numbers in a text, 0x prefixes included; None: it holds other text."""
    text = PREFIX.sub(" 0x", UUID.sub("~", text))
    tokens = [token for token in SEPARATORS.split(text) if token]
    if not all(map(DIGITS.fullmatch, tokens)):
        return None
    return [token for token in tokens if token.removeprefix("0x")]


def hex_bytes(token: str) -> bytes:
    """Return the bytes of one hex number. Raises DecodeError if it has an odd number of digits."""
    digits = token.removeprefix("0x")
    if token != digits and len(digits) == 1:  # Python's hex(3)
        digits = f"0{digits}"
    if len(digits) % 2:
        count = f"{len(digits)} digit{'s' * (len(digits) > 1)}"
        raise DecodeError(f"{expected_hex(token)}: {count}, an odd number: copy it again")
    return bytes.fromhex(digits)


def is_decimal(token: str) -> bool:
    """Return whether a number is a decimal byte, 0 to 255, without leading zeros."""
    return (
        len(token) <= len("255")
        and token.isdecimal()
        and str(int(token)) == token
        and int(token) < 256  # noqa: PLR2004 - a byte
    )


def begins_frame(tokens: Sequence[str]) -> bool:
    """Return whether the first number starts a frame: DD or, in a list of decimals, 221."""
    is_list = tokens[0] == FIRST_DECIMAL and len(tokens) >= MIN_DECIMALS
    return is_list or tokens[0].removeprefix("0x").lower().startswith("dd")


def has_one_width(tokens: Sequence[str]) -> bool:
    """Return whether all are whole bytes of the first one's width, unlike 12.345678."""
    widths = [len(token.removeprefix("0x")) for token in tokens]
    are_whole = all(
        width % 2 == 0 or token.startswith("0x")
        for token, width in zip(tokens, widths, strict=True)
    )
    return are_whole and max(widths) == widths[0] and set(widths[:-1]) <= {widths[0]}


def without_short_rest(tokens: list[str]) -> list[str]:
    """Remove short numbers that follow long ones in a sentence: "dd03001b 20 bytes"."""

    def is_long(token: str) -> bool:
        return len(token.removeprefix("0x")) > len("dd")

    if not is_long(tokens[0]) or len(tokens[0]) % 2:
        return tokens
    count = len(list(takewhile(is_long, tokens)))
    rest = tokens[count : count + 1]
    ends_in_words = count > 1 or rest == [f"{TAIL:02x}"]  # iOS: 0xdd03001b 05370000 50
    return tokens[:count] + (rest if ends_in_words else [])


def expected_hex(text: str) -> str:
    """Return the message for a text that is not hex."""
    return f"expected hex like DD03...77, got {quoted(text)}"


def quoted(text: str) -> str:
    """Return the start of a text in quotes."""
    text = text.strip()
    return repr(text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}...")
