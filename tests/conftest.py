"""What several chapters share."""

import asyncio
import inspect
import os
import shutil
from collections.abc import AsyncIterator

import hypothesis
import looptime
import pytest

hypothesis.settings.register_profile("patient", deadline=None)  # machines are busy at times
hypothesis.settings.load_profile("patient")


def pytest_configure() -> None:
    """Keep looptime from making, and leaving open, a loop for every synchronous test."""
    asyncio.set_event_loop(None)


@pytest.fixture
async def tasks() -> AsyncIterator[asyncio.TaskGroup]:
    """Own the polls of a test, and wait for their disconnects."""
    async with asyncio.TaskGroup() as group:
        yield group
        with looptime.enabled():  # the plugin's virtual time ends with the test itself
            await asyncio.sleep(60.0)


@pytest.fixture
def promtool() -> str:
    """Return where promtool is; CI installs it and must not miss it."""
    found = shutil.which("promtool")
    if found is None and os.environ.get("REQUIRE_TOOLS"):
        pytest.fail("promtool is not installed")
    if found is None:
        pytest.skip("promtool is not installed: apt install prometheus")
    return found


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run every asynchronous test on virtual time, unless it says otherwise."""
    for item in items:
        asynchronous = isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj)
        if asynchronous and item.get_closest_marker("looptime") is None:
            item.add_marker(pytest.mark.looptime)
