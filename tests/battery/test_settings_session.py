"""The settings session: whatever happens to the caller or the link, the mode is left."""

import asyncio

import pytest

from exporter.battery.settings_reader import METRIC_REGISTERS
from exporter.battery.settings_session import SettingsSession
from exporter.demo.battery import Faults, VirtualBattery
from exporter.demo.fleet import build_camper
from exporter.link_stats import LinkStats
from exporter.protocol.settings_exchange import LEAVE_S, READ_FIRST, Expected, SettingsFailure
from tests.support.virtual import FakeLink, battery, now_s

SETTINGS = build_camper(lambda: 0.0)["camper"].settings
EXPECTED = Expected(cell_count=4, nominal_ah=200.0)


def make_link(faults: Faults | None = None) -> FakeLink:
    return FakeLink(battery(settings=SETTINGS, faults=faults or Faults(notification=0)))


def opened(virtual: VirtualBattery) -> bool:
    assert virtual.illegal == []
    return virtual.is_mode_open


class TestReading:
    async def test_registers_are_read_between_enter_and_leave(self) -> None:
        link = make_link()
        session = SettingsSession(link, LinkStats())

        await session.read(METRIC_REGISTERS, EXPECTED)

        assert set(session.exchange.payloads) == {*READ_FIRST, *METRIC_REGISTERS}
        assert session.exchange.failure is None
        assert session.exchange.is_left
        assert not opened(link.battery)

    async def test_silent_battery_is_left_for_at_most_3_s(self) -> None:
        link = make_link(Faults(silent=True))
        session = SettingsSession(link, LinkStats())

        await session.read(METRIC_REGISTERS, EXPECTED, read_s=2.0)

        assert session.exchange.failure == SettingsFailure.TIMEOUT
        assert not session.exchange.is_left
        assert now_s() == pytest.approx(2.0 + LEAVE_S)

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
