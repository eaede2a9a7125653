"""Measurements in a browser for the tests of the page, with their batteries and screen sizes."""

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from tests.support import fake_exporter as fake
from tests.support.fake_exporter import Json

Page = Any  # of playwright, which is installed for `make test-page` only
Open = Callable[..., Page]
Makers = Sequence[Callable[[], Json]]

PHONES: Final = [(320, 640), (390, 844)]
TABLETS: Final = [(768, 1024), (1024, 600), (1280, 800), (1920, 1080)]
WALL: Final = [(1024, 600), (1280, 800)]
LONGEST_NAME: Final = "W" * 64
HTML_NAME: Final = '<img src=x onerror="alert(1)"><b>&amp;</b>'
CAMPER: Final[Makers] = [fake.battery, fake.flaky, fake.cold]
FAULTS: Final[Makers] = [fake.charging, fake.missing, fake.paused, fake.unread]


def make_all(makers: Makers) -> list[Json]:
    return [make() for make in makers]


def overflow(page: Page) -> tuple[bool, bool]:
    """Return whether the page scrolls horizontally, and whether vertically."""
    horizontal, vertical = page.evaluate(
        "(({scrollWidth: w, scrollHeight: h, clientWidth: cw, clientHeight: ch}) =>"
        " [w > cw, h > ch])(document.scrollingElement)"
    )
    return horizontal, vertical


def sticking_out(page: Page) -> list[str]:
    """Return the texts that are not completely inside their tile."""
    found: list[str] = page.evaluate(
        """() => [...document.querySelectorAll(".tiles .tile")].flatMap((tile) => {
            const box = tile.getBoundingClientRect();
            return [...tile.querySelectorAll("span, p, dd, dt, li, svg")].filter((part) => {
                const own = part.getBoundingClientRect();
                const shown = own.width > 1 && own.height > 1; // others are for screen readers only
                return shown && (own.right > box.right + 1 || own.bottom > box.bottom + 1
                    || own.left < box.left - 1);
            }).map((part) => part.textContent || part.outerHTML);
        })"""
    )
    return found


def violations(page: Page) -> list[str]:
    """Return the accessibility violations that axe finds."""
    from axe_playwright_python.sync_playwright import Axe  # noqa: PLC0415 - see above

    found = Axe().run(page).response["violations"]
    return [
        f"{each['id']}: {node['html'][:160]} {node['failureSummary']}"
        for each in found
        for node in each["nodes"]
    ]


def text_of(place: Any) -> str:
    """Return the text of a part of the page, with no-break spaces replaced by spaces."""
    return str(place.inner_text()).replace("\xa0", " ")


def wait_until(done: Callable[[], bool], timeout_s: float = 10.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < end_s
        time.sleep(0.05)


def set_visibility(page: Page, visibility: str) -> None:
    """Hide or show the page, as the browser does when another tab is opened."""
    page.evaluate(
        "state => { Object.defineProperty(document, 'visibilityState', "
        "{configurable: true, get: () => state}); "
        "document.dispatchEvent(new Event('visibilitychange')); }",
        visibility,
    )
