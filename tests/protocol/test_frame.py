"""Replies out of notifications: found however they come, never believed when damaged."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.demo.battery import encode_reply
from exporter.protocol.frame import Command, Frame, FrameAssembler, FrameError, encode_request
from tests.support.recorded import CELLS, COUNTERS, FRAMES, HARDWARE, MOBILEKTRO, REFUSE

BASIC_PAYLOAD = MOBILEKTRO[4:-3]


def chunks(wire: bytes, size: int) -> list[bytes]:
    return [wire[at : at + size] for at in range(0, len(wire), size)]


def payloads(*deliveries: bytes, expected: int | None = None) -> list[bytes]:
    assembler = FrameAssembler(expected)
    return [frame.payload for chunk in deliveries for frame in assembler.feed(chunk)]


class TestRequests:
    @pytest.mark.parametrize(
        ("command", "wire"),
        [
            (Command.BASIC_INFO, "dda50300fffd77"),
            (Command.CELL_VOLTAGES, "dda50400fffc77"),
            (Command.HARDWARE, "dda50500fffb77"),
            (Command.EVENT_COUNTERS, "dda5aa00ff5677"),
        ],
    )
    def test_requests_are_those_of_the_vendors_document(self, command: Command, wire: str) -> None:
        assert encode_request(command).hex() == wire

    def test_no_other_register_can_be_requested(self) -> None:
        assert [int(command) for command in Command] == [0x03, 0x04, 0x05, 0xAA]


class TestFinding:
    @pytest.mark.parametrize(
        "deliveries",
        [
            pytest.param([MOBILEKTRO], id="in one piece"),
            pytest.param(chunks(MOBILEKTRO, 20), id="in 20-byte notifications"),
            pytest.param(chunks(MOBILEKTRO, 1), id="byte by byte"),
            pytest.param([MOBILEKTRO[:-1], MOBILEKTRO[-1:]], id="the last byte alone"),
            pytest.param([b"\x00", MOBILEKTRO], id="after a stray zero"),
            pytest.param([b"\x00\x77" + MOBILEKTRO], id="after noise"),
            pytest.param([b"\xff" * 600 + MOBILEKTRO], id="after much noise"),
            pytest.param([b"\xdd" + MOBILEKTRO], id="after a false head"),
            pytest.param([b"\xdd\x03\x00\xff" + MOBILEKTRO], id="after a false head with a length"),
            pytest.param([b"\xdd\x03\x00\xff", *chunks(MOBILEKTRO, 7)], id="the same in pieces"),
            pytest.param([b"\xdd\xdd\xdd\xdd\xdd" + MOBILEKTRO], id="after many false heads"),
            pytest.param([CELLS[9:] + MOBILEKTRO], id="after the tail of another frame"),
            pytest.param([MOBILEKTRO[:20], MOBILEKTRO], id="after a truncated one"),
            pytest.param([MOBILEKTRO + b"\xdd\x04\x00"], id="before the start of the next"),
            pytest.param([MOBILEKTRO + b"\x02\x51\x00"], id="before telemetry"),
        ],
    )
    def test_frame_is_found_however_it_is_delivered(self, deliveries: list[bytes]) -> None:
        assert payloads(*deliveries) == [BASIC_PAYLOAD]
        assert payloads(*deliveries, expected=0x03) == [BASIC_PAYLOAD]

    def test_frame_has_register_status_and_payload(self) -> None:
        assert FrameAssembler().feed(MOBILEKTRO) == [Frame(0x03, 0x00, BASIC_PAYLOAD)]
        assert FrameAssembler().feed(bytes.fromhex("dd248100ff7f77")) == [Frame(0x24, 0x81, b"")]

    def test_several_frames_are_returned_in_their_order(self) -> None:
        frames = FrameAssembler().feed(MOBILEKTRO + b"\x00" + CELLS + HARDWARE)

        assert [frame.register for frame in frames] == [0x03, 0x04, 0x05]

    @pytest.mark.parametrize("payload", [b"\x77" * 9, b"\xdd" * 9, b"\xdd\x03\x00\x01\x77", b""])
    def test_head_and_tail_bytes_are_legal_payload(self, payload: bytes) -> None:
        assert payloads(*chunks(encode_reply(0x03, payload), 3), expected=0x03) == [payload]

    def test_empty_payload_has_a_checksum_of_zero(self) -> None:
        assert payloads(bytes.fromhex("dd060000000077")) == [b""]

    @given(data=st.binary(max_size=255), cuts=st.lists(st.integers(1, 40)))
    def test_any_payload_survives_any_split(self, data: bytes, cuts: list[int]) -> None:
        wire = encode_reply(0x03, data)
        pieces = []
        for cut in cuts:
            pieces.append(wire[:cut])
            wire = wire[cut:]

        assert payloads(*pieces, wire, expected=0x03) == [data]

    @given(noise=st.binary(max_size=300), size=st.integers(1, 40))
    def test_noise_hides_no_good_frame(self, noise: bytes, size: int) -> None:
        assert BASIC_PAYLOAD in payloads(*chunks(noise + MOBILEKTRO, size), expected=0x03)

    @pytest.mark.parametrize("recorded", [f for f in FRAMES if "ble_chunks" in f])
    def test_recorded_notifications_give_the_recorded_frame(
        self, recorded: dict[str, list[str]]
    ) -> None:
        notifications = [bytes.fromhex(chunk) for chunk in recorded["ble_chunks"]]

        assert payloads(*notifications) == [bytes.fromhex(str(recorded["frame_hex"]))[4:-3]]


class TestRefusing:
    @pytest.mark.parametrize("at", range(2, len(MOBILEKTRO)))
    def test_frame_with_a_flipped_bit_is_refused(self, at: int) -> None:
        damaged = bytearray(MOBILEKTRO)
        damaged[at] ^= 0x01

        assert payloads(bytes(damaged)) == []

    @pytest.mark.parametrize(
        "wire",
        [
            bytes.fromhex(frame["frame_hex"])
            for frame in FRAMES
            if frame["register"] in ("0x03", "0x04", "0x05", "0xAA")
        ],
    )
    def test_recorded_reply_with_any_flipped_bit_is_refused(self, wire: bytes) -> None:
        for bit in range(8 * len(wire)):
            damaged = bytearray(wire)
            damaged[bit // 8] ^= 1 << bit % 8

            assert payloads(bytes(damaged), expected=wire[1]) == []

    @pytest.mark.parametrize("expected", [None, 0x03, 0x04, 0x05, 0xAA])
    @pytest.mark.parametrize("case", REFUSE, ids=lambda case: case["reason"][:40])
    def test_frame_that_is_recorded_as_wrong_is_refused(
        self, case: dict[str, str], expected: int | None
    ) -> None:
        assert payloads(bytes.fromhex(case["frame_hex"]), expected=expected) == []

    def test_damaged_frame_does_not_hide_the_next_one(self) -> None:
        damaged = MOBILEKTRO[:10] + b"\xff" + MOBILEKTRO[11:]

        assert payloads(damaged, CELLS) == [CELLS[4:-3]]
        assert payloads(damaged + CELLS, expected=0x04) == [CELLS[4:-3]]

    def test_reply_of_another_register_is_refused(self) -> None:
        assert payloads(CELLS, expected=0x03) == []
        assert payloads(CELLS + MOBILEKTRO, expected=0x03) == [BASIC_PAYLOAD]


class TestCounting:
    def test_wrong_checksum_is_counted_once_with_all_its_bytes(self) -> None:
        assembler = FrameAssembler(0x03)
        for chunk in chunks(MOBILEKTRO[:10] + b"\xff" + MOBILEKTRO[11:], 1):
            assembler.feed(chunk)

        assert assembler.errors == {FrameError.CHECKSUM: 1}
        assert assembler.discarded == len(MOBILEKTRO)

    def test_wrong_tail_is_counted_as_a_wrong_checksum(self) -> None:
        assembler = FrameAssembler(0x03)
        assembler.feed(MOBILEKTRO[:-1] + b"\x78")

        assert assembler.errors == {FrameError.CHECKSUM: 1}

    def test_wrong_register_is_counted_once_with_all_its_bytes(self) -> None:
        assembler = FrameAssembler(0x03)
        assembler.feed(CELLS)

        assert assembler.errors == {FrameError.REGISTER: 1}
        assert assembler.discarded == len(CELLS)

    def test_late_reply_to_an_earlier_request_is_no_error(self) -> None:
        assembler = FrameAssembler(0x04, {0x03})
        frames = assembler.feed(MOBILEKTRO + CELLS)

        assert [frame.register for frame in frames] == [0x04]
        assert assembler.errors == {}
        assert assembler.discarded == len(MOBILEKTRO)

    def test_damaged_late_reply_is_no_error_of_this_request(self) -> None:
        assembler = FrameAssembler(0x04, {0x03})
        assembler.feed(MOBILEKTRO[:10] + b"\xff" + MOBILEKTRO[11:])

        assert assembler.errors == {}

    def test_frame_behind_an_open_false_head_is_judged_once(self) -> None:
        assembler = FrameAssembler(0x03)
        assembler.feed(b"\xdd\x03\x00\xff")
        assembler.feed(MOBILEKTRO[:10] + b"\xff" + MOBILEKTRO[11:])
        for _ in range(20):
            assembler.feed(b"\x00")

        assert assembler.errors == {FrameError.CHECKSUM: 1}

    def test_good_frame_counts_no_error_and_no_discarded_byte(self) -> None:
        assembler = FrameAssembler(0x03)
        assembler.feed(MOBILEKTRO)

        assert (assembler.errors, assembler.discarded) == ({}, 0)

    def test_noise_around_a_frame_is_counted_to_the_byte(self) -> None:
        assembler = FrameAssembler(0x03)
        assembler.feed(b"\x00\xdd\x01" + MOBILEKTRO + b"\x77\x77")

        assert assembler.discarded == 5
        assert not assembler.pending

    def test_unfinished_frame_is_kept_until_it_is_forgotten(self) -> None:
        assembler = FrameAssembler(0x03)
        assembler.feed(MOBILEKTRO[:20])
        was_pending = assembler.pending

        assembler.forget()
        frames = assembler.feed(MOBILEKTRO[20:])

        assert was_pending
        assert frames == []
        assert not assembler.pending
        assert assembler.discarded == len(MOBILEKTRO)
        assert assembler.errors == {}

    def test_torn_frame_before_a_resend_is_no_error_and_hides_no_good_one(self) -> None:
        assembler = FrameAssembler(0x03)
        assembler.feed(b"\x00" + MOBILEKTRO[:20])

        assembler.doubt()
        frames = assembler.feed(MOBILEKTRO)

        assert [frame.payload for frame in frames] == [BASIC_PAYLOAD]
        assert assembler.errors == {}
        assert assembler.discarded == 21

    def test_frame_that_is_finished_after_the_resend_is_good(self) -> None:
        assembler = FrameAssembler(0x03)
        assembler.feed(MOBILEKTRO[:20])

        assembler.doubt()

        assert len(assembler.feed(MOBILEKTRO[20:])) == 1

    def test_damaged_frame_after_the_resend_is_an_error(self) -> None:
        assembler = FrameAssembler(0x03)
        assembler.feed(MOBILEKTRO[:20])

        assembler.doubt()
        assembler.feed(MOBILEKTRO[:10] + b"\xff" + MOBILEKTRO[11:])

        assert assembler.errors == {FrameError.CHECKSUM: 1}
        assert assembler.discarded == 56

    def test_echoed_request_is_recognised(self) -> None:
        echo = FrameAssembler(0x03)
        other = FrameAssembler(0x03)

        assert echo.feed(bytes.fromhex("dda50300fffd77")) == []
        other.feed(CELLS)

        assert echo.echoed
        assert not other.echoed


class TestTooSoon:
    """A frame with more bytes than can have come by now is not the reply."""

    def test_frame_that_came_before_the_request_is_dropped_without_being_an_error(self) -> None:
        assembler = FrameAssembler(0x03)

        assert assembler.feed(MOBILEKTRO, 0) == []
        assert assembler.leftover_seen
        assert assembler.errors == {}
        assert assembler.discarded == len(MOBILEKTRO)

    @pytest.mark.parametrize(("possible", "found"), [(35, 0), (36, 1), (None, 1)])
    def test_reply_is_accepted_once_its_last_byte_is_possible(
        self, possible: int | None, found: int
    ) -> None:
        assert len(FrameAssembler(0x03).feed(MOBILEKTRO, possible)) == found

    def test_frame_that_began_too_soon_is_dropped_to_its_end(self) -> None:
        assembler = FrameAssembler(0x03)
        assembler.feed(MOBILEKTRO[:20], 0)

        assert not assembler.pending
        assert assembler.feed(MOBILEKTRO[20:], 300) == []
        assert assembler.discarded == len(MOBILEKTRO)

    def test_reply_behind_a_leftover_is_found(self) -> None:
        assembler = FrameAssembler(0x03)
        assembler.feed(MOBILEKTRO + MOBILEKTRO[:10], 0)

        frames = [frame for chunk in chunks(MOBILEKTRO, 20) for frame in assembler.feed(chunk, 60)]

        assert [frame.payload for frame in frames] == [BASIC_PAYLOAD]
        assert assembler.discarded == 46
        assert assembler.errors == {}

    def test_damaged_leftover_is_no_error(self) -> None:
        assembler = FrameAssembler(0x03)
        assembler.feed(MOBILEKTRO[:10] + b"\xff" + MOBILEKTRO[11:], 0)

        assert assembler.errors == {}

    def test_leftover_of_another_register_is_no_error(self) -> None:
        assembler = FrameAssembler(0x03, early=0x04)
        assembler.feed(CELLS + HARDWARE, 0)

        assert assembler.errors == {}
        assert assembler.early_frames == []
        assert not assembler.leftover_seen

    def test_request_that_is_echoed_at_once_is_recognised(self) -> None:
        assembler = FrameAssembler(0x03)
        assembler.feed(bytes.fromhex("dda50300fffd77"), 0)

        assert assembler.echoed


class TestRobustness:
    @given(noise=st.lists(st.binary(max_size=64), max_size=50), expected=st.sampled_from([None, 3]))
    def test_noise_neither_raises_nor_accumulates(
        self, noise: list[bytes], expected: int | None
    ) -> None:
        assembler = FrameAssembler(expected)
        for chunk in noise:
            assembler.feed(chunk)

            assert len(assembler._buffer) < 262  # the bound is the promise

    @given(noise=st.lists(st.sampled_from([b"\xdd", b"\xdd\x03\x00", b"\x77", MOBILEKTRO[:9]])))
    def test_frame_like_bytes_neither_raise_nor_accumulate(self, noise: list[bytes]) -> None:
        assembler = FrameAssembler(0x03)
        fed = sum(len(chunk) for chunk in noise)
        for chunk in noise:
            assembler.feed(chunk)
        assembler.forget()

        assert assembler.discarded == fed

    def test_megabyte_of_heads_takes_linear_time(self) -> None:
        assembler = FrameAssembler(0x03)
        for _ in range(5000):
            assembler.feed(b"\xdd" * 20)

        assert assembler.feed(MOBILEKTRO) == [Frame(0x03, 0, BASIC_PAYLOAD)]


def test_recorded_event_counters_are_a_frame() -> None:
    assert payloads(*chunks(COUNTERS, 20), expected=0xAA) == [COUNTERS[4:-3]]
