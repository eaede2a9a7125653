"""The batteries of a configuration, with the routes to them; a reload may change them."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from functools import partial
from importlib import import_module

from exporter.battery.poller import Poll, Poller, Publish
from exporter.battery.session import Bms
from exporter.ble.direct import management, sockets
from exporter.ble.direct.management import Management
from exporter.ble.direct.transport import DirectTransport
from exporter.ble.routes import Routes
from exporter.ble.transport import Backend, ScanningTransport, Target
from exporter.clock import Clock, WallClock
from exporter.config.schema import BatteryConfig, Config, PollConfig, TransportChoice
from exporter.errors import BmsError, ConfigError
from exporter.link_stats import LinkStats

log = logging.getLogger(__name__)


def adapters_up() -> list[str]:
    """Return the names of the adapters that are switched on; empty if that is unknown."""
    try:
        return [adapter.name for adapter in sockets.adapters() if adapter.up]
    except OSError:
        return []


async def build_routes(config: Config, backend: Backend | None = None) -> Routes:
    """Find out which transports this machine allows, log it once, and return the routes.

    Raises:
        ConfigError: The direct link is configured, and this machine has none.
    """
    if backend is not None:
        return Routes(bluez=partial(_make_bluez, backend, None), adapters=list)
    wanted = {battery.link or config.link for battery in config.batteries}
    why_not_direct = sockets.why_not()
    if why_not_direct and TransportChoice.DIRECT in wanted:
        raise ConfigError([f"link: direct cannot be used here: {why_not_direct}"])
    why_not_managed = why_not_direct or await management.why_not()
    links = _links_in_use(wanted, why_not_direct)
    present = adapters_up()
    if TransportChoice.BLUEZ in links or len(present) > 1:  # bluetoothd compares several adapters
        import_module("exporter.ble.bleak")  # now, not in the middle of a scrape
    asked = [f.name for f in fields(config.management) if getattr(config.management, f.name)]
    log.info(
        "bluetooth",
        extra={
            "link": ",".join(sorted(links)),
            "management": "none" if why_not_managed else ",".join(asked) or "off",
        },
    )
    if why_not_direct and TransportChoice.AUTO in wanted:
        log.info("no direct link, bluetoothd is used", extra={"why": why_not_direct})
    if why_not_managed and asked:
        log.info(
            "each reading holds its battery 2 s longer than with CAP_NET_ADMIN",
            extra={"why": why_not_managed, "see": "README, Permissions"},
        )
    if why_not_direct is None and not present:
        log.warning("no Bluetooth adapter is switched on yet: see bluetoothctl list, rfkill list")
    managed = None if why_not_managed else Management(**asdict(config.management))
    return Routes(
        bluez=partial(_make_bluez, None, managed),
        direct=None if why_not_direct else partial(_make_direct, managed),
        prefers_direct=config.link is not TransportChoice.BLUEZ,
        adapters=adapters_up,
    )


def _make_bluez(
    backend: Backend | None, managed: Management | None, adapter: str | None
) -> ScanningTransport:
    # Loads bleak and D-Bus, which the direct link does without.
    from exporter.ble.bleak import BleakTransport  # noqa: PLC0415

    return BleakTransport(adapter=adapter, backend=backend, management=managed)


def _make_direct(managed: Management | None, adapter: str | None) -> DirectTransport:
    return DirectTransport(adapter=adapter, management=managed)


def _links_in_use(wanted: set[TransportChoice], why_not_direct: str | None) -> set[TransportChoice]:
    auto = TransportChoice.BLUEZ if why_not_direct else TransportChoice.DIRECT
    return {auto if link is TransportChoice.AUTO else link for link in wanted}


@dataclass(frozen=True, slots=True, kw_only=True)
class Battery:
    """One configured battery and all that reads it."""

    config: BatteryConfig
    routes: Routes
    target: Target
    session: Session
    poller: Poller


def build_battery(  # noqa: PLR0913 - all that a battery depends on
    config: BatteryConfig,
    poll: PollConfig,
    routes: Routes,
    *,
    tasks: asyncio.TaskGroup,
    wall: WallClock | None = None,
    known: Battery | None = None,
    on_change: Callable[[], None] = lambda: None,
) -> Battery:
    """Build one battery.

    Args:
        config: Its configuration.
        poll: When to read it, and for how long.
        routes: The ways to it.
        tasks: Runs its polls.
        wall: The clock by which readings age, and its conversion to unix time.
        known: The same battery as it was configured until now: it keeps its counters.
        on_change: Called after each change of its snapshot.
    """
    wall = wall or WallClock()
    if known is not None and (known.config, known.routes) == (config, routes):
        target, bms = known.target, known.bms
    else:
        target, bms = _build_session(config, known, wall.now_s)
        if known is not None:
            known.routes.untrack(config.address)
        routes.track(target)
    read = _make_poll(routes, target, bms, poll.timeout_s)
    if known is not None:
        poller = known.poller
        poller.change(read, poll)
    else:
        poller = Poller(
            battery=config.name,
            address=config.address,
            poll=read,
            config=poll,
            stats=target.stats,
            tasks=tasks,
            clock=wall.now_s,
            wall=wall,
            changed=on_change,
        )
    return Battery(config=config, routes=routes, target=target, bms=bms, poller=poller)


def _build_session(
    config: BatteryConfig, known: Battery | None, clock: Clock
) -> tuple[Target, Bms]:
    stats = LinkStats() if known is None else known.target.stats
    target = Target(
        address=config.address,
        stats=stats,
        profile=config.profile,
        adapter=config.adapter,
        link=config.link,
    )
    bms = Bms(
        stats=stats,
        mac=bytes.fromhex(config.address.replace(":", "")),
        cells=config.cells,
        hardware=config.hardware,
        counters=config.counters,
        password=config.password,
        clock=clock,
    )
    return target, bms


def _make_poll(routes: Routes, target: Target, bms: Bms, timeout_s: float) -> Poll:
    """Return the function that reads a battery once.

    Args:
        routes: The ways to it.
        target: The battery.
        bms: Its session.
        timeout_s: The limit for a read, without the disconnect.
    """

    async def poll(publish: Publish) -> None:
        deadline_s = asyncio.get_running_loop().time() + timeout_s
        async with routes.connect(target, deadline_s=deadline_s) as connection:
            # Published before the disconnect, which may take 2 s: no scrape waits for it.
            try:
                publish(await bms.read(connection, deadline_s=deadline_s))
            except BmsError as error:
                publish(error)
                raise

    return poll


class Batteries:
    """All batteries of a configuration, which may change while they are read."""

    def __init__(
        self,
        tasks: asyncio.TaskGroup,
        backend: Backend | None = None,
        *,
        on_change: Callable[[str | None], None] = lambda _name: None,
    ) -> None:
        """Start without a battery.

        Args:
            tasks: Runs the polls.
            backend: Another one than bluetoothd and the kernel, for the demo.
            on_change: Called with the name of a battery after each change of its snapshot, and with
                None when batteries come or go.
        """
        self._tasks = tasks
        self._backend = backend
        self._on_change = on_change
        self._config: Config | None = None
        self._routes: Routes | None = None
        self._batteries: dict[str, Battery] = {}
        self.wall = WallClock()
        """Converts the moments of all batteries to unix time."""
        self.pollers: dict[str, Poller] = {}
        """By configured name, in the order of the configuration; changed in place."""

    async def apply(self, config: Config) -> None:
        """Read these batteries from now on.

        A battery that was configured before keeps its counters and its poll under way; the poll of
        a battery that is gone ends.

        Raises:
            ConfigError: This machine cannot do it; nothing has changed.
        """
        old = self._config
        if self._routes is None or old is None or _routing(old) != _routing(config):
            self._routes = await build_routes(config, self._backend)
        batteries: dict[str, Battery] = {}
        for wanted in config.batteries:
            known = self._batteries.pop(wanted.name, None)
            if known is not None and known.config.address != wanted.address:
                self._batteries[wanted.name] = known  # another battery with its name
                known = None
            batteries[wanted.name] = build_battery(
                wanted,
                config.poll,
                self._routes,
                tasks=self._tasks,
                wall=self.wall,
                known=known,
                on_change=partial(self._on_change, wanted.name),
            )
        self._close_removed({one.target.address for one in batteries.values()})
        self._batteries = batteries
        self._config = config
        self.pollers.clear()
        self.pollers.update({name: one.poller for name, one in batteries.items()})
        self._on_change(None)

    def _close_removed(self, kept: set[str]) -> None:
        for removed in self._batteries.values():
            if removed.target.address not in kept:
                removed.routes.untrack(removed.target.address)
            self._tasks.create_task(removed.poller.close())

    async def close(self) -> None:
        """End every poll under way; return when all batteries are disconnected."""
        await asyncio.gather(*(poller.close() for poller in self.pollers.values()))


def _routing(config: Config) -> tuple[object, ...]:
    """Return the options that decide about the routes."""
    return config.link, config.management, {battery.link for battery in config.batteries}
