"""The session: which registers a poll requests, and what a missing answer costs."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from exporter.battery.session import Session
from exporter.config.schema import BatteryConfig, Name, normal_address
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

# Recorded with password 123456 and random 0x24; the address is part of what is encrypted.
ADDRESS = normal_address("10:A5:62:32:75:36")


def make_session(
    stats: LinkStats | None = None, clock: Callable[[], float] = now_s, **options: Any
) -> Session:
    config = BatteryConfig(name=Name("camper"), address=ADDRESS, **options)
    return Session(config, stats=stats or LinkStats(), clock=clock)


async def read_with(
    session: Session, connection: FakeConnection, *, within_s: float = 60.0
) -> Reading:
    return await session.read(connection, deadline_s=now_s() + within_s)


async def read(faults: Faults, stats: LinkStats | None = None) -> Reading:
    return await read_with(make_session(stats), FakeConnection(battery(faults=faults)))


def cut_link(connection: FakeConnection) -> None:
    connection.links["ff00"].notifications.put_nowait(None)


def payloads(reading: Reading) -> tuple[bool, bool, bool]:
    """Return whether 0x03, 0x04 and 0xAA are in the reading."""
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
    async def test_healthy_battery_answers_every_register(self) -> None:
        virtual = battery()

        reading = await read_with(make_session(), FakeConnection(virtual))

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
        session = make_session(**options)

        for _ in range(12):
            connection = FakeConnection(virtual)
            connection.takes_early = takes_early
            reading = await read_with(session, connection)

        assert set(virtual.requests) == {0x03, 0x04, 0x05, 0xAA} - {register}
        assert payloads(reading) == present

    async def test_identity_without_the_hardware_name_is_known_at_once(self) -> None:
        reading = await read_with(make_session(hardware=False), FakeConnection(battery()))

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

        reading = await read_with(make_session(stats), FakeConnection(virtual))

        assert reading.cell_voltages_v == (
            3.3, 3.301, 3.302, 3.303, 3.304, 3.305, 3.306, 3.307, cell_9_v, cell_10_v,
            3.31, 3.311, 3.312,
        )  # fmt: skip
        assert stats.frame_errors == {}

    async def test_tap_at_0_mv_beyond_the_count_is_no_cell(self) -> None:
        cells = encode_reply(0x04, CELLS[4:-3] + bytes(4))
        virtual = battery(answers=answering(ANSWERS | {0x04: cells}))

        reading = await read_with(make_session(), FakeConnection(virtual))

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
    async def test_reply_is_read_however_it_is_delivered(self, faults: Faults) -> None:
        reading = await read(faults)

        assert reading.basic is not None
        assert reading.basic.remaining_ah == 203.54
        assert payloads(reading) == (True, True, faults.reply_s < 1 and faults.gap_s < 1)


class TestWithoutReading:
    @pytest.mark.parametrize(
        ("faults", "error", "message"),
        [
            pytest.param(Faults(silent=True), ReplyTimeoutError, "no reply in 5 s", id="silence"),
            pytest.param(Faults(bad_checksum=True), ProtocolError, "checksum", id="damage"),
            pytest.param(Faults(cut=True), LinkLostError, "ended in mid-poll", id="lost link"),
        ],
    )
    async def test_poll_without_a_valid_0x03_fails(
        self, faults: Faults, error: type[Exception], message: str
    ) -> None:
        with pytest.raises(error, match=message):
            await read(faults)

    async def test_lost_requests_are_resent_every_400_ms_until_5_s_are_over(self) -> None:
        stats = LinkStats()
        connection = FakeConnection(battery(faults=Faults(silent=True)))

        with pytest.raises(ReplyTimeoutError):
            await read_with(make_session(stats), connection)

        times = [at_s for at_s, _ in connection.links["ff00"].written]
        assert times == pytest.approx([0.4 * n for n in range(13)])
        assert now_s() == pytest.approx(5.0)
        assert (stats.requests, stats.resends) == (1, 12)

    async def test_write_that_never_ends_is_given_up_after_5_s(self) -> None:
        class StalledLink(FakeLink):
            async def write(self, data: bytes) -> None:
                await asyncio.sleep(1e9)

        class Connection(FakeConnection):
            async def open(self, profile: str, early: bytes, **_options: Any) -> FakeLink:
                return StalledLink(battery())

        with pytest.raises(ReplyTimeoutError, match="no reply in 5 s"):
            await read_with(make_session(), Connection(battery()))

        assert now_s() == pytest.approx(5.0)

    async def test_refused_0x03_is_a_device_error(self) -> None:
        virtual = battery(answers=answering({}))

        with pytest.raises(DeviceError, match=r"expected status 0x00 .* got 0x80"):
            await read_with(make_session(), FakeConnection(virtual))

    async def test_impossible_0x03_is_a_decode_error(self) -> None:
        impossible = encode_reply(0x03, MOBILEKTRO[4:23] + b"\x65" + MOBILEKTRO[24:-3])
        virtual = battery(answers=answering(ANSWERS | {0x03: impossible}))

        stats = LinkStats()

        with pytest.raises(DecodeError, match="state of charge") as caught:
            await read_with(make_session(stats), FakeConnection(virtual))

        assert caught.value.reason == FailureReason.PROTOCOL
        assert stats.frame_errors == {FrameError.DECODE: 1}


class TestOptionalRegisters:
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

        reading = await read_with(make_session(), FakeConnection(virtual))

        assert payloads(reading) == kept

    @pytest.mark.parametrize(
        ("register", "payload"), [(0x04, b"\x0c\xe4\x0c"), (0x05, b"\xff"), (0xAA, bytes(3))]
    )
    async def test_undecodable_reply_is_counted(self, register: int, payload: bytes) -> None:
        stats = LinkStats()
        answer = encode_reply(register, payload)
        virtual = battery(answers=answering(ANSWERS | {register: answer}))

        await read_with(make_session(stats), FakeConnection(virtual))

        assert stats.frame_errors == {FrameError.DECODE: 1}

    @pytest.mark.parametrize(("register", "wait_s"), [(0x04, 5.0), (0xAA, 1.0), (0x05, 1.0)])
    async def test_silent_optional_register_costs_only_its_own_time(
        self, register: int, wait_s: float
    ) -> None:
        healthy = battery(faults=Faults(reply_s=0.0))
        await read_with(make_session(), FakeConnection(healthy))
        healthy_s = now_s()
        virtual = battery(
            answers=answering(ANSWERS | {register: b"\x00"}), faults=Faults(reply_s=0.0)
        )

        await read_with(make_session(), FakeConnection(virtual))

        assert now_s() - 2 * healthy_s == pytest.approx(wait_s, abs=0.05)

    async def test_link_lost_after_0x03_keeps_the_reading_and_is_counted(self) -> None:
        stats = LinkStats()
        virtual = battery(faults=Faults(reply_s=0.1))
        connection = FakeConnection(virtual)
        asyncio.get_running_loop().call_later(0.15, partial(cut_link, connection))

        reading = await read_with(make_session(stats), connection)

        assert payloads(reading) == (True, False, False)
        assert stats.connection_failures == {FailureReason.LINK_LOST: 1}

    async def test_every_lost_link_and_discarded_byte_is_counted(self) -> None:
        stats = LinkStats()
        session = make_session(stats, cells=False)
        for _ in range(2):
            connection = FakeConnection(battery(faults=Faults(reply_s=0.1, stray=b"\x00" * 5)))
            cut = partial(cut_link, connection)
            asyncio.get_running_loop().call_later(0.15, cut)
            await read_with(session, connection)

        assert stats.connection_failures == {FailureReason.LINK_LOST: 2}
        assert stats.discarded_bytes == 10

    async def test_running_out_of_time_after_0x03_keeps_the_reading(self) -> None:
        virtual = battery(answers=answering(ANSWERS | {0x04: b"\x00"}))

        reading = await read_with(make_session(), FakeConnection(virtual), within_s=3.0)

        assert payloads(reading) == (True, False, False)
        assert now_s() == pytest.approx(3.0)

    async def test_running_out_of_time_before_0x03_is_a_timeout(self) -> None:
        connection = FakeConnection(battery(faults=Faults(silent=True)))

        with pytest.raises(ReplyTimeoutError, match=r"poll\.timeout"):
            await read_with(make_session(), connection, within_s=3.0)

        assert now_s() == pytest.approx(3.0)


class TestKeptBetweenPolls:
    async def test_0x03_and_0x04_are_requested_every_poll_0x05_once_0xaa_every_tenth(self) -> None:
        virtual = battery()
        session = make_session()

        for _ in range(21):
            await read_with(session, FakeConnection(virtual))

        counts = {register: virtual.requests.count(register) for register in ANSWERS}
        assert counts == {0x03: 21, 0x04: 21, 0x05: 1, 0xAA: 3}

    async def test_event_counters_stay_between_their_polls(self) -> None:
        virtual = battery()
        session = make_session()
        first = await read_with(session, FakeConnection(virtual))

        second = await read_with(session, FakeConnection(virtual))

        assert first.counters is second.counters is not None

    async def test_event_counters_are_never_older_than_ten_minutes(self) -> None:
        virtual = battery()
        session = make_session()
        for _ in range(3):
            await read_with(session, FakeConnection(virtual))
            await asyncio.sleep(600.0)

        assert virtual.requests.count(0xAA) == 3

    @pytest.mark.parametrize("register", [0x04, 0x05, 0xAA])
    async def test_silent_register_is_requested_again_in_the_next_poll(self, register: int) -> None:
        virtual = battery(answers=answering(ANSWERS | {register: SILENCE}))
        session = make_session()
        first = await read_with(session, FakeConnection(virtual))
        virtual.answers = answering(ANSWERS)

        second = await read_with(session, FakeConnection(virtual))

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
        session = make_session()
        for _ in range(9):
            await read_with(session, FakeConnection(virtual))

        assert waits < now_s() < waits + 1.5

    @pytest.mark.parametrize("register", [0x04, 0xAA])
    async def test_register_that_stays_silent_is_tried_once_an_hour(self, register: int) -> None:
        silent = answering(ANSWERS | {register: SILENCE})
        virtual = battery(answers=silent)
        session = make_session()
        for _ in range(3):
            await read_with(session, FakeConnection(virtual))
        await asyncio.sleep(3600.0)
        await read_with(session, FakeConnection(virtual))  # a fourth silence
        virtual.answers = answering(ANSWERS)
        within_the_hour = await read_with(session, FakeConnection(virtual))
        await asyncio.sleep(3600.0)

        after_it = await read_with(session, FakeConnection(virtual))

        assert register not in answered(within_the_hour)
        assert register in answered(after_it)

    @pytest.mark.parametrize("register", [0x04, 0xAA])
    async def test_only_silences_in_a_row_leave_a_register_out(self, register: int) -> None:
        usual, silent = answering(ANSWERS), answering(ANSWERS | {register: SILENCE})
        virtual = battery()
        session = make_session()
        for answers in (silent, silent, usual, silent, silent, usual):
            virtual.answers = answers
            reading = await read_with(session, FakeConnection(virtual))
            await asyncio.sleep(600.0)  # so that every poll requests the counters

        assert register in answered(reading)

    @pytest.mark.parametrize("register", [0x04, 0xAA])
    async def test_refused_register_is_requested_again_after_an_hour(self, register: int) -> None:
        refusal = encode_reply(register, status=0x80)
        virtual = battery(answers=answering(ANSWERS | {register: refusal}))
        session = make_session()
        for _ in range(30):
            await read_with(session, FakeConnection(virtual))
        asked_within_the_hour = virtual.requests.count(register)
        virtual.answers = answering(ANSWERS)
        await asyncio.sleep(3600)

        reading = await read_with(session, FakeConnection(virtual))

        assert asked_within_the_hour == 1
        assert register in answered(reading)

    async def test_left_out_cells_are_not_requested_early(self) -> None:
        virtual = battery(answers=answering(ANSWERS | {0x04: encode_reply(0x04, status=0x80)}))
        session = make_session(hardware=False, counters=False)
        for _ in range(2):
            connection = FakeConnection(virtual)
            connection.takes_early = True
            await read_with(session, connection)

        assert virtual.requests == [0x04, 0x03, 0x03, 0x03]

    async def test_register_that_ends_the_link_is_left_out_after_three_polls(self) -> None:
        virtual = battery()

        def ends_the_link(register: int) -> bytes:
            if register == 0xAA:
                raise LinkLostError("the connection ended")
            return ANSWERS[register]

        virtual.answers = ends_the_link
        session = make_session()
        readings = [await read_with(session, FakeConnection(virtual)) for _ in range(4)]

        assert virtual.requests.count(0xAA) == 3
        assert [answered(reading) for reading in readings] == [{0x04}, {0x04}, {0x04}, {0x04, 0x05}]

    async def test_cells_are_requested_again_however_often_the_link_ends(self) -> None:
        virtual = battery()

        def ends_the_link(register: int) -> bytes:
            if register == 0x04:
                raise LinkLostError("the connection ended")
            return ANSWERS[register]

        virtual.answers = ends_the_link
        session = make_session()
        for _ in range(5):
            await read_with(session, FakeConnection(virtual))
        virtual.answers = answering(ANSWERS)

        assert 0x04 in answered(await read_with(session, FakeConnection(virtual)))

    async def test_event_counters_stay_for_ten_minutes_when_0xaa_is_silent(self) -> None:
        virtual = battery()
        session = make_session()
        first = await read_with(session, FakeConnection(virtual))
        virtual.answers = answering(ANSWERS | {0xAA: SILENCE})
        kept = []
        for _ in range(12):
            await asyncio.sleep(54.0)
            kept.append((await read_with(session, FakeConnection(virtual))).counters)

        assert kept[:10] == [first.counters] * 10
        assert kept[11] is None

    async def test_event_counters_vanish_when_every_request_for_them_ends_the_link(self) -> None:
        virtual = battery()
        session = make_session()
        first = await read_with(session, FakeConnection(virtual))
        usual = virtual.answers

        def lost(register: int) -> bytes:
            if register == 0xAA:
                raise LinkLostError("the connection ended")
            return usual(register)

        virtual.answers = lost
        await asyncio.sleep(900.0)
        second = await read_with(session, FakeConnection(virtual))
        virtual.answers = usual
        await asyncio.sleep(3600.0)
        third = await read_with(session, FakeConnection(virtual))

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
        session = make_session()
        before = [
            (await read_with(session, FakeConnection(virtual))).identity for _ in range(polls)
        ]
        virtual.answers = answering(ANSWERS)
        await asyncio.sleep(3600.0)

        reading = await read_with(session, FakeConnection(virtual))

        assert before[:-1] == [None] * (polls - 1)
        assert before[-1] == reading.identity is not None
        assert reading.identity.hardware == ""
        assert virtual.requests.count(0x05) >= polls

    async def test_0x05_is_requested_again_when_the_link_was_lost_before_its_reply(self) -> None:
        virtual = battery(faults=Faults(reply_s=0.1))
        session = make_session(cells=False)
        connection = FakeConnection(virtual)
        asyncio.get_running_loop().call_later(0.25, partial(cut_link, connection))
        first = await read_with(session, connection)

        second = await read_with(session, FakeConnection(virtual))

        assert first.identity is None
        assert second.identity is not None


class TestProfiles:
    async def test_next_profile_is_tried_when_the_first_stays_silent(self) -> None:
        connection = FakeConnection(battery(), profiles=("ff00", "nus"), silent=("ff00",))

        reading = await read_with(make_session(), connection)

        assert reading.identity is not None
        assert reading.identity.profile == "nus"
        assert now_s() == pytest.approx(5.0, abs=1.0)

    async def test_profile_that_answered_is_tried_first_in_the_next_poll(self) -> None:
        session = make_session()
        await read_with(
            session, FakeConnection(battery(), profiles=("ff00", "nus"), silent=("ff00",))
        )

        second = FakeConnection(battery(), profiles=("ff00", "nus"), silent=("ff00",))
        await read_with(session, second)

        assert list(second.links) == ["nus"]

    async def test_silence_on_all_profiles_is_a_timeout(self) -> None:
        connection = FakeConnection(battery(), profiles=("ff00", "nus"), silent=("ff00", "nus"))

        with pytest.raises(ReplyTimeoutError, match="no reply"):
            await read_with(make_session(), connection)

        assert list(connection.links) == ["ff00", "nus"]

    async def test_damaged_replies_do_not_cause_another_profile_to_be_tried(self) -> None:
        connection = FakeConnection(
            battery(faults=Faults(bad_checksum=True)), profiles=("ff00", "nus")
        )

        with pytest.raises(ProtocolError):
            await read_with(make_session(), connection)

        assert list(connection.links) == ["ff00"]


def foreign(answer: bytes, **faults: Any) -> VirtualBattery:
    """Return a battery that answers everything with `answer`."""
    return battery(answers=lambda _: answer, faults=Faults(**faults))


class TestAnotherProtocol:
    async def test_another_protocol_is_reported_when_the_poll_times_out(self) -> None:
        connection = FakeConnection(foreign(bytes.fromhex("7b0221100cd3")))

        with pytest.raises(AnotherProtocolError):
            await read_with(make_session(), connection, within_s=1.0)

    async def test_next_profile_is_tried_after_another_protocol(self) -> None:
        class Connection(FakeConnection):
            async def open(self, profile: str, early: bytes, **_options: Any) -> FakeLink:
                link = await FakeConnection.open(self, profile, early)
                if profile == "ff00":
                    link.battery = foreign(bytes.fromhex("7b0221100cd3"))
                return link

        reading = await read_with(make_session(), Connection(battery(), profiles=("ff00", "nus")))

        assert reading.identity is not None
        assert reading.identity.profile == "nus"

    async def test_silence_of_the_next_profile_does_not_hide_another_protocol(self) -> None:
        connection = FakeConnection(
            foreign(bytes.fromhex("7b0221100cd3")), profiles=("ff00", "nus"), silent=("nus",)
        )

        with pytest.raises(AnotherProtocolError):
            await read_with(make_session(), connection)

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
    EXCHANGE = {  # noqa: RUF012 - never changed
        bytes.fromhex("ffaa15063030303030303b"): bytes.fromhex("ffaa15010016"),
        bytes.fromhex("ffaa170017"): bytes.fromhex("ffaa1701243c"),
        bytes.fromhex("ffaa180645bb752a642445"): bytes.fromhex("ffaa18010019"),
    }

    def connection(self, replies: dict[bytes, bytes]) -> tuple[FakeConnection, FakeModule]:
        module = FakeModule(battery())
        module.replies = replies

        class Connection(FakeConnection):
            async def open(self, profile: str, early: bytes, **_options: Any) -> FakeLink:
                return module

        return Connection(module.battery), module

    async def test_password_is_proved_before_any_register_is_requested(self) -> None:
        connection, module = self.connection(self.EXCHANGE)

        reading = await read_with(make_session(password=b"123456"), connection)

        assert reading.basic is not None
        assert [data[:3].hex() for _, data in module.written[:4]] == [
            "ffaa15",
            "ffaa17",
            "ffaa18",
            "dda503",
        ]

    async def test_refused_password_is_an_auth_error(self) -> None:
        last = bytes.fromhex("ffaa180645bb752a642445")
        connection, _ = self.connection(self.EXCHANGE | {last: bytes.fromhex("ffaa1801011a")})

        with pytest.raises(AuthError, match="rejected the password"):
            await read_with(make_session(password=b"123456"), connection)


class TestEarlyRequest:
    """One request is written before the subscription: the first after a connect is often lost."""

    def connection(self, **faults: Any) -> tuple[FakeConnection, VirtualBattery]:
        virtual = battery(faults=Faults(**faults))
        connection = FakeConnection(virtual)
        connection.takes_early = True
        return connection, virtual

    async def test_lost_early_request_costs_no_resend(self) -> None:
        stats = LinkStats()
        connection, virtual = self.connection(lose_first=1)

        reading = await read_with(make_session(stats), connection)

        assert payloads(reading) == (True, True, True)
        assert virtual.requests[:3] == [0x04, 0x03, 0x04]
        assert stats.resends == 0

    async def test_reply_to_the_early_request_is_used(self) -> None:
        connection, virtual = self.connection()

        reading = await read_with(make_session(), connection)

        assert reading.cell_voltages_v == (3.394, 3.388, 3.392, 3.386)
        assert virtual.requests[:3] == [0x04, 0x03, 0xAA]

    async def test_early_request_without_cells_is_0x03(self) -> None:
        connection, virtual = self.connection()

        await read_with(make_session(cells=False), connection)

        assert virtual.requests == [0x03, 0x03, 0xAA, 0x05]

    async def test_battery_with_a_password_gets_no_early_request(self) -> None:
        connection, virtual = self.connection()

        with pytest.raises(ReplyTimeoutError):
            await read_with(make_session(password=b"123456"), connection)

        assert virtual.requests == []

    async def test_bms_that_drops_early_requests_costs_one_resend_in_all(self) -> None:
        stats = LinkStats()
        session = make_session(stats)
        for _ in range(3):
            connection, _ = self.connection(one_at_a_time=True)

            reading = await read_with(session, connection)

            assert reading.cell_voltages_v == (3.394, 3.388, 3.392, 3.386)
        assert stats.resends == 1
        assert stats.frame_errors == {}

    async def test_bms_that_drops_early_requests_costs_one_resend_without_cells_too(self) -> None:
        class Connection(FakeConnection):
            async def open(self, profile: str, early: bytes, **_options: Any) -> FakeLink:
                link = await FakeConnection.open(self, profile, early)
                await asyncio.sleep(0.05)
                return link

        stats = LinkStats()
        session = make_session(stats, cells=False)
        for _ in range(3):
            connection = Connection(battery(faults=Faults(one_at_a_time=True)))
            connection.takes_early = True

            reading = await read_with(session, connection)

            assert reading.basic is not None
        assert stats.resends == 1


OLD_BASIC = encode_reply(0x03, MOBILEKTRO[4:8] + b"\x00\x7b" + MOBILEKTRO[10:-3])  # 1.23 Ah


class TestLeftovers:
    """At the subscription, the Bluetooth module hands over bytes of an earlier connection."""

    async def test_0x03_is_requested_again_when_a_second_reply_shows_a_leftover(self) -> None:
        virtual = battery(faults=Faults(leftover=OLD_BASIC, leftover_s=0.06))

        reading = await read_with(make_session(hardware=False), FakeConnection(virtual))

        assert reading.basic is not None
        assert reading.basic.remaining_ah == 203.54
        assert virtual.requests == [0x03, 0x04, 0xAA, 0x03]

    async def test_poll_fails_when_a_leftover_cannot_be_replaced_in_time(self) -> None:
        virtual = battery(faults=Faults(leftover=OLD_BASIC, leftover_s=0.06))
        virtual.answers = answering(ANSWERS | {0xAA: b"\x00"})

        with pytest.raises(ReplyTimeoutError, match=r"poll\.timeout"):
            await read_with(make_session(), FakeConnection(virtual), within_s=0.5)


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

        session = make_session(clock=clock)
        asyncio.get_running_loop().call_later(0.04, fall_asleep)  # between request and reply

        reading = await read_with(session, connection)

        assert reading.requested_at_s == 0.0

    @pytest.mark.parametrize(("takes_early", "requested_at_s"), [(True, 0.0), (False, 0.7)])
    async def test_age_counts_from_the_early_request(
        self, *, takes_early: bool, requested_at_s: float
    ) -> None:
        connection = FakeConnection(battery())
        connection.takes_early = takes_early
        connection_open = connection.open

        async def slowly(profile: str, early: bytes, **_options: Any) -> FakeLink:
            link = await connection_open(profile, early)
            await asyncio.sleep(0.7)
            return link

        connection.open = slowly  # type: ignore[method-assign]

        reading = await read_with(make_session(), connection)

        assert reading.requested_at_s == requested_at_s
