"""A stuck adapter is not reported as a missing battery."""

from dataclasses import replace

from exporter.ble.direct.sockets import CONNECTED, CONNECTING, Adapter
from exporter.ble.direct.wedge import LEFT_BEHIND_S, WedgeDetector

BEFORE = Adapter(0, "00:1B:DC:0F:AA:01", up=True, commands_sent=100, events_received=900)
AFTER = replace(BEFORE, commands_sent=104, events_received=950)
OTHER = "A4:C1:38:00:00:09"


def test_adapter_that_answers_nothing_is_wedged() -> None:
    deaf = replace(AFTER, events_received=BEFORE.events_received)

    why = WedgeDetector().why_wedged(BEFORE, deaf, [], set(), 0.0)

    assert why is not None
    assert "hci0 does not answer any more (4 commands, no event)" in why
    assert "bluetoothctl power off" in why


def test_quiet_air_is_no_wedge() -> None:
    assert WedgeDetector().why_wedged(BEFORE, BEFORE, [], set(), 0.0) is None
    assert WedgeDetector().why_wedged(BEFORE, AFTER, [(OTHER, CONNECTED)], set(), 0.0) is None


def test_connection_that_nothing_waits_for_is_a_wedge_if_it_stays() -> None:
    detector = WedgeDetector()
    left = [(OTHER, CONNECTING)]

    assert detector.why_wedged(BEFORE, AFTER, left, set(), 0.0) is None
    why = detector.why_wedged(BEFORE, AFTER, left, set(), LEFT_BEHIND_S)

    assert why is not None
    assert OTHER in why


def test_connection_that_is_waited_for_here_or_ends_is_no_wedge() -> None:
    detector = WedgeDetector()
    left = [(OTHER, CONNECTING)]

    assert detector.why_wedged(BEFORE, AFTER, left, {OTHER}, 0.0) is None
    assert detector.why_wedged(BEFORE, AFTER, left, {OTHER}, 100.0) is None
    assert detector.why_wedged(BEFORE, AFTER, left, set(), 200.0) is None
    assert detector.why_wedged(BEFORE, AFTER, [], set(), 220.0) is None
    assert detector.why_wedged(BEFORE, AFTER, left, set(), 240.0) is None


def test_success_forgets_what_was_seen() -> None:
    detector = WedgeDetector()
    left = [(OTHER, CONNECTING)]
    detector.why_wedged(BEFORE, AFTER, left, set(), 0.0)
    detector.note_success()

    assert detector.why_wedged(BEFORE, AFTER, left, set(), 60.0) is None
