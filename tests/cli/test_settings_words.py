"""Settings become sentences for people; what LiFePO4 does not take has a remark."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.cli.settings_output import settings_json, settings_table
from exporter.cli.settings_words import Settings
from exporter.errors import DecodeError
from exporter.protocol.settings import FUNCTIONS, SETTING_NAMES
from exporter.protocol.settings_values import decode_setting, says_100_ma_unit
from tests.support import recorded

FROST = "LiFePO4 must not be charged below 0 °C."


def decode(payloads: dict[int, bytes]) -> Settings:
    """Return the settings with these payloads."""
    functions = payloads.get(FUNCTIONS)
    is_large = functions is not None and says_100_ma_unit(functions)
    rows = [decode_setting(*one, has_100_ma_unit=is_large) for one in sorted(payloads.items())]
    return Settings([row for part in rows for row in part])


def payloads(device: str) -> dict[int, bytes]:
    """Return the recorded settings of a device."""
    frames = [one for one in recorded.SETTINGS if (one["device"] or "").startswith(device)]
    wires = [bytes.fromhex(one["frame_hex"]) for one in frames if one["register"] != "0xFA"]
    return {wire[1]: wire[4:-3] for wire in wires if wire[3]}


def changed(**registers: str) -> Settings:
    """Return the settings of a 4S battery with other values in registers like r1A."""
    given = {int(name[1:], 16): bytes.fromhex(value) for name, value in registers.items()}
    return decode(payloads("Overkill JBD-SP04S020") | given)


def texts(settings: Settings, title: str, *, everything: bool = False) -> list[str]:
    return [one.text for one in settings.group(everything=everything)[title]]


class TestSentences:
    def test_limits_say_when_the_bms_stops_and_starts_again(self) -> None:
        settings = changed(r26="0898", r27="0a8c")

        assert texts(settings, "Voltage") == [
            "Charging stops above 3.65 V a cell, starts again at 3.50 V (delay 2 s)",
            "Discharging stops below 2.20 V a cell, starts again at 2.70 V (delay 2 s)",
            "Charging stops above 14.60 V, starts again at 14.00 V (delay 2 s)",
            "Discharging stops below 10.00 V, starts again at 12.00 V (delay 2 s)",
        ]
        assert texts(settings, "Temperature")[1] == (
            "Charging stops below 1 °C, starts again at 10 °C (delay 2 s)"
        )

    def test_currents_have_no_sign(self) -> None:
        assert texts(changed(), "Current") == [
            "Charging stops above 130 A, starts again after 32 s (delay 10 s)",
            "Discharging stops above 130 A, starts again after 32 s (delay 10 s)",
        ]

    def test_millivolts_are_shown_only_where_a_limit_has_them(self) -> None:
        assert "stops above 3.655 V a cell" in texts(changed(r24="0e47"), "Voltage")[0]

    def test_unit_of_100_milliamperes_counts_for_all_registers(self) -> None:
        settings = changed(r2D="100f", r28="07d0")

        assert texts(settings, "Current")[0].startswith("Charging stops above 200 A,")
        assert texts(settings, "Capacity")[0] == (
            "The battery is designed for 1000 Ah; 800 Ah are one cycle"
        )

    def test_capacity_and_balancing_are_sentences(self) -> None:
        assert texts(changed(), "Capacity") == [
            "The battery is designed for 100 Ah; 80 Ah are one cycle",
            "A cell is full at 3.40 V, empty at 3.00 V",
        ]
        [charged] = texts(changed(), "Balancing")
        assert charged == (
            "Cells above 3.40 V are balanced while the battery is charged, "
            "if they are more than 15 mV apart"
        )
        assert texts(changed(r2D="0006"), "Balancing") == [
            "Cells above 3.40 V are balanced, if they are more than 15 mV apart"
        ]

    def test_registers_that_were_not_read_have_no_sentence(self) -> None:
        settings = decode({0x24: bytes.fromhex("0ea6"), 0x10: bytes.fromhex("4e20")})

        assert {title: texts(settings, title) for title in settings.group(everything=True)} == {
            "Voltage": ["Charging stops above 3.75 V a cell"],
            "Capacity": ["The battery is designed for 200 Ah"],
        }

    def test_limit_that_is_not_set_is_called_so(self) -> None:
        settings = changed(r1A="0000")

        assert texts(settings, "Temperature")[1].startswith(
            "Charging stops below a limit that is not set, starts again at 10 °C"
        )

    def test_rare_settings_are_shown_only_if_they_are_wanted(self) -> None:
        assert "Other settings" not in changed().group(everything=False)

        others = texts(changed(), "Other settings", everything=True)
        assert "Cell voltage at 80 %: 3.35 V" in others
        assert "Short circuit release: 5 s" in others
        assert "Functions: switch, load detection, balancing, charge balancing" in others
        assert not any("overvoltage release" in one for one in others)


class TestRemarks:
    def test_usual_battery_has_none(self) -> None:
        assert changed().remarks() == {}
        assert decode(payloads("Overkill JBD-SP10S009")).remarks() == {}

    def test_recorded_battery_that_is_charged_in_the_frost_is_remarked(self) -> None:
        settings = decode(payloads("JBD-SP04S034-L4S"))

        assert settings.remarks() == {
            "charge_overtemperature_c": "LiFePO4 takes 65 °C at most.",
            "charge_undertemperature_c": FROST,
        }
        temperatures = settings.group(everything=False)["Temperature"]
        assert [one.remark for one in temperatures] == [
            "LiFePO4 takes 65 °C at most.",
            FROST,
            None,
            None,
        ]

    def test_limits_of_other_cells_are_remarked(self) -> None:
        assert decode(payloads("LH-SP15S001")).remarks() == {
            "cell_overvoltage_v": "LiFePO4 takes 3.75 V a cell at most.",
            "pack_overvoltage_v": "LiFePO4 takes 3.75 V a cell at most.",
            "charge_undertemperature_c": FROST,
        }

    @pytest.mark.parametrize(
        ("register", "value", "remark"),
        [
            pytest.param("r1A", "0aaa", FROST, id="-0.1 degrees"),
            pytest.param("r1A", "0aab", None, id="0 degrees"),
            pytest.param("r24", "0ea7", "LiFePO4 takes 3.75 V a cell at most.", id="3.751 V"),
            pytest.param("r24", "0ea6", None, id="3.75 V"),
            pytest.param("r20", "05dd", "LiFePO4 takes 3.75 V a cell at most.", id="15.01 V"),
            pytest.param("r20", "05dc", None, id="15 V"),
            pytest.param("r22", "031f", "LiFePO4 takes 2 V a cell at least.", id="7.99 V"),
            pytest.param("r26", "07cf", "LiFePO4 takes 2 V a cell at least.", id="1.999 V"),
            pytest.param("r1C", "0d9a", "LiFePO4 takes 75 °C at most.", id="75.1 degrees"),
            pytest.param("r1E", "097e", "LiFePO4 takes -30 °C at least.", id="-30.1 degrees"),
        ],
    )
    def test_limit_beyond_what_lifepo4_takes_is_remarked(
        self, register: str, value: str, remark: str | None
    ) -> None:
        found = changed(**{register: value}).remarks()

        assert list(found.values()) == ([] if remark is None else [remark])

    def test_limit_of_a_pack_with_an_unknown_number_of_cells_has_none(self) -> None:
        assert decode({0x20: bytes.fromhex("1700")}).remarks() == {}

    def test_balancing_that_is_off_is_remarked(self) -> None:
        [sentence] = changed(r2D="0002").group(everything=False)["Balancing"]

        assert sentence.text == "Cells are not balanced"
        assert sentence.remark == "Without balancing the cells drift apart."


class TestOutput:
    def test_table_marks_what_stands_out_and_says_what_to_do(self) -> None:
        shown = settings_table("camper", "A4:C1", changed(r1A="0a47"), everything=False)

        assert shown.startswith("camper (A4:C1)\n\nVoltage\n    Charging stops above 3.65 V a cell")
        assert (
            f"  ! Charging stops below -10 °C, starts again at 10 °C (delay 2 s)\n      {FROST}"
            in (shown)
        )
        assert shown.endswith("vendor's app: this program cannot.")

    def test_table_without_a_mark_has_no_advice(self) -> None:
        shown = settings_table("camper", "A4:C1", changed(), everything=True)

        assert "!" not in shown
        assert "vendor's app" not in shown
        assert "    Shunt: 0.1 mΩ\n" in shown

    def test_json_has_units_in_its_names_and_the_remarks(self) -> None:
        shown = json.loads(settings_json("camper", "A4:C1", changed(r1A="0a47")))

        assert shown["battery"] == "camper"
        assert shown["address"] == "A4:C1"
        assert shown["settings"]["charge_undertemperature_c"] == -10.0
        assert shown["settings"]["manufactured"] == "2021-05-05"
        assert shown["settings"]["functions"] == sorted(shown["settings"]["functions"])
        assert shown["remarks"] == {"charge_undertemperature_c": FROST}

    @given(
        payloads=st.dictionaries(
            st.sampled_from([*SETTING_NAMES]), st.binary(min_size=2, max_size=2)
        )
    )
    def test_no_payload_ends_with_a_traceback(self, payloads: dict[int, bytes]) -> None:
        try:
            settings = decode(payloads)
        except DecodeError:
            return
        settings_json("camper", "A4:C1", settings)

        assert settings_table("camper", "A4:C1", settings, everything=True).startswith("camper")
