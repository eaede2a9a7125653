"""The composition root: runs the batteries of a configuration behind the web."""

import asyncio
import logging
import os
import re
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from systemd_watchdog.systemd_watchdog import WatchDog

from exporter.batteries import Batteries, build_battery
from exporter.battery.snapshot import Snapshot
from exporter.ble.machine import build_routes
from exporter.ble.transport import Backend
from exporter.config.schema import BatteryConfig, Config
from exporter.errors import ConfigError
from exporter.metrics import ExporterCollector
from exporter.web.app import make_app
from exporter.web.auth import Access
from exporter.web.server import (
    PLAIN_CONNECTIONS,
    TLS_CONNECTIONS,
    Limits,
    MakeTls,
    Server,
    from_systemd,
    limits_here,
    listen,
)
from exporter.web.subscribers import Watch

if TYPE_CHECKING:  # loaded by those who have a web configuration: 1 MB
    from exporter.config.web import WebConfigFile
    from exporter.web.tls import Certificates

log = logging.getLogger(__name__)

# A scrape may wait for the disconnect of an earlier poll and then for a whole poll of its own.
SHUTDOWN_SLACK_S: Final = 15
MOST_RELOADS: Final = 2  # by SIGHUP: one runs, and one waits to read later changes
INTERVAL_US: Final = re.compile(r"[1-9][0-9]{0,11}")  # at most 11 days


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """What the command line says about serving."""

    listen_addresses: Sequence[str] = (":12200",)
    telemetry_path: str = "/metrics"
    timeout_offset_s: float = 0.5
    web_config: Path | None = None  # TLS, users, headers
    systemd_sockets: bool = False  # instead of listen_addresses
    log_lines_lost: Callable[[], int] = lambda: 0  # the value of its metric


class Reload:
    """Reads the configuration again.

    One reload runs at a time. All requests that come during it share the next one, because the
    configuration may have changed since the running one read it.
    """

    def __init__(
        self, load: Callable[[], Config], batteries: Batteries, own: ExporterCollector
    ) -> None:
        """Start with the configuration that is applied now.

        Args:
            load: Returns the configuration as it is now. Raises ConfigError.
            batteries: What is to follow it.
            own: Tells Prometheus whether that worked.
        """
        self._load = load
        self._batteries = batteries
        self._own = own
        self._lock = asyncio.Lock()
        self._requests = 0
        self._served = 0  # the newest request that a finished reload has covered
        self._problems: Sequence[str] = ()
        self._tasks: set[asyncio.Task[Sequence[str]]] = set()
        self._is_closed = False

    def request(self, tasks: asyncio.TaskGroup) -> None:
        """Schedule a reload for SIGHUP and return at once."""
        if len(self._tasks) < MOST_RELOADS and not self._is_closed:
            task = tasks.create_task(self())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """Cancel the reloads of SIGHUP, and ignore further signals."""
        self._is_closed = True
        for task in self._tasks:
            task.cancel()

    async def __call__(self) -> Sequence[str]:
        """Apply the configuration as it is now; return why not, nothing if it was."""
        self._requests += 1
        own_number = self._requests
        async with self._lock:
            if self._served < own_number:
                newest = self._requests
                self._problems = await self._reload()
                self._served = newest
            return self._problems

    async def _reload(self) -> Sequence[str]:
        try:
            config = await asyncio.to_thread(self._load)
            await self._batteries.apply(config)
        except ConfigError as error:
            self._own.reload_succeeded = False
            for problem in error.problems:
                log.error(  # noqa: TRY400 - a user's mistake
                    "configuration not reloaded, the old one stays", extra={"error": problem}
                )
            return error.problems
        self._own.note_reload()
        log.info("configuration reloaded", extra={"batteries": len(config.batteries)})
        return ()


@contextmanager
def _on_signals(action: Callable[[], None], *numbers: signal.Signals) -> Iterator[None]:
    """Call `action` in the event loop for each of these signals.

    asyncio's add_signal_handler passes signals through a socket: a flood of SIGHUP fills it, and a
    SIGTERM is lost.
    """
    loop = asyncio.get_running_loop()

    def handle(*_: object) -> None:
        loop.call_soon_threadsafe(action)

    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Stop:
    """The first signal asks to stop and waits for the scrapes under way; the second does not."""

    def __init__(self) -> None:
        """Stop the task that runs now."""
        self._asked = asyncio.Event()
        self.wait = self._asked.wait
        self.at_once = False
        """Whether the task was cancelled by a second signal."""
        self._task = asyncio.current_task()

    def ask(self) -> None:
        """Handle a signal."""
        if not self._asked.is_set():
            log.info("stopping, as soon as the scrapes under way are answered")
            self._asked.set()
        elif self._task is not None:
            self.at_once = True
            self._task.cancel()


async def serve(
    load: Callable[[], Config], options: ServeOptions, backend: Backend | None = None
) -> None:
    """Serve until SIGTERM or SIGINT: then finish the scrapes under way and disconnect.

    SIGHUP reads the configuration again.

    Raises:
        ConfigError: The configuration is wrong, or an address to listen on cannot be had.
    """
    stop = Stop()
    with _on_signals(stop.ask, signal.SIGTERM, signal.SIGINT):
        try:
            await _serve(load, options, backend, stop)
        except asyncio.CancelledError:
            if not stop.at_once:
                raise
            log.warning("stopped at once")
        else:
            log.info("stopped")


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """The sockets, limits and web configuration of the server."""

    listening: Sequence[socket.socket]
    limits: Limits
    web_config: "WebConfigFile | None"
    make_tls: MakeTls | None


def _endpoint(options: ServeOptions) -> Endpoint:
    """Open the listening sockets and load the web configuration. Raises ConfigError."""
    web_config = None if options.web_config is None else _web_config(options.web_config)
    certificates = None if web_config is None else _certificates(web_config)
    limits = limits_here(PLAIN_CONNECTIONS if certificates is None else TLS_CONNECTIONS)
    listening = (
        from_systemd()
        if options.systemd_sockets
        else [listen(address) for address in options.listen_addresses]
    )
    return Endpoint(
        listening=listening,
        limits=limits,
        web_config=web_config,
        make_tls=None if certificates is None else certificates.newest,
    )


async def _serve(
    load: Callable[[], Config], options: ServeOptions, backend: Backend | None, stop: Stop
) -> None:
    config = load()
    endpoint = _endpoint(options)
    refused: ConfigError | None = None
    async with asyncio.TaskGroup() as tasks:
        batteries = Batteries(
            tasks,
            backend,
            on_change=lambda name: watch.changed(name),  # noqa: PLW0108 - made in the next line
        )
        watch = Watch(batteries.pollers, tasks, most=endpoint.limits.connections // 4)
        try:
            await batteries.apply(config)
        except ConfigError as error:
            refused = error
        else:
            await _serve_batteries(batteries, watch, load, options, endpoint, stop, tasks)
    if refused is not None:
        raise refused


async def _serve_batteries(  # noqa: PLR0913, PLR0917 - what serve has
    batteries: Batteries,
    watch: Watch,
    load: Callable[[], Config],
    options: ServeOptions,
    endpoint: Endpoint,
    stop: Stop,
    tasks: asyncio.TaskGroup,
) -> None:
    own = ExporterCollector(batteries.wall, log_lines_lost=options.log_lines_lost)
    reload = Reload(load, batteries, own)
    web_config = endpoint.web_config
    access = (
        None
        if web_config is None
        else Access(web_config.current, clients=endpoint.limits.connections // 2)
    )
    app = make_app(
        batteries=batteries.pollers,
        own=own,
        reload=reload,
        watch=watch,
        wall=batteries.wall,
        access=access,
        timeout_offset_s=options.timeout_offset_s,
        telemetry_path=options.telemetry_path,
    )
    server = Server(app, endpoint.listening, endpoint.make_tls, endpoint.limits)
    server.begin()
    log.info(
        "listening",
        extra={
            "addresses": "systemd"
            if options.systemd_sockets
            else ",".join(options.listen_addresses),
            "tls": endpoint.make_tls is not None,
            "path": options.telemetry_path,
            "batteries": len(batteries.pollers),
        },
    )
    supervised = tasks.create_task(_tell_systemd())
    try:
        with _on_signals(partial(reload.request, tasks), signal.SIGHUP):
            await stop.wait()
    finally:
        reload.close()
        supervised.cancel()
        watch.close()
        if access is not None:
            access.close()
        try:
            await server.finish()
        finally:
            log.info("disconnecting")
            await batteries.close()


async def _tell_systemd() -> None:
    """Say that the exporter serves; then, as often as its unit's WatchdogSec wants, that it lives.

    Connections are taken from the moment in which the sockets listen, which is before.
    """
    if "NOTIFY_SOCKET" not in os.environ:
        return
    interval_us = os.environ.pop("WATCHDOG_USEC", "")  # the library takes it for a number
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as notifying:
        systemd = WatchDog(notifying)
        try:
            systemd.ready()
            while INTERVAL_US.fullmatch(interval_us):
                with suppress(BlockingIOError):  # it does not read just now
                    systemd.notify()
                await asyncio.sleep(int(interval_us) / 2e6)
        except OSError as error:  # a NOTIFY_SOCKET that was inherited, and is gone
            log.warning("systemd was not told", extra={"error": str(error)})


async def read_once(
    battery: BatteryConfig, config: Config, backend: Backend | None = None
) -> Snapshot:
    """Read one battery; a failure is in the snapshot's `last_error`."""
    routes = await build_routes(replace(config, batteries=(battery,)), backend)
    async with asyncio.TaskGroup() as tasks:
        poller = build_battery(battery, config.poll, routes, tasks=tasks).poller
        try:
            return await poller.refresh(timeout_s=config.poll.timeout_s + SHUTDOWN_SLACK_S)
        finally:
            await poller.close()


def check_web(path: Path) -> None:
    """Read a web configuration and its certificates. Raises ConfigError."""
    _certificates(_web_config(path))


def _web_config(path: Path) -> "WebConfigFile":
    from exporter.config.web import WebConfigFile  # noqa: PLC0415 - see above

    return WebConfigFile(path)


def _certificates(web_config: "WebConfigFile") -> "Certificates | None":
    if web_config.current().tls is None:
        return None
    from exporter.web.tls import Certificates  # noqa: PLC0415 - see above

    return Certificates(lambda: web_config.current().tls)
