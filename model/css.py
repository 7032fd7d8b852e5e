"""As much of CSS as it takes to tell whether text can be seen. Knows no HTML; never raises.

What hides text must be certain: valid CSS that applies. All else is ``unknown``, which hides
nothing and takes the place of what may have hidden something.
"""

import functools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from enum import IntEnum

from model.visibility import SIDES, UNIT, ZERO, hides, is_zero_font, may_clip, may_hide

Style = dict[str, str]
"""Properties that matter here and their values, both in lower case.

``font`` is put down as ``font-size``, ``background-color`` as ``background``: the later of the two
holds. A picture in the background is ``background-image``, whatever the rest says. Eight keys are
no properties and stand for many: with ``paint`` the letters or what lies behind them, down to the
last child, look otherwise than their colours say; with ``room`` a box without height may have some;
with ``scale`` it may be magnified; with ``place`` it may lie over others, with ``float`` outside of
what is around it, with ``spill`` its text beside it; with ``line`` something is drawn around it;
with ``away`` it lies outside of the window: ``text`` its text, ``box`` all of it, if positioned.
"""

COLOR_PROPERTIES = frozenset(("color", "background", "background-image", "paint"))

_UNKNOWN = "unknown"
_MAX_STYLE_CHARACTERS = 4_096
_MAX_VALUE_CHARACTERS = 64

_LINE_BREAK = re.compile(r"\r\n|[\r\f]")
# In CSS none of these is a blank, and none is part of a word known here.
_STRANGE = re.compile(r"[^\t\n -~]")
_ESCAPE = re.compile(r"\\(?:([0-9a-f]{1,6})\s?|.)", re.I | re.S)
_ESCAPED = r"\\(?:[0-9a-f]{1,6}\s?|.)"
# Comments, strings, addresses, escapes: what is in them neither opens nor ends anything.
_OPAQUE = re.compile(
    r"/\*(?P<comment>.*?)(?:\*/|\Z)"
    rf"|(?P<quote>[\"'])(?:(?!(?P=quote))[^\\\n]|{_ESCAPED})*+(?P<closed>(?P=quote)|\Z)?"
    rf"|(?<![\w?-])(?P<address>url)\([ \t\n]*+(?![\"' \t\n])(?:[^)\\]|{_ESCAPED})*+\)?"
    r"|\\.?",
    re.I | re.S,
)
_TOKEN = re.compile(r"[][(){};]|[^][(){};]+")
_CLOSING = {"(": ")", "[": "]", "{": "}"}
_BEFORE_RULE = re.compile(r"\A(?:\s|<!--|-->)++")
# Mail programs fetch no sheet from the network unasked, nor one beside the message; what is fetched
# are fonts. What an escape stands for, or a scheme, may be in the message itself.
_WEB_ADDRESS = re.compile(r"(?:url\(\s*+)?[\"']?(?:(?:https?:)?//|[^:\\\n]*+\Z)", re.I)
_HARMLESS_STATEMENT = re.compile(r"@charset\b|@import\s*+(?:url\(\s*+)?\"?//", re.I)

_FOR_PRINT = re.compile(r"@media\s+(?:only\s+)?print", re.I)

# What holds in the windows of all computers, or in most programs that know it.
_FEATURE = (
    r"\(\s*+(?:min-(?:device-)?width\s*+:\s*+[1-3]?\d?\d(?:px)?"
    r"|max-(?:device-)?width\s*+:\s*+\d{4,}px)\s*+\)"
)
_QUERY = rf"(?:(?:only\s++)?(?:screen|all)|{_FEATURE})(?:\s++and\s++{_FEATURE})*+"
_HOLDS = re.compile(
    rf"@(?:(?:supports|layer)\b.*|media\b(?:.*,)?\s*+{_QUERY}\s*+(?:,.*)?)", re.I | re.S
)

# A tag, classes, an identifier: what can be matched in one look at each element.
_SIMPLE = r"(?=[*.#a-z])(?:\*|[a-z][a-z0-9]*+)?+(?:[.#]-?[a-z_][\w-]*+)*+"
_SIMPLE_SELECTOR = re.compile(_SIMPLE, re.I)
_VALID_SELECTOR = re.compile(rf"{_SIMPLE}(?:(?:\s*+[>+~]\s*+|\s++){_SIMPLE})*+", re.I)
_COMBINATOR = re.compile(r"[\s>+~]+")
# What else may select, whatever the mouse does, and not by looking at all siblings of each.
_PSEUDO = r":(?:(?:not|is|where)(?=\()|root|(?:first|last|only)-child)(?![\w-])"
_COMPOUND = rf"(?:[\w.#*-]|\[[\w~|^$*=-]+\]|{_PSEUDO}|\([\w.#*,-]*\))++"
_SELECTOR = re.compile(rf"{_COMPOUND}(?:(?:\s*+[>+]\s*+|\s++){_COMPOUND}){{0,2}}", re.I)
_WHOLE_SELECTOR = re.compile(r"(?:[^,()]|\([^()]*+\)|[()])++")
_ARGUMENTS = re.compile(r"\[[^][()]*+\]|\([^][()]*+\)")

# What makes Gmail leave out a whole attribute.
_DROPPED_BY_GMAIL = re.compile(r"rgba?\(\s*+\d+\s++\d|!\s*+(?!important)(?i:important)")
_IMPORTANT = re.compile(r"!\s*+important\Z")
_VENDOR = re.compile(r"\A-(?:webkit|moz|ms|o)-")
# Properties that may change any other, and names that cannot be read.
_ANYTHING = re.compile(r"all\Z|animation|.*\?")
_PLAIN = frozenset(
    ("display", "opacity", "font-size", "color", "overflow", "position")
    + ("height", "max-height", "width", "max-width", "unicode-bidi", "direction", "visibility")
)
_UNCLEAR = {
    "paint": re.compile(
        r"text-(?:fill|stroke|shadow|decoration|emphasis)|(?:backdrop-)?filter|.*blend|"
        r"background-clip|box-shadow|border-image|color-scheme"
    ),
    "overflow": re.compile(r"overflow-(?:x|y|block|inline)\Z"),
    "room": re.compile(r"min-|padding|(?:box-)?flex|(?:max-)?(?:block|inline)-size"),
    "scale": re.compile(r"transform|scale|zoom|(?:text-|font-)?size-adjust"),
    "place": re.compile(
        r"margin|(?:top|right|bottom|left)\Z|inset|transform|translate|rotate|offset|grid-|"
        r"box-shadow"
    ),
    "float": re.compile(r"float\Z"),
    "spill": re.compile(r"text-indent|table-layout|line-height"),
    "line": re.compile(r"border|outline"),
}
# Margins that move nothing into what is around, and lines no lower than their letters.
_PLAIN_MARGIN = re.compile(r"[^-(?]*")
_LOW_LINE = re.compile(r"0*(?:\.\d+)?(?:[a-z]+|%)?|\d(?:\.\d+)?(?:px|pt)|\d\d?(?:\.\d+)?%")
_HARMLESS = re.compile(r"text-size-adjust:(?:100%|auto|none)")
_PICTURE = re.compile(r"url\(|gradient|image|cross-fade|element\(|paint\(")
NO_BACKGROUND = ("none", "transparent", "inherit", "initial")

_ZERO_LENGTH = re.compile(rf"{ZERO}{UNIT}?")
_FAMILY = r"(?:\"(?://)?\"|(?!inherit|initial|unset|revert|default)[a-z][a-z-]*+)"
_FONT_SHORTHAND = re.compile(
    r"(?:(?:normal|bold|bolder|lighter|italic|oblique|small-caps|[1-9]00)\s++)*+"
    rf"((?:\d+(?:\.\d+)?|\.\d+)(?:{UNIT}|%)?)(?:\s*+/\s*+\d+(?:\.\d+)?(?:{UNIT}|%)?)?"
    rf"\s++{_FAMILY}(?:\s*+,\s*+{_FAMILY})*+"
)

# Values that every browser drops, so that what was said before holds.
_DROPPED = {"display": re.compile(r"\d.*"), "opacity": re.compile(r"[a-z]\w?")}
_DROPPED["font-size"] = _DROPPED["opacity"]
_EDGES = ("top", "right", "bottom", "left", "inset")
_FAR = re.compile(r"-?(?:999|\d{4,})(?:\.\d+)?(?:px|pt)|-?\d{3,}(?:em|rem)")

_ALL_UNKNOWN: Style = dict.fromkeys((*_PLAIN, *COLOR_PROPERTIES, *_UNCLEAR), _UNKNOWN)


class Rank(IntEnum):
    """The order of rules: those without ``!important`` that hold and that may hold, then those with
    it. What an element's own ``style`` says comes last of either kind, but for what may hold and
    has ``!important``."""

    NORMAL = 0
    UNCERTAIN = 1
    IMPORTANT = 2
    UNCERTAIN_IMPORTANT = 3


UNSURE = frozenset((Rank.UNCERTAIN, Rank.UNCERTAIN_IMPORTANT))


@dataclass(frozen=True)
class Rule:
    """A rule of a stylesheet.

    Attributes:
        selector: a simple one, if the rule is not ``may_hide``.
        style: what it sets.
        rank: what it wins over.
        may_hide: whether it stands for what another, which is unsure, hides where it holds.
    """

    selector: str
    style: Style
    rank: Rank
    may_hide: bool = False


@dataclass
class _Block:
    """What stands before an open brace, and the declarations after it so far."""

    prelude: str
    is_uncertain: bool
    is_in_rule: bool
    is_for_print: bool
    may_hold: bool = True
    declarations: list[str] = field(default_factory=list)


def style_rules(css: str, *, is_uncertain: bool = False) -> list[Rule]:
    """The rules of one stylesheet that may hide or show text, in their order.

    Where a rule holds is only known for simple selectors outside ``@media``. Any other rule counts
    everywhere where it may hold, but only as far as it makes text visible.

    Args:
        is_uncertain: whether the sheet as a whole may not hold.
    """
    rules: list[Rule] = []
    opened: list[_Block] = []
    is_broken = False
    for text, end in _statements(css):
        if end == "{":
            opened.append(_open(text, opened, is_uncertain=is_uncertain or is_broken))
            is_broken = False
        elif opened:
            opened[-1].declarations.append(text)
            # The end of the sheet closes whatever is open.
            for _ in range({";": 0, "}": 1}.get(end, len(opened))):
                rules += _rules(opened.pop())
        elif is_broken or not (text := _top_level(text)).startswith("@"):
            # A brace or semicolon too many becomes part of the next selector.
            is_broken = is_broken or bool(text or end)
        elif not _HARMLESS_STATEMENT.match(text):
            # What comes by @import or after @namespace may be anything.
            rules.append(Rule("*", _ALL_UNKNOWN, Rank.UNCERTAIN_IMPORTANT))
    return rules


def _open(prelude: str, opened: list[_Block], *, is_uncertain: bool) -> _Block:
    if not opened:
        prelude = _top_level(prelude)
        is_for_print = _FOR_PRINT.fullmatch(prelude) is not None
        return _Block(prelude, is_uncertain, is_in_rule=False, is_for_print=is_for_print)
    parent = opened[-1]
    parent.is_uncertain = True
    is_in_rule = parent.is_in_rule or not parent.prelude.startswith("@")
    may_hold = parent.may_hold and _HOLDS.fullmatch(parent.prelude) is not None
    return _Block(prelude.strip(), True, is_in_rule, parent.is_for_print, may_hold)


def _top_level(text: str) -> str:
    return _BEFORE_RULE.sub("", text, count=1).strip()


def specificity(selector: str) -> tuple[int, int, bool]:
    """By which of two rules the stronger is found."""
    return selector.count("#"), selector.count("."), selector[0].isalpha()


def _statements(css: str) -> Iterator[tuple[str, str]]:
    """Pieces of CSS, each with the brace or semicolon that ends it; those in brackets end none."""
    css = _STRANGE.sub("?", _LINE_BREAK.sub("\n", css))
    pieces: list[str] = []
    closing: list[str] = []
    for token in _TOKEN.findall(_OPAQUE.sub(_mask, _ESCAPE.sub(_unescape, css))):
        if closing:
            if token == closing[-1]:
                closing.pop()
            elif token in _CLOSING:
                closing.append(_CLOSING[token])
        elif token in ("(", "["):
            closing.append(_CLOSING[token])
        elif token in ("{", "}", ";"):
            yield "".join(pieces), token
            pieces = []
            continue
        pieces.append(token)
    yield "".join(pieces), ""


def _unescape(escape: re.Match[str]) -> str:
    """An escaped letter as that letter; other escapes cannot be read, but never end anything."""
    letter = chr(int(escape[1], 16) % 0x110000) if escape[1] else escape[0][1]
    return letter if letter.isascii() and letter.isalpha() else escape[0]


def _mask(opaque: re.Match[str]) -> str:
    if opaque["comment"] is not None:
        return " "
    address = "//" if _WEB_ADDRESS.match(opaque[0]) else ""
    if opaque["address"]:
        return f"url({address})"
    return f'"{address}"' if opaque["closed"] is not None else "?"


def _rules(block: _Block) -> list[Rule]:
    normal, important = _declare(block.declarations)
    if block.is_for_print or not (normal or important):
        return []
    prelude = block.prelude
    if prelude.startswith("@"):
        # Inside a rule its declarations are those of the rule; else they are a page's or a font's,
        # which may be any size.
        if not block.is_in_rule:
            return [Rule("*", {"scale": _UNKNOWN}, Rank.UNCERTAIN)] if "scale" in normal else []
        prelude = "?"
    selectors = [selector.strip() for selector in _ARGUMENTS.sub(":", prelude).split(",")]
    is_valid = all(_VALID_SELECTOR.fullmatch(selector) for selector in selectors)
    is_uncertain = block.is_uncertain or not is_valid
    rules: list[Rule] = []
    for selector in selectors:
        if not is_uncertain and _SIMPLE_SELECTOR.fullmatch(selector):
            rules.append(Rule(selector, normal, Rank.NORMAL))
            rules.append(Rule(selector, important, Rank.IMPORTANT))
        else:
            last = _COMBINATOR.split(selector)[-1].partition(":")[0]
            target = last if _SIMPLE_SELECTOR.fullmatch(last) else "*"
            rules.append(Rule(target, _uncertain(normal), Rank.UNCERTAIN))
            rules.append(Rule(target, _uncertain(important), Rank.UNCERTAIN_IMPORTANT))
    if block.may_hold:
        rules += _unsure_hiding(block.prelude, normal, important, is_uncertain=is_uncertain)
    return [rule for rule in rules if rule.style]


def _unsure_hiding(
    prelude: str, normal: Style, important: Style, *, is_uncertain: bool
) -> Iterator[Rule]:
    """What a rule hides that counts for too little above, by its selectors as they are."""
    styles = (_hiding(normal), Rank.NORMAL), (_hiding(important), Rank.IMPORTANT)
    for selector in map(str.strip, _WHOLE_SELECTOR.findall(prelude)):
        is_unsure = is_uncertain or not _SIMPLE_SELECTOR.fullmatch(selector)
        if is_unsure and _SELECTOR.fullmatch(selector):
            yield from (Rule(selector, style, rank, may_hide=True) for style, rank in styles)


def _uncertain(style: Style) -> Style:
    """What a style that may not hold is good for: nothing that hides, all else unknown."""
    return {name: _UNKNOWN for name, value in style.items() if not _is_hiding(name, value)}


def hiding_part(rule: Rule) -> Rule:
    """The rule with what hides alone."""
    return replace(rule, style=_hiding(rule.style))


def _hiding(style: Style) -> Style:
    kept = {name for name, value in style.items() if _is_hiding(name, value)}
    kept.update(("overflow", "display", *SIDES) if may_clip(style) else ())
    kept.update(("away", "position", "visibility") if may_hide(style) else ())
    return {name: value for name, value in style.items() if name in kept}


def _is_hiding(name: str, value: str) -> bool:
    style = {name: value}
    return hides(style) or is_zero_font(style) or value == "hidden"


def parse_style(css: str) -> tuple[Style, Style]:
    """What a ``style`` attribute sets without and with ``!important``; not to be changed."""
    return _parse(css) if len(css) <= _MAX_STYLE_CHARACTERS else ({}, _ALL_UNKNOWN)


@functools.lru_cache(maxsize=1024)
def _parse(css: str) -> tuple[Style, Style]:
    statements = list(_statements(css))
    # Browsers differ in where a declaration with braces ends.
    if any(end in ("{", "}") for _, end in statements):
        return {}, _ALL_UNKNOWN
    normal, important = _declare(text for text, _ in statements)
    if _DROPPED_BY_GMAIL.search(css):
        return _uncertain(normal), _uncertain(important)
    return normal, important


def _declare(declarations: Iterable[str]) -> tuple[Style, Style]:
    normal: Style = {}
    important: Style = {}
    for declaration in declarations:
        name, _, value = declaration.lower().partition(":")
        value, is_important = _IMPORTANT.subn("", value.strip())
        (important if is_important else normal).update(_effect(name.strip(), value.strip()))
    return normal, important


def _effect(name: str, value: str) -> Style:
    """What one declaration sets."""
    name, is_vendors = _VENDOR.subn("", name, count=1)
    if _ANYTHING.match(name):
        return {} if name.startswith("animation") and value == "none" else _ALL_UNKNOWN
    if not value or _HARMLESS.fullmatch(f"{name}:{value}"):
        return {}
    if _is_without_effect(name, value):
        return {}
    if is_vendors or len(value) > _MAX_VALUE_CHARACTERS:
        value = _UNKNOWN
    if name in ("overflow-x", "overflow-y") and value in ("hidden", "clip"):
        return {"overflow": "clip"}
    if name == "font":
        shorthand = _FONT_SHORTHAND.fullmatch(value)
        size = {"font-size": shorthand[1] if shorthand else "medium"}
        low = _LOW_LINE.fullmatch(value.partition("/")[2].strip().partition(" ")[0] or "normal")
        return size | ({"spill": _UNKNOWN} if low else {})
    if name.startswith("background"):
        return _background(name, value)
    if name in _PLAIN:
        return {name: value}
    style = {
        key: _UNKNOWN
        for key, pattern in _UNCLEAR.items()
        if pattern.match(name) and value != "none"
    }
    if name in (*_EDGES[:4], "text-indent") and _FAR.fullmatch(value):
        style["away"] = "text" if name == "text-indent" else "box"
    return style


def _is_without_effect(name: str, value: str) -> bool:
    """Whether a declaration that may move something leaves it where it is, or browsers drop it."""
    if name in _DROPPED:
        return _DROPPED[name].fullmatch(value) is not None
    if name.startswith("margin"):
        return _PLAIN_MARGIN.fullmatch(value) is not None
    if name == "line-height":
        return _LOW_LINE.fullmatch(value) is None
    is_length = name.startswith(("padding", "min-", "text-indent", "border", *_EDGES))
    return is_length and _ZERO_LENGTH.fullmatch(value) is not None


def _background(name: str, value: str) -> Style:
    if name in ("background-clip", "background-blend-mode"):
        return {"paint": _UNKNOWN}
    if name == "background-image":
        return {} if value in NO_BACKGROUND else {name: _UNKNOWN}
    if name not in ("background", "background-color"):
        return {}
    if _PICTURE.search(value):
        return {"background-image": _UNKNOWN}
    return {"background": _UNKNOWN if name == "background-color" and value == "none" else value}
