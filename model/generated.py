"""Text that HTML shows though no element holds it: strings of CSS, labels, titles on display."""

import base64
import binascii
import re
from collections.abc import Iterable
from html import unescape
from urllib.parse import unquote_to_bytes

from model.charset import decode_bytes
from model.markup import BLANKS, attributes_of, elements

# Elements that are not shown unless a style says so.
_UNSHOWN = frozenset(("title", "script", "style", "noembed", "noframes"))
# Without any of these nothing is generated; the last ones may spell the others.
_SIGNS = (
    *("<style", "<link", "<opt", "list-style", "display"),
    *("\\", "&#", "&hyphen", "&dash", "&bsol"),
)
_LOOKED_AT = _UNSHOWN | {"html", "option", "optgroup"}
# A string ends with its line even where it is not closed: looked for up to the end of the sheet,
# each of many would cost all of it.
_STRING = r"\"(?:[^\"\\\n]|\\.)*+\"?|'(?:[^'\\\n]|\\.)*+'?"
_VALUE = rf"\s*+:((?:{_STRING}|\\.|[^;{{}}\"'\\])*+)"
_GENERATING = re.compile(
    rf"(?:content|list-style(?:-type)?|quotes|symbols|prefix|suffix|negative|pad|text-overflow"
    rf"|hyphenate-character|initial-value){_VALUE}",
    re.IGNORECASE | re.DOTALL,
)
# Properties of one's own, and where others name them.
_OWN_PROPERTY = re.compile(rf"(?<![\w-])(--[\w-]++){_VALUE}", re.DOTALL)
_NAMED = re.compile(r"var\(\s*+(--[\w-]++)", re.IGNORECASE)
# What addresses of pictures hold is not shown.
_PIECE = re.compile(
    rf"(?:url|image-set)\((?:{_STRING}|\\.|[^()\"'\\])*+|\\.|({_STRING})|attr\(\s*+([\w-]++)",
    re.IGNORECASE | re.DOTALL,
)
# Comments, and as a group what holds none though it looks so.
_COMMENT = re.compile(
    rf"({_STRING}|\\.|\burl\((?:\\.|[^()\"'\\])*+)|/\*.*?(?:\*/|\Z)|<!--|-->",
    re.IGNORECASE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(?:([0-9a-f]{1,6})\s?|(.))", re.IGNORECASE | re.DOTALL)
# An escaped letter, which may stand in the name of a property.
_LETTER = re.compile(r"\\(?:0{0,4}([46][1-9a-f]|[57][0-9a])\s?|([g-z]))", re.IGNORECASE)
_DISPLAYED = re.compile(r"display\s*+:(?!\s*+none)", re.IGNORECASE)
# Of selectors: attributes, whose values may hold anything, what selects less, names.
_ATTRIBUTE = re.compile(rf"\[\s*+([\w-]++)(?:{_STRING}|\\.|[^][\"'\\])*+\]", re.DOTALL)
_LESS_BEGINS = r":(?:not|has|lang|dir|nth-[a-z-]++)\("
_LESS = re.compile(rf"([\w-]?)(?:{_LESS_BEGINS}[^()]*+(?:\([^()]*+\)[^()]*+)*+\))++")
_COMBINATOR = re.compile(r"[\s>+~]+")
_NAME = re.compile(r"([.#[:]?)([\w-]++|\*)")
# No blanks of CSS, and so part of names.
_STRANGE = re.compile(r"[^\x00-\x7f\w]")
_IN_NAMES = re.compile(r"[^\w-]")
_STATEMENT = re.compile(r"((?:\\.?|[^{};\\])*+)([{};]|\Z)", re.DOTALL)
# A sheet that an address holds, and in how many of each other such are looked for.
_DATA = re.compile(
    r"\bdata:(?!image/|font/|application/(?:x-)?font)((?:[^,\"'()\\]|\\.){0,200}+),((?:[^\"'()\\]|\\.)*+)",
    re.I | re.S,
)
_CHARSET = re.compile(r"charset=([\w-]++)", re.IGNORECASE)
_MAX_LEVELS = 4
# Elements before the first other one are in the head, or in or behind what browsers add.
_IN_HEAD = frozenset(("html", "head", "meta", "link", "base", "title", "style", "script"))
_AROUND_THESE = _IN_HEAD | {"body", "p", "br", "*"}
_IN_SOMETHING = "* in"


def generated_text(html: str) -> str:
    r"""What is shown beside the elements' own text, each piece in a line of its own.

    >>> generated_text("<style>p:before{content:'\\42uy' attr(id)}</style><p id=now>")
    'Buy\nnow'
    """
    lower = html.lower()
    if not any(sign in lower for sign in _SIGNS):
        return ""
    sheets: list[str] = []
    styles: list[str] = []
    unshown: list[tuple[set[str], str, str]] = []  # names in selectors, own style, content
    found: list[str] = []
    is_in_head, is_root_named = True, False
    for tag, markup, content in elements(html):
        is_in_head = is_in_head and tag in _IN_HEAD
        if not is_in_head and tag not in _LOOKED_AT and "style" not in markup.lower():
            continue
        own = {name: unescape(value) for name, value in attributes_of(markup).items()}
        is_named = not own.keys().isdisjoint(("class", "id"))
        is_in_head = is_in_head and not is_named
        is_root_named |= is_named and tag == "html"  # wherever it stands
        style = own.get("style", "")
        sheets.append(content if tag == "style" else "")
        if tag == "link":
            sheets.append(own.get("href", ""))  # one that comes with the document, or an address
        styles.append(style)
        if tag in _UNSHOWN and content.strip():
            names = _names(tag, own) | (set() if is_in_head else {_IN_SOMETHING})
            unshown.append((names, style, content))
        elif tag in ("option", "optgroup"):
            found.append(own.get("label", ""))
    # None is part of another's selector.
    css = "\n;".join(_with_inner(map(_without_comments, filter(None, sheets))))
    displayed = _displayed(css)
    if is_root_named and _IN_SOMETHING in displayed:
        displayed.add("*")
    css = "\n;".join((css, *map(_without_comments, filter(None, styles))))
    found += [
        content
        for names, style, content in unshown
        if _DISPLAYED.search(style) or not displayed.isdisjoint(names)
    ]
    named: set[str] = set()
    for value in _values(css):
        pieces = _PIECE.findall(value)
        found.append("".join(_ESCAPE.sub(_unescape, _inside(string)) for string, _ in pieces))
        named.update(name.lower() for _, name in pieces if name)
    # Each attribute's values once: all of them for all declarations would have no bound.
    for _, markup, _ in elements(html) if named else ():
        own = attributes_of(markup)
        found += [unescape(text) for name, text in own.items() if name in named]
    return "\n".join(text for text in found if any(map(str.isalnum, text)))


def _without_comments(css: str) -> str:
    return _COMMENT.sub(lambda match: match[1] or " ", _LETTER.sub(_unescape, css))


def _with_inner(sheets: Iterable[str]) -> list[str]:
    """The sheets, and those that addresses in them hold: ``data:text/css;base64,…``."""
    found = level = list(sheets)
    for _ in range(_MAX_LEVELS):
        addresses = (address for sheet in level for address in _DATA.finditer(sheet))
        level = [_without_comments(sheet) for sheet in map(_held, addresses) if sheet]
        found = found + level
    return found


def _held(address: re.Match[str]) -> str:
    """The sheet in an address; none where it stands there as it is."""
    kind, data = (_ESCAPE.sub(_unescape, part) for part in address.groups())
    content = unquote_to_bytes(data)
    if kind.strip().lower().endswith("base64"):
        try:
            content = base64.b64decode(content + b"==")
        except binascii.Error:
            return ""
    elif "%" not in data:
        return ""
    charset = _CHARSET.search(kind)
    return decode_bytes(content, charset[1] if charset else "")[0]


def _names(tag: str, attributes: dict[str, str]) -> set[str]:
    """By what selectors find an element, as ``_selected`` has it."""
    marked = [f".{name}" for name in BLANKS.split(attributes.get("class", "").lower())]
    marked += [f"#{attributes.get('id', '').lower()}", *(f"[{name}" for name in attributes)]
    return {tag, "*"} | {name[0] + _IN_NAMES.sub("_", name[1:]) for name in marked}


def _displayed(css: str) -> set[str]:
    """Names of what is displayed, as ``_selected`` has it; rules may lie in one another."""
    found: set[str] = set()
    opened: list[str] = []
    for statement in _STATEMENT.finditer(_ATTRIBUTE.sub(r"[\1", css)):
        text, end = statement.groups()
        if end == "{":
            # In a rule, what holds under a condition holds for what the rule selects.
            is_condition = text.lstrip().startswith("@")
            opened.append(opened[-1] if is_condition and opened else text)
            continue
        if opened and _DISPLAYED.search(text):
            found.add(opened[-1])
        if end == "}" and opened:
            opened.pop()
    return set().union(*(_selected(selectors.lower()) for selectors in found))


def _selected(selectors: str) -> set[str]:
    """Of each selector one name that all elements have that it selects.

    >>> sorted(_selected("td[class, *[class, .a > b.c, .d:hover, .e *"))
    ['* in', '.d', '[class', 'b', 'td']

    Args:
        selectors: in lower case; of attributes the names alone, not closed.
    """
    selectors = _ESCAPE.sub(lambda match: _IN_NAMES.sub("_", _unescape(match)), selectors)
    selectors = _LESS.sub(lambda match: match[1] or "*", _STRANGE.sub("_", selectors))
    if "(" in selectors:
        # Any of its words may name something, but for those of what selects less.
        words = {name for _, name in _NAME.findall(selectors)}
        words |= {"*"} if re.search(_LESS_BEGINS, selectors) else set()
        return words | {mark + word for word in words for mark in ".#["}
    each = map(str.strip, selectors.split(","))
    return {_selected_by_one(selector) for selector in each if selector}


def _selected_by_one(selector: str) -> str:
    *around, last = _COMBINATOR.split(selector)
    parts: list[tuple[str, str]] = _NAME.findall(last.rpartition("|")[2])
    if names := [mark + name for mark, name in parts if mark != ":" and name != "*"]:
        # A tag stands in front; of those looked for hardly one has attributes.
        return names[0]
    # What elements of the head may be in or behind.
    first = [name for part in around for name in _NAME.findall(part)[:1]]
    may_be_any = all(mark in ("[", ":") or name in _AROUND_THESE for mark, name in first)
    return "*" if may_be_any else _IN_SOMETHING


def _values(css: str) -> list[str]:
    """What may hold text of the declarations that generate some."""
    values: list[str] = _GENERATING.findall(css)
    own: dict[str, list[str]] = {}
    if any("var(" in value.lower() for value in values):
        for name, value in _OWN_PROPERTY.findall(css):
            own.setdefault(name, []).append(value)
    for value in values:  # which become more: one may name another
        for name in _NAMED.findall(value):
            values += own.pop(name, [])
    return values


def _inside(string: str) -> str:
    """What is in a string, which may not be closed."""
    return string[1:].removesuffix(string[:1])


def _unescape(escape: re.Match[str]) -> str:
    number = int(escape[1], 16) if escape[1] else 0
    is_character = 0 < number < 0x110000 and not 0xD800 <= number < 0xE000
    return chr(number) if is_character else escape[2] or ""
