"""The page against a running `bms-exporter demo`."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import fake_exporter as fake
from tests.support.browser import Open, wait_until
from tests.support.fake_exporter import FakeExporter
from tests.support.paths import PROJECT


class TestDemo:
    @pytest.fixture
    def demo(self) -> Iterator[str]:
        port = FakeExporter([])
        port.close()
        url = f"http://127.0.0.1:{port.port}/"
        words = ["-m", "exporter", "demo", "--web.listen-address", f"127.0.0.1:{port.port}"]
        with subprocess.Popen([sys.executable, *words], cwd=PROJECT) as process:
            yield url
            process.terminate()

    def test_demo_batteries_are_read_while_the_page_is_open(
        self, demo: str, open_page: Open, browser: Any
    ) -> None:
        context = browser.new_context()
        answers = context.request
        wait_until(lambda: _answers(answers, demo), 30)
        assert answers.get(demo).headers["content-security-policy"] == fake.CSP
        assert "bms_polls_total" in answers.get(f"{demo}metrics").text()

        page = open_page(demo)
        wait_until(
            lambda: page.evaluate("document.querySelectorAll('.tile:not(.unread)').length === 3"),
            30,
        )

        assert "charging is blocked" in page.locator(".tile", has_text="cold").inner_text()
        page.get_by_role("link", name="cold", exact=True).click()
        page.click("button")
        page.wait_for_selector("button:has-text('Read again')")
        assert 'bms_paused{battery="cold"} 1.0' in answers.get(f"{demo}metrics").text()
        page.click("button")
        page.wait_for_selector("button:has-text('Release')")
        assert 'bms_paused{battery="cold"} 0.0' in answers.get(f"{demo}metrics").text()
        context.close()


def _answers(requests: Any, url: str) -> bool:
    from playwright.sync_api import Error  # noqa: PLC0415 - see above

    try:
        return bool(requests.get(f"{url}-/healthy").ok)
    except Error:
        return False
