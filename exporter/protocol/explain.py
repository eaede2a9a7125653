"""Explains a reply frame byte by byte, or says why it is not valid."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from exporter.errors import DecodeError
from exporter.protocol import jbd
from exporter.protocol.frame import HEAD, OVERHEAD, TAIL, Command, Frame, checksum
from exporter.protocol.parameter_block import BLOCK, COUNT, FIRST, decode_block
from exporter.protocol.registers import Register, bits_set
from exporter.protocol.settings import REGISTER_NAMES, SETTING_NAMES, Kind
from exporter.protocol.settings_values import decode_setting

HEADER: Final = 4  # head, register, status, length
COPY_AGAIN: Final = "a byte was changed or lost; copy it again"
REST_IS_MISSING: Final = "give all its notifications, in their order"
MIN_CELLS: Final = 3  # the smallest board that JBD sells


@dataclass(frozen=True, slots=True)
class Line:
    """Neighbouring bytes of a frame and their meaning."""

    at: int  # from the frame's first byte
    raw: bytes
    name: str
    value: str = ""


def register_name(register: int) -> str:
    """Return the name of a register, or "unknown register"."""
    return REGISTER_NAMES.get(register, "unknown register")


def parse_frame(raw: bytes) -> Frame:
    """Return the reply frame in `raw`.

    Raises:
        DecodeError: It is no valid frame; the message names the first mistake.
    """
    if raw[:1] != bytes([HEAD]):
        got = raw[:1].hex().upper() or "nothing"
        raise DecodeError(f"head: expected DD, got {got}: this is no reply of a JBD BMS")
    length = f"length {raw[3]}" if len(raw) >= HEADER else "the shortest frame"
    expected = OVERHEAD + raw[3] if len(raw) >= HEADER else OVERHEAD
    if len(raw) != expected:
        advice = REST_IS_MISSING if len(raw) < expected else COPY_AGAIN
        raise DecodeError(f"size: expected {expected} bytes ({length}), got {len(raw)}: {advice}")
    if raw[-1] != TAIL:
        raise DecodeError(f"tail: expected {TAIL:02X}, got {raw[-1]:02X}: {COPY_AGAIN}")
    right = checksum(raw[2:-3])
    if raw[-3:-1] != right:
        raise DecodeError(
            f"checksum: expected {right.hex().upper()}, got {raw[-3:-1].hex().upper()}: "
            f"{COPY_AGAIN}"
        )
    return Frame(register=raw[1], status=raw[2], payload=raw[HEADER:-3])


def check_plausible(frame: Frame) -> None:
    """Refuse a payload of another register, in a reply with status 0.

    The checksum does not cover the register byte, and there is no request to compare it with.

    Raises:
        DecodeError: The payload cannot be this register's.
    """
    if frame.register == Command.CELL_VOLTAGES:
        count = len(jbd.decode_cells(frame.payload))
        if count < MIN_CELLS:
            raise DecodeError(f"cell voltages: expected at least {MIN_CELLS} cells, got {count}")
        _check_not_text("cell voltages", frame.payload)  # as numbers, text is cells above 8 V
    if frame.register == Command.EVENT_COUNTERS:
        # The barcode (register 0xA2) begins with its length, which is no character.
        _check_not_text("event counters", frame.payload[1:])
    if frame.register == Command.HARDWARE:
        name = jbd.decode_hardware(frame.payload)
        if not any(character.isalnum() for character in name):
            raise DecodeError(f"hardware name: expected letters or digits, got {name!r}")


def _check_not_text(name: str, payload: bytes) -> None:
    text = payload.rstrip(b"\0").decode("latin-1")
    if text and text.isascii() and text.isprintable():
        raise DecodeError(f"{name}: expected numbers, got the text {text!r}")


def explain(frame: Frame, *, has_100_ma_unit: bool = False) -> Iterator[Line]:
    """Yield every byte of a frame, in order.

    Args:
        frame: The frame.
        has_100_ma_unit: For a setting, whether register 0x2D of the battery says so.

    Raises:
        DecodeError: Its payload is shorter than its own counts say, or has the wrong size.
    """
    payload = frame.payload
    yield Line(0, bytes([HEAD]), "head")
    register = bytes([frame.register])
    yield Line(1, register, "register", register_name(frame.register))
    yield Line(2, bytes([frame.status]), "status", jbd.status_name(frame.status))
    size = f"{len(payload)} bytes" if payload else "0 bytes: no value"
    yield Line(3, bytes([len(payload)]), "length", size)
    at = HEADER
    for line in _payload(frame, has_100_ma_unit=has_100_ma_unit):
        yield line
        at = line.at + len(line.raw)
    if rest := payload[at - HEADER :]:
        yield Line(at, rest, "payload" if at == HEADER else "not understood")
    at = HEADER + len(payload)
    yield Line(at, checksum(bytes([frame.status, len(payload)]) + payload), "checksum", "right")
    yield Line(at + 2, bytes([TAIL]), "tail")


def _payload(frame: Frame, *, has_100_ma_unit: bool) -> Iterator[Line]:
    if frame.status:
        return iter(())
    if is_setting(frame):
        return _setting(frame, has_100_ma_unit=has_100_ma_unit)
    if frame.register == BLOCK:
        return _block(frame, has_100_ma_unit=has_100_ma_unit)
    lines = PAYLOADS.get(frame.register)
    return lines(frame.payload) if lines else iter(())


def is_setting(frame: Frame) -> bool:
    """Return whether a reply holds a setting; one without a payload acknowledges a write."""
    return frame.register in SETTING_NAMES and bool(frame.payload)


def _line(payload: bytes, register: Register, *, base: int = 0, name: str = "") -> Line:
    at = base + register.at
    meaning = MEANINGS.get(register)
    value = meaning(register.raw(payload, base=base)) if meaning else None
    if value is None:
        value = f"{register.read(payload, base=base):g} {register.unit}".rstrip()
    return Line(HEADER + at, payload[at : at + register.size], name or register.name, value)


def _bits(raw: int, names: Sequence[str]) -> str:
    return ", ".join(names[bit] for bit in sorted(bits_set(raw)))


CELLS: Final = [f"cell {number}" for number in range(1, 33)]
MEANINGS: Final[Mapping[Register, Callable[[int], str | None]]] = {
    jbd.MANUFACTURED: lambda raw: str(jbd.unpack_date(raw) or "none"),
    jbd.BALANCE_1_16: lambda raw: _bits(raw, CELLS[:16]) or "none",
    jbd.BALANCE_17_32: lambda raw: _bits(raw, CELLS[16:]) or "none",
    jbd.PROTECTIONS: lambda raw: _bits(raw, jbd.PROTECTION_BITS) or "none",
    jbd.SOFTWARE: jbd.unpack_version,
    jbd.RSOC: lambda raw: f"{raw} %",
    jbd.STATUS: lambda raw: _bits(raw, jbd.STATUS_BITS) or "all off",
    jbd.NTC: lambda raw: "open or shorted" if raw in jbd.NO_TEMPERATURE else None,
}
"""The meaning of numbers that are not quantities; None: this one is a quantity."""


def _basic(payload: bytes) -> Iterator[Line]:
    for register in jbd.BASIC_FIELDS:
        yield _line(payload, jbd.scaled(register, payload))
    for number in range(jbd.NTC_COUNT.raw(payload)):
        yield _line(payload, jbd.NTC, base=number * jbd.NTC.size, name=f"NTC {number + 1}")
    base = jbd.trailing_base(payload)
    if base is not None:
        for register in jbd.TRAILING_FIELDS:
            yield _line(payload, jbd.scaled(register, payload), base=base)


def _cells(payload: bytes) -> Iterator[Line]:
    for number in range(len(jbd.decode_cells(payload))):
        base = number * jbd.CELL_VOLTAGE.size
        yield _line(payload, jbd.CELL_VOLTAGE, base=base, name=f"cell {number + 1}")


def _hardware(payload: bytes) -> Iterator[Line]:
    yield Line(HEADER, payload, "hardware name", jbd.decode_hardware(payload))


def _event_counters(payload: bytes) -> Iterator[Line]:
    counters = jbd.decode_event_counters(payload)
    restarts = () if counters.restarts is None else ("restarts",)
    for number, name in enumerate((*jbd.EVENT_COUNTER_BITS, *restarts)):
        yield _line(payload, jbd.EVENT_COUNT, base=number * jbd.EVENT_COUNT.size, name=name)


def _setting(frame: Frame, *, has_100_ma_unit: bool) -> Iterator[Line]:
    rows = decode_setting(frame.register, frame.payload, has_100_ma_unit=has_100_ma_unit)
    for row in rows:
        place = row.setting.place
        characters = frame.payload[0] if row.setting.kind is Kind.TEXT else 0
        raw = frame.payload[place.at : place.at + place.size + characters]
        yield Line(HEADER + place.at, raw, row.setting.name, row.words)


def _block(frame: Frame, *, has_100_ma_unit: bool) -> Iterator[Line]:
    payload = frame.payload
    parameters = decode_block(payload, has_100_ma_unit=has_100_ma_unit)
    yield _line(payload, FIRST)
    yield _line(payload, COUNT)
    for parameter in parameters:
        name, value = f"parameter {parameter.number}", ""
        if decoded := parameter.decoded:
            name, value = f"{name}, {decoded.setting.name}", decoded.words
        yield Line(HEADER + parameter.at, parameter.raw, name, value)


PAYLOADS: Final[dict[int, Callable[[bytes], Iterator[Line]]]] = {
    Command.BASIC_INFO: _basic,
    Command.CELL_VOLTAGES: _cells,
    Command.HARDWARE: _hardware,
    Command.EVENT_COUNTERS: _event_counters,
}
