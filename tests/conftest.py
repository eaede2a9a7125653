"""Fixtures and settings of all tests: virtual time, tools, coverage of the workers."""

import asyncio
import inspect
import logging
import os
import shutil
import signal
from collections.abc import AsyncIterator, Iterator

import coverage
import hypothesis
import looptime
import pytest

# A shell starts background jobs with Ctrl-C ignored, which programs inherit; tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis.settings.register_profile(
    "patient",
    deadline=None,  # machines are busy at times
    max_examples=int(os.environ.get("EXAMPLES", "100")),
    derandomize="REQUIRE_TOOLS"
    in os.environ,  # in .ci/run a finding is of the change, not of chance
)
hypothesis.settings.load_profile("patient")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option of `make test`."""
    parser.addoption("--measure-coverage", action="store_true", help="write .coverage.* files")


def pytest_configure(config: pytest.Config) -> None:
    """Measure coverage in the processes that run tests; no loop for synchronous tests.

    `coverage run` does not see the workers of pytest-xdist, and coverage's `patch = subprocess`
    also slows down every exporter that a test starts.
    """
    asyncio.set_event_loop(None)  # looptime would make one for each of them, and leave it open
    runs_tests = hasattr(config, "workerinput") or not config.getoption("numprocesses", None)
    if config.getoption("--measure-coverage") and runs_tests:
        measuring = coverage.Coverage(data_suffix=True)
        measuring.start()
        config.add_cleanup(measuring.save)
        config.add_cleanup(measuring.stop)  # cleanups run from the last to the first


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    """Undo what `main` sets up: a later test would not see its warnings."""
    root = logging.getLogger()
    handlers = list(root.handlers)
    names = ("", "bleak", "bleak_retry_connector", "asyncio", "tornado", "tornado.general")
    levels = {name: logging.getLogger(name).level for name in names}
    yield
    root.handlers[:] = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture
async def tasks() -> AsyncIterator[asyncio.TaskGroup]:
    """Return a task group for the polls of a test; wait for their disconnects at the end."""
    async with asyncio.TaskGroup() as group:
        yield group
        with looptime.enabled():  # the plugin's virtual time ends with the test itself
            await asyncio.sleep(60.0)


@pytest.fixture
def promtool() -> str:
    """Return the path of promtool. Without it the test is skipped, in CI it fails."""
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
            # One idle turn of the loop before time advances; 42 by default, which took most of
            # the processor time of some tests. Nothing here waits for I/O on virtual time.
            item.add_marker(pytest.mark.looptime(noop_cycles=1))
