"""Decodes JBD's settings by the table in settings.py, into values and into words."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Final

from exporter.errors import DecodeError
from exporter.protocol import settings_codes as codes
from exporter.protocol.jbd import NO_TEMPERATURE, unpack_date
from exporter.protocol.registers import bits_set
from exporter.protocol.settings import (
    CAPACITY,
    CENTIAMPERES,
    FUNCTION_BITS,
    FUNCTIONS,
    SETTING_NAMES,
    SETTINGS,
    SHUNT,
    Function,
    Kind,
    Setting,
)
from exporter.reading import Protection

Value = float | str | date | frozenset[Function] | frozenset[int] | None
"""None: it is not set, or its code is that of an unknown chip."""

SIZE: Final = 2  # bytes of every register except the texts
FINE_SHUNT: Final = replace(SHUNT, divisor=100_000)
FINE_SHUNT_BIT: Final = 1 << 15  # V11: the other bits count 0.01 mΩ
CHIP: Final = ", if its chip is a BQ769x0"
UNKNOWN_CODE: Final = "code of another chip than the BQ769x0"
ACRONYM: Final = re.compile(r"\b(led|rtc|edv|gps)\b")
FUNCTION_WORDS: Final = {
    one: ACRONYM.sub(lambda found: found[0].upper(), one.replace("_", " ")) for one in Function
}
LARGE_UNITS: Final = {
    CENTIAMPERES: replace(CENTIAMPERES, divisor=10),
    CAPACITY: replace(CAPACITY, divisor=10),
    SHUNT: FINE_SHUNT,
}


Outcome = tuple[dict[str, Value], str]
"""Values by their names in JSON, and the same in words."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """One row of the vendor's table, read."""

    setting: Setting
    values: dict[str, Value]  # a coded byte has two
    words: str


def decode_setting(
    register: int, payload: bytes, *, has_100_ma_unit: bool = False
) -> list[Decoded]:
    """Decode one register, row by row in the order of its bytes.

    Args:
        register: One of SETTING_NAMES.
        payload: That of a reply with status 0.
        has_100_ma_unit: Whether register 0x2D of the same battery says so.

    Raises:
        DecodeError: The payload has the wrong size, or its value cannot be true.
    """
    rows = [setting for setting in SETTINGS if setting.register == register]
    if rows[0].kind is not Kind.TEXT:
        _check_size(register, payload)
    if has_100_ma_unit:
        rows = [replace(row, place=LARGE_UNITS.get(row.place, row.place)) for row in rows]
    return [Decoded(row, *DECODERS[row.kind](row, payload)) for row in rows]


def says_100_ma_unit(payload: bytes) -> bool:
    """Return whether a payload of 0x2D gives currents and capacities a larger unit.

    They then count 0.1 A and 0.1 Ah, and the shunt 0.01 mΩ. Source: V11, section 5.

    Raises:
        DecodeError: The payload has the wrong size.
    """
    _check_size(FUNCTIONS, payload)
    return any(FUNCTION_BITS[bit] is Function.UNIT_100_MA for bit in _bits(payload))


def merge_values(rows: Iterable[Decoded]) -> dict[str, Value]:
    """Return all values by their names in JSON."""
    return {key: value for row in rows for key, value in row.values.items()}


def _check_size(register: int, payload: bytes) -> None:
    if len(payload) != SIZE:
        name = SETTING_NAMES[register]
        raise DecodeError(f"{name}: expected {SIZE} bytes, got {len(payload)}")


def _number(setting: Setting, payload: bytes) -> Outcome:
    value = setting.place.read(payload)
    number = value if setting.place.divisor > 1 else int(value)
    return {setting.key: number}, f"{value:g} {setting.place.unit}".rstrip()


def _raw(setting: Setting, payload: bytes) -> Outcome:
    number = setting.place.raw(payload)
    return {setting.key: number}, f"{number} (unit not known)"


def _ratio(setting: Setting, payload: bytes) -> Outcome:
    ratio = setting.place.read(payload)
    return {setting.key: ratio}, f"{ratio * 100:g} %"


def _current(setting: Setting, payload: bytes) -> Outcome:
    """Decode a limit.

    Raises:
        DecodeError: It has the sign of the other direction, as one above 327.67 A would have.
    """
    amperes = setting.place.read(payload)
    is_charging = setting.protection is Protection.CHARGE_OVERCURRENT
    if amperes < 0 if is_charging else amperes > 0:
        sign = "positive" if is_charging else "negative"
        raise DecodeError(f"{setting.name}: expected a {sign} current, got {amperes:g} A")
    return _number(setting, payload)


def _shunt(setting: Setting, payload: bytes) -> Outcome:
    raw = setting.place.raw(payload)
    divisor = FINE_SHUNT.divisor if raw & FINE_SHUNT_BIT else setting.place.divisor
    ohm = (raw & ~FINE_SHUNT_BIT) / divisor
    return {setting.key: ohm}, f"{ohm * 1000:g} mΩ"


def _temperature(setting: Setting, payload: bytes) -> Outcome:
    if setting.place.raw(payload) in NO_TEMPERATURE:
        return {setting.key: None}, "none"
    return _number(setting, payload)


def _date(setting: Setting, payload: bytes) -> Outcome:
    day = unpack_date(setting.place.raw(payload))
    return {setting.key: day}, str(day or "none")


def _text(setting: Setting, payload: bytes) -> Outcome:
    """Decode a text behind its length; bytes after it are not shown.

    Raises:
        DecodeError: The text is shorter than its length, or not printable ASCII.
    """
    size = payload[0] if payload else 0
    text = payload[1 : 1 + size]
    if not payload or len(text) < size:
        raise DecodeError(
            f"{setting.name}: expected a length and {size} characters, got {len(payload)} bytes"
        )
    shown = text.rstrip(b"\0 ").decode("latin-1")
    if not (shown.isascii() and shown.isprintable()):
        raise DecodeError(f"{setting.name}: expected printable ASCII, got {text.hex(' ')}")
    return {setting.key: shown}, shown or "none"


def _bits(payload: bytes) -> list[int]:
    return sorted(bits_set(int.from_bytes(payload, "big")))


def _functions(setting: Setting, payload: bytes) -> Outcome:
    functions = [FUNCTION_BITS[bit] for bit in _bits(payload)]
    words = ", ".join(FUNCTION_WORDS[one] for one in functions)
    return {setting.key: frozenset(functions)}, words or "none"


def _ntcs(setting: Setting, payload: bytes) -> Outcome:
    numbers = [bit + 1 for bit in _bits(payload)]
    words = ", ".join(f"NTC {number}" for number in numbers)
    return {setting.key: frozenset(numbers)}, words or "none"


def _short_circuit(setting: Setting, payload: bytes) -> Outcome:
    return _surge(setting, codes.short_circuit(payload), "µs", 1_000_000)


def _second_overcurrent(setting: Setting, payload: bytes) -> Outcome:
    return _surge(setting, codes.second_overcurrent(payload), "ms", 1000)


def _surge(setting: Setting, surge: codes.Surge | None, unit: str, per_second: int) -> Outcome:
    shunt_v, delay_s = (surge.shunt_v, surge.delay_s) if surge else (None, None)
    words = UNKNOWN_CODE
    if surge:
        delay = f"{surge.delay_s * per_second:g} {unit}"
        words = f"{surge.shunt_v * 1000:g} mV across the shunt for {delay}{CHIP}"
    return {f"{setting.key}_shunt_v": shunt_v, f"{setting.key}_delay_s": delay_s}, words


def _hard_delays(setting: Setting, payload: bytes) -> Outcome:
    delays_s = codes.hard_delays_s(payload)
    under_s, over_s = delays_s or (None, None)
    key = setting.key
    words = f"undervoltage {under_s} s, overvoltage {over_s} s{CHIP}" if delays_s else UNKNOWN_CODE
    return {f"{key}_undervoltage_delay_s": under_s, f"{key}_overvoltage_delay_s": over_s}, words


DECODERS: Final[Mapping[Kind, Callable[[Setting, bytes], Outcome]]] = {
    Kind.NUMBER: _number,
    Kind.RAW: _raw,
    Kind.RATIO: _ratio,
    Kind.CURRENT: _current,
    Kind.SHUNT: _shunt,
    Kind.TEMPERATURE: _temperature,
    Kind.DATE: _date,
    Kind.FUNCTIONS: _functions,
    Kind.NTCS: _ntcs,
    Kind.SHORT_CIRCUIT: _short_circuit,
    Kind.SECOND_OVERCURRENT: _second_overcurrent,
    Kind.HARD_DELAYS: _hard_delays,
    Kind.TEXT: _text,
}
