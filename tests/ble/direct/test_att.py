"""The Attribute Protocol turns bytes into events, without I/O."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.ble.direct.att import (
    Answer,
    Att,
    AttError,
    Notification,
    Reaction,
    checked,
    write_command,
    write_request,
)
from exporter.errors import PairingError


class TestReceiving:
    def test_notification_has_handle_and_value(self) -> None:
        assert list(Att().receive(bytes.fromhex("1b0a00dd03"))) == [
            Notification(0x0A, bytes.fromhex("dd03"))
        ]

    def test_indication_is_confirmed(self) -> None:
        assert list(Att().receive(bytes.fromhex("1d0a0001"))) == [
            Notification(0x0A, b"\x01"),
            Reaction(b"\x1e"),
        ]

    def test_response_ends_the_request(self) -> None:
        att = Att()
        att.request(write_request(5, b"\x01\x00"))

        assert list(att.receive(b"\x13")) == [Answer(b"\x13")]
        assert att.request(write_request(5, b"")) == bytes.fromhex("120500")

    def test_refusal_ends_the_request(self) -> None:
        att = Att()
        att.request(write_request(5, b"\x01\x00"))

        assert list(att.receive(bytes.fromhex("0112050005"))) == [
            Answer(bytes.fromhex("0112050005"))
        ]

    @pytest.mark.parametrize("late", ["0108050001", "11", "09", "0112", ""])
    def test_response_to_another_request_is_dropped(self, late: str) -> None:
        att = Att()
        att.request(write_request(5, b"\x01\x00"))

        assert list(att.receive(bytes.fromhex(late))) == []
        with pytest.raises(AttError, match="still under way"):
            att.request(write_request(5, b""))

    def test_response_without_a_request_is_dropped(self) -> None:
        assert list(Att().receive(b"\x13")) == []

    @pytest.mark.parametrize("requested", ["020000", "02f700", "02ffff"])
    def test_any_mtu_that_the_server_requests_is_answered(self, requested: str) -> None:
        att = Att()

        assert list(att.receive(bytes.fromhex(requested))) == [Reaction(bytes.fromhex("030502"))]

    @pytest.mark.parametrize("opcode", [0x04, 0x06, 0x08, 0x0A, 0x0C, 0x0E, 0x10, 0x12, 0x16, 0x18])
    def test_every_request_of_the_server_is_answered(self, opcode: int) -> None:
        refusal = bytes([1, opcode, 0, 0, 6])

        assert list(Att().receive(bytes([opcode, 1, 0, 255, 255]))) == [Reaction(refusal)]

    @given(st.lists(st.binary(max_size=30)))
    def test_no_received_pdu_raises(self, pdus: list[bytes]) -> None:
        att = Att()
        att.request(write_request(5, b"\x01\x00"))
        for pdu in pdus:
            list(att.receive(pdu))


class TestWriting:
    def test_write_command_and_request_differ_in_their_opcode(self) -> None:
        assert write_command(0x0102, b"\xdd") == bytes.fromhex("520201dd")
        assert write_request(0x0102, b"\xdd") == bytes.fromhex("120201dd")

    @pytest.mark.parametrize(
        ("code", "error"), [(5, PairingError), (8, PairingError), (15, PairingError), (1, AttError)]
    )
    def test_refusal_says_whether_pairing_is_missing(
        self, code: int, error: type[Exception]
    ) -> None:
        with pytest.raises(error, match=f"{code:#04x}.*handle 0x0005"):
            checked(bytes([1, 0x12, 5, 0, code]))
