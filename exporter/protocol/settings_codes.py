"""The coded bytes of registers 0x38 and 0x39.

They are the protection registers of the board's measuring chip. Boards with a chip of Texas
Instruments have those of the BQ769x0. Boards with another chip code the same bytes in another
way, and no settings register says which chip it is. Bits that are always 0 in the BQ769x0 show
some of them; their codes are unknown here.

Sources differ on 0x39. Here the undervoltage has bits 6 and 7, as in the data sheet, in bms-tools'
map of the registers and in OverkillSolarBms2. bms-tools' reader of tool files swaps it with the
overvoltage, but keeps the delays of the data sheet, where the undervoltage has the long ones.

Source: data sheet BQ769x0 (SLUSBK2), PROTECT1 to PROTECT3; bms-tools and jbdtool read JBD's
registers in the same way; General Protocol V11, section 5 (chip types).
"""

from dataclasses import dataclass
from typing import Final

RANGE_BIT: Final = 7  # the thresholds of both 0x38 bytes come from the upper range
FIRST_RESERVED: Final = 0b0110_0000
SECOND_RESERVED: Final = 0b1000_0000
DELAYS_RESERVED: Final = 0b0000_1111

SHORT_CIRCUIT_MV: Final = (
    (22, 33, 44, 56, 67, 78, 89, 100),
    (44, 67, 89, 111, 133, 155, 178, 200),
)
"""By range, then by bits 0 to 2."""
SHORT_CIRCUIT_US: Final = (70, 100, 200, 400)  # bits 3 and 4
SECOND_OVERCURRENT_MV: Final = (
    (8, 11, 14, 17, 19, 22, 25, 28, 31, 33, 36, 39, 42, 44, 47, 50),
    (17, 22, 28, 33, 39, 44, 50, 56, 61, 67, 72, 78, 83, 89, 94, 100),
)
"""By range, then by bits 0 to 3."""
SECOND_OVERCURRENT_MS: Final = (8, 20, 40, 80, 160, 320, 640, 1280)  # bits 4 to 6
HARD_UNDERVOLTAGE_S: Final = (1, 4, 8, 16)  # bits 6 and 7
HARD_OVERVOLTAGE_S: Final = (1, 2, 4, 8)  # bits 4 and 5


@dataclass(frozen=True, slots=True)
class Surge:
    """A current that switches the battery off at once: a voltage across the shunt for a time."""

    shunt_v: float
    delay_s: float


def is_known(payload: bytes) -> bool:
    """Return whether the two bytes of 0x38 can be those of a BQ769x0."""
    return not (payload[0] & FIRST_RESERVED or payload[1] & SECOND_RESERVED)


def short_circuit(payload: bytes) -> Surge | None:
    """Decode the first byte of 0x38; None: the code of another chip."""
    if not is_known(payload):
        return None
    first = payload[0]
    threshold_mv = SHORT_CIRCUIT_MV[first >> RANGE_BIT][first & 0b111]
    return Surge(threshold_mv / 1000, SHORT_CIRCUIT_US[first >> 3 & 0b11] / 1_000_000)


def second_overcurrent(payload: bytes) -> Surge | None:
    """Decode the second byte of 0x38, whose range the first one chooses; None: as above."""
    if not is_known(payload):
        return None
    first, second = payload
    threshold_mv = SECOND_OVERCURRENT_MV[first >> RANGE_BIT][second & 0b1111]
    return Surge(threshold_mv / 1000, SECOND_OVERCURRENT_MS[second >> 4] / 1000)


def hard_delays_s(payload: bytes) -> tuple[int, int] | None:
    """Decode the first byte of 0x39: hard undervoltage, hard overvoltage; None: as above."""
    first = payload[0]
    if first & DELAYS_RESERVED:
        return None
    return HARD_UNDERVOLTAGE_S[first >> 6], HARD_OVERVOLTAGE_S[first >> 4 & 0b11]
