"""After silence, requests are written another way, once a poll, and what works is kept."""

import asyncio

import pytest

from exporter.battery.session import Session
from exporter.battery.writing import LONGEST_S, USUAL_AGAIN_S, Way, Writing
from exporter.config.schema import BatteryConfig, Name, normal_address
from exporter.demo.battery import Faults, VirtualBattery
from exporter.errors import BmsError, Cause, LinkLostError, ReplyTimeoutError
from exporter.link_stats import LinkStats
from tests.support.virtual import ADDRESS, FakeConnection, FakeLink, battery, now_s


class TestWay:
    def test_way_that_answers_is_kept(self) -> None:
        writing = Writing()

        writing.note_answer()

        assert writing.choose(0.0) is Way.USUAL

    def test_each_poll_after_silence_varies_once(self) -> None:
        writing = Writing()
        used, causes = [], []
        for at_s in range(5):
            used.append(writing.choose(at_s))
            causes.append(writing.note_silence(at_s))

        assert used == [Way.USUAL, Way.OTHER, Way.LATE, Way.OTHER, Way.LATE]
        # Another route is tried only after the other way to write.
        assert causes == [None, Cause.QUIET, None, Cause.QUIET, None]

    def test_usual_way_is_tried_again_later_and_later_while_it_is_silent(self) -> None:
        writing = Writing()
        now_s, waited_s = 0.0, []
        for _ in range(8):
            began_s = now_s
            writing.note_silence(now_s)
            writing.note_answer()
            while writing.choose(now_s) is Way.OTHER:
                now_s += USUAL_AGAIN_S / 2
            waited_s.append(now_s - began_s)

        assert waited_s == [min(USUAL_AGAIN_S * 2**n, LONGEST_S) for n in range(8)]

    def test_answer_to_the_usual_way_ends_its_pauses(self) -> None:
        writing = Writing()
        writing.note_silence(0.0)
        assert writing.choose(USUAL_AGAIN_S) is Way.USUAL
        writing.note_answer()
        writing.note_silence(USUAL_AGAIN_S)

        assert writing.choose(2 * USUAL_AGAIN_S) is Way.USUAL

    def test_other_kind_of_write_is_unlearned_when_it_is_silent(self) -> None:
        writing = Writing()
        writing.note_silence(0.0)
        writing.note_answer()

        assert writing.note_silence(1.0) is None
        assert writing.choose(1.0) is Way.LATE

    @pytest.mark.parametrize(
        ("has_worked", "cause", "is_changed"),
        [
            (False, Cause.RADIO, True),  # some hang up at a write that they do not take
            (False, Cause.GATT, True),
            (True, Cause.GATT, True),
            (True, Cause.RADIO, False),  # a weak signal
        ],
    )
    def test_refused_write_ends_the_other_kind(
        self, cause: Cause, *, has_worked: bool, is_changed: bool
    ) -> None:
        writing = Writing()
        writing.note_silence(0.0)
        if has_worked:
            writing.note_answer()

        assert writing.note_loss(1.0, cause) is is_changed
        assert (writing.way is Way.LATE) is is_changed

    def test_refused_write_begins_the_other_kind(self) -> None:
        writing = Writing()

        assert writing.note_loss(0.0, Cause.GATT)
        assert writing.choose(1.0) is Way.OTHER

    def test_lost_link_changes_nothing_where_the_usual_way_is_used(self) -> None:
        writing = Writing()

        assert not writing.note_loss(0.0, Cause.RADIO)
        assert writing.way is Way.USUAL


class Picky(FakeConnection):
    """A battery that takes one kind of write, or no request before the subscription."""

    takes_other = False
    dislikes_early = False
    refuses = False  # instead of ignoring

    async def open(self, profile: str, early: bytes, *, other_write: bool = False) -> FakeLink:
        class Refusing(FakeLink):
            async def write(self, data: bytes) -> None:
                error = LinkLostError(f"write: ATT error 0x03 ({len(data)} bytes)", Cause.GATT)
                raise error

        is_early = bool(early and self.takes_early)
        is_silent = other_write is not self.takes_other or (self.dislikes_early and is_early)
        self._silent = (profile,) if is_silent else ()
        link = await super().open(profile, early, other_write=other_write)
        if self.refuses and link.silent and other_write:
            return Refusing(self._battery)
        return link


def make_session() -> Session:
    config = BatteryConfig(name=Name("camper"), address=normal_address(ADDRESS))
    return Session(config, stats=LinkStats(), clock=now_s)


async def poll(session: Session, connection: FakeConnection) -> BmsError | None:
    """Return the failure of a poll, None if the battery was read."""
    try:
        await session.read(connection, deadline_s=now_s() + 30.0)
    except BmsError as error:
        return error
    return None


def make_picky(virtual: VirtualBattery | None = None) -> Picky:
    connection = Picky(virtual or battery())
    connection.takes_early = True
    return connection


class TestSession:
    async def test_battery_that_takes_the_other_kind_is_read_in_the_next_poll(self) -> None:
        session, connection = make_session(), make_picky()
        connection.takes_other = True

        failures = [await poll(session, connection) for _ in range(4)]

        assert [failure is None for failure in failures] == [False, True, True, True]
        assert connection.other_writes == [False, True, True, True]
        assert failures[0] is not None
        assert failures[0].cause is None
        assert connection._battery.illegal == []

    async def test_other_kind_is_unlearned_when_only_the_first_is_taken(self) -> None:
        session, connection = make_session(), make_picky()
        connection.takes_other = True
        await poll(session, connection)
        await poll(session, connection)
        connection.takes_other = False

        assert await poll(session, connection) is not None
        assert await poll(session, connection) is None

    async def test_early_request_is_left_out_after_silence(self) -> None:
        session, connection = make_session(), make_picky()
        connection.dislikes_early = True
        early = []
        for _ in range(3):
            await poll(session, connection)
            early.append(connection.links["ff00"].early_sent)

        assert early == [True, False, False]

    async def test_early_request_is_written_again_an_hour_later(self) -> None:
        session, connection = make_session(), make_picky(battery(faults=Faults(silent=True)))
        await poll(session, connection)
        connection._battery.faults = Faults()
        await asyncio.sleep(USUAL_AGAIN_S)

        assert await poll(session, connection) is None
        assert connection.links["ff00"].early_sent

    async def test_refusal_of_the_other_kind_is_silence_and_says_so(self) -> None:
        session = make_session()
        connection = make_picky(battery(faults=Faults(silent=True)))
        connection.refuses = True

        failures = [await poll(session, connection) for _ in range(3)]

        assert [type(failure) for failure in failures] == [ReplyTimeoutError] * 3
        assert [failure and failure.cause for failure in failures] == [None, Cause.QUIET, None]
        assert "the other kind of write failed" in str(failures[1])

    async def test_refusal_of_the_usual_kind_is_followed_by_the_other(self) -> None:
        class Refusing(FakeLink):
            async def write(self, data: bytes) -> None:
                error = LinkLostError("write: ATT error 0x03", Cause.GATT)
                raise error

        class Strict(FakeConnection):
            async def open(
                self, profile: str, early: bytes, *, other_write: bool = False
            ) -> FakeLink:
                link = await super().open(profile, early, other_write=other_write)
                return link if other_write else Refusing(self._battery)

        session, connection = make_session(), Strict(battery())

        failure = await poll(session, connection)

        assert isinstance(failure, LinkLostError)
        assert failure.cause is None
        assert await poll(session, connection) is None

    async def test_pieces_of_a_reply_are_no_silence(self) -> None:
        session, connection = make_session(), make_picky(battery(faults=Faults(truncated=True)))

        failures = [await poll(session, connection) for _ in range(2)]

        assert [failure and failure.cause for failure in failures] == [Cause.QUIET] * 2
        assert connection.other_writes == [False, False]

    async def test_silence_until_the_end_of_the_poll_counts(self) -> None:
        session = make_session()
        connection = make_picky(battery(faults=Faults(silent=True)))
        with pytest.raises(ReplyTimeoutError, match=r"poll\.timeout"):
            await session.read(connection, deadline_s=now_s() + 2.0)

        await poll(session, connection)

        assert connection.other_writes == [False, True]

    async def test_connection_that_ends_at_the_subscription_changes_nothing(self) -> None:
        class Lost(FakeConnection):
            async def open(self, *_: object, **__: object) -> FakeLink:
                raise LinkLostError("subscribe: not connected")

        session = make_session()
        assert isinstance(await poll(session, Lost(battery())), LinkLostError)

        connection = make_picky()
        assert await poll(session, connection) is None
        assert connection.other_writes == [False]


def test_replayed_battery_starts_with_the_recorded_way() -> None:
    usual, late = Writing(), Writing()

    usual.start(Way.USUAL, 0.0)
    late.start(Way.LATE, 0.0)

    assert (usual.choose(1.0), late.choose(1.0)) == (Way.USUAL, Way.LATE)
