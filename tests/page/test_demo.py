"""The page against a running `bms-exporter demo`."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import fake_exporter as fake
from tests.support.browser import Open, text_of, wait_until
from tests.support.exporter_process import running_demo


class TestDemo:
    @pytest.fixture
    def demo(self) -> Iterator[str]:
        with running_demo() as exporter:
            yield f"http://127.0.0.1:{exporter.port}/"

    def test_demo_batteries_are_read_while_the_page_is_open(
        self, demo: str, open_page: Open, browser: Any
    ) -> None:
        context = browser.new_context()
        requests = context.request
        assert requests.get(demo).headers["content-security-policy"] == fake.CSP
        assert "bms_polls_total" in requests.get(f"{demo}metrics").text()

        page = open_page(demo)
        wait_until(
            lambda: page.evaluate("document.querySelectorAll('.tile:not(.unread)').length === 5"),
            30,
        )

        bank = text_of(page.locator(".tile").first)
        assert "living area" in bank
        assert "of 400 Ah" in bank
        assert "charging is blocked" in page.locator(".tile", has_text="cold").inner_text()
        page.get_by_role("link", name="cold", exact=True).click()
        page.click("button")
        page.wait_for_selector("button:has-text('Read again')")
        assert 'bms_paused{battery="cold"} 1.0' in requests.get(f"{demo}metrics").text()
        page.click("button")
        page.wait_for_selector("button:has-text('Release')")
        assert 'bms_paused{battery="cold"} 0.0' in requests.get(f"{demo}metrics").text()
        context.close()
