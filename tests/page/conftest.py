"""A browser, and pages that fail a test if they log anything or request another origin."""

import os
import shutil
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.support import fake_exporter as fake
from tests.support.browser import CAMPER, Open, Page, make_all
from tests.support.fake_exporter import FakeExporter

# The browser logs this when the exporter does not answer.
GONE: Final = "Failed to load resource"


def size(width: int, height: int) -> dict[str, int]:
    return {"width": width, "height": height}


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    give_up = pytest.fail if os.environ.get("REQUIRE_TOOLS") else pytest.skip
    chromium = shutil.which("chromium")
    if chromium is None:
        give_up("no chromium: apt-get install chromium")
    try:
        from playwright.sync_api import sync_playwright  # noqa: PLC0415 - see above
    except ImportError:
        give_up("no playwright: make test-page")
    with sync_playwright() as play:
        flags = ["--no-sandbox", "--disable-gpu"]
        launched = play.chromium.launch(executable_path=chromium, args=flags)
        yield launched
        launched.close()


@pytest.fixture
def exporter() -> Iterator[FakeExporter]:
    with_history = FakeExporter(make_all(CAMPER))
    with_history.history = {each["name"]: fake.samples(each) for each in with_history.batteries}
    yield with_history
    with_history.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Open]:
    """Open pages; fail if one logs anything, violates its policy, or requests another origin."""
    contexts, logged, requested = [], [], []

    def opened(
        url: str,
        view: str = "",
        *,
        viewport: tuple[int, int] = (1280, 800),
        ready: str = ".tile",
        locale: str = "en-GB",
        **options: Any,
    ) -> Page:
        context = browser.new_context(viewport=size(*viewport), locale=locale, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("console", lambda message: logged.append(message.text))
        page.on("pageerror", lambda error: logged.append(str(error)))
        page.on("dialog", lambda dialog: logged.append(f"dialog {dialog.message}"))
        page.on("request", lambda request: requested.append((url, request.url)))
        page.goto(url + (f"#/{view}" if view else ""))
        page.wait_for_selector(ready)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert [text for text in logged if not text.startswith(GONE)] == []
    assert [there for url, there in requested if not there.startswith(url)] == []
