"""A real browser: Debian's Chromium, driven by Playwright."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Page, sync_playwright

CHROMIUM = shutil.which("chromium")
needs_browser = pytest.mark.skipif(
    CHROMIUM is None, reason="no `chromium` on the PATH (scripts/browser.sh installs it)"
)


@contextmanager
def opened() -> Iterator[Page]:
    """A page of a fresh browser; nothing has been asked for yet."""
    with sync_playwright() as playwright:
        # the sandbox of the browser itself does not start as root, and these pages are our own
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield browser.new_page(viewport={"width": 1200, "height": 1400})
        finally:
            browser.close()
