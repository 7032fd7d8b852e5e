"""Parameters of a type as mail programs read them, and what depends on them."""

import re
import time

import pytest

from model.fields import content_type
from model.mail import message_to_text
from tests.test_mail import HTML_WORDS, WORDS, html, mail, multipart, plain, read


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        (rb'"a\b"', "ab"),
        (rb'"a\"b"', 'a"b'),
        (rb'"a\\b', "a\\b"),
        (rb"a\b", "a\\b"),
        (b"ab cd (x)", "ab cd (x)"),
        (b'"ab', "ab"),
        (b'""', ""),
    ],
)
def test_value_of_a_parameter(parameter: bytes, value: str) -> None:
    field = b"multipart/mixed; boundary=" + parameter
    assert content_type(field) == ("multipart/mixed", {"boundary": value})


@pytest.mark.parametrize(
    ("parameters", "value"),
    [
        (b"x*=us-ascii'en'a'b", "a'b"),
        (b"x*0*=utf-8''a%20; x*1*=b'c%27; x*2=d'e%20", "a b'c'd'e%20"),
        (b"x*1=cd; x*0=ab", "abcd"),
        (b"x*1=b; x*0=a; x*1=c", "ab"),
        (b"x*2=c; x*10=d", "cd"),
    ],
)
def test_a_value_in_pieces_is_put_together_by_their_numbers(parameters: bytes, value: str) -> None:
    assert content_type(b"text/plain; " + parameters)[1] == {"x": value}


def test_the_other_way_to_read_ends_a_value_at_a_blank() -> None:
    field = b'multipart/mixed; boundary=ab cd; x=(y); z="a b"'
    assert content_type(field, last_counts=True)[1] == {"boundary": "ab", "x": "", "z": "a b"}


@pytest.mark.parametrize(
    "boundary", ["real (comment)", "real more", f"{'x' * 9000}; boundary=real", '"re\\al"']
)
def test_a_decoy_hides_nothing_behind_a_boundary_that_programs_read_otherwise(
    boundary: str,
) -> None:
    decoy = boundary.strip('"')
    body = f"--{decoy}\r\n{plain('Kind regards')}\r\n--{decoy}--\r\n--real\r\n{plain('Buy now')}"
    raw = mail(f"{body}\r\n--real--\r\n", f"Content-Type: multipart/mixed; boundary={boundary}")
    assert "Buy now" in read(raw)


@pytest.mark.parametrize(
    ("parameters", "real", "decoy"),
    [
        (r'boundary="a\b"', r"a\b", "ab"),
        (r'boundary="a\b"', "ab", r"a\b"),
        (r'name="C:\dir\"; boundary=real; x="; boundary=decoy"', "real", "decoy"),
    ],
)
def test_both_ways_to_read_a_backslash_are_read(parameters: str, real: str, decoy: str) -> None:
    body = "".join(
        f"--{boundary}\r\n\r\n{text}\r\n--{boundary}--\r\n"
        for boundary, text in ((decoy, "lunch at noon"), (real, "cheap pills"))
    )
    assert "cheap pills" in read(mail(body, f"Content-Type: multipart/mixed; {parameters}"))


@pytest.mark.parametrize("start", ['"root"', '"<root>"', "root"])
@pytest.mark.parametrize("identifier", ["<root>", "<root> (c)", " root"])
def test_root_is_found_with_and_without_brackets(start: str, identifier: str) -> None:
    root = html(HTML_WORDS).replace("\r\n\r\n", f"\r\nContent-ID: {identifier}\r\n\r\n", 1)
    raw = multipart("related", "Content-ID: <a>\r\n\r\nfirst", root)
    raw = raw.replace(b"related;", f"related; start={start};".encode())
    assert read(raw) == f"{WORDS}\n\nfirst"


def test_a_comment_in_a_comment_is_none_of_the_type() -> None:
    raw = multipart("mixed", plain("text")).replace(b"Type: ", b"Type: (a(b)c) (d) ", 1)
    assert read(raw) == "text"


@pytest.mark.parametrize("line", ["From a@b Sat Jan  3 01:05:34 2026", ">From a@b"])
def test_line_of_an_mbox_on_top_of_an_attached_message_is_none_of_it(line: str) -> None:
    inner = f"{line}\r\nReceived: from x\r\nSubject: hi\r\n\r\ninside"
    raw = multipart("mixed", plain("text"), f"Content-Type: message/rfc822\r\n\r\n{inner}")
    assert read(raw) == "text\n\nhi\n\ninside"


@pytest.mark.parametrize(
    "inner", ["\r\nNOTE: cheap\r\nOFFER: today", "\r\nFrom our shop\r\nmore", "From us\r\nmore"]
)
@pytest.mark.parametrize("kind", ["mixed", "digest"])
def test_lines_that_look_like_fields_are_text_behind_an_empty_header(kind: str, inner: str) -> None:
    text = read(multipart(kind, f"Content-Type: message/rfc822\r\n\r\n{inner}"))
    assert text == inner.strip().replace("\r\n", "\n")


def test_lines_that_begin_like_a_boundary_cost_little() -> None:
    raw = b"x" * 10
    for boundary in ("abcd", "abc", "ab", "a"):
        field = f"Content-Type: multipart/mixed; boundary={boundary}; x=1; x=2\r\n\r\n".encode()
        raw = field + f"--{boundary}\n".encode() + raw
    begin = time.process_time()
    message_to_text(b"Subject: x\r\n" + raw + b"\n--abcde" * 500_000)
    assert time.process_time() - begin < 3  # six where each is looked at in Python


def test_an_invitation_that_comes_many_times_is_read_once() -> None:
    parts = ["Content-Type: text/calendar\r\n\r\nSUMMARY:Buy\r\nDESCRIPTION:Cheap now"] * 9
    other = "Content-Type: text/calendar\r\n\r\nSUMMARY:now Cheap\r\nDESCRIPTION:Buy"
    assert read(multipart("mixed", *parts, other)) == "Buy\nCheap now\n\nnow Cheap\nBuy"


def test_memory_of_long_boundaries_is_given_back() -> None:
    """Python keeps patterns, hundreds of them."""
    patterns: dict[object, object] = vars(re)["_cache"]
    before = len(patterns)
    for number in range(20):
        boundary = f"{number}" * 1000
        raw = mail(
            f"--{boundary}\r\n\r\ntext\r\n--{boundary}--\r\n",
            f"Content-Type: multipart/mixed; boundary={boundary}",
        )
        assert read(raw) == "text"
    assert len(patterns) <= before + 5


@pytest.mark.parametrize(
    "text",
    [
        "WINNER: You have won a prize",
        "URGENT: call\nReply: STOP",
        "http://win.example/claim is yours",
        "Note: call me\n\nYou have won",
    ],
)
def test_text_without_a_header_is_read_whole(text: str) -> None:
    message = message_to_text(text.encode())
    assert (message.text, message.subject) == (text, "")


def test_message_with_a_usual_field_has_a_header() -> None:
    for field in ("X-Mailer", "List-Id", "DATE", "received", "Content-Language"):
        assert message_to_text(f"Note: a\n{field}: b\n\ntext".encode()).text == "text"


def test_a_subject_that_is_cut_is_told() -> None:
    assert not message_to_text(mail("text", subject="a " * 4000)).truncated
    assert message_to_text(mail("text", subject="a " * 5000)).truncated


def test_words_are_gathered_once_however_many_texts_ask_for_them() -> None:
    words = " ".join(f"{number:x}" for number in range(100_000))
    invitations = (f"Content-Type: text/calendar\r\n\r\nSUMMARY:z{n}" for n in range(400))
    nested = html(words)
    for depth in range(40):
        parts = f"--{depth}.\r\n{plain('x')}\r\n--{depth}.\r\n{nested}\r\n--{depth}.--"
        nested = f"Content-Type: multipart/alternative; boundary={depth}.\r\n\r\n{parts}"
    begin = time.process_time()
    assert read(multipart("mixed", plain(words), *invitations)).endswith("z398\n\nz399")
    assert len(read(multipart("mixed", nested))) > 100_000
    assert time.process_time() - begin < 3  # ten seconds and more where each gathered its own
