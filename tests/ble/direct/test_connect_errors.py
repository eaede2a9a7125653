"""Each errno of a connect: what happened, whose fault it is, and what to do."""

import errno
import os

import pytest

from exporter.ble.direct.connect_errors import explain
from exporter.ble.direct.settings import NOT_MANAGED, Setting
from exporter.errors import BmsError, Cause, FailureReason

ADDRESS = "A4:C1:38:00:00:01"


def explained(
    number: int, *, is_up: bool = True, elapsed_s: float = 0.8, settings: Setting | None = None
) -> BmsError:
    error = OSError(number, os.strerror(number))
    return explain(
        error, ADDRESS, adapter="hci1", is_up=is_up, elapsed_s=elapsed_s, settings=settings
    )


@pytest.mark.parametrize(
    ("number", "reason", "cause", "words"),
    [
        (errno.ENOSYS, "connect", Cause.RADIO, "weak"),
        (errno.ETIMEDOUT, "connect", Cause.RADIO, "weak"),
        (errno.ECONNRESET, "connect", Cause.RADIO, "hung up"),
        (errno.ECONNABORTED, "connect", Cause.HELD, "another program"),
        (errno.EBUSY, "connect", Cause.HELD, "another program"),
        (errno.EMLINK, "connect", Cause.RADIO, "no free connection"),
        (errno.ECONNREFUSED, "connect", Cause.RADIO, "no free connection"),
        (errno.EPROTO, "connect", Cause.RADIO, "did not make"),
        (errno.EIO, "connect", Cause.RADIO, "Input/output error"),
        (errno.EHOSTDOWN, "adapter", None, "btmgmt --index hci1 advertising off"),
        (errno.EHOSTUNREACH, "adapter", Cause.MACHINE, "does not find hci1 by its address"),
        (errno.EOPNOTSUPP, "adapter", None, "cannot do Bluetooth Low Energy"),
        (errno.EPERM, "adapter", Cause.MACHINE, "no permission"),
        (errno.EACCES, "adapter", Cause.MACHINE, "no permission"),
        (errno.ENODEV, "adapter", None, "hci1 went away"),
        (errno.ENETDOWN, "adapter", None, "hci1 went away"),
    ],
)
def test_errno_is_explained(number: int, reason: str, cause: Cause | None, words: str) -> None:
    error = explained(number)

    assert (error.reason, error.cause) == (FailureReason(reason), cause)
    assert words in str(error)


@pytest.mark.parametrize("number", [errno.EHOSTUNREACH, errno.ENOSYS, errno.ECONNREFUSED])
def test_adapter_that_is_not_up_any_more_went_away(number: int) -> None:
    assert "hci1 went away" in str(explained(number, is_up=False))


def test_refusal_at_once_means_that_low_energy_is_off() -> None:
    error = explained(errno.ECONNREFUSED, elapsed_s=0.001)

    assert error.reason is FailureReason.ADAPTER
    assert "btmgmt --index hci1 le on" in str(error)


def test_adapter_without_a_free_connection_may_say_so_in_milliseconds() -> None:
    error = explained(errno.ECONNREFUSED, elapsed_s=0.02)

    assert (error.reason, error.cause) == (FailureReason.CONNECT, Cause.RADIO)
    assert "no free connection" in str(error)


def test_refusal_after_the_kernels_own_40_s_means_that_nothing_was_seen() -> None:
    error = explained(errno.ECONNREFUSED, elapsed_s=40.0)

    assert (error.reason, error.cause) == (FailureReason.NOT_FOUND, Cause.ABSENT)


def test_error_that_is_no_errno_keeps_its_words() -> None:
    assert "odd" in str(explain(OSError("odd"), ADDRESS, adapter="hci0", is_up=True, elapsed_s=1.0))


LE = Setting.LOW_ENERGY


@pytest.mark.parametrize(
    ("number", "settings", "reason", "cause", "words"),
    [
        (errno.ENOSYS, LE, "connect", Cause.RADIO, "weak signal"),
        (errno.ENOSYS, LE | Setting.ADVERTISING, "adapter", None, "hci1 advertising off"),
        (errno.EHOSTDOWN, LE | Setting.ADVERTISING, "adapter", None, "hci1 advertising off"),
        (errno.EHOSTDOWN, LE, "connect", Cause.RADIO, "weak signal"),
        (errno.ENOSYS, LE | Setting.PRIVACY, "connect", Cause.RADIO, "hci1 privacy off"),
        (errno.ECONNREFUSED, Setting(1), "adapter", None, "hci1 le on"),
        (errno.ECONNREFUSED, LE, "connect", Cause.RADIO, "no free connection"),
        (errno.EHOSTUNREACH, LE, "adapter", Cause.MACHINE, "does not find hci1 by its address"),
        (errno.EHOSTUNREACH, LE | Setting.STATIC_ADDRESS, "adapter", Cause.MACHINE, "static"),
        (errno.EHOSTUNREACH, NOT_MANAGED, "adapter", Cause.MACHINE, "user channel"),
    ],
)
@pytest.mark.parametrize("elapsed_s", [0.001, 0.8])
def test_settings_of_the_adapter_name_the_cure(  # noqa: PLR0917 - one table
    number: int,
    settings: Setting,
    reason: str,
    cause: Cause | None,
    words: str,
    elapsed_s: float,
) -> None:
    error = explained(number, settings=settings, elapsed_s=elapsed_s)

    assert (error.reason, error.cause) == (FailureReason(reason), cause)
    assert words in str(error)
