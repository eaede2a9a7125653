"""What can go wrong, and the `reason` that the metrics give for it.

BmsError                an expected failure of one battery: counted, logged once, retried
├── LinkError           the battery could not be reached
│   ├── AdapterError        no adapter, no bus, no bluetoothd, no power, no permission
│   ├── NotFoundError       not seen: switched off, out of range, or the phone is connected
│   ├── ConnectError        seen, and every attempt to connect failed
│   ├── ProfileError        no known service in its GATT table
│   ├── LinkLostError       dropped in mid-poll
│   └── ReplyTimeoutError   connected, but no valid reply in time
├── AuthError           password refused
│   └── PairingError    the battery wants pairing, or sends requests back, which means it
├── ProtocolError       frames came, none of them valid
│   ├── AnotherProtocolError    bytes came, but not in JBD's protocol
│   └── DecodeError         a valid frame whose fields cannot be true
└── DeviceError         a well-formed refusal: the status byte is not 0
ConfigError             stops the program before it starts; carries all problems
anything else           a bug: not caught, ends the program, the supervisor restarts it
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
    """An expected failure of one battery; its subclasses say which."""

    reason: ClassVar[FailureReason] = FailureReason.DEVICE


class LinkError(BmsError):
    """The battery could not be reached; its subclasses say why."""

    reason = FailureReason.CONNECT


class AdapterError(LinkError):
    """This machine cannot use Bluetooth now."""

    reason = FailureReason.ADAPTER


class NotFoundError(LinkError):
    """The battery did not advertise during the scan."""

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
    """Connected, but no valid reply came in time."""

    reason = FailureReason.TIMEOUT


class AuthError(BmsError):
    """The battery wants a password or pairing first."""

    reason = FailureReason.AUTH


class PairingError(AuthError):
    """The battery wants pairing first."""

    reason = FailureReason.AUTH


class ProtocolError(BmsError):
    """Bytes came that are not a valid reply."""

    reason = FailureReason.PROTOCOL


class AnotherProtocolError(ProtocolError):
    """The battery answers, but does not speak JBD."""

    reason = FailureReason.PROTOCOL


class DecodeError(ProtocolError):
    """A valid frame whose fields cannot be true."""

    reason = FailureReason.PROTOCOL


class DeviceError(BmsError):
    """The battery refused a request with a status byte that is not 0."""

    reason = FailureReason.DEVICE


class ConfigError(Exception):
    """The configuration cannot be used; `problems` holds every complaint, one a line."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)
