"""Requests and replies on one link: when a request is resent, believed, and given up."""

from typing import Any

import pytest

from exporter.demo.battery import Delivery, Faults, VirtualBattery, encode_reply
from exporter.errors import (
    AnotherProtocolError,
    AuthError,
    DeviceError,
    FailureReason,
    PairingError,
    ProtocolError,
    ReplyTimeoutError,
)
from exporter.link_stats import LinkStats
from exporter.protocol.auth import PasswordExchange
from exporter.protocol.exchange import Exchange
from exporter.protocol.frame import Command, FrameError, encode_request
from tests.support.recorded import CELLS, COUNTERS, FIELD_REPORTS, HARDWARE, MOBILEKTRO
from tests.support.virtual import answering, battery

BASIC = MOBILEKTRO[4:-3]
OLD_BASIC = encode_reply(0x03, MOBILEKTRO[4:8] + b"\x00\x7b" + MOBILEKTRO[10:-3])  # 1.23 Ah
OLD_CELLS = encode_reply(0x04, bytes.fromhex("0b000b000b000b00"))
OLD_HARDWARE = encode_reply(0x05, b"ANOTHER")
OLD_COUNTERS = encode_reply(0xAA, b"\x00\x09" * 12)
DAMAGED = OLD_BASIC[:10] + b"\xff" + OLD_BASIC[11:]
# The register byte is not covered by the checksum: 0x03 damaged to 0x04 is a valid frame.
BASIC_AS_CELLS = bytes([MOBILEKTRO[0], 0x04]) + MOBILEKTRO[2:]

# Recorded: mac 10:a5:62:32:75:36, password 123456, random 0x24.
MAC = bytes.fromhex("10a562327536")
PROOF = bytes.fromhex("ffaa180645bb752a642445")
PASSWORD_REPLIES = {
    bytes.fromhex("ffaa15063030303030303b"): bytes.fromhex("ffaa15010016"),
    bytes.fromhex("ffaa170017"): bytes.fromhex("ffaa1701243c"),
    PROOF: bytes.fromhex("ffaa18010019"),
}


class Wire:
    """A virtual battery behind a link, on time of its own: no event loop."""

    def __init__(
        self,
        virtual: VirtualBattery | None = None,
        *,
        early: Command | None = None,
        subscribe_s: float = 0.0,
        write_s: float = 0.0,
        **faults: Any,
    ) -> None:
        """Connect, write the early request, if any, and subscribe.

        Args:
            virtual: The battery; None: a healthy one, but for `faults`.
            early: The register that is requested before the subscription.
            subscribe_s: How long the subscription takes.
            write_s: How long every other write takes.
            faults: Of the battery.
        """
        self.battery = virtual or battery(faults=Faults(**faults))
        self.write_s = write_s
        self.now_s = 0.0
        self.written: list[tuple[float, bytes]] = []
        self.arriving: list[tuple[float, bytes]] = []
        self.replies: dict[bytes, bytes] = {}  # to what is no JBD request
        self.stats = LinkStats()
        self.exchange = Exchange(self.stats, early=early)
        self._arrive(self.battery.connected())
        if early is not None:
            self._arrive(self.battery.request(encode_request(early), self.now_s))
        self.now_s += subscribe_s
        self._arrive(self.battery.subscribed())

    def ask(self, command: Command, *, give_up_s: float = 5.0) -> bytes:
        """Request one register; return its payload."""
        self.exchange.request(command, now_s=self.now_s, give_up_s=give_up_s)
        self.run()
        return self.exchange.payload()

    def authenticate(self) -> None:
        """Prove the password 123456."""
        self.exchange.authenticate(PasswordExchange(b"123456", MAC), now_s=self.now_s)
        self.run()

    def run(self) -> None:
        """Move bytes and time until the request under way has ended."""
        exchange = self.exchange
        try:
            while exchange.is_waiting:
                deadline_s = exchange.deadline_s
                if data := exchange.data_to_send:
                    self._write(data, deadline_s)
                elif self.arriving and self.arriving[0][0] < deadline_s:
                    at_s, chunk = self.arriving.pop(0)
                    self.now_s = max(self.now_s, at_s)
                    exchange.receive_data(chunk, at_s=at_s, now_s=self.now_s)
                else:
                    self.now_s = deadline_s
                    exchange.timed_out(self.now_s)
        finally:
            exchange.stop()

    def times_s(self) -> list[float]:
        """Return when requests were written."""
        return [round(at_s, 3) for at_s, _ in self.written]

    def deliver(self, *chunks: tuple[float, bytes]) -> None:
        """Let notifications arrive at these times."""
        self.arriving = sorted([*self.arriving, *chunks], key=lambda arrival: arrival[0])

    def _write(self, data: bytes, deadline_s: float) -> None:
        self.written.append((self.now_s, data))
        self.now_s += self.write_s
        if self.now_s >= deadline_s:
            self.now_s = deadline_s
            self.exchange.timed_out(self.now_s)
        self.exchange.data_sent(self.now_s)
        if data in self.replies:
            self.deliver((self.now_s, self.replies[data]))
        elif data[0] == 0xDD:
            self._arrive(self.battery.request(data, self.now_s))

    def _arrive(self, notifications: list[Delivery]) -> None:
        self.deliver(*((self.now_s + n.after_s, n.data) for n in notifications if n.data))


def answering_once(*replies: bytes) -> VirtualBattery:
    """Return a battery that answers its n-th request with the n-th of these."""
    left = iter(replies)
    return battery(answers=lambda _: next(left))


class TestReply:
    @pytest.mark.parametrize(
        "faults",
        [
            pytest.param({"notification": 1}, id="in notifications of one byte"),
            pytest.param({"notification": 0}, id="in one piece"),
            pytest.param({"stray": b"\x00"}, id="after a stray byte"),
            pytest.param({"stray": b"\xff" * 40}, id="after noise"),
            pytest.param({"stray": MOBILEKTRO[:9]}, id="after the beginning of a frame"),
            pytest.param({"gap_s": 3.0}, id="with three seconds between notifications"),
            pytest.param({"reply_s": 1.5}, id="late"),
        ],
    )
    def test_payload_is_returned_however_the_reply_is_delivered(
        self, faults: dict[str, Any]
    ) -> None:
        assert Wire(**faults).ask(Command.BASIC_INFO) == BASIC

    def test_one_request_is_counted_once(self) -> None:
        wire = Wire()

        wire.ask(Command.BASIC_INFO)

        assert (wire.stats.requests, wire.stats.resends) == (1, 0)
        assert wire.written == [(0.0, encode_request(Command.BASIC_INFO))]

    def test_last_of_several_replies_in_one_notification_is_used(self) -> None:
        wire = Wire(
            battery(answers=lambda _: OLD_BASIC + MOBILEKTRO, faults=Faults(notification=0))
        )

        assert wire.ask(Command.BASIC_INFO) == BASIC

    def test_refused_register_raises_a_device_error(self) -> None:
        with pytest.raises(DeviceError, match=r"expected status 0x00 .* got 0x80"):
            Wire(battery(answers=answering({}))).ask(Command.BASIC_INFO)

    def test_echoed_request_means_pairing(self) -> None:
        wire = Wire(battery(answers=lambda _: encode_request(Command.BASIC_INFO)))

        with pytest.raises(PairingError, match="pairing"):
            wire.ask(Command.BASIC_INFO)

        assert not wire.exchange.is_waiting


class TestIdle:
    def test_idle_exchange_sends_nothing_and_has_no_deadline(self) -> None:
        exchange = Exchange(LinkStats())

        exchange.timed_out(1e9)
        exchange.data_sent(1e9)
        exchange.stop()

        assert not exchange.is_waiting
        assert exchange.data_to_send == b""
        assert exchange.deadline_s == float("inf")

    def test_bytes_without_a_request_are_discarded_and_counted(self) -> None:
        stats = LinkStats()
        exchange = Exchange(stats)

        exchange.receive_data(MOBILEKTRO, at_s=1.0, now_s=1.0)

        assert stats.discarded_bytes == len(MOBILEKTRO)

    def test_payload_of_an_unanswered_request_is_an_error(self) -> None:
        with pytest.raises(RuntimeError, match="no request was answered"):
            Exchange(LinkStats()).payload()

    def test_stopped_request_counts_its_unfinished_reply(self) -> None:
        stats = LinkStats()
        exchange = Exchange(stats)
        exchange.request(Command.BASIC_INFO, now_s=0.0, give_up_s=5.0)
        exchange.data_sent(0.0)
        exchange.receive_data(MOBILEKTRO[:20], at_s=0.1, now_s=0.1)

        exchange.stop()

        assert not exchange.is_waiting
        assert stats.discarded_bytes == 20
        assert stats.frame_errors == {}


class TestResend:
    @pytest.mark.parametrize("lost", [1, 2, 5, 11])
    def test_lost_request_is_resent_every_400_ms(self, lost: int) -> None:
        wire = Wire(lose_first=lost)

        wire.ask(Command.BASIC_INFO)

        assert wire.times_s() == pytest.approx([0.4 * n for n in range(lost + 1)])
        assert (wire.stats.requests, wire.stats.resends) == (1, lost)

    def test_resend_waits_400_ms_after_a_slow_write_has_ended(self) -> None:
        wire = Wire(lose_first=1, write_s=0.25)

        wire.ask(Command.BASIC_INFO)

        assert wire.times_s() == [0.0, 0.65]

    def test_answered_request_is_not_resent(self) -> None:
        wire = Wire(reply_s=0.39, notification=0)

        wire.ask(Command.BASIC_INFO)

        assert wire.stats.resends == 0

    def test_reply_that_has_begun_is_not_interrupted_by_a_resend(self) -> None:
        wire = Wire(gap_s=0.5, notification=12)

        wire.ask(Command.BASIC_INFO)

        assert wire.stats.resends == 0

    def test_unfinished_reply_is_resent_after_1500_ms_and_is_no_damage(self) -> None:
        wire = Wire(battery(answers=lambda _: MOBILEKTRO[:20], faults=Faults(reply_s=0.1)))

        with pytest.raises(ReplyTimeoutError, match="only pieces"):
            wire.ask(Command.BASIC_INFO)

        assert wire.times_s() == pytest.approx([0.0, 1.6, 3.2, 4.8])
        assert wire.stats.frame_errors == {}
        assert wire.stats.discarded_bytes == 80

    def test_reply_that_goes_on_after_the_resend_is_used(self) -> None:
        wire = Wire(silent=True)
        wire.deliver((0.1, MOBILEKTRO[:20]), (3.1, MOBILEKTRO[20:]))

        assert wire.ask(Command.BASIC_INFO) == BASIC
        assert wire.times_s() == pytest.approx([0.0, 1.6, 2.0, 2.4, 2.8])

    def test_noise_does_not_delay_the_resend(self) -> None:
        wire = Wire(lose_first=1)
        wire.deliver(*((0.1 * number, b"\xff\xff") for number in range(20)))

        wire.ask(Command.BASIC_INFO)

        assert wire.times_s() == [0.0, 0.4]

    def test_late_second_reply_is_dropped_without_being_an_error(self) -> None:
        wire = Wire(reply_s=0.5)

        assert wire.ask(Command.BASIC_INFO) == BASIC
        assert wire.ask(Command.CELL_VOLTAGES) == CELLS[4:-3]
        assert wire.stats.resends > 0
        assert wire.stats.frame_errors == {}
        assert wire.stats.discarded_bytes > 0


class TestGivingUp:
    @pytest.mark.parametrize(
        ("faults", "error", "message"),
        [
            pytest.param(
                {"silent": True},
                ReplyTimeoutError,
                "register 0x03: no reply in 5 s",
                id="silence",
            ),
            pytest.param(
                {"truncated": True},
                ReplyTimeoutError,
                "register 0x03: no complete reply, only pieces, in 5 s",
                id="truncation",
            ),
            pytest.param({"bad_checksum": True}, ProtocolError, "4 x wrong checksum", id="damage"),
            pytest.param(
                {"wrong_register": True}, ProtocolError, "4 x wrong register", id="other register"
            ),
        ],
    )
    def test_request_is_given_up_after_5_s_with_the_reason(
        self, faults: dict[str, Any], error: type[Exception], message: str
    ) -> None:
        wire = Wire(**faults)

        with pytest.raises(error, match=message):
            wire.ask(Command.BASIC_INFO)

        assert wire.now_s == pytest.approx(5.0)

    @pytest.mark.parametrize("give_up_s", [1.0, 5.0])
    def test_request_is_given_up_after_its_own_time(self, give_up_s: float) -> None:
        wire = Wire(silent=True)

        with pytest.raises(ReplyTimeoutError, match=f"in {give_up_s:g} s"):
            wire.ask(Command.HARDWARE, give_up_s=give_up_s)

        assert wire.now_s == give_up_s
        assert wire.stats.resends == int(give_up_s / 0.4)

    def test_write_that_never_ends_is_given_up(self) -> None:
        wire = Wire(write_s=1e9)

        with pytest.raises(ReplyTimeoutError, match="no reply in 5 s"):
            wire.ask(Command.BASIC_INFO)

        assert wire.now_s == 5.0
        assert wire.stats.resends == 0

    def test_nothing_is_resent_when_the_program_wakes_after_the_time_to_give_up(self) -> None:
        exchange = Exchange(LinkStats())
        exchange.request(Command.BASIC_INFO, now_s=0.0, give_up_s=5.0)
        exchange.data_sent(0.0)

        with pytest.raises(ReplyTimeoutError):
            exchange.timed_out(7.0)

    @pytest.mark.parametrize(
        ("faults", "reason"),
        [
            (Faults(bad_checksum=True), FrameError.CHECKSUM),
            (Faults(wrong_register=True), FrameError.REGISTER),
        ],
    )
    def test_every_refused_reply_is_counted(self, faults: Faults, reason: FrameError) -> None:
        wire = Wire(battery(faults=faults))

        with pytest.raises(ProtocolError):
            wire.ask(Command.BASIC_INFO)

        requests = wire.stats.requests + wire.stats.resends
        assert requests > 1
        assert wire.stats.frame_errors == {reason: requests}
        assert wire.stats.discarded_bytes == requests * len(MOBILEKTRO)


class TestAnotherProtocol:
    @pytest.mark.parametrize("early", [Command.CELL_VOLTAGES, None])
    @pytest.mark.parametrize(
        "answer",
        [
            pytest.param(*FIELD_REPORTS["foreign-3"], id="7B..7D"),
            pytest.param(bytes.fromhex("a50190080000000000000000003e"), id="Daly"),
            pytest.param(bytes.fromhex("55aaeb900200012c000000"), id="JK"),
            pytest.param(bytes.fromhex("01780500a0e1"), id="Modbus"),
            pytest.param(b":000250000E03$", id="text"),
            pytest.param(bytes.fromhex("7b02dd11ff00987d"), id="with DD in it"),
            pytest.param(bytes.fromhex("dd7b0221100cd3"), id="with DD at its head"),
        ],
    )
    def test_another_protocol_is_reported_with_its_bytes(
        self, answer: bytes, early: Command | None
    ) -> None:
        wire = Wire(battery(answers=lambda _: answer), early=early)

        with pytest.raises(AnotherProtocolError) as caught:
            wire.ask(Command.BASIC_INFO)

        shown = (answer * 3)[:16].hex()
        assert str(caught.value) == (
            f"it answers, but not in the JBD protocol: {shown}...; check the address, "
            "or try another profile"
        )
        assert caught.value.reason is FailureReason.PROTOCOL

    def test_one_answer_in_another_protocol_is_enough(self) -> None:
        (answer,) = FIELD_REPORTS["foreign-3"]

        with pytest.raises(AnotherProtocolError, match="protocol: 7b0221100cd3; check"):
            Wire(stray=answer, silent=True).ask(Command.BASIC_INFO)

    @pytest.mark.parametrize(
        "stray",
        [
            pytest.param(b"\x00", id="a stray zero"),
            pytest.param(b"\xff" * 40, id="an idle line"),
            pytest.param(b"\x00\x80\xfe\xff\x00\x00", id="line noise"),
            pytest.param(MOBILEKTRO[:20], id="the beginning of a frame"),
            pytest.param(MOBILEKTRO[20:], id="the end of a frame"),
            pytest.param(b"OK+CONN:A4C138000001\r\n", id="the Bluetooth module"),
            pytest.param(b"+CONNECTED\r\nERROR\r\n", id="its other words"),
            pytest.param(bytes.fromhex("ffaa15010016"), id="the password exchange"),
            pytest.param(CELLS, id="a leftover"),
        ],
    )
    def test_noise_of_a_silent_battery_is_silence(self, stray: bytes) -> None:
        with pytest.raises(ReplyTimeoutError, match="in 5 s"):
            Wire(stray=stray, silent=True).ask(Command.BASIC_INFO)

    def test_strange_bytes_beside_a_reply_are_noise(self) -> None:
        assert Wire(stray=bytes.fromhex("02510003a1b2c3d4")).ask(Command.BASIC_INFO) == BASIC

    def test_damaged_frames_are_not_reported_as_another_protocol(self) -> None:
        wire = Wire(stray=bytes.fromhex("7b0221100cd3"), bad_checksum=True)

        with pytest.raises(ProtocolError, match=r"no valid reply in 5 s: .* wrong checksum"):
            wire.ask(Command.BASIC_INFO)


class TestPassword:
    def test_password_is_proved_in_three_steps(self) -> None:
        wire = Wire()
        wire.replies = PASSWORD_REPLIES

        wire.authenticate()

        assert [data for _, data in wire.written] == list(PASSWORD_REPLIES)
        assert wire.stats.requests == 3
        assert wire.ask(Command.BASIC_INFO) == BASIC

    def test_refused_password_is_an_auth_error(self) -> None:
        wire = Wire()
        wire.replies = PASSWORD_REPLIES | {PROOF: bytes.fromhex("ffaa1801011a")}

        with pytest.raises(AuthError, match="rejected the password"):
            wire.authenticate()

        assert not wire.exchange.is_waiting

    def test_unanswered_password_exchange_is_resent_every_400_ms_for_5_s(self) -> None:
        wire = Wire()

        with pytest.raises(ReplyTimeoutError, match="password_file"):
            wire.authenticate()

        assert wire.times_s() == pytest.approx([0.4 * n for n in range(13)])
        assert wire.now_s == 5.0

    def test_answer_in_pieces_is_put_together(self) -> None:
        wire = Wire()
        wire.replies = {step: reply[:3] for step, reply in PASSWORD_REPLIES.items()}
        (first, *_) = PASSWORD_REPLIES.values()
        wire.deliver((0.1, first[3:]))

        with pytest.raises(ReplyTimeoutError):
            wire.authenticate()

        assert wire.written[1] == (0.1, bytes.fromhex("ffaa170017"))

    def test_answer_that_came_before_its_request_is_discarded(self) -> None:
        rejected = bytes.fromhex("ffaa15010117")
        wire = Wire()
        wire.replies = PASSWORD_REPLIES
        wire.deliver((-0.01, rejected))

        wire.authenticate()

        assert wire.stats.discarded_bytes == len(rejected)


class TestEarlyRequest:
    """One request is written before the subscription: the first after a connect is often lost."""

    def test_lost_early_request_costs_nothing_else(self) -> None:
        wire = Wire(early=Command.CELL_VOLTAGES, lose_first=1)

        assert wire.ask(Command.BASIC_INFO) == BASIC
        assert wire.ask(Command.CELL_VOLTAGES) == CELLS[4:-3]
        assert wire.battery.requests == [0x04, 0x03, 0x04]
        assert wire.stats.resends == 0

    def test_reply_to_the_early_request_is_used(self) -> None:
        wire = Wire(early=Command.CELL_VOLTAGES)

        assert wire.ask(Command.BASIC_INFO) == BASIC
        assert wire.ask(Command.CELL_VOLTAGES) == CELLS[4:-3]
        assert wire.battery.requests == [0x04, 0x03]
        assert not wire.exchange.drops_requests

    def test_reply_to_the_early_request_is_used_only_at_once(self) -> None:
        wire = Wire(early=Command.CELL_VOLTAGES)

        wire.ask(Command.BASIC_INFO)
        wire.ask(Command.HARDWARE)
        wire.ask(Command.CELL_VOLTAGES)

        assert wire.battery.requests == [0x04, 0x03, 0x05, 0x04]

    def test_early_reply_gives_the_next_request_400_ms_more(self) -> None:
        wire = Wire(early=Command.CELL_VOLTAGES, reply_s=0.35, notification=0)

        assert wire.ask(Command.BASIC_INFO) == BASIC
        assert wire.ask(Command.CELL_VOLTAGES) == CELLS[4:-3]
        assert wire.stats.resends == 0

    @pytest.mark.parametrize("early", [Command.CELL_VOLTAGES, Command.BASIC_INFO])
    def test_bms_that_drops_requests_while_it_replies_is_recognised(self, early: Command) -> None:
        wire = Wire(early=early, one_at_a_time=True, subscribe_s=0.05)

        assert wire.ask(Command.BASIC_INFO) == BASIC
        assert wire.exchange.drops_requests
        assert wire.stats.resends == 1

    def test_reply_with_a_damaged_register_is_not_used_for_the_early_one(self) -> None:
        virtual = answering_once(BASIC_AS_CELLS, MOBILEKTRO, CELLS)
        virtual.faults = Faults(lose_first=1)
        wire = Wire(virtual, early=Command.CELL_VOLTAGES)

        assert wire.ask(Command.BASIC_INFO) == BASIC
        assert wire.ask(Command.CELL_VOLTAGES) == CELLS[4:-3]

    def test_neither_of_two_replies_to_the_early_request_is_used(self) -> None:
        virtual = answering_once(BASIC_AS_CELLS, MOBILEKTRO, CELLS)
        wire = Wire(virtual, early=Command.CELL_VOLTAGES)
        wire.deliver((0.03, CELLS))

        assert wire.ask(Command.BASIC_INFO) == BASIC
        assert wire.ask(Command.CELL_VOLTAGES) == CELLS[4:-3]
        assert virtual.requests == [0x04, 0x03, 0x04]


class TestLeftovers:
    """At the subscription, the Bluetooth module hands over bytes of an earlier connection."""

    @pytest.mark.parametrize("cells", [True, False])
    @pytest.mark.parametrize("lose_first", [0, 1, 2])
    @pytest.mark.parametrize("takes_early", [True, False])
    @pytest.mark.parametrize("leftover_s", [0.0, 0.02])
    @pytest.mark.parametrize(
        "leftover",
        [
            pytest.param(OLD_BASIC, id="0x03"),
            pytest.param(OLD_BASIC * 3, id="0x03 three times"),
            pytest.param(OLD_BASIC[:20], id="the beginning of 0x03"),
            pytest.param(OLD_BASIC[20:], id="the end of 0x03"),
            pytest.param(DAMAGED, id="0x03, damaged"),
            pytest.param(OLD_CELLS, id="0x04"),
            pytest.param(OLD_CELLS + OLD_BASIC, id="0x04 and 0x03"),
            pytest.param(OLD_HARDWARE, id="0x05"),
            pytest.param(OLD_COUNTERS, id="0xAA"),
        ],
    )
    def test_leftover_is_dropped_and_counted(
        self, leftover: bytes, leftover_s: float, lose_first: int, *, takes_early: bool, cells: bool
    ) -> None:
        early = Command.CELL_VOLTAGES if cells else Command.BASIC_INFO
        wire = Wire(
            early=early if takes_early else None,
            leftover=leftover,
            leftover_s=leftover_s,
            lose_first=lose_first,
        )

        assert wire.ask(Command.BASIC_INFO) == BASIC
        assert not cells or wire.ask(Command.CELL_VOLTAGES) == CELLS[4:-3]
        assert wire.ask(Command.EVENT_COUNTERS) == COUNTERS[4:-3]
        assert wire.ask(Command.HARDWARE) == HARDWARE[4:-3]
        assert wire.stats.discarded_bytes >= len(leftover)
        assert wire.stats.frame_errors == {}

    @pytest.mark.parametrize("early", [Command.BASIC_INFO, Command.CELL_VOLTAGES])
    def test_leftover_whose_end_comes_after_the_request_is_dropped(self, early: Command) -> None:
        old = {Command.BASIC_INFO: OLD_BASIC, Command.CELL_VOLTAGES: OLD_CELLS}[early]
        wire = Wire(early=Command.CELL_VOLTAGES, leftover=old[:10], silent=True)
        wire.deliver((0.2, old[10:]))

        with pytest.raises(ReplyTimeoutError, match="no reply in 5 s"):
            wire.ask(Command.BASIC_INFO)

    def test_leftover_of_a_silent_battery_is_no_reply(self) -> None:
        wire = Wire(leftover=OLD_BASIC, silent=True)

        with pytest.raises(ReplyTimeoutError, match="no reply in 5 s"):
            wire.ask(Command.BASIC_INFO)

        assert wire.stats.frame_errors == {}
        assert wire.stats.discarded_bytes == len(OLD_BASIC)

    @pytest.mark.parametrize(
        ("early", "leftover"),
        [(Command.CELL_VOLTAGES, OLD_CELLS), (Command.BASIC_INFO, OLD_BASIC)],
    )
    def test_leftover_that_comes_before_the_request_is_no_reply_to_the_early_one(
        self, early: Command, leftover: bytes
    ) -> None:
        wire = Wire(early=early, lose_first=1, subscribe_s=0.05)
        wire.deliver((0.0, leftover))

        assert wire.ask(Command.BASIC_INFO) == BASIC
        assert wire.ask(Command.CELL_VOLTAGES) == CELLS[4:-3]

    def test_leftover_that_comes_while_the_request_is_written_is_dropped(self) -> None:
        wire = Wire(write_s=0.5)
        wire.deliver((0.01, OLD_BASIC))

        assert wire.ask(Command.BASIC_INFO) == BASIC
        assert wire.times_s() == [0.0]

    @pytest.mark.parametrize(
        ("at_s", "is_used"), [(0.0447, False), (0.0448, True)], ids=["too soon", "possible"]
    )
    def test_36_bytes_are_a_reply_only_when_9600_baud_can_have_carried_them(
        self, at_s: float, *, is_used: bool
    ) -> None:
        """Request and reply are 43 bytes, which take 44.79 ms."""
        wire = Wire(silent=True)
        padded = encode_reply(0x03, BASIC + bytes(36 - len(MOBILEKTRO)))
        assert len(padded) == 36
        wire.deliver((at_s, padded))

        if is_used:
            assert wire.ask(Command.BASIC_INFO) == padded[4:-3]
        else:
            with pytest.raises(ReplyTimeoutError):
                wire.ask(Command.BASIC_INFO)

    def test_late_leftover_is_noticed_by_the_second_reply(self) -> None:
        wire = Wire(leftover=OLD_BASIC, leftover_s=0.06)

        assert wire.ask(Command.BASIC_INFO) == OLD_BASIC[4:-3]
        assert not wire.exchange.has_leftover(Command.BASIC_INFO)
        wire.ask(Command.CELL_VOLTAGES)

        assert wire.exchange.has_leftover(Command.BASIC_INFO)
        assert wire.ask(Command.BASIC_INFO) == BASIC

    def test_reply_faster_than_the_serial_line_is_believed_after_a_resend(self) -> None:
        wire = Wire(reply_s=0.001)

        assert wire.ask(Command.BASIC_INFO) == BASIC
        assert wire.ask(Command.CELL_VOLTAGES) == CELLS[4:-3]
        assert wire.battery.requests == [0x03, 0x03, 0x04]
        assert wire.stats.frame_errors == {}

    def test_early_request_that_was_not_written_cannot_be_answered(self) -> None:
        wire = Wire(leftover=OLD_CELLS, leftover_s=0.05)

        assert wire.ask(Command.BASIC_INFO) == BASIC
        assert wire.ask(Command.CELL_VOLTAGES) == CELLS[4:-3]
        assert wire.battery.requests == [0x03, 0x04]
