"""`bms-exporter decode` explains recorded frames offline and names the damage of others."""

import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from exporter.cli import main
from exporter.cli.decode import decode_all, problems, to_json, to_metrics, to_text
from exporter.demo.battery import encode_reply
from tests.support.recorded import (
    CELLS,
    COUNTERS,
    FIELD_REPORTS,
    FRAMES,
    HARDWARE,
    MOBILEKTRO,
    REFUSE,
    SETTINGS,
)

DECODED_REGISTERS = ("0x03", "0x04", "0x05", "0xAA")
# The examples of the vendor's document V11 for 0xFA: two parameters, and a text.
PARAMETERS = "ddfa00070001020fa01036ff0177"
MANUFACTURER = (
    "ddfa00230038100544474a4244686a6b6c7a786300000000000000000000000000000000000000fb3777"
)
WIRES = [bytes.fromhex(frame["frame_hex"]) for frame in FRAMES]


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def exported(wire: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float] | None:
    """Return what `decode --format metrics` shows of one frame, None when it is refused."""
    frames = decode_all([wire])
    return None if problems(frames) else samples(to_metrics(frames))


def exported_cells(
    shown: dict[tuple[str, frozenset[tuple[str, str]]], float] | None,
) -> dict[str, float]:
    """Return the voltage of each exported cell by its label."""
    return {
        dict(labels)["cell"]: volts
        for (name, labels), volts in (shown or {}).items()
        if name == "bms_cell_voltage_volts"
    }


class TestExplain:
    def test_every_byte_of_a_frame_has_its_line(self, capsys: pytest.CaptureFixture[str]) -> None:
        status = main(["decode", MOBILEKTRO.hex()])

        lines = [line.split() for line in capsys.readouterr().out.splitlines()]
        assert status == 0
        assert ["4", "05", "29", "voltage", "13.21", "V"] in lines
        assert ["8", "4F", "82", "remaining", "capacity", "203.54", "Ah"] in lines
        assert ["14", "2D", "0C", "manufactured", "2022-08-12"] in lines
        assert ["22", "83", "software", "version", "8.3"] in lines
        assert ["23", "5D", "state", "of", "charge", "93", "%"] in lines
        assert ["27", "0A", "C8", "NTC", "1", "2.9", "°C"] in lines
        assert ["33", "FA", "40", "checksum", "right"] in lines

    def test_open_or_shorted_sensor_is_named(self, capsys: pytest.CaptureFixture[str]) -> None:
        (frame,) = FIELD_REPORTS["ntc-open-or-shorted"]

        main(["decode", frame.hex()])

        lines = [line.split() for line in capsys.readouterr().out.splitlines()]
        assert ["27", "00", "00", "NTC", "1", "open", "or", "shorted"] in lines
        assert ["29", "FF", "FF", "NTC", "2", "open", "or", "shorted"] in lines
        assert ["31", "0B", "73", "NTC", "3", "20", "°C"] in lines

    @pytest.mark.parametrize(
        "recorded",
        [frame for frame in FRAMES if frame["register"] not in DECODED_REGISTERS],
        ids=lambda frame: frame["register"],
    )
    def test_other_registers_are_shown_with_status_and_payload(
        self, recorded: dict[str, str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        status = main(["decode", recorded["frame_hex"]])

        out = capsys.readouterr().out
        payload = recorded["frame_hex"][8:-6] or "empty"
        assert status == 0
        assert f"register {int(recorded['register'], 16):#04x} (" in out
        assert f"status 0x00 (ok), payload {payload}" in out
        assert "unknown register" not in out

    @pytest.mark.parametrize(
        ("wire", "shown"),
        [
            pytest.param(
                "dd03001b055700002ed62ee000022aa700000000000120640204020b5f0b5bfb4777",
                ["protections                 cell_overvoltage", "discharge MOSFET on"],
                id="a protection",
            ),
            pytest.param(
                "dd0300220550000026d627100002344800000000000066630304010b92000000271026d60000fb3777",
                ["full capacity               100 Ah", "balance current             0 A"],
                id="a trailing block",
            ),
            pytest.param(CELLS.hex(), ["cell 1                      3.394 V"], id="cells"),
            pytest.param(
                COUNTERS.hex(), ["cell_overvoltage            122", "restarts"], id="counters"
            ),
            pytest.param(HARDWARE.hex(), ["JBD-SP04S034-L4S-200A-B-U"], id="hardware"),
        ],
    )
    def test_meaning_of_bits_and_numbers_is_shown(
        self, wire: str, shown: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        main(["decode", wire])

        out = capsys.readouterr().out
        assert all(text in out for text in shown)


class TestSettings:
    @pytest.mark.parametrize(
        ("wire", "shown"),
        [
            pytest.param(
                "dd1500022c7cff5677", ["manufacture date            2022-03-28"], id="date"
            ),
            pytest.param("dd1a00020a47ffad77", ["charge undertemperature     -10 °C"], id="frost"),
            pytest.param(
                "dd290002a628ff3077", ["discharge overcurrent       -230 A"], id="current"
            ),
            pytest.param("dd2b0002001effe077", ["balance window              0.03 V"], id="window"),
            pytest.param("dd2d00020006fff877", ["load detection, balancing"], id="functions"),
            pytest.param(
                "dd2d00020130ffcd77", ["LED, LED count, GPS or charge handshake"], id="LED"
            ),
            pytest.param("dd2e00020007fff777", ["NTC 1, NTC 2, NTC 3"], id="NTCs"),
            pytest.param(
                "dd3e00020a1effd677",
                [
                    "    4  0A                       charge overcurrent delay    10 s",
                    "    5  1E                       charge overcurrent release  30 s",
                ],
                id="two delays",
            ),
            pytest.param(
                "dd3800028d5cff1577",
                ["155 mV across the shunt for 100 µs", "83 mV across the shunt for 320 ms"],
                id="short circuit",
            ),
            pytest.param(
                "dd390002b005ff4977", ["undervoltage 8 s, overvoltage 8 s", "5 s"], id="hard limits"
            ),
            pytest.param(
                "dda000060544474a4244fe9a77", ["manufacturer                DGJBD"], id="A0"
            ),
            pytest.param("dda2000100ffff77", ["barcode                     none"], id="no barcode"),
            pytest.param("dd2d0000000077", ["0 bytes: no value"], id="acknowledgement"),
            pytest.param(
                PARAMETERS,
                [
                    "register 0xfa (parameter block)",
                    "parameter 1, cycle capacity  40 Ah",
                    "parameter 2, cell voltage at 100 %  4.15 V",
                ],
                id="two parameters of V11",
            ),
            pytest.param(MANUFACTURER, ["parameter 56, manufacturer  DGJBD"], id="a text of V11"),
        ],
    )
    def test_meaning_of_a_setting_is_shown(
        self, wire: str, shown: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        status = main(["decode", wire])

        out = capsys.readouterr().out
        assert status == 0
        assert [text for text in shown if text not in out] == []

    def test_every_recorded_setting_is_explained(self, capsys: pytest.CaptureFixture[str]) -> None:
        wires = [frame["frame_hex"] for frame in SETTINGS if frame["status"] == 0]

        status = main(["decode", *wires])

        out = capsys.readouterr().out
        assert status == 0
        assert "unknown register" not in out
        assert "not understood" not in out

    def test_json_has_the_settings_with_their_units(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        wires = ["dd1500022c7cff5677", "dd2d00020006fff877", "dd2d0000000077", PARAMETERS]

        main(["decode", *wires, "--format", "json"])

        assert [one["decoded"] for one in json.loads(capsys.readouterr().out)] == [
            {"settings": {"manufactured": "2022-03-28"}},
            {"settings": {"functions": ["balancing", "load_detection"]}},
            {},
            {
                "parameters": {"first": 1, "words": [4000, 4150]},
                "settings": {"cycle_capacity_ah": 40.0, "cell_full_v": 4.15},
            },
        ]

    @pytest.mark.parametrize("position", [0, 1])
    def test_unit_of_100_ma_scales_the_other_settings(
        self, position: int, capsys: pytest.CaptureFixture[str]
    ) -> None:
        wires = ["dd1000026d60ff3177", "dd28000259d8fecd77"]
        wires.insert(position, encode_reply(0x2D, b"\x10\x06").hex())

        main(["decode", *wires])

        out = capsys.readouterr().out
        assert "design capacity             2800 Ah" in out
        assert "charge overcurrent          2300 A" in out
        assert "load detection, balancing, 100 mA unit" in out

    def test_refused_and_empty_functions_say_nothing_about_the_unit(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        large = encode_reply(0x2D, b"\x10\x00").hex()
        refused = encode_reply(0x2D, b"\x00\x00", status=0x81).hex()

        main(["decode", large, "dd2d0000000077", refused, "dd1000026d60ff3177"])

        assert "2800 Ah" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("wire", "complaint"),
        [
            (encode_reply(0x24, b"\x0e"), "cell overvoltage: expected 2 bytes, got 1"),
            (encode_reply(0x2D, bytes(3)), "functions: expected 2 bytes, got 3"),
            (
                encode_reply(0xFA, b"\x00\x01\x02\x0f\xa0"),
                "expected 7 bytes for 2 parameters, got 5",
            ),
            (encode_reply(0xFA), "parameters: expected 1 bytes at offset 2"),
            (bytes.fromhex("dd248100ff7f77"), "not in factory mode"),
        ],
    )
    @pytest.mark.parametrize("form", ["explain", "json"])
    def test_setting_of_the_wrong_size_is_refused(
        self, form: str, wire: bytes, complaint: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        status = main(["decode", wire.hex(), "--format", form])

        output = capsys.readouterr()
        assert status == 1
        assert output.out == ""
        assert complaint in output.err

    def test_metrics_hold_no_settings(self, capsys: pytest.CaptureFixture[str]) -> None:
        main(["decode", MOBILEKTRO.hex(), "dd2400020e42ffae77", PARAMETERS, "--format", "metrics"])

        shown = samples(capsys.readouterr().out)
        assert shown == exported(MOBILEKTRO)


class TestDamage:
    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            (["dd03"], "size: expected 7 bytes (the shortest frame), got 2"),
            (
                ["dd03001d053500001a25215300072b0f00000000"],
                "size: expected 36 bytes (length 29), got 20",
            ),
            ([MOBILEKTRO.hex()[:-2] + "dd"], "tail: expected 77, got DD: a byte was changed"),
            ([MOBILEKTRO.hex().replace("fa40", "fa41")], "checksum: expected FA40, got FA41"),
            (["0178290029"], "head: expected DD, got 01"),
            (["dda50300fffd77"], "expected a reply, got the request for register 0x03"),
            (
                ["dd058000ff8077"],
                "frame 1, register 0x05 (hardware name): status: expected 0x00 (ok), got 0x80",
            ),
            (["dd248100ff7f77"], "got 0x81 (refused: not authorised or not in factory mode)"),
            ([""], "expected at least one frame in hex, got none"),
            (["xyz"], "expected hex like DD03...77, got 'xyz'"),
            (["dd0"], "expected hex like DD03...77, got 'dd0': 3 digits, an odd number"),
            (
                [MOBILEKTRO.hex().replace("0304", "030400")],
                "size: expected 36 bytes (length 29), got 37: a byte was changed or lost",
            ),
            (["dd5ae1020000ff1d77"], "got the request to write register 0xe1"),
        ],
    )
    @pytest.mark.parametrize("form", ["explain", "json", "metrics"])
    def test_refused_frame_gives_one_reason_on_stderr_with_expected_and_got(
        self, form: str, arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        status = main(["decode", *arguments, "--format", form])

        output = capsys.readouterr()
        assert status == 1
        assert output.out == ""
        assert output.err.count("\n") == 1
        assert complaint in output.err

    @pytest.mark.parametrize("case", REFUSE, ids=lambda case: case["reason"][:40])
    @pytest.mark.parametrize("form", ["explain", "json", "metrics"])
    def test_recorded_damage_is_refused_in_every_format(
        self, case: dict[str, str], form: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        status = main(["decode", case["frame_hex"], "--format", form])

        output = capsys.readouterr()
        assert status == 1
        assert "expected" in output.err
        assert output.out == ""

    def test_valid_frame_beside_a_refused_one_is_shown(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        status = main(["decode", "dd058000ff8077", MOBILEKTRO.hex(), "--format", "metrics"])

        output = capsys.readouterr()
        assert status == 1
        assert 'bms_remaining_capacity_amperehours{battery="decoded"} 203.54' in output.out

    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            pytest.param([CELLS.hex(), "dd"], "frame 2: size: expected 7 bytes", id="one byte"),
            pytest.param(
                [MOBILEKTRO.hex()[:40], CELLS.hex()],
                "frame 1: size: expected 36 bytes (length 29), got 20: give all its notifications",
                id="the first notification",
            ),
            pytest.param(
                [CELLS.hex() + MOBILEKTRO.hex()[:40]],
                "frame 2: size: expected 36 bytes (length 29), got 20",
                id="joined",
            ),
            pytest.param(
                [CELLS.hex() + "0000" + MOBILEKTRO.hex().replace("4f82", "4f83")],
                "frame 2: checksum: expected FA3F, got FA40: a byte was changed or lost",
                id="behind surplus bytes",
            ),
        ],
    )
    def test_cut_frame_beside_a_valid_one_is_refused(
        self, arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        status = main(["decode", *arguments])

        output = capsys.readouterr()
        assert status == 1
        assert "cell 1                      3.394 V" in output.out
        assert output.err.count("\n") == 1
        assert complaint in output.err

    @pytest.mark.parametrize(
        ("wire", "complaint"),
        [
            pytest.param(
                "dd0400020e42ffae77", "at least 3 cells, got 1", id="0x24 with a flipped bit"
            ),
            pytest.param("dd0500022c7cff5677", "letters or digits", id="0x15 with a flipped bit"),
            pytest.param(b"\xdd\x05".hex() + CELLS.hex()[4:], "printable ASCII", id="cells as 05"),
            pytest.param(
                b"\xdd\x04".hex() + HARDWARE.hex()[4:], "2 bytes a cell", id="a name as 04"
            ),
            pytest.param(
                "dd04000a30313233343536373839fde977", "the text '0123456789'", id="digits as 04"
            ),
            pytest.param(
                encode_reply(0xAA, b"\x17SP04S034L4S200A20220812").hex(),
                "the text 'SP04S034L4S200A20220812'",
                id="a barcode as AA",
            ),
        ],
    )
    def test_damaged_register_byte_is_noticed(
        self, wire: str, complaint: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        status = main(["decode", wire])

        assert status == 1
        assert complaint in capsys.readouterr().err

    def test_flipped_bit_of_a_recorded_frame_never_shows_another_number(self) -> None:
        for wire in WIRES:
            whole = exported(wire)
            assert whole is not None
            for bit in range(8 * len(wire)):
                damaged = bytearray(wire)
                damaged[bit // 8] ^= 1 << bit % 8

                assert exported(bytes(damaged)) in (None, {}, whole)


class TestForms:
    @pytest.mark.parametrize(
        "arguments",
        [
            pytest.param([MOBILEKTRO.hex(), CELLS.hex()], id="one an argument"),
            pytest.param([MOBILEKTRO.hex() + CELLS.hex()], id="joined"),
            pytest.param([MOBILEKTRO.hex(" "), CELLS.hex(":")], id="with blanks and colons"),
            pytest.param((MOBILEKTRO + CELLS).hex(" ").split(), id="one byte an argument"),
            pytest.param([MOBILEKTRO.hex().upper(), "0x" + CELLS.hex()], id="as others write it"),
            pytest.param(
                [MOBILEKTRO[:20].hex(), MOBILEKTRO[20:].hex(), CELLS.hex()], id="in notifications"
            ),
            pytest.param([str(byte) for byte in MOBILEKTRO + CELLS], id="one decimal an argument"),
            pytest.param([repr(bytearray(MOBILEKTRO)), repr(CELLS)], id="as Python writes it"),
            pytest.param(["dda50300fffd77", MOBILEKTRO.hex(), CELLS.hex()], id="with a request"),
        ],
    )
    def test_frames_are_decoded_in_every_way_to_give_them(
        self, arguments: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        status = main(["decode", *arguments, "--format", "metrics"])

        shown = samples(capsys.readouterr().out)
        label = ("battery", "decoded")
        assert status == 0
        assert shown["bms_remaining_capacity_amperehours", frozenset({label})] == 203.54
        cell = frozenset({label, ("cell", "04")})
        assert shown["bms_cell_voltage_volts", cell] == 3.386

    def test_decode_metrics_hold_only_what_the_frames_say(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        frames = [wire.hex() for wire in (MOBILEKTRO, CELLS, HARDWARE, COUNTERS)]

        main(["decode", *frames, "--format", "metrics"])

        names = {name for name, _ in samples(capsys.readouterr().out)}
        assert {"bms_voltage_volts", "bms_restarts_total", "bms_battery_info"} <= names
        assert not {name for name in names if "poll" in name or "connection" in name}
        assert "bms_up" not in names

    def test_info_metric_needs_the_hardware_name(self) -> None:
        without = exported(MOBILEKTRO)
        whole = exported(MOBILEKTRO + HARDWARE)

        assert without is not None
        assert whole is not None
        assert "bms_battery_info" not in {name for name, _ in without}
        info = next(dict(labels) for name, labels in whole if name == "bms_battery_info")
        assert info["hardware"] == "JBD-SP04S034-L4S-200A-B-U"
        assert info["software"] == "8.3"
        assert info["manufactured"] == "2022-08-12"

    def test_cell_voltages_alone_are_exported(self) -> None:
        shown = exported(CELLS)

        assert shown is not None
        assert {name for name, _ in shown} == {"bms_cell_voltage_volts"}

    def test_cell_at_0_v_counts_up_to_the_number_of_cells(self) -> None:
        unused = encode_reply(0x04, CELLS[4:-3] + bytes(2))
        broken = encode_reply(0x04, CELLS[4:6] + bytes(2) + CELLS[8:-3])

        assert exported_cells(exported(MOBILEKTRO + unused)) == {
            "01": 3.394, "02": 3.388, "03": 3.392, "04": 3.386,
        }  # fmt: skip
        assert exported_cells(exported(broken + MOBILEKTRO)) == {
            "01": 3.394, "02": 0.0, "03": 3.392, "04": 3.386,
        }  # fmt: skip
        assert (
            exported_cells(exported(unused))["05"] == 0.0
        )  # without 0x03 the number of cells is not known

    def test_decode_json_has_units_in_its_names(self, capsys: pytest.CaptureFixture[str]) -> None:
        wires = (MOBILEKTRO, CELLS, HARDWARE, COUNTERS, bytes.fromhex("dd2400020e42ffae77"))

        status = main(["decode", *(wire.hex() for wire in wires), "--format", "json"])

        basic, cells, hardware, counters, other = json.loads(capsys.readouterr().out)
        assert status == 0
        assert basic["register"] == "0x03"
        assert basic["decoded"]["basic"]["remaining_ah"] == 203.54
        assert basic["decoded"]["basic"]["manufactured"] == "2022-08-12"
        assert basic["decoded"]["basic"]["protections"] == []
        assert cells["decoded"]["cell_voltages_v"] == [3.394, 3.388, 3.392, 3.386]
        assert hardware["decoded"]["hardware"] == "JBD-SP04S034-L4S-200A-B-U"
        assert counters["decoded"]["counters"]["protection_events"]["cell_overvoltage"] == 122
        assert (other["name"], other["payload"], other["decoded"]) == (
            "cell overvoltage",
            "0e42",
            {"settings": {"cell_overvoltage_v": 3.65}},
        )

    def test_refused_frame_is_not_in_the_json(self, capsys: pytest.CaptureFixture[str]) -> None:
        status = main(["decode", "dd058000ff8077", CELLS.hex(), "dd", "--format", "json"])

        output = capsys.readouterr()
        (cells,) = json.loads(output.out)
        assert status == 1
        assert cells["frame"] == CELLS.hex()
        assert [line[:8] for line in output.err.splitlines()] == ["frame 1,", "frame 3:"]

    @given(raws=st.lists(st.binary(max_size=80), max_size=3))
    def test_any_bytes_are_decoded_or_refused(self, raws: list[bytes]) -> None:
        frames = decode_all(raws)

        to_text(frames)
        to_json(frames)
        to_metrics(frames)
        assert len(problems(frames)) <= len(frames)


class TestSources:
    @pytest.fixture
    def log(self) -> str:
        """Return what `read --log.level debug 2>&1` prints."""
        start = "ts=2026-11-28T00:42:19.573+00:00 level=debug logger=exporter.bms msg=received hex="
        return (
            'ts=2026-11-28T00:42:19.491+00:00 level=debug logger=x msg="A4:C1:38:00:00:01 77"\n'
            f"{start}{MOBILEKTRO[:20].hex()}\n{start}{MOBILEKTRO[20:].hex()}\n"
            "battery           camper (A4:C1:38:00:00:01)\ncycles            77\n"
        )

    def test_log_is_read_from_standard_input(
        self, log: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO(log))

        status = main(["decode", "-"])

        output = capsys.readouterr()
        assert status == 0
        assert "203.54 Ah" in output.out
        assert "surplus" not in output.out
        assert output.err == ""

    def test_log_is_read_from_a_file(
        self, log: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "log.txt"
        path.write_text(log)

        status = main(["decode", str(path), CELLS.hex(), "--format", "metrics"])

        shown = samples(capsys.readouterr().out)
        label = ("battery", "decoded")
        assert status == 0
        assert shown["bms_remaining_capacity_amperehours", frozenset({label})] == 203.54
        assert exported_cells(shown)["04"] == 3.386

    def test_complaint_about_a_pasted_file_names_file_and_line(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "frames.hex"
        path.write_text(f"{CELLS.hex()}\ndd030\n")

        status = main(["decode", str(path)])

        output = capsys.readouterr()
        assert status == 1
        assert output.out == ""
        assert output.err.startswith(
            f"{path}:2: expected hex like DD03...77, got 'dd030': 5 digits"
        )

    @pytest.mark.parametrize(
        ("content", "complaint"),
        [
            (b"\xff\xfe\x00", "it is not text"),
            (b"x" * 10_000_001, "more than 10000000 characters"),
            (b"", "expected at least one frame in hex, got none"),
            (b"hello", ":1: expected hex like DD03...77, got 'hello'"),
        ],
        ids=["binary", "large", "empty", "prose"],
    )
    def test_file_without_frames_gives_one_reason(
        self, content: bytes, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "file.bin"
        path.write_bytes(content)

        status = main(["decode", str(path)])

        output = capsys.readouterr()
        assert status == 1
        assert output.out == ""
        assert output.err.count("\n") == 1
        assert complaint in output.err

    def test_folder_instead_of_a_file_is_unreadable(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        status = main(["decode", str(tmp_path)])

        assert status == 1
        assert capsys.readouterr().err == f"{tmp_path}: it is a folder: name a file\n"

    def test_hex_is_never_taken_for_a_file_name(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Path(CELLS.hex()).write_text(MOBILEKTRO.hex())

        main(["decode", CELLS.hex()])
        given = capsys.readouterr().out
        main(["decode", f"./{CELLS.hex()}"])
        read = capsys.readouterr().out

        assert "3.394 V" in given
        assert "203.54 Ah" in read

    def test_terminal_gets_a_hint_how_to_end_the_input(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        monkeypatch.setattr("sys.stdin", Terminal(CELLS.hex()))

        status = main(["decode", "-"])

        assert status == 0
        assert "Ctrl+D" in capsys.readouterr().err


class TestSurplus:
    # Source: rakhmaevao/JbdBms#4, Louisvdw/dbus-serialbattery#593, syssi/esphome-jbd-bms#14.
    FRAME = "dd0400080d0d0d0a0d0a0d0cff9777"
    SURPLUS = "0000002a00000058400d80601ffb3f2802fc3f"

    def test_surplus_bytes_beside_a_good_frame_are_named(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        status = main(["decode", f"00{self.FRAME}{self.SURPLUS}"])

        output = capsys.readouterr()
        assert status == 0
        assert output.out.startswith("1 surplus byte: 00\n\nDD 04 00 08")
        assert "cell 1                      3.341 V" in output.out
        assert output.out.endswith(f"\n\n19 surplus bytes: {self.SURPLUS}\n")
        assert output.err == ""

    @pytest.mark.parametrize("form", ["json", "metrics"])
    def test_surplus_bytes_are_named_on_stderr_for_json_and_metrics(
        self, form: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        status = main(["decode", f"{self.FRAME}{self.SURPLUS}", "--format", form])

        output = capsys.readouterr()
        assert status == 0
        assert "3.341" in output.out
        assert "surplus" not in output.out
        assert output.err == f"19 surplus bytes: {self.SURPLUS}\n"

    def test_request_beside_a_reply_is_named(self, capsys: pytest.CaptureFixture[str]) -> None:
        status = main(["decode", "dda50400fffc77", self.FRAME])

        output = capsys.readouterr()
        assert status == 0
        assert output.out.startswith("request for register 0x04 (cell voltages): dda50400fffc77\n")

    def test_cell_above_5_v_is_explained(self, capsys: pytest.CaptureFixture[str]) -> None:
        status = main(["decode", *(frame.hex() for frame in FIELD_REPORTS["cell-above-5-v"])])

        output = capsys.readouterr()
        assert status == 0
        assert "cell 9                      6.551 V" in output.out
        assert "cell 10                     0.412 V" in output.out


class TestRecordings:
    @pytest.mark.parametrize("name", ["virtual-bluez-ff00", "virtual-direct-ff00"])
    def test_every_frame_of_a_recording_is_explained(
        self, name: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["decode", f"tests/sessions/{name}.jsonl"]) == 0

        printed = capsys.readouterr()
        assert printed.out.count("  register 0x") == 4
        assert printed.err == ""

    def test_recording_from_standard_input_is_explained(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        text = Path("tests/sessions/vm-direct-ff00.jsonl").read_text()
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))

        assert main(["decode", "-", "--format", "json"]) == 0

        assert len(json.loads(capsys.readouterr().out)) == 4

    def test_recording_without_replies_names_the_command_that_replays_it(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = "tests/sessions/virtual-bluez-away.jsonl"

        assert main(["decode", path]) == 1

        printed = capsys.readouterr().err
        assert printed.startswith(f"{path}: this recording holds nothing")
        assert "bms-exporter read --replay" in printed

    def test_malformed_recording_is_refused_with_its_line(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "bad.jsonl"
        path.write_text('{"record":1}\n{"t":0,"rx":"1b0"}\n')

        assert main(["decode", str(path)]) == 1

        assert capsys.readouterr().err == f"{path}:2: rx: expected hex, got '1b0'\n"
