"""The table of JBD's settings, registers 0x10 to 0x47 and 0xA0 to 0xA2.

The BMS shows them only while its factory mode is open.

Source: General Protocol V4 and V11 (section 5), checked against the recorded frames in
tests/frames/jbd-settings.json; 0x42 to 0x47: Overkill Solar's register notes. 0x14 is the
consumption of the board, in mA, in V11; all recorded boards have 0.2 % there.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from exporter.protocol.registers import Register
from exporter.reading import Protection


class Function(StrEnum):
    """A function of the BMS; the n-th member is bit n of register 0x2D.

    Bits 6 to 9 moved when V11 added one, so they have both names. Nothing names bits 13 to 15.
    """

    SWITCH = "switch"
    LOAD_DETECTION = "load_detection"
    BALANCING = "balancing"
    CHARGE_BALANCING = "charge_balancing"  # balances only while charging
    LED = "led"
    LED_COUNT = "led_count"
    RTC_OR_FULL_CAPACITY_LIMIT = "rtc_or_full_capacity_limit"
    EDV_OR_RTC = "edv_or_rtc"
    GPS_OR_CHARGE_HANDSHAKE = "gps_or_charge_handshake"
    BUZZER_OR_GPS = "buzzer_or_gps"
    BUZZER = "buzzer"
    STARTER_BATTERY = "starter_battery"
    UNIT_100_MA = "100_mA_unit"
    BIT13 = "bit13"
    BIT14 = "bit14"
    BIT15 = "bit15"


FUNCTION_BITS: Final = tuple(Function)
FUNCTIONS: Final = 0x2D


class Kind(StrEnum):
    """What the bytes of a setting are."""

    NUMBER = "number"
    RAW = "raw"  # a number whose unit no source says for certain
    RATIO = "ratio"
    CURRENT = "current"
    SHUNT = "shunt"
    TEMPERATURE = "temperature"
    DATE = "date"
    FUNCTIONS = "functions"
    NTCS = "ntcs"
    SHORT_CIRCUIT = "short circuit"
    SECOND_OVERCURRENT = "second overcurrent"
    HARD_DELAYS = "hard delays"
    TEXT = "text"


class Role(StrEnum):
    """What a setting is to its protection."""

    THRESHOLD = "threshold"  # the BMS opens a MOSFET
    RELEASE = "release"  # the BMS closes it again
    DELAY = "delay"  # from the threshold to the opening
    RELEASE_DELAY = "release delay"


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the vendor's table."""

    register: int
    name: str
    key: str  # its name in JSON, with the unit
    place: Register  # where in the payload it is, its unit and its scale
    kind: Kind = Kind.NUMBER
    protection: Protection | None = None
    role: Role | None = None


COUNT: Final = Register(name="count", at=0, size=2)
MILLIVOLTS: Final = Register(name="mV", at=0, size=2, unit="V", divisor=1000)
CENTIVOLTS: Final = Register(name="10 mV", at=0, size=2, unit="V", divisor=100)
CENTIAMPERES: Final = Register(name="10 mA", at=0, size=2, unit="A", divisor=100, signed=True)
CAPACITY: Final = Register(name="10 mAh", at=0, size=2, unit="Ah", divisor=100)
KELVIN: Final = Register(name="0.1 K", at=0, size=2, unit="°C", divisor=10, offset=-2731)
PER_MILLE: Final = Register(name="0.1 %", at=0, size=2, divisor=1000)
SHUNT: Final = Register(name="0.1 mΩ", at=0, size=2, unit="Ω", divisor=10_000)
SECONDS: Final = Register(name="s", at=0, size=2, unit="s")
LENGTH: Final = Register(name="length", at=0, size=1)  # then that many characters
BYTE_0: Final = Register(name="s", at=0, size=1, unit="s")
BYTE_1: Final = Register(name="s", at=1, size=1, unit="s")


P, K, R = Protection, Kind, Role
# fmt: off
SETTINGS: Final = (
    Setting(0x10, "design capacity", "design_capacity_ah", CAPACITY),
    Setting(0x11, "cycle capacity", "cycle_capacity_ah", CAPACITY),
    Setting(0x12, "cell voltage at 100 %", "cell_full_v", MILLIVOLTS),
    Setting(0x13, "cell voltage at 0 %", "cell_empty_v", MILLIVOLTS),
    Setting(0x14, "self-discharge", "self_discharge_ratio", PER_MILLE, K.RATIO),
    Setting(0x15, "manufacture date", "manufactured", COUNT, K.DATE),
    Setting(0x16, "serial number", "serial", COUNT),
    Setting(0x17, "cycle count", "cycles", COUNT),
    Setting(0x18, "charge overtemperature", "charge_overtemperature_c", KELVIN, K.TEMPERATURE, P.CHARGE_OVERTEMPERATURE, R.THRESHOLD),
    Setting(0x19, "charge overtemperature release", "charge_overtemperature_release_c", KELVIN, K.TEMPERATURE, P.CHARGE_OVERTEMPERATURE, R.RELEASE),
    Setting(0x1A, "charge undertemperature", "charge_undertemperature_c", KELVIN, K.TEMPERATURE, P.CHARGE_UNDERTEMPERATURE, R.THRESHOLD),
    Setting(0x1B, "charge undertemperature release", "charge_undertemperature_release_c", KELVIN, K.TEMPERATURE, P.CHARGE_UNDERTEMPERATURE, R.RELEASE),
    Setting(0x1C, "discharge overtemperature", "discharge_overtemperature_c", KELVIN, K.TEMPERATURE, P.DISCHARGE_OVERTEMPERATURE, R.THRESHOLD),
    Setting(0x1D, "discharge overtemperature release", "discharge_overtemperature_release_c", KELVIN, K.TEMPERATURE, P.DISCHARGE_OVERTEMPERATURE, R.RELEASE),
    Setting(0x1E, "discharge undertemperature", "discharge_undertemperature_c", KELVIN, K.TEMPERATURE, P.DISCHARGE_UNDERTEMPERATURE, R.THRESHOLD),
    Setting(0x1F, "discharge undertemperature release", "discharge_undertemperature_release_c", KELVIN, K.TEMPERATURE, P.DISCHARGE_UNDERTEMPERATURE, R.RELEASE),
    Setting(0x20, "pack overvoltage", "pack_overvoltage_v", CENTIVOLTS, K.NUMBER, P.PACK_OVERVOLTAGE, R.THRESHOLD),
    Setting(0x21, "pack overvoltage release", "pack_overvoltage_release_v", CENTIVOLTS, K.NUMBER, P.PACK_OVERVOLTAGE, R.RELEASE),
    Setting(0x22, "pack undervoltage", "pack_undervoltage_v", CENTIVOLTS, K.NUMBER, P.PACK_UNDERVOLTAGE, R.THRESHOLD),
    Setting(0x23, "pack undervoltage release", "pack_undervoltage_release_v", CENTIVOLTS, K.NUMBER, P.PACK_UNDERVOLTAGE, R.RELEASE),
    Setting(0x24, "cell overvoltage", "cell_overvoltage_v", MILLIVOLTS, K.NUMBER, P.CELL_OVERVOLTAGE, R.THRESHOLD),
    Setting(0x25, "cell overvoltage release", "cell_overvoltage_release_v", MILLIVOLTS, K.NUMBER, P.CELL_OVERVOLTAGE, R.RELEASE),
    Setting(0x26, "cell undervoltage", "cell_undervoltage_v", MILLIVOLTS, K.NUMBER, P.CELL_UNDERVOLTAGE, R.THRESHOLD),
    Setting(0x27, "cell undervoltage release", "cell_undervoltage_release_v", MILLIVOLTS, K.NUMBER, P.CELL_UNDERVOLTAGE, R.RELEASE),
    Setting(0x28, "charge overcurrent", "charge_overcurrent_a", CENTIAMPERES, K.CURRENT, P.CHARGE_OVERCURRENT, R.THRESHOLD),
    Setting(0x29, "discharge overcurrent", "discharge_overcurrent_a", CENTIAMPERES, K.CURRENT, P.DISCHARGE_OVERCURRENT, R.THRESHOLD),
    Setting(0x2A, "balance start voltage", "balance_start_v", MILLIVOLTS),
    Setting(0x2B, "balance window", "balance_window_v", MILLIVOLTS),
    Setting(0x2C, "shunt", "shunt_ohm", SHUNT, K.SHUNT),
    Setting(0x2D, "functions", "functions", COUNT, K.FUNCTIONS),
    Setting(0x2E, "NTCs in use", "ntcs", COUNT, K.NTCS),
    Setting(0x2F, "cell count", "cells", COUNT),
    Setting(0x30, "MOSFET control time", "fet_control_s", SECONDS),
    Setting(0x31, "LED timer", "led_s", SECONDS),
    Setting(0x32, "cell voltage at 80 %", "cell_at_80_v", MILLIVOLTS),
    Setting(0x33, "cell voltage at 60 %", "cell_at_60_v", MILLIVOLTS),
    Setting(0x34, "cell voltage at 40 %", "cell_at_40_v", MILLIVOLTS),
    Setting(0x35, "cell voltage at 20 %", "cell_at_20_v", MILLIVOLTS),
    Setting(0x36, "hard cell overvoltage", "hard_cell_overvoltage_v", MILLIVOLTS),
    Setting(0x37, "hard cell undervoltage", "hard_cell_undervoltage_v", MILLIVOLTS),
    Setting(0x38, "short circuit", "short_circuit", BYTE_0, K.SHORT_CIRCUIT),
    Setting(0x38, "second overcurrent", "second_overcurrent", BYTE_1, K.SECOND_OVERCURRENT),
    Setting(0x39, "hard voltage delays", "hard_cell", BYTE_0, K.HARD_DELAYS),
    Setting(0x39, "short circuit release", "short_circuit_release_s", BYTE_1, K.NUMBER, P.SHORT_CIRCUIT, R.RELEASE_DELAY),
    Setting(0x3A, "charge undertemperature delay", "charge_undertemperature_delay_s", BYTE_0, K.NUMBER, P.CHARGE_UNDERTEMPERATURE, R.DELAY),
    Setting(0x3A, "charge overtemperature delay", "charge_overtemperature_delay_s", BYTE_1, K.NUMBER, P.CHARGE_OVERTEMPERATURE, R.DELAY),
    Setting(0x3B, "discharge undertemperature delay", "discharge_undertemperature_delay_s", BYTE_0, K.NUMBER, P.DISCHARGE_UNDERTEMPERATURE, R.DELAY),
    Setting(0x3B, "discharge overtemperature delay", "discharge_overtemperature_delay_s", BYTE_1, K.NUMBER, P.DISCHARGE_OVERTEMPERATURE, R.DELAY),
    Setting(0x3C, "pack undervoltage delay", "pack_undervoltage_delay_s", BYTE_0, K.NUMBER, P.PACK_UNDERVOLTAGE, R.DELAY),
    Setting(0x3C, "pack overvoltage delay", "pack_overvoltage_delay_s", BYTE_1, K.NUMBER, P.PACK_OVERVOLTAGE, R.DELAY),
    Setting(0x3D, "cell undervoltage delay", "cell_undervoltage_delay_s", BYTE_0, K.NUMBER, P.CELL_UNDERVOLTAGE, R.DELAY),
    Setting(0x3D, "cell overvoltage delay", "cell_overvoltage_delay_s", BYTE_1, K.NUMBER, P.CELL_OVERVOLTAGE, R.DELAY),
    Setting(0x3E, "charge overcurrent delay", "charge_overcurrent_delay_s", BYTE_0, K.NUMBER, P.CHARGE_OVERCURRENT, R.DELAY),
    Setting(0x3E, "charge overcurrent release", "charge_overcurrent_release_s", BYTE_1, K.NUMBER, P.CHARGE_OVERCURRENT, R.RELEASE_DELAY),
    Setting(0x3F, "discharge overcurrent delay", "discharge_overcurrent_delay_s", BYTE_0, K.NUMBER, P.DISCHARGE_OVERCURRENT, R.DELAY),
    Setting(0x3F, "discharge overcurrent release", "discharge_overcurrent_release_s", BYTE_1, K.NUMBER, P.DISCHARGE_OVERCURRENT, R.RELEASE_DELAY),
    Setting(0x40, "GPS shutdown voltage", "gps_shutdown_raw", COUNT, K.RAW),  # V11: in mV; a 4S board has 2200
    Setting(0x41, "GPS shutdown time", "gps_shutdown_s", SECONDS),
    Setting(0x42, "cell voltage at 90 %", "cell_at_90_v", MILLIVOLTS),
    Setting(0x43, "cell voltage at 70 %", "cell_at_70_v", MILLIVOLTS),
    Setting(0x44, "cell voltage at 50 %", "cell_at_50_v", MILLIVOLTS),
    Setting(0x45, "cell voltage at 30 %", "cell_at_30_v", MILLIVOLTS),
    Setting(0x46, "cell voltage at 10 %", "cell_at_10_v", MILLIVOLTS),
    Setting(0x47, "second 100 % point", "cell_at_100_raw", COUNT, K.RAW),  # in mV, says one source
    Setting(0xA0, "manufacturer", "manufacturer", LENGTH, K.TEXT),
    Setting(0xA1, "device name", "model", LENGTH, K.TEXT),
    Setting(0xA2, "barcode", "barcode", LENGTH, K.TEXT),
)
# fmt: on

SETTING_NAMES: Final = {setting.register: setting.name for setting in SETTINGS} | {
    0x38: "short circuit and second discharge overcurrent",
    0x39: "hard voltage delays and short circuit release",
    0x3A: "charge temperature delays",
    0x3B: "discharge temperature delays",
    0x3C: "pack voltage delays",
    0x3D: "cell voltage delays",
    0x3E: "charge overcurrent delays",
    0x3F: "discharge overcurrent delays",
}
"""The names of the registers; those of two rows have one of their own."""

# Source: vendor documents V4 and V13; those below 0x03 and 0x06 are named without decoding them.
REGISTER_NAMES: Final = {
    0x00: "chip type or factory mode",
    0x01: "leave factory mode",
    0x02: "enter factory mode",
    0x03: "basic info",
    0x04: "cell voltages",
    0x05: "hardware name",
    0x06: "password",
    **SETTING_NAMES,
    0xAA: "event counters",
    0xFA: "parameter block",
}
