"""The docs page in a real browser: no foreign request, and its example runs as it stands."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.test_process import served

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.mark.skipif(CHROMIUM is None, reason="needs a chromium on the PATH")
def test_the_example_executes_unedited_without_a_foreign_request(
    save_tiny: Callable[..., Path],
) -> None:
    from playwright.sync_api import sync_playwright

    requested: list[str] = []
    with served(save_tiny()) as (_, address), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1200, "height": 1600})
        page.on("request", lambda request: requested.append(request.url))
        page.goto(f"{address}/docs")
        page.click("[id^='operations-'][id$='classify_classify_post'] .opblock-summary-control")
        page.get_by_role("button", name="Try it out").click()
        page.get_by_role("button", name="Execute").click()
        status = page.locator(".live-responses-table tbody .response-col_status").first
        status.wait_for()
        answer = page.locator(".live-responses-table tbody .highlight-code").first.inner_text()
        if folder := os.environ.get("SPAMGATE_SCREENSHOTS"):
            page.screenshot(path=Path(folder) / "docs.png", full_page=True)
        assert status.inner_text().split()[0] == "200"
        browser.close()
    assert '"label"' in answer
    assert len(requested) >= 4
    assert all(url.startswith(address) or url.startswith("data:") for url in requested), requested
