"""Finds the bytes in pasted text: numbers, Python bytes, hex dumps, log lines."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from exporter.errors import DecodeError
from exporter.protocol.pasted_numbers import (
    FIRST_DECIMAL,
    MIN_DECIMALS,
    TAIL,
    UUID,
    begins_frame,
    expected_hex,
    has_one_width,
    hex_bytes,
    is_decimal,
    quoted,
    split_numbers,
    without_short_rest,
)

# Bytes of a notification that is recognised inside a sentence; a shorter one must end with TAIL.
MIN_BYTES: Final = 4

ANSI: Final = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
# `read --log.level debug`: hex=dd03..., or "hex": "dd03...", also as a string inside other JSON.
OWN: Final = re.compile(r'\bhex="?([^\s"\\]+)|"hex\\?"\s*:\s*\\?"([^"\\]+)')
LITERAL: Final = re.compile(r"""(?<![\w\\])(b?)(['"])((?:\\.|(?!\2)[^\\])*)(?:\2|\\?$)""")
BARE_LITERAL: Final = re.compile(r"\s*b?((?:\\x[0-9A-Fa-f]{2}).*?)\s*")  # a shell took the quotes
ESCAPE: Final = re.compile(r"\\(x[0-9A-Fa-f]{2}|.)|(.)", re.DOTALL)
ESCAPES: Final = dict(zip("\\'\"0abtnvfr", b"\\'\"\0\a\b\t\n\v\f\r", strict=True))

DATE: Final = r"20[0-9]{2}[-/.](?:0[1-9]|1[0-2])[-/.](?:[0-2][0-9]|3[01])"
TIME: Final = (
    r"[0-2]?[0-9]:[0-5][0-9]:[0-5][0-9](?:[.,][0-9]+)?(?:Z|[+-][0-9]{2}:?[0-9]{2})?"
    r"(?![0-9A-Za-z.-]|:\S)"
)
EPOCH: Final = r"1[5-9][0-9]{8}(?:[0-9]{3}|[.,][0-9]+)(?![0-9A-Za-z])"
STAMP: Final = rf"(?:{DATE}(?:[T ]+{TIME})?|{TIME}|{EPOCH})"
LEADING_STAMP: Final = re.compile(
    rf"\s*(?:[\[(]?{STAMP}[\])]?|\[\s*[0-9]+\.[0-9]+\])[\s:,;>|-]+(?=\S)"
)
TRAILING_COUNT: Final = re.compile(r"\s\([0-9]{1,3}(?: bytes)?\)\s*$")  # ESPHome: DD.03 (2)
DUMP_WIDTH: Final = 200  # characters, without the offset
ADDRESS: Final = (
    r"(?<![0-9A-Za-z])(?<![0-9A-Fa-f]{2}[:_-])(?:[0-9A-Fa-f]{2}[:_-]){5}[0-9A-Fa-f]{2}"
    r"(?![:_-]?[0-9A-Za-z])(?<!77)"  # six bytes that end a frame are no address
)
NO_BYTES: Final = re.compile(rf"{ADDRESS}|(?<![0-9A-Fa-f:.-]){STAMP}")
OFFSET: Final = re.compile(r"\s*(?:([0-9A-Fa-f]{4,8}):\s+|([0-9A-Fa-f]{8})\s\s+)")

# Numbers inside a sentence, with one kind of separator between them.
RUN: Final = re.compile(
    r"(?<![0-9A-Za-z])(?:0x)?[0-9a-f]+(?:(, ?|[ .:_-])(?:0x)?[0-9a-f]+"
    r"(?:\1(?:0x)?[0-9a-f]+)*)?(?![0-9A-Za-z])",
    re.IGNORECASE,
)
HEX_DIGIT: Final = re.compile(r"[0-9A-Fa-f]")
BROKEN_HEAD: Final = re.compile(r"(?<![0-9A-Za-z])(?:0x)?dd[0-9a-f]{2}[0-9a-z]+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class TextLine:
    """One line of a paste."""

    text: str
    where: str = ""  # "FILE:3: ", for messages
    is_strict: bool = False  # it must hold bytes: a single line was typed, not pasted


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of a paste that belong together: a frame, a notification, or a part of one."""

    raw: bytes
    where: str = ""


def split_lines(text: str, name: str = "") -> list[TextLine]:
    """Return the lines of a file or of an argument; an argument of one line must hold bytes."""
    lines = text.splitlines()
    if not name:
        return [TextLine(line, is_strict=len(lines) == 1) for line in lines]
    return [TextLine(line, f"{name}:{number}: ") for number, line in enumerate(lines, start=1)]


def is_plain(text: str) -> bool:
    """Return whether a text holds only numbers, and so is not the name of a file."""
    return split_numbers(text) is not None


def parse(lines: Sequence[TextLine]) -> list[Piece]:
    """Return the bytes in a paste, in order.

    If any line is from this exporter's log, numbers in the sentences of others are ignored.

    Raises:
        DecodeError: A number lacks a digit, or there are no bytes where some are required.
    """
    is_log = any(OWN.search(line.text) for line in lines)
    reader = _Reader(sentences=not is_log)
    pieces: list[Piece] = []
    unread: list[TextLine] = []
    for line in lines:
        try:
            raws = reader.read(line.text)
        except DecodeError as error:
            raise DecodeError(f"{line.where}{error}") from None
        pieces += [Piece(raw, line.where) for raw in raws or () if raw]
        if raws is None:
            unread.append(line)
    for line in unread:
        if not pieces or (line.is_strict and not is_log):
            no_file = ", which is no file either" if line.is_strict else ""
            raise DecodeError(f"{line.where}{expected_hex(line.text)}{no_file}")
    return pieces


class _Reader:
    """Reads line by line and keeps state: decimal lists and hex dumps span lines."""

    def __init__(self, *, sentences: bool) -> None:
        self._sentences = sentences
        self._is_first = True
        self._is_decimal = False  # the last piece was
        self._last: tuple[str, list[bytes]] = "", []  # the last line with bytes in a sentence
        self._dumped: int | None = None  # bytes in the lines of a hex dump so far

    def read(self, text: str) -> list[bytes] | None:
        """Return the pieces in a line; None if it is text without bytes."""
        text = ANSI.sub("", text).strip("\ufeff")
        own = [first or second for first, second in OWN.findall(text)]
        if own:
            return [self._hex(value) for value in own]
        literals = [*_literals(text)]
        if literals:
            return self._drop_repeat(text, literals)
        numbers = TRAILING_COUNT.sub("", LEADING_STAMP.sub("", text.partition("#")[0], count=1))
        if not numbers.strip():
            return []
        is_dump, numbers = self._without_dump(numbers)
        if is_dump and not numbers:
            return []
        tokens = split_numbers(numbers)
        if tokens is not None:
            raw = self._bytes(tokens)
            if is_dump and self._dumped is not None:
                self._dumped += len(raw)
            return [raw]
        return self._drop_repeat(text, self._in_sentence(text)) if self._sentences else None

    def _drop_repeat(self, text: str, raws: list[bytes] | None) -> list[bytes] | None:
        """Drop bytes that were in the last line: nRF Connect logs each notification twice."""
        wording = HEX_DIGIT.sub("", text)
        last_wording, last_raws = self._last
        if raws and raws == last_raws and wording != last_wording:
            return []
        if raws:
            self._last = wording, raws
        return raws

    def _hex(self, value: str) -> bytes:
        tokens = split_numbers(value)
        if tokens is None:
            raise DecodeError(expected_hex(value))
        return b"".join(map(hex_bytes, tokens))

    def _bytes(self, tokens: Sequence[str]) -> bytes:
        """Return the bytes of numbers: decimal if the list begins with 221, else hex."""
        starts = tokens[:1] == [FIRST_DECIMAL] and (
            self._is_first or self._is_decimal or len(tokens) > 1
        )
        continues = self._is_decimal and all(map(is_decimal, tokens))
        self._is_first = False
        self._is_decimal = starts or continues
        if not self._is_decimal:
            return b"".join(map(hex_bytes, tokens))
        for token in tokens:
            if not is_decimal(token):
                raise DecodeError(f"expected a decimal byte from 0 to 255, got {quoted(token)}")
        return bytes(map(int, tokens))

    def _without_dump(self, text: str) -> tuple[bool, str]:
        """Return whether the line is of a hex dump, and its numbers alone."""
        match = OFFSET.match(text)
        offset = int(match[1] or match[2], 16) if match else None
        if match and offset in (0, self._dumped):
            self._dumped = offset
            return True, _without_characters(text[match.end() :])
        ends = self._dumped is not None and text.strip() == f"{self._dumped:08x}"
        self._dumped = None
        return ends, "" if ends else _without_characters(text)

    def _in_sentence(self, text: str) -> list[bytes] | None:
        """Return the numbers that begin with DD, else the last notification, else None."""
        text = NO_BYTES.sub("~", UUID.sub("~", text))
        broken = BROKEN_HEAD.search(text)
        if broken and not is_plain(broken[0]):
            raise DecodeError(expected_hex(broken[0]))
        runs = [
            without_short_rest(tokens)
            for run in RUN.finditer(text)
            if (tokens := split_numbers(run[0]))
        ]
        heads = [tokens for tokens in runs if begins_frame(tokens)]
        if heads:
            return [self._bytes(tokens) for tokens in heads]
        for tokens in reversed(runs):
            if self._is_decimal and len(tokens) >= MIN_DECIMALS and all(map(is_decimal, tokens)):
                return [self._bytes(tokens)]
            if has_one_width(tokens):
                raw = b"".join(map(hex_bytes, tokens))
                if len(raw) >= MIN_BYTES or raw[-1] == TAIL:
                    return [raw]
        return None


def _literals(text: str) -> Iterator[bytes]:
    r"""Yield the bytes in b'\xdd\x03', "\xdd\x03" and, where a shell took the quotes, b\xdd\x03."""
    found = [match[3] for match in LITERAL.finditer(text) if match[1] or "\\x" in match[3]]
    bare = BARE_LITERAL.fullmatch(text)
    for body in found or ([bare[1]] if bare else []):
        yield bytes(_unescaped(body))


def _unescaped(body: str) -> Iterable[int]:
    for escape, character in ESCAPE.findall(body):
        if len(escape) > 1:
            yield int(escape[1:], 16)
        elif escape in ESCAPES:
            yield ESCAPES[escape]
        elif not escape and character.isascii():
            yield ord(character)
        else:
            raise DecodeError(f"expected Python bytes like b'\\xdd\\x03', got {quoted(body)}")


def _without_characters(text: str) -> str:
    """Remove the column of characters that hex dumps have after the bytes."""
    for gap in re.finditer(r"\s{2,}\|?", text[:DUMP_WIDTH]):
        try:
            raw = bytes.fromhex(text[: gap.start()])
        except ValueError:
            break
        drawn = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in raw)  # noqa: PLR2004
        if text[gap.end() :].removesuffix("|").strip() in (drawn, drawn.strip()):
            return text[: gap.start()]
    return text
