"""Advertisements for tests."""

from typing import Final

from exporter.protocol.advertisement import Advertisement

FF00: Final = "0000ff00-0000-1000-8000-00805f9b34fb"
FFF0: Final = "0000fff0-0000-1000-8000-00805f9b34fb"
NEUTRAL_ADDRESS: Final = "12:34:56:78:9A:BC"


def make_advertisement(
    name: str = "",
    address: str = NEUTRAL_ADDRESS,
    services: tuple[str, ...] = (FF00,),
    data: dict[int, bytes] | None = None,
) -> Advertisement:
    return Advertisement(
        address=address,
        name=name,
        rssi_dbm=-60,
        service_uuids=frozenset(services),
        manufacturer_data=data or {},
    )
