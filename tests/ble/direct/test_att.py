"""The Attribute Protocol as pure functions of bytes."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.ble.direct.att import (
    Answer,
    Att,
    AttError,
    Handles,
    Notification,
    Reaction,
    Table,
    checked,
    discover,
    write_command,
    write_request,
)
from exporter.protocol.profiles import PROFILES

FF00 = {"ff00": PROFILES["ff00"]}


def drive(answers: Callable[[bytes], bytes] | list[bytes]) -> tuple[Table, list[bytes]]:
    """Run the discovery of ff00; return what it found and what it asked."""
    asked: list[bytes] = []
    procedure = discover(FF00)
    try:
        pdu = next(procedure)
        while True:
            asked.append(pdu)
            answer = answers.pop(0) if isinstance(answers, list) else answers(pdu)
            pdu = procedure.send(answer)
    except StopIteration as done:
        return done.value, asked


class TestReceiving:
    def test_a_notification_tells_its_handle_and_value(self) -> None:
        assert list(Att().receive(bytes.fromhex("1b0a00dd03"))) == [
            Notification(0x0A, bytes.fromhex("dd03"))
        ]

    def test_an_indication_is_a_notification_that_is_confirmed(self) -> None:
        assert list(Att().receive(bytes.fromhex("1d0a0001"))) == [
            Notification(0x0A, b"\x01"),
            Reaction(b"\x1e"),
        ]

    def test_an_answer_ends_the_request_under_way(self) -> None:
        att = Att()
        att.request(write_request(5, b"\x01\x00"))

        assert list(att.receive(b"\x13")) == [Answer(b"\x13")]
        assert att.request(write_request(5, b"")) == bytes.fromhex("120500")

    def test_a_refusal_of_this_request_ends_it_too(self) -> None:
        att = Att()
        att.request(write_request(5, b"\x01\x00"))

        assert list(att.receive(bytes.fromhex("0112050005"))) == [
            Answer(bytes.fromhex("0112050005"))
        ]

    @pytest.mark.parametrize("late", ["0108050001", "11", "09", "0112", ""])
    def test_what_answers_another_request_is_dropped(self, late: str) -> None:
        att = Att()
        att.request(write_request(5, b"\x01\x00"))

        assert list(att.receive(bytes.fromhex(late))) == []
        with pytest.raises(AttError, match="still under way"):
            att.request(write_request(5, b""))

    def test_an_answer_to_nothing_is_dropped(self) -> None:
        assert list(Att().receive(b"\x13")) == []

    def test_the_server_may_ask_for_longer_pdus(self) -> None:
        att = Att()

        assert list(att.receive(bytes.fromhex("02f700"))) == [Reaction(bytes.fromhex("030502"))]
        assert att.mtu == 247

    @pytest.mark.parametrize(("asked", "mtu"), [("020000", 23), ("02ffff", 517)])
    def test_its_wish_is_kept_within_what_is_legal(self, asked: str, mtu: int) -> None:
        att = Att()
        list(att.receive(bytes.fromhex(asked)))

        assert att.mtu == mtu

    @pytest.mark.parametrize("opcode", [0x04, 0x06, 0x08, 0x0A, 0x0C, 0x0E, 0x10, 0x12, 0x16, 0x18])
    def test_no_question_of_the_server_stays_unanswered(self, opcode: int) -> None:
        refusal = bytes([1, opcode, 0, 0, 6])

        assert list(Att().receive(bytes([opcode, 1, 0, 255, 255]))) == [Reaction(refusal)]

    @given(st.lists(st.binary(max_size=30)))
    def test_nothing_that_comes_raises(self, pdus: list[bytes]) -> None:
        att = Att()
        att.request(write_request(5, b"\x01\x00"))
        for pdu in pdus:
            list(att.receive(pdu))


class TestWriting:
    def test_a_command_and_a_request_differ_in_their_opcode(self) -> None:
        assert write_command(0x0102, b"\xdd") == bytes.fromhex("520201dd")
        assert write_request(0x0102, b"\xdd") == bytes.fromhex("120201dd")

    @pytest.mark.parametrize(("code", "pairing"), [(5, True), (8, True), (15, True), (1, False)])
    def test_a_refusal_says_whether_pairing_is_what_is_missing(
        self, code: int, pairing: bool
    ) -> None:
        with pytest.raises(AttError, match=f"{code:#04x}.*handle 0x0005") as caught:
            checked(bytes([1, 0x12, 5, 0, code]))

        assert caught.value.wants_pairing is pairing


class TestDiscovery:
    SERVICES = bytes.fromhex("1106 01000900 0018 0a00ffff 00ff")
    CHARACTERISTICS = bytes.fromhex("0907 0b00 10 0c00 01ff 0e00 0c 0f00 02ff")
    NO_MORE = bytes.fromhex("01080f000a")
    NO_SERVICE = bytes.fromhex("011001000a")

    def test_only_known_services_are_looked_into(self) -> None:
        table, asked = drive(
            [self.SERVICES, self.CHARACTERISTICS, self.NO_MORE, bytes.fromhex("05010d000229")]
        )

        assert table == Table(
            ("00001800-0000-1000-8000-00805f9b34fb", PROFILES["ff00"].service),
            {
                "ff00": Handles(
                    notify=0x0C, subscription=0x0D, write=0x0F, can_write=True,
                    can_write_command=True,
                )
            },
        )  # fmt: skip
        assert [pdu.hex() for pdu in asked] == [
            "100100ffff0028",
            "080a00ffff0328",
            "080f00ffff0328",
            "040d000d00",
        ]

    def test_a_battery_without_any_is_an_empty_table(self) -> None:
        table, _ = drive([self.NO_SERVICE])

        assert table == Table((), {})

    @pytest.mark.parametrize(
        "characteristics",
        [
            pytest.param("0907 0b00 10 0c00 01ff", id="no write"),
            pytest.param("0907 0b00 02 0c00 01ff 0e00 0c 0f00 02ff", id="cannot notify"),
        ],
    )
    def test_half_a_profile_is_none(self, characteristics: str) -> None:
        def answer(pdu: bytes) -> bytes:
            if pdu[0] == 0x10:
                return self.SERVICES
            if pdu[:3] == bytes.fromhex("080a00"):
                return bytes.fromhex(characteristics)
            if pdu[0] == 0x04:
                return bytes.fromhex("05010d000229")
            return bytes([1, pdu[0], 0, 0, 0x0A])

        table, _ = drive(answer)

        assert table.profiles == {}

    def test_a_characteristic_that_nobody_can_subscribe_to_is_none(self) -> None:
        table, _ = drive(
            [
                self.SERVICES,
                self.CHARACTERISTICS,
                self.NO_MORE,
                bytes.fromhex("05010d000129"),
            ]
        )

        assert table.profiles == {}

    @pytest.mark.parametrize(
        "malformed",
        [
            pytest.param("11", id="nothing in it"),
            pytest.param("1106", id="no entries"),
            pytest.param("1100010009000018", id="entries of length 0"),
            pytest.param("1103010009000018", id="entries of length 3"),
            pytest.param("110601000900", id="half an entry"),
            pytest.param("110701000900001800", id="a UUID of three bytes"),
            pytest.param("110600000000 0018", id="handles that do not ascend"),
        ],
    )
    def test_a_malformed_answer_is_an_error_and_no_endless_loop(self, malformed: str) -> None:
        with pytest.raises(AttError, match="malformed"):
            drive([bytes.fromhex(malformed), self.NO_SERVICE])

    @pytest.mark.parametrize("malformed", ["05", "0503", "0501", "05010d0002", "050101000229"])
    def test_so_is_a_malformed_descriptor(self, malformed: str) -> None:
        answers = [self.SERVICES, self.CHARACTERISTICS, self.NO_MORE, bytes.fromhex(malformed)]

        with pytest.raises(AttError, match="malformed"):
            drive(answers)

    def test_a_refusal_is_an_error(self) -> None:
        with pytest.raises(AttError, match="insufficient authentication"):
            drive([bytes.fromhex("0110010005")])

    @given(st.data())
    def test_any_answers_end_in_a_table_or_an_error(self, data: st.DataObject) -> None:
        def answer(pdu: bytes) -> bytes:
            tail = data.draw(st.binary(max_size=24))
            refusal = bytes([1, pdu[0], 0, 0, data.draw(st.sampled_from([1, 5, 0x0A]))])
            return data.draw(st.sampled_from([bytes([pdu[0] + 1]) + tail, refusal]))

        try:
            table, _ = drive(answer)
        except AttError:
            return
        assert set(table.profiles) <= {"ff00"}
