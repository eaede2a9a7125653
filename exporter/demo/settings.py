"""The settings of the demo's batteries: those of a recorded board, with a few of their own.

Source: tests/frames/jbd-settings.json, JBD-SP04S034-L4S-200A-B-U (4S, 280 Ah), software 8.0. Its
charge undertemperature is -10 degrees; 0x31 and 0x40 to 0x47 were not recorded.
"""

from datetime import date
from typing import Final

from exporter.protocol.settings import SETTINGS

RECORDED: Final = {
    0x12: "0dac", 0x13: "0af0", 0x14: "0002", 0x16: "0000", 0x17: "0000", 0x18: "0d99",
    0x19: "0cd1", 0x1A: "0a47", 0x1B: "0aab", 0x1C: "0d99", 0x1D: "0cd1", 0x1E: "0a47",
    0x1F: "0aab", 0x20: "05b4", 0x21: "058c", 0x22: "03e8", 0x23: "0438", 0x24: "0e42",
    0x25: "0dde", 0x26: "09c4", 0x27: "0a8c", 0x2A: "0c80", 0x2B: "001e", 0x2C: "0001",
    0x2D: "0006", 0x2E: "0003", 0x2F: "0004", 0x30: "001e",
    0x32: "0d48", 0x33: "0d16", 0x34: "0ce4", 0x35: "0c1c", 0x36: "0f3c", 0x37: "07d0",
    0x38: "8d5c", 0x39: "f064", 0x3A: "0202", 0x3B: "0202", 0x3C: "0202", 0x3D: "0202",
    0x3E: "0a1e", 0x3F: "0a1e",
}  # fmt: skip
"""Without the registers that differ from battery to battery; two NTCs instead of three."""
LIMIT_A_PER_AH: Final = 1.1  # as in the tool file of an 8S board for 100 A
CYCLE_RATIO: Final = 0.8  # of the design capacity, on every recorded board


def make_settings(
    nominal_ah: float,
    hardware: str,
    manufactured: date,
    *,
    charge_from_c: tuple[float, float] | None = None,
) -> dict[int, bytes]:
    """Return the payloads of a battery's settings.

    Args:
        nominal_ah: Its capacity.
        hardware: The name of its board.
        manufactured: When it was made.
        charge_from_c: The temperatures at which the frost protection stops the charging, and
            allows it again; None: those of the recorded board.
    """
    payloads = {register: bytes.fromhex(word) for register, word in RECORDED.items()}
    payloads[0x10] = _encode(0x10, nominal_ah)
    payloads[0x11] = _encode(0x11, nominal_ah * CYCLE_RATIO)
    payloads[0x28] = _encode(0x28, nominal_ah * LIMIT_A_PER_AH)
    payloads[0x29] = _encode(0x29, -nominal_ah * LIMIT_A_PER_AH)
    packed = manufactured.year - 2000 << 9 | manufactured.month << 5 | manufactured.day
    payloads[0x15] = packed.to_bytes(2, "big")
    for register, celsius in zip((0x1A, 0x1B), charge_from_c or (), strict=False):
        payloads[register] = _encode(register, celsius)
    for register, text in ((0xA0, "DGJBD"), (0xA1, hardware), (0xA2, "")):
        payloads[register] = bytes([len(text)]) + text.encode("ascii")
    return payloads


def _encode(register: int, value: float) -> bytes:
    """Return the payload of a number: the inverse of `Register.read`."""
    place = next(setting.place for setting in SETTINGS if setting.register == register)
    raw = round(value * place.divisor) - place.offset
    return raw.to_bytes(place.size, "big", signed=place.signed)
