"""The batteries of a configuration, wired to their radios; a reload may change them."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from functools import partial
from importlib import import_module

from exporter.battery.poller import Poll, Poller, Publish
from exporter.battery.session import Session
from exporter.ble.bleak import Backend, Radio, Target
from exporter.ble.direct import management, sockets
from exporter.ble.direct.client import Kernel
from exporter.ble.direct.management import Management
from exporter.ble.routes import Spread
from exporter.clock import Clock, WallClock, boot_s
from exporter.config.schema import BatteryConfig, Config, PollConfig, TransportChoice
from exporter.errors import BmsError, ConfigError
from exporter.link_stats import LinkStats

log = logging.getLogger(__name__)


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
        return (
            self._direct if self._has_direct and link is not TransportChoice.BLUEZ else self._bluez
        )


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
    if why_not_direct and TransportChoice.DIRECT in wanted:
        raise ConfigError([f"link: direct cannot be used here: {why_not_direct}"])
    why_not_managed = why_not_direct or await management.why_not()
    links = _links_in_use(wanted, why_not_direct)
    if TransportChoice.BLUEZ in links:
        import_module("exporter.ble.bluez")  # now, not in the middle of a scrape
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
    if why_not_direct is None and not any(adapter.up for adapter in sockets.adapters()):
        log.warning("no Bluetooth adapter is switched on yet: see bluetoothctl list, rfkill list")
    return Radios(
        config,
        direct=why_not_direct is None,
        management=None if why_not_managed else Management(**asdict(config.management)),
    )


def _links_in_use(wanted: set[TransportChoice], why_not_direct: str | None) -> set[TransportChoice]:
    auto = TransportChoice.BLUEZ if why_not_direct else TransportChoice.DIRECT
    return {auto if link is TransportChoice.AUTO else link for link in wanted}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wired:
    """One battery, put together."""

    config: BatteryConfig
    radios: Spread
    target: Target
    session: Session
    poller: Poller


def wire(  # noqa: PLR0913 - a battery's whole surroundings
    battery: BatteryConfig,
    poll: PollConfig,
    radios: Spread,
    tasks: asyncio.TaskGroup,
    *,
    clock: Clock = boot_s,
    wall: WallClock | None = None,
    known: Wired | None = None,
    changed: Callable[[], None] = lambda: None,
) -> Wired:
    """Put one battery together.

    Args:
        battery: Its configuration.
        poll: How it is read.
        radios: What it is read with.
        tasks: Where its polls run.
        clock: Ages readings.
        wall: Converts moments of `clock` to unix time. None: one of the battery's own.
        known: The same battery as it was configured until now: its counters go on.
        changed: Called when what is known about it changed.
    """
    stats = LinkStats() if known is None else known.target.stats
    if known is not None and (known.config, known.radios) == (battery, radios):
        target, session = known.target, known.session
    else:
        target = Target(
            address=battery.address,
            stats=stats,
            profile=battery.profile,
            pairs=battery.link is not TransportChoice.DIRECT,
        )
        session = Session(
            stats=stats,
            mac=bytes.fromhex(battery.address.replace(":", "")),
            cells=battery.cells,
            hardware=battery.hardware,
            counters=battery.counters,
            password=battery.password,
            clock=clock,
        )
        if known is not None:
            known.radios.unwatch(battery.address)
        radios.watch(target)
    how = poll_of(radios, battery.adapter, target, session, poll.timeout_s)
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
            wall=wall,
            changed=changed,
        )
    return Wired(config=battery, radios=radios, target=target, session=session, poller=poller)


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
        self.changed: Callable[[str | None], None] = lambda _name: None
        """Told the name of a battery when what is known about it changed; None: which there are."""
        self._tasks = tasks
        self._backend = backend
        self._config: Config | None = None
        self._radios: Radios | None = None
        self._wired: dict[str, Wired] = {}
        self.wall = WallClock()
        """Converts the moments of all batteries to unix time."""
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
            wired[battery.name] = wire(
                battery,
                config.poll,
                radios,
                self._tasks,
                wall=self.wall,
                known=known,
                changed=partial(self._tell, battery.name),
            )
        kept = {one.target.address for one in wired.values()}
        for gone in self._wired.values():
            if gone.target.address not in kept:
                gone.radios.unwatch(gone.target.address)
            self._tasks.create_task(gone.poller.close())
        self._wired = wired
        self._config = config
        self.pollers.clear()
        self.pollers.update({name: one.poller for name, one in wired.items()})
        self.changed(None)

    def _tell(self, name: str) -> None:
        self.changed(name)

    @property
    def poll(self) -> PollConfig:
        """How batteries are read; the defaults before the first `apply`."""
        return PollConfig() if self._config is None else self._config.poll

    async def close(self) -> None:
        """End every poll under way; return when all batteries are disconnected."""
        await asyncio.gather(*(poller.close() for poller in self.pollers.values()))


def _way(config: Config) -> tuple[object, ...]:
    """Return what decides through which radios batteries are read."""
    return config.link, config.management, {one.link for one in config.batteries}


def poll_of(
    radios: Spread, adapter: str | None, target: Target, session: Session, timeout_s: float
) -> Poll:
    """Return the function that reads a battery once within `timeout_s`, disconnecting excluded."""

    async def poll(publish: Publish) -> None:
        deadline_s = asyncio.get_running_loop().time() + timeout_s
        async with radios.connect(target, adapter, deadline_s=deadline_s) as connection:
            # Published before the disconnect, which may take 2 s that nobody waits for.
            try:
                publish(await session.read(connection, deadline_s=deadline_s))
            except BmsError as error:
                publish(error)
                raise

    return poll
