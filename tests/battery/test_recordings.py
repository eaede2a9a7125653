"""The last three failed polls are kept in memory, redacted and bounded."""

import asyncio
import json

import pytest

from exporter.battery.recordings import MAX_BYTES, MemoryLines
from exporter.demo.battery import Faults
from exporter.demo.radio import make_air
from tests.support.sessions import replay_text
from tests.support.virtual import battery, make_poller, make_routes

ADDRESS = "A4:C1:38:5E:F1:6B"


class TestFailedPolls:
    async def test_only_failed_polls_are_kept_and_the_last_three_of_them(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        virtual = battery(address=ADDRESS)
        poller = make_poller(make_routes(make_air([virtual])), tasks, address=ADDRESS)
        await poller.refresh()
        after_success = poller.recordings.failed

        for reply_s in (6.0, 7.0, 8.0, 9.0):
            await asyncio.sleep(400.0)
            virtual.faults = Faults(silent=True, reply_s=reply_s)
            await poller.refresh()
            await poller.close()

        failed = poller.recordings.failed
        assert after_success == ()
        assert len(failed) == 3
        assert all("5e:f1" not in text.lower() for text in failed)

    async def test_kept_poll_says_what_the_exporter_knew_from_earlier_ones(
        self, tasks: asyncio.TaskGroup
    ) -> None:
        virtual = battery(address=ADDRESS)
        poller = make_poller(make_routes(make_air([virtual])), tasks, address=ADDRESS)
        await poller.refresh()
        await asyncio.sleep(400.0)
        virtual.faults = Faults(silent=True)

        await poller.refresh()
        await poller.close()

        (text,) = poller.recordings.failed
        header = json.loads(text.splitlines()[0])
        assert header["session"] == {
            "profile": "nus",
            "takes_early": True,
            "way": "usual",
            "cells": True,
            "counters": False,
            "hardware": False,
            "leaves_first": False,
        }

    async def test_cancelled_poll_is_not_kept(self, tasks: asyncio.TaskGroup) -> None:
        virtual = battery(address=ADDRESS, faults=Faults(silent=True))
        poller = make_poller(make_routes(make_air([virtual])), tasks, address=ADDRESS)
        reading = asyncio.create_task(poller.refresh())
        await asyncio.sleep(3.0)

        await poller.pause(60.0)

        assert not (await reading).up
        assert poller.recordings.failed == ()


class TestMemory:
    def test_long_recording_keeps_its_beginning_and_its_end(self) -> None:
        lines = MemoryLines()
        for number in range(2000):
            lines.write(json.dumps({"t": number, "rx": "00" * 10}))
        lines.write('{"result":{}}')

        text = lines.text()

        assert len(text) <= MAX_BYTES
        assert text.startswith('{"t": 0')
        *_, cut, result = text.splitlines()
        assert json.loads(cut)["cut"] > 1000
        assert result == '{"result":{}}'

    def test_short_recording_is_whole(self) -> None:
        lines = MemoryLines()
        lines.write("a")
        lines.write("b")

        assert lines.text() == "a\nb\n"


@pytest.mark.parametrize("link", ["direct", "bluez"])
def test_cut_recording_is_readable(link: str) -> None:
    header = f'{{"record":1,"battery":"A4:C1:38:00:00:01","link":"{link}","timeout_s":2}}'

    memory = '{"t":0,"ev":"memory","types":[1,2],"is_type_known":true}'

    replayed = replay_text(f'{header}\n{memory}\n{{"t":0,"ev":"open","kind":1}}\n{{"cut":3}}\n')

    assert replayed.differences == ()
