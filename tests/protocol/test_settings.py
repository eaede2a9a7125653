"""Settings are decoded by the vendor's table; what cannot be true is refused."""

from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.errors import DecodeError
from exporter.protocol.parameter_block import decode_block
from exporter.protocol.settings import SETTING_NAMES, SETTINGS, Function, Role
from exporter.protocol.settings_values import decode_setting, merge_values, says_100_ma_unit
from exporter.reading import Protection
from tests.support import recorded

# The names of tests/frames/jbd-settings.json that differ from ours.
OUR_NAMES = {f"cell_v_at_{percent}": f"cell_at_{percent}_v" for percent in (20, 40, 60, 80)}
# Of these the file has only the raw number: settings.md, and the data sheet of the BQ769x0.
OUR_VALUES: dict[str, dict[str, Any]] = {
    "8d5c": {
        "short_circuit_shunt_v": 0.155,
        "short_circuit_delay_s": 0.0001,
        "second_overcurrent_shunt_v": 0.083,
        "second_overcurrent_delay_s": 0.32,
    },
    "9e55": {
        "short_circuit_shunt_v": 0.178,
        "short_circuit_delay_s": 0.0004,
        "second_overcurrent_shunt_v": 0.044,
        "second_overcurrent_delay_s": 0.32,
    },
    "9f5f": {
        "short_circuit_shunt_v": 0.2,
        "short_circuit_delay_s": 0.0004,
        "second_overcurrent_shunt_v": 0.1,
        "second_overcurrent_delay_s": 0.32,
    },
    "f064": {
        "hard_cell_undervoltage_delay_s": 16,
        "hard_cell_overvoltage_delay_s": 8,
        "short_circuit_release_s": 100,
    },
    "b005": {
        "hard_cell_undervoltage_delay_s": 8,
        "hard_cell_overvoltage_delay_s": 8,
        "short_circuit_release_s": 5,
    },
    "6005": {
        "hard_cell_undervoltage_delay_s": 4,
        "hard_cell_overvoltage_delay_s": 4,
        "short_circuit_release_s": 5,
    },
    "0006": {"functions": {"load_detection", "balancing"}},
    "000e": {"functions": {"load_detection", "balancing", "charge_balancing"}},
    "000f": {"functions": {"switch", "load_detection", "balancing", "charge_balancing"}},
    "0007": {"ntcs": {1, 2, 3}},
    "0003": {"ntcs": {1, 2}},
}
RAW_NAMES = {"short_circuit_raw", "hard_delay_raw", "function_bits", "ntc_bits"}
RECORDED = [
    frame
    for frame in recorded.SETTINGS
    if frame["status"] == 0 and frame["expected"] and frame["register"] != "0xFA"
]


def values(register: int, payload: str, *, has_100_ma_unit: bool = False) -> dict[str, Any]:
    rows = decode_setting(register, bytes.fromhex(payload), has_100_ma_unit=has_100_ma_unit)
    return dict(merge_values(rows))


def words(register: int, payload: str) -> list[str]:
    return [row.words for row in decode_setting(register, bytes.fromhex(payload))]


def expected(frame: dict[str, Any]) -> dict[str, Any]:
    """Return the recorded values under our names."""
    if set(frame["expected"]) & RAW_NAMES:
        return OUR_VALUES[frame["frame_hex"][8:-6]]
    return {OUR_NAMES.get(name, name): value for name, value in frame["expected"].items()}


class TestTable:
    def test_registers_are_those_of_the_vendor(self) -> None:
        assert set(SETTING_NAMES) == {*range(0x10, 0x48), 0xA0, 0xA1, 0xA2}

    def test_rows_are_in_the_order_of_registers_and_bytes(self) -> None:
        places = [(setting.register, setting.place.at) for setting in SETTINGS]

        assert places == sorted(places)
        assert len({setting.key for setting in SETTINGS}) == len(SETTINGS)

    @pytest.mark.parametrize("role", [Role.THRESHOLD, Role.RELEASE, Role.DELAY])
    def test_every_limit_belongs_to_one_protection(self, role: Role) -> None:
        limits = [setting.protection for setting in SETTINGS if setting.role is role]

        overcurrents = {Protection.CHARGE_OVERCURRENT, Protection.DISCHARGE_OVERCURRENT}
        measured = set(list(Protection)[:10])
        assert len(limits) == len(set(limits))
        assert set(limits) == (measured - overcurrents if role is Role.RELEASE else measured)


class TestRecorded:
    @pytest.mark.parametrize("frame", RECORDED, ids=lambda frame: frame["frame_hex"][:14])
    def test_recorded_setting_has_its_value(self, frame: dict[str, Any]) -> None:
        decoded = values(int(frame["register"], 16), frame["frame_hex"][8:-6])

        shown = {key: str(one) if isinstance(one, date) else one for key, one in decoded.items()}
        assert shown == expected(frame)

    def test_merge_values_a_16_cell_tool_file_are_in_words(self) -> None:
        # Source: FurTrader/OverkillSolarBMS, 16s standard LiFePO4 Alf-20210608.fig.
        chip = ", if its chip is a BQ769x0"
        assert words(0x38, "9d54") == [
            f"155 mV across the shunt for 400 µs{chip}",
            f"39 mV across the shunt for 320 ms{chip}",
        ]
        assert words(0x2E, "0019") == ["NTC 1, NTC 4, NTC 5"]
        assert words(0x40, "08fc") == ["2300 (unit not known)"]


class TestCodes:
    @pytest.mark.parametrize(
        ("payload", "shown"),
        [
            ("0000", (0.022, 0.00007, 0.008, 0.008)),
            ("8000", (0.044, 0.00007, 0.017, 0.008)),
            ("1f7f", (0.1, 0.0004, 0.05, 1.28)),
            ("9f7f", (0.2, 0.0004, 0.1, 1.28)),
            ("0a34", (0.044, 0.0001, 0.019, 0.08)),
        ],
    )
    def test_thresholds_of_a_short_circuit_come_from_two_ranges(
        self, payload: str, shown: tuple[float, ...]
    ) -> None:
        assert tuple(values(0x38, payload).values()) == shown

    @pytest.mark.parametrize("payload", ["2000", "4000", "0080", "ff8f"])
    def test_short_circuit_of_another_chip_has_no_value(self, payload: str) -> None:
        assert set(values(0x38, payload).values()) == {None}
        assert words(0x38, payload) == ["code of another chip than the BQ769x0"] * 2

    @pytest.mark.parametrize(
        ("payload", "under_s", "over_s"),
        [("0000", 1, 1), ("4000", 4, 1), ("1000", 1, 2), ("9005", 8, 2), ("2000", 1, 4)],
    )
    def test_hard_delays_are_undervoltage_first(
        self, payload: str, under_s: int, over_s: int
    ) -> None:
        decoded = values(0x39, payload)

        assert decoded["hard_cell_undervoltage_delay_s"] == under_s
        assert decoded["hard_cell_overvoltage_delay_s"] == over_s

    def test_hard_delays_of_another_chip_have_no_value(self) -> None:
        assert values(0x39, "b105") == {
            "hard_cell_undervoltage_delay_s": None,
            "hard_cell_overvoltage_delay_s": None,
            "short_circuit_release_s": 5,
        }
        assert words(0x39, "b105") == ["code of another chip than the BQ769x0", "5 s"]

    @pytest.mark.parametrize(("bit", "function"), list(enumerate(Function)))
    def test_every_function_has_its_bit(self, bit: int, function: Function) -> None:
        assert values(0x2D, f"{1 << bit:04x}") == {"functions": {function}}

    def test_no_function_and_no_ntc_are_none(self) -> None:
        assert words(0x2D, "0000") == words(0x2E, "0000") == ["none"]


class TestUnits:
    @pytest.mark.parametrize(
        ("register", "payload", "small", "large"),
        [
            (0x10, "6d60", {"design_capacity_ah": 280.0}, {"design_capacity_ah": 2800.0}),
            (0x11, "5780", {"cycle_capacity_ah": 224.0}, {"cycle_capacity_ah": 2240.0}),
            (0x28, "59d8", {"charge_overcurrent_a": 230.0}, {"charge_overcurrent_a": 2300.0}),
            (
                0x29,
                "a628",
                {"discharge_overcurrent_a": -230.0},
                {"discharge_overcurrent_a": -2300.0},
            ),
            (0x2C, "0001", {"shunt_ohm": 0.0001}, {"shunt_ohm": 0.00001}),
            (0x2C, "800a", {"shunt_ohm": 0.0001}, {"shunt_ohm": 0.0001}),
            (0x20, "05b4", {"pack_overvoltage_v": 14.6}, {"pack_overvoltage_v": 14.6}),
        ],
    )
    def test_unit_of_100_ma_scales_capacities_currents_and_the_shunt(
        self, register: int, payload: str, small: dict[str, float], large: dict[str, float]
    ) -> None:
        assert values(register, payload) == small
        assert values(register, payload, has_100_ma_unit=True) == large

    def test_bit_12_of_the_functions_is_the_unit(self) -> None:
        assert says_100_ma_unit(b"\x10\x00")
        assert not says_100_ma_unit(b"\xef\xff")

    def test_parameter_block_has_the_same_unit(self) -> None:
        (parameter,) = decode_block(bytes.fromhex("0001010fa0"), has_100_ma_unit=True)

        assert parameter.decoded is not None
        assert parameter.decoded.values == {"cycle_capacity_ah": 400.0}

    def test_settings_in_words_have_their_units(self) -> None:
        assert words(0x14, "0002") == ["0.2 %"]
        assert words(0x16, "002a") == ["42"]
        assert words(0x2C, "0001") == ["0.1 mΩ"]


class TestImpossible:
    @pytest.mark.parametrize("payload", ["", "0e", "0e4200"])
    @pytest.mark.parametrize("register", sorted(set(range(0x10, 0x48))))
    def test_number_needs_two_bytes(self, register: int, payload: str) -> None:
        with pytest.raises(DecodeError, match=r"expected 2 bytes, got \d"):
            decode_setting(register, bytes.fromhex(payload))

    def test_unit_needs_two_bytes(self) -> None:
        with pytest.raises(DecodeError, match="functions: expected 2 bytes, got 1"):
            says_100_ma_unit(b"\x10")

    @pytest.mark.parametrize(
        ("register", "payload", "complaint"),
        [
            (0x28, "a628", "charge overcurrent: expected a positive current, got -230 A"),
            (0x29, "59d8", "discharge overcurrent: expected a negative current, got 230 A"),
            (0xA0, "", "manufacturer: expected a length and 0 characters, got 0 bytes"),
            (0xA1, "054a4244", "device name: expected a length and 5 characters, got 4 bytes"),
            (0xA2, "03414207", "barcode: expected printable ASCII, got 41 42 07"),
            (0xA2, "01e4", "barcode: expected printable ASCII, got e4"),
        ],
    )
    def test_impossible_value_is_refused(self, register: int, payload: str, complaint: str) -> None:
        with pytest.raises(DecodeError, match=complaint):
            decode_setting(register, bytes.fromhex(payload))

    def test_limit_of_0_a_has_no_direction(self) -> None:
        assert values(0x28, "0000") == {"charge_overcurrent_a": 0.0}
        assert values(0x29, "0000") == {"discharge_overcurrent_a": 0.0}

    @pytest.mark.parametrize("payload", ["0000", "ffff"])
    def test_temperature_that_was_never_set_has_no_value(self, payload: str) -> None:
        assert values(0x18, payload) == {"charge_overtemperature_c": None}
        assert words(0x18, payload) == ["none"]

    @pytest.mark.parametrize("payload", ["0000", "2de0", "ffff"])
    def test_impossible_date_is_none(self, payload: str) -> None:
        assert values(0x15, payload) == {"manufactured": None}
        assert words(0x15, payload) == ["none"]

    @given(register=st.sampled_from(sorted(SETTING_NAMES)), payload=st.binary(max_size=40))
    def test_any_payload_is_decoded_or_refused(self, register: int, payload: bytes) -> None:
        try:
            rows = decode_setting(register, payload)
        except DecodeError:
            return
        assert all(row.words.isprintable() and row.words for row in rows)
        assert len(merge_values(rows)) >= len(rows)


class TestParameterBlock:
    def test_example_of_two_parameters_is_decoded(self) -> None:
        first, second = decode_block(bytes.fromhex("0001020fa01036"))

        assert first.decoded is not None
        assert second.decoded is not None
        assert first.decoded.values == {"cycle_capacity_ah": 40.0}
        assert second.decoded.values == {"cell_full_v": 4.15}

    def test_parameters_between_and_behind_texts_are_numbered_on(self) -> None:
        text = b"\x01A" + bytes(30)
        payload = b"\x00\x37\x12" + b"\x00\x05" + text + b"\x00\x06"

        parameters = decode_block(payload)

        shown = [(one.number, one.raw, one.decoded and one.decoded.words) for one in parameters]
        assert shown == [(55, b"\x00\x05", None), (56, text, "A"), (72, b"\x00\x06", None)]

    def test_parameters_of_the_last_registers_have_numbers_of_their_own(self) -> None:
        parameters = decode_block(bytes.fromhex("0068030898000a0d48"))

        names = [one.decoded and one.decoded.setting.register for one in parameters]
        assert names == [0x40, 0x41, 0x42]

    def test_consumption_is_no_self_discharge(self) -> None:
        (parameter,) = decode_block(bytes.fromhex("0004010002"))

        assert parameter.decoded is None
