"""Passwords, rate limit and configured headers in front of an ASGI app."""

from collections.abc import Mapping
from typing import Any

from exporter.access import Passwords, RateLimit, Verdict
from exporter.asgi import App, Receive, Scope, Send, answer, header, network
from exporter.webconfig import WebConfigFile


class Guard:
    """An ASGI app in front of another one."""

    def __init__(self, app: App, settings: WebConfigFile) -> None:
        """Pass on to `app` what the settings allow."""
        self._app = app
        self._settings = settings
        self._passwords = Passwords()
        self._rate_limit = RateLimit()

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

        if not self._rate_limit.take(burst=config.rate_burst, interval_s=config.rate_interval_s):
            await answer(send_with_headers, 429, "Too many requests: see rate_limit.")
            return
        authorization = header(scope, b"authorization").decode("latin-1")
        verdict = await self._passwords.check(dict(config.users), authorization, network(scope))
        if verdict is Verdict.BUSY:
            await answer(send_with_headers, 429, "Too many passwords at once.")
        elif verdict is Verdict.ALLOWED:
            await self._app(scope, receive, send_with_headers)
        else:
            await answer(
                send_with_headers,
                401,
                "Unauthorized: a user name and password are needed.",
                headers=[(b"www-authenticate", b'Basic realm="bms-exporter"')],
            )
