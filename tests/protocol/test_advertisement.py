"""Which advertisement is a JBD battery, and why."""

from typing import Any

import pytest

from exporter.protocol.advertisement import Advertisement, is_certain, read_backwards, why_jbd
from tests.support.advertisements import FFF0, NEUTRAL_ADDRESS, make_advertisement
from tests.support.recorded import ADVERTISEMENTS, FOREIGN_ADVERTISEMENTS

JBD = "A4:C1:38:00:00:01"


@pytest.mark.parametrize(
    "sample", [one["advertisement"] for one in ADVERTISEMENTS], ids=lambda one: str(one)[:60]
)
def test_every_recorded_jbd_battery_is_recognised(sample: dict[str, Any]) -> None:
    data = sample.get("manufacturer_data", {})
    advertisement = make_advertisement(
        sample.get("local_name", "").strip(),
        (sample.get("platform_data") or [NEUTRAL_ADDRESS])[0],
        tuple(sample["service_uuids"]),
        {int(company): bytes.fromhex(content) for company, content in data.items()},
    )

    reasons = why_jbd(advertisement)

    assert reasons[0] == "service ff00"
    assert len(reasons) >= 2


@pytest.mark.parametrize(
    ("advertisement", "reason"),
    [
        (make_advertisement("JBD-SP04S034"), "name like JBD-*"),
        (make_advertisement("xiaoxiang BMS"), "name like xiaoxiang BMS*"),
        (make_advertisement(address="A4:C1:38:00:00:01"), "address block A4:C1:38"),
        (make_advertisement(data={123: bytes.fromhex("02ffff7d")}), "manufacturer data 123"),
        # A company id is sent low byte first: 0x3412 is 12 34, the address from its beginning.
        (
            make_advertisement(data={0x3412: bytes.fromhex("56789abc")}),
            "its own address as manufacturer data",
        ),
        (
            make_advertisement(data={0x9ABC: bytes.fromhex("78563412")}),
            "its own address as manufacturer data",
        ),
        (
            make_advertisement(data={0x9ABC: bytes.fromhex("78563412ff")}),
            "its own address as manufacturer data",
        ),
        (make_advertisement("WTaHdB0042", services=(FFF0,)), "name like WTaHdB*"),
        (make_advertisement("WTeHdB0042", services=(FFF0,)), "name like WTeHdB*"),
    ],
)
def test_each_sign_of_a_jbd_battery_is_named(advertisement: Advertisement, reason: str) -> None:
    assert reason in why_jbd(advertisement)


@pytest.mark.parametrize(
    "advertisement",
    [
        pytest.param(make_advertisement(), id="ff00 alone"),
        pytest.param(make_advertisement("Headphones"), id="ff00 and another name"),
        pytest.param(make_advertisement("JBD-SP04S034", services=()), id="a name alone"),
        pytest.param(
            make_advertisement(address="A4:C1:38:00:00:01", services=()), id="an address alone"
        ),
        pytest.param(make_advertisement(data={123: b"\x00"}), id="another product of that company"),
        pytest.param(make_advertisement("xx JBD-SP04"), id="a name that only contains it"),
        pytest.param(make_advertisement("jbd-SP04"), id="a name in lower case"),
        pytest.param(make_advertisement(services=(FFF0,)), id="fff0 alone"),
        pytest.param(
            make_advertisement("JBD-SP04", services=(FFF0,)), id="fff0 with a name for ff00"
        ),
        pytest.param(make_advertisement(data={0x3412: b"\x56"}), id="a piece of its address"),
        pytest.param(
            make_advertisement(data={0x1234: bytes.fromhex("56789abc")}), id="a swapped company id"
        ),
    ],
)
def test_device_without_enough_signs_is_not_taken_for_a_jbd_battery(
    advertisement: Advertisement,
) -> None:
    assert why_jbd(advertisement) == ()


def foreign(case: dict[str, Any]) -> Advertisement:
    data = {int(company): bytes.fromhex(one) for company, one in case["manufacturer_data"].items()}
    return make_advertisement(case["name"], case["address"], tuple(case["service_uuids"]), data)


class TestCertainty:
    @pytest.mark.parametrize("case", FOREIGN_ADVERTISEMENTS, ids=lambda case: case["name"])
    def test_signs_of_the_bluetooth_module_alone_are_not_certain(
        self, case: dict[str, Any]
    ) -> None:
        advertisement = foreign(case)

        assert why_jbd(advertisement)
        assert not is_certain(advertisement)

    @pytest.mark.parametrize(
        ("advertisement", "certain"),
        [
            pytest.param(make_advertisement("JBD-SP04S034", JBD), True, id="all with ff00"),
            pytest.param(make_advertisement("WTaHdB0042", JBD, (FFF0,)), True, id="all with fff0"),
            pytest.param(
                make_advertisement("JBD-SP04S034", JBD, (FFF0,)), False, id="another service"
            ),
            pytest.param(make_advertisement("JBD-SP04S034", JBD, ()), False, id="no service"),
            pytest.param(make_advertisement("JBD-SP04S034"), False, id="another address"),
            pytest.param(
                make_advertisement(address="A4:C1:38:00:00:01"), False, id="an address block"
            ),
            pytest.param(
                make_advertisement(data={123: b"\x02\xff\xff}"}), False, id="manufacturer data 123"
            ),
            pytest.param(
                make_advertisement(data={0x3412: bytes.fromhex("56789abc")}),
                False,
                id="its own address",
            ),
        ],
    )
    def test_battery_is_certain_by_name_service_and_address_together(
        self, advertisement: Advertisement, certain: bool
    ) -> None:
        assert is_certain(advertisement) is certain


@pytest.mark.parametrize(
    ("address", "backwards"),
    [
        ("B3:FC:EC:38:C1:A4", "A4:C1:38:EC:FC:B3"),
        ("A4:C1:38:EC:FC:B3", None),
        ("A4:C1:38:38:C1:A4", None),  # both ways
        ("11:22:33:44:55:66", None),
    ],
)
def test_address_that_a_phone_app_shows_backwards_is_recognised(
    address: str, backwards: str | None
) -> None:
    assert read_backwards(address) == backwards
