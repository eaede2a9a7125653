"""How each battery is reached, and what is remembered of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from exporter.ble.adapter_choice import Choice
from exporter.ble.ladder import (
    BLUEZ,
    BLUEZ_GENTLE,
    DIRECT,
    GENTLE,
    PROXY,
    PROXY_GENTLE,
    Ladder,
    Rung,
)
from exporter.ble.transport import Target
from exporter.config.schema import TransportChoice
from exporter.errors import BmsError


@dataclass(slots=True)
class Rungs:
    """Where a battery stands over the adapters, or over the proxies."""

    ladder: Ladder
    used: Rung  # by the last poll


@dataclass(slots=True)
class Way:
    """How one battery is reached, and what is remembered of it."""

    local: Rungs  # over the adapters
    proxied: Rungs
    is_proxied: bool = False  # the last poll used a proxy
    choice: Choice = field(default_factory=Choice)
    failure: BmsError | None = None  # of the last poll
    read_at_s: float = float("-inf")

    @property
    def rungs(self) -> Rungs:
        """Those of the last poll."""
        return self.proxied if self.is_proxied else self.local

    @property
    def ladder(self) -> Ladder:
        """That of the last poll."""
        return self.rungs.ladder


def choose_rungs(
    target: Target, bluez: Sequence[Rung], *, has_direct: bool, prefers_direct: bool
) -> Sequence[Rung]:
    """Return the rungs of a battery over the adapters; `bluez` are those through bluetoothd."""
    link = target.link
    if link is None:
        link = TransportChoice.AUTO if prefers_direct else TransportChoice.BLUEZ
    if not has_direct or link is TransportChoice.BLUEZ:
        return [BLUEZ_GENTLE] if target.gentle else bluez
    direct = [GENTLE] if target.gentle else [DIRECT, GENTLE]
    if link is TransportChoice.DIRECT:
        return direct
    return [*direct, BLUEZ_GENTLE if target.gentle else BLUEZ]


def make_way(target: Target, local: Sequence[Rung]) -> Way:
    """Return the way of a battery that was not reached yet."""
    proxied = [PROXY_GENTLE] if target.gentle else [PROXY, PROXY_GENTLE]
    return Way(Rungs(Ladder(local), local[0]), Rungs(Ladder(proxied), proxied[0]))
