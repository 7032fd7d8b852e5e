"""Messages made to break the decoder: none raises, none is slow, memory stays bounded."""

import subprocess
import sys
import time

import pytest

from model.fold import fold_text
from model.mail import MAX_CHARACTERS, message_to_text
from tests.hostile import HOSTILE, SPAM

MAX_SECONDS = 1.0
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


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_message_is_read_in_time(name: str) -> None:
    start = time.process_time()
    message = message_to_text(HOSTILE[name])
    folded = fold_text(message.text)
    seconds = time.process_time() - start
    assert seconds < MAX_SECONDS
    assert len(message.text) <= MAX_CHARACTERS
    message.text.encode("utf-8")
    folded.encode("utf-8")


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


def test_memory_is_bounded() -> None:
    """All hostile messages in a process of its own, which may not grow by more than the bound."""
    code = (
        "import resource\n"
        "from tests.hostile import HOSTILE\n"
        "from model.mail import message_to_text\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for raw in HOSTILE.values(): message_to_text(raw)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    grown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(grown.stdout) * 1024 < MAX_MEMORY_BYTES
