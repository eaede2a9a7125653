"""Explains why the kernel did not connect: its errno, and what HCI error may hide behind it.

Source: Linux, net/bluetooth/lib.c (bt_to_errno), l2cap_core.c, hci_conn.c. What its table does not
know becomes ENOSYS, and with it the commonest failure of real modules: HCI error 0x3E.
"""

import errno
from typing import Final

from exporter.ble.direct.settings import NOT_MANAGED, UNMANAGED, Setting
from exporter.errors import AdapterError, BmsError, Cause, ConnectError, NotFoundError

# The call itself returned the error. A refusal by the controller takes an advertisement and a
# command at least.
AT_ONCE_S: Final = 0.005
# The kernel ends a channel that has waited for so long (l2cap.h, L2CAP_CONN_TIMEOUT: 40 s).
CHANNEL_TIMEOUT_S: Final = 39.0

NOT_ESTABLISHED: Final = (
    "heard, but the connection did not come about: weak signal or interference, so move closer"
)
CONNECT_ERRORS: Final[dict[int, tuple[str, Cause]]] = {
    errno.ENOSYS: (NOT_ESTABLISHED, Cause.RADIO),  # 0x3E, 0x22, 0x1F and all unknown ones
    errno.ETIMEDOUT: (NOT_ESTABLISHED, Cause.RADIO),  # 0x08, 0x10
    errno.ECONNRESET: (  # 0x13, 0x14, 0x15
        "the battery hung up at once: another device may hold it, so close the phone app",
        Cause.RADIO,
    ),
    errno.ECONNABORTED: (  # 0x16
        "another program on this machine disconnected it: stop that program",
        Cause.HELD,
    ),
    errno.EBUSY: (  # 0x0C, or a channel of another program
        "another program on this machine is connected to it, or connecting: stop that program",
        Cause.HELD,
    ),
    errno.EMLINK: ("the adapter has no free connection", Cause.RADIO),  # 0x09
    errno.ECONNREFUSED: ("the adapter has no free connection", Cause.RADIO),  # 0x0D, 0x0E, 0x0F
    errno.EHOSTDOWN: (NOT_ESTABLISHED, Cause.RADIO),  # 0x3C and 0x04, without advertising
    errno.EPROTO: ("the adapter did not make the connection", Cause.RADIO),  # 0x1E, 0x23 to 0x25
}
PRIVATE: Final = (
    ". Privacy is on for {adapter}: if the battery is near, run btmgmt --index {adapter} privacy "
    "off"
)
NO_WAY: Final = (
    "the kernel does not find {adapter} by its address: another adapter has the same one, or it is "
    "static. Set link: bluez"
)
ADVERTISING: Final = (
    "{adapter} advertises itself, and cannot connect meanwhile: run btmgmt --index {adapter} "
    "advertising off"
)
LOW_ENERGY_OFF: Final = (
    "Low Energy is off on {adapter}: run btmgmt --index {adapter} le on, and remove "
    "ControllerMode = bredr from /etc/bluetooth/main.conf"
)
STATIC: Final = (
    "{adapter} has a static address, by which the kernel does not find it: set link: bluez, or "
    "switch the other adapters off"
)
WENT_AWAY: Final = "the Bluetooth adapter {adapter} went away"
ADAPTER_ERRORS: Final[dict[int, tuple[str, Cause | None]]] = {
    errno.EHOSTUNREACH: (NO_WAY, Cause.MACHINE),
    errno.EOPNOTSUPP: ("{adapter} cannot do Bluetooth Low Energy: use another one", None),
    errno.EHOSTDOWN: (ADVERTISING, None),  # 0x3C: directed advertising timed out
    errno.EPERM: ("no permission to connect over {adapter}", Cause.MACHINE),
    errno.EACCES: ("no permission to connect over {adapter}", Cause.MACHINE),
}


# What the settings of an adapter can explain. On older kernels, directed advertising that timed out
# (HCI error 0x3C) is ENOSYS, too.
ASK_SETTINGS: Final = {errno.EHOSTDOWN, errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENOSYS}


def explain_silence(settings: Setting | None, adapter: str, address: str) -> AdapterError | None:
    """Return the error for a wait without result that the adapter's settings explain."""
    if settings is None:
        return None
    if settings == NOT_MANAGED:
        message = UNMANAGED
    elif Setting.LOW_ENERGY not in settings:
        message = LOW_ENERGY_OFF
    elif Setting.ADVERTISING in settings:
        message = ADVERTISING
    else:
        return None
    return AdapterError(f"{message.format(adapter=adapter)} (connect to {address})")


def _explain_settings(number: int, settings: Setting) -> tuple[str, Cause | None] | None:
    """Return what the settings of an adapter say about an errno in ASK_SETTINGS."""
    if settings == NOT_MANAGED:
        return UNMANAGED, Cause.MACHINE
    if Setting.LOW_ENERGY not in settings:
        return LOW_ENERGY_OFF, None
    if Setting.ADVERTISING in settings and number != errno.EHOSTUNREACH:
        return ADVERTISING, None
    if number == errno.EHOSTUNREACH:
        return STATIC if Setting.STATIC_ADDRESS in settings else NO_WAY, Cause.MACHINE
    return None


def explain(  # noqa: PLR0913 - all that is known of the attempt
    error: OSError,
    address: str,
    *,
    adapter: str,
    is_up: bool,
    elapsed_s: float,
    settings: Setting | None = None,
) -> BmsError:
    """Return the error for an attempt to connect that the kernel ended.

    Args:
        error: What the kernel said.
        address: That of the battery.
        adapter: hci0 and the like.
        is_up: Whether it is there and switched on, now.
        elapsed_s: Since the attempt began.
        settings: Those of the adapter; None: unknown.
    """
    number = error.errno or 0
    refused_s = elapsed_s if number == errno.ECONNREFUSED else None
    if refused_s is not None and refused_s > CHANNEL_TIMEOUT_S:
        return NotFoundError(f"{address} not seen in {refused_s:.0f} s")
    machine: tuple[str, Cause | None] | None
    if number in {errno.ENODEV, errno.ENETDOWN} or not is_up:
        machine = (WENT_AWAY, None)
    elif settings is not None and number in ASK_SETTINGS:
        machine = _explain_settings(number, settings)
    elif refused_s is not None and refused_s < AT_ONCE_S:
        machine = (LOW_ENERGY_OFF, None)
    else:
        machine = ADAPTER_ERRORS.get(number)
    if machine is not None:
        return AdapterError(
            f"{machine[0].format(adapter=adapter)} (connect to {address})", machine[1]
        )
    message, cause = CONNECT_ERRORS.get(number, (error.strerror or str(error), Cause.RADIO))
    if settings is not None and Setting.PRIVACY in settings and message == NOT_ESTABLISHED:
        message += PRIVATE.format(adapter=adapter)
    return ConnectError(message, cause)
