"""All transports share the rule of when a foreign connection is dropped."""

import pytest

from exporter.ble.transport import TAKE_EVERY_S, Target, note_taken
from exporter.errors import Cause, ConnectError
from exporter.link_stats import LinkStats
from tests.support.virtual import ADDRESS


def test_battery_of_another_program_is_taken_once_in_a_while() -> None:
    target = Target(address=ADDRESS, stats=LinkStats())
    note_taken(target, 100.0, "hci0")

    with pytest.raises(ConnectError, match=f"bluetoothctl disconnect {ADDRESS}") as caught:
        note_taken(target, 99.0 + TAKE_EVERY_S, "hci0")

    assert caught.value.cause is Cause.HELD
    note_taken(target, 100.0 + TAKE_EVERY_S, "hci0")


def test_connection_that_may_be_our_own_is_always_taken() -> None:
    target = Target(address=ADDRESS, stats=LinkStats())
    target.stats.may_be_left = True
    for _ in range(3):
        note_taken(target, 0.0, "bluetoothd")
    target.stats.may_be_left = False

    note_taken(target, 0.0, "bluetoothd")  # the first one of another program
    with pytest.raises(ConnectError):
        note_taken(target, 1.0, "bluetoothd")


def test_battery_of_another_program_is_not_taken_without_leave() -> None:
    target = Target(address=ADDRESS, stats=LinkStats(), takes_over=False)

    with pytest.raises(ConnectError, match="another program on this machine keeps"):
        note_taken(target, 0.0, "bluetoothd")

    assert target.stats.taken_at_s is None
