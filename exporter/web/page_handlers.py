"""The web page and /api/v1: the current state, a stream of changes, and the last hours."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from exporter import __version__
from exporter.battery.banks import BankSnapshot, make_bank_snapshot
from exporter.battery.poller import Poller
from exporter.clock import WallClock
from exporter.config.schema import BankConfig
from exporter.localtime import LocalTime
from exporter.web import api_json as api
from exporter.web.assets import Asset, assets
from exporter.web.handler import NAME, ChangeHandler, Handler, Route
from exporter.web.subscribers import INTERVAL_S, Subscribers

log = logging.getLogger(__name__)

RELEASE_S: Final = 600.0  # long enough to find the phone
# With a max_age of 0 a page shows readings of its own polls until the next poll.
OWN_MAX_AGE_S: Final = INTERVAL_S + 10.0
LIFE_S: Final = 600.0  # of a stream; the page opens another one
NOW_S: Final = 1.0  # maximum age of the time in an event
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
    state = _State(subscribers, wall, metrics_path, banks, local_time)
    files = assets()
    routes: dict[str, Route] = {
        f"/page/{path}": (_AssetHandler, {"asset": asset}) for path, asset in files.items()
    }
    routes |= {
        "/": (_AssetHandler, {"asset": files["index.html"]}),
        "/api/v1/batteries": (_JsonHandler, {"make": state.batteries}),
        "/api/v1/history": (_JsonHandler, {"make": state.history}),
        f"/api/v1/batteries/{NAME}/failures": (_FailuresHandler, {"state": state}),
        "/api/v1/stream": (_StreamHandler, {"state": state}),
        "/api/v1/release": (
            _BatteryHandler,
            {"state": state, "act": _release, "done": "battery released"},
        ),
        "/api/v1/resume": (
            _BatteryHandler,
            {"state": state, "act": _resume, "done": "battery resumed"},
        ),
    }
    return routes


class _State:
    """The data of /api/v1, encoded once for all clients."""

    def __init__(
        self,
        subscribers: Subscribers,
        wall: WallClock,
        metrics_path: str,
        banks: Sequence[BankConfig],
        local_time: LocalTime | None,
    ) -> None:
        self.subscribers = subscribers
        self._banks = banks
        self._wall = wall
        self._local_time = local_time
        self._metrics_path = metrics_path
        self._curves = b""
        self._curves_key: object = None
        self._events: dict[str, tuple[object, float, bytes]] = {}  # state, unix time, event

    def batteries(self) -> Sequence[bytes]:
        return (api.to_json(self._batteries()),)

    def _batteries(self) -> dict[str, Any]:
        return {
            "version": api.VERSION,
            "exporter": __version__,
            "now_unix_s": self._wall.now_unix_s(),
            "poll_interval_s": INTERVAL_S,
            "metrics_path": self._metrics_path,
            "local_time": self._local_time and self._local_time.as_json(),
            "batteries": [battery_json(battery) for battery in self.subscribers.batteries.values()],
            "banks": [api.bank(self._snapshot(bank)) for bank in self._banks],
        }

    def _snapshot(self, bank: BankConfig) -> BankSnapshot:
        known = self.subscribers.batteries
        names = [name for name in bank.batteries if name in known]
        return make_bank_snapshot(bank, {name: known[name].peek(OWN_MAX_AGE_S) for name in names})

    def history(self) -> Sequence[bytes]:
        histories = {name: battery.history for name, battery in self.subscribers.batteries.items()}
        kept = tuple((name, history, history.revision) for name, history in histories.items())
        if kept != self._curves_key:
            self._curves_key = kept
            self._curves = api.curves(histories)
        return api.history(self._curves, now_unix_s=self._wall.now_unix_s())

    def events(self, changed: set[str | None]) -> bytes:
        """Return server-sent events for changed batteries; None among them: for everything."""
        if None in changed:
            return _event("batteries", self._batteries())
        events = [
            self._battery_event(name) for name in self.subscribers.batteries if name in changed
        ]
        return b"".join(events) or _event("alive", {"now_unix_s": self._wall.now_unix_s()})

    def _battery_event(self, name: str) -> bytes:
        battery = self.subscribers.batteries[name]
        banks = [self._snapshot(bank) for bank in self._banks if name in bank.batteries]
        state = battery.peek(OWN_MAX_AGE_S), banks
        now_unix_s = self._wall.now_unix_s()
        sent, sent_unix_s, event = self._events.get(name, (None, 0.0, b""))
        if sent != state or abs(now_unix_s - sent_unix_s) > NOW_S:
            data = {
                "now_unix_s": now_unix_s,
                "battery": battery_json(battery),
                "banks": [api.bank(bank) for bank in banks],
            }
            event = _event("battery", data)
            self._events[name] = state, now_unix_s, event
        return event


def battery_json(battery: Poller) -> dict[str, Any]:
    """Return the `Battery` object of docs/api.md, without a poll."""
    return api.battery(battery.peek(OWN_MAX_AGE_S))


def _event(name: str, data: Mapping[str, Any]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), api.to_json(data))


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


async def _release(battery: Poller) -> None:
    await battery.pause(RELEASE_S)


async def _resume(battery: Poller) -> None:
    battery.resume()


class _ApiHandler(Handler):
    def set_default_headers(self) -> None:
        """Forbid caches to keep the response."""
        super().set_default_headers()
        self.set_header("Content-Type", "application/json")
        self.set_header("Cache-Control", "no-store")
        self.set_header("X-Content-Type-Options", "nosniff")


class _JsonHandler(_ApiHandler):
    """Serves the current state or the curves, without a poll."""

    def initialize(self, make: Callable[[], Sequence[bytes]]) -> None:
        self._make = make

    async def respond(self) -> None:
        await self.send(200, *self._make(), b"\n")


class _FailuresHandler(_ApiHandler):
    """Serves the recordings of a battery's last failed polls, the oldest first."""

    def initialize(self, state: _State, name: str) -> None:
        self._batteries = state.subscribers.batteries
        self._name = name

    async def respond(self) -> None:
        if self._name not in self._batteries:
            names = ", ".join(self._batteries)
            await self.send(404, f"No battery of that name is configured, only {names}.")
            return
        self.set_header("Content-Type", "application/x-ndjson")
        failed = self._batteries[self._name].recordings.failed
        await self.send(200, *(text.encode() for text in failed))


class _BatteryHandler(ChangeHandler, _ApiHandler):
    """Pauses the polls of a battery for ten minutes, or resumes them, and logs who did it."""

    def initialize(
        self, state: _State, act: Callable[[Poller], Awaitable[None]], done: str
    ) -> None:
        self._batteries = state.subscribers.batteries
        self._act = act
        self._done = done

    async def change(self) -> None:
        name = await self.battery_name("battery", self._batteries)
        if name is not None:
            battery = self._batteries[name]
            by = {} if self.user is None else {"user": self.user}
            log.info(self._done, extra={"battery": name, **by})
            await self._act(battery)
            await self.send(200, api.to_json(battery_json(battery)), b"\n")


class _StreamHandler(_ApiHandler):
    """Sends changes as server-sent events, for at most LIFE_S."""

    def initialize(self, state: _State) -> None:
        self._state = state
        self._leave: Callable[[], None] = lambda: None

    def on_connection_close(self) -> None:
        super().on_connection_close()
        self._leave()

    async def respond(self) -> None:
        subscribers = self._state.subscribers
        if subscribers.is_full_for(self.client):
            await self.send(503, "Too many pages are open.")
            return
        self.set_header("Content-Type", "text/event-stream")
        self.set_header("X-Accel-Buffering", "no")
        if self.request.method != "HEAD":
            await self._stream(subscribers)
        await self.deliver(self.finish())

    async def _stream(self, subscribers: Subscribers) -> None:
        loop = asyncio.get_running_loop()
        end_s = loop.time() + LIFE_S
        with subscribers.subscribe(self.client) as subscriber:
            self._leave = subscriber.wake
            while loop.time() < end_s:
                changed = await subscriber.changes()
                if subscribers.is_closed or self.has_left or not self.is_still_allowed:
                    return
                self.write(self._state.events(changed))
                await self.deliver(self.flush())
