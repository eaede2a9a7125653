"""The settings session: whatever happens to the caller or the link, the mode is left."""

import asyncio
import math
from dataclasses import dataclass

import pytest

from exporter.battery.settings_reader import METRIC_REGISTERS
from exporter.battery.settings_session import SettingsSession
from exporter.demo.battery import Faults, VirtualBattery
from exporter.demo.fleet import build_camper
from exporter.link_stats import LinkStats
from exporter.protocol.settings_exchange import (
    ANSWER_S,
    LAST_S,
    LEAVE,
    LEAVE_S,
    READ_FIRST,
    READ_S,
    Expected,
    SettingsFailure,
)
from tests.support.virtual import FakeLink, battery, now_s

SETTINGS = build_camper(lambda: 0.0)["camper"].settings
EXPECTED = Expected(cell_count=4, nominal_ah=200.0)


def make_link(faults: Faults | None = None) -> FakeLink:
    return FakeLink(battery(settings=SETTINGS, faults=faults or Faults(notification=0)))


def opened(virtual: VirtualBattery) -> bool:
    assert virtual.illegal == []
    return virtual.is_mode_open


@dataclass(slots=True)
class IntervalLink(FakeLink):
    """A link on which every frame waits for the next connection event."""

    interval_s: float = 0.0

    async def write(self, data: bytes) -> None:
        self.written.append((now_s(), data))
        at_s = self._event_s(now_s() + 1e-6)
        asyncio.get_running_loop().call_at(at_s, self._arrived, data)

    def _arrived(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        for one in self.battery.request(data, now_s()):
            loop.call_at(self._event_s(now_s() + one.after_s), self._arrive, one.data)

    def _event_s(self, at_s: float) -> float:
        return math.ceil(at_s / self.interval_s) * self.interval_s


class TestReading:
    @pytest.mark.parametrize(
        ("interval_s", "most_s"),
        [
            pytest.param(0.01125, 2.0, id="the interval that CAP_NET_ADMIN allows"),
            pytest.param(0.05, READ_S, id="the kernel's own interval"),
        ],
    )
    async def test_32_registers_are_read_in_time(self, interval_s: float, most_s: float) -> None:
        # A reply over a phone's interval took 32 to 90 ms. So the BMS itself takes at most 32 ms.
        virtual = battery(settings=SETTINGS, faults=Faults(reply_s=0.032))
        link = IntervalLink(virtual, interval_s=interval_s)
        session = SettingsSession(link, LinkStats())

        await session.read(METRIC_REGISTERS, EXPECTED)

        assert len(session.exchange.payloads) == 32
        assert session.exchange.is_left
        assert now_s() <= most_s

    async def test_slow_battery_is_left_after_6_s_at_most(self) -> None:
        link = make_link(Faults(reply_s=0.39, notification=0))
        session = SettingsSession(link, LinkStats())

        await session.read(METRIC_REGISTERS, EXPECTED)

        assert session.exchange.failure == SettingsFailure.TIMEOUT
        assert link.written[-1][1] == LEAVE
        assert session.exchange.is_left
        assert now_s() <= READ_S + LAST_S

    async def test_registers_are_read_between_enter_and_leave(self) -> None:
        link = make_link()
        session = SettingsSession(link, LinkStats())

        await session.read(METRIC_REGISTERS, EXPECTED)

        assert set(session.exchange.payloads) == {*READ_FIRST, *METRIC_REGISTERS}
        assert session.exchange.failure is None
        assert session.exchange.is_left
        assert not opened(link.battery)

    async def test_silent_battery_is_left_after_6_s(self) -> None:
        link = make_link(Faults(silent=True))
        session = SettingsSession(link, LinkStats())

        await session.read(METRIC_REGISTERS, EXPECTED)

        assert session.exchange.failure == SettingsFailure.TIMEOUT
        assert not session.exchange.is_left
        assert now_s() == pytest.approx(ANSWER_S + LEAVE_S)

    async def test_lost_link_ends_it(self) -> None:
        link = make_link(Faults(cut=True))
        session = SettingsSession(link, LinkStats())

        await session.read(METRIC_REGISTERS, EXPECTED)

        assert session.is_lost
        assert session.exchange.failure == SettingsFailure.INTERRUPTED
        assert not session.exchange.is_left


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("at_s", [0.0, 0.05, 0.5, 1.1])
async def test_cancellations_do_not_skip_leave(at_s: float, times: int) -> None:
    link = make_link()
    session = SettingsSession(link, LinkStats())
    task = asyncio.create_task(session.read(METRIC_REGISTERS, EXPECTED))

    await asyncio.sleep(at_s)
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0.01)
    (outcome,) = await asyncio.gather(task, return_exceptions=True)

    assert isinstance(outcome, asyncio.CancelledError)
    assert session.exchange.is_left or not link.battery.mode_frames
    assert not opened(link.battery)
    assert now_s() < at_s + 0.5


async def test_cancelled_task_of_the_exchange_is_replaced() -> None:
    link = make_link()
    session = SettingsSession(link, LinkStats())
    reading = asyncio.create_task(session.read(METRIC_REGISTERS, EXPECTED))
    await asyncio.sleep(0.3)

    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    await asyncio.wait([reading])

    assert reading.cancelled()
    assert session.exchange.is_left
    assert not opened(link.battery)


async def test_read_can_be_ended_early() -> None:
    link = make_link()
    session = SettingsSession(link, LinkStats())
    reading = asyncio.create_task(session.read(METRIC_REGISTERS, EXPECTED))
    await asyncio.sleep(0.3)

    session.leave_early()
    session.leave_early()
    await reading

    assert session.exchange.failure == SettingsFailure.INTERRUPTED
    assert session.exchange.is_left
    assert not opened(link.battery)
    assert now_s() < 0.6
