"""A stuck adapter is not reported as a missing battery."""

from dataclasses import replace

from exporter.ble.direct.sockets import CONNECTED, CONNECTING, Adapter
from exporter.ble.direct.wedge import LEFT_BEHIND_S, Evidence, WedgeDetector, WedgeReason

BEFORE = Adapter(0, "00:1B:DC:0F:AA:01", up=True, commands_sent=100, events_received=900)
AFTER = replace(BEFORE, commands_sent=104, events_received=950)
OTHER = "A4:C1:38:00:00:09"


def test_adapter_that_answers_nothing_is_wedged() -> None:
    deaf = replace(AFTER, events_received=BEFORE.events_received)

    evidence = WedgeDetector().find_evidence(BEFORE, deaf, [], set(), 0.0)

    assert evidence == Evidence(
        WedgeReason.NO_EVENTS, "hci0 does not answer any more (4 commands, no event)"
    )


def test_quiet_air_is_no_wedge() -> None:
    assert WedgeDetector().find_evidence(BEFORE, BEFORE, [], set(), 0.0) is None
    assert WedgeDetector().find_evidence(BEFORE, AFTER, [(OTHER, CONNECTED)], set(), 0.0) is None


def test_wait_without_any_command_is_a_wedge() -> None:
    assert WedgeDetector().find_missing_scan(BEFORE, AFTER) is None

    evidence = WedgeDetector().find_missing_scan(BEFORE, BEFORE)

    assert evidence is not None
    assert evidence.reason is WedgeReason.NO_SCAN


def test_connection_that_nothing_waits_for_is_a_wedge_if_it_stays() -> None:
    detector = WedgeDetector()
    left = [(OTHER, CONNECTING)]

    assert detector.find_evidence(BEFORE, AFTER, left, set(), 0.0) is None
    evidence = detector.find_evidence(BEFORE, AFTER, left, set(), LEFT_BEHIND_S)

    assert evidence is not None
    assert evidence.reason is WedgeReason.LEFT_CONNECTION
    assert OTHER in evidence.why


def test_connection_that_is_waited_for_here_or_ends_is_no_wedge() -> None:
    detector = WedgeDetector()
    left = [(OTHER, CONNECTING)]

    assert detector.find_evidence(BEFORE, AFTER, left, {OTHER}, 0.0) is None
    assert detector.find_evidence(BEFORE, AFTER, left, {OTHER}, 100.0) is None
    assert detector.find_evidence(BEFORE, AFTER, left, set(), 200.0) is None
    assert detector.find_evidence(BEFORE, AFTER, [], set(), 220.0) is None
    assert detector.find_evidence(BEFORE, AFTER, left, set(), 240.0) is None


def test_success_forgets_what_was_seen() -> None:
    detector = WedgeDetector()
    left = [(OTHER, CONNECTING)]
    detector.find_evidence(BEFORE, AFTER, left, set(), 0.0)
    detector.note_success()

    assert detector.find_evidence(BEFORE, AFTER, left, set(), 60.0) is None


def test_connection_that_was_left_behind_is_found_although_the_battery_is_waited_for_again() -> (
    None
):
    detector = WedgeDetector()
    left = [(OTHER, CONNECTING)]

    detector.note_idle(OTHER, left, 0.0)  # between two polls

    assert detector.find_evidence(BEFORE, AFTER, left, {OTHER}, LEFT_BEHIND_S) is not None


def test_own_wait_is_no_connection_that_was_left_behind() -> None:
    detector = WedgeDetector()
    for poll_s in (0.0, 40.0, 80.0):
        detector.note_idle(OTHER, [], poll_s)

        during = detector.find_evidence(
            BEFORE, AFTER, [(OTHER, CONNECTING)], {OTHER}, poll_s + 10.0
        )

        assert during is None


def test_connection_that_ended_between_two_polls_was_not_left_behind() -> None:
    detector = WedgeDetector()
    another_program = [(OTHER, CONNECTING)]
    detector.note_idle(OTHER, another_program, 0.0)
    assert detector.find_evidence(BEFORE, AFTER, another_program, {OTHER}, 10.0) is None

    detector.note_idle(OTHER, [], 40.0)

    assert detector.find_evidence(BEFORE, AFTER, another_program, {OTHER}, 50.0) is None
