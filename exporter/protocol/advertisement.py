"""Recognises the advertisements of JBD batteries, and says why."""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

FF00: Final = "0000ff00-0000-1000-8000-00805f9b34fb"
FFF0: Final = "0000fff0-0000-1000-8000-00805f9b34fb"


@dataclass(frozen=True, slots=True, kw_only=True)
class Advertisement:
    """What a device broadcasts about itself."""

    address: str  # upper case with colons
    name: str
    rssi_dbm: int
    service_uuids: frozenset[str]
    manufacturer_data: Mapping[int, bytes]
    address_type: str | None = None  # public or random; None: unknown


# Users can rename their battery, so a name is a sign of JBD only together with the service.
# Address and manufacturer data are only signs of the Bluetooth module.
# Source: advertisements collected by the aiobmsble and BMS_BLE-HA projects.
NAMES: Final = (
    "JBD-*",
    "SP??S*",
    "DP??S*",
    "AP*",
    "xiaoxiang BMS*",
    "SX1*",
    "SX60*",
    "SBL-*",
    "OGR-*",
    "TZ-H*",
    "LSG-*",
    "DWF*",
    "N-?????BL*",
    "ECO-LFP*",
)
DH04_NAMES: Final = ("WTaHdB*", "WTeHdB*")
# The address blocks of the Bluetooth modules that JBD uses.
BLOCKS: Final = (
    "10:A5:62",
    "A4:C1:37",
    "A4:C1:38",
    "A5:C2:37",
    "A5:C2:39",
    "A5:C2:3A",
    "AA:C2:37",
    "70:3E:97",
)
JBD_COMPANY: Final = 123
JBD_COMPANY_DATA: Final = bytes.fromhex("02ffff7d")


def why_jbd(advertisement: Advertisement) -> tuple[str, ...]:
    """Return the signs of a JBD battery. Service ff00 alone is none: many devices use it."""
    names = _name_reasons(advertisement)
    blocks = [f"address block {block}" for block in _blocks(advertisement)]
    if FFF0 in advertisement.service_uuids:
        return ("service fff0", *names, *blocks) if names else ()
    if FF00 not in advertisement.service_uuids:
        return ()
    reasons = [*names, *blocks, *_maker_reasons(advertisement)]
    return ("service ff00", *reasons) if reasons else ()


def read_backwards(address: str) -> str | None:
    """Return an address byte by byte from its end, if only so it is one of a JBD module.

    The vendor's phone app shows it backwards. Source: tgalarneau/bms#17, smagicld/xiaoxiangBMS#249.
    """
    backwards = ":".join(reversed(address.split(":")))
    is_likely = backwards.startswith(BLOCKS) and not address.startswith(BLOCKS)
    return backwards if is_likely else None


def is_certain(advertisement: Advertisement) -> bool:
    """Return whether name, service and address leave no doubt without a reply.

    A name alone may be chosen by its owner. Batteries with other protocols have the same Bluetooth
    modules, so an address block or manufacturer data alone is a hint; else only a reply to register
    0x03 proves the protocol. Source: patman15/BMS_BLE-HA#303 and #317.
    """
    return bool(_name_reasons(advertisement)) and bool(_blocks(advertisement))


def _blocks(advertisement: Advertisement) -> list[str]:
    return [block for block in BLOCKS if advertisement.address.startswith(block)]


def _name_reasons(advertisement: Advertisement) -> list[str]:
    services = advertisement.service_uuids
    known = DH04_NAMES if FFF0 in services else NAMES if FF00 in services else ()
    return [f"name like {pattern}" for pattern in known if fnmatchcase(advertisement.name, pattern)]


def _maker_reasons(advertisement: Advertisement) -> list[str]:
    """Return the signs in the manufacturer data, which may be the address in either byte order."""
    if advertisement.manufacturer_data.get(JBD_COMPANY) == JBD_COMPANY_DATA:
        return [f"manufacturer data {JBD_COMPANY}"]
    address = bytes.fromhex(advertisement.address.replace(":", ""))
    for company, data in advertisement.manufacturer_data.items():
        if (company.to_bytes(2, "little") + data)[:6] in (address, address[::-1]):
            return ["its own address as manufacturer data"]
    return []
