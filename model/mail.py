"""A raw message (RFC 5322, MIME) to the text that the model reads: subject and displayed part.

One function for training and service. It is total: any bytes give a text, in bounded time and
memory. Knows mail formats, nothing of models or HTTP.
"""

import binascii
import re
from dataclasses import dataclass

from model.charset import decode_bytes
from model.html import html_to_text

# Bounds on what is looked at; whatever lies beyond is not read, and ``truncated`` says so.
MAX_MESSAGE_BYTES = 32 << 20
MAX_PART_BYTES = 2 << 20
MAX_HEADER_BYTES = 256 << 10
MAX_PARTS = 200
MAX_DEPTH = 20
MAX_CHARACTERS = 200_000
# A subject line or a Content-Type longer than this is an attack.
_MAX_FIELD_BYTES = 8 << 10

# An HTML part with fewer words gives way to the plain part beside it, as in rspamd.
_MIN_HTML_WORDS = 10

_FIELD = re.compile(rb"([!-9;-~]++)[ \t]*+:([^\n]*+(?:\n[ \t][^\n]*+)*+)(?:\n|\Z)")
_WANTED_FIELDS = frozenset(
    (b"subject", b"content-type", b"content-transfer-encoding", b"content-disposition")
)
_PARAMETER = re.compile(r';\s*+([^\s=;*]++)(\*?)(\d{0,2})(\*?)\s*+=\s*+("[^"]*+"?|[^;]*+)')
_GUESSED_BOUNDARY = re.compile(rb"^--([^\s-][^\n]{0,199})\n(?:[ \t]*\n)?Content-", re.M | re.I)
_ENCODED_WORD = re.compile(r"=\?([^?*\s]++)(?:\*[^?\s]*+)?\?([bBqQ])\?([^?]*+)\?=")
_BASE64_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_NOT_BASE64 = bytes(set(range(256)) - set(_BASE64_ALPHABET))
_BLANKS = re.compile(r"[^\S\n]+")
_BLANK_LINES = re.compile(r"\n\s*\n")


@dataclass(frozen=True)
class MailText:
    """What a person sees of a message.

    Attributes:
        text: the subject, a blank line, the displayed part; no lone surrogates, blanks collapsed.
        subject: the subject alone, on one line.
        parts: content types of the parts that were read, such as ``("text/html",)``.
        charset: the charset that the first of them was decoded by, in Python's spelling.
        truncated: whether a bound was hit, so that something was not read.
    """

    text: str
    subject: str
    parts: tuple[str, ...]
    charset: str
    truncated: bool

    @property
    def characters(self) -> int:
        """Length of the text."""
        return len(self.text)


class _Budget:
    """How many parts of one message may still be opened, and whether something was left out."""

    def __init__(self) -> None:
        self.parts = MAX_PARTS
        self.is_exceeded = False


@dataclass(frozen=True)
class _Part:
    """One MIME entity: its wanted fields, undecoded, and the bytes below them."""

    fields: dict[bytes, bytes]
    body: bytes
    depth: int

    @property
    def is_attachment(self) -> bool:
        disposition = self.fields.get(b"content-disposition", b"").lower()
        return self.depth > 0 and disposition.startswith(b"attachment")


@dataclass(frozen=True)
class _Text:
    """A displayed part, decoded."""

    content_type: str
    charset: str
    text: str


def message_to_text(raw: bytes) -> MailText:
    """Reads a message as its reader's mail program shows it.

    >>> message_to_text(b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\\n\\nBis morgen!").text
    'Grüße\\n\\nBis morgen!'

    Of alternatives the HTML counts if it has ten words, else the plain text. Parts of a mixed
    message follow one another. Attachments are left out; a message inside the message is read only
    if there is no other text.

    Args:
        raw: any bytes; as a rule a message, with or without an mbox ``From `` line.
    """
    budget = _Budget()
    budget.is_exceeded = len(raw) > MAX_MESSAGE_BYTES
    lines = raw[:MAX_MESSAGE_BYTES].replace(b"\r\n", b"\n").replace(b"\r", b"\n").lstrip(b"\n")
    if lines.startswith((b"From ", b">From ")):
        lines = lines.partition(b"\n")[2]
    root = _parse_part(lines, depth=0)
    texts = _displayed(root, budget, open_messages=False)
    if not any(text.text for text in texts):
        texts = _displayed(root, budget, open_messages=True)
    subject = " ".join(_decode_field(root.fields.get(b"subject", b"")).split())
    body = "\n\n".join(text.text for text in texts if text.text)
    text = f"{subject}\n\n{body}" if subject and body else subject or body
    return MailText(
        text=text[:MAX_CHARACTERS],
        subject=subject,
        parts=tuple(text.content_type for text in texts),
        charset=texts[0].charset if texts else "ascii",
        truncated=budget.is_exceeded or len(text) > MAX_CHARACTERS,
    )


def _parse_part(lines: bytes, depth: int) -> _Part:
    """Splits fields from body. The first line that is no field begins the body, blank or not."""
    fields: dict[bytes, bytes] = {}
    end = 0
    while end < MAX_HEADER_BYTES and (match := _FIELD.match(lines, end)):
        end = match.end()
        name = match[1].lower()
        if name in _WANTED_FIELDS:
            fields.setdefault(name, match[2][:_MAX_FIELD_BYTES].strip())
    if lines.startswith(b"\n", end):
        end += 1
    return _Part(fields, lines[end:], depth)


def _displayed(part: _Part, budget: _Budget, *, open_messages: bool) -> list[_Text]:
    """The texts that are shown of a part, in the order in which they are shown."""
    budget.parts -= 1
    if budget.parts < 0 or part.depth > MAX_DEPTH:
        budget.is_exceeded = True
        return []
    kind, parameters = _content_type(part.fields.get(b"content-type", b""))
    if kind.startswith("multipart/"):
        children = _split(part, parameters.get("boundary", ""), kind)
        if children:
            shown = [
                _displayed(child, budget, open_messages=open_messages)
                for child in children
                if not child.is_attachment
            ]
            return _choose(shown, kind)
        kind = "text/plain"
    if kind == "message/rfc822":
        if not open_messages:
            return []
        inner = _parse_part(_decode_transfer(part, budget), part.depth + 1)
        return _displayed(inner, budget, open_messages=True)
    if kind in ("text/plain", "text/html") or (kind.startswith("text/") and part.depth == 0):
        return [_read_text(part, kind, parameters, budget)]
    return []


def _choose(shown: list[list[_Text]], kind: str) -> list[_Text]:
    """What a multipart shows of its children's texts."""
    shown = [texts for texts in shown if any(text.text for text in texts)]
    if kind == "multipart/related":
        return shown[0] if shown else []
    if kind == "multipart/alternative" and shown:
        rich = [texts for texts in shown if _html_words(texts) >= _MIN_HTML_WORDS]
        plain = [texts for texts in shown if _html_words(texts) == 0]
        return (rich or plain or shown)[-1]
    return [text for texts in shown for text in texts]


def _html_words(texts: list[_Text]) -> int:
    return sum(len(text.text.split()) for text in texts if text.content_type == "text/html")


def _split(part: _Part, boundary: str, kind: str) -> list[_Part]:
    """The children of a multipart; none where no boundary line is to be found."""
    body = part.body
    delimiter = boundary.encode("utf-8", "surrogateescape") if boundary else b""
    if not delimiter or b"--" + delimiter not in body:
        guess = _GUESSED_BOUNDARY.search(body)
        if guess is None:
            return []
        delimiter = guess[1].rstrip()
    line = re.compile(rb"^--" + re.escape(delimiter) + rb"(--)?[ \t]*$\n?", re.M)
    children: list[bytes] = []
    start = None
    for match in line.finditer(body):
        if start is not None:
            children.append(body[start : match.start()])
        start = match.end()
        if match[1] or len(children) > MAX_PARTS:
            break
    else:
        # Never closed: the last child reaches to the end.
        if start is not None:
            children.append(body[start:])
    parts = [_parse_part(child, part.depth + 1) for child in children]
    if kind == "multipart/digest":
        for child in parts:
            child.fields.setdefault(b"content-type", b"message/rfc822")
    return parts


def _content_type(field: bytes) -> tuple[str, dict[str, str]]:
    """Type in lower case, ``text/plain`` where it is none, and its parameters."""
    value = field.decode("utf-8", "surrogateescape").replace("\n", "")
    kind = "".join(value.lower().partition(";")[0].split()[:1])
    if kind.count("/") != 1:
        kind = "text/plain"
    parameters: dict[str, str] = {}
    for name, star, number, extended, quoted in _PARAMETER.findall(value):
        content = quoted.strip().strip('"')
        if extended or (star and not number):
            content = content.rpartition("'")[2]
        # RFC 2231 cuts a long value into name*0, name*1 and so on.
        is_sequel = number not in ("", "0")
        name = name.lower()
        if is_sequel:
            parameters[name] = parameters.get(name, "") + content
        else:
            parameters.setdefault(name, content)
    return kind, parameters


def _read_text(part: _Part, kind: str, parameters: dict[str, str], budget: _Budget) -> _Text:
    is_html = kind == "text/html"
    data = _decode_transfer(part, budget)
    declared = parameters.get("charset", "").split(" ")[0]
    text, charset = decode_bytes(data, declared, is_html=is_html)
    if is_html:
        text = html_to_text(text)
    elif parameters.get("format", "").lower() == "flowed":
        text = _unflow(text, delete_space=parameters.get("delsp", "").lower() == "yes")
    return _Text(kind, charset, _tidy(text))


def _decode_transfer(part: _Part, budget: _Budget) -> bytes:
    """The body without its transfer encoding, as far as it is read."""
    encoding = part.fields.get(b"content-transfer-encoding", b"").lower()
    body = part.body
    if encoding.startswith(b"base64"):
        body = _decode_base64(body[: 2 * MAX_PART_BYTES])
    elif encoding.startswith(b"quoted-printable"):
        body = binascii.a2b_qp(body[: 3 * MAX_PART_BYTES])
    budget.is_exceeded |= len(part.body) > MAX_PART_BYTES and len(body) >= MAX_PART_BYTES
    return body[:MAX_PART_BYTES]


def _decode_base64(data: bytes) -> bytes:
    """Whatever the digits among these bytes say; padding and strangers are skipped."""
    digits = data.translate(None, _NOT_BASE64)
    if len(digits) % 4 == 1:
        digits = digits[:-1]
    return binascii.a2b_base64(digits + b"=" * (-len(digits) % 4))


def _decode_field(value: bytes) -> str:
    """A header field with its encoded words decoded; neighbours may share a character."""
    text = decode_bytes(value, "")[0].replace("\n", "")
    pieces: list[str] = []
    pending, pending_charset = b"", ""
    end = 0
    for match in _ENCODED_WORD.finditer(text):
        gap = text[end : match.start()]
        charset = match[1].lower()
        if gap.strip() or charset != pending_charset:
            pieces.append(decode_bytes(pending, pending_charset)[0])
            pending = b""
        if gap.strip() or end == 0:
            pieces.append(gap)
        pending += _decode_word(match[2], match[3])
        pending_charset = charset
        end = match.end()
    pieces.append(decode_bytes(pending, pending_charset)[0])
    return "".join(pieces) + text[end:]


def _decode_word(encoding: str, word: str) -> bytes:
    data = word.encode("utf-8")
    return _decode_base64(data) if encoding in "bB" else binascii.a2b_qp(data, header=True)


def _unflow(text: str, *, delete_space: bool) -> str:
    """Joins the soft line breaks of ``format=flowed`` (RFC 3676)."""
    lines: list[str] = []
    is_open = False
    quotes = 0
    for line in text.split("\n"):
        line = line.rstrip("\r")
        depth = len(line) - len(line.lstrip(">"))
        content = line[depth:].removeprefix(" ")
        if is_open and depth == quotes and content != "-- ":
            lines[-1] += content
        else:
            lines.append(f"{'>' * depth} {content}" if depth else content)
        quotes = depth
        is_open = content.endswith(" ") and content != "-- "
        if is_open and delete_space:
            lines[-1] = lines[-1][:-1]
    return "\n".join(lines)


def _tidy(text: str) -> str:
    """Blanks run together, lines stripped, at most one blank line in a row."""
    text = _BLANKS.sub(" ", text.replace("\r\n", "\n").replace("\r", "\n"))
    text = text.replace(" \n", "\n").replace("\n ", "\n")
    return _BLANK_LINES.sub("\n\n", text).strip()
