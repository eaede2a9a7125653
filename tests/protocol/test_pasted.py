"""The bytes in pasted text are found in every format, and nothing else is taken for bytes."""

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.demo.battery import encode_reply
from exporter.errors import DecodeError
from exporter.protocol.pasted import is_plain, parse, split_lines
from exporter.protocol.split import Kind, split
from tests.support.recorded import CELLS, HARDWARE, MOBILEKTRO

Format = Callable[[bytes], str]


def pieces(text: str) -> list[bytes]:
    """Return the bytes in the text of a file."""
    return [piece.raw for piece in parse(split_lines(text, "paste"))]


def read(text: str) -> bytes:
    return b"".join(pieces(text))


def own_json(raw: bytes) -> str:
    entry = {
        "ts": "2026-11-28T00:42:20.663+00:00",
        "level": "debug",
        "logger": "exporter.battery.session",
    }
    return json.dumps(entry | {"msg": "received", "hex": raw.hex()})


OWN_LOG = "ts=2026-11-28T00:42:19.573+00:00 level=debug logger=exporter.bms msg=received hex="

# Formats that are read whatever the bytes are.
PLAIN: dict[str, Format] = {
    "hex": lambda raw: raw.hex(),
    "capitals": lambda raw: raw.hex().upper(),
    "blanks": lambda raw: raw.hex(" "),
    "two blanks": lambda raw: raw.hex(" ").replace(" ", "  "),
    "words": lambda raw: raw.hex(" ", 2),
    "long words": lambda raw: raw.hex(" ", -4),
    "colons": lambda raw: raw.hex(":"),
    "dots and count": lambda raw: f"{raw.hex('.').upper()} ({len(raw)})",
    "hyphens": lambda raw: raw.hex("-"),
    "underscores": lambda raw: raw.hex("_"),
    "nRF Connect's value": lambda raw: f'"(0x) {raw.hex("-").upper()}"',
    "0x before all": lambda raw: "0x" + raw.hex(),
    "0x before each": lambda raw: ", ".join(f"0x{byte:02X}" for byte in raw),
    "a list of C": lambda raw: "{" + ",".join(f"0x{byte:02x}" for byte in raw) + "};",
    "Python's hex()": lambda raw: str([hex(byte) for byte in raw]),
    "in quotes": lambda raw: f"'{raw.hex()}',",
    "typographic quotes": lambda raw: f"\u201c{raw.hex()}\u201d",
    "bytearray": lambda raw: repr(bytearray(raw)),
    "bytes": repr,
    "a string of C": lambda raw: '"' + "".join(f"\\x{byte:02x}" for byte in raw) + '"',
    "bytes without quotes": lambda raw: "b" + "".join(f"\\x{byte:02x}" for byte in raw),
    "after a time": lambda raw: f"12:34:56.789 {raw.hex(' ')}",
    "after a time in brackets": lambda raw: f"[12:34:56] {raw.hex(':')}",
    "after a date and a time": lambda raw: f"2026-11-28 12:34:56,789: {raw.hex('-')}",
    "after a time of ISO 8601": lambda raw: f"2026-11-28T12:34:56.789+00:00 {raw.hex()}",
    "after Unix's time": lambda raw: f"1795826096.663 {raw.hex('.')}",
    "after seconds since the start": lambda raw: f"[   12.345678] {raw.hex()}",
    "before a comment": lambda raw: f"{raw.hex()}  # a reply, 12:34:56",
    "in colour": lambda raw: f"\x1b[0;36m{raw.hex()}\x1b[0m",
    "our log": lambda raw: OWN_LOG + raw.hex(),
    "our log, json": own_json,
    "our log in the journal": lambda raw: f"Nov 28 00:42:19 pi bms[71]: {OWN_LOG}{raw.hex()}",
    "our log, json, as a string": lambda raw: json.dumps({"log": own_json(raw)}),
}
# Formats in which at least four bytes stand in a sentence.
SENTENCES: dict[str, Format] = {
    "ESPHome": lambda raw: (
        f"[12:34:56][VV][jbd_bms_ble:088]: Notification received: {raw.hex('.').upper()} "
        f"({len(raw)})"
    ),
    "nRF Connect": lambda raw: (
        f'A\t10:22:33.444\t"(0x) {raw.hex("-").upper()}" received from A4:C1:38:12:34:56'
    ),
    "nRF Connect, older": lambda raw: (
        "Notification received from 0000ff01-0000-1000-8000-00805f9b34fb, "
        f"value: (0x) {raw.hex('-').upper()}"
    ),
    "gatttool": lambda raw: f"Notification handle = 0x0011 value: {raw.hex(' ')} ",
    "btmon": lambda raw: f"        Data: {raw.hex()}",
    "Wireshark": lambda raw: f"    Value: {raw.hex()}",
    "a count before": lambda raw: f"2026-11-28 12:34:56,789 received {len(raw)} bytes: {raw.hex()}",
    "a time behind": lambda raw: f"received {raw.hex()} after 81 ms",
    "iOS": lambda raw: f"{{length = {len(raw)}, bytes = 0x{raw.hex(' ', -4)}}}",
    "batmon": lambda raw: f"2026-11-28 12:34:56 DEBUG [jbd] notification 17 {bytearray(raw)!r}",
}


class TestFormats:
    @pytest.mark.parametrize("write", PLAIN.values(), ids=PLAIN)
    @given(raw=st.binary(min_size=1, max_size=60))
    def test_any_bytes_are_read_in_every_plain_format(self, write: Format, raw: bytes) -> None:
        assert read(write(raw)) == raw

    @pytest.mark.parametrize("write", (PLAIN | SENTENCES).values(), ids=PLAIN | SENTENCES)
    @given(
        payloads=st.lists(st.binary(max_size=60), min_size=1, max_size=3),
        size=st.integers(20, 34),
    )
    def test_frames_in_notifications_are_joined(
        self, write: Format, payloads: list[bytes], size: int
    ) -> None:
        frames = [encode_reply(0x99, payload) for payload in payloads]
        notifications = [
            frame[at : at + size] for frame in frames for at in range(0, len(frame), size)
        ]
        text = "\n".join(map(write, notifications))
        lost = [one for one in notifications if len(one) < 4 and one[-1] != 0x77]
        assert lost == []  # the last byte of every frame is 77

        parts = list(split(pieces(text)))

        assert [part.raw for part in parts if part.kind is Kind.REPLY] == frames

    @given(payload=st.binary(max_size=60), size=st.integers(1, 34))
    def test_decimal_lists_are_joined(self, payload: bytes, size: int) -> None:
        frame = encode_reply(0x03, payload)
        lists = [list(frame[at : at + size]) for at in range(0, len(frame), size)]

        assert read("\n".join(map(str, lists))) == frame

    @given(text=st.text(max_size=200))
    def test_any_text_is_read_or_refused(self, text: str) -> None:
        complaint = ""
        found = []
        try:
            found = parse(split_lines(text, "paste"))
        except DecodeError as error:
            complaint = str(error)

        assert all(piece.raw for piece in found)
        assert complaint.isprintable()
        assert len(complaint) < 600


class TestLog:
    LOG = f"""\
ts=2026-11-28T00:42:19.428+00:00 level=debug logger=asyncio msg="Using selector: EpollSelector"
ts=2026-11-28T00:42:19.491+00:00 level=debug logger=bleak msg="A4:C1:38:00:00:01: Connected in 77"
{OWN_LOG}dd03001d052900004f8255ac00132d0c00000000
ts=2026-11-28T00:42:19.600+00:00 level=debug logger=exporter.bms msg="DD 03 00 is no hex field"
{OWN_LOG}0000835d0304030ac80ac40ac3fa4077
battery           A4:C1:38:00:00:01 (A4:C1:38:00:00:01)
cell 1            3.394 V
restarts          77
manufactured      2022-08-12
"""

    def test_only_the_hex_field_of_our_own_log_counts(self) -> None:
        assert read(self.LOG) == MOBILEKTRO

    def test_redacted_address_is_no_bytes(self) -> None:
        assert read(self.LOG.replace("A4:C1:38:00:00:01", "A4:C1:38:..")) == MOBILEKTRO

    def test_log_line_may_be_given_without_quotes(self) -> None:
        lines = [line for word in f"{OWN_LOG}{CELLS.hex()}".split() for line in split_lines(word)]

        assert b"".join(piece.raw for piece in parse(lines)) == CELLS

    @pytest.mark.parametrize(
        "line",
        [
            pytest.param("12:34:56", id="a time"),
            pytest.param("Nov 28 00:42:19 pi kernel: 12.345678 up", id="the journal"),
            pytest.param("Connecting to A4:C1:38:12:34:56 ...", id="an address"),
            pytest.param("dev_A4_C1_38_12_34_56: DD:03:00:11:22:33", id="addresses"),
            pytest.param("service 0000ff00-0000-1000-8000-00805f9b34fb", id="a UUID"),
            pytest.param("'total voltage': Sending state 13.37000 V", id="a number"),
            pytest.param("version 1.2, 3.4.5", id="a version"),
            pytest.param("MTU: 23, handle 0x0011, RSSI -67", id="short numbers"),
            pytest.param("read at 2026-11-28T00:42:19.428+00:00", id="a time of ISO 8601"),
            pytest.param("read at 1795826096.663", id="Unix's time"),
            pytest.param("ready, added a cafe", id="words of hex digits"),
        ],
    )
    def test_other_numbers_in_a_log_are_no_bytes(self, line: str) -> None:
        first, second = MOBILEKTRO[:20].hex("."), MOBILEKTRO[20:].hex(".")
        if line == "12:34:56":
            line += " connected"

        assert read(f"{line}\n[D] received: {first}\n{line}\nreceived: {second}") == MOBILEKTRO

    def test_count_behind_the_bytes_is_no_byte(self) -> None:
        text = (
            f"received {MOBILEKTRO[:20].hex()} 20 bytes\nreceived {MOBILEKTRO[20:].hex()} 16 bytes"
        )

        assert read(text) == MOBILEKTRO

    @pytest.mark.parametrize("half", [MOBILEKTRO[:20], bytes(20)], ids=["a frame", "zeros"])
    def test_notification_logged_in_two_ways_counts_once(self, half: bytes) -> None:
        value = half.hex("-").upper()
        text = (
            "I 10:22:33.444 Notification received from 0000ff01-0000-1000-8000-00805f9b34fb, "
            f'value: (0x) {value}\nA 10:22:33.444 "(0x) {value}" received\n'
        )

        assert pieces(text) == [half]
        assert pieces(text + text) == [half, half]

    def test_equal_notifications_in_the_same_words_both_count(self) -> None:
        text = f"received {bytearray(20)!r}\nreceived {bytearray(20)!r}\n"

        assert pieces(text) == [bytes(20), bytes(20)]

    def test_request_and_reply_may_share_a_line(self) -> None:
        text = f"TX dda50400fffc77 RX {CELLS.hex()} in 81 ms"

        assert pieces(text) == [bytes.fromhex("dda50400fffc77"), CELLS]


class TestDump:
    @pytest.mark.parametrize(
        "text",
        [
            pytest.param(
                "00000000  dd 04 00 08 0d 42 0d 3c  0d 40 0d 3a fe cc 77     |.....B.<.@.:..w|\n"
                "0000000f\n",
                id="hexdump -C",
            ),
            pytest.param(
                "00000000: dd04 0008 0d42 0d3c 0d40 0d3a fecc 77    .....B.<.@.:..w\n", id="xxd"
            ),
            pytest.param(
                "  dd 04 00 08 0d 42 0d 3c 0d 40 0d 3a fe cc 77     .....B.<.@.:..w \n",
                id="bluetoothctl",
            ),
            pytest.param("0000: DD 04 00 08 0D 42 0D 3C 0D 40 0D 3A FE CC 77", id="an offset"),
        ],
    )
    def test_offset_and_characters_of_a_hex_dump_are_no_bytes(self, text: str) -> None:
        assert read(text) == CELLS

    def test_hex_dump_may_have_several_lines(self) -> None:
        text = (
            "00000000  dd 05 00 19 4a 42 44 2d  53 50 30 34 53 30 33 34  |....JBD-SP04S034|\n"
            "00000010  2d 4c 34 53 2d 32 30 30  41 2d 42 2d 55 fa 08 77  |-L4S-200A-B-U..w|\n"
            "00000020\n"
        )

        assert read(text) == HARDWARE
        assert read(text + text) == HARDWARE + HARDWARE

    def test_characters_of_a_hex_dump_that_look_like_hex_are_no_bytes(self) -> None:
        assert read("0000: 34 35 36 41   456A") == b"456A"
        assert read("34 35 36 41   4567") == b"456AEg"


class TestDecimal:
    def test_numbers_are_decimal_only_if_the_first_is_221(self) -> None:
        assert read("[221, 3, 0, 27]") == bytes([221, 3, 0, 27])
        assert read("21 30 10 27") == bytes.fromhex("21301027")
        with pytest.raises(DecodeError, match=r"got '3': 1 digit, an odd number"):
            read("[3, 0, 27]")

    def test_decimals_go_on_until_the_next_frame_in_hex(self) -> None:
        text = f"[221, 3, 0]\n[27, 10]\n{CELLS.hex(' ')}\n10 27"

        assert pieces(text) == [bytes([221, 3, 0]), bytes([27, 10]), CELLS, b"\x10\x27"]

    def test_decimals_are_found_in_a_sentence(self) -> None:
        text = "received [221, 3, 0, 27]\nreceived [10, 0, 0, 119] from 17"

        assert pieces(text) == [bytes([221, 3, 0, 27]), bytes([10, 0, 0, 119])]

    @pytest.mark.parametrize("number", ["256", "-1", "1000", "0x03", "dd", "03"])
    def test_number_that_is_no_decimal_byte_is_refused(self, number: str) -> None:
        if number == "-1":  # a hyphen separates
            assert read(f"221, {number}") == b"\xdd\x01"
            return
        with pytest.raises(DecodeError, match=f"decimal byte from 0 to 255, got '{number}'"):
            read(f"221, {number}")

    def test_single_221_behind_hex_lacks_a_digit(self) -> None:
        with pytest.raises(DecodeError, match="got '221': 3 digits, an odd number"):
            read(f"{CELLS.hex()}\n221")


class TestComplaints:
    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            (
                "dd030",
                "paste:1: expected hex like DD03...77, got 'dd030': 5 digits, an odd number",
            ),
            (
                "dd03\n\ndd 0",
                "paste:3: expected hex like DD03...77, got '0': 1 digit, an odd",
            ),
            (
                f"{OWN_LOG}dd030",
                "paste:1: expected hex like DD03...77, got 'dd030': 5 digits",
            ),
            (f"{OWN_LOG}nothing", "paste:1: expected hex like DD03...77, got 'nothing'"),
            ("received dd030", "got 'dd030': 5 digits, an odd number"),
            ("received dd03o1b", "paste:1: expected hex like DD03...77, got 'dd03o1b'"),
            ("hello", "paste:1: expected hex like DD03...77, got 'hello'"),
            ("b'\\xdd\\x0'", "expected Python bytes like b'"),
            ("b'\\xdd\u20ac'", "expected Python bytes like b'"),
            ("dd03" * 20 + "0", f"got '{'dd03' * 10}...': 81 digits, an odd number"),
        ],
    )
    def test_complaint_about_a_paste_names_line_and_piece(self, text: str, complaint: str) -> None:
        with pytest.raises(DecodeError) as caught:
            pieces(text)

        assert complaint in str(caught.value)

    def test_text_beside_bytes_in_a_paste_is_skipped(self) -> None:
        assert read(f"My battery says:\n{CELLS.hex()}\nWhat does that mean?") == CELLS

    def test_text_as_an_argument_beside_bytes_is_refused(self) -> None:
        lines = [*split_lines(CELLS.hex()), *split_lines("frames.txt")]

        with pytest.raises(DecodeError, match="got 'frames\\.txt', which is no file either"):
            parse(lines)

    def test_comments_and_empty_lines_hold_no_bytes(self) -> None:
        assert pieces(f"# dd03\n\n   # dd0\n{CELLS.hex()}") == [CELLS]
        assert pieces("") == []

    @pytest.mark.parametrize(
        ("text", "plain"),
        [("dd03", True), ("DD:03, 0x4", True), ("221", True), ("./dd03", False), ("a.txt", False)],
    )
    def test_name_of_a_file_is_not_plain(self, text: str, plain: bool) -> None:
        assert is_plain(text) is plain
