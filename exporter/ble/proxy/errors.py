"""Translates the exceptions of the library into errors with advice."""

import os
from typing import Final

from aioesphomeapi.core import (
    APIConnectionError,
    BluetoothConnectionDroppedError,
    BluetoothGATTAPIError,
    EncryptionHelloAPIError,
    EncryptionPlaintextAPIError,
    HandshakeAPIError,
    InvalidEncryptionKeyAPIError,
    ProtocolAPIError,
    RequiresEncryptionAPIError,
    ResolveAPIError,
    SocketAPIError,
    SocketClosedAPIError,
    TimeoutAPIError,
    to_human_readable_gatt_error,
)

from exporter.config.schema import ProxyConfig
from exporter.errors import (
    AdapterError,
    BmsError,
    Cause,
    ConnectError,
    LinkLostError,
    PairingError,
)

MAX_TEXT: Final = 160  # characters of a proxy's text
UNKNOWN: Final = "Unknown error"  # the library's text for a code that it does not know
NOT_CONNECTED: Final = -1  # the battery (ESPHome, bluetooth_connection.cpp)
ENDED: Final = "the connection ended"
# ATT's errors "insufficient authentication", "authorization", "key size" and "encryption"
# (Core Specification, Vol 3, Part F, 3.4.1.1), and the ESP32's own for the same.
WANTS_PAIRING: Final = frozenset({0x05, 0x08, 0x0C, 0x0F, 137, 142})


class TakenError(AdapterError):
    """Another program has the proxy's Bluetooth now."""

    def __init__(self, proxy: str) -> None:
        super().__init__(
            f"another program (Home Assistant?) took the proxy {proxy}, which can serve only one: "
            "use another ESP32 for one of them"
        )


def tidy(text: object, limit: int = MAX_TEXT) -> str:
    """Return text in which a proxy may have put anything, escaped and cut."""
    shown = str(text)[: limit + 1].encode("unicode_escape").decode()
    return shown if len(shown) <= limit else f"{shown[:limit]}..."


def explain_open(error: Exception, config: ProxyConfig) -> AdapterError:
    """Return the error for an API connection that did not come about."""
    return AdapterError(f"proxy {config.name}: {_why_not_open(error, config)}")


def _why_not_open(error: Exception, config: ProxyConfig) -> str:  # noqa: PLR0911 - a table
    has_key = config.key is not None
    not_encrypted = (
        "it does not use encryption: remove the key, or add api: encryption: to its YAML"
    )
    match error:
        case RequiresEncryptionAPIError():
            return "it wants encryption: give its key with key_file (api: encryption: key: there)"
        case EncryptionPlaintextAPIError() | EncryptionHelloAPIError():
            return not_encrypted
        case InvalidEncryptionKeyAPIError():
            return "it refuses the key: compare it with api: encryption: key: in its YAML"
        case SocketClosedAPIError() if has_key:
            return f"it ended the handshake: perhaps {not_encrypted}"
        case SocketClosedAPIError():
            return "it ended the connection at once: has it as many API clients as it can serve?"
        case HandshakeAPIError() | ProtocolAPIError():
            return f"{config.host} port {config.port} does not speak ESPHome's API ({tidy(error)})"
        case ResolveAPIError():
            return f"the host name {config.host} cannot be resolved: try its IP address"
        case TimeoutError() | TimeoutAPIError():
            return (
                f"{config.host} port {config.port} does not answer: is it switched on and in the "
                "same network?"
            )
        case SocketAPIError() | OSError():
            return f"{config.host} port {config.port} cannot be reached ({_describe(error)})"
    return (
        f"{config.host} port {config.port} answers, and cannot be used ({tidy(error)}): restart "
        "it, or update the exporter if its ESPHome is newer"
    )


def _describe(error: Exception) -> str:
    """Return the kernel's reason, which the library puts behind all the addresses it tried."""
    cause = error.__cause__
    if isinstance(cause, OSError) and cause.errno is not None:
        return os.strerror(cause.errno).lower()
    return tidy(error)


def explain_connect(address: str, proxy: str, code: int) -> ConnectError:
    """Return the error for a connection that the proxy could not make."""
    return ConnectError(f"connect to {address} by proxy {proxy}: {describe_code(code)}")


def explain_gatt(error: APIConnectionError, doing: str) -> BmsError:
    """Return the error for a failed request to a connected battery."""
    if isinstance(error, BluetoothGATTAPIError):
        code = error.error.error
        if code == NOT_CONNECTED:
            return LinkLostError(f"{doing}: {ENDED}")
        if code in WANTS_PAIRING:
            return PairingError(
                f"{doing}: the battery wants pairing, which a proxy cannot do: use an adapter of "
                "this machine for it"
            )
        return LinkLostError(f"{doing}: {describe_code(code)}", Cause.GATT)
    if isinstance(error, BluetoothConnectionDroppedError):
        return LinkLostError(f"{doing}: {ENDED}")
    if isinstance(error, TimeoutAPIError):  # its text names the messages of the API
        return LinkLostError(f"{doing}: no answer in time")
    return LinkLostError(f"{doing}: {tidy(error) or type(error).__name__}")


def describe_code(code: int) -> str:
    """Return the text of an error code of the ESP32's Bluetooth."""
    known = to_human_readable_gatt_error(code)
    return f"error {code:#04x}" if known == UNKNOWN else f"{known.lower()} ({code:#04x})"
