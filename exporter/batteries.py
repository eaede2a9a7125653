"""Builds the batteries of a configuration, and changes them on a reload."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from exporter.battery.poller import Poll, Poller, Publish
from exporter.battery.recordings import Recordings
from exporter.battery.session import Session
from exporter.battery.settings_reader import SettingsReader
from exporter.ble.adapter_health import AdapterHealths
from exporter.ble.machine import build_routes
from exporter.ble.proxies import Proxies
from exporter.ble.routes import Routes
from exporter.ble.transport import Backend, Target
from exporter.clock import Clock, WallClock
from exporter.config.presentation import Presentation
from exporter.config.schema import BankConfig, BatteryConfig, Config, PollConfig, SettingsChoice
from exporter.errors import BmsError
from exporter.link_stats import LinkStats
from exporter.localtime import LocalTime
from exporter.recording.lines import Write

MakeSettings = Callable[[str, LinkStats, Clock, Callable[[], None]], SettingsReader]


@dataclass(frozen=True, slots=True, kw_only=True)
class Battery:
    """One configured battery, and the objects that read it."""

    config: BatteryConfig
    routes: Routes
    target: Target
    session: Session
    settings: SettingsReader
    poller: Poller


def build_battery(  # noqa: PLR0913 - all that a battery depends on
    config: BatteryConfig,
    poll: PollConfig,
    routes: Routes,
    *,
    tasks: asyncio.TaskGroup,
    wall: WallClock | None = None,
    known: Battery | None = None,
    presentation: Presentation | None = None,
    on_change: Callable[[], None] = lambda: None,
    record: Write | None = None,
    settings: MakeSettings = SettingsReader,
) -> Battery:
    """Build one battery.

    Args:
        config: The battery.
        poll: When to read it, and for how long.
        routes: The transports to choose from.
        tasks: Runs its polls.
        wall: The clock by which readings age, and its conversion to unix time.
        known: The battery as configured until now; the new one keeps its poller and counters.
        presentation: What is shown besides readings; None: the defaults.
        on_change: Called after each change of the battery's snapshot.
        record: Takes the lines of the recordings; None: those of failed polls are kept.
        settings: Makes what reads the settings; called with name, counters and clock.
    """
    wall = wall or WallClock()
    stats = known.target.stats if known else LinkStats()
    reader = known.settings if known else settings(config.name, stats, wall.now_s, on_change)
    reader.change(is_enabled=config.settings is SettingsChoice.DAILY)
    presentation = presentation or Presentation()
    if known is not None and (known.config, known.routes) == (config, routes):
        target, session = known.target, known.session
    else:
        target = _build_target(config, stats)
        session = Session(config, stats=stats, clock=wall.now_s, settings=reader)
        if known is not None and (known.routes, _way(known.config)) != (routes, _way(config)):
            known.routes.untrack(config.address)
        routes.track(target)
    recordings = known.poller.recordings if known else Recordings(target.stats, record)
    recordings.change(config.address, partial(_describe, config, poll, session, target.stats))
    read = _make_poll(routes, target, session, poll, recordings)
    if known is not None:
        poller = known.poller
        poller.change(read, poll, presentation)
    else:
        poller = Poller(
            battery=config.name,
            address=config.address,
            poll=read,
            config=poll,
            stats=target.stats,
            tasks=tasks,
            wall=wall,
            changed=on_change,
            recordings=recordings,
            settings=reader,
            presentation=presentation,
        )
    return Battery(
        config=config,
        routes=routes,
        target=target,
        session=session,
        settings=reader,
        poller=poller,
    )


def _way(config: BatteryConfig) -> tuple[object, ...]:
    """Return the options that determine how a battery is reached."""
    return config.link, config.adapter, config.gentle


def _build_target(config: BatteryConfig, stats: LinkStats) -> Target:
    return Target(
        address=config.address,
        stats=stats,
        profile=config.profile,
        adapter=config.adapter,
        link=config.link,
        gentle=config.gentle,
    )


def _describe(
    config: BatteryConfig, poll: PollConfig, session: Session, stats: LinkStats
) -> Mapping[str, Any]:
    """Return what decides how the next poll goes, for its recording."""
    return {
        "profile": config.profile,
        "password": config.password is not None,
        "timeout_s": poll.timeout_s,
        "missed": stats.missed,
        "session": session.describe(),
    }


def _make_poll(
    routes: Routes, target: Target, session: Session, config: PollConfig, recordings: Recordings
) -> Poll:
    """Return the function that reads a battery once; the timeout excludes the disconnect."""

    async def poll(publish: Publish) -> None:
        deadline_s = asyncio.get_running_loop().time() + config.timeout_s
        # A failure would not be seen: the next poll has its turn before the reading is too old.
        explore_s = config.max_age_s / 2
        connecting = routes.connect(target, deadline_s=deadline_s, explore_s=explore_s)
        with recordings.record() as note:
            async with connecting as connection:
                # Published before the disconnect, which may take 2 s: no scrape waits for it.
                try:
                    reading = await session.read(connection, deadline_s=deadline_s)
                except BmsError as error:
                    publish(error)
                    raise
                note(reading)
                publish(reading)
                await session.read_settings()

    return poll


class Batteries:
    """All batteries of a configuration, which may change while they are read."""

    def __init__(  # noqa: PLR0913 - all that they depend on
        self,
        config: Config,
        routes: Routes,
        tasks: asyncio.TaskGroup,
        *,
        backend: Backend | None = None,
        healths: AdapterHealths | None = None,
        proxies: Proxies | None = None,
        make_settings: MakeSettings = SettingsReader,
        wall: WallClock | None = None,
    ) -> None:
        """Build the batteries.

        `backend` replaces bluetoothd and the kernel, `make_settings` what reads the settings: both
        are for the demo. `wall` is for tests.
        """
        self._tasks = tasks
        self._backend = backend
        self._make_settings = make_settings
        self._healths = healths or AdapterHealths()
        self._proxies = proxies or Proxies()
        self._listeners: list[Callable[[str | None], None]] = []
        self._batteries: dict[str, Battery] = {}
        self.wall = wall or WallClock()
        self.local_time = LocalTime(config, self.wall)
        self.pollers: dict[str, Poller] = {}
        """By configured name, in the order of the configuration; changed in place."""
        self.banks: list[BankConfig] = []
        """In the order of the configuration; changed in place."""
        self._replace(config, routes)

    async def apply(self, config: Config) -> None:
        """Read the batteries of this configuration from now on.

        Batteries that were configured before keep their counters and their poll under way. Polls
        of removed batteries end.

        Raises:
            ConfigError: This machine cannot use it; nothing has changed.
        """
        routes = self._routes
        links = {battery.link for battery in config.batteries}
        is_same = _routing(self._config) == _routing(config)
        if not is_same or links - {battery.link for battery in self._config.batteries}:
            built = await build_routes(config, self._backend, self._healths, self._proxies)
            routes = routes if is_same else built  # the old ones know how to reach the others
        self._replace(config, routes)

    def _replace(self, config: Config, routes: Routes) -> None:
        batteries: dict[str, Battery] = {}
        for wanted in config.batteries:
            known = self._batteries.pop(wanted.name, None)
            if known is not None and known.config.address != wanted.address:
                self._batteries[wanted.name] = known  # to be closed: the name is another's now
                known = None
            batteries[wanted.name] = build_battery(
                wanted,
                config.poll,
                routes,
                tasks=self._tasks,
                wall=self.wall,
                known=known,
                presentation=config.presentation(wanted),
                on_change=partial(self._notify, wanted.name),
                settings=self._make_settings,
            )
        self._close_removed({one.target.address for one in batteries.values()})
        self.local_time.change(config)
        self._config, self._routes, self._batteries = config, routes, batteries
        self.banks[:] = config.banks
        self.pollers.clear()
        self.pollers.update({name: one.poller for name, one in batteries.items()})
        self._notify(None)

    def subscribe(self, listener: Callable[[str | None], None]) -> None:
        """Call `listener` with a name after each change of a snapshot, with None after a reload."""
        self._listeners.append(listener)

    def _notify(self, name: str | None) -> None:
        for listener in self._listeners:
            listener(name)

    def _close_removed(self, kept: set[str]) -> None:
        for removed in self._batteries.values():
            if removed.target.address not in kept:
                removed.routes.untrack(removed.target.address)
            self._tasks.create_task(removed.poller.close())

    async def close(self) -> None:
        """End every poll under way; return when all batteries are disconnected."""
        await asyncio.gather(*(poller.close() for poller in self.pollers.values()))


def _routing(config: Config) -> tuple[object, ...]:
    """Return the options that determine the routes."""
    return config.link, config.management, config.proxies
