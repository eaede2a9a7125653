"""The expected failures, with their `reason` in the metrics.

Any other exception is a bug: it is not caught and ends the program, and the supervisor restarts it.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import ClassVar, Final


class FailureReason(StrEnum):
    """The label `reason` of the failure counters."""

    ADAPTER = "adapter"
    NOT_FOUND = "not_found"
    CONNECT = "connect"
    PROFILE = "profile"
    AUTH = "auth"
    TIMEOUT = "timeout"
    LINK_LOST = "link_lost"
    PROTOCOL = "protocol"
    DEVICE = "device"


class Cause(StrEnum):
    """What is known of a failure; it decides whether another way to the battery can help."""

    MACHINE = "machine"  # refused at once, without radio time
    ABSENT = "absent"  # nothing was heard
    RADIO = "radio"  # heard, but the connection did not come about or was lost
    GATT = "gatt"  # connected, but its table or a request in it failed
    SECURITY = "security"  # it wants pairing
    QUIET = "quiet"  # its GATT server works, its registers do not answer
    HELD = "held"  # another program on this machine is connected
    WEDGE = "wedge"  # the adapter or the kernel is stuck


UNRELATED: Final = frozenset({Cause.ABSENT, Cause.HELD, Cause.WEDGE})
"""Causes that no other way to the battery can change."""


class BmsError(Exception):
    """An expected failure of one battery: counted, logged once, retried.

    `cause` is that of the class unless the message knows better.
    """

    reason: ClassVar[FailureReason] = FailureReason.DEVICE
    cause: Cause | None = None

    def __init__(self, message: str, cause: Cause | None = None) -> None:
        super().__init__(message)
        if cause is not None:
            self.cause = cause


class LinkError(BmsError):
    """The battery could not be reached; its subclasses say why."""

    reason = FailureReason.CONNECT


class AdapterError(LinkError):
    """No adapter, no bus, no bluetoothd, no power or no permission on this machine."""

    reason = FailureReason.ADAPTER


class NotFoundError(LinkError):
    """The battery is not seen: switched off, out of range, or connected to the phone."""

    reason = FailureReason.NOT_FOUND
    cause = Cause.ABSENT


class ConnectError(LinkError):
    """The battery advertises, and every attempt to connect failed."""

    reason = FailureReason.CONNECT
    cause: Cause | None = Cause.RADIO


class ProfileError(LinkError):
    """The battery's GATT table holds no service that speaks JBD."""

    reason = FailureReason.PROFILE
    cause = Cause.GATT


class LinkLostError(LinkError):
    """The connection ended in mid-poll."""

    reason = FailureReason.LINK_LOST
    cause: Cause | None = Cause.RADIO


class ReplyTimeoutError(LinkError):
    """The battery is connected, but no valid reply came in time."""

    reason = FailureReason.TIMEOUT
    cause = Cause.QUIET


class AuthError(BmsError):
    """The battery refused the password, or wants pairing first."""

    reason = FailureReason.AUTH


HOW_TO_PAIR: Final = (
    "pair it with its PIN, even if it is paired without one: run bluetoothctl, then agent "
    "KeyboardOnly, remove ADDRESS, scan on, pair ADDRESS"
)


class PairingError(AuthError):
    """The battery wants pairing; some say so by sending requests back."""

    reason = FailureReason.AUTH
    cause = Cause.SECURITY


class ProtocolError(BmsError):
    """Frames came, and none of them is a valid reply."""

    reason = FailureReason.PROTOCOL
    cause = Cause.QUIET


class AnotherProtocolError(ProtocolError):
    """Bytes came, but not in JBD's protocol."""

    reason = FailureReason.PROTOCOL


class DecodeError(ProtocolError):
    """A valid frame whose fields cannot be true."""

    reason = FailureReason.PROTOCOL


class DeviceError(BmsError):
    """The battery refused a request with a status byte that is not 0."""

    reason = FailureReason.DEVICE


class ConfigError(Exception):
    """The configuration cannot be used; `problems` has a line for each mistake."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)
