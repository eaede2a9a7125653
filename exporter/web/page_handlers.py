"""The web page: its files, and the routes of /api/v1, which it uses."""

from collections.abc import Sequence
from typing import Final

from exporter.clock import WallClock
from exporter.config.schema import BankConfig
from exporter.localtime import LocalTime
from exporter.web.api_handlers import api_routes
from exporter.web.api_state import State
from exporter.web.assets import Asset, assets
from exporter.web.handler import Handler
from exporter.web.routing import Route
from exporter.web.subscribers import Subscribers

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def page_routes(
    subscribers: Subscribers,
    wall: WallClock,
    metrics_path: str,
    banks: Sequence[BankConfig] = (),
    local_time: LocalTime | None = None,
) -> dict[str, Route]:
    """Return the routes of the page and of /api/v1; the page links to `metrics_path`."""
    files = assets()
    routes: dict[str, Route] = {
        f"/page/{path}": (_AssetHandler, {"asset": asset}) for path, asset in files.items()
    }
    routes["/"] = _AssetHandler, {"asset": files["index.html"]}
    return routes | api_routes(State(subscribers, wall, metrics_path, banks, local_time))


class _AssetHandler(Handler):
    def initialize(self, asset: Asset) -> None:
        self._asset = asset

    async def respond(self) -> None:
        for name, value in {
            "Content-Type": self._asset.content_type,
            "ETag": self._asset.etag,
            "Cache-Control": "no-cache",
            "Content-Security-Policy": POLICY,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
        }.items():
            self.set_header(name, value)
        if self.request.headers.get("If-None-Match") == self._asset.etag:
            await self.send(304, b"")
        else:
            await self.send(200, self._asset.body)
