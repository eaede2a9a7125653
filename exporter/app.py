"""The composition root: builds radios, conversations, pollers and the web from a configuration."""

import asyncio
import logging
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from hypercorn.asyncio import serve as serve_asgi
from hypercorn.config import Config as ServerConfig

from exporter.bms import Bms
from exporter.clock import Clock, boot_s
from exporter.config import BatteryConfig, Config, PollConfig
from exporter.errors import ConfigError
from exporter.metrics import ExporterCollector
from exporter.poller import Poll, Poller, Snapshot
from exporter.radio import Backend, Radio, Target
from exporter.reading import Reading
from exporter.stats import LinkStats
from exporter.web import Web

log = logging.getLogger(__name__)

BACKLOG: Final = 1024  # a thousand scrapes at once
KEEP_ALIVE_S: Final = 5
READ_S: Final = 10  # else clients that say nothing stay
HANDSHAKE_S: Final = 5
# A scrape may wait for the disconnect of an earlier poll and then for a whole poll of its own.
SHUTDOWN_SLACK_S: Final = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """What the command line says about serving."""

    listen_addresses: Sequence[str] = (":12200",)
    telemetry_path: str = "/metrics"
    timeout_offset_s: float = 0.5


class Radios:
    """One radio an adapter."""

    def __init__(self, backend: Backend | None = None, clock: Clock = boot_s) -> None:
        self._backend = backend
        self._clock = clock
        self._radios: dict[str | None, Radio] = {}

    def __getitem__(self, adapter: str | None) -> Radio:
        if adapter not in self._radios:
            self._radios[adapter] = Radio(adapter=adapter, backend=self._backend, clock=self._clock)
        return self._radios[adapter]


def poller_of(
    battery: BatteryConfig,
    poll: PollConfig,
    radio: Radio,
    tasks: asyncio.TaskGroup,
    clock: Clock = boot_s,
) -> Poller:
    """Put one battery together."""
    stats = LinkStats()
    target = Target(address=battery.address, stats=stats, profile=battery.profile)
    radio.watch(target)
    bms = Bms(
        stats=stats,
        mac=bytes.fromhex(battery.address.replace(":", "")),
        cells=battery.cells,
        password=battery.password,
        clock=clock,
    )
    return Poller(
        battery=battery.name,
        address=battery.address,
        poll=poll_of(radio, target, bms, poll.timeout_s),
        config=poll,
        stats=stats,
        tasks=tasks,
        clock=clock,
    )


def poll_of(radio: Radio, target: Target, bms: Bms, timeout_s: float) -> Poll:
    """Return the function that reads a battery once within `timeout_s`, disconnecting excluded."""

    async def poll(publish: Callable[[Reading], None]) -> None:
        deadline_s = asyncio.get_running_loop().time() + timeout_s
        async with radio.connect(target, deadline_s=deadline_s) as connection:
            reading = await bms.read(connection, deadline_s=deadline_s)
            publish(reading)  # before the disconnect, which takes 2 s that nobody waits for

    return poll


async def serve(config: Config, options: ServeOptions, backend: Backend | None = None) -> None:
    """Serve until SIGTERM or SIGINT: then finish the scrapes under way and disconnect.

    Raises:
        ConfigError: An address to listen on cannot be had.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def ask_to_stop() -> None:
        log.info("stopping, as soon as the scrapes under way are answered")
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ask_to_stop)
    sockets = [_listen(address) for address in options.listen_addresses]
    radios = Radios(backend)
    async with asyncio.TaskGroup() as tasks:
        pollers: dict[str, Poller] = {
            battery.name: poller_of(battery, config.poll, radios[battery.adapter], tasks)
            for battery in config.batteries
        }
        web = Web(
            batteries=pollers,
            own=[ExporterCollector(config_loaded_unix_s=time.time())],
            default_timeout_s=config.poll.timeout_s,
            timeout_offset_s=options.timeout_offset_s,
            telemetry_path=options.telemetry_path,
        )
        log.info(
            "listening",
            extra={
                "addresses": ",".join(options.listen_addresses),
                "path": options.telemetry_path,
                "batteries": len(pollers),
            },
        )
        try:
            await serve_asgi(
                web,
                _server_config(sockets, config.poll),
                shutdown_trigger=stop.wait,
                mode="asgi",
            )
        finally:
            log.info("disconnecting")
            await asyncio.gather(*(poller.close() for poller in pollers.values()))
    log.info("stopped")


async def read_once(
    battery: BatteryConfig, poll: PollConfig, backend: Backend | None = None
) -> Snapshot:
    """Read one battery; a failure is in the snapshot's `last_error`."""
    async with asyncio.TaskGroup() as tasks:
        poller = poller_of(battery, poll, Radios(backend)[battery.adapter], tasks)
        try:
            return await poller.refresh(timeout_s=poll.timeout_s + SHUTDOWN_SLACK_S)
        finally:
            await poller.close()


def _server_config(sockets: Sequence[socket.socket], poll: PollConfig) -> ServerConfig:
    server = ServerConfig()
    server.bind = [f"fd://{sock.detach()}" for sock in sockets]
    server.backlog = BACKLOG
    server.keep_alive_timeout = KEEP_ALIVE_S
    server.read_timeout = READ_S
    server.ssl_handshake_timeout = HANDSHAKE_S
    server.graceful_timeout = 2 * poll.timeout_s + SHUTDOWN_SLACK_S
    server.include_server_header = False
    server.errorlog = logging.getLogger("hypercorn.error")
    return server


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
