"""Decodes register 0xFA, a block of parameters, as the vendor document V11 describes it.

V11 gives the settings of 0x10 to 0x47 new numbers. V19 gives 0xFA another meaning, and no recorded
battery has answered it, so the exporter never requests it.

Source: General Protocol V11 (2023-03-21), section 5.1.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from exporter.errors import DecodeError
from exporter.protocol.registers import Register
from exporter.protocol.settings_values import Decoded, decode_setting

BLOCK: Final = 0xFA
FIRST: Final = Register(name="first parameter", at=0, size=2)
COUNT: Final = Register(name="parameters", at=2, size=1)
WORD: Final = Register(name="parameter", at=3, size=2)

CONSUMPTION: Final = 4  # in mA; register 0x14 is the self-discharge
REGISTERS: Final = {
    **{number: 0x10 + number for number in range(40) if number != CONSUMPTION},
    **{number: 0x40 + number - 104 for number in range(104, 112)},
}
"""The registers with the same unit, by the number of the parameter."""
TEXTS: Final = {56: 0xA0, 72: 0xA1, 88: 0xA2}
TEXT_WORDS: Final = 16


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter, or the parameters of one text."""

    number: int
    at: int  # from the start of the payload
    raw: bytes
    decoded: Decoded | None  # None: no register has the same unit


def decode_block(payload: bytes, *, has_100_ma_unit: bool = False) -> tuple[Parameter, ...]:
    """Decode the parameters of a block, in their order; the unit is that of `decode_setting`.

    Raises:
        DecodeError: The payload has not the size that its count says, or a value cannot be true.
    """
    count = COUNT.raw(payload)
    expected = WORD.at + WORD.size * count
    if len(payload) != expected:
        raise DecodeError(
            f"parameter block: expected {expected} bytes for {count} parameters, got {len(payload)}"
        )
    return tuple(_parameters(payload, has_100_ma_unit=has_100_ma_unit))


def numbers(payload: bytes) -> dict[str, int | list[int]]:
    """Return the number of the first parameter, and all parameters undivided."""
    bases = range(0, len(payload) - WORD.at, WORD.size)
    return {
        "first": FIRST.raw(payload),
        "words": [WORD.raw(payload, base=base) for base in bases],
    }


def _parameters(payload: bytes, *, has_100_ma_unit: bool) -> Iterator[Parameter]:
    at, number = WORD.at, FIRST.raw(payload)
    while at < len(payload):
        text = TEXTS.get(number)
        is_text = text is not None and len(payload) - at >= TEXT_WORDS * WORD.size
        count = TEXT_WORDS if is_text else 1
        raw = payload[at : at + count * WORD.size]
        register = text if is_text else REGISTERS.get(number)
        decoded = None
        if register is not None:
            (decoded,) = decode_setting(register, raw, has_100_ma_unit=has_100_ma_unit)
        yield Parameter(number, at, raw, decoded)
        at += len(raw)
        number += count
