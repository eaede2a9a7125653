"""A frame is explained byte by byte, and an impossible one is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.errors import DecodeError
from exporter.protocol.explain import check_plausible, explain, parse_frame, register_name
from exporter.protocol.frame import Frame
from tests.support.recorded import FRAMES, MOBILEKTRO, SETTINGS

WIRES = [bytes.fromhex(frame["frame_hex"]) for frame in FRAMES + SETTINGS]


class TestExplain:
    @pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.hex()[:24])
    def test_lines_of_every_recorded_frame_are_its_bytes(self, wire: bytes) -> None:
        lines = list(explain(parse_frame(wire)))

        assert b"".join(line.raw for line in lines) == wire
        assert [line.at for line in lines] == [
            sum(len(before.raw) for before in lines[:number]) for number in range(len(lines))
        ]

    def test_balancing_cells_are_numbered_from_1_to_32(self) -> None:
        payload = bytearray(MOBILEKTRO[4:-3])
        payload[12:16] = b"\x00\x02\x80\x01"
        payload[10:12] = payload[16:18] = b"\x00\x00"
        payload[20] = 0

        values = [line.value for line in explain(Frame(0x03, 0, bytes(payload)))]

        assert "cell 2" in values
        assert "cell 17, cell 32" in values
        assert values.count("none") == 2
        assert "all off" in values

    def test_capacity_in_the_100_ma_unit_is_scaled(self) -> None:
        payload = bytearray(MOBILEKTRO[4:-3])
        payload[20] = 0x80

        lines = {line.name: line.value for line in explain(Frame(0x03, 0, bytes(payload)))}

        assert lines["remaining capacity"] == "2035.4 Ah"
        assert lines["MOSFETs and status"] == "100 mA unit"

    def test_parameter_without_a_register_is_only_numbered(self) -> None:
        lines = {line.name: line.value for line in explain(Frame(0xFA, 0, b"\x00\x04\x01\x00\x02"))}

        assert lines["first parameter"] == "4"
        assert lines["parameter 4"] == ""

    def test_text_behind_a_setting_is_not_understood(self) -> None:
        lines = {line.name: line for line in explain(Frame(0xA0, 0, b"\x02ABCD"))}

        assert lines["manufacturer"].raw == b"\x02AB"
        assert lines["not understood"].raw == b"CD"

    def test_register_has_a_name_or_is_unknown(self) -> None:
        assert register_name(0x99) == "unknown register"
        assert register_name(0x24) == "cell overvoltage"

    @given(register=st.integers(0, 255), payload=st.binary(max_size=255))
    def test_any_payload_is_explained_or_refused(self, register: int, payload: bytes) -> None:
        try:
            raw = b"".join(line.raw for line in explain(Frame(register, 0, payload)))
        except DecodeError:
            return
        assert raw[4:-3] == payload

    def test_three_cells_are_plausible(self) -> None:
        check_plausible(Frame(0x04, 0, bytes.fromhex("0ce4") * 3))

    def test_cells_at_0_v_are_plausible(self) -> None:
        check_plausible(Frame(0x04, 0, bytes(6)))
