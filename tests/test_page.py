"""The page at / asks for the key; without one it shows nothing. What it does: test_browser."""

import asyncio
import itertools
import math
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model.classifier import Classifier
from model.fold import fold_text
from model.windows import read_in_windows
from tests.mail_programs import SPAM_MAIL
from tests.serving import serving


def test_page_is_open_and_its_requests_ask_for_the_key(
    save_tiny: Callable[..., Path], tmp_path: Path
) -> None:
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


@pytest.mark.parametrize(
    ("host", "status"),
    [("127.0.0.1", 200), ("::1", 200), ("::ffff:127.0.0.1", 200), ("::ffff:172.18.0.1", 403)],
)
def test_without_keys_this_machine_alone_is_told_why(
    save_tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, host: str, status: int
) -> None:
    async def scenario() -> int:
        async with serving(save_tiny()) as client:
            monkeypatch.setattr(client._transport, "client", (host, 1))
            path = "/classify/message?explain=true"
            return (await client.post(path, content=SPAM_MAIL)).status_code

    assert asyncio.run(scenario()) == status


def test_a_text_is_folded_for_its_explanation_beside_the_event_loop(
    save_tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a long text that takes most of a second."""
    threads: list[threading.Thread] = []

    def fold(text: str) -> str:
        threads.append(threading.current_thread())
        return fold_text(text)

    monkeypatch.setattr("app.service.fold_text", fold)

    async def scenario() -> None:
        async with serving(save_tiny()) as client:
            reply = await client.post("/classify/message?explain=true", content=SPAM_MAIL)
            assert reply.json()["results"][0]["explanation"]["spans"]

    asyncio.run(scenario())
    assert threads
    assert threading.main_thread() not in threads


def test_the_verdict_that_is_explained_is_the_one_that_is_given(
    save_tiny: Callable[..., Path],
) -> None:
    """Of a text in several windows, too."""
    folder = save_tiny()
    text = fold_text("\u5b57\u5178 good " * 300 + "win a prize " * 20)
    mail = f"Subject: x\nContent-Type: text/plain; charset=utf-8\n\n{text}".encode()

    async def scenario() -> Any:
        async with serving(folder) as client:
            path = "/classify/message?explain=true"
            return (await client.post(path, content=mail)).json()

    result = asyncio.run(scenario())["results"][0]
    assert result["windows"] > 1
    spans = result["explanation"]["spans"]
    whole = "".join(span["text"] for span in spans)
    ends = list(itertools.accumulate(len(span["text"]) for span in spans))
    variants = [
        whole[:end][: -len(s["text"])] + whole[end:] for s, end in zip(spans, ends, strict=True)
    ]
    classifier = Classifier.load(folder, "cpu", "float32")
    verdicts = read_in_windows(classifier.predict, [whole, *variants], classifier.max_tokens)
    odds = [math.log(v.spam_probability / v.ham_probability) for v in verdicts]
    assert result["probabilities"]["spam"] == pytest.approx(verdicts[0].spam_probability, abs=1e-5)
    found = [span["log_odds"] for span in spans]
    assert found == pytest.approx([odds[0] - other for other in odds[1:]], abs=2e-4)
    assert any(found[len(found) // 2 :])


def test_explaining_counts_as_the_callers_time(
    save_tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fold_slowly(text: str) -> str:
        time.sleep(0.5)
        return fold_text(text)

    monkeypatch.setattr("app.service.fold_text", fold_slowly)

    async def scenario(headers: dict[str, str], **settings: object) -> tuple[int, list[bool]]:
        async with serving(folder, **settings) as client:
            path = "/classify/message?explain=true"
            reply = await client.post(path, content=SPAM_MAIL, headers=headers)
            return reply.status_code, ["explanation" in r for r in reply.json()["results"]]

    folder = save_tiny()
    # The verdict is there in time, and stands.
    assert asyncio.run(scenario({"x-timeout-ms": "400"})) == (200, [False])
    assert asyncio.run(scenario({}, timeout_seconds=0.4)) == (200, [False])
    assert asyncio.run(scenario({})) == (200, [True])
