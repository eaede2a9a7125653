"""A poller that reads a virtual battery with settings over links whose every byte can fail."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from typing import Any

from exporter.batteries import Battery, build_battery
from exporter.battery.settings_reader import METRIC_REGISTERS, SettingsReader
from exporter.battery.settings_state import SettingsState
from exporter.clock import WallClock
from exporter.config.schema import (
    BatteryConfig,
    Name,
    PollConfig,
    Seconds,
    SettingsChoice,
    normal_address,
)
from exporter.demo.battery import Faults, VirtualBattery
from exporter.demo.settings import make_settings
from exporter.protocol.jbd import decode_basic
from exporter.reading import BasicInfo
from tests.support.recorded import MOBILEKTRO
from tests.support.virtual import ADDRESS, FakeConnection, FakeLink, battery, now_s

BASIC: BasicInfo = decode_basic(MOBILEKTRO[4:-3])
SETTINGS = make_settings(BASIC.nominal_ah, "JBD-SP04S034", date(2022, 8, 12))


def make_battery(**options: Any) -> VirtualBattery:
    """Return a MOBILEKTRO with settings, whose notifications hold a whole frame."""
    usual: dict[str, Any] = {"settings": SETTINGS, "faults": Faults(notification=0)}
    return battery(**usual | options)


@dataclass(slots=True)
class Line(FakeLink):
    """A link that counts its bytes in both directions, and can be cut off."""

    count: Callable[[], None] = lambda: None
    is_dead: bool = False  # nothing arrives, in both directions

    async def write(self, data: bytes) -> None:
        self.count()
        if self.is_dead and not self.lost:
            self.written.append((now_s(), data))
            return
        await FakeLink.write(self, data)
        self.count()

    def lose(self) -> None:
        """End the connection from the battery's side."""
        self.is_dead = True
        self.notifications.put_nowait(None)
        self.lost = True

    def _arrive(self, data: bytes | None) -> None:
        for at in range(len(data or b"")):
            if self.is_dead:
                return
            FakeLink._arrive(self, (data or b"")[at : at + 1])
            self.count()
        if data is None:
            FakeLink._arrive(self, None)


class Wire(FakeConnection):
    """A connection whose links are `Line`s."""

    def __init__(self, virtual: VirtualBattery, count: Callable[[], None]) -> None:
        super().__init__(virtual)
        self.lines: list[Line] = []
        self._count = count

    async def open(self, profile: str, early: bytes, *, other_write: bool = False) -> FakeLink:
        del early, other_write
        line = Line(self._battery, count=self._count)
        self.links[profile] = line
        self.lines.append(line)
        return line


@dataclass(slots=True)
class Bench:
    """A virtual battery, and the poller of it, which can be killed and started again."""

    tasks: asyncio.TaskGroup
    virtual: VirtualBattery = field(default_factory=make_battery)
    registers: tuple[int, ...] = METRIC_REGISTERS
    choice: SettingsChoice = SettingsChoice.DAILY
    min_interval_s: float = 0.0
    max_age_s: float = 120.0
    wires: list[Wire] = field(default_factory=list)
    count: Callable[[], None] = lambda: None
    battery: Battery = field(init=False)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Start the exporter."""
        self.battery = self._build(None)

    def configure(self, choice: SettingsChoice) -> None:
        """Reload the configuration."""
        self.choice = choice
        self.battery = self._build(self.battery)

    def _build(self, known: Battery | None) -> Battery:
        routes: Any = self
        config = BatteryConfig(
            name=Name("camper"), address=normal_address(ADDRESS), settings=self.choice
        )
        poll = PollConfig(
            min_interval_s=Seconds(self.min_interval_s), max_age_s=Seconds(self.max_age_s)
        )
        return build_battery(
            config,
            poll,
            routes,
            tasks=self.tasks,
            wall=WallClock(now_s),
            known=known,
            settings=partial(SettingsReader, registers=self.registers),
        )

    def track(self, _target: object) -> None:
        """As `Routes` does; there is only one battery."""

    def untrack(self, _address: str) -> None:
        """The same."""

    @asynccontextmanager
    async def connect(self, _target: object, **_options: float) -> AsyncIterator[Wire]:
        """Connect at once."""
        wire = Wire(self.virtual, lambda: self.count())  # noqa: PLW0108 - it changes
        self.wires.append(wire)
        self.virtual.connected()
        try:
            yield wire
        finally:
            for line in wire.lines:
                line.lose()

    @property
    def state(self) -> SettingsState:
        """The settings as the snapshot shows them."""
        state = self.battery.poller.show().settings
        assert state is not None
        return state

    @property
    def line(self) -> Line:
        """The newest link."""
        return self.wires[-1].lines[-1]

    @property
    def written(self) -> list[bytes]:
        """What was written on the newest link."""
        return [data for _, data in self.line.written]

    async def poll(self) -> Any:
        """Poll, and wait for what follows the reading."""
        shot = await self.battery.poller.refresh()
        while self.polls():
            await asyncio.wait(self.polls())
        return shot

    @staticmethod
    def polls() -> set[asyncio.Task[Any]]:
        """Return the tasks of the polls under way."""
        return {task for task in asyncio.all_tasks() if task.get_name() == "poll camper"}
