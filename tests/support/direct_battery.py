"""One virtual battery behind the direct link, with the routes and the poller that read it."""

import asyncio
from typing import Any

from exporter.battery.poller import Poller
from exporter.battery.snapshot import Snapshot
from exporter.ble.direct.management import Management
from exporter.ble.direct.transport import DirectTransport
from exporter.config.schema import PollConfig, Seconds, TransportChoice
from exporter.demo.battery import Faults, VirtualBattery
from tests.support import att_server
from tests.support.virtual import battery, make_direct_routes, make_poller, now_s


class DirectBattery:
    """One virtual battery, the kernel's sockets, and the exporter's routes and poller."""

    def __init__(
        self,
        tasks: asyncio.TaskGroup,
        virtual: VirtualBattery,
        timeout_s: float = 5.0,
        link: TransportChoice | None = None,
        **options: Any,
    ) -> None:
        self.battery = virtual
        self.air = att_server.Air({virtual.address: virtual}, **options)
        self.transport = DirectTransport(kernel=self.air.make_kernel(), clock=now_s)
        self.routes = make_direct_routes(self.transport)
        self.poller: Poller = make_poller(
            self.routes,
            tasks,
            address=virtual.address,
            link=link,
            poll=PollConfig(
                min_interval_s=Seconds(0.0), max_age_s=Seconds(0.0), timeout_s=Seconds(timeout_s)
            ),
        )

    def manage(self, command: Any, **options: bool) -> None:
        """Give the transport this management socket, as if it had been made with it."""
        management = Management(**options, command=command, kernel=self.air.make_kernel())
        self.transport._management = self.transport._waiting.management = management

    async def poll(self) -> Snapshot:
        snapshot = await self.poller.refresh(timeout_s=10.0)
        await self.poller.close()
        return snapshot

    async def fail(self) -> Snapshot:
        """Poll; check that it failed, shows no reading and left no connection."""
        snapshot = await self.poll()
        assert not snapshot.up
        assert snapshot.reading is None
        assert self.air.make_kernel().connected_on(self.battery.address) is None
        return snapshot


def quick(**options: Any) -> VirtualBattery:
    """Return a MOBILEKTRO that replies after 5 ms, unless other faults are given."""
    options.setdefault("faults", Faults(reply_s=0.005))
    return battery(**options)


def remaining_ah(snapshot: Snapshot) -> float | None:
    assert snapshot.reading is not None
    assert snapshot.reading.basic is not None
    return snapshot.reading.basic.remaining_ah
