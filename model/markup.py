"""HTML as markup: what does not matter for its text left out, and what its tree would cost told.

Knows how browsers split a document into tags, nothing of what they show.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache, lru_cache, partial
from html import unescape

from model.direction import END_OF_OVERRIDE, OVERRIDE_LEFT_TO_RIGHT, OVERRIDE_RIGHT_TO_LEFT

# Bounds on what trees may cost. Steps, of all documents of a message: over the elements that are
# open at each tag. Copies, of one document: of elements that tags open once more since they were
# never closed, 400 bytes each; no more than it has characters, as a message may have hundreds.
MAX_STEPS = 50_000_000
# So many are not counted one by one: as many as if all tags opened something.
_FEW_STEPS = MAX_STEPS // 10
_MAX_COPIES = 250_000

INLINE = frozenset(("b", "big", "br", "em", "font", "i", "s", "small", "span", "strong", "u"))
"""Elements that are part of a line."""

# What is opened once more in the next block, of equal ones three.
_FORMATTING = "a|b|big|code|em|font|i|nobr|s|small|strike|strong|tt|u"
_FORMATTING_TAG = re.compile(
    rf"<(?:{_FORMATTING})(?: [a-z]+=\"[^\"]*\")*+>", re.ASCII | re.IGNORECASE
)
_FORMATTING_NAMES = frozenset(_FORMATTING.split("|"))
_MOST_ALIKE = 3
_EMPTY = frozenset("area base br col embed hr img input link meta param source track wbr".split())
# Elements in which no other of these stays open, unless there is one between them that is none.
_CLOSED_BY_OTHERS = _EMPTY | frozenset(
    "html head body p li dd dt option colgroup thead tbody tfoot tr td th".split()
)

# What selectors match and what hides, shows or is itself text; the parser takes quadratic time over
# the attributes of one tag, so it gets to see no others.
_KEPT_ATTRIBUTES = frozenset(
    ("style", "class", "id", "color", "bgcolor", "background", "text", "size")
    + ("alt", "value", "type", "dir", "align", "placeholder", "hidden")
)
# The blanks of HTML; Python knows more.
_S = r" \t\n\f\r"
BLANKS = re.compile(rf"[{_S}]+")
_NAME = rf"=?[^{_S}/>=]++|="
_VALUE = rf"""\"[^\"]*+\"?|'[^']*+'?|[^{_S}>]*+"""
_ATTRIBUTES = re.compile(rf"[{_S}/]*+({_NAME})(?:[{_S}]*+=[{_S}]*+({_VALUE}))?+")
_TAG_ATTRIBUTES = rf"(?:[{_S}/]*+(?:{_NAME})(?:[{_S}]*+=[{_S}]*+(?:{_VALUE}))?+)*+"
RAW = "script|style|title|textarea|xmp|iframe|noembed|noframes"
# In so many of each other frames are looked for.
_MAX_FRAMES = 4
# Whichever of them is open, and a line.
_ENDS = "".join(f"</{name}>" for name in RAW.split("|")) + "<br>"
_MARKUP = re.compile(
    # Comments, to the end if never closed.
    r"<!--(?:-?>|.*?--!?>|.*)"
    # Whatever follows is text.
    rf"|<plaintext(?=[{_S}/>]){_TAG_ATTRIBUTES}[{_S}/]*+(?P<text>>.*)"
    # Elements that hold no markup, with their content.
    rf"|<(?P<raw>{RAW})(?=[{_S}/>])(?P<raw_attributes>{_TAG_ATTRIBUTES})"
    rf"[{_S}/]*+>(?P<content>.*?)(?:(?=</(?P=raw)[{_S}/>])|\Z)"
    # Start and end tags.
    rf"|<(?P<name>/?[a-z][^{_S}/>]*+)"
    rf"(?P<attributes>{_TAG_ATTRIBUTES})[{_S}/]*+(?P<end>>?)"
    # In a paragraph a table may stand only if there is no doctype.
    r"|<!(?P<doctype>doctype)[^>]*+>"
    # Other declarations and things that show nothing.
    r"|<[!?/][^>]*+>?",
    re.ASCII | re.IGNORECASE | re.DOTALL,
)
# What Outlook's own condition begins and ends; what holds for all others is no comment to them.
_CONDITIONAL = re.compile(r"<!--\[if\b([^\]]*+)\]>(.*)<!\[endif\]--!?>\Z", re.I | re.S)
_OFFICE = re.compile(r"\b(?:mso|vml)\b", re.I)
# Of no version at all: "!mso 9" holds for all later ones.
_NOT_OFFICE = re.compile(r"\s*+!\s*+(?:\(\s*+)?(?:mso|vml)\s*+(?:\)\s*+)?", re.I)
_OFFICE_SETTINGS = re.compile(r"<xml\b.*?(?:</xml\s*>|\Z)", re.I | re.S)
# The library passes it over, but no mail program runs scripts: all show what is in it.
# What is in a frameset none shows, but most know no frames; a summary is a block.
_RENAMED = {
    end + name: end + other
    for name, other in (("noscript", "x-noscript"), ("frameset", "x-frames"), ("summary", "div"))
    for end in ("", "/")
}
# A template is shown where it is a shadow: as an element of this name, which its end tag closes.
_SHADOW = "x-shadow"
# A sheet that comes with the message; from elsewhere mail programs fetch none unasked.
_LOCAL_SHEET = re.compile(r"[^/?#]*:", re.ASCII)
_WEB_SHEET = re.compile(rf"[{_S}\0-\x1f]*+https?:", re.ASCII | re.IGNORECASE)


@lru_cache(maxsize=1)
def simplify_markup(html: str) -> tuple[str, int]:
    """The markup without comments, scripts and the attributes that do not matter here, and how many
    steps a tree of it would cost at most; more than ``MAX_STEPS`` where it would take much memory.

    The last one is kept: mail that hides something is read with it, too, right afterwards.
    """
    # The same tags come again and again.
    simplify = partial(_simplify, simplify_tag=cache(_simplify_tag))
    markup = _MARKUP.sub(simplify, html)
    num_tags = markup.count("<")
    alike = Counter(_FORMATTING_TAG.findall(markup)).values()
    most_copies = num_tags * sum(min(number, _MOST_ALIKE) for number in alike)
    max_copies = min(_MAX_COPIES, len(html))
    if num_tags**2 <= 2 * _FEW_STEPS and most_copies <= max_copies:
        return markup, num_tags**2 // 2
    nesting = _Nesting()
    for match in _MARKUP.finditer(html):
        nesting.add(match)
    return markup, nesting.steps if nesting.copies <= max_copies else MAX_STEPS + 1


def outlook_markup(html: str) -> str:
    """What Outlook for Windows shows and others take for comments: ``<!--[if mso]>…<![endif]-->``.

    >>> outlook_markup("<p>a<!--[if gte mso 9]><b>c</b><![endif]--><!--[if !mso]>d<![endif]-->")
    '<b>c</b>'
    """
    found = []
    for match in _MARKUP.finditer(html) if "[if" in html.lower() else ():
        comment = _CONDITIONAL.match(match[0])
        if comment and _OFFICE.search(comment[1]) and not _NOT_OFFICE.fullmatch(comment[1]):
            found.append(_OFFICE_SETTINGS.sub("", comment[2]))
    return "\n".join(found)


def framed_markup(html: str) -> str:
    """What frames hold that come with the document: ``<iframe srcdoc="…">``, and in those. No
    element of it holds others, so none hides what another frame shows.

    >>> framed_markup("<p>a<iframe srcdoc='&lt;b>c'></iframe>").removesuffix(_ENDS)
    'c'
    """
    found: list[str] = []
    level = [html] if "srcdoc" in html.lower() else []
    for _ in range(_MAX_FRAMES):
        tags = (tag for document in level for tag in elements(document) if tag[0] == "iframe")
        held = (unescape(attributes_of(attributes).get("srcdoc", "")) for _, attributes, _ in tags)
        level = list(filter(None, held))
        found += level
    return "".join(flatten_markup(document) + _ENDS for document in found)


def elements(html: str) -> Iterator[tuple[str, str, str]]:
    """Each start tag's name in small letters and its attributes, as they are written, and what is
    in an element that holds no markup.

    >>> list(elements("<P ID=a>x<title>y</title>"))
    [('p', ' ID=a', ''), ('title', '', 'y')]
    """
    for match in _MARKUP.finditer(html):
        if raw := match["raw"]:
            yield raw.lower(), match["raw_attributes"], match["content"]
        elif match["end"] and match["name"][0] != "/":
            yield match["name"].lower(), match["attributes"], ""


def flatten_markup(html: str) -> str:
    """The markup without elements that hold others: each tag of these is a line break or nothing.

    >>> flatten_markup("<div>Vi<b>agra</b><p>now <img alt='!'></div>")
    '<br>Viagra<br>now <img alt="!"><br>'
    """
    return _MARKUP.sub(_flatten, html)


class _Nesting:
    """What the tree of a document costs at most, counted tag by tag.

    An end tag closes something for sure only where that was opened last, or a table with all that
    is in it. Broken markup counts for more than it costs.

    Attributes:
        steps: over open elements.
        copies: of formatting elements.
    """

    def __init__(self) -> None:
        self._opened: list[tuple[str, str]] = []  # names and tags
        self._tables: list[int] = []  # where tables lie among them, and templates
        self._formatting: Counter[str] = Counter()
        self._num_formatting = 0
        self._num_options = 0
        self._is_foreign = False
        self.steps = 0
        self.copies = 0

    def add(self, markup: re.Match[str]) -> None:
        tag = _simplify(markup)
        name = (markup["name"] or "").lower()
        self.steps += len(self._opened) + self._num_options
        if name.removeprefix("/") not in _FORMATTING_NAMES:
            self.copies += self._num_formatting
        if not name:
            # Of what holds no markup; in SVG it does.
            num_inside = max(tag.count("<") - 1, 0)
            self.steps += num_inside * (len(self._opened) + num_inside)
            self._opened += [("", "")] * num_inside
        elif name[0] == "/":
            self._close(name[1:])
        else:
            self._open(name, tag)

    def _open(self, name: str, tag: str) -> None:
        self._is_foreign |= name in ("svg", "math")
        # In a list to select from, each looks at all before it.
        self._num_options += name == "option"
        if self._is_foreign or name not in _CLOSED_BY_OTHERS:
            if name in ("table", "template"):
                self._tables.append(len(self._opened))
            self._opened.append((name, tag))
            if name in _FORMATTING_NAMES:
                self._formatting[tag] += 1
                self._num_formatting += self._formatting[tag] <= _MOST_ALIKE

    def _close(self, name: str) -> None:
        if self._opened and self._opened[-1][0] == name:
            _, tag = self._opened.pop()
            if name in ("table", "template"):
                self._tables.pop()
            if name in _FORMATTING_NAMES:
                self._num_formatting -= self._formatting[tag] <= _MOST_ALIKE
                self._formatting[tag] -= 1
        elif name == "table" and self._tables and not self._is_foreign:
            if self._opened[self._tables[-1]][0] == name:
                del self._opened[self._tables.pop() :]


def _flatten(markup: re.Match[str]) -> str:
    name = (markup["name"] or "").lower().removeprefix("/")
    if not name or name in _EMPTY or name in RAW.split("|"):
        return _simplify(markup)
    return "" if name in INLINE else "<br>"


def _simplify_tag(name: str, its_attributes: str) -> str:
    name = _RENAMED.get(name.lower(), name)
    if name.lower() == "/bdo":
        return f"{END_OF_OVERRIDE}</bdo>"
    if name.lower() == "/template":
        return f"</template></{_SHADOW}>"
    if not its_attributes and name.lower() != "bdo":
        return f"<{name}>"
    attributes = attributes_of(its_attributes)
    if name.lower() == "bdo":
        # What is shown the other way round is put so when letters are made plain (fold.py).
        is_turned = unescape(attributes.get("dir", "")).strip().lower() == "rtl"
        return f"<bdo>{OVERRIDE_RIGHT_TO_LEFT if is_turned else OVERRIDE_LEFT_TO_RIGHT}"
    if name.lower() in ("link", "meta"):
        return _sheet_of(attributes)
    if name.lower() == "template" and "shadowrootmode" in attributes:
        name = _SHADOW
    name = _shown_input(name, attributes)
    # A picture is no part of a word, but for one of a letter or two.
    if name.lower() == "img" and len(unescape(attributes.get("alt", "")).strip()) > 2:
        attributes["alt"] = f" {attributes['alt']} "
    kept = (
        f' {key}="{value.replace(chr(34), "&quot;")}"'
        for key, value in attributes.items()
        if key in _KEPT_ATTRIBUTES
    )
    return f"<{name}{''.join(kept)}>"


def _simplify(
    markup: re.Match[str], simplify_tag: Callable[[str, str], str] = _simplify_tag
) -> str:
    """The same markup without comments, scripts and the attributes that do not matter here."""
    if markup["end"]:
        tag = simplify_tag(markup["name"], markup["attributes"])
        return f" {tag}" if markup["name"].lower() == "option" else tag
    if markup["text"]:
        return f"<plaintext{markup['text']}"
    if raw := markup["raw"]:
        raw = raw.lower()
        if raw == "style" and not _is_plain_sheet(markup["raw_attributes"]):
            return f"<style class=uncertain>{markup['content']}"
        if raw == "textarea" and not markup["content"].strip():
            return f"<textarea>{attributes_of(markup['raw_attributes']).get('placeholder', '')}"
        if raw in ("textarea", "xmp"):
            return simplify_tag(raw, markup["raw_attributes"]) + markup["content"]
        return f"<style>{markup['content']}" if raw == "style" else f"<{raw}>"
    # Browsers drop a tag that the end of the document cuts off.
    return markup[0] if markup["doctype"] else ""


def _shown_input(name: str, attributes: dict[str, str]) -> str:
    """The name of the tag as which what is drawn is read; changes attributes to fit."""
    if name.lower() != "input":
        return name
    kind = attributes.get("type", "").strip().lower()
    if kind == "reset" and " " in attributes.get("value", ""):  # others say "Reset", whatever for
        attributes["type"] = "button"
    return "img" if kind == "image" and "alt" in attributes else name


def attributes_of(markup: str) -> dict[str, str]:
    """A tag's attributes by their names in small letters, names of characters in the values left.

    Of doubled ones the first, as browsers do.
    """
    attributes: dict[str, str] = {}
    for name, value in _ATTRIBUTES.findall(markup):
        value = value.strip(value[0]) if value[:1] in ("'", '"') else value
        attributes.setdefault(name.lower(), value)
    return attributes


def _is_plain_sheet(markup: str) -> bool:
    """Whether the attributes of a ``<style>`` leave no doubt that it holds."""
    attributes = attributes_of(markup)
    return (
        attributes.get("media", "all").lower() in ("all", "screen", "")
        and attributes.get("type", "text/css").lower() in ("text/css", "")
        and "title" not in attributes
    )


def _sheet_of(attributes: dict[str, str]) -> str:
    """A ``<link>`` or ``<meta>`` as the sheet that tells what it may do to colours and rules."""
    if unescape(attributes.get("name", "")).strip().lower() == "color-scheme":
        return "<style>:root{color-scheme:dark}</style>"
    is_sheet = "stylesheet" in unescape(attributes.get("rel", "")).lower()
    address = unescape(attributes.get("href", ""))
    if is_sheet and _LOCAL_SHEET.match(address) and not _WEB_SHEET.match(address):
        return "<style>@import 'cid:sheet'</style>"
    return ""
