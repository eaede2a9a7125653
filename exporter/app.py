"""The composition root: builds radios, conversations, pollers and the web from a configuration."""

import asyncio
import logging
import os
import signal
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Final

from hypercorn.asyncio import serve as serve_asgi
from hypercorn.config import Config as ServerConfig

from exporter.bms import Bms
from exporter.clock import Clock, boot_s
from exporter.config import BatteryConfig, Config, Link, PollConfig
from exporter.direct import management, sockets
from exporter.direct.client import Kernel
from exporter.direct.management import Management
from exporter.errors import BmsError, ConfigError
from exporter.guard import Guard, Settings
from exporter.metrics import ExporterCollector
from exporter.poller import Poll, Poller, Publish, Snapshot
from exporter.radio import Backend, Radio, Target
from exporter.spread import Spread
from exporter.stats import LinkStats
from exporter.tls import Certificates
from exporter.web import App, Web

log = logging.getLogger(__name__)

BACKLOG: Final = 1024  # a thousand scrapes at once
KEEP_ALIVE_S: Final = 5
READ_S: Final = 10  # else clients that say nothing stay
HANDSHAKE_S: Final = 5
# A scrape may wait for the disconnect of an earlier poll and then for a whole poll of its own.
SHUTDOWN_SLACK_S: Final = 15
FIRST_FD: Final = 3  # of systemd's sockets: sd_listen_fds(3)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """What the command line says about serving."""

    listen_addresses: Sequence[str] = (":12200",)
    telemetry_path: str = "/metrics"
    timeout_offset_s: float = 0.5
    web_config: Path | None = None  # TLS, users, headers
    systemd_sockets: bool = False  # instead of listen_addresses


class Server(ServerConfig):
    """hypercorn's settings, with a TLS context of our own."""

    certificates: Certificates | None = None

    @property
    def ssl_enabled(self) -> bool:
        """Whether connections are encrypted."""
        return self.certificates is not None

    def create_ssl_context(self) -> ssl.SSLContext | None:
        """Return how."""
        return None if self.certificates is None else self.certificates.context


class Radios:
    """The links that there are, each over all adapters."""

    def __init__(
        self,
        config: Config,
        *,
        backend: Backend | None = None,
        direct: bool = False,
        management: Management | None = None,
        clock: Clock = boot_s,
    ) -> None:
        """Prepare; see `radios_of`."""
        self._config = config
        self._has_direct = direct

        def bluez_radio(adapter: str | None) -> Radio:
            return Radio(adapter=adapter, backend=backend, management=management, clock=clock)

        def direct_radio(adapter: str | None) -> Radio:
            kernel = Kernel(adapter=adapter)
            return Radio(adapter=adapter, kernel=kernel, management=management, clock=clock)

        self._bluez = Spread(bluez_radio, adapters_up if backend is None else list)
        self._direct = Spread(direct_radio, adapters_up)

    def of(self, battery: BatteryConfig) -> Spread:
        """Return the radios to read a battery with."""
        link = battery.link or self._config.link
        return self._direct if self._has_direct and link is not Link.BLUEZ else self._bluez


def adapters_up() -> list[str]:
    """Return the names of the adapters that are switched on; empty where nobody can tell."""
    try:
        return [adapter.name for adapter in sockets.adapters() if adapter.up]
    except OSError:
        return []


async def radios_of(config: Config, backend: Backend | None = None) -> Radios:
    """Find out what this machine allows, and say so once.

    Raises:
        ConfigError: The direct link is wanted where there is none.
    """
    if backend is not None:
        return Radios(config, backend=backend)
    wanted = {battery.link or config.link for battery in config.batteries}
    why_not_direct = sockets.why_not()
    if why_not_direct and Link.DIRECT in wanted:
        raise ConfigError([f"link: direct cannot be used here: {why_not_direct}"])
    why_not_managed = why_not_direct or await management.why_not()
    asked = [f.name for f in fields(config.management) if getattr(config.management, f.name)]
    log.info(
        "bluetooth",
        extra={
            "link": _link_in_use(wanted, why_not_direct),
            "management": "none" if why_not_managed else ",".join(asked) or "off",
        },
    )
    if why_not_direct and Link.AUTO in wanted:
        log.info("no direct link, bluetoothd is used", extra={"why": why_not_direct})
    if why_not_managed and asked:
        log.info(
            "each reading holds its battery 2 s longer than with CAP_NET_ADMIN",
            extra={"why": why_not_managed, "see": "README, Permissions"},
        )
    if why_not_direct is None and not any(adapter.up for adapter in sockets.adapters()):
        log.warning("no Bluetooth adapter is switched on yet: see bluetoothctl list, rfkill list")
    return Radios(
        config,
        direct=why_not_direct is None,
        management=None if why_not_managed else Management(**asdict(config.management)),
    )


def _link_in_use(wanted: set[Link], why_not_direct: str | None) -> str:
    auto = Link.BLUEZ if why_not_direct else Link.DIRECT
    return ",".join(sorted({auto if link is Link.AUTO else link for link in wanted}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Wired:
    """One battery, put together."""

    config: BatteryConfig
    radios: Spread
    target: Target
    bms: Bms
    poller: Poller


def wire(  # noqa: PLR0913 - a battery's whole surroundings
    battery: BatteryConfig,
    poll: PollConfig,
    radios: Spread,
    tasks: asyncio.TaskGroup,
    *,
    clock: Clock = boot_s,
    known: Wired | None = None,
) -> Wired:
    """Put one battery together.

    Args:
        battery: Its configuration.
        poll: How it is read.
        radios: What it is read with.
        tasks: Where its polls run.
        clock: Ages readings.
        known: The same battery as it was configured until now: its counters go on.
    """
    stats = LinkStats() if known is None else known.target.stats
    if known is not None and (known.config, known.radios) == (battery, radios):
        target, bms = known.target, known.bms
    else:
        target = Target(
            address=battery.address,
            stats=stats,
            profile=battery.profile,
            pairs=battery.link is not Link.DIRECT,
        )
        bms = Bms(
            stats=stats,
            mac=bytes.fromhex(battery.address.replace(":", "")),
            cells=battery.cells,
            password=battery.password,
            clock=clock,
        )
        if known is not None:
            known.radios.unwatch(battery.address)
        radios.watch(target)
    how = poll_of(radios, battery.adapter, target, bms, poll.timeout_s)
    if known is not None:
        poller = known.poller
        poller.change(how, poll)
    else:
        poller = Poller(
            battery=battery.name,
            address=battery.address,
            poll=how,
            config=poll,
            stats=stats,
            tasks=tasks,
            clock=clock,
        )
    return Wired(config=battery, radios=radios, target=target, bms=bms, poller=poller)


def poller_of(
    battery: BatteryConfig,
    poll: PollConfig,
    radios: Spread,
    tasks: asyncio.TaskGroup,
    clock: Clock = boot_s,
) -> Poller:
    """Put one battery together; return what is asked for its readings."""
    return wire(battery, poll, radios, tasks, clock=clock).poller


class House:
    """All batteries of a configuration, which may change while they are read."""

    def __init__(self, tasks: asyncio.TaskGroup, backend: Backend | None = None) -> None:
        """Begin without a battery; polls run in `tasks`."""
        self._tasks = tasks
        self._backend = backend
        self._config: Config | None = None
        self._radios: Radios | None = None
        self._wired: dict[str, Wired] = {}
        self.pollers: dict[str, Poller] = {}
        """By configured name, in the order of the configuration; changed in place."""

    async def apply(self, config: Config) -> None:
        """Read these batteries from now on.

        One that was configured before keeps its counters, and its poll under way; one that is no
        more is let go.

        Raises:
            ConfigError: It cannot be done here; nothing has changed.
        """
        old = self._config
        if self._radios is None or old is None or _way(old) != _way(config):
            self._radios = await radios_of(config, self._backend)
        wired: dict[str, Wired] = {}
        for battery in config.batteries:
            known = self._wired.pop(battery.name, None)
            if known is not None and known.config.address != battery.address:
                self._wired[battery.name] = known  # another battery with its name
                known = None
            radios = self._radios.of(battery)
            wired[battery.name] = wire(battery, config.poll, radios, self._tasks, known=known)
        kept = {one.target.address for one in wired.values()}
        for gone in self._wired.values():
            if gone.target.address not in kept:
                gone.radios.unwatch(gone.target.address)
            self._tasks.create_task(gone.poller.close())
        self._wired = wired
        self._config = config
        self.pollers.clear()
        self.pollers.update({name: one.poller for name, one in wired.items()})

    async def close(self) -> None:
        """End every poll under way; return when all batteries are disconnected."""
        await asyncio.gather(*(poller.close() for poller in self.pollers.values()))


def _way(config: Config) -> tuple[object, ...]:
    """Return what decides through which radios batteries are read."""
    return config.link, config.management, {one.link for one in config.batteries}


def poll_of(
    radios: Spread, adapter: str | None, target: Target, bms: Bms, timeout_s: float
) -> Poll:
    """Return the function that reads a battery once within `timeout_s`, disconnecting excluded."""

    async def poll(publish: Publish) -> None:
        deadline_s = asyncio.get_running_loop().time() + timeout_s
        async with radios.connect(target, adapter, deadline_s=deadline_s) as connection:
            # Published before the disconnect, which may take 2 s that nobody waits for.
            try:
                publish(await bms.read(connection, deadline_s=deadline_s))
            except BmsError as error:
                publish(error)
                raise

    return poll


class Reload:
    """Reads the configuration again, one request at a time."""

    def __init__(self, load: Callable[[], Config], house: House, own: ExporterCollector) -> None:
        """Prepare.

        Args:
            load: Returns the configuration as it is now. Raises ConfigError.
            house: What is to follow it.
            own: Tells Prometheus whether that worked.
        """
        self._load = load
        self._house = house
        self._own = own
        self._lock = asyncio.Lock()

    async def __call__(self) -> Sequence[str]:
        """Apply the configuration as it is now; return why not, nothing if it was."""
        async with self._lock:
            try:
                config = await asyncio.to_thread(self._load)
                await self._house.apply(config)
            except ConfigError as error:
                self._own.reload_succeeded = False
                for problem in error.problems:
                    log.error(  # noqa: TRY400 - a user's mistake
                        "configuration not reloaded, the old one stays", extra={"error": problem}
                    )
                return error.problems
            self._own.reload_succeeded = True
            self._own.config_loaded_unix_s = time.time()
            log.info("configuration reloaded", extra={"batteries": len(config.batteries)})
            return ()


async def serve(
    load: Callable[[], Config], options: ServeOptions, backend: Backend | None = None
) -> None:
    """Serve until SIGTERM or SIGINT: then finish the scrapes under way and disconnect.

    SIGHUP reads the configuration again.

    Raises:
        ConfigError: The configuration is wrong, or an address to listen on cannot be had.
    """
    config = load()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def ask_to_stop() -> None:
        log.info("stopping, as soon as the scrapes under way are answered")
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ask_to_stop)
    settings = None if options.web_config is None else Settings(options.web_config)
    certificates = None if settings is None else _certificates(settings)
    listening = (
        _from_systemd()
        if options.systemd_sockets
        else [_listen(address) for address in options.listen_addresses]
    )
    refused: ConfigError | None = None
    async with asyncio.TaskGroup() as tasks:
        house = House(tasks, backend)
        try:
            await house.apply(config)
        except ConfigError as error:
            refused = error
        else:
            await _serve_house(
                house=house,
                load=load,
                options=options,
                server=_server(listening, config.poll, certificates),
                settings=settings,
                poll=config.poll,
                stop=stop,
                tasks=tasks,
            )
    if refused is not None:
        raise refused
    log.info("stopped")


async def _serve_house(  # noqa: PLR0913 - what serve has
    *,
    house: House,
    load: Callable[[], Config],
    options: ServeOptions,
    server: Server,
    settings: Settings | None,
    poll: PollConfig,
    stop: asyncio.Event,
    tasks: asyncio.TaskGroup,
) -> None:
    own = ExporterCollector(config_loaded_unix_s=time.time())
    reload = Reload(load, house, own)
    asyncio.get_running_loop().add_signal_handler(
        signal.SIGHUP, lambda: tasks.create_task(reload())
    )
    web = Web(
        batteries=house.pollers,
        own=[own],
        reload=reload,
        default_timeout_s=poll.timeout_s,
        timeout_offset_s=options.timeout_offset_s,
        telemetry_path=options.telemetry_path,
    )
    app: App = web if settings is None else Guard(web, settings)
    log.info(
        "listening",
        extra={
            "addresses": "systemd"
            if options.systemd_sockets
            else ",".join(options.listen_addresses),
            "tls": server.ssl_enabled,
            "path": options.telemetry_path,
            "batteries": len(house.pollers),
        },
    )
    try:
        await serve_asgi(
            app,
            server,
            shutdown_trigger=stop.wait,
            mode="asgi",
        )
    finally:
        log.info("disconnecting")
        await house.close()


async def read_once(
    battery: BatteryConfig, config: Config, backend: Backend | None = None
) -> Snapshot:
    """Read one battery; a failure is in the snapshot's `last_error`."""
    radios = await radios_of(replace(config, batteries=(battery,)), backend)
    async with asyncio.TaskGroup() as tasks:
        poller = poller_of(battery, config.poll, radios.of(battery), tasks)
        try:
            return await poller.refresh(timeout_s=config.poll.timeout_s + SHUTDOWN_SLACK_S)
        finally:
            await poller.close()


def check_web(path: Path) -> None:
    """Read a web configuration and its certificates. Raises ConfigError."""
    _certificates(Settings(path))


def _certificates(settings: Settings) -> Certificates | None:
    config = settings.now()
    if config.tls is None:
        return None
    return Certificates(lambda: settings.now().tls, http2=config.http2)


def _server(
    sockets: Sequence[socket.socket], poll: PollConfig, certificates: Certificates | None
) -> Server:
    server = Server()
    server.certificates = certificates
    server.bind = [f"fd://{sock.detach()}" for sock in sockets]
    server.backlog = BACKLOG
    server.keep_alive_timeout = KEEP_ALIVE_S
    server.read_timeout = READ_S
    server.ssl_handshake_timeout = HANDSHAKE_S
    server.graceful_timeout = 2 * poll.timeout_s + SHUTDOWN_SLACK_S
    server.include_server_header = False
    server.errorlog = logging.getLogger("hypercorn.error")
    return server


def _from_systemd() -> list[socket.socket]:
    """Return the sockets that systemd has opened for this process.

    Raises:
        ConfigError: There are none.
    """
    count = os.environ.get("LISTEN_FDS", "")
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or not count.isdigit() or count == "0":
        raise ConfigError(
            ["--web.systemd-socket: systemd has given no socket: is the .socket unit started?"]
        )
    return [socket.socket(fileno=FIRST_FD + number) for number in range(int(count))]


def _listen(address: str) -> socket.socket:
    """Open one socket; ":12200" is every IPv4 and IPv6 address of the machine.

    Raises:
        ConfigError: The address is malformed, taken, or not this machine's.
    """
    host, colon, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (colon and port.isascii() and port.isdigit() and int(port[:6]) < 1 << 16):
        raise ConfigError([f"--web.listen-address: expected HOST:PORT or :PORT, got {address!r}"])
    dual = not host and socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual or ":" in host else socket.AF_INET
    try:
        return socket.create_server(
            (host, int(port)), family=family, backlog=BACKLOG, dualstack_ipv6=dual
        )
    except (OSError, TypeError, ValueError) as error:  # the last two: no name of a host
        reason = error.strerror if isinstance(error, OSError) else "not an address"
        raise ConfigError(
            [f"cannot listen on {address!r}: {reason}; see --web.listen-address"]
        ) from error
