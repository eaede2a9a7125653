"""Batteries that are read through fake ESPHome proxies."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from exporter.battery.poller import Poller
from exporter.battery.snapshot import Snapshot
from exporter.ble.proxies import Proxies
from exporter.ble.routes import Routes
from exporter.ble.transport import ScanningTransport
from exporter.config.schema import PollConfig, ProxyConfig, Seconds
from tests.support.fake_proxy import FakeProxy, running_proxy
from tests.support.virtual import ADDRESS, make_poller

KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


class Proxied:
    """Reads batteries through proxies only."""

    def __init__(
        self, tasks: asyncio.TaskGroup, *configs: ProxyConfig, timeout_s: float = 30.0
    ) -> None:
        self.proxies = Proxies()
        self.routes = routes_of(self.proxies.make_transports(configs))
        self._tasks = tasks
        self._poll = PollConfig(
            timeout_s=Seconds(timeout_s), min_interval_s=Seconds(0.0), backoff_max_s=Seconds(1.0)
        )
        self._pollers: dict[str, Poller] = {}

    async def poll(self, address: str = ADDRESS, **options: Any) -> Snapshot:
        """Read a battery once, and wait for the end of its connection."""
        if address not in self._pollers:
            self._pollers[address] = make_poller(
                self.routes,
                self._tasks,
                name=address,
                address=address,
                poll=self._poll,
                **options,
            )
        poller = self._pollers[address]
        polls = poller.peek(0.0).polls
        while poller.peek(0.0).polls == polls:  # not while it is in back-off
            snapshot = await poller.refresh(timeout_s=60.0)
            await poller.close()
            await asyncio.sleep(0.01)
        return snapshot

    async def fail(self, address: str = ADDRESS, **options: Any) -> tuple[str, str]:
        """Return reason and message of a poll that fails."""
        snapshot = await self.poll(address, **options)
        assert snapshot.failure is not None
        assert not snapshot.up
        return snapshot.failure, str(snapshot.last_error)


def routes_of(transports: Mapping[str, ScanningTransport]) -> Routes:
    """Return routes over these proxies only."""
    return Routes(bluez=_no_bluez, adapters=list, proxies=transports)


def _no_bluez(_adapter: str | None) -> Any:
    raise AssertionError("no adapter is needed")


@asynccontextmanager
async def proxied(
    tasks: asyncio.TaskGroup,
    *batteries: Any,
    config: Mapping[str, Any] | None = None,
    timeout_s: float = 30.0,
    **options: Any,
) -> AsyncIterator[tuple[FakeProxy, Proxied]]:
    """Run a proxy, and what reads batteries through it; nothing may be left at the end."""
    async with running_proxy(*batteries, **options) as proxy:
        reading = Proxied(tasks, proxy.config(**(config or {})), timeout_s=timeout_s)
        try:
            yield proxy, reading
            assert proxy.misuses == []
        finally:
            reading.proxies.close()
