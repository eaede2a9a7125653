"""Settings are read once a day after a reading, and their mode is never left open unnoticed."""

import asyncio
import logging
from typing import Any

import pytest

from exporter.battery.settings_reader import EVERY_S
from exporter.config.schema import SettingsChoice
from exporter.demo.battery import Faults, encode_reply
from exporter.protocol.frame import Command, encode_request
from exporter.protocol.settings_exchange import ENTER, LEAVE, SettingsFailure
from tests.support.recorded import MOBILEKTRO
from tests.support.settings import SETTINGS, Bench, make_battery
from tests.support.virtual import ANSWERS, answering, now_s

OFF, DAILY = SettingsChoice.OFF, SettingsChoice.DAILY


def answers_with(at: int, word: int) -> Any:
    """Return the answers of a battery with another word in 0x03."""
    payload = bytearray(MOBILEKTRO[4:-3])
    payload[at : at + 2] = word.to_bytes(2, "big")
    return answering(ANSWERS | {0x03: encode_reply(0x03, bytes(payload))})


def sessions(bench: Bench) -> int:
    return bench.virtual.mode_frames.count(ENTER)


class TestDailyRead:
    async def test_first_connection_begins_with_leave_and_ends_with_the_settings(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        bench = Bench(tasks)

        shot = await bench.poll()

        assert shot.up
        assert shot.settings.rows == ()  # it does not wait for them
        assert bench.written[0] == LEAVE
        assert bench.written[-1] == LEAVE
        assert bench.state.number("cell_undervoltage_v") == 2.5
        assert bench.state.is_left
        assert bench.state.reads == 1
        assert bench.state.failures == {}
        assert bench.virtual.illegal == []
        assert bench.battery.poller.show().settings_read_unix_s is not None

    async def test_settings_are_read_once_in_20_h(self, tasks: asyncio.TaskGroup) -> None:
        bench = Bench(tasks)
        await bench.poll()

        await asyncio.sleep(EVERY_S - 60.0)
        await bench.poll()
        assert sessions(bench) == 1
        assert set(bench.written).isdisjoint({ENTER, LEAVE})

        await asyncio.sleep(60.0)
        await bench.poll()
        assert sessions(bench) == 2
        assert bench.state.reads == 2
        assert bench.state.is_left

    @pytest.mark.parametrize(
        "answers",
        [
            pytest.param(answers_with(16, 1), id="while a protection is active"),
            pytest.param(answers_with(18, 0x5F09), id="below 10 % charge"),
        ],
    )
    async def test_settings_are_not_read(self, tasks: asyncio.TaskGroup, answers: Any) -> None:
        bench = Bench(tasks, make_battery(answers=answers))

        await bench.poll()

        assert sessions(bench) == 0
        assert bench.state.reads == 0
        assert bench.state.is_left

    async def test_settings_are_not_read_above_half_the_discharge_limit(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        bench = Bench(tasks)
        await bench.poll()
        limit_a = bench.state.number("discharge_overcurrent_a")
        assert limit_a is not None
        raw = round(limit_a * 100 * 0.51)
        bench.virtual.answers = answers_with(2, raw & 0xFFFF)

        await asyncio.sleep(EVERY_S)
        await bench.poll()

        assert sessions(bench) == 1

    async def test_settings_are_not_read_after_a_reading_with_a_gap(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        bench = Bench(tasks)

        def drop() -> None:
            if bench.virtual.requests[-1:] == [0x05]:
                bench.line.lose()

        bench.count = drop

        assert (await bench.poll()).up
        assert sessions(bench) == 0
        assert bench.state.reads == 0

    async def test_failed_read_changes_nothing_of_the_poll(self, tasks: asyncio.TaskGroup) -> None:
        bench = Bench(tasks)
        bench.virtual.faults = Faults(notification=0, refuses_mode=True)

        await bench.poll()

        shot = bench.battery.poller.show()
        assert shot.up
        assert (shot.polls, shot.failures, shot.last_error) == (1, {}, None)
        assert shot.link.connection_failures == {}
        assert bench.state.failures == {SettingsFailure.REFUSED: 1}
        assert bench.state.is_left

    async def test_failed_read_keeps_the_settings_of_the_day_before(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        bench = Bench(tasks)
        await bench.poll()
        bench.virtual.faults = Faults(notification=0, refuses_mode=True)

        await asyncio.sleep(EVERY_S)
        await bench.poll()

        assert bench.state.failures == {SettingsFailure.REFUSED: 1}
        assert bench.state.number("cell_undervoltage_v") == 2.5
        assert bench.state.read_at_s == pytest.approx(now_s() - EVERY_S, abs=10.0)

    @pytest.mark.parametrize(
        "other",
        [
            pytest.param({0x2F: b"\x00\x10"}, id="another cell count"),
            pytest.param({0x10: b"\x00\x01"}, id="another capacity"),
            pytest.param({0x2D: b"\x10\x06"}, id="a unit that contradicts the capacity"),
        ],
    )
    async def test_implausible_settings_are_not_shown(
        self, tasks: asyncio.TaskGroup, other: dict[int, bytes]
    ) -> None:
        bench = Bench(tasks)
        await bench.poll()
        bench.virtual.settings = SETTINGS | other

        await asyncio.sleep(EVERY_S)
        await bench.poll()

        assert bench.state.failures == {SettingsFailure.IMPLAUSIBLE: 1}
        assert bench.state.rows == ()
        assert bench.state.read_at_s is None
        assert bench.state.is_left


class TestSwitchedOff:
    async def test_no_byte_is_written_that_reading_does_not_need(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        bench = Bench(tasks, choice=OFF)

        await bench.poll()

        assert bench.virtual.requests == [0x03, 0x04, 0xAA, 0x05]
        assert bench.written == [encode_request(Command(one)) for one in bench.virtual.requests]
        assert bench.virtual.mode_frames == []
        assert bench.battery.poller.show().settings is None

    async def test_settings_disappear_with_a_new_configuration(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        bench = Bench(tasks)
        await bench.poll()

        bench.configure(OFF)
        assert bench.battery.poller.show().settings is None

        bench.configure(DAILY)
        assert bench.state.rows == ()
        assert bench.state.is_left

    async def test_settings_stay_with_another_new_configuration(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        bench = Bench(tasks)
        await bench.poll()

        bench.configure(DAILY)

        assert bench.state.rows

    async def test_read_under_way_ends_with_leave_and_shows_nothing(
        self, tasks: asyncio.TaskGroup, caplog: pytest.LogCaptureFixture
    ) -> None:
        bench = Bench(tasks)
        await bench.battery.poller.refresh()
        await asyncio.sleep(0.5)
        assert bench.virtual.is_mode_open

        bench.configure(OFF)
        await asyncio.sleep(0.5)

        assert not bench.virtual.is_mode_open
        bench.configure(DAILY)
        assert bench.state.rows == ()
        assert bench.state.failures == {SettingsFailure.INTERRUPTED: 1}
        (record,) = [one for one in caplog.records if one.message == "settings not read"]
        assert vars(record)["reason"] == "interrupted"
        assert "error" not in vars(record)

    async def test_mode_that_was_not_left_is_left_all_the_same(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        bench = Bench(tasks)
        await bench.battery.poller.refresh()
        await asyncio.sleep(0.5)
        bench.line.lose()
        await asyncio.sleep(0.1)
        bench.configure(OFF)

        await bench.poll()
        assert bench.written[0] == LEAVE
        assert not bench.virtual.is_mode_open

        await bench.poll()
        assert set(bench.written).isdisjoint({ENTER, LEAVE})


class TestOtherScrapes:
    async def test_scrape_during_the_read_shows_the_reading_before_it(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        bench = Bench(tasks)
        await bench.battery.poller.refresh()
        await asyncio.sleep(0.5)
        assert bench.virtual.is_mode_open
        began_s = now_s()

        shot = await bench.battery.poller.refresh()

        assert now_s() == began_s
        assert shot.reading is not None
        assert shot.settings is not None
        assert shot.settings.is_left is False
        assert bench.virtual.connects == 1

    async def test_scrape_that_shows_only_its_own_reading_waits(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        bench = Bench(tasks, max_age_s=0.0)
        await bench.battery.poller.refresh()
        await asyncio.sleep(0.5)

        shot = await bench.battery.poller.refresh()

        assert shot.reading is not None
        assert bench.virtual.connects == 2
        assert bench.state.is_left
        assert bench.state.reads == 1
        assert bench.state.failures == {}

    @pytest.mark.parametrize("ends", ["close", "pause"])
    async def test_release_and_stop_end_the_read_at_once(
        self, tasks: asyncio.TaskGroup, ends: str
    ) -> None:
        bench = Bench(tasks)
        poller = bench.battery.poller
        await poller.refresh()
        await asyncio.sleep(0.5)
        assert bench.virtual.is_mode_open
        began_s = now_s()

        await (poller.close() if ends == "close" else poller.pause(600.0))

        assert now_s() - began_s < 0.5
        assert not bench.virtual.is_mode_open
        assert bench.state.is_left
        assert bench.state.failures == {SettingsFailure.INTERRUPTED: 1}


class TestLeavingLater:
    async def test_unanswered_leave_is_logged_once_and_comes_first_next_time(
        self, tasks: asyncio.TaskGroup, caplog: pytest.LogCaptureFixture
    ) -> None:
        bench = Bench(tasks)
        await bench.battery.poller.refresh()
        await asyncio.sleep(0.5)
        bench.line.is_dead = True
        await asyncio.sleep(10.0)

        assert bench.virtual.is_mode_open
        assert bench.state.is_left is False
        (record,) = [one for one in caplog.records if "mode" in one.message]
        assert (record.levelno, record.battery) == (logging.WARNING, "camper")  # type: ignore[attr-defined]

        shot = await bench.poll()

        assert shot.up
        assert bench.written[0] == LEAVE
        assert not bench.virtual.is_mode_open
        assert bench.state.is_left
        assert sessions(bench) == 1

    async def test_battery_without_the_mode_is_read(
        self, tasks: asyncio.TaskGroup, caplog: pytest.LogCaptureFixture
    ) -> None:
        bench = Bench(tasks, make_battery(settings=None))

        for _ in range(2):
            assert (await bench.poll()).up

        assert bench.state.is_left is False
        assert [one.levelno for one in caplog.records if "mode" in one.message] == [logging.WARNING]

    async def test_battery_that_disconnects_at_leave_is_read_from_then_on(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        bench = Bench(tasks)

        def drop() -> None:
            if bench.written[-1:] == [LEAVE]:
                bench.line.lose()

        bench.count = drop

        assert [(await bench.poll()).up for _ in range(4)] == [False, True, True, True]
        assert bench.state.is_left is False

    async def test_leave_comes_first_again_when_the_reading_before_it_fails(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        bench = Bench(tasks)
        bench.virtual.request(ENTER)  # left open by an exporter that was killed

        def drop() -> None:
            if bench.written:
                bench.line.lose()

        bench.count = drop

        assert [(await bench.poll()).up for _ in range(2)] == [False, False]
        assert bench.written[0] == encode_request(Command.BASIC_INFO)
        bench.count = lambda: None
        await asyncio.sleep(301.0)  # longer than any back-off

        assert (await bench.poll()).up
        assert bench.written[0] == LEAVE
        assert not bench.virtual.is_mode_open
        assert bench.state.is_left

    async def test_leave_after_the_reading_is_followed_by_the_settings(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        bench = Bench(tasks)
        bench.count = lambda: bench.line.lose()  # noqa: PLW0108 - there is none yet
        assert not (await bench.poll()).up
        bench.count = lambda: None

        await bench.poll()

        assert bench.written[0] == encode_request(Command.BASIC_INFO)
        assert bench.state.is_left
        assert bench.state.rows

    async def test_stop_during_a_late_leave_reads_no_settings(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        bench = Bench(tasks)
        bench.count = lambda: bench.line.lose()  # noqa: PLW0108 - there is none yet
        await bench.poll()
        bench.count = lambda: None

        await bench.battery.poller.refresh()
        await bench.battery.poller.close()

        assert sessions(bench) == 0
