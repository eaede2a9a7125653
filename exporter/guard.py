"""In front of the web: who may ask, how often, and the headers that every answer has."""

import asyncio
import base64
import binascii
import hashlib
import hmac
import os
import time
from collections import Counter, OrderedDict
from collections.abc import Mapping
from typing import Any, Final

from exporter.asgi import App, Receive, Scope, Send, answer, network
from exporter.webconfig import WebConfig, WebConfigFile, cost

REMEMBERED: Final = 100  # passwords that were right or wrong
WAITING: Final = 20  # for a password to be looked at, which takes a tenth of a second or more
WAITING_EACH: Final = 3  # of one client: a flood of passwords keeps others waiting no longer


class Guard:
    """An ASGI app in front of another one."""

    def __init__(self, app: App, settings: WebConfigFile) -> None:
        """Let those through to `app` whom the settings allow."""
        self._app = app
        self._settings = settings
        self._one_at_a_time = asyncio.Lock()
        self._waiting: Counter[str] = Counter()  # by the client's address
        self._secret = os.urandom(32)
        self._known: OrderedDict[bytes, bool] = OrderedDict()
        self._tokens = float("inf")  # as many as the burst
        self._filled_at_s = time.monotonic()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or have it answered."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        config = self._settings.current()
        extra = [(name.lower().encode(), value.encode()) for name, value in config.headers]

        async def send_with_headers(message: Mapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *extra]}
            await send(message)

        if not self._has_token(config):
            await answer(send_with_headers, 429, "Too many requests: see rate_limit.")
            return
        allowed = await self._is_allowed(dict(config.users), scope) if config.users else True
        if allowed is None:
            await answer(send_with_headers, 429, "Too many passwords at once.")
        elif allowed:
            await self._app(scope, receive, send_with_headers)
        else:
            await answer(
                send_with_headers,
                401,
                "Unauthorized: a user name and password are needed.",
                headers=[(b"www-authenticate", b'Basic realm="bms-exporter"')],
            )

    def _has_token(self, config: WebConfig) -> bool:
        """Whether one more request is within rate_limit: a bucket that fills by one an interval."""
        if not config.rate_burst or not config.rate_interval_s:
            return True
        now_s = time.monotonic()
        filled = (now_s - self._filled_at_s) / config.rate_interval_s
        self._tokens = min(float(config.rate_burst), self._tokens + filled)
        self._filled_at_s = now_s
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    async def _is_allowed(self, users: Mapping[str, str], scope: Scope) -> bool | None:
        """Return whether the request has a right password; None: too many are being looked at."""
        name, password = _credentials(scope)
        # Where there is no such user the costliest hash is compared: nobody learns who there is.
        hashed = users.get(name) or max(users.values(), key=cost)
        key = hmac.digest(self._secret, b"\0".join((hashed.encode(), password)), hashlib.sha256)
        right = self._known.get(key)
        if right is not None:
            self._known.move_to_end(key)
            return right and name in users
        client = network(scope)
        if self._waiting[client] >= WAITING_EACH or self._waiting.total() >= WAITING:
            return None
        self._waiting[client] += 1
        try:
            async with self._one_at_a_time:
                right = await asyncio.to_thread(_is_right, password, hashed)
        finally:
            self._waiting -= Counter([client])
        self._known[key] = right
        while len(self._known) > REMEMBERED:
            # A wrong one first: a flood of them must not drive the right ones out.
            wrong = next((one for one, was_right in self._known.items() if not was_right), None)
            self._known.pop(wrong if wrong is not None else next(iter(self._known)))
        return right and name in users


def _credentials(scope: Scope) -> tuple[str, bytes]:
    """Return name and password of a request, empty where it has none."""
    header = next((value for key, value in scope["headers"] if key == b"authorization"), b"")
    scheme, _, encoded = header.partition(b" ")
    if scheme.lower() != b"basic":
        return "", b""
    try:
        name, _, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        return name.decode(), password
    except (binascii.Error, UnicodeDecodeError):
        return "", b""


def _is_right(password: bytes, hashed: str) -> bool:
    import bcrypt  # noqa: PLC0415 - 1 MB for those who have users

    # bcrypt looks at 72 bytes, and newer versions refuse more; 2y is PHP's and htpasswd's 2b.
    try:
        return bcrypt.checkpw(password[:72], hashed.replace("$2y$", "$2b$", 1).encode())
    except ValueError:  # a NUL in it
        return False
