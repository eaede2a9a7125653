"""Chooses among the profiles in a battery's GATT table."""

from collections.abc import Iterable, Mapping
from typing import Final, TypeVar

from exporter.errors import ProfileError
from exporter.protocol.profiles import PROFILES

NAMED: Final = 10  # services in a message; a battery has three or four

T = TypeVar("T")


def choose_profiles(
    present: Mapping[str, T], services: Iterable[str], configured: str | None
) -> Mapping[str, T]:
    """Return the profiles to try, in this order: all that are `present`, or the configured one.

    Advertised services are not used: the MOBILEKTRO advertises ff00 and has the Nordic UART.

    Raises:
        ProfileError: There is none, or not the configured one; the message names some `services`.
    """
    names = sorted(set(services))
    more = [f"{len(names) - NAMED} more"] if len(names) > NAMED else []
    offered = ", ".join([*names[:NAMED], *more]) or "none"
    if not present:
        raise ProfileError(f"no JBD service: expected one of {', '.join(PROFILES)}, got {offered}")
    if configured is None:
        return present
    if configured not in present:
        raise ProfileError(f"profile {configured} is configured, but its services are {offered}")
    return {configured: present[configured]}
