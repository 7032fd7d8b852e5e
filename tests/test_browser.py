"""The docs page and the page at / in a real browser: they work, and ask nothing elsewhere."""

import asyncio
import base64
import contextlib
import os
import re
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from app.main import create_app
from tests.conftest import SPAM, tiny_checkpoint
from tests.mail_programs import SPAM_MAIL
from tests.serving import make_settings

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
PHONE, DESK = (375, 700), (1200, 1600)
# Below which a proxy may have put the service; it is at both addresses here.
BELOW = "/spam"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs a chromium on the PATH")


@contextlib.contextmanager
def served(**settings: Any) -> Iterator[str]:
    """The address of a service in a thread of this process: a browser needs a socket, not a
    process."""
    app = create_app(make_settings(tiny_checkpoint(0, "last"), **settings))

    async def below_a_path(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        await app(dict(scope, path=path.removeprefix(BELOW)), receive, send)

    server = uvicorn.Server(uvicorn.Config(below_a_path, ws="none", log_config=None))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with served() as url:
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield started
        started.close()


def open_page(browser: Any, url: str, size: tuple[int, int]) -> tuple[Any, list[str], list[str]]:
    """A page of this size, what it asks for, and what the browser complains about."""
    page = browser.new_page(viewport={"width": size[0], "height": size[1]})
    requested: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(url)
    return page, requested, complaints


def keep_screenshot(page: Any, name: str) -> None:
    """Where SPAMGATE_SCREENSHOTS names a folder."""
    if folder := os.environ.get("SPAMGATE_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


@pytest.mark.parametrize("path", ["", BELOW])
def test_the_documented_example_executes_unedited(browser: Any, address: str, path: str) -> None:
    address += path
    page, requested, _ = open_page(browser, f"{address}/docs", DESK)
    page.click("[id^='operations-'][id$='classify_classify_post'] .opblock-summary-control")
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    status = page.locator(".live-responses-table tbody .response-col_status").first
    status.wait_for()
    answer = page.locator(".live-responses-table tbody .highlight-code").first.inner_text()
    keep_screenshot(page, "docs")
    assert status.inner_text().split()[0] == "200"
    assert '"label"' in answer
    assert len(requested) >= 4
    assert all(url.startswith((address, "data:")) for url in requested), requested
    page.close()


def test_the_docs_page_opens_without_a_key_and_takes_one(browser: Any, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("people long-key\n")
    with served(api_keys_file=keys) as url:
        page, _, _ = open_page(browser, f"{url}/docs", DESK)
        page.locator(".btn.authorize").click()
        page.locator(".auth-container input").first.fill("long-key")
        page.locator(".modal-btn.authorize").first.click()
        page.locator(".btn-done").first.click()
        page.click("[id^='operations-'][id$='classify_classify_post'] .opblock-summary-control")
        page.get_by_role("button", name="Try it out").click()
        page.get_by_role("button", name="Execute").click()
        status = page.locator(".live-responses-table tbody .response-col_status").first
        status.wait_for()
        keep_screenshot(page, "docs-with-key")
        assert status.inner_text().split()[0] == "200"
        page.close()


@pytest.mark.parametrize(("name", "size"), [("phone", PHONE), ("desk", DESK)])
def test_a_message_is_checked_and_explained(
    browser: Any, address: str, tmp_path: Path, name: str, size: tuple[int, int]
) -> None:
    from playwright.sync_api import expect

    eml = tmp_path / "winner.eml"
    eml.write_bytes(SPAM_MAIL)
    page, requested, complaints = open_page(browser, f"{address}/", size)
    page.fill("#message", f"Subject: <h1>Winner</h1>\n\n{SPAM}")
    page.get_by_role("button", name="Check").click()
    page.locator("#result").wait_for()
    assert "% spam" in page.inner_text("#decision")
    assert page.inner_text("#text").split() == f"<h1>Winner</h1> {SPAM}".split()
    assert page.locator("#text span").count() > 5
    # For those who see no colours.
    assert re.match(r"Most for spam: \S.* \(\d\.\d\).* Most for ham: ", page.inner_text("#words"))
    assert page.locator("#status").is_hidden()
    page.fill("#message", f"https://example.com/{'a1b2c3d4' * 30}")
    page.get_by_role("button", name="Check").click()
    expect(page.locator("#text")).to_have_text(re.compile("^https"))
    # Nothing is wider than the screen.
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    keep_screenshot(page, f"page-{name}")
    page.set_input_files("#file", eml)
    page.get_by_role("button", name="Check").click()
    # Not wait_for_function: it polls with eval, which the page's own policy forbids.
    expect(page.locator("#text")).to_have_text(re.compile(r"^\s*Winner"))
    assert complaints == []
    assert all(url.startswith((address, "data:")) for url in requested), requested
    page.close()


@pytest.mark.parametrize("key", ["", "abc"])
def test_others_without_a_known_key_get_a_verdict_alone(
    browser: Any, address: str, key: str
) -> None:
    page = browser.new_page(extra_http_headers={"X-Forwarded-For": "172.18.0.1"})
    page.goto(f"{address}/")
    page.fill("#message", SPAM)
    page.get_by_text("Access key").click()
    page.fill("#key", key)
    page.get_by_role("button", name="Check").click()
    page.locator("#result").wait_for()
    keep_screenshot(page, "page-without-key")
    assert "% spam" in page.inner_text("#decision")
    assert "or with an access key" in page.inner_text("#facts")
    assert not page.locator("#explained").is_visible()
    page.close()


def test_the_page_asks_for_a_key_and_sends_it_whatever_its_letters(
    browser: Any, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text("people grüß-ключ\n", encoding="utf-8")
    with served(api_keys_file=keys) as url:
        page, _, _ = open_page(browser, f"{url}/", DESK)
        page.fill("#message", SPAM)
        page.get_by_role("button", name="Check").click()
        page.locator("#problem").wait_for()
        assert page.evaluate("document.activeElement.id") == "key"
        page.keyboard.insert_text("grüß-ключ")
        page.keyboard.press("Enter")
        page.locator("#result").wait_for()
        assert page.locator("#text span").count() > 5
        page.close()


def test_a_file_that_has_changed_is_told_apart_from_a_service_that_is_away(
    browser: Any, address: str, tmp_path: Path
) -> None:
    from playwright.sync_api import expect

    eml = tmp_path / f"{'W' * 120}.eml"
    eml.write_bytes(SPAM_MAIL)
    page, _, _ = open_page(browser, f"{address}/", PHONE)
    page.set_input_files("#file", eml)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
    eml.write_bytes(SPAM_MAIL * 2)
    page.get_by_role("button", name="Check").click()
    expect(page.locator("#problem")).to_have_text("The file cannot be read: open it again.")
    assert page.locator("#status").is_hidden()
    page.close()


def test_no_verdict_stays_that_is_of_another_message(
    browser: Any, address: str, tmp_path: Path
) -> None:
    eml = tmp_path / "winner.eml"
    eml.write_bytes(SPAM_MAIL)
    page, _, _ = open_page(browser, f"{address}/", DESK)
    page.fill("#message", SPAM)
    page.get_by_role("button", name="Check").click()
    page.locator("#result").wait_for()
    page.fill("#message", "Are we still on for dinner tonight?")
    assert not page.locator("#result").is_visible()
    page.get_by_role("button", name="Check").click()
    page.locator("#result").wait_for()
    page.set_input_files("#file", eml)
    assert not page.locator("#result").is_visible()
    page.close()


def test_an_answer_that_is_not_the_services_own_is_told(browser: Any, address: str) -> None:
    from playwright.sync_api import expect

    page, _, _ = open_page(browser, f"{address}/", DESK)
    too_large = {"status": 413, "content_type": "text/html", "body": "<h1>Too large</h1>"}
    page.route("**/classify/message*", lambda route: route.fulfill(**too_large))
    page.fill("#message", SPAM)
    page.get_by_role("button", name="Check").click()
    expect(page.locator("#problem")).to_have_text("The answer, HTTP 413, is not the service's own.")
    page.close()


@pytest.mark.parametrize("charset", ["koi8-r", '"windows-1251"', "utf-8"])
def test_what_is_pasted_is_read_as_the_letters_that_it_has(
    browser: Any, address: str, charset: str
) -> None:
    from playwright.sync_api import expect

    page, _, _ = open_page(browser, f"{address}/", DESK)
    fields = f"Content-Type: text/plain; format=flowed;\n charset={charset}\nSubject: Встреча"
    page.fill("#message", f"{fields}\n\nУвидимся завтра; charset={charset}")
    page.get_by_role("button", name="Check").click()
    expect(page.locator("#text")).to_have_text(
        re.compile(rf"^Встреча\s+Увидимся завтра; charset={charset}")
    )
    page.close()


def test_an_encoded_part_is_sent_as_it_is_pasted_and_the_one_beside_it_as_it_is_read(
    browser: Any, address: str
) -> None:
    from playwright.sync_api import expect

    page, _, _ = open_page(browser, f"{address}/", DESK)
    plain = "Content-Type: text/plain; charset=koi8-r\n"
    encoded = f"{plain}Content-Transfer-Encoding: base64\n"
    body = base64.b64encode("Увидимся завтра".encode("koi8-r")).decode()
    several = 'Content-Type: multipart/mixed; boundary="b"\n\n--b\n'
    for message, read in (
        (f"{encoded}\n{body}", "Увидимся завтра"),
        (f"{several}{plain}\nСлово\n--b\n{encoded}\n{body}\n--b--\n", "Слово\n\nУвидимся завтра"),
    ):
        page.fill("#message", f"Subject: Hello\n{message}")
        page.get_by_role("button", name="Check").click()
        expect(page.locator("#text")).to_have_text(f"Hello\n\n{read}")
    page.close()


def test_a_check_ends_the_one_before_it(browser: Any, address: str) -> None:
    from playwright.sync_api import expect

    page, _, _ = open_page(browser, f"{address}/", DESK)
    page.evaluate("""() => {
        const ask = window.fetch;
        window.asked = [];
        window.fetch = (url, request) => (asked.push(request), ask(url, request));
    }""")
    # Else its answer, when it came, would stand below the second message.
    page.route("**/classify/message*", lambda route: None)
    page.fill("#message", "First")
    page.get_by_role("button", name="Check").click()
    page.unroute("**/classify/message*")
    page.fill("#message", "Second")
    page.get_by_role("button", name="Check").click()
    expect(page.locator("#text")).to_have_text("Second")
    assert page.evaluate("asked.map((request) => request.signal?.aborted)") == [True, False]
    assert not page.locator("#problem").is_visible()
    page.close()


def test_the_same_file_can_be_opened_again(browser: Any, address: str, tmp_path: Path) -> None:
    eml = tmp_path / "winner.eml"
    eml.write_bytes(SPAM_MAIL)
    page, _, _ = open_page(browser, f"{address}/", DESK)
    page.set_input_files("#file", eml)
    page.fill("#message", "typed")
    assert page.inner_text("#name") == ""
    page.set_input_files("#file", eml)
    assert page.inner_text("#name") == "winner.eml"
    page.close()


@pytest.mark.parametrize(("kind", "is_taken"), [("file", True), ("text", False)])
def test_files_alone_are_taken_from_what_is_dropped(
    browser: Any, address: str, kind: str, is_taken: bool
) -> None:
    page, _, _ = open_page(browser, f"{address}/", DESK)
    drop = """(kind) => {
        const dataTransfer = new DataTransfer();
        if (kind === "file") dataTransfer.items.add(new File(["x"], "x.eml"));
        else dataTransfer.setData("text/plain", "x");
        const told = { dataTransfer, bubbles: true, cancelable: true };
        return ["dragenter", "dragover", "drop"].map(
            (type) => !document.getElementById("message").dispatchEvent(new DragEvent(type, told)));
    }"""
    assert page.evaluate(drop, kind) == [is_taken] * 3
    assert page.inner_text("#name") == ("x.eml" if is_taken else "")
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_problems_can_be_read_on_either_ground(browser: Any, address: str, scheme: str) -> None:
    page, _, _ = open_page(browser, f"{address}/", DESK)
    page.emulate_media(color_scheme=scheme)
    # What the canvas is painted with has no name of its own in styles.
    page.evaluate("document.body.style.backgroundColor = 'Canvas'")
    colors = [
        page.evaluate(f"getComputedStyle(document.querySelector('{element}')).{name}")
        for element, name in (("#problem", "color"), ("body", "backgroundColor"))
    ]
    lighter, darker = sorted((_luminance(color) for color in colors), reverse=True)
    assert (lighter + 0.05) / (darker + 0.05) >= 4.5  # WCAG's AA
    page.close()


def _luminance(color: str) -> float:
    """Of a colour as browsers compute it, by WCAG."""
    shares = [int(number) / 255 for number in re.findall(r"\d+", color)[:3]]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in shares]
    return sum(weight * x for weight, x in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
