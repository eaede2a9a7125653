"""The eight batteries of every simulated environment."""

from typing import Final

from exporter.demo.battery import VirtualBattery, encode_reply
from exporter.protocol.profiles import PROFILES
from tests.support.recorded import CELLS, COUNTERS, HARDWARE, MOBILEKTRO

NAMES: Final = {2: "WTaHdB42", 5: "camper"}  # the latter was given by its owner
PROFILE_NAMES: Final = ("nus", "ff00", "fff0", "ff06", "ff00", "ff00", "ff00", "ff00")
ANSWERS: Final = {0x03: MOBILEKTRO, 0x04: CELLS, 0x05: HARDWARE, 0xAA: COUNTERS}


def address(battery: int) -> str:
    """Return the address of battery 0 to 7."""
    return f"A4:C1:38:00:00:{battery + 1:02X}"


def make_all_batteries() -> list[VirtualBattery]:
    """Return all eight; battery n reports a remaining capacity of 203.54 Ah - n."""
    return [battery(number) for number in range(len(PROFILE_NAMES))]


def battery(number: int) -> VirtualBattery:
    """Return battery 0 to 7; see PROFILE_NAMES."""
    profile = PROFILES[PROFILE_NAMES[number]]
    return VirtualBattery(
        address=address(number),
        name=NAMES.get(number, f"JBD-{number}"),
        answers=lambda register: answer(number, register),
        advertises=(PROFILES["ff00" if number == 0 else profile.name].service,),
        gatt=(profile,),
        speaks=profile,
    )


def answer(number: int, register: int) -> bytes:
    """Return a battery's reply frame for a register."""
    frame = ANSWERS.get(register)
    if frame is None:
        return encode_reply(register, status=0x80)
    if register != 0x03 or number == 0:
        return frame
    payload = bytearray(frame[4:-3])
    payload[4:6] = (int.from_bytes(payload[4:6], "big") - 100 * number).to_bytes(2, "big")
    return encode_reply(register, bytes(payload))
