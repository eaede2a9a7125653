"""Draw one dashboard: draw.py URL OUT.png WIDTH HEIGHT dark|light. Prints every query as JSON."""

import json
import sys

from playwright.sync_api import sync_playwright

FLAGS = "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update"
QUIET_MS = 1500
LONGEST_MS = 60000


def main() -> int:
    url, out, width, height, theme = sys.argv[1:]
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS.split())
        page = browser.new_page(viewport={"width": int(width), "height": int(height)})
        page.goto(f"{url}/?theme={theme}")
        # Wait until no query has been added for a while.
        seen = waited = quiet = 0
        while waited < LONGEST_MS and (quiet < QUIET_MS or not seen):
            page.wait_for_timeout(250)
            waited += 250
            now = page.evaluate("(window.__queries || []).length")
            quiet = quiet + 250 if now == seen else 0
            seen = now
        page.wait_for_timeout(1500)
        page.screenshot(path=out)
        errors = page.evaluate("window.__errors")
        queries = page.evaluate("window.__queries") or []
        browser.close()
    for query in queries:
        print(json.dumps(query))
    for error in errors:
        print("error", str(error)[:400], file=sys.stderr)
    return 1 if errors or not queries else 0


if __name__ == "__main__":
    sys.exit(main())
