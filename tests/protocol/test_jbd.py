"""What payloads mean: every recorded frame, every bit, both sides of every limit."""

from collections.abc import Callable
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.errors import DecodeError
from exporter.protocol.jbd import (
    decode_basic,
    decode_cells,
    decode_event_counters,
    decode_hardware,
    fitted_cells,
    status_name,
)
from exporter.reading import Protection
from tests.support.recorded import FIELD_REPORTS, HARDWARE, MOBILEKTRO, frames_of_register

PAYLOAD = MOBILEKTRO[4:-3]


def basic(*changes: tuple[int, str], ntcs: str = "", tail: str = "") -> bytes:
    """Return the MOBILEKTRO's payload with `changes` (offset, hex), other NTCs and a tail."""
    payload = bytearray(PAYLOAD[:22] + bytes([len(ntcs) // 4]) + bytes.fromhex(ntcs + tail))
    for at, new in changes:
        payload[at : at + len(new) // 2] = bytes.fromhex(new)
    return bytes(payload)


def ids(recorded: dict[str, Any]) -> str:
    return f"{recorded.get('device') or recorded['source'][:30]} {recorded['frame_hex'][8:20]}"


def payload_of(recorded: dict[str, Any]) -> bytes:
    return bytes.fromhex(recorded["frame_hex"])[4:-3]


class TestRecorded:
    @pytest.mark.parametrize("recorded", frames_of_register(0x03), ids=ids)
    def test_recorded_basic_info_is_decoded(self, recorded: dict[str, Any]) -> None:
        expected = recorded["expected"]

        info = decode_basic(payload_of(recorded))

        assert info.voltage_v == expected["voltage_v"]
        assert info.current_a == expected["current_a"]
        assert info.remaining_ah == expected["remaining_ah"]
        assert info.nominal_ah == expected["nominal_ah"]
        assert info.cycles == expected["cycles"]
        assert str(info.manufactured) == str(expected["production_date"])
        assert sorted(info.balancing_cells) == expected["balancing_cells"]
        assert {str(p) for p in info.protections} == set(expected["protections"])
        assert info.software == expected["software_version_nibbles"]
        assert info.rsoc_ratio == expected["soc_percent"] / 100
        assert info.charge_fet_on == expected["charge_fet"]
        assert info.discharge_fet_on == expected["discharge_fet"]
        assert info.cell_count == expected["cell_count"]
        assert list(info.temperatures_c) == expected["temperatures_c"]
        tail = expected.get("tail") or {}
        assert info.full_ah == tail.get("full_capacity_ah")
        assert info.balance_current_a == (
            tail["balance_current_raw"] / 1000 if "balance_current_raw" in tail else None
        )

    @pytest.mark.parametrize("recorded", frames_of_register(0x04), ids=ids)
    def test_recorded_cell_voltages_are_decoded(self, recorded: dict[str, Any]) -> None:
        cells = decode_cells(payload_of(recorded))

        assert [round(cell_v * 1000) for cell_v in cells] == recorded["expected"]["cells_mv"]

    @pytest.mark.parametrize("recorded", frames_of_register(0x05), ids=ids)
    def test_recorded_hardware_name_is_decoded(self, recorded: dict[str, Any]) -> None:
        assert decode_hardware(payload_of(recorded)) == recorded["expected"]["hardware"]

    @pytest.mark.parametrize("recorded", frames_of_register(0xAA), ids=ids)
    def test_recorded_event_counters_are_decoded(self, recorded: dict[str, Any]) -> None:
        expected = dict(recorded["expected"])
        restarts = expected.pop("word11_restarts")

        counters = decode_event_counters(payload_of(recorded))

        assert {str(p): count for p, count in counters.protection_events.items()} == expected
        assert counters.restarts == restarts

    def test_cells_add_up_to_the_voltage_of_the_battery(self) -> None:
        # dd0300...: 13.56 V and the cells below were sent by one battery within a second.
        cells = decode_cells(bytes.fromhex("0d420d3c0d400d3a"))

        assert sum(cells) == pytest.approx(13.56, abs=0.01)


class TestBasicInfo:
    @pytest.mark.parametrize(
        ("raw", "amperes"),
        [("0000", 0.0), ("0001", 0.01), ("ffff", -0.01), ("7fff", 327.67), ("8000", -327.68)],
    )
    def test_current_is_signed(self, raw: str, amperes: float) -> None:
        assert decode_basic(basic((2, raw))).current_a == amperes

    @pytest.mark.parametrize(
        ("raw", "amperehours"), [("7fff", 327.67), ("8000", 327.68), ("ffff", 655.35)]
    )
    def test_capacities_are_unsigned(self, raw: str, amperehours: float) -> None:
        info = decode_basic(basic((4, raw), (6, raw)))

        assert (info.remaining_ah, info.nominal_ah) == (amperehours, amperehours)

    def test_voltage_and_cycles_are_unsigned(self) -> None:
        info = decode_basic(basic((0, "ffff"), (8, "ffff")))

        assert (info.voltage_v, info.cycles) == (655.35, 65535)

    def test_100_ma_unit_scales_only_current_and_capacities(self) -> None:
        payload = basic((2, "fff6"), (4, "0c80"), (6, "1000"), (20, "83"))
        with_tail = payload + bytes.fromhex("00 0000 1100 0c80 0010")

        info = decode_basic(with_tail)

        assert (info.current_a, info.remaining_ah, info.nominal_ah) == (-1.0, 320.0, 409.6)
        assert (info.full_ah, info.balance_current_a) == (435.2, 0.016)
        assert info.voltage_v == 13.21
        assert info.charge_fet_on
        assert info.discharge_fet_on

    @pytest.mark.parametrize(
        ("raw", "day"),
        [
            ("2d0c", date(2022, 8, 12)),
            ("0021", date(2000, 1, 1)),
            ("ff9f", date(2127, 12, 31)),
            ("0000", None),
            ("2d00", None),
            ("2c0c", None),
            ("2c5f", None),
            ("ffff", None),
        ],
    )
    def test_impossible_manufacturing_date_is_none(self, raw: str, day: date | None) -> None:
        assert decode_basic(basic((10, raw))).manufactured == day

    @pytest.mark.parametrize("cell", range(1, 33))
    def test_each_balancing_bit_is_one_cell_lowest_first(self, cell: int) -> None:
        mask = (1 << (cell - 1)).to_bytes(4, "big")

        info = decode_basic(basic((12, mask[2:].hex()), (14, mask[:2].hex())))

        assert info.balancing_cells == {cell}

    @pytest.mark.parametrize(("bit", "protection"), list(enumerate(Protection)))
    def test_each_protection_bit_is_one_protection(self, bit: int, protection: Protection) -> None:
        info = decode_basic(basic((16, f"{1 << bit:04x}")))

        assert info.protections == {protection}

    def test_protections_are_in_the_vendors_order(self) -> None:
        assert [str(protection) for protection in Protection] == [
            "cell_overvoltage",
            "cell_undervoltage",
            "pack_overvoltage",
            "pack_undervoltage",
            "charge_overtemperature",
            "charge_undertemperature",
            "discharge_overtemperature",
            "discharge_undertemperature",
            "charge_overcurrent",
            "discharge_overcurrent",
            "short_circuit",
            "frontend_ic_error",
            "mosfet_software_lock",
            "bit13",
            "bit14",
            "bit15",
        ]

    @pytest.mark.parametrize(
        ("raw", "on"),
        [
            ("00", set()),
            ("01", {"charge_fet_on"}),
            ("02", {"discharge_fet_on"}),
            ("04", set()),
            ("08", set()),
            ("10", {"heater_on"}),
            ("20", set()),
            ("40", {"factory_mode"}),
            ("80", set()),
            ("0b", {"charge_fet_on", "discharge_fet_on"}),
        ],
    )
    def test_status_bits_are_tested_one_by_one(self, raw: str, on: set[str]) -> None:
        info = decode_basic(basic((20, raw)))

        names = ("charge_fet_on", "discharge_fet_on", "heater_on", "factory_mode")
        assert {name for name in names if getattr(info, name)} == on

    @pytest.mark.parametrize(
        ("raw", "software"), [("10", "1.0"), ("83", "8.3"), ("00", "0.0"), ("ff", "15.15")]
    )
    def test_software_version_is_two_nibbles(self, raw: str, software: str) -> None:
        assert decode_basic(basic((18, raw))).software == software

    def test_battery_without_ntc_has_no_temperature(self) -> None:
        assert decode_basic(basic()).temperatures_c == ()

    def test_temperatures_count_from_2731(self) -> None:
        info = decode_basic(basic(ntcs="0aab0aaa0aac097f0bb8"))

        assert info.temperatures_c == (0.0, -0.1, 0.1, -30.0, 26.9)

    def test_open_or_shorted_ntc_is_no_temperature_and_keeps_its_place(self) -> None:
        (frame,) = FIELD_REPORTS["ntc-open-or-shorted"]

        assert decode_basic(frame[4:-3]).temperatures_c == (None, None, 20.0)
        assert decode_basic(basic(ntcs="0001fffe")).temperatures_c == (-273.0, 6280.3)

    @pytest.mark.parametrize(("raw", "ratio"), [("00", 0.0), ("5d", 0.93), ("64", 1.0)])
    def test_state_of_charge_is_the_bmss_own(self, raw: str, ratio: float) -> None:
        assert decode_basic(basic((19, raw))).rsoc_ratio == ratio

    @pytest.mark.parametrize("raw", ["65", "ff"])
    def test_state_of_charge_above_100_percent_is_refused(self, raw: str) -> None:
        with pytest.raises(DecodeError, match=f"at most 100 %, got {int(raw, 16)}%"):
            decode_basic(basic((19, raw)))

    @pytest.mark.parametrize("length", range(23))
    def test_payload_that_ends_early_is_refused(self, length: int) -> None:
        with pytest.raises(DecodeError, match=f"got a payload of {length} bytes"):
            decode_basic(PAYLOAD[:length])

    def test_payload_shorter_than_its_own_ntc_count_is_refused(self) -> None:
        with pytest.raises(DecodeError, match=r"NTC: expected 2 bytes at offset 27, got .* 28 b"):
            decode_basic(PAYLOAD[:-1])


class TestTrailingBlock:
    # humidity, alarm, full, remaining again, balance current; the battery has 203.54 of 219.32 Ah
    GOOD = "00 0000 4e20 4f82 000c"

    def test_trailing_fields_are_decoded(self) -> None:
        info = decode_basic(basic(tail=self.GOOD.replace(" ", "")))

        assert (info.full_ah, info.balance_current_a) == (200.0, 0.012)

    def test_balance_current_is_signed(self) -> None:
        info = decode_basic(basic(tail="0000004e204f82fff4"))

        assert info.balance_current_a == -0.012

    def test_trailing_fields_stand_behind_the_ntcs(self) -> None:
        info = decode_basic(basic(ntcs="0ac80ac4", tail="0000004e204f82000c"))

        assert info.full_ah == 200.0
        assert info.temperatures_c == (2.9, 2.5)

    def test_bytes_behind_the_trailing_fields_change_nothing(self) -> None:
        assert decode_basic(basic(tail="0080004e204f82000c00001900000000")).full_ah == 200.0

    @pytest.mark.parametrize(
        "tail",
        [
            pytest.param("0000004e204f8200", id="eight bytes are something else"),
            pytest.param("00000000004f82000c", id="a full capacity of 0"),
            pytest.param("0000004e204f81000c", id="a remaining capacity that differs"),
            pytest.param("0b870b946400000000", id="a Daren clone's, made one longer"),
        ],
    )
    def test_trailing_bytes_of_another_meaning_are_not_exported(self, tail: str) -> None:
        info = decode_basic(basic(tail=tail))

        assert (info.full_ah, info.balance_current_a) == (None, None)

    @pytest.mark.parametrize("nominal", ["0000", "0001", "2710"])
    def test_learned_capacity_does_not_depend_on_the_nominal_one(self, nominal: str) -> None:
        payload = basic((4, "2710"), (6, nominal), tail="0000007530" + "2710000c")

        assert decode_basic(payload).full_ah == 300.0

    def test_nominal_capacity_that_was_never_set_does_not_hide_the_learned_one(self) -> None:
        (frame,) = FIELD_REPORTS["full-capacity-above-3-times-nominal"]

        info = decode_basic(frame[4:-3])

        assert (info.nominal_ah, info.full_ah) == (30.0, 99.9)
        assert info.remaining_ah == 85.89


class TestFieldReports:
    def test_field_report_with_frost_is_decoded(self) -> None:
        (frame,) = FIELD_REPORTS["13s-frost"]

        info = decode_basic(frame[4:-3])

        assert (info.voltage_v, info.remaining_ah, info.nominal_ah) == (49.78, 9.12, 20.0)
        assert (info.rsoc_ratio, info.temperatures_c) == (0.46, (-4.0, -4.6, -5.7))
        assert info.protections == {Protection.CHARGE_UNDERTEMPERATURE}
        assert not info.charge_fet_on

    def test_field_report_with_balance_current_is_decoded(self) -> None:
        (frame,) = FIELD_REPORTS["13s-balance"]

        info = decode_basic(frame[4:-3])

        assert (info.current_a, info.remaining_ah, info.balance_current_a) == (-0.27, 6.73, 0.024)

    def test_four_cells_are_decoded(self) -> None:
        (frame,) = FIELD_REPORTS["4s-genuine"]

        info = decode_basic(frame[4:-3])

        assert (info.voltage_v, info.remaining_ah, info.nominal_ah) == (13.35, 207.19, 280.0)
        assert (info.rsoc_ratio, info.cycles, info.temperatures_c) == (0.74, 9, (16.3, 17.7))


class TestCells:
    def test_every_tap_is_shown_as_measured(self) -> None:
        assert decode_cells(bytes.fromhex("0d4200001997ffff")) == (3.394, 0.0, 6.551, 65.535)

    def test_broken_sense_wire_hides_no_cell(self) -> None:
        _, cells = FIELD_REPORTS["cell-above-5-v"]

        assert decode_cells(cells[4:-3]) == (
            3.3, 3.301, 3.302, 3.303, 3.304, 3.305, 3.306, 3.307, 6.551, 0.412, 3.31, 3.311, 3.312,
        )  # fmt: skip

    @pytest.mark.parametrize(
        ("cell_count", "fitted"),
        [
            pytest.param(4, (3.3, 0.0, 3.3, 0.0, 3.3, None), id="beyond the count"),
            pytest.param(6, (3.3, 0.0, 3.3, 0.0, 3.3, 0.0), id="within the count"),
            pytest.param(32, (3.3, 0.0, 3.3, 0.0, 3.3, 0.0), id="fewer taps than cells"),
            pytest.param(0, (3.3, None, 3.3, None, 3.3, None), id="no count"),
        ],
    )
    def test_tap_at_0_mv_is_no_cell_only_beyond_the_count(
        self, cell_count: int, fitted: tuple[float | None, ...]
    ) -> None:
        assert fitted_cells((3.3, 0.0, 3.3, 0.0, 3.3, 0.0), cell_count) == fitted

    def test_no_cell_and_32_cells_are_decoded(self) -> None:
        assert decode_cells(b"") == ()
        assert decode_cells(bytes.fromhex("0ce4") * 32) == (3.3,) * 32

    def test_half_a_cell_is_refused(self) -> None:
        with pytest.raises(DecodeError, match="2 bytes a cell, got 3 bytes"):
            decode_cells(bytes.fromhex("0d4200"))

    def test_every_millivolt_is_decoded_exactly(self) -> None:
        for millivolts in range(2500, 3651):
            (volts,) = decode_cells(millivolts.to_bytes(2, "big"))

            assert len(str(volts)) <= len("3.651")


class TestHardware:
    @pytest.mark.parametrize(
        ("payload", "name"),
        [
            (b"JBD-SP04S034", "JBD-SP04S034"),
            (b"JBD \0\0", "JBD"),
            (b"", ""),
            (b"X" * 31, "X" * 31),
        ],
    )
    def test_padding_of_the_hardware_name_is_removed(self, payload: bytes, name: str) -> None:
        assert decode_hardware(payload) == name

    @pytest.mark.parametrize("payload", [b"JBD\x00X", b"\xc4\xe3", b"JBD\n", b"\x1f"])
    def test_hardware_name_that_is_not_printable_ascii_is_refused(self, payload: bytes) -> None:
        with pytest.raises(DecodeError, match=f"printable ASCII, got {payload[:2].hex(' ')[:2]}"):
            decode_hardware(payload)


class TestEventCounters:
    @pytest.mark.parametrize(
        ("word", "protection"),
        list(
            enumerate(
                [
                    "short_circuit",
                    "charge_overcurrent",
                    "discharge_overcurrent",
                    "cell_overvoltage",
                    "cell_undervoltage",
                    "charge_overtemperature",
                    "charge_undertemperature",
                    "discharge_overtemperature",
                    "discharge_undertemperature",
                    "pack_overvoltage",
                    "pack_undervoltage",
                ]
            )
        ),
    )
    def test_each_event_counter_has_its_place(self, word: int, protection: str) -> None:
        payload = bytearray(24)
        payload[2 * word : 2 * word + 2] = b"\x12\x34"

        counters = decode_event_counters(bytes(payload))

        active = {str(p): count for p, count in counters.protection_events.items() if count}
        assert active == {protection: 0x1234}
        assert len(counters.protection_events) == 11
        assert counters.restarts == 0

    def test_twelfth_word_of_the_event_counters_counts_restarts(self) -> None:
        assert decode_event_counters(bytes(22) + b"\xff\xff").restarts == 65535

    def test_eleven_words_are_counters_without_restarts(self) -> None:
        (frame,) = FIELD_REPORTS["aa-11-words"]

        counters = decode_event_counters(frame[4:-3])

        assert {str(p): count for p, count in counters.protection_events.items() if count} == {
            "discharge_overcurrent": 1,
            "cell_overvoltage": 3,
            "cell_undervoltage": 2,
            "pack_undervoltage": 4,
        }
        assert counters.restarts is None

    @pytest.mark.parametrize("surplus", [2, 4, 230])
    def test_words_behind_the_event_counters_change_nothing(self, surplus: int) -> None:
        counters = decode_event_counters(bytes(20) + b"\x00\x05\x00\x07" + b"\xff" * surplus)

        assert counters.protection_events[Protection.PACK_UNDERVOLTAGE] == 5
        assert len(counters.protection_events) == 11
        assert counters.restarts == 7

    @pytest.mark.parametrize("length", [0, 20, 21, 23, 25])
    def test_event_counters_of_another_length_are_refused(self, length: int) -> None:
        with pytest.raises(DecodeError, match=f"at least 22 bytes, got {length}"):
            decode_event_counters(bytes(length))


@pytest.mark.parametrize(
    "decode", [decode_basic, decode_cells, decode_hardware, decode_event_counters]
)
@given(payload=st.binary(max_size=255))
def test_any_bytes_are_decoded_or_refused(
    decode: Callable[[bytes], object], payload: bytes
) -> None:
    try:
        decode(payload)
    except DecodeError as error:
        assert str(error)  # noqa: PT017 - both ways are good


@given(payload=st.binary(min_size=23, max_size=60))
def test_no_reading_is_above_a_full_battery(payload: bytes) -> None:
    try:
        info = decode_basic(payload)
    except DecodeError:
        return
    assert 0 <= info.rsoc_ratio <= 1
    assert info.remaining_ah >= 0


@pytest.mark.parametrize(
    ("status", "name"),
    [
        (0x00, "ok"),
        (0x80, "unknown register"),
        (0x81, "refused: not authorised or not in factory mode"),
        (0x82, "checksum error"),
        (0x83, "wrong password"),
        (0x99, "unknown status"),
    ],
)
def test_every_status_has_a_name(status: int, name: str) -> None:
    assert status_name(status) == name


def test_recorded_hardware_name_is_the_boards() -> None:
    assert decode_hardware(HARDWARE[4:-3]) == "JBD-SP04S034-L4S-200A-B-U"
