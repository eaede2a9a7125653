"""Received bytes are split into frames, damaged frames, requests and surplus."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.demo.battery import encode_reply
from exporter.protocol.split import Kind, request_name, split
from tests.support.recorded import CELLS, COUNTERS, HARDWARE, MOBILEKTRO


def kinds(*given: bytes) -> list[tuple[str, bytes]]:
    return [(part.kind.value, part.raw) for part in split(given)]


CUT = MOBILEKTRO[:20]
DAMAGED = MOBILEKTRO.replace(b"\x4f\x82", b"\x4f\x83")


class TestSplit:
    @pytest.mark.parametrize(
        ("given", "found"),
        [
            pytest.param([CELLS], [("reply", CELLS)], id="a frame"),
            pytest.param(
                [CELLS + b"\0\0" + HARDWARE + b"\x01"],
                [("reply", CELLS), ("surplus", b"\0\0"), ("reply", HARDWARE), ("surplus", b"\x01")],
                id="surplus between and behind",
            ),
            pytest.param(
                [b"\0", COUNTERS], [("surplus", b"\0"), ("reply", COUNTERS)], id="surplus before"
            ),
            pytest.param(
                [CELLS + bytes.fromhex("002add58400d8060")],
                [("reply", CELLS), ("surplus", bytes.fromhex("002add58400d8060"))],
                id="DD by chance in surplus",
            ),
            pytest.param(
                [CELLS + b"\0\xdd"], [("reply", CELLS), ("surplus", b"\0\xdd")], id="DD at the end"
            ),
            pytest.param([CUT, CELLS], [("damaged", CUT), ("reply", CELLS)], id="a cut one first"),
            pytest.param([CELLS, CUT], [("reply", CELLS), ("damaged", CUT)], id="a cut one last"),
            pytest.param([CELLS + CUT], [("reply", CELLS), ("damaged", CUT)], id="cut, joined"),
            pytest.param(
                [CELLS + b"\0" + CUT],
                [("reply", CELLS), ("surplus", b"\0"), ("damaged", CUT)],
                id="cut behind surplus",
            ),
            pytest.param(
                [CELLS + b"\0\xdd\x03"],
                [("reply", CELLS), ("surplus", b"\0"), ("damaged", b"\xdd\x03")],
                id="cut after its register",
            ),
            pytest.param(
                [CELLS, b"\xdd"], [("reply", CELLS), ("damaged", b"\xdd")], id="cut after its head"
            ),
            pytest.param(
                [DAMAGED + b"\0" + CELLS],
                [("damaged", DAMAGED), ("surplus", b"\0"), ("reply", CELLS)],
                id="damaged and surplus",
            ),
            pytest.param(
                [CELLS + b"\0" + b"\xdd\x99\x99" + DAMAGED[3:]],
                [
                    ("reply", CELLS),
                    ("surplus", b"\0"),
                    ("damaged", b"\xdd\x99\x99" + DAMAGED[3:]),
                ],
                id="damaged in register and status",
            ),
            pytest.param([CUT, CUT], [("damaged", CUT), ("damaged", CUT)], id="two cut ones"),
            pytest.param(
                [bytes.fromhex("dda50400fffc77"), CELLS],
                [("request", bytes.fromhex("dda50400fffc77")), ("reply", CELLS)],
                id="a request",
            ),
            pytest.param(
                [bytes.fromhex("dd5ae1020000ff1d77"), CELLS],
                [("request", bytes.fromhex("dd5ae1020000ff1d77")), ("reply", CELLS)],
                id="a request to write",
            ),
            pytest.param([b"\x01\x78"], [("damaged", b"\x01\x78")], id="no frame at all"),
            pytest.param([], [], id="nothing"),
        ],
    )
    def test_bytes_are_split_into_replies_requests_damaged_frames_and_surplus(
        self, given: list[bytes], found: list[tuple[str, bytes]]
    ) -> None:
        assert kinds(*given) == found

    @given(raws=st.lists(st.binary(max_size=80), max_size=4))
    def test_split_loses_no_byte(self, raws: list[bytes]) -> None:
        parts = list(split(raws))

        assert b"".join(part.raw for part in parts) == b"".join(raws)
        assert all(before.at + len(before.raw) == after.at for before, after in pairwise(parts))

    @given(
        payload=st.binary(max_size=40),
        cuts=st.lists(st.integers(1, 40)),
        noise=st.binary(max_size=9),
    )
    def test_frame_is_found_however_it_is_cut(
        self, payload: bytes, cuts: list[int], noise: bytes
    ) -> None:
        frame = encode_reply(0x03, payload)
        given, rest = [], frame + noise.replace(b"\xdd", b"")
        for cut in cuts:
            given.append(rest[:cut])
            rest = rest[cut:]

        first = next(iter(split([*given, rest])))

        assert (first.kind, first.raw) == (Kind.REPLY, frame)

    @pytest.mark.parametrize("size", [0, 1, 255])
    def test_frame_of_any_length_is_taken_whole(self, size: int) -> None:
        wire = encode_reply(0x99, b"\xdd" * size)

        assert kinds(wire + CELLS) == [("reply", wire), ("reply", CELLS)]

    def test_damaged_length_does_not_swallow_the_next_frame(self) -> None:
        longer = MOBILEKTRO[:3] + b"\xff" + MOBILEKTRO[4:]

        assert kinds(longer, CELLS) == [("damaged", longer), ("reply", CELLS)]


@pytest.mark.parametrize(
    ("wire", "name"),
    [
        ("dda50400fffc77", "request for register 0x04 (cell voltages)"),
        ("dd5ae1020000ff1d77", "request to write register 0xe1 (unknown register)"),
    ],
)
def test_request_is_named_by_its_register(wire: str, name: str) -> None:
    assert request_name(bytes.fromhex(wire)) == name
