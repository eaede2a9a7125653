"""A recording is a line for each event, in order, written as soon as its bytes are redacted."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.demo.battery import encode_reply
from exporter.errors import Cause, ConnectError
from exporter.protocol import auth
from exporter.protocol.advertisement import Advertisement
from exporter.protocol.frame import Command, encode_request
from exporter.reading import Identity, Reading
from exporter.recording.recorder import Recorder
from tests.support.recorded import HARDWARE, MOBILEKTRO

ADDRESS = "A4:C1:38:5E:F1:6B"
MAC = bytes.fromhex("a4c1385ef16b")
FF01 = "0000ff01-0000-1000-8000-00805f9b34fb"
NUS = "6e400003-b5a3-f393-e0a9-e50e24dcca9e"


class Recorded:
    """A recorder whose clock goes on by 10 ms with each look at it, and its lines."""

    def __init__(self, address: str = ADDRESS, **facts: Any) -> None:
        self.text: list[str] = []
        self._now_s = 100.0
        self.recorder = Recorder(self.text.append, address=address, clock=self._now, facts=facts)

    def _now(self) -> float:
        self._now_s += 0.01
        return self._now_s

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text]


class TestHeader:
    def test_first_line_has_the_format_and_no_address(self) -> None:
        recorded = Recorded(bluez="5.82", caps=["net_admin"], note="at /home/jo")

        recorded.recorder.route("direct", "fast")
        recorded.recorder.event("open", kind=1)

        header, opened = recorded.lines
        assert header["record"] == 1
        assert header["battery"] == "A4:C1:38:00:00:02"
        assert (header["link"], header["style"]) == ("direct", "fast")
        assert (header["bluez"], header["caps"], header["note"]) == (
            "5.82",
            ["net_admin"],
            "at /..",
        )
        assert opened == {"t": 0.01, "ev": "open", "kind": 1}

    def test_second_route_is_an_event(self) -> None:
        recorded = Recorded()
        recorded.recorder.route("direct", "fast")
        recorded.recorder.event("failed", errno=38)

        recorded.recorder.route("bluez", "fast")

        assert recorded.lines[-1] == {"t": 0.02, "ev": "route", "link": "bluez", "style": "fast"}


class TestDirect:
    def test_pdus_are_recorded_in_both_directions(self) -> None:
        recorded = Recorded()

        recorded.recorder.sent(bytes.fromhex("100100ffff0028"))
        recorded.recorder.received(bytes.fromhex("1106010003000018"))
        recorded.recorder.sent(bytes.fromhex("521100") + encode_request(Command.BASIC_INFO))
        recorded.recorder.received(b"\x1b\x0d\x00" + MOBILEKTRO[:20])
        recorded.recorder.received(b"\x1b\x0d\x00" + MOBILEKTRO[20:])

        assert [line.get("tx", line.get("rx")) for line in recorded.lines[1:]] == [
            "100100ffff0028",
            "1106010003000018",
            "521100dda50300fffd77",
            "1b0d00" + MOBILEKTRO[:20].hex(),
            "1b0d00" + MOBILEKTRO[20:].hex(),
        ]

    def test_lines_wait_for_the_end_of_a_frame_and_keep_their_order(self) -> None:
        recorded = Recorded()

        recorded.recorder.received(b"\x1b\x0d\x00" + HARDWARE[:20])
        recorded.recorder.event("route", link="direct")
        before = len(recorded.text)
        recorded.recorder.received(b"\x1b\x0d\x00" + HARDWARE[20:])

        assert before == 0
        assert [line.get("t") for line in recorded.lines] == [None, 0.01, 0.02, 0.03]

    def test_request_that_is_sent_again_does_not_end_an_unfinished_frame(self) -> None:
        recorded = Recorded()
        reply = encode_reply(0xA2, b"SN-12345-B12345")

        recorded.recorder.received(b"\x1b\x0d\x00" + reply[:12])
        recorded.recorder.sent(b"\x52\x11\x00" + encode_request(Command.HARDWARE))
        recorded.recorder.received(b"\x1b\x0d\x00" + reply[12:])

        received = [line["rx"][6:] for line in recorded.lines if "rx" in line]
        assert "".join(received) == encode_reply(0xA2, bytes(15)).hex()

    def test_end_writes_what_never_came_to_its_end(self) -> None:
        recorded = Recorded()
        recorded.recorder.received(b"\x1b\x0d\x00" + HARDWARE[:20])

        recorded.recorder.finish(ConnectError("to A4:C1:38:5E:F1:6B", Cause.GATT))

        assert recorded.lines[1]["rx"] == "1b0d00" + HARDWARE[:20].hex()
        assert recorded.lines[2]["result"] == {
            "counters": {},
            "edited": [],
            "error": "ConnectError",
            "reason": "connect",
            "cause": "gatt",
        }

    def test_password_exchange_leaves_its_steps(self) -> None:
        recorded = Recorded()

        recorded.recorder.sent(b"\x52\x11\x00" + auth.encode(0x18, b"secret"))
        recorded.recorder.received(b"\x1b\x0d\x00" + auth.encode(0x18, b"\x01"))

        assert recorded.lines[1:] == [
            {"t": 0.01, "tx": "521100", "password": {"step": 0x18, "answer": None}},
            {"t": 0.02, "rx": "1b0d00", "password": {"step": 0x18, "answer": 1}},
        ]

    def test_address_in_a_long_uuid_is_replaced_and_marked(self) -> None:
        recorded = Recorded()

        recorded.recorder.received(b"\x11\x14\x01\x00\x09\x00" + bytes(10) + MAC)
        recorded.recorder.finish(None)

        assert recorded.lines[1]["rx"].endswith("a4c138000002")
        assert recorded.lines[1]["edited"] == ["table"]
        assert recorded.lines[2]["result"]["edited"] == ["table"]

    def test_address_in_any_other_pdu_is_replaced(self) -> None:
        recorded = Recorded()

        recorded.recorder.received(b"\x23\x0d\x00\x06\x00" + MAC)

        assert recorded.lines[1] == {"t": 0.01, "rx": "230d000600a4c138000002", "edited": ["bytes"]}

    def test_connection_ends_once(self) -> None:
        recorded = Recorded()

        recorded.recorder.closed("us")
        recorded.recorder.connected()
        recorded.recorder.closed("us")
        recorded.recorder.closed("battery", 104)

        assert [line.get("ev") for line in recorded.lines[1:]] == ["connected", "closed"]

    def test_remembered_table_keeps_its_uuids(self) -> None:
        recorded = Recorded()

        recorded.recorder.memory(types=[1, 2], table={"services": [NUS]})

        assert recorded.lines[1] == {
            "t": 0.01,
            "ev": "memory",
            "types": [1, 2],
            "table": {"services": [NUS]},
        }


class TestBluez:
    def test_writes_notifications_and_services_are_recorded(self) -> None:
        recorded = Recorded()

        recorded.recorder.services({NUS: {NUS: ["notify"]}})
        recorded.recorder.written(FF01, encode_request(Command.HARDWARE), response=False)
        recorded.recorder.notified(FF01, HARDWARE)

        assert recorded.lines[1:] == [
            {"t": 0.01, "ev": "services", "table": {NUS: {NUS: ["notify"]}}},
            {"t": 0.02, "ev": "write", "uuid": FF01, "response": False, "hex": "dda50500fffb77"},
            {"t": 0.03, "ev": "notify", "uuid": FF01, "hex": HARDWARE.hex()},
        ]

    def test_advertisement_is_recorded_without_address_and_digits(self) -> None:
        recorded = Recorded()

        recorded.recorder.advertised(
            Advertisement(
                address=ADDRESS,
                name="SP04S034",
                rssi_dbm=-71,
                service_uuids=frozenset([FF01]),
                manufacturer_data={0xF16B: bytes.fromhex("5e38c1a4")},
                address_type="public",
            )
        )

        assert recorded.lines[1] == {
            "t": 0.01,
            "adv": {
                "type": "public",
                "rssi": -71,
                "name": "SP00S000",
                "services": [FF01],
                "maker": {"2": "0038c1a4"},
            },
            "edited": ["maker", "name"],
        }


def test_reading_has_its_hardware_name_without_long_numbers() -> None:
    recorded = Recorded()
    identity = Identity(profile="nus", hardware="JBD/20240912", software="8.3", manufactured=None)

    recorded.recorder.finish(Reading(identity=identity), {"requests": 3})

    result = recorded.lines[1]["result"]
    assert result["counters"] == {"requests": 3}
    assert result["reading"]["identity"]["hardware"] == "JBD/00000000"


FORMS: list[Callable[[bytes], bytes]] = [
    lambda mac: mac,
    lambda mac: mac[::-1],
    lambda mac: mac.hex().encode(),
    lambda mac: mac.hex(":").upper().encode(),
    lambda mac: mac[::-1].hex("-").encode(),
    lambda mac: mac[3:],
]


@given(
    mac=st.binary(min_size=6, max_size=6),
    form=st.sampled_from(FORMS),
    before=st.binary(max_size=20),
    after=st.binary(max_size=20),
    cut=st.integers(1, 30),
)
def test_nothing_of_the_address_is_in_the_recording(
    mac: bytes, form: Callable[[bytes], bytes], before: bytes, after: bytes, cut: int
) -> None:
    private = mac[3:]
    if set(private) <= {*range(10), ord("0")}:  # as replacements have it
        private = b"\x5e" + private[1:]
        mac = mac[:3] + private
    written = before + form(mac) + after
    recorded = Recorded(mac.hex(":").upper())
    recorder = recorded.recorder

    for piece in (written[:cut], written[cut:]):
        recorder.received(b"\x1b\x0d\x00" + piece)
        recorder.notified(FF01, piece)
    recorder.sent(b"\x52\x11\x00" + written)
    recorder.advertised(
        Advertisement(
            address=mac.hex(":").upper(),
            name=form(mac).decode("latin-1"),
            rssi_dbm=-71,
            service_uuids=frozenset(),
            manufacturer_data={int.from_bytes(written[:2], "little"): written[2:]},
        )
    )
    recorder.event("failed", text=f"x {mac.hex(':')} {mac.hex()}")
    recorder.finish(None)

    lines = recorded.lines
    values = [
        b"".join(bytes.fromhex(line["rx"])[3:] for line in lines if "rx" in line),
        b"".join(bytes.fromhex(line["hex"]) for line in lines if "hex" in line),
        b"".join(bytes.fromhex(line["tx"])[3:] for line in lines if "tx" in line),
    ]
    for line in lines:
        if "adv" in line:
            (company, data), *_ = line["adv"]["maker"].items()
            values.append(int(company).to_bytes(2, "little") + bytes.fromhex(data))
            values.append(line["adv"]["name"].encode("latin-1", "replace"))
        if "text" in line:
            values.append(line["text"].encode())
    for value in values:
        text = value.lower()
        for order in (private, private[::-1]):
            assert order not in value
            assert order.hex().encode() not in text
            assert order.hex(":").encode() not in text


@pytest.mark.parametrize("head", ["0502", "0915", "0908", "1114"])
def test_address_in_a_gatt_table_is_hidden(head: str) -> None:
    recorded = Recorded()

    recorded.recorder.received(bytes.fromhex(head) + bytes(4) + MAC + bytes(10))

    assert MAC[3:].hex() not in "".join(recorded.text)
    assert recorded.lines[-1]["edited"] == ["table"]
