"""What all doors have in common: the caller's time, counts of texts; and who sees explanations."""

import asyncio
import base64
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app import reading
from app.main import create_app
from app.server import Server
from model.explain import Influence
from model.windows import WindowedText, encode_windows
from tests.conftest import HAM, SPAM
from tests.serving import make_settings, running, serving

MAIL = f"Subject: Hello\n\n{SPAM}".encode()
JSON = {"content-type": "application/json"}
MESSAGES = {"messages": [base64.b64encode(MAIL).decode()] * 2}
CHAT = {"messages": [{"role": "user", "content": SPAM}]}
DOORS: dict[str, tuple[str, bytes, dict[str, str], int]] = {
    "texts": ("/classify", json.dumps({"texts": [SPAM, HAM, ""]}).encode(), JSON, 3),
    "message": ("/classify/message", MAIL, {}, 1),
    "messages": ("/classify/message", json.dumps(MESSAGES).encode(), JSON, 2),
    "rspamd": ("/checkv2", MAIL, {}, 1),
    "chat": ("/v1/chat/completions", json.dumps(CHAT).encode(), JSON, 1),
    "vllm": ("/v1/classify", json.dumps({"input": [SPAM, HAM]}).encode(), JSON, 2),
}


def test_every_door_keeps_to_the_callers_time_and_counts_its_texts(
    save_tiny: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def encode_slowly(*arguments: Any) -> WindowedText:
        time.sleep(0.05)
        return encode_windows(*arguments)

    async def scenario() -> dict[str, tuple[int, str]]:
        answers = {}
        async with serving(save_tiny()) as client:
            monkeypatch.setattr(reading, "encode_windows", encode_slowly)
            for name, (path, body, headers, _) in DOORS.items():
                timed = headers | {"x-timeout-ms": "20", "x-request-id": name}
                reply = await client.post(path, content=body, headers=timed)
                answers[name] = reply.status_code, reply.json().get("code", "")
        return answers

    caplog.set_level(logging.INFO)
    assert asyncio.run(scenario()) == dict.fromkeys(DOORS, (504, "deadline_expired"))
    lines = [vars(record) for record in caplog.records if record.message == "request"]
    counted = {line["request_id"]: line["texts"] for line in lines}
    assert counted == {name: texts for name, (_, _, _, texts) in DOORS.items()}


def test_explanations_go_to_this_machine_where_there_are_no_keys(
    save_tiny: Callable[..., Path],
) -> None:
    async def scenario() -> dict[str, int]:
        app = create_app(make_settings(save_tiny()))
        statuses = {}
        async with running(app):
            for host in (*here, *elsewhere):
                transport = httpx.ASGITransport(app, client=(host, 1))
                async with httpx.AsyncClient(transport=transport, base_url="http://a") as client:
                    plain = await client.post("/classify/message", content=MAIL)
                    assert plain.status_code == 200
                    path = "/classify/message?explain=true"
                    statuses[host] = (await client.post(path, content=MAIL)).status_code
        return statuses

    here = ("127.0.0.1", "::1", "::ffff:127.0.0.1")
    elsewhere = ("192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1", "socket")
    assert asyncio.run(scenario()) == dict.fromkeys(here, 200) | dict.fromkeys(elsewhere, 403)


@pytest.mark.parametrize("proxy", ["127.0.0.1", "127.0.0.2", "::1", "::ffff:127.0.0.1"])
def test_a_proxy_on_this_machine_says_who_asks(save_tiny: Callable[..., Path], proxy: str) -> None:
    async def scenario() -> list[int]:
        config = Server(make_settings(save_tiny())).config
        config.load()
        transport = httpx.ASGITransport(config.loaded_app, client=(proxy, 1))
        client = httpx.AsyncClient(transport=transport, base_url="http://a")
        assert isinstance(config.app, FastAPI)
        async with running(config.app), client:
            path = "/classify/message?explain=true"
            return [
                (await client.post(path, content=MAIL, headers=headers)).status_code
                for headers in ({}, {"X-Forwarded-For": "203.0.113.9"})
            ]

    assert asyncio.run(scenario()) == [200, 403]


def test_what_is_not_explained_is_not_computed_either(save_tiny: Callable[..., Path]) -> None:
    async def scenario() -> tuple[int, str]:
        app = create_app(make_settings(save_tiny()))
        transport = httpx.ASGITransport(app, client=("192.0.2.1", 1))
        async with running(app), httpx.AsyncClient(transport=transport, base_url="http://a") as far:
            reply = await far.post("/classify/message?explain=true", content=MAIL)
            return reply.status_code, app.state.service.render_metrics().decode()

    status, metrics = asyncio.run(scenario())
    assert status == 403
    assert 'spamgate_texts_total{label="ham"} 0.0' in metrics
    assert 'spamgate_texts_total{label="spam"} 0.0' in metrics


@pytest.mark.parametrize(("characters", "complete"), [(0, True), (4_000, True), (4_001, False)])
def test_an_explanation_says_whether_it_is_of_all(
    save_tiny: Callable[..., Path], characters: int, complete: bool
) -> None:
    async def scenario() -> httpx.Response:
        async with serving(save_tiny()) as client:
            body = b"\n" + (b"letter " * 600)[:characters]
            return await client.post("/classify/message?explain=true", content=body)

    [result] = asyncio.run(scenario()).json()["results"]
    told = "".join(span["text"] for span in result["explanation"]["spans"])
    assert result["characters"] == characters
    assert len(told) == min(characters, 4_000)
    assert result["explanation"]["complete"] is complete


def test_an_explanation_has_the_time_that_the_verdict_has_left(
    save_tiny: Callable[..., Path],
) -> None:
    async def scenario() -> list[float]:
        left: list[float] = []

        async def explain(text: str, timeout_seconds: float) -> tuple[str, list[Influence]]:
            left.append(timeout_seconds)
            return text, []

        app = create_app(make_settings(save_tiny(), timeout_seconds=60))
        async with running(app) as client:
            app.state.service.explain = explain
            for headers in ({}, {"x-timeout-ms": "50000"}):
                path = "/classify/message?explain=true"
                assert (await client.post(path, content=MAIL, headers=headers)).status_code == 200
        return left

    of_setting, of_caller = asyncio.run(scenario())
    assert 0 < of_caller < 50 < of_setting < 60


async def asked(folder: Path, path: str, name: str = "message", **headers: str) -> httpx.Response:
    _, body, default, _ = DOORS[name]
    async with serving(folder) as client:
        return await client.post(path, content=body, headers=default | headers)


@pytest.mark.parametrize("kind", ["text/json; charset=utf-8", "application/problem+json"])
def test_json_is_known_by_its_other_names(save_tiny: Callable[..., Path], kind: str) -> None:
    reply = asyncio.run(
        asked(save_tiny(), "/classify/message", "messages", **{"content-type": kind})
    )
    assert len(reply.json()["results"]) == 2


@pytest.mark.parametrize("path", ["/classify/message", "/checkv2"])
def test_form_is_told_how_to_send_a_message(save_tiny: Callable[..., Path], path: str) -> None:
    kind = {"content-type": "multipart/form-data; boundary=x"}
    reply = asyncio.run(asked(save_tiny(), path, **kind))
    assert (reply.status_code, reply.json()["code"]) == (415, "unknown_encoding")
    assert "--data-binary" in reply.json()["detail"]


def test_path_with_a_slash_more_is_no_redirection(save_tiny: Callable[..., Path]) -> None:
    """Which no client follows with what it posts."""
    reply = asyncio.run(asked(save_tiny(), "/classify/message/"))
    assert (reply.status_code, reply.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("9" * 5000, "a number of it has thousands"),
        ("[" * 50_000, "its brackets are nested"),
    ],
)
def test_json_that_python_does_not_read_is_told_as_such(
    save_tiny: Callable[..., Path], body: str, reason: str
) -> None:
    async def scenario() -> httpx.Response:
        async with serving(save_tiny()) as client:
            return await client.post("/classify", content=body, headers=JSON)

    reply = asyncio.run(scenario())
    assert reply.status_code == 400
    assert reason in reply.json()["detail"]


def test_list_of_messages_is_not_explained(save_tiny: Callable[..., Path]) -> None:
    path = "/classify/message?explain=true"
    reply = asyncio.run(asked(save_tiny(), path, "messages"))
    assert "explanation" not in reply.json()["results"][0]


def test_cutoffs_of_0_are_cutoffs(save_tiny: Callable[..., Path]) -> None:
    folder = save_tiny()
    (folder / "run.json").write_text('{"cutoffs": {"ham_below": 1, "spam_from": 1}}')
    decisions = {}
    for query in ("", "ham_below=0", "ham_below=0&spam_from=0"):
        reply = asyncio.run(asked(folder, f"/classify/message?{query}"))
        [result] = reply.json()["results"]
        decisions[query] = result["decision"]
    assert list(decisions.values()) == ["ham", "unsure", "spam"]


@pytest.mark.parametrize("milliseconds", ["0", "-1", "3600001", "1e3", ""])
def test_time_that_is_none_is_refused(save_tiny: Callable[..., Path], milliseconds: str) -> None:
    headers = {"x-timeout-ms": milliseconds}
    reply = asyncio.run(asked(save_tiny(), "/classify", "texts", **headers))
    assert (reply.status_code, reply.json()["code"]) == (422, "invalid_request")


def test_the_first_of_many_wrong_parameters_are_told(save_tiny: Callable[..., Path]) -> None:
    query = "ham_below=2&spam_from=x&weight=0&explain=SECRET"
    reply = asyncio.run(asked(save_tiny(), f"/classify/message?{query}"))
    detail = reply.json()["detail"]
    assert reply.status_code == 422
    assert detail.count("query.") == 3
    assert detail.endswith("; and 1 more. See /docs for the form.")
    assert "SECRET" not in detail
    wrong = "/classify/message?ham_below=2&spam_from=x&weight=0"
    reply = asyncio.run(asked(save_tiny("other"), wrong))
    assert reply.json()["detail"].count("query.") == 3
    assert " more" not in reply.json()["detail"]
