"""The service over HTTP: verdicts for any content, problem+json for every wrong request."""

import asyncio
import concurrent.futures.thread
import gc
import json
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from app import service
from app.main import create_app
from model.checkpoint import save_classifier
from model.classifier import Classifier
from model.gpt2 import GPT2Config
from tests.conftest import AWKWARD_TEXTS, HAM, SPAM, tiny_classifier_model
from tests.serving import make_settings, running, serving

JSON = {"content-type": "application/json"}


async def post_raw(folder: Path, body: bytes, headers: dict[str, str] = JSON) -> httpx.Response:
    async with serving(folder, max_body_bytes=100_000, max_texts=50) as client:
        return await client.post("/classify", content=body, headers=headers)


def test_results_come_in_order_and_equal_the_model(save_tiny: Callable[..., Path]) -> None:
    async def scenario() -> httpx.Response:
        async with serving(folder) as client:
            return await client.post(
                "/classify", content=json.dumps({"texts": texts}), headers=JSON
            )

    folder = save_tiny("tiny")
    texts = AWKWARD_TEXTS * 3
    reply = asyncio.run(scenario())
    classifier = Classifier.load(folder, device="cpu")
    assert reply.status_code == 200
    assert reply.json()["model"] == classifier.name
    assert classifier.name.startswith("tiny@")
    results = reply.json()["results"]
    for result, expected in zip(results, classifier.classify(texts), strict=True):
        assert result["label"] == expected.label
        assert result["probabilities"]["spam"] == pytest.approx(expected.spam_probability, abs=1e-5)
        assert sum(result["probabilities"].values()) == pytest.approx(1)
        assert result["tokens"] == expected.num_tokens
        assert result["truncated"] is False


@pytest.mark.parametrize("n_positions", [1, 16])
def test_a_model_of_few_positions_is_served(tmp_path: Path, n_positions: int) -> None:
    """Also where it is tried on short texts, for its speed."""
    config = GPT2Config(n_layer=2, n_head=4, n_embd=32, n_positions=n_positions)
    save_classifier(tmp_path, tiny_classifier_model(config=config), read_token="last")
    assert Classifier.load(tmp_path, "cpu").trial_seconds() > 0
    reply = asyncio.run(post_raw(tmp_path, json.dumps({"texts": ["", "word " * 150]}).encode()))
    assert reply.status_code == 200
    assert [result["tokens"] for result in reply.json()["results"]] == [1, 8 * n_positions]


def test_a_text_that_is_too_long_is_read_in_windows(save_tiny: Callable[..., Path]) -> None:
    texts = ["word " * 1500, "a" * 50_000, "short"]
    reply = asyncio.run(post_raw(save_tiny(), json.dumps({"texts": texts}).encode()))
    results = reply.json()["results"]
    assert [result["truncated"] for result in results] == [False, True, False]
    assert [result["tokens"] for result in results[:2]] == [2 * 1024, 8 * 1024]


@pytest.mark.parametrize(
    "body",
    [
        b'{"texts": ["lone \\ud83d surrogate", "\\u0000"]}',
        b'{"texts": ["not UTF-8: \xff\xfe \xed\xa0\x80 \xc3"]}',
        b'\xef\xbb\xbf{"texts": ["byte order mark"]}',
        '{"texts": ["UTF-16"]}'.encode("utf-16"),
        b'{"texts": ["raw\ttab\r\nline and \x00 NUL"]}',
        b'{"texts": [""], "more": {"texts": 1}}',
    ],
    ids=["escapes", "bytes", "bom", "utf16", "controls", "unknown field"],
)
def test_content_is_never_an_error(save_tiny: Callable[..., Path], body: bytes) -> None:
    reply = asyncio.run(post_raw(save_tiny(), body))
    assert reply.status_code == 200, reply.text


@pytest.mark.parametrize("content_type", [None, "application/problem+json", "text/plain", "a;;;"])
def test_any_content_type_will_do(save_tiny: Callable[..., Path], content_type: str | None) -> None:
    headers = {"content-type": content_type} if content_type else {}
    reply = asyncio.run(post_raw(save_tiny(), b'{"texts": ["hello"]}', headers))
    assert reply.status_code == 200, reply.text


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 422, "invalid_request"),
        (b"SECRET", 400, "malformed_body"),
        (b'{"texts": ["SECRET"', 400, "malformed_body"),
        (b"[" * 90_000, 400, "malformed_body"),
        (b'{"texts": ' + b"9" * 9_000 + b"}", 400, "malformed_body"),
        (b'{"texts": "SECRET"}', 422, "invalid_request"),
        (b'{"texts": []}', 422, "invalid_request"),
        (b'{"texts": ["SECRET", 1, null, {}, [], true]}', 422, "invalid_request"),
        (b'{"text": "SECRET"}', 422, "invalid_request"),
        (b'["SECRET"]', 422, "invalid_request"),
        (b'"SECRET"', 422, "invalid_request"),
        (b"null", 422, "invalid_request"),
        (b'{"texts": [' + b'"SECRET",' * 50 + b'""]}', 422, "too_many_texts"),
        (b'{"texts": ["' + b"SECRET" * 20_000 + b'"]}', 413, "body_too_large"),
    ],
)
def test_a_wrong_body_gets_a_problem_that_repeats_none_of_it(
    save_tiny: Callable[..., Path], body: bytes, status: int, code: str
) -> None:
    reply = asyncio.run(post_raw(save_tiny(), body))
    problem = reply.json()
    assert (reply.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert reply.headers["content-type"] == "application/problem+json"
    assert problem["title"]
    assert problem["detail"].endswith(".")
    assert "SECRET" not in reply.text


def test_a_problem_says_where_json_ends_being_json(save_tiny: Callable[..., Path]) -> None:
    reply = asyncio.run(post_raw(save_tiny(), b'{"texts": ["SECRET'))
    assert reply.json()["detail"] == (
        "The body cannot be read as JSON: Unterminated string starting at character 11. See /docs "
        "for the form."
    )


def test_a_list_of_wrong_texts_costs_one_error(save_tiny: Callable[..., Path]) -> None:
    reply = asyncio.run(post_raw(save_tiny(), b'{"texts": [' + b"0," * 20_000 + b"0]}"))
    assert reply.status_code == 422
    assert reply.json()["detail"] == (
        "body.texts.0: Input should be a valid string, a number came. See /docs for the form."
    )


def test_a_body_without_a_declared_length_has_the_same_limit(
    save_tiny: Callable[..., Path],
) -> None:
    async def scenario() -> httpx.Response:
        async def chunks():
            for _ in range(100):
                yield b"SECRET" * 1_000

        async with serving(folder, max_body_bytes=100_000) as client:
            return await client.post("/classify", content=chunks(), headers=JSON)

    folder = save_tiny()
    reply = asyncio.run(scenario())
    assert (reply.status_code, reply.json()["code"]) == (413, "body_too_large")


def test_nothing_is_read_of_a_body_that_is_declared_too_long(
    save_tiny: Callable[..., Path],
) -> None:
    async def scenario() -> httpx.Response:
        async def chunks():
            read.append(b"")
            yield b" " * 100_001

        async with serving(save_tiny(), max_body_bytes=100_000) as client:
            headers = JSON | {"content-length": "100001"}
            return await client.post("/classify", content=chunks(), headers=headers)

    read: list[bytes] = []
    problem = asyncio.run(scenario()).json()
    assert (problem["code"], read) == ("body_too_large", [])
    assert "has 100001 bytes; at most 100000 are" in problem["detail"]


def test_a_length_of_thousands_of_digits_is_a_length(save_tiny: Callable[..., Path]) -> None:
    """More than Python makes a number of."""

    async def scenario() -> list[int]:
        body = b'{"texts": ["hello"]}'
        async with serving(save_tiny()) as client:
            lengths = ("0" * 4_400 + str(len(body)), "9" * 4_400)
            replies = [
                await client.post("/classify", content=body, headers={"content-length": length})
                for length in lengths
            ]
            return [reply.status_code for reply in replies]

    assert asyncio.run(scenario()) == [200, 413]


def test_unknown_paths_and_methods_are_problems_too(save_tiny: Callable[..., Path]) -> None:
    async def scenario() -> tuple[httpx.Response, httpx.Response]:
        async with serving(folder) as client:
            return await client.get("/nowhere"), await client.get("/classify")

    folder = save_tiny()
    unknown, wrong_method = asyncio.run(scenario())
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")
    assert (wrong_method.status_code, wrong_method.json()["code"]) == (405, "method_not_allowed")
    assert wrong_method.headers["allow"] == "POST"


def test_head_is_answered_as_get_is_and_logged_as_head(
    save_tiny: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> list[int]:
        async with serving(folder) as client:
            replies = [await client.head(path) for path in ("/health", "/info", "/nowhere")]
            return [reply.status_code for reply in replies]

    folder = save_tiny()
    with caplog.at_level("INFO", "spamgate"):
        assert asyncio.run(scenario()) == [200, 200, 404]
    requests = [record for record in caplog.records if record.message == "request"]
    assert [vars(record)["method"] for record in requests] == ["HEAD", "HEAD"]


def test_feedback_beyond_the_size_of_the_settings_is_refused(
    save_tiny: Callable[..., Path], tmp_path: Path
) -> None:
    async def scenario() -> list[httpx.Response]:
        values = {"feedback_key": "secret", "feedback_file": tmp_path / "f"}
        async with serving(save_tiny(), feedback_bytes=65_536, **values) as client:
            client.headers["x-api-key"] = "secret"
            texts = [f"\n{n} {'word ' * 4_000}" for n in range(9)]
            return [await client.post("/feedback?label=ham", content=text) for text in texts]

    first, *_, last = asyncio.run(scenario())
    assert first.status_code == 200
    assert (last.status_code, last.json()["code"]) == (507, "feedback_full")


def test_health_names_the_model(save_tiny: Callable[..., Path]) -> None:
    async def scenario() -> httpx.Response:
        async with serving(folder) as client:
            return await client.get("/health")

    folder = save_tiny()
    reply = asyncio.run(scenario())
    body = reply.json()
    assert reply.status_code == 200
    assert body["status"] == "ok"
    assert body["model"].startswith("tiny@")
    assert (body["device"], body["dtype"]) == ("cpu", "float32")
    assert body["uptime_seconds"] >= 0


def test_the_log_says_on_what_device_the_model_is(
    save_tiny: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with serving(folder, device="auto"):
            pass

    folder = save_tiny()
    with caplog.at_level("INFO"):
        asyncio.run(scenario())
    [record] = [record for record in caplog.records if record.message == "model in use"]
    assert vars(record)["device"] == ("cuda" if torch.cuda.is_available() else "cpu")


def test_until_the_model_is_loaded_the_service_says_so(save_tiny: Callable[..., Path]) -> None:
    async def scenario() -> tuple[httpx.Response, httpx.Response]:
        # The lifespan has not run: nothing has been loaded.
        transport = httpx.ASGITransport(create_app(make_settings(save_tiny())))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            health = await client.get("/health")
            return health, await client.post("/classify", json={"texts": [SPAM]})

    health, classify = asyncio.run(scenario())
    assert (health.status_code, health.json()["status"]) == (503, "loading")
    assert (classify.status_code, classify.json()["code"]) == (503, "not_ready")


class _Surprise(Exception):
    """No kind that the service knows."""


def _fail_to_load(*arguments: object) -> None:
    raise _Surprise("two\nlines")


def test_any_failure_to_load_ends_the_process_with_one_line(
    save_tiny: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    exit_codes: list[int] = []
    monkeypatch.setattr(service, "load_model", _fail_to_load)
    app = create_app(make_settings(save_tiny()), exit_codes.append)
    asyncio.run(app.state.service.load())
    assert exit_codes == [2]
    assert capsys.readouterr().err == "spamgate: two lines\n"


def test_an_unusable_checkpoint_ends_the_process_with_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async def scenario() -> httpx.Response:
        async with running(app) as client:
            return await client.get("/health")

    exit_codes: list[int] = []
    app = create_app(make_settings(tmp_path / "nothing"), exit_codes.append)
    health = asyncio.run(scenario())
    assert exit_codes == [2]
    assert (health.status_code, health.json()["status"]) == (503, "failed")
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("spamgate: no checkpoint folder at ")


def test_the_documented_example_gets_verdicts(save_tiny: Callable[..., Path]) -> None:
    async def scenario() -> httpx.Response:
        async with serving(folder) as client:
            document = (await client.get("/openapi.json")).json()
            example = document["components"]["schemas"]["ClassifyRequest"]["examples"][0]
            assert example == {"texts": [SPAM, HAM]}
            return await client.post("/classify", json=example)

    folder = save_tiny()
    assert len(asyncio.run(scenario()).json()["results"]) == 2


@pytest.mark.usefixtures("whole_collections")
def test_a_replaced_model_is_freed_though_the_collector_looks_at_nothing_loaded(
    save_tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    work = concurrent.futures.thread._WorkItem
    run = work.run

    def run_and_linger(item: Any) -> None:
        run(item)
        time.sleep(0.2)  # as a busy machine lets it: the result is out, what gave it not yet freed

    monkeypatch.setattr(work, "run", run_and_linger)

    async def scenario() -> tuple[int, object, object]:
        app = create_app(make_settings(save_tiny()))
        async with running(app):
            running_service = app.state.service
            frozen = gc.get_freeze_count()
            batcher = weakref.ref(running_service.engine.batcher)
            model = weakref.ref(running_service.engine.classifier)
            await running_service.reload()
            for _ in range(500):  # until its last task has ended
                if batcher() is None:
                    break
                await asyncio.sleep(0.01)
            of_one_switch = batcher()
            await running_service.reload()
            return frozen, of_one_switch, model()

    frozen, batcher, model = asyncio.run(scenario())
    assert frozen > 10_000
    assert batcher is None
    assert model is None
