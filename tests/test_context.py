"""What surrounds a request: ids, keys, packed bodies, metrics, logs; and message text in none."""

import asyncio
import gzip
import json
import logging
import re
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import pytest
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from app.access import AccessKeys, KeysError
from app.bodies import BodyBudget, zstd
from app.context import Context, RequestContext
from app.errors import INTERNAL_ERROR, AccessDenied
from app.logs import JSONFormatter
from app.main import create_app
from app.metrics import Metrics
from app.problems import SCOPE_KEY, problem_response
from app.settings import Settings
from tests.conftest import HAM, SPAM
from tests.fake_model import FakeModel
from tests.serving import make_settings, replace_model, running, serving

BODY = json.dumps({"texts": [SPAM, HAM, SPAM]}).encode()
# Its frames ask whoever unpacks them for 128 MiB.
WIDE = zstd.ZstdCompressor(options={int(zstd.CompressionParameter.window_log): 27})


def ask(
    folder: Path,
    request: Callable[[httpx.AsyncClient], Awaitable[httpx.Response]],
    **settings: object,
) -> httpx.Response:
    async def scenario() -> httpx.Response:
        async with serving(folder, **settings) as client:
            return await request(client)

    return asyncio.run(scenario())


@pytest.mark.parametrize(
    ("sent", "kept"),
    [("mail-4711.a", True), ("x" * 128, True), ("x" * 129, False), ("a b", False), ("", False)],
)
def test_a_usable_request_id_comes_back_and_others_are_replaced(
    save_tiny: Callable[..., Path], sent: str, kept: bool
) -> None:
    reply = ask(save_tiny(), lambda c: c.post("/nowhere", headers={"X-Request-ID": sent}))
    given = reply.headers["x-request-id"]
    assert given == reply.json()["request_id"]
    assert (given == sent) is kept
    assert re.fullmatch(r"[\w.-]+", given)


@pytest.mark.parametrize(
    ("encoding", "body", "status"),
    [
        ("gzip", gzip.compress(BODY, mtime=0), 200),
        ("X-GZIP", gzip.compress(BODY, mtime=0), 200),
        ("deflate", zlib.compress(BODY), 200),
        ("identity", BODY, 200),
        ("gzip", BODY, 400),
        ("gzip", gzip.compress(BODY, mtime=0)[:-20], 400),
        ("gzip", gzip.compress(BODY, mtime=0) + gzip.compress(b" ", mtime=0), 200),
        ("gzip", gzip.compress(BODY, mtime=0) + b"more", 400),
        ("gzip", gzip.compress(b" " * 50_000_000, mtime=0), 413),
        ("zstd", zstd.compress(BODY), 200),
        ("zstd", BODY, 400),
        ("zstd", zstd.compress(BODY)[:-5], 400),
        ("zstd", zstd.compress(BODY) + zstd.compress(b" "), 200),
        ("zstd", zstd.compress(BODY) + b"more", 400),
        ("zstd", zstd.compress(b" " * 50_000_000), 413),
        ("zstd", WIDE.compress(BODY) + WIDE.flush(), 400),
        ("br", BODY, 415),
    ],
)
def test_packed_bodies_are_inflated_up_to_the_limit(
    save_tiny: Callable[..., Path], encoding: str, body: bytes, status: int
) -> None:
    headers = {"Content-Encoding": encoding}
    reply = ask(save_tiny(), lambda c: c.post("/classify", content=body, headers=headers))
    assert reply.status_code == status, reply.text


def test_with_keys_all_but_probes_and_pages_is_closed(
    save_tiny: Callable[..., Path], tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with serving(folder, api_keys_file=keys) as client:
            for path in ("/classify", "/info", "/metrics", "/nowhere"):
                for headers in ({}, {"X-API-Key": "wrong"}, {"Authorization": "Basic s3cret"}):
                    reply = await client.request("GET", path, headers=headers)
                    assert reply.status_code == 401
                    assert reply.json()["code"] == "access_denied"
                    assert reply.headers["www-authenticate"] == "Bearer"
            for name, key in (
                ("X-API-Key", "s3cret"),
                ("Authorization", "bearer other"),
                ("Authorization", "Bearer  other "),
                ("X-API-Key", "schlüssel"),
                ("X-API-Key", "\t voilà "),  # 0xA0 and 0x85 are blanks in Latin-1
                ("Authorization", "Bearer мех"),
            ):
                known = {name.encode(): key.encode()}
                reply = await client.post("/classify", content=BODY, headers=known)
                assert reply.status_code == 200
            behind_a_proxy = {"Authorization": "Bearer the-proxy's", "X-API-Key": "s3cret"}
            reply = await client.post("/classify", content=BODY, headers=behind_a_proxy)
            assert reply.status_code == 200
            for path in ("/livez", "/readyz", "/health", "/docs", "/openapi.json"):
                assert (await client.get(path)).status_code == 200

    keys = tmp_path / "keys"
    lines = ["# filters", "rspamd s3cret", "", "exim other", "a schlüssel", "b voilà", "c мех", ""]
    keys.write_text("\n".join(lines), encoding="utf-8")
    folder = save_tiny()
    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("content", "words"), [("", "no key"), ("a b c", "line 1"), (None, "read")]
)
def test_an_unusable_file_of_keys_opens_nothing(
    tmp_path: Path, content: str | None, words: str
) -> None:
    path = tmp_path / "keys"
    if content is not None:
        path.write_text(content)
    with pytest.raises(KeysError, match=words):
        create_app(make_settings(tmp_path, api_keys_file=path))


@pytest.mark.parametrize(
    "content",
    ["\ufeff# retired\r\nname key\r\n", "  # retired\nname key\n", "\t#retired x\nname key\n"],
)
def test_what_a_comment_says_is_no_key(tmp_path: Path, content: str) -> None:
    path = tmp_path / "keys"
    path.write_text(content, encoding="utf-8")
    keys = AccessKeys(path)
    keys.admit(Request({"type": "http", "headers": [(b"x-api-key", b"key")]}))
    for wrong in (b"retired", b"x", b""):
        with pytest.raises(AccessDenied):
            keys.admit(Request({"type": "http", "headers": [(b"x-api-key", wrong)]}))


def counters(text: str) -> dict[str, float]:
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    pairs = [line.rsplit(" ", 1) for line in lines if "_created" not in line]
    return {name.removeprefix("spamgate_"): float(value) for name, value in pairs}


def test_every_counter_moves_by_exactly_what_happened(save_tiny: Callable[..., Path]) -> None:
    async def scenario() -> tuple[dict[str, float], dict[str, float]]:
        app = create_app(make_settings(save_tiny(), max_texts=4, max_windows=1))
        async with running(app) as client:
            before = counters((await client.get("/metrics")).text)
            replace_model(app, FakeModel())
            for _ in range(3):  # the first computes two texts, the others are in the cache
                await client.post("/classify", json={"texts": ["a", "b", "a", "word " * 2000]})
            await client.post("/classify", json={"texts": ["."]})  # poison; then a canary
            batcher = app.state.service.engine.batcher
            while batcher.queue.tokens or batcher._thread.batch:
                await asyncio.sleep(0)
            await client.post("/classify", content=b"nonsense")
            await client.post("/classify", json={"texts": ["x"] * 5})
            await client.get("/nowhere")
            await client.get("/info/")
            await client.get("/health")
            replace_model(app, model := FakeModel(held=True))
            cut_off = asyncio.create_task(client.post("/classify", json={"texts": ["cut off"]}))
            await model.until_started()
            cut_off.cancel()
            await asyncio.wait([cut_off])
            model.release_all()
            while batcher._in_flight:
                await asyncio.sleep(0)
            return before, counters((await client.get("/metrics")).text)

    before, after = asyncio.run(scenario())
    assert before.keys() <= after.keys()
    moved = {
        name: after[name] - before.get(name, 0)
        for name in after
        if after[name] != before.get(name, 0)
        and not re.search("_bucket|_sum|queue_|batch_|forward_", name)
    }
    assert moved == {
        'requests_total{outcome="ok"}': 3,  # not /metrics itself
        'requests_total{outcome="inference_failed"}': 1,
        'requests_total{outcome="malformed_body"}': 1,
        'requests_total{outcome="too_many_texts"}': 1,
        'requests_total{outcome="error"}': 2,  # the unknown paths
        'requests_total{outcome="not_ready"}': 1,  # what was cut off
        "request_seconds_count": 9,
        "tokenize_seconds_count": 5,
        'texts_total{label="spam"}': 12,
        "spam_probability_count": 12,
        "truncated_texts_total": 3,
        "cache_hits_total": 8,
        "coalesced_texts_total": 1,
        "failed_texts_total": 1,
        "tokens_total": 1 + 1 + 1024 + 1 + 1 + 2,  # a, b, the cut one, poison, canary, cut off
    }


def test_message_text_is_in_no_log_error_or_metric(
    save_tiny: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    def failing(*arguments: object) -> list[object]:
        raise RuntimeError(secret)

    async def scenario() -> str:
        seen = []
        app = create_app(make_settings(save_tiny()))
        async with running(app) as client:
            for body in ({"texts": [secret]}, {"texts": [secret, 1]}, {secret: secret}, [secret]):
                seen.append(await client.post("/classify", json=body, headers={"X-A": secret}))
            seen.append(await client.post("/classify", content=secret.encode()))
            seen.append(await client.get(f"/{secret}?{secret}"))
            replace_model(app, failing)  # type: ignore[arg-type]
            seen.append(await client.post("/classify", json={"texts": [secret + "2"]}))
            app.state.service.classify = failing  # a defect of our own
            seen.append(await client.post("/classify", json={"texts": [secret]}))
            assert [reply.status_code for reply in seen] == [200, 422, 422, 422, 400, 404, 500, 500]
            seen.append(await client.get("/metrics"))
        return "".join(reply.text for reply in seen)

    secret = "zqxPRIVATEzqx"
    caplog.set_level(logging.DEBUG)
    answers = asyncio.run(scenario())
    # httpx, the client of this test, logs the address it asks; that is not the service.
    logged = "".join(
        JSONFormatter().format(r) for r in caplog.records if not r.name.startswith("http")
    )
    assert '"event": "request"' in logged
    assert '"event": "defect"' in logged
    assert secret not in answers
    assert secret not in logged


def test_a_defect_amid_a_reply_begins_no_other(caplog: pytest.LogCaptureFixture) -> None:
    async def break_off(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError

    async def send(message: Message) -> None:
        sent.append(message["type"])

    async def receive() -> Message:
        return {"type": "http.request"}

    sent: list[str] = []
    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    app = RequestContext(
        break_off,
        metrics=Metrics(),
        keys=AccessKeys(None),
        own_keys={},
        body_budget=BodyBudget(Settings()),
    )
    asyncio.run(app(scope, receive, send))
    assert sent == ["http.response.start"]
    assert "defect" in caplog.messages


def test_the_log_says_where_a_defect_is(
    save_tiny: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        app = create_app(make_settings(save_tiny()))
        async with running(app) as client:
            app.state.service.classify = lambda *arguments: [][len(arguments)]
            assert (await client.post("/classify", content=BODY)).status_code == 500

    asyncio.run(scenario())
    [logged] = [vars(record) for record in caplog.records if record.message == "defect"]
    assert logged["error"] == "IndexError"
    assert re.fullmatch(r"test_context.py:\d+ <lambda>", logged["at"][-1])


@pytest.mark.parametrize("path", ["/admin/reload", "/feedback", "/classify", "/checkv2"])
def test_without_a_key_no_body_is_read(
    save_tiny: Callable[..., Path], tmp_path: Path, path: str
) -> None:
    keys = tmp_path / "keys"
    keys.write_text("somebody long-key\n")
    own = {"admin_key": "a", "feedback_key": "f", "feedback_file": tmp_path / "feedback"}

    async def scenario() -> tuple[int, int]:
        async def body() -> AsyncIterator[bytes]:
            for _ in range(9):
                pieces.append(1)
                yield b"{" * 100_000

        async with serving(save_tiny(), api_keys_file=keys, **own) as client:
            reply = await client.post(path, content=body(), headers={"X-API-Key": "other"})
            return reply.status_code, len(pieces)

    pieces: list[int] = []
    assert asyncio.run(scenario()) == (401, 0)


@pytest.mark.parametrize(
    ("seconds", "header", "milliseconds"),
    [(None, None, "left out"), (0, "1", 1), (0.25, "1", 250), (1.5, "2", 1500)],
)
def test_a_problem_says_when_a_new_attempt_has_a_chance(
    seconds: float | None, header: str | None, milliseconds: int | str
) -> None:
    request = Request({"type": "http", "headers": [], SCOPE_KEY: Context("id")})
    reply = problem_response(request, INTERNAL_ERROR, "", retry_after_seconds=seconds)
    assert reply.headers.get("retry-after") == header
    assert json.loads(bytes(reply.body)).get("retry_after_ms", "left out") == milliseconds


def test_a_log_line_is_one_json_object() -> None:
    record = logging.makeLogRecord(
        {
            "name": "spamgate",
            "levelname": "INFO",
            "msg": "two\nlines %s",
            "args": ("x",),
            "texts": 3,
        }
    )
    line = JSONFormatter().format(record)
    assert "\n" not in line
    event = json.loads(line)
    assert (event["event"], event["level"], event["texts"]) == ("two\nlines x", "info", 3)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event["time"])
