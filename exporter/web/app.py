"""The HTTP application: its routes, and the handlers of metrics, health and reload."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from exporter.battery.poller import Poller
from exporter.battery.snapshot import Snapshot
from exporter.clock import WallClock
from exporter.config.schema import BankConfig
from exporter.localtime import LocalTime
from exporter.metrics import PROCESS, ExporterCollector
from exporter.web.auth import Access
from exporter.web.exposition import Exposition
from exporter.web.handler import ChangeHandler, Handler
from exporter.web.page_handlers import page_routes
from exporter.web.routing import App, Route
from exporter.web.subscribers import Subscribers

TEMPLATES: Final = 16  # of the exposition to keep, besides two for each battery
USEFUL: Final = 3  # paths in a 404
TIMEOUT_HEADER: Final = "X-Prometheus-Scrape-Timeout-Seconds"

Reload = Callable[[], Awaitable[Sequence[str]]]


def make_app(  # noqa: PLR0913 - options, all by name
    *,
    batteries: Mapping[str, Poller],
    banks: Sequence[BankConfig] = (),
    own: ExporterCollector | None = None,
    reload: Reload | None = None,
    subscribers: Subscribers | None = None,
    wall: WallClock | None = None,
    local_time: LocalTime | None = None,
    access: Access | None = None,
    timeout_offset_s: float = 0.5,
    telemetry_path: str = "/metrics",
) -> App:
    """Build the application with its routes.

    Args:
        batteries: By configured name, in the order in which they are shown; may change later.
        banks: Of these batteries; may change later. For the telemetry path and the page only.
        own: The exporter's own metrics, for the telemetry path only.
        reload: Reads the configuration again; returns its mistakes, nothing if it is used.
        subscribers: The batteries of the page; None: there is no page.
        wall: Converts the batteries' times to unix time.
        local_time: For the page; None: the page does not know it.
        access: Passwords and rate limit; None: every request is allowed.
        timeout_offset_s: The part of a scrape's time-out that is kept for sending the response.
        telemetry_path: Where the metrics are.
    """
    scraping = {
        "batteries": batteries,
        "exposition": Exposition(
            [own, PROCESS] if own else [PROCESS], lambda: TEMPLATES + 2 * len(batteries), banks
        ),
        "timeout_offset_s": timeout_offset_s,
    }
    routes: dict[str, Route] = {}
    if subscribers is not None:
        routes = page_routes(subscribers, wall or WallClock(), telemetry_path, banks, local_time)
    routes |= {
        "/probe": (_ProbeHandler, scraping),
        "/-/healthy": (_HealthHandler, {}),
        "/-/ready": (_HealthHandler, {}),
        telemetry_path: (_MetricsHandler, scraping),
    }
    if reload is not None:
        routes["/-/reload"] = _ReloadHandler, {"reload": reload}
    found = ("/", telemetry_path, "/api/v1", "/probe?target=NAME", "/-/healthy")
    useful = [path for path in found if path.partition("?")[0] in routes]
    return App(routes, access, useful[:USEFUL])


def _usable_timeout_s(header: str | None, offset_s: float) -> float | None:
    """Return how long a scrape may wait for polls; None: it sent no valid time-out."""
    try:
        timeout_s = float(header or "")
    except ValueError:
        return None
    if not (math.isfinite(timeout_s) and timeout_s > 0):
        return None
    return max(0.0, timeout_s - offset_s)


class _ScrapeHandler(Handler):
    def initialize(
        self, batteries: Mapping[str, Poller], exposition: Exposition, timeout_offset_s: float
    ) -> None:
        self._batteries = batteries
        self._exposition = exposition
        self._timeout_s = _usable_timeout_s(
            self.request.headers.get(TIMEOUT_HEADER), timeout_offset_s
        )
        self._reading: asyncio.Task[Any] | None = None

    def on_connection_close(self) -> None:
        """Stop waiting for the client's poll, which continues for others."""
        super().on_connection_close()
        if self._reading is not None:
            self._reading.cancel()

    async def read(self, names: Sequence[str]) -> list[Snapshot]:
        """Poll these batteries at the same time; cancelled when the client leaves."""
        self._reading = asyncio.current_task()
        try:
            polls = (self._batteries[name].refresh(timeout_s=self._timeout_s) for name in names)
            return await asyncio.gather(*polls)
        finally:
            self._reading = None

    async def show(self, snapshots: Sequence[Snapshot], *, own: bool) -> None:
        """Send snapshots as Prometheus text, with the exporter's metrics if `own`."""
        headers, body = self._exposition.response(
            self.request.headers, self.request.query, snapshots, own=own
        )
        for name, value in headers.items():
            self.set_header(name, value)
        await self.send(200, body)


class _MetricsHandler(_ScrapeHandler):
    """Serves all batteries and the exporter's metrics."""

    async def respond(self) -> None:
        batteries = self._batteries
        due = [name for name, battery in batteries.items() if not battery.is_fresh]
        read: dict[str, Snapshot] = {}
        if due:  # asyncio.gather starts a task for each battery
            read = dict(zip(due, await self.read(due), strict=True))
        await self.show(
            [read.get(name) or battery.show() for name, battery in batteries.items()], own=True
        )


class _ProbeHandler(_ScrapeHandler):
    """Serves one battery."""

    async def respond(self) -> None:
        name = await self.battery_name("target", self._batteries)
        if name is not None:
            await self.show(await self.read([name]), own=False)


class _HealthHandler(Handler):
    """Answers without using the radio."""

    async def respond(self) -> None:
        await self.send(200, "BMS exporter is running.")


class _ReloadHandler(ChangeHandler):
    FROM_PAGE = False

    def initialize(self, reload: Reload) -> None:
        self._reload = reload

    async def change(self) -> None:
        problems = await self._reload()
        if problems:
            await self.send(500, "\n".join(["The old configuration stays:", *problems]))
        else:
            await self.send(200, "The configuration was reloaded.")
