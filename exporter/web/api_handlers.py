"""The handlers of /api/v1; openapi.json describes their requests and responses."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

from exporter import __version__
from exporter.battery.poller import Poller
from exporter.web import api_json as api
from exporter.web.api_state import State
from exporter.web.handler import JSON, ChangeHandler, Handler
from exporter.web.routing import NAME, Route
from exporter.web.subscribers import Subscribers

log = logging.getLogger(__name__)

ROOT: Final = "/api/v1"
RELEASE_S: Final = 600.0  # long enough to find the phone
LIFE_S: Final = 600.0  # of a stream; the page opens another one


def api_routes(state: State) -> dict[str, Route]:
    """Return the routes of /api/v1."""
    description = Path(__file__).with_name("openapi.json").read_bytes().strip()
    index = {"make": lambda: (make_index(description),)}
    return {
        ROOT: (_JsonHandler, index),
        f"{ROOT}/": (_JsonHandler, index),
        f"{ROOT}/openapi.json": (_JsonHandler, {"make": lambda: (description,)}),
        f"{ROOT}/batteries": (_JsonHandler, {"make": state.batteries}),
        f"{ROOT}/history": (_JsonHandler, {"make": state.history}),
        f"{ROOT}/batteries/{NAME}/failures": (_FailuresHandler, {"state": state}),
        f"{ROOT}/stream": (_StreamHandler, {"state": state}),
        f"{ROOT}/release": (
            _BatteryHandler,
            {"state": state, "act": _release, "done": "battery released"},
        ),
        f"{ROOT}/resume": (
            _BatteryHandler,
            {"state": state, "act": _resume, "done": "battery resumed"},
        ),
    }


def make_index(description: bytes) -> bytes:
    """Return the requests of /api/v1 as JSON, from their OpenAPI description."""
    requests = [
        {"method": method.upper(), "path": ROOT + path, "summary": operation["summary"]}
        for path, operations in json.loads(description)["paths"].items()
        for method, operation in operations.items()
    ]
    return api.to_json({"version": api.VERSION, "exporter": __version__, "requests": requests})


async def _release(battery: Poller) -> None:
    await battery.pause(RELEASE_S)


async def _resume(battery: Poller) -> None:
    battery.resume()


class _ApiHandler(Handler):
    def set_default_headers(self) -> None:
        """Forbid caches to keep the response."""
        super().set_default_headers()
        self.set_header("Content-Type", JSON)
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

    def initialize(self, state: State, name: str) -> None:
        self._batteries = state.subscribers.batteries
        self._name = name

    async def respond(self) -> None:
        if self._name not in self._batteries:
            names = ", ".join(self._batteries)
            await self.fail(404, f"No battery of that name is configured, only {names}.")
            return
        self.set_header("Content-Type", "application/x-ndjson")
        failed = self._batteries[self._name].recordings.failed
        await self.send(200, *(text.encode() for text in failed))


class _BatteryHandler(ChangeHandler, _ApiHandler):
    """Pauses the polls of a battery for ten minutes, or resumes them, and logs who did it."""

    METHODS = ("POST",)

    def initialize(self, state: State, act: Callable[[Poller], Awaitable[None]], done: str) -> None:
        self._state = state
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
            await self.send(200, api.to_json(self._state.battery(battery)), b"\n")


class _StreamHandler(_ApiHandler):
    """Sends changes as server-sent events, for at most LIFE_S."""

    def initialize(self, state: State) -> None:
        self._state = state
        self._leave: Callable[[], None] = lambda: None

    def on_connection_close(self) -> None:
        super().on_connection_close()
        self._leave()

    async def respond(self) -> None:
        subscribers = self._state.subscribers
        if subscribers.is_full_for(self.client):
            await self.fail(503, "Too many pages are open.")
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
