"""The expected failures, with their `reason` in the metrics.

Any other exception is a bug: it is not caught and ends the program, and the supervisor restarts it.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import ClassVar


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


class BmsError(Exception):
    """An expected failure of one battery: counted, logged once, retried."""

    reason: ClassVar[FailureReason] = FailureReason.DEVICE


class LinkError(BmsError):
    """The battery could not be reached; its subclasses say why."""

    reason = FailureReason.CONNECT


class AdapterError(LinkError):
    """No adapter, no bus, no bluetoothd, no power or no permission on this machine."""

    reason = FailureReason.ADAPTER


class NotFoundError(LinkError):
    """The battery is not seen: switched off, out of range, or connected to the phone."""

    reason = FailureReason.NOT_FOUND


class ConnectError(LinkError):
    """The battery advertises, and every attempt to connect failed."""

    reason = FailureReason.CONNECT


class ProfileError(LinkError):
    """The battery's GATT table holds no service that speaks JBD."""

    reason = FailureReason.PROFILE


class LinkLostError(LinkError):
    """The connection ended in mid-poll."""

    reason = FailureReason.LINK_LOST


class ReplyTimeoutError(LinkError):
    """The battery is connected, but no valid reply came in time."""

    reason = FailureReason.TIMEOUT


class AuthError(BmsError):
    """The battery refused the password, or wants pairing first."""

    reason = FailureReason.AUTH


class PairingError(AuthError):
    """The battery wants pairing; some say so by sending requests back."""

    reason = FailureReason.AUTH


class ProtocolError(BmsError):
    """Frames came, and none of them is a valid reply."""

    reason = FailureReason.PROTOCOL


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
