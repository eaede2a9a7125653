"""Which advertisement is a JBD battery, and why."""

from typing import Any

import pytest

from exporter.discovery import Advertisement, why_jbd
from recorded import ADVERTISEMENTS

FF00 = "0000ff00-0000-1000-8000-00805f9b34fb"
FFF0 = "0000fff0-0000-1000-8000-00805f9b34fb"
NEUTRAL = "12:34:56:78:9A:BC"


def heard(
    name: str = "",
    address: str = NEUTRAL,
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


@pytest.mark.parametrize(
    "sample", [one["advertisement"] for one in ADVERTISEMENTS], ids=lambda one: str(one)[:60]
)
def test_every_recorded_battery_is_recognised(sample: dict[str, Any]) -> None:
    data = sample.get("manufacturer_data", {})
    advertisement = heard(
        sample.get("local_name", "").strip(),
        (sample.get("platform_data") or [NEUTRAL])[0],
        tuple(sample["service_uuids"]),
        {int(company): bytes.fromhex(content) for company, content in data.items()},
    )

    reasons = why_jbd(advertisement)

    assert reasons[0] == "service ff00"
    assert len(reasons) >= 2


@pytest.mark.parametrize(
    ("advertisement", "reason"),
    [
        (heard("JBD-SP04S034"), "name like JBD-*"),
        (heard("xiaoxiang BMS"), "name like xiaoxiang BMS*"),
        (heard(address="A4:C1:38:00:00:01"), "address block A4:C1:38"),
        (heard(data={123: bytes.fromhex("02ffff7d")}), "manufacturer data 123"),
        # A company id is sent low byte first: 0x3412 is 12 34, the address from its beginning.
        (heard(data={0x3412: bytes.fromhex("56789abc")}), "its own address as manufacturer data"),
        (heard(data={0x9ABC: bytes.fromhex("78563412")}), "its own address as manufacturer data"),
        (heard(data={0x9ABC: bytes.fromhex("78563412ff")}), "its own address as manufacturer data"),
        (heard("WTaHdB0042", services=(FFF0,)), "name like WTaHdB*"),
        (heard("WTeHdB0042", services=(FFF0,)), "name like WTeHdB*"),
    ],
)
def test_the_reason_is_told(advertisement: Advertisement, reason: str) -> None:
    assert reason in why_jbd(advertisement)


@pytest.mark.parametrize(
    "advertisement",
    [
        pytest.param(heard(), id="ff00 alone"),
        pytest.param(heard("Headphones"), id="ff00 and another name"),
        pytest.param(heard("JBD-SP04S034", services=()), id="a name alone"),
        pytest.param(heard(address="A4:C1:38:00:00:01", services=()), id="an address alone"),
        pytest.param(heard(data={123: b"\x00"}), id="another product of that company"),
        pytest.param(heard("xx JBD-SP04"), id="a name that only contains it"),
        pytest.param(heard("jbd-SP04"), id="a name in lower case"),
        pytest.param(heard(services=(FFF0,)), id="fff0 alone"),
        pytest.param(heard("JBD-SP04", services=(FFF0,)), id="fff0 with a name for ff00"),
        pytest.param(heard(data={0x3412: b"\x56"}), id="a piece of its address"),
        pytest.param(heard(data={0x1234: bytes.fromhex("56789abc")}), id="a swapped company id"),
    ],
)
def test_these_are_not_taken_for_one(advertisement: Advertisement) -> None:
    assert why_jbd(advertisement) == ()
