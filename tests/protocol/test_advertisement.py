"""Which advertisement is a JBD battery, and why."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.cli.output import scan_yaml
from exporter.config.loader import parse
from exporter.protocol.advertisement import NAMES, Advertisement, is_certain, why_jbd
from tests.support.recorded import ADVERTISEMENTS, FOREIGN_ADVERTISEMENTS

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


def foreign(case: dict[str, Any]) -> Advertisement:
    data = {int(company): bytes.fromhex(one) for company, one in case["manufacturer_data"].items()}
    return heard(case["name"], case["address"], tuple(case["service_uuids"]), data)


class TestCertainty:
    @pytest.mark.parametrize("case", FOREIGN_ADVERTISEMENTS, ids=lambda case: case["name"])
    def test_the_signs_of_the_module_are_a_hint_only(self, case: dict[str, Any]) -> None:
        advertisement = foreign(case)

        assert why_jbd(advertisement)
        assert not is_certain(advertisement)

    @pytest.mark.parametrize(
        ("advertisement", "certain"),
        [
            pytest.param(heard("JBD-SP04S034"), True, id="a name with ff00"),
            pytest.param(heard("WTaHdB0042", services=(FFF0,)), True, id="a name with fff0"),
            pytest.param(heard("JBD-SP04S034", services=(FFF0,)), False, id="another service"),
            pytest.param(heard("JBD-SP04S034", services=()), False, id="a name alone"),
            pytest.param(heard(address="A4:C1:38:00:00:01"), False, id="an address block"),
            pytest.param(heard(data={123: b"\x02\xff\xff}"}), False, id="manufacturer data 123"),
            pytest.param(
                heard(data={0x3412: bytes.fromhex("56789abc")}), False, id="its own address"
            ),
        ],
    )
    def test_certainty_needs_name_and_service(
        self, advertisement: Advertisement, certain: bool
    ) -> None:
        assert is_certain(advertisement) is certain


YAML_NAMES = (
    "yes",
    "null",
    "1.5",
    "1:30",
    "=",
    "<<",
    "# JBD",
    "- a",
    "a: b",
    "'",
    '"',
    "🔋",
    "שלום",
)
PREFIXES = [name.split("*", maxsplit=1)[0].replace("?", "0") for name in NAMES]
ANY_NAME = st.one_of(
    st.text(max_size=80),
    st.sampled_from(YAML_NAMES),
    st.builds(str.__add__, st.sampled_from(PREFIXES), st.text(max_size=80)),
    st.builds("JBD-{0}\n{0}".format, st.sampled_from(YAML_NAMES)),
    st.sampled_from(["JBD-", "JBD- 2", "JBD-" + 70 * "x", "JBD-" + 58 * " " + "x y"]),
)


class TestYaml:
    @given(names=st.lists(ANY_NAME, max_size=8), last=st.sampled_from(["JBD-1", "AP", "JBD-"]))
    def test_scan_yaml_always_loads_with_every_certain_battery(
        self, names: list[str], last: str
    ) -> None:
        batteries = [
            heard(name, f"A4:C1:38:00:00:{number:02X}")
            for number, name in enumerate([*names, last])
        ]
        certain = {one.address for one in batteries if is_certain(one)}

        text = scan_yaml(batteries)
        uncommented = "\n".join(
            line.removeprefix("# ")
            for line in text.splitlines()
            if not line.startswith("# P") and not line.startswith("# remove")
        )

        assert {one.address for one in parse(text).batteries} == certain
        assert {one.address for one in parse(uncommented).batteries} == {
            one.address for one in batteries
        }

    def test_an_address_of_digits_stays_an_address(self) -> None:
        (battery,) = parse(scan_yaml([heard("JBD-1", "10:20:30:40:50:59")])).batteries

        assert battery.address == "10:20:30:40:50:59"

    def test_equal_names_are_numbered(self) -> None:
        names = ("JBD-1", "JBD-1", "JBD-1 2", "")
        batteries = [heard(name, f"A4:C1:38:00:00:0{n}") for n, name in enumerate(names)]

        text = scan_yaml(batteries)

        assert text.splitlines()[:7] == [
            "batteries:",
            "- name: JBD-1",
            "  address: A4:C1:38:00:00:00",
            "- name: JBD-1 2",
            "  address: A4:C1:38:00:00:01",
            "- name: JBD-1 2 2",
            "  address: A4:C1:38:00:00:02",
        ]
        assert text.splitlines()[-2:] == [
            "# - name: A4:C1:38:00:00:03",
            "#   address: A4:C1:38:00:00:03",
        ]
