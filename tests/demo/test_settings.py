"""The settings of the demo's batteries agree with what the batteries report."""

import pytest

from exporter.demo.battery import ENTER
from exporter.demo.fleet import build_camper
from exporter.protocol.jbd import decode_basic
from exporter.protocol.settings import SETTING_NAMES
from exporter.protocol.settings_exchange import READS
from exporter.protocol.settings_values import decode_setting, merge_values

BATTERIES = build_camper(lambda: 0.0)


def settings(name: str) -> dict[str, object]:
    """Return all settings that a battery answers with the mode open."""
    virtual = build_camper(lambda: 0.0)[name]
    virtual.request(ENTER)
    replies = {
        register: b"".join(one.data or b"" for one in virtual.request(data))
        for register, data in READS.items()
    }
    return {
        key: value
        for register, reply in replies.items()
        if reply[2:3] == b"\x00"
        for key, value in merge_values(decode_setting(register, reply[4:-3])).items()
    }


@pytest.mark.parametrize("name", BATTERIES)
def test_settings_agree_with_the_basic_info(name: str) -> None:
    shown = settings(name)

    basic = decode_basic(BATTERIES[name].answers(0x03)[4:-3])
    assert shown["cells"] == basic.cell_count
    assert shown["design_capacity_ah"] == basic.nominal_ah
    assert shown["manufactured"] == basic.manufactured
    assert shown["model"] == BATTERIES[name].answers(0x05)[4:-3].decode()
    assert shown["ntcs"] == set(range(1, len(basic.temperatures_c) + 1))


@pytest.mark.parametrize("name", BATTERIES)
def test_battery_has_the_registers_of_the_recorded_board(name: str) -> None:
    recorded = set(SETTING_NAMES) - {0x31, *range(0x40, 0x48)}

    assert set(BATTERIES[name].settings or ()) == recorded


def test_one_battery_allows_charging_below_0_degrees() -> None:
    limits = {name: settings(name)["charge_undertemperature_c"] for name in BATTERIES}

    assert limits == {"camper": 0.0, "camper2": 0.0, "flaky": -10.0, "cold": 0.0}


def test_limits_of_the_current_follow_the_capacity() -> None:
    assert settings("camper")["charge_overcurrent_a"] == 220.0
    assert settings("camper")["discharge_overcurrent_a"] == -220.0
