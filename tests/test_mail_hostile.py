"""Messages made to break the decoder: none raises, none is slow, memory stays bounded."""

import json
import subprocess
import sys
import time

import pytest

from model.fold import fold_text
from model.mail import MAX_CHARACTERS, MAX_TEXT_BYTES, message_to_text
from tests.hostile import HOSTILE, MEGABYTE, SPAM, mixed, nested_messages, nested_multiparts

# What they hold off grows with the square of the size, to minutes; a core that others use, too,
# has taken 5.5 s.
MAX_SECONDS = 10.0
MAX_MEMORY_BYTES = 200 << 20

# What nobody sees either, or what is not the spam of the corpus at all.
NOTHING_TO_SEE = {
    "20,000 unclosed p": "the end of the document cuts the tag off",
    "processing instructions": "one comment up to the first >, none follows",
    "base64 that is none": "no program shows it either",
    "broken base64": "a digit lost shifts those after it",
    "nested styled elements": "letters of no size, white on white",
    "partial message": "a part of a message whose other parts are elsewhere",
}


READ_ALL = """
import json, pathlib, time
from tests.hostile import HOSTILE
from model.fold import fold_text
from model.mail import message_to_text

def kib(field):
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1])

for name, raw in HOSTILE.items():
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before, start = kib("VmRSS"), time.process_time()
    text = message_to_text(raw).text
    (text + fold_text(text)).encode("utf-8")
    seconds = time.process_time() - start
    print(json.dumps([name, seconds, len(text), kib("VmHWM") - before]), flush=True)
"""


def test_hostile_messages_are_read_in_time_and_in_bounded_memory() -> None:
    """In a process of their own, whose memory tells of nothing else."""
    command = [sys.executable, "-c", READ_ALL]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    read = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"after {[name for name, *_ in read][-1:]}: {done.stderr}"
    assert [name for name, *_ in read] == list(HOSTILE)
    for name, seconds, characters, grown_kib in read:
        assert seconds < MAX_SECONDS, name
        assert characters <= MAX_CHARACTERS, name
        assert grown_kib * 1024 < MAX_MEMORY_BYTES, name


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, raw in HOSTILE.items()
        if SPAM.encode() in raw and len(raw) < MAX_CHARACTERS and name not in NOTHING_TO_SEE
    ],
)
def test_spam_in_a_hostile_message_is_read(name: str) -> None:
    text = fold_text(message_to_text(HOSTILE[name]).text)
    assert SPAM.lower() in " ".join(text.split()).lower()


@pytest.mark.parametrize(
    "name",
    [
        "zero-width spaces",
        "soft hyphens",
        "word joiners",
        "bidi overrides",
        "combining strokes",
        "accents",
        "variation selectors",
        "tag characters",
        "fullwidth letters",
        "mathematical letters",
        "Cyrillic lookalikes",
        "NUL bytes",
        "numeric entities",
        "words split by tags",
        "words split by comments",
        "ZeroFont",
        "UTF-7",
        "UTF-16 without a mark",
        "10,000 nested messages",
        "50,000 nested multiparts",
        "ten megabytes hidden before the text",
        "25 MB attachment before the text",
    ],
)
def test_disguised_spam_is_read_as_plain(name: str) -> None:
    text = fold_text(message_to_text(HOSTILE[name]).text)
    assert SPAM.lower() in " ".join(text.split()).lower()


@pytest.mark.parametrize(
    "field",
    [
        "Subject: @",
        "Subject: =?@?q?a?= =?utf-8?q?@?= =?utf-7?b?@?=",
        "Content-Type: @",
        "Content-Type: text/@",
        "Content-Type: @/plain",
        "Content-Type: text/html@; charset=@",
        "Content-Type: text/plain; charset=utf-8@",
        "Content-Type: text/plain; charset*=@'@'@; format=@",
        "Content-Type: multipart/mixed@; boundary=b@",
        "Content-Type: text/plain; name=@\nContent-Disposition: inline@; filename=@",
        "Content-Type: text/plain\nContent-Transfer-Encoding: quoted-printable@",
        "@: @",
    ],
)
def test_any_byte_in_a_field_gives_what_json_can_hold(field: str) -> None:
    body = "--b@\nContent-Type: text/@\n\nHello\n--b@--\n"
    for byte in range(0x80, 0x100):
        raw = f"{field}\n\n{body}".encode().replace(b"@", bytes([byte]))
        message = message_to_text(raw)
        for value in (message.text, message.subject, message.charset, *message.parts):
            value.encode("utf-8")
        assert "Hello" in message.text


SEEN = "--b\nContent-Type: text/html\n\n<b>Ca</b>sh prize\n--b--\n"
UNCLOSED = "".join(f"<p><b id={n}>" for n in range(300))
COMMENT = "--b\nContent-Type: text/html\n\n<!--" + "x" * MAX_TEXT_BYTES + "-->\n"


@pytest.mark.parametrize(
    ("before", "kind"),
    [
        ("--b\nContent-Disposition: attachment\n\nx\n" * 5_000, "mixed"),
        ("--b\n\n\n" * 5_000, "mixed"),
        (COMMENT, "mixed"),
        ("--b\n\n" + "good words " * MAX_TEXT_BYTES + "\n", "alternative"),
        (COMMENT, "alternative"),
    ],
)
def test_text_behind_parts_without_end_is_read(before: str, kind: str) -> None:
    message = message_to_text(mixed(before + SEEN, kind=kind))
    assert "Cash prize" in message.text
    assert message.truncated


def test_deeply_nested_text_is_decoded() -> None:
    """mutt goes 50 levels down."""
    opening = "".join(
        f"--b{level}\nContent-Type: multipart/mixed; boundary=b{level + 1}\n\n"
        for level in range(40)
    )
    part = "--b40\nContent-Type: text/html\n\n<b>Ca</b>sh prize"
    message = message_to_text(mixed(opening + part, boundary="b0"))
    assert "Cash prize" in message.text
    assert not message.truncated
    deeper = message_to_text(HOSTILE["50,000 nested multiparts"])
    assert deeper.truncated


# Each document hides something, so it is read twice, and none is like another.
OPTIONS = "--b\nContent-Type: text/html\n\n<p hidden style='display:none'>{}</p><select>"
OPTIONS += "<option>" * 9_900 + "\n"


@pytest.mark.parametrize(
    "raw",
    [
        mixed("--b\n" * (4 * MEGABYTE)),
        mixed(("--b\nContent-Type: text/html\n\n" + "<i>" * 1_500 + "\n") * 1_000),
        mixed("--b\nx\nContent-Type: text/html\n\n<i>hello\n" * 200_000),
        mixed(f"--b\nContent-Type: text/html\n\n{UNCLOSED}x\n" * 250),
        mixed("".join(OPTIONS.format(number) for number in range(12))),
        ("a:\n" * (5 * MEGABYTE)).encode(),
        ("junk\n" * (3 * MEGABYTE) + "Subject: x\n\n").encode(),
        nested_messages(49) + b"x" * 16 * MEGABYTE,
        nested_multiparts(49) + b"x" * 16 * MEGABYTE,
        nested_multiparts(49) + b"\n--b" * (4 * MEGABYTE),
    ],
)
def test_time_is_bounded(raw: bytes) -> None:
    start = time.process_time()
    message_to_text(raw)
    assert time.process_time() - start < MAX_SECONDS
