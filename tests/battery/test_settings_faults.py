"""Faults at every byte of a settings session: only reads, ENTER and LEAVE are ever sent."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import looptime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.config.schema import SettingsChoice
from exporter.protocol.frame import READ
from exporter.protocol.settings_exchange import ENTER, LEAVE
from tests.support.settings import Bench

FEW = (0x2D, 0x26)
SESSION_BYTES = 211  # of a first poll and its settings
DAILY = SettingsChoice.DAILY


class Action:
    """What can happen at any byte of a session."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    def lost(self) -> None:
        self.bench.line.lose()

    def silent(self) -> None:
        self.bench.line.is_dead = True

    def cancelled(self, times: int = 1) -> None:
        """Cancel the poll, and soon after once more, and so on."""
        for task in self.bench.polls():
            task.cancel()
        if times > 1:
            asyncio.get_running_loop().call_later(0.03, self.cancelled, times - 1)

    def cancelled_twice(self) -> None:
        self.cancelled(2)

    def cancelled_thrice(self) -> None:
        self.cancelled(3)

    def cancelled_and_silent(self) -> None:
        self.bench.line.is_dead = True
        self.cancelled(2)

    def killed(self) -> None:
        """Start a new exporter; nothing of the old one gets through any more."""
        self.bench.line.lose()
        for task in self.bench.polls():
            task.cancel()
        self.bench.start()

    def released(self) -> None:
        self.bench.tasks.create_task(self.bench.battery.poller.pause(60.0))

    def taken_by_the_phone(self) -> None:
        """Lose the link to a phone that uses the mode, too."""
        self.bench.line.lose()
        for frame in (ENTER, LEAVE):
            self.bench.virtual.request(frame)

    def reloaded(self) -> None:
        self.bench.configure(DAILY)


ACTIONS = [name for name in vars(Action) if not name.startswith("_")]


def run_on_virtual_time(work: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=looptime.new_event_loop) as runner:
        runner.run(work)


async def fail_at(byte: int, action: str) -> None:
    """Let something happen at one byte of a session; then let the exporter go on undisturbed."""
    async with asyncio.TaskGroup() as tasks:
        bench = Bench(tasks, registers=FEW)
        bytes_passed = 0

        def check() -> None:
            assert not (bench.state.is_left and bench.virtual.is_mode_open)

        def count() -> None:
            nonlocal bytes_passed
            bytes_passed += 1
            check()
            if bytes_passed == byte:
                getattr(Action(bench), action)()

        bench.count = count
        await bench.poll()
        assert bytes_passed >= byte, "nothing has happened"
        await asyncio.sleep(61.0)
        check()
        was_open = bench.virtual.is_mode_open

        for _ in range(2):
            await asyncio.sleep(301.0)
            await bench.poll()
            check()
            if bench.battery.poller.show().up and was_open:
                assert not bench.virtual.is_mode_open
                was_open = False
        assert bench.battery.poller.show().up
        assert bench.state.is_left
        assert bench.virtual.illegal == []
        lines = [line for wire in bench.wires for line in wire.lines]
        frames = {data for line in lines for _, data in line.written}  # lost ones, too
        assert {data for data in frames if data[1] != READ} <= {ENTER, LEAVE}


@pytest.mark.parametrize("action", ACTIONS)
@settings(max_examples=25)
@given(data=st.data())
def test_mode_is_never_open_unnoticed(action: str, data: st.DataObject) -> None:
    byte = data.draw(st.integers(1, SESSION_BYTES))

    run_on_virtual_time(fail_at(byte, action))
