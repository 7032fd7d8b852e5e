"""A raw message (RFC 5322, MIME) to the text that the model reads: subject and displayed part.

One function for training and service. It is total: any bytes give a text, in bounded time and
memory. Knows mail formats, nothing of models or HTTP.
"""

import codecs
import re
from dataclasses import dataclass, replace
from typing import TypeVar

from model.alternatives import INVITATION, ShownText, choose, said_once
from model.boundaries import cut_at, guess_boundary
from model.charset import decode_bytes
from model.fields import content_type, decode_field
from model.html import Extent, HTMLText, read_html
from model.lines import FOLDED, letters_of, shown_lines, tidy_blanks, unescape_lines, unflow, unfold
from model.markup import MAX_STEPS
from model.transfer import decode_transfer, signed_content

# Bounds on what is looked at; whatever lies beyond is not read, and ``truncated`` says so.
MAX_MESSAGE_BYTES = 32 << 20
MAX_TEXT_BYTES = 1 << 20
MAX_PARTS = 1_000
MAX_DEPTH = 50  # as in mutt
MAX_CHARACTERS = 200_000
# A subject line or a Content-Type longer than this is an attack.
_MAX_SUBJECT_BYTES, _MAX_FIELD_BYTES = 8 << 10, 64 << 10

# Parts that hold others, and so do those: bytes in all.
_MAX_OPENED_BYTES = 4 * MAX_MESSAGE_BYTES
# What is read of a part if those before it were long, up to MAX_TEXT_BYTES once more.
_LEAST_TEXT_BYTES = 4 << 10

# What an mbox says on top of a message: whose it is. It is text unless fields follow.
_ENVELOPE = re.compile(rb"\A>?From [^\n]*+\n(?=[!-9;-~]++[ \t]*+:)")
_COMMENTS = re.compile(rb"\A(?:\((?:[^()]|\([^()]*+\))*+\)\s*+)++")
# Fields one after another. As one pattern, so that any number of them takes no time.
_FIELDS = re.compile(rb"(?:[!-9;-~]++[ \t]*+:[^\n]*+(?:\n[ \t][^\n]*+)*+(?:\n|\Z))*+")
_WANTED_FIELD = re.compile(
    rb"^(subject|content-(?:type|transfer-encoding|disposition|id))[ \t]*+:"
    rb"([^\n]*+(?:\n[ \t][^\n]*+)*+)",
    re.IGNORECASE | re.MULTILINE,
)
# A text without a header may begin with lines that look like fields; no message is without these.
_USUAL_FIELD = re.compile(
    rb"^(?:from|to|date|subject|received|return-path|sender|reply-to|message-id|mime-version|"
    rb"content-[!-9;-~]++|delivered-to|(?:resent|list|x)-[!-9;-~]++|dkim-signature)[ \t]*+:",
    re.IGNORECASE | re.MULTILINE,
)
# What the older two mark up, names of fonts aside, reads as unknown elements of HTML do.
_MARKUP = frozenset({"text/html", "text/enriched", "text/richtext"})
_ENRICHED_PARAMETER = re.compile(r"<param>[^<]*+</param>", re.IGNORECASE)
_SIGNED = frozenset({"application/pkcs7-mime", "application/x-pkcs7-mime"})
# Text that most programs show in a form of its own or as a file; all other kinds as plain text.
_FOR_PROGRAMS = (FOLDED - INVITATION) | {"text/rtf", "text/rfc822-headers", "text/x-amp-html"}
_MESSAGES = frozenset({"message/rfc822", "message/global", "message/news"})
# Of a body, these say nothing of bytes beyond ASCII in the subject.
_UNTELLING_CHARSETS = frozenset(("ascii", "utf-8", "cp1252", "utf-16-le", "utf-16-be"))


_Sequence = TypeVar("_Sequence", str, bytes)


@dataclass(frozen=True)
class MailText:
    """What a person sees of a message.

    Attributes:
        text: the subject, a blank line, the displayed part; no lone surrogates, blanks collapsed.
        whole: the same with what HTML hides.
        least: what is left without what HTML may hide, or some programs alone show.
        subject: the subject alone, on one line.
        parts: content types of the parts that were read, such as ``("text/html",)``.
        charset: the charset that the first of them was decoded by, in Python's spelling.
        truncated: whether a bound was hit, so that something was not read.
    """

    text: str
    whole: str
    least: str
    subject: str
    parts: tuple[str, ...]
    charset: str
    truncated: bool

    @property
    def readings(self) -> tuple[str, ...]:
        """The texts to be judged, one to three: what is shown comes first.

        What one mail program hides another may show, so no text is to pass unread; nor is text that
        nobody sees, or few, to water down what is shown.
        """
        return tuple(dict.fromkeys((self.text, self.whole, self.least)))


_Documents = dict[tuple[str, Extent], HTMLText]
"""What was read of a message's HTML, and how much of it: by all of its readings."""


class _Budget:
    """One reading of a message: how much of it may still be opened, and what was met.

    Attributes:
        last_counts: mail programs differ on what stands twice, field or parameter, on a line among
            the fields that is none, and on a carriage return by itself. If False, the first counts,
            the fields go on up to a blank line (Thunderbird) and the return ends a line; if True,
            the last counts, such a line begins the body and the return is a character (mutt), and
            an attachment is no alternative. Of two subjects the first counts.
        extent: how much of the message is read.
        hides: whether HTML hid something that was not.
        doubts: whether something is shown by some programs at most.
        is_exceeded: whether something was left out.
        is_ambiguous: whether the other way to read may show something else.
    """

    def __init__(self, documents: _Documents, extent: Extent, *, last_counts: bool = False) -> None:
        self._documents = documents
        self.extent = extent
        self.hides = self.doubts = False
        self.last_counts = last_counts
        self.is_ambiguous = False
        self.parts, self.steps = MAX_PARTS, MAX_STEPS
        self.text_bytes = MAX_TEXT_BYTES
        self.spare_bytes = MAX_TEXT_BYTES
        self.opened_bytes = _MAX_OPENED_BYTES
        self.is_exceeded = False

    def can_open(self, kind: str, num_bytes: int) -> bool:
        """Whether a part of this type holds no others, or few enough bytes."""
        if not (kind.startswith("multipart/") or kind in _SIGNED or kind in _MESSAGES):
            return True
        self.opened_bytes -= num_bytes
        return self.opened_bytes >= 0

    def take(self, data: bytes) -> bytes:
        """The bytes, or their head and tail if they are more than is left."""
        limit = max(self.text_bytes, min(_LEAST_TEXT_BYTES, self.spare_bytes))
        if len(data) > limit:
            self.is_exceeded = True
            data = head_and_tail(data, limit)
        self.spare_bytes -= max(len(data) - self.text_bytes, 0)
        self.text_bytes = max(self.text_bytes - len(data), 0)
        return data

    def unix_lines(self, data: bytes) -> bytes:
        """The same with line feeds alone at the ends of lines."""
        lines = data.replace(b"\r\n", b"\n")
        if b"\r" not in lines:
            return lines
        self.is_ambiguous = True  # line ends that were made twice have two
        return lines.replace(b"\r\n" if self.last_counts else b"\r", b"\n")

    def read(self, html: str) -> str:
        """The text of HTML in this reading."""
        found = self._documents.get((html, self.extent))
        if found is None:
            found = read_html(html, extent=self.extent, max_steps=self.steps)
            self._documents[html, self.extent] = found
            self.steps -= found.num_steps
            if self.extent == "shown" and not found.hides:
                self._documents[html, "whole"] = found
            if self.extent == "shown" and not found.doubts:
                self._documents[html, "least"] = found
        self.hides |= found.hides
        self.doubts |= found.doubts
        return found.text


@dataclass(frozen=True)
class _Part:
    """One MIME entity: its wanted fields, undecoded, and the bytes below them."""

    fields: dict[bytes, bytes]
    body: bytes
    depth: int

    def is_left_out_of(self, kind: str, budget: _Budget) -> bool:
        """Whether it is not shown as part of such a multipart, unless there is nothing else."""
        own_kind, parameters = content_type(self.fields.get(b"content-type", b""))
        if own_kind in INVITATION and "method" in parameters:  # a card above the message
            return False
        if kind == "multipart/report" and own_kind in _MESSAGES:
            return True
        is_attached = self.fields.get(b"content-disposition", b"").lower().startswith(b"attachment")
        if is_attached and kind == "multipart/alternative":  # to Thunderbird this means nothing
            budget.is_ambiguous = True
            return budget.last_counts
        return is_attached

    @property
    def content(self) -> bytes:
        """The body without its transfer encoding."""
        return decode_transfer(self.body, self.fields.get(b"content-transfer-encoding", b""))


def message_to_text(raw: bytes) -> MailText:
    """Reads a message as its reader's mail program shows it.

    >>> message_to_text(b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\\n\\nBis morgen!").text
    'Grüße\\n\\nBis morgen!'

    Of alternatives the HTML counts if it has ten words, else the plain text; so do shorter HTML, an
    invitation and the last one, which is what most programs show, if they say more. Parts of a
    mixed message follow one another; of an invitation the lines that say more than all others. What
    is attached, and the message that a report is about, are read only if there is no other text;
    other messages inside the message are, and what an S/MIME signature encloses.

    Args:
        raw: any bytes; as a rule a message, with or without an mbox ``From `` line.
    """
    # A file of text that became a message may begin with a mark that no mail program shows.
    message = raw[:MAX_MESSAGE_BYTES].removeprefix(codecs.BOM_UTF8)
    documents: _Documents = {}
    mail, budget = _read(message, documents, "shown")
    whole = _read(message, documents, "whole")[0].text if budget.hides else mail.text
    least = _read(message, documents, "least")[0].text if budget.doubts else mail.text
    # The usual thing hidden is a picture that counts readers, or blanks.
    if letters_of(whole) != letters_of(mail.text):
        mail = replace(mail, whole=whole)
    if letters_of(least) not in ("", letters_of(mail.text)):
        mail = replace(mail, least=least)
    return replace(mail, truncated=mail.truncated or len(raw) > MAX_MESSAGE_BYTES)


def _read(message: bytes, documents: _Documents, extent: Extent) -> tuple[MailText, _Budget]:
    """The message in one of its readings, and what was met."""
    budget = _Budget(documents, extent)
    root, texts = _displayed_texts(message, budget)
    if budget.is_ambiguous and extent != "least":
        shown = {text.without_blanks for text in texts}
        other_way = _Budget(documents, extent, last_counts=True)
        others = _displayed_texts(message, other_way)[1]
        more = [text for text in others if text.without_blanks not in shown]
        texts += more
        budget.doubts |= other_way.doubts or bool(more)
        budget.is_exceeded |= other_way.is_exceeded
        budget.hides |= other_way.hides
    charset = texts[0].charset if texts else "ascii"
    declared = "" if charset in _UNTELLING_CHARSETS else charset
    subject = " ".join(decode_field(root.fields.get(b"subject", b""), declared).split())
    body = "\n\n".join(text for text in said_once(texts, subject) if text)
    text = f"{subject}\n\n{body}" if subject and body else subject or body
    read = head_and_tail(text, MAX_CHARACTERS)
    kinds = tuple(text.content_type for text in texts)
    is_cut = budget.is_exceeded or len(text) > MAX_CHARACTERS
    return MailText(read, read, read, subject, kinds, charset, truncated=is_cut), budget


def head_and_tail(whole: _Sequence, length: int) -> _Sequence:
    """All of it, or three parts from its beginning and one from its end."""
    if len(whole) <= length:
        return whole
    tail = length // 4
    return whole[: length - tail] + whole[len(whole) - tail :]


def _displayed_texts(message: bytes, budget: _Budget) -> tuple[_Part, list[ShownText]]:
    """The message as an entity, and the texts that are shown of it."""
    lines = _ENVELOPE.sub(b"", budget.unix_lines(message).lstrip(b"\n"), count=1)
    root = _parse_part(lines, 0, budget)
    texts = _displayed(root, budget, open_all=False)
    if not any(text.text for text in texts):
        texts = _displayed(root, budget, open_all=True)
    return root, texts


def _parse_part(lines: bytes, depth: int, budget: _Budget) -> _Part:
    """Splits fields from body. A line that is no field begins the body, unless fields follow it."""
    fields_only = _FIELDS.match(lines)
    end = fields_only.end() if fields_only else 0
    if depth == 0 and not _USUAL_FIELD.search(lines, 0, end):
        end = 0
    if not lines.startswith(b"\n", end):
        blank_line = lines.find(b"\n\n", max(end - 1, 0))
        all_lines = blank_line + 1 if blank_line >= 0 else len(lines)
        if _WANTED_FIELD.search(lines, end, all_lines):
            budget.is_ambiguous = True
            end = end if budget.last_counts else all_lines
    fields: dict[bytes, bytes] = {}
    for match in _WANTED_FIELD.finditer(lines, 0, end):
        name, value = match[1].lower(), match[2].strip()
        most = _MAX_SUBJECT_BYTES if name == b"subject" else _MAX_FIELD_BYTES
        budget.is_exceeded |= len(value) > most
        value = value[:most]
        if name != b"subject":
            value = _COMMENTS.sub(b"", value)
        if fields.setdefault(name, value) != value and name != b"subject":
            budget.is_ambiguous = True
            if budget.last_counts:
                fields[name] = value
    return _Part(fields, lines[end:].removeprefix(b"\n"), depth)


def _displayed(part: _Part, budget: _Budget, *, open_all: bool) -> list[ShownText]:
    """The texts that are shown of a part, in the order in which they are shown."""
    budget.parts -= 1
    if budget.parts < 0:
        budget.is_exceeded = True
        return []
    field = part.fields.get(b"content-type", b"")
    kind, parameters = content_type(field, last_counts=budget.last_counts)
    if part.depth > MAX_DEPTH or not budget.can_open(kind, len(part.body)):
        budget.is_exceeded = True
        kind = "text/plain"
    if kind.startswith("multipart/"):
        budget.is_ambiguous |= content_type(field, last_counts=True)[1] != parameters
        children = _split(part, parameters.get("boundary", ""), kind, budget)
        if children:
            num_roots = _put_root_first(children, parameters.get("start", ""))
            # The last alternative is the likeliest to be shown: it must not find the budget spent.
            order = -1 if kind == "multipart/alternative" else 1
            shown = [
                _displayed(child, budget, open_all=open_all)
                for child in children[::order]
                if open_all or not child.is_left_out_of(kind, budget)
            ][::order]
            chosen = choose(shown, kind, num_roots)
            alone = choose(shown, kind, num_roots, html_alone=True)
            budget.doubts |= alone != chosen
            return alone if budget.extent == "least" else chosen
        kind = "text/plain"
    if kind in _SIGNED or kind in _MESSAGES:
        entity = signed_content(part.content) if kind in _SIGNED else part.content
        lines = _ENVELOPE.sub(b"", budget.unix_lines(entity), count=1)
        inner = _parse_part(lines, part.depth + 1, budget)
        inside = _displayed(inner, budget, open_all=open_all) if entity else []
        return _under_subject(inner, inside, budget) if kind in _MESSAGES else inside
    is_shown = open_all or part.depth == 0 or kind not in _FOR_PROGRAMS
    if kind.startswith("text/") and is_shown:
        return [_read_text(part, kind, parameters, budget)]
    return []


def _under_subject(inner: _Part, shown: list[ShownText], budget: _Budget) -> list[ShownText]:
    """The texts of a message inside the message, below its subject, as mail programs show them."""
    field = budget.take(inner.fields.get(b"subject", b""))
    if not (subject := " ".join(decode_field(field, "").split())):
        return shown
    first, *others = shown or [ShownText("text/plain", "ascii", "")]
    return [replace(first, text=f"{subject}\n\n{first.text}".rstrip()), *others]


def _put_root_first(children: list[_Part], start: str) -> int:
    """Brings the child to the front whose Content-ID a multipart/related names.

    Returns how many children may be the root: two if it was another, as not all programs look.
    """
    root_id = _identifier(start.encode("utf-8", "surrogateescape"))
    named = [
        child
        for child in children
        if root_id and _identifier(child.fields.get(b"content-id", b"")) == root_id
    ]
    if not named or named[0] is children[0]:
        return 1
    children.remove(named[0])
    children.insert(0, named[0])
    return 2


def _identifier(value: bytes) -> bytes:
    """A Content-ID without its brackets, which Thunderbird does not want in ``start``."""
    value = value.strip()
    return value[1:].partition(b">")[0] if value.startswith(b"<") else value


def _split(part: _Part, boundary: str, kind: str, budget: _Budget) -> list[_Part]:
    """The children of a multipart; none where no boundary line is to be found."""
    body = b"\n" + part.body
    delimiter = boundary.encode("utf-8", "surrogateescape")
    if delimiter and b"\n--" + delimiter not in body:
        # Against the RFC, the parts may be encoded together.
        body = b"\n" + budget.unix_lines(part.content)
    children, is_exceeded = cut_at(delimiter, body) if delimiter else ([], False)
    if not children and (delimiter := guess_boundary(body)):
        children, is_exceeded = cut_at(delimiter, body)
    budget.is_exceeded |= is_exceeded
    parts = [_parse_part(child, part.depth + 1, budget) for child in children]
    if kind == "multipart/digest":
        for child in parts:
            child.fields.setdefault(b"content-type", b"message/rfc822")
    return parts


def _read_text(part: _Part, kind: str, parameters: dict[str, str], budget: _Budget) -> ShownText:
    is_html = kind in _MARKUP
    data = budget.take(part.content)
    data = unfold(data) if kind in FOLDED else data
    declared = parameters.get("charset", "").strip().split(" ")[0]
    text, charset = decode_bytes(data, declared, is_html=is_html)
    if is_html:
        text = budget.read(_ENRICHED_PARAMETER.sub("", text) if kind != "text/html" else text)
    elif kind in INVITATION and (any(lines := shown_lines(text)) or part.depth > 0):
        text = f"{lines[0]}\n{budget.read(lines[1])}"
    elif kind in FOLDED:
        text = unescape_lines(text)
    elif parameters.get("format", "").lower() == "flowed":
        text = unflow(text, delete_space=parameters.get("delsp", "").lower() == "yes")
    return ShownText(kind, charset, tidy_blanks(text))
