"""What passes a characteristic is redacted, although frames are split over several pieces."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.demo.battery import encode_reply
from exporter.protocol import auth
from exporter.protocol.frame import Command, encode_request
from exporter.recording.redact import Redactor
from exporter.recording.values import NOISE, Password, Piece, Values
from tests.support.recorded import CELLS, COUNTERS, HARDWARE, MOBILEKTRO

ADDRESS = "A4:C1:38:5E:F1:6B"
MAC = bytes.fromhex("a4c1385ef16b")
SERIAL = b"SN-20240912-7731"


def redact(*values: bytes) -> list[Piece]:
    stream = Values(Redactor([ADDRESS]))
    pieces = [piece for value in values for piece in stream.add(value)]
    return pieces + stream.flush()


def chunks(data: bytes, size: int) -> Sequence[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def joined(pieces: Sequence[Piece]) -> bytes:
    return b"".join(piece.data for piece in pieces)


class TestFrames:
    @pytest.mark.parametrize("frame", [MOBILEKTRO, CELLS, HARDWARE, COUNTERS])
    @pytest.mark.parametrize("size", [1, 7, 20, 300])
    def test_frames_that_a_poll_needs_stay_as_they_are(self, frame: bytes, size: int) -> None:
        assert redact(*chunks(frame, size)) == [Piece(data) for data in chunks(frame, size)]

    @pytest.mark.parametrize("size", [1, 20, 300])
    def test_long_number_in_the_hardware_name_becomes_zeros(self, size: int) -> None:
        pieces = redact(*chunks(encode_reply(0x05, b"JBD-SP04S034-20240912"), size))

        assert joined(pieces) == encode_reply(0x05, b"JBD-SP04S034-00000000")
        assert {one for piece in pieces for one in piece.edited} == {0x05}
        assert [len(piece.data) for piece in pieces[:-1]] == [size] * (len(pieces) - 1)

    @pytest.mark.parametrize("register", [0xA2, 0xA0, 0x16, 0x99])
    def test_registers_that_a_poll_does_not_read_become_zeros(self, register: int) -> None:
        pieces = redact(*chunks(encode_reply(register, SERIAL), 20))

        assert joined(pieces) == encode_reply(register, bytes(len(SERIAL)))

    @pytest.mark.parametrize("payload", [MAC, MAC[::-1], b"id A4C1385EF16B", b"6bf15e38c1a4"])
    @pytest.mark.parametrize("size", [1, 2, 5, 300])
    def test_address_is_replaced_and_the_checksum_is_right_again(
        self, payload: bytes, size: int
    ) -> None:
        frame = joined(redact(*chunks(encode_reply(0x03, b"1" + payload), size)))

        assert frame == encode_reply(0x03, frame[4:-3])
        assert frame[4:-3] == Redactor([ADDRESS]).data(b"1" + payload) != b"1" + payload

    def test_damaged_frame_stays_as_wrong_as_it_was(self) -> None:
        damaged = bytearray(encode_reply(0xA2, SERIAL))
        damaged[-2] ^= 0x10

        redacted = joined(redact(bytes(damaged)))

        right = encode_reply(0xA2, bytes(len(SERIAL)))
        wrong_by = int.from_bytes(redacted[-3:-1]) - int.from_bytes(right[-3:-1])
        assert redacted[:-3] == right[:-3]
        assert wrong_by & 0xFFFF in {0x10, 0xFFF0}

    @pytest.mark.parametrize("end", [5, 10, -1])
    def test_unfinished_frame_with_a_serial_number_becomes_zeros(self, end: int) -> None:
        redacted = joined(redact(encode_reply(0xA2, SERIAL)[:end]))

        assert redacted[4:].strip(b"\0") in {b"", redacted[-2:]}

    def test_number_at_the_end_of_an_unfinished_hardware_name_becomes_zeros(self) -> None:
        assert joined(redact(encode_reply(0x05, b"SP04-20240912")[:11]))[4:] == b"SP04-00"

    def test_frame_behind_noise_and_a_false_head_is_found(self) -> None:
        pieces = redact(b"\xdd\x00\xdd", encode_reply(0xA2, SERIAL), bytes(300))

        assert SERIAL not in joined(pieces)
        assert len(joined(pieces)) == 3 + 7 + len(SERIAL) + 300

    def test_frame_without_its_tail_is_redacted(self) -> None:
        frame = encode_reply(0xA2, SERIAL)[:-1] + b"\x00"

        assert SERIAL[3:] not in joined(redact(frame))


class TestOtherBytes:
    @pytest.mark.parametrize("size", [1, 3, 20])
    @pytest.mark.parametrize("text", [b"OK+20240912+A4C1385EF16B", b"OK+20240912+" + MAC])
    def test_serial_number_and_address_are_replaced_across_pieces(
        self, text: bytes, size: int
    ) -> None:
        redacted = joined(redact(*chunks(text, size)))

        assert len(redacted) == len(text)
        assert b"20240912" not in redacted
        assert b"5EF16B" not in redacted
        assert MAC[3:] not in redacted

    def test_changed_noise_is_marked(self) -> None:
        assert redact(b"SN123456;") == [Piece(b"SN000000;", {NOISE})]

    def test_unfinished_bytes_are_held_for_at_most_two_frames(self) -> None:
        stream = Values(Redactor([ADDRESS]))

        held = [len(stream.add(b"\xdd\x03\x00\xff" * 5)) for _ in range(40)]

        assert sum(held) > 0
        assert held[0] == 0


class TestPassword:
    PASSWORD = b"314159"

    def test_exchange_leaves_only_its_steps(self) -> None:
        exchange = auth.PasswordExchange(self.PASSWORD, MAC)
        assert redact(exchange.request) == [Piece(b"", password=Password(0x15, None))]
        assert redact(auth.encode(0x15, b"\0")) == [Piece(b"", password=Password(0x15, 0))]
        assert redact(auth.encode(0x17, b"\x5a")) == [Piece(b"", password=Password(0x17, None))]
        proof = auth.encode(0x18, auth.encrypt(self.PASSWORD, MAC, 0x5A))
        assert redact(proof) == [Piece(b"", password=Password(0x18, None))]
        assert redact(auth.encode(0x18, b"\x01")) == [Piece(b"", password=Password(0x18, 1))]

    @pytest.mark.parametrize("size", [1, 2, 3, 5])
    def test_exchange_in_pieces_leaves_nothing_of_its_data(self, size: int) -> None:
        pieces = redact(*chunks(auth.encode(0x18, self.PASSWORD), size))

        assert joined(pieces) == b""
        assert pieces[-1].password == Password(0x18, None)

    def test_unfinished_exchange_leaves_nothing(self) -> None:
        assert redact(b"\xff\xaa\x18\x06314") == [Piece(b"", password=Password(0x18, None))]
        assert redact(b"\xff\xaa") == [Piece(b"", password=Password(0, None))]
        assert redact(b"\xff") == [Piece(b"\xff")]

    def test_reply_beside_it_stays(self) -> None:
        pieces = redact(auth.encode(0x15, b"\2") + CELLS)

        assert pieces == [Piece(CELLS, password=Password(0x15, 2))]

    def test_its_head_in_a_reply_is_a_value(self) -> None:
        frame = encode_reply(0x03, b"\x05\x29\xff\xaa" + bytes(19))

        assert joined(redact(*chunks(frame, 6))) == frame


@given(
    before=st.binary(max_size=30),
    register=st.integers(0, 255),
    secret=st.sampled_from([MAC[3:], MAC[5:2:-1], b"5ef16b", b"6BF15E", b"20240912"]),
    after=st.binary(max_size=30),
    sizes=st.lists(st.integers(1, 40), min_size=1),
    echo=st.sampled_from([b"", encode_request(Command.BASIC_INFO), auth.encode(0x18, b"314159")]),
)
def test_no_secret_survives_any_split(
    *, before: bytes, register: int, secret: bytes, after: bytes, sizes: list[int], echo: bytes
) -> None:
    if register in {0x03, 0x04, 0xAA} and secret.isdigit():
        secret = MAC[3:]  # what these registers hold are no digits
    whole = echo + encode_reply(register, before + secret + after) + secret
    pieces: list[bytes] = []
    while whole:
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(whole[:size])
        whole = whole[size:]

    redacted = joined(redact(*pieces))

    assert secret not in redacted
    assert b"314159" not in redacted


def test_number_outside_frames_that_goes_on_in_the_next_value_is_hidden() -> None:
    values = Values(Redactor())

    pieces = [piece for data in (b"SN 20231", b"10045 end") for piece in values.add(data)]

    assert joined(pieces) == b"SN 0000000000 end"
