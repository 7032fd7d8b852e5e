"""The page at / in a real browser, as wide as a phone and as a desk."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import SPAM
from tests.mail_programs import SPAM_MAIL
from tests.test_docs_page import CHROMIUM, FLAGS
from tests.test_process import served


@pytest.mark.skipif(CHROMIUM is None, reason="needs a chromium on the PATH")
@pytest.mark.parametrize(("name", "width", "height"), [("phone", 375, 700), ("desk", 1200, 900)])
def test_a_message_is_checked_and_explained(
    save_tiny: Callable[..., Path], tmp_path: Path, name: str, width: int, height: int
) -> None:
    from playwright.sync_api import expect, sync_playwright

    eml = tmp_path / "winner.eml"
    eml.write_bytes(SPAM_MAIL)
    requested: list[str] = []
    complaints: list[str] = []
    with served(save_tiny()) as (_, address), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": width, "height": height})
        page.on("request", lambda request: requested.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.goto(f"{address}/")
        page.fill("#message", f"Subject: <b>Winner</b>\n\n{SPAM}")
        page.get_by_role("button", name="Check").click()
        page.locator("#result").wait_for()
        assert "% spam" in page.inner_text("#decision")
        assert page.inner_text("#text").split() == f"<b>Winner</b> {SPAM}".split()
        assert page.locator("#text span").count() > 5
        # Nothing is wider than the screen.
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        if folder := os.environ.get("SPAMGATE_SCREENSHOTS"):
            page.screenshot(path=Path(folder) / f"page-{name}.png", full_page=True)
        page.set_input_files("#file", eml)
        page.get_by_role("button", name="Check").click()
        # Not wait_for_function: it polls with eval, which the page's own policy forbids.
        expect(page.locator("#text")).to_have_text(re.compile(r"^\s*Winner"))
        browser.close()
    assert complaints == []
    assert all(url.startswith((address, "data:")) for url in requested), requested


def test_page_is_open_and_its_requests_ask_for_the_key(
    save_tiny: Callable[..., Path], tmp_path: Path
) -> None:
    import asyncio

    from tests.serving import serving

    keys = tmp_path / "keys"
    keys.write_text("admin long-key\n")

    async def scenario() -> list[int]:
        async with serving(save_tiny(), api_keys_file=keys) as client:
            replies = [await client.get(path) for path in ("/", "/page.css", "/page.js")]
            explain = "/classify/message?explain=true"
            replies.append(await client.post(explain, content=SPAM_MAIL))
            key = {"x-api-key": "long-key"}
            replies.append(await client.post(explain, content=SPAM_MAIL, headers=key))
            assert replies[-1].json()["results"][0]["explanation"]["spans"]
            return [reply.status_code for reply in replies]

    assert asyncio.run(scenario()) == [200, 200, 200, 401, 200]
