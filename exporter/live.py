"""The page in the camper and /api/v1: what is known now, as it changes, and the last hours."""

import asyncio
import time
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from exporter import __version__, api
from exporter.asgi import Receive, Route, Scope, Send, answer, header, named_battery, network
from exporter.assets import Asset, assets
from exporter.poller import Poller
from exporter.watch import INTERVAL_S, Watch

RELEASE_S: Final = 600.0  # long enough to find the phone
# With a max_age of 0 a page shows what it has read itself, until it reads again.
OWN_MAX_AGE_S: Final = INTERVAL_S + 10.0
LIFE_S: Final = 600.0  # of a stream; pages open another, as far as they still may
JSON: Final = b"application/json"
POLICY: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    b"manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SECURITY: Final = (
    (b"content-security-policy", POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
FRESH: Final = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))


class Live:
    """Routes of the page and of /api/v1."""

    def __init__(self, watch: Watch, *, metrics_path: str = "/metrics") -> None:
        """Prepare; `metrics_path` is told to the page."""
        self._watch = watch
        self._metrics_path = metrics_path
        self._rendered = b""
        self._rendered_of: object = None
        self._told: dict[str, tuple[int, bytes]] = {}
        files = assets()
        self.routes: dict[str, Route] = {
            **{f"/page/{path}": partial(_asset, asset) for path, asset in files.items()},
            "/api/v1/batteries": self._batteries,
            "/api/v1/history": self._history,
            "/api/v1/stream": self._stream,
        }
        """What is read, by path."""
        if (index := files.get("index.html")) is not None:
            self.routes["/"] = partial(_asset, index)
        self.changes: dict[str, Route] = {
            "/api/v1/release": self._release,
            "/api/v1/resume": self._resume,
        }
        """What changes something, by path."""

    async def _batteries(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await _send_json(send, api.to_json(self._state()))

    async def _history(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        of = {name: battery.history for name, battery in self._watch.batteries.items()}
        kept = tuple((name, history, history.kept) for name, history in of.items())
        if kept != self._rendered_of:
            self._rendered_of = kept
            self._rendered = api.to_json(api.histories(of, now_unix_s=time.time()))
        await _send_json(send, self._rendered)

    async def _release(self, scope: Scope, _receive: Receive, send: Send) -> None:
        name = await named_battery(scope, send, "battery", self._watch.batteries)
        if name is not None:
            battery = self._watch.batteries[name]
            await battery.pause(RELEASE_S)
            await _send_json(send, api.to_json(_told(battery)))

    async def _resume(self, scope: Scope, _receive: Receive, send: Send) -> None:
        name = await named_battery(scope, send, "battery", self._watch.batteries)
        if name is not None:
            battery = self._watch.batteries[name]
            battery.resume()
            await _send_json(send, api.to_json(_told(battery)))

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send what changes as server-sent events, until one of both ends goes."""
        if self._watch.is_full_for(client := network(scope)):
            await answer(send, 503, "Too many pages are open.")
            return
        headers = [(b"content-type", b"text/event-stream"), *FRESH, (b"x-accel-buffering", b"no")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if scope["method"] != "HEAD":
            with self._watch.watching(client) as watcher:
                gone = asyncio.create_task(_until_gone(receive))
                gone.add_done_callback(lambda _: watcher.wake())
                try:
                    end_s = asyncio.get_running_loop().time() + LIFE_S
                    while asyncio.get_running_loop().time() < end_s:
                        changed = await watcher.changes()
                        if gone.done() or self._watch.closed:
                            break
                        body = self._events(changed)
                        message = {"type": "http.response.body", "body": body, "more_body": True}
                        await send(message)
                finally:
                    gone.cancel()
        await send({"type": "http.response.body", "body": b""})

    def _events(self, changed: set[str | None]) -> bytes:
        if None in changed:
            return _event("batteries", self._state())
        events = [self._event_of(name) for name in self._watch.batteries if name in changed]
        return b"".join(events) or _event("alive", {"now_unix_s": time.time()})

    def _event_of(self, name: str) -> bytes:
        """Return what a battery's change is to every stream: it is encoded once."""
        battery = self._watch.batteries[name]
        snapshot = battery.peek(OWN_MAX_AGE_S)
        revision, event = self._told.get(name, (0, b""))
        if revision != snapshot.revision:
            data = {"now_unix_s": time.time(), "battery": _told(battery)}
            event = _event("battery", data)
            self._told[name] = snapshot.revision, event
        return event

    def _state(self) -> dict[str, Any]:
        return {
            "version": api.VERSION,
            "exporter": __version__,
            "now_unix_s": time.time(),
            "poll_interval_s": INTERVAL_S,
            "metrics_path": self._metrics_path,
            "batteries": [_told(battery) for battery in self._watch.batteries.values()],
        }


def _told(battery: Poller) -> dict[str, Any]:
    return api.battery(battery.peek(OWN_MAX_AGE_S), battery.history, now_unix_s=time.time())


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _event(name: str, data: Mapping[str, Any]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), api.to_json(data))


async def _send_json(send: Send, body: bytes) -> None:
    await answer(send, 200, body.decode(), content_type=JSON, headers=FRESH)


async def _asset(asset: Asset, scope: Scope, _receive: Receive, send: Send) -> None:
    unchanged = header(scope, b"if-none-match") == asset.etag
    body = b"" if unchanged else asset.body
    headers = [
        (b"content-type", asset.content_type),
        (b"etag", asset.etag),
        (b"cache-control", b"no-cache"),
        *SECURITY,
    ]
    if not unchanged:
        headers.append((b"content-length", str(len(body)).encode()))
    status = 304 if unchanged else 200
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
