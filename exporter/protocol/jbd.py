"""Decodes JBD payloads by the vendor's tables of 0x03, 0x04, 0x05 and 0xAA.

Source: vendor documents General Protocol V4 (sections 3 to 5) and V13, unless a line says
otherwise. Offsets count from the start of the payload, as in the documents.
"""

from dataclasses import replace
from datetime import date
from typing import Final

from exporter.errors import DecodeError
from exporter.protocol.registers import Register, bits_set
from exporter.reading import BasicInfo, EventCounters, Protection

# fmt: off
# Register 0x03, row by row as in the vendor's table.
VOLTAGE       = Register(name="voltage", at=0, size=2, unit="V", divisor=100)
CURRENT       = Register(name="current", at=2, size=2, unit="A", divisor=100, signed=True)
REMAINING     = Register(name="remaining capacity", at=4, size=2, unit="Ah", divisor=100)
NOMINAL       = Register(name="nominal capacity", at=6, size=2, unit="Ah", divisor=100)
CYCLES        = Register(name="cycles", at=8, size=2)
MANUFACTURED  = Register(name="manufactured", at=10, size=2)
BALANCE_1_16  = Register(name="balancing, cells 1 to 16", at=12, size=2)   # bit 0 = cell 1
BALANCE_17_32 = Register(name="balancing, cells 17 to 32", at=14, size=2)  # bit 0 = cell 17
PROTECTIONS   = Register(name="protections", at=16, size=2)
SOFTWARE      = Register(name="software version", at=18, size=1)           # 0x83 is 8.3
RSOC          = Register(name="state of charge", at=19, size=1, divisor=100)
STATUS        = Register(name="MOSFETs and status", at=20, size=1)
CELL_COUNT    = Register(name="cells", at=21, size=1)
NTC_COUNT     = Register(name="NTCs", at=22, size=1)
# 0.1 K; 2731 and not 2731.5 is 0 degrees, as the vendor's own app rounds.
NTC           = Register(name="NTC", at=23, size=2, unit="°C", divisor=10, offset=-2731)
NO_TEMPERATURE = (0x0000, 0xFFFF)  # of an open or shorted NTC: absolute zero and 6280.4 degrees

# Newer firmware: nine bytes behind the NTCs; `at` counts from there.
HUMIDITY        = Register(name="humidity (not exported)", at=0, size=1, unit="%")
ALARM           = Register(name="warnings (not exported)", at=1, size=2)
FULL            = Register(name="full capacity", at=3, size=2, unit="Ah", divisor=100)
REMAINING_AGAIN = Register(name="remaining capacity, again", at=5, size=2, unit="Ah", divisor=100)
# Sign: one source only (WattCycle notes).
BALANCE_CURRENT = Register(
    name="balance current", at=7, size=2, unit="A", divisor=1000, signed=True
)

# Register 0x04: millivolts, cell 1 first.
CELL_VOLTAGE = Register(name="cell", at=0, size=2, unit="V", divisor=1000)

BASIC_FIELDS: Final = (
    VOLTAGE, CURRENT, REMAINING, NOMINAL, CYCLES, MANUFACTURED, BALANCE_1_16, BALANCE_17_32,
    PROTECTIONS, SOFTWARE, RSOC, STATUS, CELL_COUNT, NTC_COUNT,
)
# fmt: on
TRAILING_FIELDS: Final = (HUMIDITY, ALARM, FULL, REMAINING_AGAIN, BALANCE_CURRENT)
TRAILING_SIZE: Final = 9
SCALED_FIELDS: Final = (CURRENT, REMAINING, NOMINAL, FULL, REMAINING_AGAIN)
"""The rows whose unit becomes 100 mA or 100 mAh with TENTHS_BIT."""

PROTECTION_BITS: Final = tuple(Protection)  # bit n of PROTECTIONS is the n-th member

CHARGE_FET_BIT: Final = 0
DISCHARGE_FET_BIT: Final = 1
HEATER_BIT: Final = 4
FACTORY_MODE_BIT: Final = 6
TENTHS_BIT: Final = 7  # current and capacities in 0.1 A and 0.1 Ah; source: vendor app notes
STATUS_BITS: Final = (
    "charge MOSFET on",
    "discharge MOSFET on",
    "pre-discharge",
    "heater indicator",
    "heater on",
    "forced discharge",
    "factory mode",
    "100 mA unit",
)

STATUS_NAMES: Final = {
    0x00: "ok",
    0x80: "unknown register",
    0x81: "refused: not authorised or not in factory mode",
    0x82: "checksum error",
    0x83: "wrong password",
}

EVENT_COUNTER_BITS: Final = (
    Protection.SHORT_CIRCUIT,
    Protection.CHARGE_OVERCURRENT,
    Protection.DISCHARGE_OVERCURRENT,
    Protection.CELL_OVERVOLTAGE,
    Protection.CELL_UNDERVOLTAGE,
    Protection.CHARGE_OVERTEMPERATURE,
    Protection.CHARGE_UNDERTEMPERATURE,
    Protection.DISCHARGE_OVERTEMPERATURE,
    Protection.DISCHARGE_UNDERTEMPERATURE,
    Protection.PACK_OVERVOLTAGE,
    Protection.PACK_UNDERVOLTAGE,
)
"""The order of register 0xAA."""
RESTARTS_WORD: Final = len(EVENT_COUNTER_BITS)  # V13; older firmware sends eleven words
EVENT_COUNT: Final = Register(name="events", at=0, size=2)


def status_name(status: int) -> str:
    """Return the meaning of a reply's status byte."""
    return STATUS_NAMES.get(status, "unknown status")


def scaled(register: Register, payload: bytes) -> Register:
    """Return a row of 0x03 with this payload's unit: 10 mA and 10 mAh, or 100 of each."""
    if register in SCALED_FIELDS and STATUS.raw(payload) >> TENTHS_BIT & 1:
        return replace(register, divisor=register.divisor // 10)
    return register


def decode_basic(payload: bytes) -> BasicInfo:
    """Decode register 0x03.

    Raises:
        DecodeError: The payload is shorter than its own NTC count says, or its state of charge
            is above 100 %.
    """
    temperatures_c = tuple(_temperature_c(payload, i) for i in range(NTC_COUNT.raw(payload)))
    rsoc_ratio = RSOC.read(payload)
    if rsoc_ratio > 1:
        raise DecodeError(f"state of charge: expected at most 100 %, got {rsoc_ratio:.0%}")
    status = bits_set(STATUS.raw(payload))
    full_ah, balance_current_a = _trailing_block(payload)
    balance_mask = BALANCE_17_32.raw(payload) << 16 | BALANCE_1_16.raw(payload)
    return BasicInfo(
        voltage_v=VOLTAGE.read(payload),
        current_a=scaled(CURRENT, payload).read(payload),
        remaining_ah=scaled(REMAINING, payload).read(payload),
        nominal_ah=scaled(NOMINAL, payload).read(payload),
        full_ah=full_ah,
        balance_current_a=balance_current_a,
        rsoc_ratio=rsoc_ratio,
        cycles=CYCLES.raw(payload),
        manufactured=unpack_date(MANUFACTURED.raw(payload)),
        software=unpack_version(SOFTWARE.raw(payload)),
        cell_count=CELL_COUNT.raw(payload),
        balancing_cells=frozenset(bit + 1 for bit in bits_set(balance_mask)),
        protections=frozenset(PROTECTION_BITS[bit] for bit in bits_set(PROTECTIONS.raw(payload))),
        charge_fet_on=CHARGE_FET_BIT in status,
        discharge_fet_on=DISCHARGE_FET_BIT in status,
        heater_on=HEATER_BIT in status,
        factory_mode=FACTORY_MODE_BIT in status,
        temperatures_c=temperatures_c,
    )


def _temperature_c(payload: bytes, index: int) -> float | None:
    base = index * NTC.size
    return None if NTC.raw(payload, base=base) in NO_TEMPERATURE else NTC.read(payload, base=base)


def trailing_base(payload: bytes) -> int | None:
    """Return the offset of the trailing block of 0x03; None: there is none that can be trusted.

    It is trusted if it has nine bytes, a full capacity above 0, and the same remaining capacity as
    0x03. Some firmware sends other data there (Daren clones: eight bytes). The nominal capacity is
    no criterion: on some batteries it was never set.
    """
    base = NTC.at + NTC.size * NTC_COUNT.raw(payload)
    if len(payload) < base + TRAILING_SIZE:
        return None
    is_learned = FULL.raw(payload, base=base) > 0
    is_repeated = REMAINING_AGAIN.raw(payload, base=base) == REMAINING.raw(payload)
    return base if is_learned and is_repeated else None


def _trailing_block(payload: bytes) -> tuple[float | None, float | None]:
    base = trailing_base(payload)
    if base is None:
        return None, None
    full_ah = scaled(FULL, payload).read(payload, base=base)
    return full_ah, BALANCE_CURRENT.read(payload, base=base)


def unpack_date(raw: int) -> date | None:
    """Return the date packed as YYYYYYYMMMMDDDDD; None: it is invalid (often 0)."""
    try:
        return date(2000 + (raw >> 9), raw >> 5 & 0b1111, raw & 0b11111)
    except ValueError:
        return None


def unpack_version(raw: int) -> str:
    """Return the version in two nibbles: 0x83 is "8.3"."""
    return f"{raw >> 4}.{raw & 0b1111}"


def decode_cells(payload: bytes) -> tuple[float, ...]:
    """Decode register 0x04 into volts as measured, cell 1 first.

    A broken sense wire reads 0 V, or more than a cell can have; neither is refused.

    Raises:
        DecodeError: The number of bytes is odd.
    """
    size = CELL_VOLTAGE.size
    if len(payload) % size:
        raise DecodeError(f"cell voltages: expected 2 bytes a cell, got {len(payload)} bytes")
    return tuple(CELL_VOLTAGE.read(payload, base=base) for base in range(0, len(payload), size))


def fitted_cells(volts: tuple[float, ...], cell_count: int) -> tuple[float | None, ...]:
    """Replace the taps at 0 mV beyond `cell_count` by None: no cell is connected there."""
    return tuple(
        None if number > cell_count and not cell_v else cell_v
        for number, cell_v in enumerate(volts, start=1)
    )


def decode_hardware(payload: bytes) -> str:
    """Decode register 0x05, the name of the board; padding is removed.

    Raises:
        DecodeError: The name is not printable ASCII.
    """
    text = payload.rstrip(b"\0 ")
    if not (text.isascii() and text.decode("latin-1").isprintable()):
        raise DecodeError(f"hardware name: expected printable ASCII, got {text.hex(' ')}")
    return text.decode("ascii")


def decode_event_counters(payload: bytes) -> EventCounters:
    """Decode register 0xAA: eleven counters, then the restarts if the firmware counts them.

    Source: two vendor documents describe eleven words, V13 twelve; more are not documented.

    Raises:
        DecodeError: The payload is shorter than eleven words, or its size is odd.
    """
    size, least = EVENT_COUNT.size, EVENT_COUNT.size * len(EVENT_COUNTER_BITS)
    if len(payload) < least or len(payload) % size:
        raise DecodeError(
            f"event counters: expected an even size of at least {least} bytes, got {len(payload)}"
        )
    counts = [EVENT_COUNT.raw(payload, base=base) for base in range(0, len(payload), size)]
    return EventCounters(
        protection_events=dict(zip(EVENT_COUNTER_BITS, counts, strict=False)),
        restarts=counts[RESTARTS_WORD] if len(counts) > RESTARTS_WORD else None,
    )
