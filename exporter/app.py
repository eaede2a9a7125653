"""Builds and runs everything: the batteries of a configuration, and the server for them."""

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from exporter import __version__
from exporter.batteries import Batteries, MakeSettings, build_battery
from exporter.battery.poller import Poller
from exporter.battery.settings_reader import SettingsReader
from exporter.battery.snapshot import Snapshot
from exporter.ble.adapter_health import AdapterHealths
from exporter.ble.machine import build_routes
from exporter.ble.proxies import Proxies
from exporter.ble.transport import Backend
from exporter.config.schema import BatteryConfig, Config, SettingsChoice
from exporter.config.tls import CurrentTls
from exporter.config.web import WebConfigFile
from exporter.metrics import ExporterCollector
from exporter.process import Stop, on_signals, tell_systemd
from exporter.recording.lines import Write
from exporter.reload import Reload
from exporter.web.app import make_app
from exporter.web.auth import Access
from exporter.web.limits import PLAIN_CONNECTIONS, TLS_CONNECTIONS, Limits, limits_here
from exporter.web.server import Server
from exporter.web.sockets import from_systemd, listen, with_port
from exporter.web.subscribers import Subscribers

log = logging.getLogger(__name__)

ON_DEMAND_READ_S: Final = 10.0  # of settings: all of them take 2.7 s, at an interval of 50 ms 5 s
SHUTDOWN_SLACK_S: Final = 15  # for the disconnect of an earlier poll, which a poll waits for


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """The options of the server."""

    listen_addresses: Sequence[str] = (":12200",)
    telemetry_path: str = "/metrics"
    timeout_offset_s: float = 0.5
    web_config: Path | None = None  # TLS, users, headers
    systemd_sockets: bool = False  # instead of listen_addresses
    config_name: str = "none"  # for the log
    log_lines_lost: Callable[[], int] = lambda: 0  # the value of its metric
    on_listening: Callable[[Sequence[str]], None] = lambda _addresses: None
    make_settings: MakeSettings = SettingsReader  # of each battery
    on_batteries: Callable[[Mapping[str, Poller]], None] = lambda _batteries: None


async def serve(
    load: Callable[[], Config], options: ServeOptions, backend: Backend | None = None
) -> None:
    """Serve until SIGTERM or SIGINT, then finish the scrapes under way and disconnect.

    SIGHUP reads the configuration again.

    Raises:
        ConfigError: The configuration is wrong, or an address cannot be listened on.
    """
    stop = Stop()
    with on_signals(stop.ask, signal.SIGTERM, signal.SIGINT):
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
    web_config: WebConfigFile | None
    current_tls: CurrentTls


def _endpoint(options: ServeOptions) -> Endpoint:
    """Open the sockets and load the web configuration. Raises ConfigError if it cannot."""
    web_config = None if options.web_config is None else WebConfigFile(options.web_config)
    current_tls: CurrentTls = (lambda: None) if web_config is None else web_config.current_tls
    limits = limits_here(PLAIN_CONNECTIONS if current_tls() is None else TLS_CONNECTIONS)
    listening = (
        from_systemd()
        if options.systemd_sockets
        else [listen(address) for address in options.listen_addresses]
    )
    return Endpoint(
        listening=listening,
        limits=limits,
        web_config=web_config,
        current_tls=current_tls,
    )


async def _serve(
    load: Callable[[], Config], options: ServeOptions, backend: Backend | None, stop: Stop
) -> None:
    config = load()
    endpoint = _endpoint(options)
    log.info(
        "starting",
        extra={
            "version": __version__,
            "config": options.config_name,
            "batteries": ", ".join(battery.name for battery in config.batteries),
        },
    )
    healths, proxies = AdapterHealths(), Proxies()
    routes = await build_routes(config, backend, healths, proxies)
    async with (
        asyncio.TaskGroup() as tasks,
        AsyncExitStack() as closing,
    ):  # closes what was made last first
        closing.callback(proxies.close)
        batteries = Batteries(
            config,
            routes,
            tasks,
            backend=backend,
            healths=healths,
            proxies=proxies,
            make_settings=options.make_settings,
        )
        closing.push_async_callback(_disconnect, batteries)
        options.on_batteries(batteries.pollers)
        subscribers = Subscribers(batteries.pollers, tasks, most=endpoint.limits.connections // 4)
        batteries.subscribe(subscribers.publish)
        own = ExporterCollector(
            batteries.wall,
            log_lines_lost=options.log_lines_lost,
            adapter_restarts=healths.restarts,
            proxies=proxies.states,
            others=[batteries.local_time],
        )
        reload = Reload(load, batteries, own)
        access = _access(endpoint)
        app = make_app(
            batteries=batteries.pollers,
            banks=batteries.banks,
            own=own,
            reload=reload,
            subscribers=subscribers,
            wall=batteries.wall,
            local_time=batteries.local_time,
            access=access,
            timeout_offset_s=options.timeout_offset_s,
            telemetry_path=options.telemetry_path,
        )
        server = Server(app, endpoint.listening, endpoint.current_tls, endpoint.limits)
        server.begin()
        closing.push_async_callback(server.finish)
        _report_listening(options, endpoint, batteries=len(batteries.pollers))
        if access is not None:
            closing.callback(access.close)
        closing.callback(subscribers.close)
        closing.callback(tasks.create_task(tell_systemd()).cancel)
        closing.callback(reload.close)
        with on_signals(partial(reload.request, tasks), signal.SIGHUP):
            await stop.wait()


async def _disconnect(batteries: Batteries) -> None:
    log.info("disconnecting")
    await batteries.close()


def _access(endpoint: Endpoint) -> Access | None:
    if endpoint.web_config is None:
        return None
    return Access(endpoint.web_config.current, clients=endpoint.limits.connections // 2)


def _report_listening(options: ServeOptions, endpoint: Endpoint, *, batteries: int) -> None:
    addresses = ["systemd"]
    if not options.systemd_sockets:
        pairs = zip(options.listen_addresses, endpoint.listening, strict=True)
        addresses = [with_port(address, sock) for address, sock in pairs]
    log.info(
        "listening",
        extra={
            "addresses": ",".join(addresses),
            "tls": endpoint.current_tls() is not None,
            "path": options.telemetry_path,
            "batteries": batteries,
        },
    )
    options.on_listening(addresses)


async def read_once(
    battery: BatteryConfig,
    config: Config,
    backend: Backend | None = None,
    record: Write | None = None,
) -> Snapshot:
    """Read one battery; a failure is in the snapshot's `last_error`.

    `record` takes the lines of a recording. Settings are not read.
    """
    battery = replace(battery, settings=SettingsChoice.OFF)
    proxies = Proxies()
    routes = await build_routes(replace(config, batteries=(battery,)), backend, proxies=proxies)
    async with asyncio.TaskGroup() as tasks:
        poller = build_battery(
            battery,
            config.poll,
            routes,
            tasks=tasks,
            presentation=config.presentation(battery),
            record=record,
        ).poller
        try:
            return await poller.refresh(timeout_s=config.poll.timeout_s + SHUTDOWN_SLACK_S)
        finally:
            await poller.close()
            proxies.close()


async def read_settings_once(
    battery: BatteryConfig,
    config: Config,
    registers: Sequence[int],
    backend: Backend | None = None,
    *,
    on_end: Callable[[Snapshot], None] = lambda _: None,
) -> Snapshot:
    """Read the settings of one battery in any state; its snapshot says what failed.

    A failed poll is in `last_error`; without one, `settings` counts why none were read. `on_end`
    takes the snapshot also after a cancellation: it says whether the mode was left.
    """
    battery = replace(battery, settings=SettingsChoice.DAILY)
    proxies = Proxies()
    routes = await build_routes(replace(config, batteries=(battery,)), backend, proxies=proxies)
    settings = partial(
        SettingsReader, is_on_demand=True, registers=registers, read_s=ON_DEMAND_READ_S
    )
    tasks = asyncio.TaskGroup()
    poller = build_battery(battery, config.poll, routes, tasks=tasks, settings=settings).poller
    try:
        async with tasks:  # ends when the mode is left
            await poller.refresh(timeout_s=config.poll.timeout_s + SHUTDOWN_SLACK_S)
    finally:
        proxies.close()
        on_end(poller.show())
    return poller.show()
