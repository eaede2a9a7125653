"""The HTTP surface: an ASGI app with one route a path."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final, Protocol

from exporter.asgi import Receive, Route, Scope, Send, answer, named_battery
from exporter.exposition import Exposition
from exporter.live import Live
from exporter.metrics import ExporterCollector
from exporter.poller import Snapshot

REMEMBERED: Final = 16  # renderings, beside those of probes
TIMEOUT_HEADER: Final = b"x-prometheus-scrape-timeout-seconds"

Reload = Callable[[], Awaitable[Sequence[str]]]


class Battery(Protocol):
    """What is asked of a battery's poller."""

    @property
    def is_fresh(self) -> bool:
        """Whether what is known needs not be read anew."""

    def show(self) -> Snapshot:
        """Return what is known."""

    async def refresh(self, *, timeout_s: float | None) -> Snapshot:
        """Return what is known, read anew if that is due and possible in time; None: its own."""


class Web:
    """The ASGI app."""

    def __init__(  # noqa: PLR0913 - options, all by name
        self,
        *,
        batteries: Mapping[str, Battery],
        own: ExporterCollector | None = None,
        reload: Reload | None = None,
        live: Live | None = None,
        timeout_offset_s: float = 0.5,
        telemetry_path: str = "/metrics",
    ) -> None:
        """Prepare the routes.

        Args:
            batteries: By configured name, in the order in which they are shown.
            own: The exporter's own metrics, and its process's, for the telemetry path only.
            reload: Reads the configuration again; returns why not, nothing if it was read.
            live: The page and what it asks for.
            timeout_offset_s: How much of a scrape's time-out is kept for the answer's way.
            telemetry_path: Where the metrics are.
        """
        self._batteries = batteries
        self._exposition = Exposition(own, lambda: REMEMBERED + 2 * len(batteries))
        self._reload_configuration = reload
        self._timeout_offset_s = timeout_offset_s
        self._telemetry_path = telemetry_path
        self._routes: dict[str, Route] = {
            **({} if live is None else live.routes),
            "/probe": self._probe,
            "/-/healthy": self._healthy,
            "/-/ready": self._healthy,
            telemetry_path: self._metrics,
        }
        self._changes: dict[str, Route] = {} if live is None else live.changes
        if reload is not None:
            self._changes = {**self._changes, "/-/reload": self._reload}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close"})
        else:
            scope = {**scope, "path": _path(scope["path"])}
            route = self._routes.get(scope["path"])
            if (change := self._changes.get(scope["path"])) is not None:
                await self._change(change, scope, receive, send)
            elif route is None:
                paths = ", ".join(
                    path for path in (*self._routes, *self._changes) if not path.startswith("/page")
                )
                await answer(send, 404, f"There is nothing here. Try one of {paths}.")
            elif scope["method"] not in ("GET", "HEAD"):
                await answer(
                    send,
                    405,
                    f"Use GET to read {scope['path']}.",
                    headers=[(b"allow", b"GET, HEAD")],
                )
            else:
                await route(scope, receive, send)

    async def _metrics(self, scope: Scope, _receive: Receive, send: Send) -> None:
        due = [name for name, battery in self._batteries.items() if not battery.is_fresh]
        read: dict[str, Snapshot] = {}
        if due:  # gathering costs a task a battery
            timeout_s = self._timeout_s(scope)
            polls = (self._batteries[name].refresh(timeout_s=timeout_s) for name in due)
            read = dict(zip(due, await asyncio.gather(*polls), strict=True))
        snapshots = [read.get(name) or battery.show() for name, battery in self._batteries.items()]
        await self._exposition.answer(scope, send, snapshots, own=True)

    async def _probe(self, scope: Scope, _receive: Receive, send: Send) -> None:
        name = await named_battery(scope, send, "target", self._batteries)
        if name is not None:
            snapshot = await self._batteries[name].refresh(timeout_s=self._timeout_s(scope))
            await self._exposition.answer(scope, send, [snapshot], own=False)

    async def _change(self, change: Route, scope: Scope, receive: Receive, send: Send) -> None:
        """Let through what changes something only as a POST that no foreign web page has sent."""
        if scope["method"] not in ("POST", "PUT"):
            await answer(
                send, 405, f"Use POST for {scope['path']}.", headers=[(b"allow", b"POST, PUT")]
            )
        elif _is_foreign(scope["headers"], is_asked_by_page=scope["path"] != "/-/reload"):
            await answer(send, 403, "This request comes from another web page.")
        else:
            await change(scope, receive, send)

    async def _reload(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        assert self._reload_configuration is not None  # noqa: S101 - else there is no such route
        problems = await self._reload_configuration()
        if problems:
            text = "\n".join(["The old configuration stays:", *problems])
            await answer(send, 500, text)
        else:
            await answer(send, 200, "The configuration was reloaded.")

    async def _healthy(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await answer(send, 200, "BMS exporter is running.")

    def _timeout_s(self, scope: Scope) -> float | None:
        """Return how long this scrape may wait for polls; None: it does not say."""
        for name, value in scope["headers"]:
            if name == TIMEOUT_HEADER:
                try:
                    timeout_s = float(value)
                except ValueError:
                    break
                if math.isfinite(timeout_s) and timeout_s > 0:
                    return max(0.0, timeout_s - self._timeout_offset_s)
        return None


def _path(target: str) -> str:
    """Return the path of a request target, which proxies write as http://camper:12200/metrics."""
    if target.startswith(("http://", "https://")):
        return "/" + target.split("/", maxsplit=3)[3] if target.count("/") > 2 else "/"  # noqa: PLR2004
    return target


def _is_foreign(headers: Iterable[tuple[bytes, bytes]], *, is_asked_by_page: bool) -> bool:
    """Whether a browser says that a web page has made this request that should not."""
    said = dict(headers)
    origin = said.get(b"origin")
    site = said.get(b"sec-fetch-site", b"none")
    if not is_asked_by_page:  # a name that suddenly means this machine makes any page ours
        return origin is not None or site != b"none"
    if site in (b"cross-site", b"same-site"):
        return True
    return origin is not None and origin.partition(b"://")[2] != said.get(b"host")


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
