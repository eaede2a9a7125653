"""Discovery turns responses into the table of a battery, without I/O."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.ble.direct.att import AttError
from exporter.ble.direct.discovery import Handles, Table, discover
from exporter.errors import PairingError
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


class TestDiscovery:
    SERVICES = bytes.fromhex("1106 01000900 0018 0a00ffff 00ff")
    CHARACTERISTICS = bytes.fromhex("0907 0b00 10 0c00 01ff 0e00 0c 0f00 02ff")
    NO_MORE = bytes.fromhex("01080f000a")
    NO_SERVICE = bytes.fromhex("011001000a")

    def test_characteristics_of_known_services_only_are_read(self) -> None:
        table, asked = drive(
            [self.SERVICES, self.CHARACTERISTICS, self.NO_MORE, bytes.fromhex("05010d000229")]
        )

        assert table == Table(
            ("00001800-0000-1000-8000-00805f9b34fb", PROFILES["ff00"].service),
            {"ff00": Handles(notify=0x0C, subscription=0x0D, write=0x0F, can_write_command=True)},
        )
        assert [pdu.hex() for pdu in asked] == [
            "100100ffff0028",
            "080a00ffff0328",
            "080f00ffff0328",
            "040d000d00",
        ]

    def test_device_without_services_has_an_empty_table(self) -> None:
        table, _ = drive([self.NO_SERVICE])

        assert table == Table((), {})

    @pytest.mark.parametrize(
        "characteristics",
        [
            pytest.param("0907 0b00 10 0c00 01ff", id="no write"),
            pytest.param("0907 0b00 02 0c00 01ff 0e00 0c 0f00 02ff", id="cannot notify"),
        ],
    )
    def test_incomplete_profile_is_absent(self, characteristics: str) -> None:
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

    def test_profile_without_subscription_is_absent(self) -> None:
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
    def test_malformed_response_is_an_error_and_no_endless_loop(self, malformed: str) -> None:
        with pytest.raises(AttError, match="malformed"):
            drive([bytes.fromhex(malformed), self.NO_SERVICE])

    @pytest.mark.parametrize("malformed", ["05", "0503", "0501", "05010d0002", "050101000229"])
    def test_malformed_descriptor_is_an_error(self, malformed: str) -> None:
        answers = [self.SERVICES, self.CHARACTERISTICS, self.NO_MORE, bytes.fromhex(malformed)]

        with pytest.raises(AttError, match="malformed"):
            drive(answers)

    def test_refused_discovery_is_an_error(self) -> None:
        with pytest.raises(PairingError, match="insufficient authentication"):
            drive([bytes.fromhex("0110010005")])

    @given(st.data())
    def test_any_responses_end_in_a_table_or_an_error(self, data: st.DataObject) -> None:
        def answer(pdu: bytes) -> bytes:
            tail = data.draw(st.binary(max_size=24))
            refusal = bytes([1, pdu[0], 0, 0, data.draw(st.sampled_from([1, 5, 0x0A]))])
            return data.draw(st.sampled_from([bytes([pdu[0] + 1]) + tail, refusal]))

        try:
            table, _ = drive(answer)
        except (AttError, PairingError):
            return
        assert set(table.profiles) <= {"ff00"}
