"""No address and no serial number gets into a recording, however it is written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.protocol.advertisement import JBD_COMPANY, JBD_COMPANY_DATA
from exporter.recording.redact import Redactor

ADDRESS = "A4:C1:38:5E:F1:6B"
addresses = st.binary(min_size=6, max_size=6).map(lambda raw: raw.hex(":").upper())


class TestAddresses:
    def test_second_half_becomes_the_same_number_throughout(self) -> None:
        redactor = Redactor([ADDRESS])

        assert redactor.address(ADDRESS) == "A4:C1:38:00:00:02"
        assert redactor.address("B8:27:EB:12:34:56") == "B8:27:EB:00:00:07"
        assert redactor.address(ADDRESS.lower()) == "A4:C1:38:00:00:02"

    def test_address_from_another_recording_stays(self) -> None:
        redactor = Redactor(["A4:C1:38:00:00:01"])

        assert redactor.address("A4:C1:38:00:00:01") == "A4:C1:38:00:00:01"
        assert redactor.data(b"\x00\x00\x01") == b"\x00\x00\x01"

    @pytest.mark.parametrize(
        ("written", "redacted"),
        [
            ("A4:C1:38:5E:F1:6B", "A4:C1:38:00:00:02"),
            ("a4:c1:38:5e:f1:6b", "A4:C1:38:00:00:02"),
            ("dev_A4_C1_38_5E_F1_6B", "dev_A4:C1:38:00:00:02"),
            ("a4-c1-38-5e-f1-6b", "a4-c1-38-00-00-02"),
            ("a4c1385ef16b", "a4c138000002"),
            ("6BF15E38C1A4", "02000038C1A4"),
            ("0x5e, 0xf1, 0x6b", "0x00, 0x00, 0x02"),
            ("no 5E:f1-6B!", "no 00:00-02!"),
        ],
    )
    def test_address_in_a_text_is_replaced(self, written: str, redacted: str) -> None:
        assert Redactor([ADDRESS]).words(written) == redacted

    def test_path_in_a_message_is_replaced(self) -> None:
        message = Redactor([ADDRESS]).message("open '/home/jo/run.sock' failed: no 1234567")

        assert message == "open '/..' failed: no 0000000"

    @given(address=addresses, before=st.binary(max_size=9), after=st.binary(max_size=9))
    def test_no_address_survives_in_bytes(self, address: str, before: bytes, after: bytes) -> None:
        private = bytes.fromhex(address[9:].replace(":", ""))
        redactor = Redactor([address])
        number = bytes.fromhex(redactor.address(address)[9:].replace(":", ""))
        for whole in (private, private[::-1], private.hex().encode(), private[::-1].hex().encode()):
            data = before + whole + after

            redacted = redactor.data(data)

            assert len(redacted) == len(data)
            assert private == number or not (private in redacted or private[::-1] in redacted)

    def test_many_addresses_have_numbers_of_their_own(self) -> None:
        redactor = Redactor()
        numbers = {redactor.address(f"A4:C1:38:FE:DC:{n:02X}") for n in range(200)}

        assert len(numbers) == 200

    def test_address_beyond_all_numbers_is_replaced_too(self) -> None:
        redactor = Redactor(f"A4:C1:38:{n:02X}:EE:DD" for n in range(256))

        assert redactor.address("A4:C1:38:FF:EE:DD") == "A4:C1:38:00:00:FF"


class TestNames:
    @pytest.mark.parametrize(
        ("name", "redacted"),
        [
            ("SP04S034-L4S-200A", "SP00S000-L0S-000A"),
            ("SX100-12345", "SX100-00000"),
            ("SX60", "SX60"),
            ("JBD-5EF16B", "JBD-000000"),
            ("BMS f16b", "BMS 0000"),
            ("a4:c1:38:5e:f1:6b", "A0:C0:00:00:00:00"),
            ("xiaoxiang BMS", "xiaoxiang BMS"),
        ],
    )
    def test_digits_are_zeros_unless_a_pattern_fixes_them(self, name: str, redacted: str) -> None:
        assert Redactor([ADDRESS]).name(name) == redacted


class TestUuids:
    def test_uuid_of_the_bluetooth_sig_stays(self) -> None:
        redactor = Redactor(["A4:C1:38:02:00:00"])
        uuid = "0000ff02-0000-1000-8000-00805f9b34fb"
        entry = b"\x15\x00" + bytes.fromhex(uuid.replace("-", ""))[::-1]

        assert redactor.uuid(uuid) == uuid
        assert redactor.table(entry) == entry

    def test_address_in_a_uuid_of_a_maker_is_replaced(self) -> None:
        assert (
            Redactor([ADDRESS]).uuid("6e400001-b5a3-f393-e0a9-a4c1385ef16b")
            == "6e400001-b5a3-f393-e0a9-a4c138000002"
        )


class TestManufacturerData:
    def test_address_that_begins_in_the_company_number_is_replaced(self) -> None:
        data = {0xF16B: bytes.fromhex("5e38c1a4")}

        assert Redactor([ADDRESS]).manufacturer_data(data) == {2: bytes.fromhex("0038c1a4")}

    def test_sign_of_jbd_stays(self) -> None:
        data = {JBD_COMPANY: JBD_COMPANY_DATA}

        assert Redactor([ADDRESS]).manufacturer_data(data) == data

    def test_serial_number_is_replaced(self) -> None:
        assert Redactor([ADDRESS]).manufacturer_data({1: b"SN123456"}) == {1: b"SN000000"}


@pytest.mark.parametrize("name", ["pack F1:6B", "pack 6b-f1", "pack 5E F1"])
def test_two_bytes_of_an_address_with_a_separator_are_hidden_in_a_name(name: str) -> None:
    assert Redactor(["A4:C1:38:5E:F1:6B"]).name(name) == f"pack 00{name[7]}00"
