"""Raw messages over HTTP, and the endpoints in the words of other programs."""

import asyncio
import base64
import gzip
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from app import service
from app.bodies import zstd
from model.classifier import Classifier
from model.mail import MailText, message_to_text
from model.windows import encode_windows, join_predictions
from tests.conftest import HAM, SPAM
from tests.hostile import HOSTILE
from tests.serving import serving

MAIL = f"Subject: Hello\r\nContent-Type: text/plain\r\n\r\n{SPAM}\r\n".encode()
RFC822 = {"content-type": "message/rfc822"}
PACKED_BY: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "zstd": zstd.compress}


async def post(
    folder: Path, path: str, body: bytes | dict[str, Any], headers: dict[str, str] | None = None
) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    default = RFC822 if isinstance(body, bytes) else {"content-type": "application/json"}
    async with serving(folder, score_weight=10, max_body_bytes=200_000) as client:
        return await client.post(path, content=content, headers=headers or default)


def ask(folder: Path, path: str, body: bytes | dict[str, Any], **headers: str) -> dict[str, Any]:
    reply = asyncio.run(post(folder, path, body, headers))
    assert reply.status_code == 200, reply.text
    answer: dict[str, Any] = reply.json()
    return answer


def expected_probability(folder: Path, raw: bytes) -> float:
    classifier = Classifier.load(folder, device="cpu")
    windowed = encode_windows(message_to_text(raw).text, classifier.max_tokens, 8)
    predictions = classifier.predict(windowed.windows)
    return join_predictions(predictions, truncated=False).spam_probability


def test_message_gets_a_verdict_and_what_was_read(save_tiny: Callable[..., Path]) -> None:
    folder = save_tiny()
    [result] = ask(folder, "/classify/message", MAIL)["results"]
    spam = expected_probability(folder, MAIL)
    assert result["probabilities"]["spam"] == pytest.approx(spam, abs=1e-5)
    assert result["score"] == pytest.approx(10 * (2 * spam - 1), abs=1e-3)
    assert result["parts"] == ["text/plain"]
    assert result["charset"] == "ascii"
    assert result["characters"] == len(f"Hello\n\n{SPAM}")
    assert result["windows"] == 1
    assert not result["truncated"]


def test_text_of_a_message_is_not_in_the_reply(save_tiny: Callable[..., Path]) -> None:
    reply = asyncio.run(post(save_tiny(), "/classify/message", MAIL))
    assert "winner" not in reply.text
    assert "Hello" not in reply.text


def test_type_that_is_no_unicode_is_no_error(save_tiny: Callable[..., Path]) -> None:
    raw = b"Content-Type: text/\xff\n\nhello"
    [result] = ask(save_tiny(), "/classify/message", raw)["results"]
    assert result["parts"] == ["text/plain"]


def test_list_of_messages_is_answered_in_order(save_tiny: Callable[..., Path]) -> None:
    folder = save_tiny()
    raws = [MAIL, b"Subject: x\n\n" + HAM.encode(), b""]
    body = {"messages": [base64.encodebytes(raw).decode() for raw in raws]}  # in lines
    kind = {"content-type": "Application/JSON; charset=utf-8"}
    results = ask(folder, "/classify/message", body, **kind)
    for result, raw in zip(results["results"], raws, strict=True):
        expected = expected_probability(folder, raw)
        assert result["probabilities"]["spam"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    "body",
    [
        *(b"{", b"[]", b"{}", b'{"messages": []}', b'{"messages": [1]}', b'{"messages": "QQ=="}'),
        *(b'{"messages": ["%b"]}' % message for message in (b"Subject: hello!", b"__-_", b"QQ")),
    ],
)
def test_wrong_list_is_refused(save_tiny: Callable[..., Path], body: bytes) -> None:
    headers = {"content-type": "application/json"}
    reply = asyncio.run(post(save_tiny(), "/classify/message", body, headers))
    assert reply.status_code == 400
    assert reply.json()["code"] == "malformed_body"


def test_list_of_messages_is_read_as_other_json_is(save_tiny: Callable[..., Path]) -> None:
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    packed = gzip.compress(b'{"messages": ["QQ=="], "note": "caf\xe9"}', mtime=0)
    folder = save_tiny()
    assert len(ask(folder, "/classify/message", packed, **headers)["results"]) == 1
    reply = asyncio.run(post(folder, "/classify/message", packed[:-9], headers))
    assert (reply.status_code, reply.json()["code"]) == (400, "malformed_body")
    assert "is cut off" in reply.json()["detail"]


def test_what_is_wrong_with_a_list_of_messages_is_told_before_they_are_decoded(
    save_tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(raw: bytes) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(service, "message_to_text", refuse)
    headers = {"content-type": "application/json"}
    folder = save_tiny()
    many = json.dumps({"messages": [""] * 2000}).encode()
    reply = asyncio.run(post(folder, "/classify/message", many, headers))
    assert (reply.status_code, reply.json()["code"]) == (422, "too_many_texts")
    large = json.dumps({"messages": ["QUJD" * 100_000]}).encode()
    reply = asyncio.run(post(folder, "/classify/message", large, headers))
    assert (reply.status_code, reply.json()["code"]) == (413, "body_too_large")


def test_decoding_counts_as_the_callers_time(
    save_tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode_slowly(raw: bytes) -> MailText:
        time.sleep(0.05)
        return message_to_text(raw)

    monkeypatch.setattr(service, "message_to_text", decode_slowly)
    headers = RFC822 | {"x-timeout-ms": "20"}
    reply = asyncio.run(post(save_tiny(), "/classify/message", MAIL, headers))
    assert (reply.status_code, reply.json()["code"]) == (504, "deadline_expired")


def test_long_message_is_read_in_windows(save_tiny: Callable[..., Path]) -> None:
    folder = save_tiny()
    raw = b"Subject: x\n\n" + b"good words " * 600 + SPAM.encode()
    [result] = ask(folder, "/classify/message", raw)["results"]
    assert result["windows"] == 2
    assert result["probabilities"]["spam"] == pytest.approx(
        expected_probability(folder, raw), abs=1e-4
    )


def test_cut_offs_and_weight_may_come_with_the_call(save_tiny: Callable[..., Path]) -> None:
    folder = save_tiny()
    spam = expected_probability(folder, MAIL)

    def decision(query: str) -> dict[str, Any]:
        [result] = ask(folder, f"/classify/message?{query}", MAIL)["results"]
        return dict(result)

    assert decision(f"spam_from={spam - 0.01}")["decision"] == "spam"
    assert decision(f"ham_below={spam + 0.01}&spam_from=1")["decision"] == "ham"
    assert decision("ham_below=0&spam_from=1")["decision"] == "unsure"
    assert decision("weight=2")["score"] == pytest.approx(2 * (2 * spam - 1), abs=1e-3)
    answer = asyncio.run(post(folder, "/classify/message?ham_below=0.9&spam_from=0.1", MAIL))
    assert answer.status_code == 422
    assert "ham_below: It is above spam_from" in answer.json()["detail"]


@pytest.mark.parametrize("encoding", PACKED_BY)
def test_packed_and_oversized_messages_are_read(
    save_tiny: Callable[..., Path], encoding: str
) -> None:
    folder, pack, headers = save_tiny(), PACKED_BY[encoding], {"content-encoding": encoding}
    packed = ask(folder, "/classify/message", pack(MAIL), **headers)
    assert packed == ask(folder, "/classify/message", MAIL)
    [result] = ask(folder, "/classify/message", MAIL + b"x" * 300_000)["results"]
    assert result["truncated"]
    assert result["characters"] < 200_000
    bomb = pack(MAIL + b" " * 50_000_000)
    [result] = ask(folder, "/classify/message", bomb, **headers)["results"]
    assert result["truncated"]


@pytest.mark.parametrize("path", ["/classify/message", "/checkv2"])
def test_what_is_not_read_of_messages_is_counted(save_tiny: Callable[..., Path], path: str) -> None:
    async def scenario() -> str:
        async with serving(save_tiny(), max_body_bytes=2_000) as client:
            deep = b"Content-Type: message/rfc822\n\n" * 60 + MAIL
            for message in (MAIL, MAIL + b"x" * 3_000, deep):
                assert (await client.post(path, content=message)).status_code == 200
            return (await client.get("/metrics")).text

    assert "spamgate_truncated_texts_total 2.0" in asyncio.run(scenario())


def test_what_is_not_read_of_a_message_is_told(save_tiny: Callable[..., Path]) -> None:
    deep = b"Content-Type: message/rfc822\n\n" * 60 + MAIL
    [result] = ask(save_tiny(), "/classify/message", deep)["results"]
    assert result["truncated"]


def test_hostile_messages_get_200(save_tiny: Callable[..., Path]) -> None:
    folder = save_tiny()

    async def scenario() -> dict[str, int]:
        statuses = {}
        async with serving(folder, max_windows=1) as client:
            for name, raw in HOSTILE.items():
                if 1 << 18 < len(raw) < 20 << 20:  # what takes long to decode is decoded elsewhere
                    continue
                reply = await client.post("/classify/message", content=raw, headers=RFC822)
                statuses[name] = reply.status_code
        return statuses

    statuses = asyncio.run(scenario())
    assert {name: status for name, status in statuses.items() if status != 200} == {}


# What rspamd 3.12.1 sends by its gpt plugin, in the order in which it sends it.
GPT_CHAT = {
    "model": "spamgate",
    "max_tokens": 1000,
    "temperature": 0.0,
    "messages": [
        {"role": "system", "content": "Analyze this email. Output ONLY 3 lines:"},
        {"role": "user", "content": "Subject: Hello"},
        {"role": "user", "content": "From: a@example.org"},
        {"role": "user", "content": "Url domains: example.org"},
        {"role": "user", "content": SPAM},
    ],
}


def test_chat_answers_probability_reason_and_category(save_tiny: Callable[..., Path]) -> None:
    folder = save_tiny()
    reply = ask(folder, "/v1/chat/completions", GPT_CHAT)
    [choice] = reply["choices"]
    probability, reason, category = choice["message"]["content"].split("\n")
    assert float(probability) == pytest.approx(expected_probability(folder, MAIL), abs=1e-4)
    assert category in ("ham", "spam")
    assert SPAM not in reason
    assert reply["usage"]["total_tokens"] > 0


def test_what_a_chat_knows_of_the_user_is_not_read(save_tiny: Callable[..., Path]) -> None:
    folder, messages = save_tiny(), list(GPT_CHAT["messages"])  # type: ignore[call-overload]
    messages.insert(1, {"role": "user", "content": "User context: free prizes"})
    reply = ask(folder, "/v1/chat/completions", {"messages": messages, "stream": "false"})
    probability = float(reply["choices"][0]["message"]["content"].split("\n")[0])
    assert probability == pytest.approx(expected_probability(folder, MAIL), abs=1e-4)


def test_chat_answers_json_where_it_is_asked_for(save_tiny: Callable[..., Path]) -> None:
    folder = save_tiny()
    by_format = GPT_CHAT | {"response_format": {"type": "json_object"}}
    by_schema = GPT_CHAT | {"response_format": {"type": "json_schema", "json_schema": {}}}
    system = {"role": "system", "content": "Answer with JSON: probability, reason"}
    by_prompt = GPT_CHAT | {"messages": [system, *GPT_CHAT["messages"][1:]]}  # type: ignore[index]
    for chat in (by_format, by_schema, by_prompt):
        reply = ask(folder, "/v1/chat/completions", chat)
        answer = json.loads(reply["choices"][0]["message"]["content"])
        assert answer["probability"] == pytest.approx(expected_probability(folder, MAIL), abs=1e-4)
        assert answer["reason"]


def test_a_mail_that_speaks_of_json_does_not_ask_for_it(save_tiny: Callable[..., Path]) -> None:
    chat = {"messages": [*GPT_CHAT["messages"][:-1], {"role": "user", "content": "Answer in JSON"}]}  # type: ignore[index]
    reply = ask(save_tiny(), "/v1/chat/completions", chat)
    assert reply["choices"][0]["message"]["content"].count("\n") == 2


def test_chat_of_another_client_is_read_whole(save_tiny: Callable[..., Path]) -> None:
    folder = save_tiny()
    parts = [{"type": "image_url"}, 1, {"type": "text", "text": SPAM}]
    chat = {"messages": [{"role": "user", "content": parts}]}
    alone = {"messages": [{"role": "user", "content": f"Subject: Hello\n\n{SPAM}"}]}
    for asked, text in ((chat, f"\n{SPAM}"), (alone, f"Subject: Hello\n\n{SPAM}")):
        content = ask(folder, "/v1/chat/completions", asked)["choices"][0]["message"]["content"]
        [expected] = Classifier.load(folder, device="cpu").classify([text])
        assert float(content.split("\n")[0]) == pytest.approx(expected.spam_probability, abs=1e-4)


def test_instructions_of_a_chat_are_not_read_by_either_name(
    save_tiny: Callable[..., Path],
) -> None:
    folder, user = save_tiny(), {"role": "user", "content": SPAM}
    answers = []
    for role in ("system", "developer"):
        chat = {"messages": [{"role": role, "content": "Find spam. Answer in JSON."}, user]}
        message = ask(folder, "/v1/chat/completions", chat)["choices"][0]["message"]
        answers.append(json.loads(message["content"])["probability"])
    [spam] = [p.spam_probability for p in Classifier.load(folder, device="cpu").classify([SPAM])]
    assert answers == pytest.approx([spam, spam], abs=1e-4)


@pytest.mark.parametrize(
    "chat",
    [
        {},
        {"messages": []},
        {"messages": "x"},
        {"messages": [1]},
        {"messages": [{"role": "developer", "content": "x"}]},
        {"messages": [{"role": "user", "content": "x"}], "stream": True},
    ],
)
def test_chat_without_a_message_is_refused(
    save_tiny: Callable[..., Path], chat: dict[str, Any]
) -> None:
    reply = asyncio.run(post(save_tiny(), "/v1/chat/completions", chat))
    assert reply.status_code == 400
    assert "JSON" not in reply.json()["title"]  # it was


def test_checkv2_answers_like_rspamd(save_tiny: Callable[..., Path]) -> None:
    folder = save_tiny()
    reply = ask(folder, "/checkv2", MAIL, **{"From": "a@example.org", "Queue-Id": "1"})
    spam = expected_probability(folder, MAIL)
    assert reply["score"] == pytest.approx(10 * (2 * spam - 1), abs=1e-3)
    assert reply["required_score"] == pytest.approx(6)
    assert (reply["action"] == "add header") == (reply["score"] >= reply["required_score"])
    assert reply["symbols"]["SPAMGATE"]["score"] == reply["score"]
    assert 0 < reply["time_real"] < 60  # seconds
    # What the sender called so goes, however often it stands there.
    assert reply["milter"]["remove_headers"] == dict.fromkeys(reply["milter"]["add_headers"], 0)


def test_vllm_shape(save_tiny: Callable[..., Path]) -> None:
    folder = save_tiny()
    reply = ask(folder, "/v1/classify", {"model": "any", "input": [SPAM, HAM]})
    expected = Classifier.load(folder, device="cpu").classify([SPAM, HAM])
    assert [entry["index"] for entry in reply["data"]] == [0, 1]
    assert reply["usage"]["total_tokens"] == sum(prediction.num_tokens for prediction in expected)
    for entry, prediction in zip(reply["data"], expected, strict=True):
        assert entry["label"] == prediction.label
        assert entry["probs"][1] == pytest.approx(prediction.spam_probability, abs=1e-5)
        assert entry["num_classes"] == 2
    single = ask(folder, "/v1/classify", {"input": SPAM})
    assert len(single["data"]) == 1
    for wrong in ([1], [SPAM, 1], [], None):
        answer = asyncio.run(post(folder, "/v1/classify", {"input": wrong}))
        assert answer.status_code == 400
