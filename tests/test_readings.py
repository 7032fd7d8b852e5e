"""A message whose HTML hides something is judged with and without that."""

import asyncio
import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.bulk import main
from app.main import create_app
from model.classifier import Classifier
from model.mail import message_to_text
from tests.conftest import HAM, SPAM, tiny_checkpoint, written
from tests.serving import held, make_settings, post, running, serving

HTML = "Content-Type: text/html\n\n"


def mail_of(shown: str, hidden: str) -> bytes:
    return f"{HTML}<p>{shown}</p><div style='display:none'>{hidden}</div>".encode()


def test_what_is_hidden_is_read_in_a_reading_of_its_own() -> None:
    mail = message_to_text(mail_of("seen", "hidden"))
    assert mail.text == "seen"
    assert [reading.split() for reading in mail.readings] == [["seen"], ["seen", "hidden"]]


def test_a_message_that_is_read_twice_is_no_list() -> None:
    mail = b"Content-Type: text/html\n\nDinner tonight?<div style='display:none'>A preheader</div>"

    async def scenario() -> int:
        app = create_app(make_settings(tiny_checkpoint(0, "last"), max_queue_tokens=4096))
        async with running(app) as client:
            model, _ = await held(app, client)
            listed = post(client, *(f"word{number} " * 300 for number in range(12)))
            queue = app.state.service.engine.batcher.queue
            while queue.texts < 2:
                await asyncio.sleep(0.01)
            one = asyncio.create_task(client.post("/classify/message", content=mail))
            while queue.texts < 14 and not one.done():
                await asyncio.sleep(0.01)
            model.release_all()
            await listed
            return (await one).status_code

    assert len(message_to_text(mail).readings) == 2
    assert asyncio.run(scenario()) == 200


def test_each_message_of_a_list_tells_its_own_windows(save_tiny: Callable[..., Path]) -> None:
    async def scenario() -> list[int]:
        mails = [b"\n" + b"word " * count for count in (10, 1500, 10, 2500)]
        body = {"messages": [base64.b64encode(mail).decode() for mail in mails]}
        async with serving(save_tiny()) as client:
            reply = await client.post("/classify/message", json=body)
        return [result["windows"] for result in reply.json()["results"]]

    assert asyncio.run(scenario()) == [1, 2, 1, 4]


@pytest.mark.parametrize("hidden", ["", "&zwnj;&nbsp;&#847;", "<img src=a.gif>", "--- *** ---"])
def test_hidden_blanks_and_pictures_are_no_reading(hidden: str) -> None:
    mail = message_to_text(mail_of("seen", hidden))
    assert mail.readings == ("seen",)


def test_html_that_hides_all_of_itself_is_read_beside_the_plain_part() -> None:
    plain = "Content-Type: text/plain\n\nplain"
    html = f"{HTML}<p style='display:none'>hidden"
    parts = f"--b\n{plain}\n--b\n{html}\n--b--\n"
    mail = message_to_text(f"Content-Type: multipart/alternative; boundary=b\n\n{parts}".encode())
    assert mail.text == "plain"
    assert [set(reading.split()) for reading in mail.readings] == [{"plain"}, {"plain", "hidden"}]


@pytest.mark.parametrize(
    "doubt",
    [
        "<style>@x;</style>",
        "<style>@namespace 'a';</style>",
        "<style>@media (max-width:1px){*{display:block!important}}</style>",
        "<style>div:hover{display:block!important}</style>",
        "<svg><desc>.</desc></svg>",
        "<svg><style>div{display:block!important}</style></svg>",
        f"<style>/*{'x' * 17_000}*/ .h{{display:none}}</style>",
    ],
)
def test_what_makes_hiding_doubtful_leaves_a_reading_without_what_may_be_hidden(doubt: str) -> None:
    html = f"{doubt}<p>seen</p><div class=h style='display:none'>hidden</div>"
    mail = message_to_text(f"{HTML}{html}".encode())
    assert "seen" in mail.least
    assert "hidden" not in mail.least
    assert mail.least in mail.readings


@pytest.mark.parametrize(
    "more",
    [
        "<!--[if mso]><p>more</p><![endif]-->",
        "<iframe srcdoc='more'></iframe>",
        "<style>p::after{content:'more'}</style>",
    ],
)
def test_what_some_programs_alone_show_is_not_in_the_least_reading(more: str) -> None:
    mail = message_to_text(f"{HTML}{more}<p>seen</p>".encode())
    assert mail.text.split() == ["seen", "more"]
    assert mail.readings == (mail.text, "seen")


@pytest.mark.parametrize("order", [1, -1])
def test_short_html_beside_a_plain_part_is_read_alone_too(order: int) -> None:
    parts = ["Content-Type: text/plain\n\nplain and honest", f"{HTML}<a>Claim your prize</a>"]
    body = "".join(f"--b\n{part}\n" for part in parts[::order])
    mail = message_to_text(
        f"Subject: s\nContent-Type: multipart/alternative; boundary=b\n\n{body}--b--\n".encode()
    )
    assert mail.text == "s\n\nplain and honest\n\nClaim your prize"
    assert mail.readings == (mail.text, "s\n\nClaim your prize")


def test_what_a_sheet_hides_that_is_too_large_for_gmail_is_shown() -> None:
    html = f"<style>/*{'x' * 17_000}*/.h{{display:none}}</style><p>seen</p><p class=h>hidden</p>"
    mail = message_to_text(f"{HTML}{html}".encode())
    assert [reading.split() for reading in mail.readings] == [["seen", "hidden"], ["seen"]]


@pytest.mark.parametrize(
    "html",
    [
        "<style>p:hover{display:block!important}</style><p style='display:none'>seen</p>",
        "<!--[if mso]><p>--- ***</p><![endif]--><p>seen</p>",
    ],
)
def test_no_text_at_all_and_marks_are_no_least_reading(html: str) -> None:
    mail = message_to_text(f"{HTML}{html}".encode())
    assert mail.text.split()[0] == "seen"
    assert mail.readings == (mail.text,)


def test_what_is_not_in_doubt_is_read_once() -> None:
    html = "<style>p{color:red} p:hover{color:blue}</style><p>seen</p><!--[if mso]>seen<![endif]-->"
    assert message_to_text(f"{HTML}{html}".encode()).readings == ("seen",)


def test_what_is_hidden_from_outlook_alone_is_read_too() -> None:
    """Its Windows version does not heed opacity."""
    html = "<p>seen</p><!--[if mso]><p style='display:block;opacity:0'>hidden</p><![endif]-->"
    mail = message_to_text(f"{HTML}{html}".encode())
    assert [reading.split() for reading in mail.readings] == [["seen"], ["seen", "hidden"]]


def test_both_ways_to_read_broken_fields_are_read_whole() -> None:
    """Fields on which programs differ make two ways, each of which may hide something."""
    body = "<p>seen<i style='display:none'>hidden</i>"
    raw = f"Content-Type: text/plain\n{HTML}{body}".encode()
    mail = message_to_text(raw)
    shown, whole, least = mail.readings
    assert "hidden" not in shown.replace(body, "")
    assert "hidden" in whole.replace(body, "")
    assert least == body  # the first way alone


PAIRS = [(HAM, SPAM), (SPAM, HAM), (HAM, "more"), (SPAM, "more")]


def worst(folder: Path, raw: bytes) -> tuple[float, str]:
    readings = message_to_text(raw).readings
    assert len(readings) == 2
    shown, whole = (p.spam_probability for p in Classifier.load(folder, "cpu").classify(readings))
    return max((shown, readings[0]), (whole / (whole + 2 * (1 - whole)), readings[1]))


def test_the_worse_reading_is_the_messages(save_tiny: Callable[..., Path]) -> None:
    folder = save_tiny()
    mails = [mail_of(*pair) for pair in PAIRS]
    mails.insert(2, b"Subject: x\n\nplain")  # of one reading

    async def ask() -> list[tuple[dict[str, Any], str]]:
        async with serving(folder) as client:
            found = []
            for raw in mails:
                reply = await client.post(
                    "/classify/message?explain=true",
                    content=raw,
                    headers={"content-type": "message/rfc822"},
                )
                [result] = reply.json()["results"]
                spans = result["explanation"]["spans"]
                found.append((result, "".join(span["text"] for span in spans)))
            return found

    found = asyncio.run(ask())
    del found[2], mails[2]
    counted = set()
    for raw, (result, explained) in zip(mails, found, strict=True):
        probability, text = worst(folder, raw)
        assert result["probabilities"]["spam"] == pytest.approx(probability, abs=1e-5)
        assert result["characters"] == len(text)
        assert explained.split() == text.split()
        counted.add(message_to_text(raw).readings.index(text))
    assert counted == {0, 1}


def test_archives_are_read_so_too(
    save_tiny: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPAMGATE_DTYPE", "float32")  # not what is the fastest at the moment
    folder, out = save_tiny(), tmp_path / "out.jsonl"
    mails = [mail_of(*pair) for pair in PAIRS]
    paths = [written(tmp_path / f"{n}.eml", raw) for n, raw in enumerate(mails)]
    flags = ["--out", str(out), "--checkpoint", str(folder), "--device", "cpu", "--keep-text"]
    assert main([*map(str, paths), *flags]) == 0
    results = [json.loads(line) for line in out.read_text().splitlines()]
    found = [result["probabilities"]["spam"] for result in results]
    expected = [worst(folder, raw) for raw in mails]
    assert found == pytest.approx([probability for probability, _ in expected], abs=1e-5)
    assert [result["text"] for result in results] == [text for _, text in expected]
