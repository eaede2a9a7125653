"""Opens, shares and closes the connection to the API of one proxy."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from exporter.ble.proxies import ProxyState
from exporter.ble.proxy.errors import TakenError
from exporter.ble.proxy.session import Listener, Session
from exporter.ble.timeouts import leave_behind
from exporter.config.schema import ProxyConfig
from exporter.errors import AdapterError

log = logging.getLogger(__name__)

# Longer than the usual intervals of scrapes, so that these keep the connection.
IDLE_S: Final = 150.0
FIRST_PAUSE_S: Final = 1.0  # after a failure; doubled
LONGEST_PAUSE_S: Final = 15.0
# An ESP32 that crashes or restarts with every poll ends its connections sooner.
STEADY_S: Final = 60.0
# The newest client wins: who takes the proxy back at once, takes it from the other for ever.
FIRST_RETAKE_S: Final = 30.0
LONGEST_RETAKE_S: Final = 600.0


class ProxyApi:
    """The connection to one proxy: opened by the first user, and kept while users come."""

    def __init__(self, config: ProxyConfig, retired: "ProxyApi | None" = None) -> None:
        """Configure the connection without opening it.

        It opens when `retired`, the former one to the same proxy, has closed: before that it would
        take the proxy from a poll that still uses it.
        """
        self.config = config
        self._before = retired
        self._closed = asyncio.Event()
        self._closed.set()
        self.hearing: list[Listener] = []
        self._idle_s = IDLE_S
        self._session: Session | None = None
        self._lock = asyncio.Lock()
        self._users = 0
        self._closing: asyncio.TimerHandle | None = None
        self._monitor: asyncio.Task[None] | None = None
        self._up: bool | None = None
        self._failure: AdapterError | None = None
        self._pause_s = FIRST_PAUSE_S
        self._ends_soon = False  # the last connection ended before STEADY_S
        self._retake_s = FIRST_RETAKE_S
        self._again_s = 0.0  # no attempt to open before, by the loop's clock
        self._opened_s = 0.0

    @property
    def state(self) -> ProxyState:
        """What is known of the proxy now."""
        session = self._session
        if session is None or session.ended.done():
            return ProxyState(self._up)
        return ProxyState(self._up, session.slots.free, session.slots.limit)

    @asynccontextmanager
    async def use(self) -> AsyncIterator[Session]:
        """Open the connection if it is not open, and keep it open while the context is.

        Raises:
            AdapterError: It cannot be opened; after a failure, for a while without an attempt.
        """
        self._users += 1
        self._closed.clear()
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None
        try:
            async with self._lock:
                session = await self._open()
            yield session
        finally:
            self._users -= 1
            if not self._users:
                self._note_idle()

    async def _open(self) -> Session:
        now_s = asyncio.get_running_loop().time
        if self._before is not None:
            await self._before.wait_closed()
            self._before = None
        if self._session is None or self._session.ended.done():
            if self._failure is not None and now_s() < self._again_s:
                raise AdapterError(str(self._failure), self._failure.cause)
            session = Session(self.config, self._hear, self._note_end)
            try:
                await session.connect()
                session.subscribe()
            except AdapterError as error:
                self._note_failure(error, self._take_pause())
                raise
            self._session, self._up, self._failure = session, True, None
            self._opened_s = now_s()
            if not self._ends_soon:
                self._pause_s = FIRST_PAUSE_S
            log.log(
                logging.DEBUG if self._ends_soon else logging.INFO,
                "proxy connected",
                extra={"proxy": self.config.name, "esphome": session.version},
            )
        if self._monitor is None or self._monitor.done():
            self._monitor = asyncio.create_task(self._session.monitor())
        return self._session

    def _hear(self, address: str, raw: Any) -> None:
        for listener in (*self.hearing,):
            listener(address, raw)

    def _take_pause(self) -> float:
        pause_s = self._pause_s
        self._pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        return pause_s

    def _note_failure(self, error: AdapterError, pause_s: float, *, is_known: bool = False) -> None:
        extra = {"proxy": self.config.name, "error": str(error)}
        level = logging.DEBUG if self._up is False or is_known else logging.WARNING
        log.log(level, "proxy failed", extra=extra)
        self._up, self._failure = False, error
        self._again_s = asyncio.get_running_loop().time() + pause_s

    def note_no_answer(self, error: AdapterError) -> None:
        """Record that a poll ended before the proxy answered."""
        if self._session is None:
            self._note_failure(error, 0.0)

    def _note_end(self, session: Session) -> None:
        if session is not self._session:
            return  # it was never open, or we have closed it
        self._session = None
        error = session.ended.result()
        lasted_s = asyncio.get_running_loop().time() - self._opened_s
        if not isinstance(error, TakenError):
            ended_soon, self._ends_soon = self._ends_soon, lasted_s < STEADY_S
            is_known = ended_soon and self._ends_soon
            self._note_failure(error, self._take_pause() if is_known else 0.0, is_known=is_known)
            return
        if lasted_s > LONGEST_RETAKE_S:
            self._retake_s = FIRST_RETAKE_S
        self._note_failure(error, self._retake_s)
        self._retake_s = min(2 * self._retake_s, LONGEST_RETAKE_S)

    def _note_idle(self) -> None:
        if self._monitor is not None:
            self._monitor.cancel()
            leave_behind(self._monitor)
            self._monitor = None
        self._closing = asyncio.get_running_loop().call_later(self._idle_s, self.close)

    async def wait_closed(self) -> None:
        """Wait until neither this connection nor a former one to the same proxy is in use."""
        if self._before is not None:
            await self._before.wait_closed()
        await self._closed.wait()

    def retire(self) -> None:
        """Close as soon as nothing uses the connection: it is not configured any more."""
        self._idle_s = 0.0
        if not self._users:
            self.close()

    def close(self) -> None:
        """Close the connection; the next user opens it again."""
        self._closed.set()
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None
        session, self._session = self._session, None
        if session is not None and not session.ended.done():
            session.end(AdapterError(f"proxy {self.config.name}: closed"))
            self._ends_soon = False
            log.info("proxy disconnected", extra={"proxy": self.config.name})
