"""The decoded replies of one poll, one class for each register."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum


class Protection(StrEnum):
    """A reason for which the BMS opened a MOSFET; the n-th member is bit n of its state.

    Source: General Protocol V4, section 3; bit 12 by V13. The meaning of bits 13 to 15 depends on
    the firmware, so they have numbers as names.
    """

    CELL_OVERVOLTAGE = "cell_overvoltage"
    CELL_UNDERVOLTAGE = "cell_undervoltage"
    PACK_OVERVOLTAGE = "pack_overvoltage"
    PACK_UNDERVOLTAGE = "pack_undervoltage"
    CHARGE_OVERTEMPERATURE = "charge_overtemperature"
    CHARGE_UNDERTEMPERATURE = "charge_undertemperature"
    DISCHARGE_OVERTEMPERATURE = "discharge_overtemperature"
    DISCHARGE_UNDERTEMPERATURE = "discharge_undertemperature"
    CHARGE_OVERCURRENT = "charge_overcurrent"
    DISCHARGE_OVERCURRENT = "discharge_overcurrent"
    SHORT_CIRCUIT = "short_circuit"
    FRONTEND_IC_ERROR = "frontend_ic_error"
    MOSFET_SOFTWARE_LOCK = "mosfet_software_lock"
    BIT13 = "bit13"
    BIT14 = "bit14"
    BIT15 = "bit15"


@dataclass(frozen=True, slots=True, kw_only=True)
class BasicInfo:
    """Register 0x03. Current is positive while charging; cells are numbered from 1."""

    voltage_v: float
    current_a: float
    remaining_ah: float
    nominal_ah: float
    full_ah: float | None  # learned by newer firmware; None: not reported
    balance_current_a: float | None  # None: not reported
    rsoc_ratio: float  # 0 to 1, as the BMS computes it
    cycles: int
    manufactured: date | None  # None: the BMS was never given a date
    software: str
    cell_count: int
    balancing_cells: frozenset[int]
    protections: frozenset[Protection]
    charge_fet_on: bool
    discharge_fet_on: bool
    heater_on: bool
    factory_mode: bool
    temperatures_c: tuple[float | None, ...]  # in the BMS's order; None: an open or shorted NTC


@dataclass(frozen=True, slots=True, kw_only=True)
class EventCounters:
    """Register 0xAA: how often each protection tripped. The battery may reset them."""

    protection_events: Mapping[Protection, int]
    restarts: int | None  # None: not reported


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Make and firmware of a battery. An empty text is unknown."""

    profile: str  # the GATT profile through which it answered
    hardware: str  # register 0x05
    software: str
    manufactured: date | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one poll has read; None: the register was not answered."""

    basic: BasicInfo | None = None
    cell_voltages_v: tuple[float | None, ...] | None = None  # cell 1 first; None: no cell there
    counters: EventCounters | None = None
    identity: Identity | None = None
    requested_at_s: float | None = None  # by the boot clock; all values are newer
