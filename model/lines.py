"""Blanks, lines that a format has cut, and what is shown of an invitation. Knows no mail."""

import re

# In these, a line goes on behind "\n ", and "\\" stands before commas (RFC 5545, 6350).
FOLDED = frozenset({"text/calendar", "text/vcard", "text/x-vcard", "text/directory"})

# With characters without width between them, as newsletters fill up what is shown of them in lists.
_BLANKS = re.compile(r"[^\S\n]++(?:[\u00ad\u034f\u200b-\u200f\u2060\ufeff]++[^\S\n]++)*+")
# Of these some are in each text with more than single blanks, which is told much sooner.
_ODD_BLANK = re.compile(
    "[\t\x0b-\r\x1c-\x1f\x85\xa0\u00ad\u034f\u1680\u2000-\u200f\u2028\u2029\u202f\u205f\u2060\u3000\ufeff]"
)
_BLANK_LINES = re.compile(r"\n\s*\n")
_FOLD = re.compile(rb"\r?\n[ \t]")  # even between the bytes of one character
_ESCAPED = re.compile(r"\\([nN,;\\])")
# What mail programs show of an invitation, and parameters, in which a colon may be quoted.
_SHOWN = re.compile(
    r"^(?:(x-alt-desc)|summary|description|location|url|contact|comment)"
    r"(?:;(?:[^\":\r\n]|\"[^\"\r\n]*+\")*+)?+:([^\r\n]*+)",
    re.IGNORECASE | re.MULTILINE,
)
# When a calendar reminds of it; Google's description of an event is HTML.
_ALARM = re.compile(r"^BEGIN:VALARM\b.*?(?:^END:VALARM\b|\Z)", re.I | re.M | re.S)
_MARKUP = re.compile(r"</?(?:a|b|br|i|li|ol|p|span|u|ul)(?:\s[^<>]*+)?/?>", re.IGNORECASE)


def tidy_blanks(text: str) -> str:
    """Blanks run together, lines stripped, at most one blank line in a row.

    >>> tidy_blanks(" Are\\t we  on? \\n\\n\\n\\nYes\\n")
    'Are we on?\\n\\nYes'
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "  " in text or _ODD_BLANK.search(text):
        text = _BLANKS.sub(" ", text)
    text = text.replace(" \n", "\n").replace("\n ", "\n")
    return _BLANK_LINES.sub("\n\n", text).strip()


def letters_of(text: str) -> str:
    """Letters and digits alone: two texts that have the same say the same."""
    return "".join(filter(str.isalnum, text))


def unfold(data: bytes) -> bytes:
    """Each line in one piece."""
    return _FOLD.sub(b"", data)


def shown_lines(text: str) -> tuple[str, str]:
    r"""Title, place and description of the events, and what Outlook adds: the last in HTML.

    >>> shown_lines('UID:1\nSUMMARY;LANGUAGE=en:Lunch\nX-ALT-DESC;FMTTYPE=text/html:<b>Noon')
    ('Lunch', '<b>Noon')
    """
    lines = _SHOWN.findall(_ALARM.sub("", text))
    is_html = [bool(name) or _MARKUP.search(value) is not None for name, value in lines]
    plain = "\n".join(line[1] for line, marked in zip(lines, is_html, strict=True) if not marked)
    html = "\n".join(line[1] for line, marked in zip(lines, is_html, strict=True) if marked)
    return unescape_lines(plain), unescape_lines(html)


def new_lines(text: str, known: set[str]) -> str:
    """The lines with words that are not known, those of the lines before included.

    >>> new_lines("Lunch\\nAt noon\\nnoon", {"Lunch"})
    'At noon'
    """
    own: set[str] = set()
    new = []
    for line in text.split("\n"):
        # Known are very many words, perhaps: they are looked up, not copied.
        if not own.issuperset(words := set(line.split()) - known):
            new.append(line)
            own |= words
    return "\n".join(new)


def unescape_lines(text: str) -> str:
    """Line breaks and commas as they are."""
    return _ESCAPED.sub(lambda escaped: escaped[1].replace("n", "\n").replace("N", "\n"), text)


def unflow(text: str, *, delete_space: bool) -> str:
    """Joins the soft line breaks of ``format=flowed`` (RFC 3676)."""
    pieces: list[str] = []
    is_open = False
    quotes = 0
    for line in text.replace("\r\n", "\n").split("\n"):
        depth = len(line) - len(line.lstrip(">"))
        content = line[depth:].removeprefix(" ")
        is_signature = content == "-- "
        if not (is_open and depth == quotes) or is_signature:
            pieces.append("\n" + "> " * bool(depth))
        quotes = depth
        is_open = content.endswith(" ") and not is_signature
        pieces.append(content[:-1] if is_open and delete_space else content)
    return "".join(pieces)
