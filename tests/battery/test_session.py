"""The conversation: what is asked, when it is asked again, and what its absence costs."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from exporter.battery.session import Bms
from exporter.demo.battery import Faults, VirtualBattery, encode_reply
from exporter.errors import (
    AnotherProtocolError,
    AuthError,
    DecodeError,
    DeviceError,
    FailureReason,
    LinkLostError,
    ProtocolError,
    ReplyTimeoutError,
)
from exporter.link_stats import LinkStats
from exporter.protocol.frame import FrameError
from exporter.reading import Identity, Protection, Reading
from tests.support.recorded import CELLS, FIELD_REPORTS, MOBILEKTRO
from tests.support.virtual import ANSWERS, FakeConnection, FakeLink, answering, battery, now_s


def bms_for(stats: LinkStats | None = None, **options: Any) -> Bms:
    return Bms(stats=stats or LinkStats(), clock=now_s, **options)


async def read_with(bms: Bms, connection: FakeConnection, *, within_s: float = 60.0) -> Reading:
    return await bms.read(connection, deadline_s=now_s() + within_s)


async def read(faults: Faults, stats: LinkStats | None = None) -> Reading:
    return await read_with(bms_for(stats), FakeConnection(battery(faults=faults)))


def cut_link(connection: FakeConnection) -> None:
    connection.links["ff00"].notifications.put_nowait(None)


def payloads(reading: Reading) -> tuple[bool, bool, bool]:
    """Tell which of 0x03, 0x04 and 0xAA made it into the reading."""
    return (
        reading.basic is not None,
        reading.cell_voltages_v is not None,
        reading.counters is not None,
    )


SILENCE = b"\x00"  # instead of a reply


def answered(reading: Reading) -> set[int]:
    """Return which of the optional registers were answered."""
    facts = {
        0x04: reading.cell_voltages_v,
        0x05: reading.identity and reading.identity.hardware,
        0xAA: reading.counters,
    }
    return {register for register, fact in facts.items() if fact}


class TestOneReading:
    async def test_a_healthy_battery_tells_everything(self) -> None:
        virtual = battery()

        reading = await read_with(bms_for(), FakeConnection(virtual))

        assert reading.basic is not None
        assert reading.requested_at_s == 0.0
        assert reading.basic.remaining_ah == 203.54
        assert reading.cell_voltages_v == (3.394, 3.388, 3.392, 3.386)
        assert reading.counters is not None
        assert reading.counters.protection_events[Protection.CELL_OVERVOLTAGE] == 122
        assert reading.identity == Identity(
            profile="ff00",
            hardware="JBD-SP04S034-L4S-200A-B-U",
            software="8.3",
            manufactured=reading.basic.manufactured,
        )
        assert virtual.requests == [0x03, 0x04, 0xAA, 0x05]
        assert virtual.illegal == []

    @pytest.mark.parametrize("takes_early", [False, True])
    @pytest.mark.parametrize(
        ("option", "register", "present"),
        [
            ("cells", 0x04, (True, False, True)),
            ("counters", 0xAA, (True, True, False)),
            ("hardware", 0x05, (True, True, True)),
        ],
    )
    async def test_unwanted_register_is_never_requested(
        self, option: str, register: int, present: tuple[bool, bool, bool], *, takes_early: bool
    ) -> None:
        virtual = battery()
        options: dict[str, Any] = {option: False}
        bms = bms_for(**options)

        for _ in range(12):
            connection = FakeConnection(virtual)
            connection.takes_early = takes_early
            reading = await read_with(bms, connection)

        assert set(virtual.requests) == {0x03, 0x04, 0x05, 0xAA} - {register}
        assert payloads(reading) == present

    async def test_identity_without_the_hardware_name_is_known_at_once(self) -> None:
        reading = await read_with(bms_for(hardware=False), FakeConnection(battery()))

        assert reading.identity is not None
        assert (reading.identity.hardware, reading.identity.software) == ("", "8.3")

    @pytest.mark.parametrize(
        ("report", "cell_9_v", "cell_10_v"),
        [
            pytest.param("cell-above-5-v", 6.551, 0.412, id="above 5 V"),
            pytest.param("cell-at-0-v", 0.0, 3.309, id="at 0 V"),
        ],
    )
    async def test_broken_sense_wire_is_shown_as_measured(
        self, report: str, cell_9_v: float, cell_10_v: float
    ) -> None:
        stats = LinkStats()
        basic, cells = FIELD_REPORTS[report]
        virtual = battery(answers=answering({0x03: basic, 0x04: cells}))

        reading = await read_with(bms_for(stats), FakeConnection(virtual))

        assert reading.cell_voltages_v == (
            3.3, 3.301, 3.302, 3.303, 3.304, 3.305, 3.306, 3.307, cell_9_v, cell_10_v,
            3.31, 3.311, 3.312,
        )  # fmt: skip
        assert stats.frame_errors == {}

    async def test_tap_at_0_mv_beyond_the_count_is_no_cell(self) -> None:
        cells = encode_reply(0x04, CELLS[4:-3] + bytes(4))
        virtual = battery(answers=answering(ANSWERS | {0x04: cells}))

        reading = await read_with(bms_for(), FakeConnection(virtual))

        assert reading.cell_voltages_v == (3.394, 3.388, 3.392, 3.386, None, None)

    @pytest.mark.parametrize(
        "faults",
        [
            pytest.param(Faults(notification=1), id="in notifications of one byte"),
            pytest.param(Faults(notification=0), id="in one piece"),
            pytest.param(Faults(notification=34), id="in notifications of 34 bytes"),
            pytest.param(Faults(stray=b"\x00"), id="after a stray byte"),
            pytest.param(Faults(stray=b"\xff" * 40), id="after noise"),
            pytest.param(Faults(stray=MOBILEKTRO[:9]), id="after the beginning of a frame"),
            pytest.param(Faults(gap_s=0.3), id="slowly"),
            pytest.param(Faults(gap_s=3.0), id="with three seconds between notifications"),
            pytest.param(Faults(reply_s=1.5), id="late"),
        ],
    )
    async def test_the_answer_may_come(self, faults: Faults) -> None:
        reading = await read(faults)

        assert reading.basic is not None
        assert reading.basic.remaining_ah == 203.54
        assert payloads(reading) == (True, True, faults.reply_s < 1 and faults.gap_s < 1)


class TestResend:
    @pytest.mark.parametrize("lost", [1, 2, 5, 11])
    async def test_lost_first_commands_are_sent_again_every_400_ms(self, lost: int) -> None:
        stats = LinkStats()
        connection = FakeConnection(battery(faults=Faults(lose_first=lost)))

        await read_with(bms_for(stats, cells=False), connection)

        times = [at_s for at_s, _ in connection.links["ff00"].written]
        assert times[: lost + 1] == pytest.approx([0.4 * n for n in range(lost + 1)])
        assert stats.resends == lost
        assert stats.requests == 3

    async def test_an_answered_command_is_not_sent_again(self) -> None:
        stats = LinkStats()

        await read(Faults(reply_s=0.39), stats)

        assert stats.resends == 0

    async def test_a_reply_that_has_begun_is_not_interrupted_by_a_resend(self) -> None:
        stats = LinkStats()

        await read(Faults(gap_s=0.5, notification=12), stats)

        assert stats.resends == 0

    async def test_a_reply_that_never_goes_on_is_truncated_not_damaged(self) -> None:
        stats = LinkStats()
        virtual = battery(answers=answering(ANSWERS | {0x03: MOBILEKTRO[:20]}))

        with pytest.raises(ReplyTimeoutError):
            await read_with(bms_for(stats), FakeConnection(virtual))

        assert stats.frame_errors == {}
        assert stats.resends == 3
        assert stats.discarded_bytes == 80

    async def test_a_reply_that_goes_on_after_the_resend_still_counts(self) -> None:
        link = FakeLink(battery(), silent=True)
        loop = asyncio.get_running_loop()
        loop.call_later(0.1, link.notifications.put_nowait, MOBILEKTRO[:20])
        loop.call_later(3.1, link.notifications.put_nowait, MOBILEKTRO[20:])

        class Connection(FakeConnection):
            async def open(self, profile: str, early: bytes) -> FakeLink:
                return link

        reading = await read_with(bms_for(), Connection(link.battery))

        assert reading.basic is not None
        assert reading.basic.remaining_ah == 203.54

    async def test_noise_does_not_put_the_resend_off(self) -> None:
        link = FakeLink(battery(faults=Faults(lose_first=1)))
        loop = asyncio.get_running_loop()
        for number in range(20):
            loop.call_later(0.1 * number, link.notifications.put_nowait, b"\xff\xff")

        class Connection(FakeConnection):
            async def open(self, profile: str, early: bytes) -> FakeLink:
                link.deliver(link.battery.connected())
                return link

        await read_with(bms_for(), Connection(link.battery))

        assert link.written[1][0] == pytest.approx(0.4)

    async def test_a_late_second_answer_is_dropped_without_being_an_error(self) -> None:
        stats = LinkStats()

        reading = await read(Faults(reply_s=0.5), stats)

        assert payloads(reading) == (True, True, True)
        assert stats.resends > 0
        assert stats.frame_errors == {}
        assert stats.discarded_bytes > 0


class TestGivingUp:
    @pytest.mark.parametrize(
        ("faults", "error", "message"),
        [
            pytest.param(
                Faults(silent=True),
                ReplyTimeoutError,
                "register 0x03: no reply in 5 s",
                id="silence is a time-out",
            ),
            pytest.param(
                Faults(truncated=True),
                ReplyTimeoutError,
                "only pieces, in 5 s",
                id="so is truncation",
            ),
            pytest.param(
                Faults(bad_checksum=True), ProtocolError, "wrong checksum", id="damage is not"
            ),
            pytest.param(
                Faults(wrong_register=True), ProtocolError, "wrong register", id="nor is a stranger"
            ),
            pytest.param(
                Faults(cut=True), LinkLostError, "ended in mid-poll", id="nor is a lost link"
            ),
        ],
    )
    async def test_no_reading_comes_of_it(
        self, faults: Faults, error: type[Exception], message: str
    ) -> None:
        with pytest.raises(error, match=message):
            await read(faults)

    @pytest.mark.parametrize("faults", [Faults(silent=True), Faults(bad_checksum=True)])
    async def test_it_takes_five_seconds(self, faults: Faults) -> None:
        with pytest.raises((ReplyTimeoutError, ProtocolError)):
            await read(faults)

        assert now_s() == pytest.approx(5.0)

    @pytest.mark.parametrize(
        ("faults", "reason"),
        [
            (Faults(bad_checksum=True), FrameError.CHECKSUM),
            (Faults(wrong_register=True), FrameError.REGISTER),
        ],
    )
    async def test_every_refused_reply_is_counted(self, faults: Faults, reason: FrameError) -> None:
        stats = LinkStats()

        with pytest.raises(ProtocolError):
            await read(faults, stats)

        assert stats.frame_errors[reason] == stats.requests + stats.resends
        assert stats.discarded_bytes == stats.frame_errors[reason] * len(MOBILEKTRO)

    async def test_a_status_on_03_is_the_devices_refusal(self) -> None:
        virtual = battery(answers=answering({}))

        with pytest.raises(DeviceError, match=r"expected status 0x00 .* got 0x80"):
            await read_with(bms_for(), FakeConnection(virtual))

    async def test_an_impossible_03_is_a_protocol_failure(self) -> None:
        impossible = encode_reply(0x03, MOBILEKTRO[4:23] + b"\x65" + MOBILEKTRO[24:-3])
        virtual = battery(answers=answering(ANSWERS | {0x03: impossible}))

        stats = LinkStats()

        with pytest.raises(DecodeError, match="state of charge") as caught:
            await read_with(bms_for(stats), FakeConnection(virtual))

        assert caught.value.reason == FailureReason.PROTOCOL
        assert stats.frame_errors == {FrameError.DECODE: 1}

    async def test_a_request_sent_back_means_pairing(self) -> None:
        virtual = battery(answers=lambda _: bytes.fromhex("dda50300fffd77"))

        with pytest.raises(AuthError, match="pairing"):
            await read_with(bms_for(), FakeConnection(virtual))


class TestWhatAPollDoesNotNeed:
    @pytest.mark.parametrize(
        ("register", "kept"),
        [
            pytest.param(0x04, (True, False, True), id="cells"),
            pytest.param(0xAA, (True, True, False), id="event counters"),
            pytest.param(0x05, (True, True, True), id="hardware name"),
        ],
    )
    @pytest.mark.parametrize(
        "answer",
        [
            pytest.param(lambda register: encode_reply(register, status=0x80), id="error status"),
            pytest.param(lambda _: b"\x00", id="silence"),
            pytest.param(lambda register: encode_reply(register, b"\xff\xff\xff"), id="nonsense"),
        ],
    )
    async def test_unanswered_register_does_not_fail_the_poll(
        self, register: int, kept: tuple[bool, bool, bool], answer: Callable[[int], bytes]
    ) -> None:
        virtual = battery(answers=answering(ANSWERS | {register: answer(register)}))

        reading = await read_with(bms_for(), FakeConnection(virtual))

        assert payloads(reading) == kept

    @pytest.mark.parametrize(
        ("register", "payload"), [(0x04, b"\x0c\xe4\x0c"), (0x05, b"\xff"), (0xAA, bytes(3))]
    )
    async def test_undecodable_reply_is_counted(self, register: int, payload: bytes) -> None:
        stats = LinkStats()
        answer = encode_reply(register, payload)
        virtual = battery(answers=answering(ANSWERS | {register: answer}))

        await read_with(bms_for(stats), FakeConnection(virtual))

        assert stats.frame_errors == {FrameError.DECODE: 1}

    @pytest.mark.parametrize(("register", "wait_s"), [(0x04, 5.0), (0xAA, 1.0), (0x05, 1.0)])
    async def test_silence_costs(self, register: int, wait_s: float) -> None:
        healthy = battery(faults=Faults(reply_s=0.0))
        await read_with(bms_for(), FakeConnection(healthy))
        healthy_s = now_s()
        virtual = battery(
            answers=answering(ANSWERS | {register: b"\x00"}), faults=Faults(reply_s=0.0)
        )

        await read_with(bms_for(), FakeConnection(virtual))

        assert now_s() - 2 * healthy_s == pytest.approx(wait_s, abs=0.05)

    async def test_a_link_lost_after_03_keeps_the_reading_and_is_counted(self) -> None:
        stats = LinkStats()
        virtual = battery(faults=Faults(reply_s=0.1))
        connection = FakeConnection(virtual)
        asyncio.get_running_loop().call_later(0.15, partial(cut_link, connection))

        reading = await read_with(bms_for(stats), connection)

        assert payloads(reading) == (True, False, False)
        assert stats.connection_failures == {FailureReason.LINK_LOST: 1}

    async def test_each_loss_and_each_discarded_byte_is_counted(self) -> None:
        stats = LinkStats()
        bms = bms_for(stats, cells=False)
        for _ in range(2):
            connection = FakeConnection(battery(faults=Faults(reply_s=0.1, stray=b"\x00" * 5)))
            cut = partial(cut_link, connection)
            asyncio.get_running_loop().call_later(0.15, cut)
            await read_with(bms, connection)

        assert stats.connection_failures == {FailureReason.LINK_LOST: 2}
        assert stats.discarded_bytes == 10

    async def test_running_out_of_time_after_03_keeps_the_reading(self) -> None:
        virtual = battery(answers=answering(ANSWERS | {0x04: b"\x00"}))

        reading = await read_with(bms_for(), FakeConnection(virtual), within_s=3.0)

        assert payloads(reading) == (True, False, False)
        assert now_s() == pytest.approx(3.0)

    async def test_running_out_of_time_before_03_is_a_time_out(self) -> None:
        connection = FakeConnection(battery(faults=Faults(silent=True)))

        with pytest.raises(ReplyTimeoutError, match=r"poll\.timeout"):
            await read_with(bms_for(), connection, within_s=3.0)

        assert now_s() == pytest.approx(3.0)


class TestMemory:
    async def test_03_and_04_every_poll_05_once_aa_every_tenth(self) -> None:
        virtual = battery()
        bms = bms_for()

        for _ in range(21):
            await read_with(bms, FakeConnection(virtual))

        counts = {register: virtual.requests.count(register) for register in ANSWERS}
        assert counts == {0x03: 21, 0x04: 21, 0x05: 1, 0xAA: 3}

    async def test_the_event_counters_stay_in_between(self) -> None:
        virtual = battery()
        bms = bms_for()
        first = await read_with(bms, FakeConnection(virtual))

        second = await read_with(bms, FakeConnection(virtual))

        assert first.counters is second.counters is not None

    async def test_the_event_counters_are_never_older_than_ten_minutes(self) -> None:
        virtual = battery()
        bms = bms_for()
        for _ in range(3):
            await read_with(bms, FakeConnection(virtual))
            await asyncio.sleep(600.0)

        assert virtual.requests.count(0xAA) == 3

    @pytest.mark.parametrize("register", [0x04, 0x05, 0xAA])
    async def test_silent_register_is_requested_again_in_the_next_poll(self, register: int) -> None:
        virtual = battery(answers=answering(ANSWERS | {register: SILENCE}))
        bms = bms_for()
        first = await read_with(bms, FakeConnection(virtual))
        virtual.answers = answering(ANSWERS)

        second = await read_with(bms, FakeConnection(virtual))

        assert answered(first) == {0x04, 0x05, 0xAA} - {register}
        assert answered(second) == {0x04, 0x05, 0xAA}

    @pytest.mark.parametrize(
        ("register", "waits"), [(0x04, 3 * 5.0), (0xAA, 3 * 1.0), (0x05, 3 * 1.0)]
    )
    async def test_register_that_is_silent_three_times_is_left_out(
        self, register: int, waits: float
    ) -> None:
        virtual = battery(
            answers=answering(ANSWERS | {register: SILENCE}), faults=Faults(reply_s=0.05)
        )
        bms = bms_for()
        for _ in range(9):
            await read_with(bms, FakeConnection(virtual))

        assert waits < now_s() < waits + 1.5

    @pytest.mark.parametrize("register", [0x04, 0xAA])
    async def test_register_that_stays_silent_is_tried_once_an_hour(self, register: int) -> None:
        silent = answering(ANSWERS | {register: SILENCE})
        virtual = battery(answers=silent)
        bms = bms_for()
        for _ in range(3):
            await read_with(bms, FakeConnection(virtual))
        await asyncio.sleep(3600.0)
        await read_with(bms, FakeConnection(virtual))  # a fourth silence
        virtual.answers = answering(ANSWERS)
        within_the_hour = await read_with(bms, FakeConnection(virtual))
        await asyncio.sleep(3600.0)

        after_it = await read_with(bms, FakeConnection(virtual))

        assert register not in answered(within_the_hour)
        assert register in answered(after_it)

    @pytest.mark.parametrize("register", [0x04, 0xAA])
    async def test_silences_count_only_in_a_row(self, register: int) -> None:
        usual, silent = answering(ANSWERS), answering(ANSWERS | {register: SILENCE})
        virtual = battery()
        bms = bms_for()
        for answers in (silent, silent, usual, silent, silent, usual):
            virtual.answers = answers
            reading = await read_with(bms, FakeConnection(virtual))
            await asyncio.sleep(600.0)  # so that every poll requests the counters

        assert register in answered(reading)

    @pytest.mark.parametrize("register", [0x04, 0xAA])
    async def test_refused_register_is_requested_again_after_an_hour(self, register: int) -> None:
        refusal = encode_reply(register, status=0x80)
        virtual = battery(answers=answering(ANSWERS | {register: refusal}))
        bms = bms_for()
        for _ in range(30):
            await read_with(bms, FakeConnection(virtual))
        asked_within_the_hour = virtual.requests.count(register)
        virtual.answers = answering(ANSWERS)
        await asyncio.sleep(3600)

        reading = await read_with(bms, FakeConnection(virtual))

        assert asked_within_the_hour == 1
        assert register in answered(reading)

    async def test_left_out_cells_are_not_requested_early(self) -> None:
        virtual = battery(answers=answering(ANSWERS | {0x04: encode_reply(0x04, status=0x80)}))
        bms = bms_for(hardware=False, counters=False)
        for _ in range(2):
            connection = FakeConnection(virtual)
            connection.takes_early = True
            await read_with(bms, connection)

        assert virtual.requests == [0x04, 0x03, 0x03, 0x03]

    async def test_register_that_ends_the_link_is_left_out_after_three_polls(self) -> None:
        virtual = battery()

        def ends_the_link(register: int) -> bytes:
            if register == 0xAA:
                raise LinkLostError("the connection ended")
            return ANSWERS[register]

        virtual.answers = ends_the_link
        bms = bms_for()
        readings = [await read_with(bms, FakeConnection(virtual)) for _ in range(4)]

        assert virtual.requests.count(0xAA) == 3
        assert [answered(reading) for reading in readings] == [{0x04}, {0x04}, {0x04}, {0x04, 0x05}]

    async def test_cells_are_requested_again_however_often_the_link_ends(self) -> None:
        virtual = battery()

        def ends_the_link(register: int) -> bytes:
            if register == 0x04:
                raise LinkLostError("the connection ended")
            return ANSWERS[register]

        virtual.answers = ends_the_link
        bms = bms_for()
        for _ in range(5):
            await read_with(bms, FakeConnection(virtual))
        virtual.answers = answering(ANSWERS)

        assert 0x04 in answered(await read_with(bms, FakeConnection(virtual)))

    async def test_counters_stay_while_they_are_young_though_0xaa_is_lost(self) -> None:
        virtual = battery()
        bms = bms_for()
        first = await read_with(bms, FakeConnection(virtual))
        virtual.answers = answering(ANSWERS | {0xAA: SILENCE})
        kept = []
        for _ in range(12):
            await asyncio.sleep(54.0)
            kept.append((await read_with(bms, FakeConnection(virtual))).counters)

        assert kept[:10] == [first.counters] * 10
        assert kept[11] is None

    async def test_counters_vanish_when_the_link_is_lost_at_every_question_for_them(self) -> None:
        virtual = battery()
        bms = bms_for()
        first = await read_with(bms, FakeConnection(virtual))
        usual = virtual.answers

        def lost(register: int) -> bytes:
            if register == 0xAA:
                raise LinkLostError("the connection ended")
            return usual(register)

        virtual.answers = lost
        await asyncio.sleep(900.0)
        second = await read_with(bms, FakeConnection(virtual))
        virtual.answers = usual
        await asyncio.sleep(3600.0)
        third = await read_with(bms, FakeConnection(virtual))

        assert first.counters is not None
        assert second.counters is None
        assert third.counters is not None

    @pytest.mark.parametrize(
        ("answer", "polls"),
        [
            pytest.param(encode_reply(0x05, status=0x80), 1, id="refusal"),
            pytest.param(b"\x00", 3, id="three silences"),
            pytest.param(encode_reply(0x05, b"\xff"), 3, id="three undecodable answers"),
        ],
    )
    async def test_identity_does_not_change_once_0x05_was_given_up(
        self, answer: bytes, polls: int
    ) -> None:
        virtual = battery(answers=answering(ANSWERS | {0x05: answer}))
        bms = bms_for()
        before = [(await read_with(bms, FakeConnection(virtual))).identity for _ in range(polls)]
        virtual.answers = answering(ANSWERS)
        await asyncio.sleep(3600.0)

        reading = await read_with(bms, FakeConnection(virtual))

        assert before[:-1] == [None] * (polls - 1)
        assert before[-1] == reading.identity is not None
        assert reading.identity.hardware == ""
        assert virtual.requests.count(0x05) >= polls

    async def test_05_is_asked_again_when_the_link_was_lost_before_its_answer(self) -> None:
        virtual = battery(faults=Faults(reply_s=0.1))
        bms = bms_for(cells=False)
        connection = FakeConnection(virtual)
        asyncio.get_running_loop().call_later(0.25, partial(cut_link, connection))
        first = await read_with(bms, connection)

        second = await read_with(bms, FakeConnection(virtual))

        assert first.identity is None
        assert second.identity is not None


class TestProfiles:
    async def test_the_next_profile_is_tried_when_the_first_stays_silent(self) -> None:
        connection = FakeConnection(battery(), profiles=("ff00", "nus"), silent=("ff00",))

        reading = await read_with(bms_for(), connection)

        assert reading.identity is not None
        assert reading.identity.profile == "nus"
        assert now_s() == pytest.approx(5.0, abs=1.0)

    async def test_the_one_that_answered_is_tried_first_the_next_time(self) -> None:
        bms = bms_for()
        await read_with(bms, FakeConnection(battery(), profiles=("ff00", "nus"), silent=("ff00",)))

        second = FakeConnection(battery(), profiles=("ff00", "nus"), silent=("ff00",))
        await read_with(bms, second)

        assert list(second.links) == ["nus"]

    async def test_silence_on_all_of_them_is_a_time_out(self) -> None:
        connection = FakeConnection(battery(), profiles=("ff00", "nus"), silent=("ff00", "nus"))

        with pytest.raises(ReplyTimeoutError, match="no reply"):
            await read_with(bms_for(), connection)

        assert list(connection.links) == ["ff00", "nus"]

    async def test_damage_does_not_make_another_profile_be_tried(self) -> None:
        connection = FakeConnection(
            battery(faults=Faults(bad_checksum=True)), profiles=("ff00", "nus")
        )

        with pytest.raises(ProtocolError):
            await read_with(bms_for(), connection)

        assert list(connection.links) == ["ff00"]


def foreign(answer: bytes, **faults: Any) -> VirtualBattery:
    """Return a battery that answers everything with `answer`."""
    return battery(answers=lambda _: answer, faults=Faults(**faults))


class TestAnotherProtocol:
    @pytest.mark.parametrize("takes_early", [True, False])
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
    async def test_another_protocol_is_reported_with_its_bytes(
        self, answer: bytes, *, takes_early: bool
    ) -> None:
        connection = FakeConnection(foreign(answer))
        connection.takes_early = takes_early

        with pytest.raises(AnotherProtocolError) as caught:
            await read_with(bms_for(), connection)

        shown = (answer * 3)[:16].hex()
        assert str(caught.value) == (
            f"it answers, but not in the JBD protocol: {shown}...; check the address, "
            "or try another profile"
        )
        assert caught.value.reason is FailureReason.PROTOCOL

    async def test_one_answer_in_another_protocol_is_reported(self) -> None:
        (answer,) = FIELD_REPORTS["foreign-3"]
        virtual = battery(faults=Faults(stray=answer, silent=True))

        with pytest.raises(AnotherProtocolError, match="protocol: 7b0221100cd3; check"):
            await read_with(bms_for(), FakeConnection(virtual))

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
    async def test_noise_of_a_silent_battery_is_silence(self, stray: bytes) -> None:
        connection = FakeConnection(battery(faults=Faults(stray=stray, silent=True)))

        with pytest.raises(ReplyTimeoutError, match="in 5 s"):
            await read_with(bms_for(), connection)

    async def test_strange_bytes_beside_replies_are_noise(self) -> None:
        reading = await read(Faults(stray=bytes.fromhex("02510003a1b2c3d4")))

        assert payloads(reading) == (True, True, True)

    async def test_damaged_frames_are_not_reported_as_another_protocol(self) -> None:
        with pytest.raises(ProtocolError, match=r"no valid reply in 5 s: .* wrong checksum"):
            await read(Faults(stray=bytes.fromhex("7b0221100cd3"), bad_checksum=True))

    async def test_another_protocol_is_reported_when_the_poll_times_out(self) -> None:
        connection = FakeConnection(foreign(bytes.fromhex("7b0221100cd3")))

        with pytest.raises(AnotherProtocolError):
            await read_with(bms_for(), connection, within_s=1.0)

    async def test_next_profile_is_tried_after_another_protocol(self) -> None:
        class Connection(FakeConnection):
            async def open(self, profile: str, early: bytes) -> FakeLink:
                link = await FakeConnection.open(self, profile, early)
                if profile == "ff00":
                    link.battery = foreign(bytes.fromhex("7b0221100cd3"))
                return link

        reading = await read_with(bms_for(), Connection(battery(), profiles=("ff00", "nus")))

        assert reading.identity is not None
        assert reading.identity.profile == "nus"

    async def test_silence_of_the_next_profile_does_not_hide_another_protocol(self) -> None:
        connection = FakeConnection(
            foreign(bytes.fromhex("7b0221100cd3")), profiles=("ff00", "nus"), silent=("nus",)
        )

        with pytest.raises(AnotherProtocolError):
            await read_with(bms_for(), connection)

        assert list(connection.links) == ["ff00", "nus"]


class FakeModule(FakeLink):
    """A battery behind a module that wants a password first."""

    replies: dict[bytes, bytes]

    async def write(self, data: bytes) -> None:
        if data[:2] == b"\xff\xaa":
            self.written.append((now_s(), data))
            if answer := self.replies.get(data):
                self.notifications.put_nowait(answer)
        elif any(sent[2:3] == b"\x18" for _, sent in self.written):
            await FakeLink.write(self, data)


class TestPassword:
    # Recorded: mac 10:a5:62:32:75:36, password 123456, random 0x24.
    MAC = bytes.fromhex("10a562327536")
    EXCHANGE = {  # noqa: RUF012 - never changed
        bytes.fromhex("ffaa15063030303030303b"): bytes.fromhex("ffaa15010016"),
        bytes.fromhex("ffaa170017"): bytes.fromhex("ffaa1701243c"),
        bytes.fromhex("ffaa180645bb752a642445"): bytes.fromhex("ffaa18010019"),
    }

    def connection(self, replies: dict[bytes, bytes]) -> tuple[FakeConnection, FakeModule]:
        module = FakeModule(battery())
        module.replies = replies

        class Connection(FakeConnection):
            async def open(self, profile: str, early: bytes) -> FakeLink:
                return module

        return Connection(module.battery), module

    async def test_it_is_proved_before_anything_is_asked(self) -> None:
        connection, module = self.connection(self.EXCHANGE)

        reading = await read_with(bms_for(mac=self.MAC, password=b"123456"), connection)

        assert reading.basic is not None
        assert [data[:3].hex() for _, data in module.written[:4]] == [
            "ffaa15",
            "ffaa17",
            "ffaa18",
            "dda503",
        ]

    async def test_a_wrong_one_is_a_failure_of_its_own(self) -> None:
        last = bytes.fromhex("ffaa180645bb752a642445")
        connection, _ = self.connection(self.EXCHANGE | {last: bytes.fromhex("ffaa1801011a")})

        with pytest.raises(AuthError, match="rejected the password"):
            await read_with(bms_for(mac=self.MAC, password=b"123456"), connection)

    async def test_a_battery_that_does_not_know_the_exchange_is_a_time_out(self) -> None:
        connection, module = self.connection({})

        with pytest.raises(ReplyTimeoutError, match="password_file"):
            await read_with(bms_for(mac=self.MAC, password=b"123456"), connection)

        assert len(module.written) == 13  # at 0, 0.4 ... 4.8 s


class TestWakingEarly:
    """One request is written before anybody listens: the first after a connect is often lost."""

    def connection(self, **faults: Any) -> tuple[FakeConnection, VirtualBattery]:
        virtual = battery(faults=Faults(**faults))
        connection = FakeConnection(virtual)
        connection.takes_early = True
        return connection, virtual

    async def test_if_it_is_lost_nothing_else_is(self) -> None:
        stats = LinkStats()
        connection, virtual = self.connection(lose_first=1)

        reading = await read_with(bms_for(stats), connection)

        assert payloads(reading) == (True, True, True)
        assert virtual.requests[:3] == [0x04, 0x03, 0x04]
        assert stats.resends == 0

    async def test_if_it_is_heard_its_answer_is_used(self) -> None:
        connection, virtual = self.connection()

        reading = await read_with(bms_for(), connection)

        assert reading.cell_voltages_v == (3.394, 3.388, 3.392, 3.386)
        assert virtual.requests[:3] == [0x04, 0x03, 0xAA]

    async def test_without_cells_it_asks_what_is_needed_anyway(self) -> None:
        connection, virtual = self.connection()

        await read_with(bms_for(cells=False), connection)

        assert virtual.requests == [0x03, 0x03, 0xAA, 0x05]

    async def test_with_a_password_nothing_is_asked_before_it(self) -> None:
        connection, virtual = self.connection()

        with pytest.raises(ReplyTimeoutError):
            await read_with(bms_for(password=b"123456"), connection)

        assert virtual.requests == []

    async def test_a_slow_battery_has_time_for_both(self) -> None:
        stats = LinkStats()
        connection, _ = self.connection(reply_s=0.35)

        reading = await read_with(bms_for(stats, cells=True), connection)

        assert reading.cell_voltages_v is not None
        assert stats.resends == 0

    async def test_a_battery_that_takes_one_at_a_time_is_overtaxed_only_once(self) -> None:
        stats = LinkStats()
        bms = bms_for(stats)
        for _ in range(3):
            connection, _ = self.connection(one_at_a_time=True)

            reading = await read_with(bms, connection)

            assert reading.cell_voltages_v == (3.394, 3.388, 3.392, 3.386)
        assert stats.resends == 1
        assert stats.frame_errors == {}

    async def test_busy_battery_without_cells_costs_one_resend_in_all(self) -> None:
        class Connection(FakeConnection):
            async def open(self, profile: str, early: bytes) -> FakeLink:
                link = await FakeConnection.open(self, profile, early)
                await asyncio.sleep(0.05)
                return link

        stats = LinkStats()
        bms = bms_for(stats, cells=False)
        for _ in range(3):
            connection = Connection(battery(faults=Faults(one_at_a_time=True)))
            connection.takes_early = True

            reading = await read_with(bms, connection)

            assert reading.basic is not None
        assert stats.resends == 1

    async def test_an_answer_with_a_damaged_register_is_nobody_else_s(self) -> None:
        """The register is not covered by the checksum: 0x03 damaged to 0x04 is a valid frame."""
        damaged = bytes([MOBILEKTRO[0], 0x04]) + MOBILEKTRO[2:]
        answers = iter([damaged, MOBILEKTRO, CELLS])
        connection, virtual = self.connection(lose_first=1)
        virtual.answers = lambda _: next(answers)

        bms = bms_for(hardware=False, counters=False)
        reading = await read_with(bms, connection)

        assert reading.basic is not None
        assert reading.basic.remaining_ah == 203.54
        assert reading.cell_voltages_v == (3.394, 3.388, 3.392, 3.386)

    async def test_two_answers_to_it_are_one_too_many_to_be_trusted(self) -> None:
        damaged = bytes([MOBILEKTRO[0], 0x04]) + MOBILEKTRO[2:]
        connection, virtual = self.connection()
        answers = iter([damaged, CELLS, MOBILEKTRO, CELLS])
        virtual.answers = lambda _: next(answers)
        connection_open = connection.open

        async def twice(profile: str, early: bytes) -> FakeLink:
            link = await connection_open(profile, early)
            await link.write(early)
            return link

        connection.open = twice  # type: ignore[method-assign]
        bms = bms_for(hardware=False, counters=False)

        reading = await read_with(bms, connection)

        assert reading.cell_voltages_v == (3.394, 3.388, 3.392, 3.386)
        assert virtual.requests == [0x04, 0x04, 0x03, 0x04]


OLD_BASIC = encode_reply(0x03, MOBILEKTRO[4:8] + b"\x00\x7b" + MOBILEKTRO[10:-3])  # 1.23 Ah
OLD_CELLS = encode_reply(0x04, bytes.fromhex("0b000b000b000b00"))
OLD_HARDWARE = encode_reply(0x05, b"ANOTHER")
OLD_COUNTERS = encode_reply(0xAA, b"\x00\x09" * 12)
DAMAGED = OLD_BASIC[:10] + b"\xff" + OLD_BASIC[11:]


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
    async def test_leftover_is_dropped_and_counted(
        self, leftover: bytes, leftover_s: float, lose_first: int, *, takes_early: bool, cells: bool
    ) -> None:
        stats = LinkStats()
        faults = Faults(leftover=leftover, leftover_s=leftover_s, lose_first=lose_first)
        connection = FakeConnection(battery(faults=faults))
        connection.takes_early = takes_early

        reading = await read_with(bms_for(stats, cells=cells), connection)

        assert reading.basic is not None
        assert reading.basic.remaining_ah == 203.54
        assert reading.cell_voltages_v == ((3.394, 3.388, 3.392, 3.386) if cells else None)
        assert reading.identity is not None
        assert reading.identity.hardware == "JBD-SP04S034-L4S-200A-B-U"
        assert reading.counters is not None
        assert reading.counters.restarts == 1
        assert stats.discarded_bytes >= len(leftover)
        assert stats.frame_errors == {}

    @pytest.mark.parametrize("register", [0x03, 0x04])
    async def test_leftover_whose_end_comes_after_the_request_is_dropped(
        self, register: int
    ) -> None:
        old = {0x03: OLD_BASIC, 0x04: OLD_CELLS}[register]
        connection = FakeConnection(battery(faults=Faults(leftover=old[:10], silent=True)))
        connection.takes_early = True
        loop = asyncio.get_running_loop()
        loop.call_later(0.2, lambda: connection.links["ff00"].notifications.put_nowait(old[10:]))

        with pytest.raises(ReplyTimeoutError, match="no reply in 5 s"):
            await read_with(bms_for(), connection)

    async def test_leftover_of_a_silent_battery_is_no_reading(self) -> None:
        stats = LinkStats()
        connection = FakeConnection(battery(faults=Faults(leftover=OLD_BASIC, silent=True)))

        with pytest.raises(ReplyTimeoutError, match="no reply in 5 s"):
            await read_with(bms_for(stats), connection)

        assert stats.frame_errors == {}
        assert stats.discarded_bytes == len(OLD_BASIC)

    @pytest.mark.parametrize(("cells", "leftover"), [(True, OLD_CELLS), (False, OLD_BASIC)])
    async def test_leftover_that_comes_before_the_request_is_dropped_though_it_was_early(
        self, leftover: bytes, *, cells: bool
    ) -> None:
        class Connection(FakeConnection):
            async def open(self, profile: str, early: bytes) -> FakeLink:
                link = await FakeConnection.open(self, profile, early)
                await asyncio.sleep(0.05)  # the subscription
                return link

        connection = Connection(battery(faults=Faults(leftover=leftover, lose_first=1)))
        connection.takes_early = True

        reading = await read_with(bms_for(cells=cells), connection)

        assert reading.basic is not None
        assert reading.basic.remaining_ah == 203.54
        assert reading.cell_voltages_v == ((3.394, 3.388, 3.392, 3.386) if cells else None)

    async def test_leftover_that_comes_while_the_request_is_written_is_dropped(self) -> None:
        class SlowLink(FakeLink):
            async def write(self, data: bytes) -> None:
                if not self.written:
                    self.notifications.put_nowait((now_s() + 0.01, OLD_BASIC))
                await asyncio.sleep(0.5)
                await FakeLink.write(self, data)

        link = SlowLink(battery())

        class Connection(FakeConnection):
            async def open(self, profile: str, early: bytes) -> FakeLink:
                return link

        reading = await read_with(bms_for(), Connection(link.battery))

        assert reading.basic is not None
        assert reading.basic.remaining_ah == 203.54

    async def test_leftover_that_comes_late_is_noticed_by_the_second_reply(self) -> None:
        virtual = battery(faults=Faults(leftover=OLD_BASIC, leftover_s=0.06))

        reading = await read_with(bms_for(hardware=False), FakeConnection(virtual))

        assert reading.basic is not None
        assert reading.basic.remaining_ah == 203.54
        assert virtual.requests == [0x03, 0x04, 0xAA, 0x03]

    async def test_last_of_several_replies_in_one_notification_is_used(self) -> None:
        both = OLD_BASIC + MOBILEKTRO
        virtual = battery(answers=answering(ANSWERS | {0x03: both}), faults=Faults(notification=0))

        reading = await read_with(bms_for(), FakeConnection(virtual))

        assert reading.basic is not None
        assert reading.basic.remaining_ah == 203.54

    async def test_reading_fails_when_a_noticed_leftover_cannot_be_replaced(self) -> None:
        virtual = battery(faults=Faults(leftover=OLD_BASIC, leftover_s=0.06))
        virtual.answers = answering(ANSWERS | {0xAA: b"\x00"})

        with pytest.raises(ReplyTimeoutError, match=r"poll\.timeout"):
            await read_with(bms_for(), FakeConnection(virtual), within_s=0.5)

    async def test_reply_faster_than_the_serial_line_is_believed_after_a_resend(self) -> None:
        stats = LinkStats()
        virtual = battery(faults=Faults(reply_s=0.001))

        reading = await read_with(bms_for(stats), FakeConnection(virtual))

        assert payloads(reading) == (True, True, True)
        assert virtual.requests == [0x03, 0x03, 0x04, 0xAA, 0x05]
        assert stats.frame_errors == {}

    async def test_early_request_that_was_not_written_cannot_be_answered(self) -> None:
        virtual = battery(faults=Faults(leftover=OLD_CELLS, leftover_s=0.05))

        reading = await read_with(bms_for(), FakeConnection(virtual))  # it takes none early

        assert reading.cell_voltages_v == (3.394, 3.388, 3.392, 3.386)
        assert virtual.requests == [0x03, 0x04, 0xAA, 0x05]

    async def test_password_exchange_is_not_answered_by_a_leftover(self) -> None:
        stats = LinkStats()
        rejected = bytes.fromhex("ffaa15010117")
        module = FakeModule(battery())
        module.replies = TestPassword.EXCHANGE

        class Connection(FakeConnection):
            async def open(self, profile: str, early: bytes) -> FakeLink:
                module.notifications.put_nowait((now_s() - 0.01, rejected))
                return module

        reading = await read_with(
            bms_for(stats, mac=TestPassword.MAC, password=b"123456"), Connection(module.battery)
        )

        assert reading.basic is not None
        assert stats.discarded_bytes == len(rejected)


class TestAge:
    async def test_reading_is_as_old_as_its_first_request(self) -> None:
        """A suspended machine: the clock goes on, the loop's does not."""
        asleep_s = 0.0
        connection = FakeConnection(battery())

        def clock() -> float:
            return now_s() + asleep_s

        def fall_asleep() -> None:
            nonlocal asleep_s
            asleep_s = 8 * 3600.0

        bms = Bms(stats=LinkStats(), clock=clock)
        asyncio.get_running_loop().call_later(0.04, fall_asleep)  # between request and reply

        reading = await read_with(bms, connection)

        assert reading.requested_at_s == 0.0

    @pytest.mark.parametrize(("takes_early", "requested_at_s"), [(True, 0.0), (False, 0.7)])
    async def test_age_counts_from_the_early_request(
        self, *, takes_early: bool, requested_at_s: float
    ) -> None:
        connection = FakeConnection(battery())
        connection.takes_early = takes_early
        connection_open = connection.open

        async def slowly(profile: str, early: bytes) -> FakeLink:
            link = await connection_open(profile, early)
            await asyncio.sleep(0.7)
            return link

        connection.open = slowly  # type: ignore[method-assign]

        reading = await read_with(bms_for(), connection)

        assert reading.requested_at_s == requested_at_s
