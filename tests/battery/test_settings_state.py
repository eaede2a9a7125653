"""Settings as values: the unit of register 0x2D, and what metrics select."""

import pytest

from exporter.battery.settings_state import SettingsState, decode_settings
from exporter.errors import DecodeError
from exporter.protocol.settings import Role
from exporter.protocol.settings_exchange import Expected
from tests.support.settings import BASIC, SETTINGS

EXPECTED = Expected(cell_count=4, nominal_ah=BASIC.nominal_ah)
LARGE = Expected(cell_count=4, nominal_ah=2193.2)  # the same word counts 0.1 Ah
WITH_UNIT = SETTINGS | {0x2D: b"\x10\x06"}


def make_state(payloads: dict[int, bytes], expected: Expected = EXPECTED) -> SettingsState:
    return SettingsState(rows=decode_settings(payloads, expected))


def test_nothing_is_known_before_the_first_read() -> None:
    state = SettingsState()

    assert state.values == {}
    assert state.number("cell_full_v") is None
    assert state.by_protection(Role.THRESHOLD, "V") is None


def test_100_ma_unit_holds_for_currents_and_capacities() -> None:
    small, large = make_state(SETTINGS), make_state(WITH_UNIT, LARGE)

    for key in ("cycle_capacity_ah", "charge_overcurrent_a", "discharge_overcurrent_a"):
        number = small.number(key)
        assert number
        assert large.number(key) == pytest.approx(10 * number)
    assert large.number("cell_full_v") == small.number("cell_full_v")


@pytest.mark.parametrize(
    ("payloads", "expected"),
    [
        pytest.param(WITH_UNIT, EXPECTED, id="100 mA against a small capacity"),
        pytest.param(SETTINGS, LARGE, id="10 mA against a large capacity"),
    ],
)
def test_unit_that_contradicts_the_capacity_is_refused(
    payloads: dict[int, bytes], expected: Expected
) -> None:
    with pytest.raises(DecodeError, match="design capacity: expected"):
        decode_settings(payloads, expected)


def test_currents_and_capacities_are_left_out_without_their_unit() -> None:
    state = make_state({one: data for one, data in SETTINGS.items() if one != 0x2D})

    assert state.number("cycle_capacity_ah") is None
    assert state.by_protection(Role.THRESHOLD, "A") == {}
    assert state.number("cell_full_v") == 3.5


def test_number_is_none_for_words_and_for_what_is_not_set() -> None:
    state = make_state(SETTINGS | {0x1A: b"\x00\x00"})

    assert state.number("manufactured") is None
    assert state.number("charge_undertemperature_c") is None
    assert "charge_undertemperature" not in (state.by_protection(Role.THRESHOLD, "°C") or {})


def test_delays_of_releases_are_no_delays() -> None:
    delays = make_state(SETTINGS).by_protection(Role.DELAY, "s")

    assert delays is not None
    assert len(delays) == 10
    assert delays["discharge_overcurrent"] == 10
    assert "short_circuit" not in delays
