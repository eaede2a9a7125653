"""The ladder: on evidence up, with a young reading down, and never for a battery that is away."""

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.ble.ladder import BLUEZ, BLUEZ_GENTLE, DIRECT, GENTLE, HOUR_S, Ladder, Rung
from exporter.errors import Cause

RUNGS = (DIRECT, GENTLE, BLUEZ)
ELSEWHERE = (None, Cause.ABSENT, Cause.HELD, Cause.WEDGE)


class Polls:
    """Polls a ladder every minute."""

    def __init__(self, rungs: Sequence[Rung] = RUNGS) -> None:
        self.ladder = Ladder(rungs)
        self.now_s = 1000.0
        self.used: list[Rung] = []

    def fail(self, *causes: Cause | None) -> list[Rung]:
        """Fail for each of these causes; return the rungs that were used."""
        return [self._poll(cause, may_explore=False) for cause in causes]

    def read(self, times: int = 1, *, may_explore: bool = True) -> list[Rung]:
        """Read the battery so often; return the rungs that were used."""
        return [self._poll("read", may_explore=may_explore) for _ in range(times)]

    def wait(self, seconds: float) -> None:
        self.now_s += seconds

    def _poll(self, outcome: Cause | str | None, *, may_explore: bool) -> Rung:
        self.now_s += 60.0
        rung = self.ladder.choose(self.now_s, may_explore=may_explore)
        note(self.ladder, outcome, self.now_s)
        return rung


def note(ladder: Ladder, outcome: Cause | str | None, now_s: float) -> None:
    if outcome == "read":
        ladder.note_success(now_s)
    else:
        ladder.note_failure(None if outcome is None else Cause(outcome), now_s)


@pytest.mark.parametrize("cause", ELSEWHERE)
def test_failure_that_no_rung_can_change_changes_none(cause: Cause | None) -> None:
    polls = Polls()

    assert set(polls.fail(*[cause] * 2000)) == {DIRECT}
    assert polls.read() == [DIRECT]


@pytest.mark.parametrize("cause", [Cause.GATT, Cause.QUIET])
def test_battery_that_answers_wrongly_is_tried_one_rung_higher_each_time(cause: Cause) -> None:
    assert Polls().fail(*[cause] * 3) == [DIRECT, GENTLE, BLUEZ]


def test_pairing_goes_to_bluetoothd_at_once() -> None:
    assert Polls().fail(Cause.SECURITY, Cause.SECURITY) == [DIRECT, BLUEZ]


def test_lost_connections_are_tried_gently_once_after_three() -> None:
    polls = Polls()

    assert polls.fail(*[Cause.RADIO] * 8) == [*[DIRECT] * 3, GENTLE, *[DIRECT] * 3, GENTLE]


def test_lost_connections_through_bluetoothd_are_tried_gently_where_the_interval_can_be_set() -> (
    None
):
    polls = Polls([BLUEZ, BLUEZ_GENTLE])

    assert polls.fail(*[Cause.RADIO] * 5) == [*[BLUEZ] * 3, BLUEZ_GENTLE, BLUEZ]


def test_single_lost_connections_change_nothing() -> None:
    polls = Polls()
    for _ in range(20):
        assert polls.fail(Cause.RADIO, Cause.RADIO) == [DIRECT, DIRECT]
        assert polls.read() == [DIRECT]


def test_direct_link_has_no_bluetoothd_to_go_to() -> None:
    polls = Polls([DIRECT, GENTLE])

    assert polls.fail(*[Cause.GATT] * 3) == [DIRECT, GENTLE, DIRECT]


def test_bluetoothd_alone_stays() -> None:
    polls = Polls([BLUEZ])

    assert set(polls.fail(*[*Cause] * 20)) == {BLUEZ}


@pytest.mark.parametrize(
    ("rungs", "has_other"), [(RUNGS, True), ([BLUEZ], False), ([DIRECT, GENTLE], False)]
)
def test_refusal_of_the_machine_changes_the_transport_where_there_is_another(
    rungs: Sequence[Rung], has_other: bool
) -> None:
    ladder = Ladder(rungs)
    assert ladder.has_other_kind is has_other

    ladder.note_failure(Cause.MACHINE, 0.0)

    assert ladder.rung == (BLUEZ if has_other else rungs[0])


def test_machine_whose_ways_all_refuse_begins_with_the_first_again() -> None:
    ladder = Ladder(RUNGS)
    ladder.note_failure(Cause.MACHINE, 0.0)
    ladder.note_failure(Cause.MACHINE, 0.0)

    assert ladder.rung == DIRECT


class TestClimbThatDidNotHelp:
    def test_ends_where_bluetoothd_is_not_there(self) -> None:
        polls = Polls()
        polls.fail(Cause.GATT, Cause.GATT)
        polls.ladder.note_failure(Cause.MACHINE, polls.now_s)

        assert polls.fail(*[Cause.GATT] * 50) == [DIRECT] * 50

    def test_rests_for_a_day_at_the_lowest_rung_where_registers_are_silent(self) -> None:
        polls = Polls()
        polls.fail(*[Cause.QUIET] * 3)

        assert set(polls.fail(*[Cause.QUIET] * 1400)) == {DIRECT}
        polls.wait(HOUR_S)
        assert polls.fail(Cause.QUIET, Cause.QUIET) == [DIRECT, GENTLE]

    def test_rests_for_an_hour_and_then_longer_where_gatt_fails(self) -> None:
        polls = Polls()
        used = polls.fail(*[Cause.GATT] * 3)
        polls.wait(HOUR_S)
        used += polls.fail(*[Cause.GATT] * 3)
        polls.wait(HOUR_S)

        assert used == [DIRECT, GENTLE, BLUEZ] * 2
        assert polls.fail(Cause.GATT, Cause.GATT) == [DIRECT, DIRECT]


class TestHigherRungThatHelps:
    def test_is_kept(self) -> None:
        polls = Polls()
        polls.fail(Cause.GATT)

        assert polls.read(50) == [GENTLE] * 50

    def test_is_left_for_a_trial_after_an_hour_when_a_failure_would_not_be_seen(self) -> None:
        polls = Polls()
        polls.fail(Cause.GATT)
        polls.read(2)
        polls.wait(HOUR_S)

        assert polls.read(may_explore=False) == [GENTLE]
        assert polls.read(3) == [DIRECT] * 3

    def test_is_used_again_at_once_when_the_trial_fails_and_left_twice_as_late(self) -> None:
        polls = Polls()
        polls.fail(Cause.GATT)
        polls.read(2)
        polls.wait(HOUR_S)
        polls.ladder.choose(polls.now_s, may_explore=True)
        polls.ladder.note_failure(Cause.GATT, polls.now_s)

        assert polls.read(60) == [GENTLE] * 60
        polls.wait(HOUR_S)
        assert polls.read() == [DIRECT]

    def test_is_unlearned_when_it_stops_working(self) -> None:
        polls = Polls()
        polls.fail(Cause.SECURITY)
        polls.read(2)

        assert polls.fail(*[Cause.GATT] * 4) == [BLUEZ, BLUEZ, BLUEZ, DIRECT]


class TestForgettingRadio:
    def test_gentle_trial_for_lost_connections_ends(self) -> None:
        polls = Polls()
        polls.fail(*[Cause.RADIO] * 3)
        polls.ladder.forget_radio()

        assert polls.fail(*[Cause.RADIO] * 4) == [DIRECT, DIRECT, DIRECT, GENTLE]

    def test_transport_that_the_machine_refused_is_tried_again(self) -> None:
        polls = Polls()
        polls.ladder.note_failure(Cause.MACHINE, 0.0)
        polls.ladder.forget_radio()

        assert polls.ladder.rung == DIRECT

    @pytest.mark.parametrize("cause", [Cause.GATT, Cause.SECURITY, Cause.QUIET])
    def test_climb_for_another_cause_goes_on(self, cause: Cause) -> None:
        polls = Polls()
        polls.fail(cause)
        rung = polls.ladder.rung
        polls.ladder.forget_radio()

        assert polls.ladder.rung == rung


def test_time_until_a_lower_rung_is_tried_is_known() -> None:
    polls = Polls()
    assert polls.ladder.faster_in_s(polls.now_s) is None
    polls.fail(Cause.GATT)
    assert polls.ladder.faster_in_s(polls.now_s) == HOUR_S
    polls.read(2)
    polls.wait(600.0)
    assert polls.ladder.faster_in_s(polls.now_s) == HOUR_S - 600.0


@given(st.lists(st.sampled_from([*Cause, None, "read"]), max_size=200), st.booleans())
def test_each_poll_climbs_one_rung_at_most_and_only_on_evidence(
    outcomes: list[Cause | str | None], may_explore: bool
) -> None:
    ladder = Ladder(RUNGS)
    now_s, seen = 0.0, Counter[Rung]()
    for outcome in outcomes:
        now_s += 300.0
        before = ladder.choose(now_s, may_explore=may_explore)
        seen[before] += 1
        note(ladder, outcome, now_s)
        if ladder.rung != before:
            assert outcome not in {*ELSEWHERE, "read"}
        if ladder.rung not in seen and outcome not in {Cause.SECURITY, Cause.MACHINE}:
            assert RUNGS.index(ladder.rung) - RUNGS.index(before) == 1
    if not set(outcomes) - {*ELSEWHERE, "read"}:
        assert set(seen) <= {DIRECT}


@given(st.lists(st.sampled_from([*Cause, None]), max_size=40))
def test_every_battery_is_back_on_the_lowest_rung_a_week_after_all_is_well(
    causes: list[Cause | None],
) -> None:
    polls = Polls()
    polls.fail(*causes)
    for _ in range(14):
        polls.wait(12 * HOUR_S)
        polls.read(2)

    assert polls.ladder.rung == DIRECT
