"""Two transports over one adapter, with the faults that a test sets; no radio and no sockets."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from exporter.ble.routes import Routes
from exporter.ble.timeouts import FIND_S
from exporter.ble.transport import Target
from exporter.errors import (
    AdapterError,
    BmsError,
    Cause,
    ConnectError,
    LinkLostError,
    NotFoundError,
    PairingError,
    ReplyTimeoutError,
)
from exporter.link_stats import LinkStats
from tests.support.virtual import FakeConnection, battery, now_s

FAST, GENTLE, BLUEZ = ROUTES = ("direct fast", "direct gentle", "bluez fast")
Fault = Callable[[], BmsError]
GATT: Fault = lambda: LinkLostError("no answer to ATT request 0x10", Cause.GATT)  # noqa: E731
RADIO: Fault = lambda: ConnectError("heard, but the connection did not come about")  # noqa: E731
QUIET: Fault = lambda: ReplyTimeoutError("register 0x03: no reply")  # noqa: E731
PAIRING: Fault = lambda: PairingError("the battery wants pairing first")  # noqa: E731
REFUSED: Fault = lambda: AdapterError("the kernel does not find hci0 by its address", Cause.MACHINE)  # noqa: E731
OFF: Fault = lambda: AdapterError("hci0 is switched off")  # noqa: E731
ABSENT: Fault = lambda: NotFoundError("not seen in 10 s")  # noqa: E731
HELD: Fault = lambda: ConnectError("another program is connected to it", Cause.HELD)  # noqa: E731
WEDGED: Fault = lambda: AdapterError("hci0 does not answer any more", Cause.WEDGE)  # noqa: E731


@dataclass(slots=True)
class Machine:
    """Two transports over one adapter, each with the fault that it has now."""

    faults: dict[str, Fault | None] = field(default_factory=dict)  # by route
    used: list[str] = field(default_factory=list)
    attempts_at_s: list[float] = field(default_factory=list)  # to connect
    waited_s: float = 0.0  # for a battery that is away
    stats: LinkStats = field(default_factory=LinkStats)
    adapters: list[str] = field(default_factory=list)
    suspended_s: float = 0.0  # in all

    def routes(self, **options: Any) -> Routes:
        return Routes(
            bluez=lambda _: _Transport(self, "bluez"),  # type: ignore[arg-type,return-value]
            direct=lambda _: _Transport(self, "direct"),
            adapters=lambda: self.adapters,
            clock=lambda: now_s() + self.suspended_s,
            **options,
        )


@dataclass(slots=True)
class _Transport:
    machine: Machine
    name: str
    targets: Mapping[str, Target] = field(default_factory=dict)

    @asynccontextmanager
    async def connect(
        self, target: Target, *, deadline_s: float, is_gentle: bool = False
    ) -> AsyncIterator[FakeConnection]:
        assert deadline_s > now_s()
        style = "gentle" if is_gentle and self.name == "direct" else "fast"
        route = f"{self.name} {style}"
        self.machine.used.append(route)
        fault = self.machine.faults.get(route)
        if fault is ABSENT:
            await asyncio.sleep(FIND_S)
            self.machine.waited_s += FIND_S
        elif fault not in {REFUSED, OFF}:
            self.machine.attempts_at_s.append(now_s())
        if fault is not None and fault is not QUIET:
            raise fault()
        silent = ("ff00",) if fault is QUIET else ()
        yield FakeConnection(battery(), silent=silent)
