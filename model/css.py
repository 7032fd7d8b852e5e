"""As much of CSS as it takes to tell whether text can be seen. Knows no HTML; never raises."""

import functools
import re
from dataclasses import dataclass

Style = dict[str, str]
"""Properties in lower case and their values."""

COLOR_PROPERTIES = frozenset(("color", "background", "background-image"))

_MAX_STYLE_CHARACTERS = 4_096

_COMMENT = re.compile(r"/\*(?:.*?\*/|.*)|<!--|-->", re.DOTALL)
_HIDING_PROPERTY = re.compile(
    r"display|visibility|opacity|font|color|background|text-|filter|blend|"
    r"height|width|overflow|position|left|top|padding|margin|transform",
    re.I,
)
_PICTURE = re.compile(r"url\(|gradient|image\(")
# With these the colour of the letters is another than ``color`` says.
_PAINT = re.compile(r"text-(?:fill|stroke|shadow)|filter|blend")
# With these a box without height, or far away, may show its text all the same.
_RESCUE = re.compile(r"min-|padding|margin|transform")
# A tag, classes, an identifier: what can be matched in one look at each element.
_SIMPLE_SELECTOR = re.compile(r"(?:\*|[a-z][a-z0-9]*+)?(?:[.#]-?[a-z_][\w-]*+)*+", re.I)
_COMBINATOR = re.compile(r"[\s>+~]+")
_ZERO = re.compile(r"[-+]?(?:0++(?:\.0*+)?|\.0++)(?:[a-z]{2,4}|%)?")
_TINY_FONT = re.compile(r"(?:0?\.\d++|1(?:\.0*+)?)(?:px|pt)")
_ZERO_FONT_SHORTHAND = re.compile(r"(?:^|\s)0(?:px|pt|em|%)?(?:/|\s)")
_FAR_AWAY = re.compile(r"-\d{4,}+(?:\.\d*+)?(?:px|pt|em|rem|%)?")
_TRANSPARENT = re.compile(r"(?:rgb|hsl)a\([^)]*[,/]\s*+0(?:\.0*+)?%?\s*+\)")
_HEX_COLOR = re.compile(r"#?(?:([0-9a-f]{3})|([0-9a-f]{6}))")
_RGB_COLOR = re.compile(
    r"rgba?\(\s*+(\d{1,3})[\s,]++(\d{1,3})[\s,]++(\d{1,3})\s*+(?:[,/][^)]*+)?\)"
)
_NAMED_COLORS = {
    "black": (0, 0, 0), "white": (255, 255, 255), "snow": (255, 250, 250),
    "ivory": (255, 255, 240), "ghostwhite": (248, 248, 255), "whitesmoke": (245, 245, 245),
    "red": (255, 0, 0), "lime": (0, 255, 0), "blue": (0, 0, 255), "yellow": (255, 255, 0),
    "aqua": (0, 255, 255), "fuchsia": (255, 0, 255), "gray": (128, 128, 128),
    "silver": (192, 192, 192), "maroon": (128, 0, 0), "green": (0, 128, 0), "navy": (0, 0, 128),
    "olive": (128, 128, 0), "purple": (128, 0, 128), "teal": (0, 128, 128),
}  # fmt: skip


@dataclass(frozen=True)
class Rule:
    """A rule of a stylesheet.

    Attributes:
        selector: a simple one.
        declarations: as they go into a ``style`` attribute.
        overrides: whether it wins over the ``style`` attribute.
    """

    selector: str
    declarations: str
    overrides: bool


def style_rules(css: str) -> list[Rule]:
    """The rules that may hide or show text, weakest first.

    Where a rule holds is only known for simple selectors outside ``@media``. Any other rule counts
    everywhere where it may hold, but only as far as it makes text visible.
    """
    pieces = re.split(r"([{}])", _COMMENT.sub(" ", css))
    opened: list[str] = []
    rules: list[Rule] = []
    for text, brace in zip(pieces[::2], pieces[1::2], strict=False):
        if brace == "{":
            opened.append(text.rpartition(";")[2].strip())
        elif opened:
            selectors = opened.pop()
            if _HIDING_PROPERTY.search(text) and not selectors.startswith("@"):
                rules += _rules(selectors, text, is_conditional=bool(opened))
    return sorted(rules, key=lambda rule: _specificity(rule.selector))


def _specificity(selector: str) -> tuple[int, int, bool]:
    return selector.count("#"), selector.count("."), selector[0].isalpha()


def _rules(selectors: str, declarations: str, *, is_conditional: bool) -> list[Rule]:
    rules = []
    for selector in selectors.split(","):
        parts = _COMBINATOR.split(selector.strip())
        last = parts[-1].partition(":")[0]
        if not last or not _SIMPLE_SELECTOR.fullmatch(last):
            continue
        if is_conditional or len(parts) > 1 or last != parts[-1]:
            rules.append(Rule(last, _showing(declarations), overrides=True))
        else:
            rules.append(Rule(last, declarations, overrides="!important" in declarations))
    return rules


def _showing(declarations: str) -> str:
    """The declarations as far as they may show text; colours become unknown ones."""
    style = parse_style(declarations)
    if hides(style) or is_zero_font(style) or style.get("visibility") in ("hidden", "collapse"):
        return ""
    shown = {name: "unknown" if name in COLOR_PROPERTIES else style[name] for name in style}
    return ";".join(f"{name}:{value}" for name, value in shown.items())


def parse_style(css: str) -> Style:
    """The declarations of a ``style`` attribute that may hide text; of doubled ones the last.

    ``font`` is put down as ``font-size``, ``background-color`` as ``background``: the later of the
    two holds. A picture in the background is ``background-image``, whatever the rest says.
    """
    return _parse(css).copy() if len(css) <= _MAX_STYLE_CHARACTERS else {}


@functools.lru_cache(maxsize=1024)
def _parse(css: str) -> Style:
    style: Style = {}
    for declaration in _COMMENT.sub("", css.lower()).split(";"):
        name, _, value = declaration.partition(":")
        name, value = name.strip(), value.replace("!important", "").strip()
        if name == "font":
            name, value = "font-size", "0" if _ZERO_FONT_SHORTHAND.search(value) else "medium"
        elif name.startswith("background"):
            name = "background-image" if _PICTURE.search(value) else "background"
        elif _PAINT.search(name):
            name, value = "color", "unknown"
        if _HIDING_PROPERTY.search(name):
            style[name] = value
    return style


def hides(style: Style) -> bool:
    """Whether nothing inside such an element is displayed, whatever its children say."""
    if style.get("display") == "none" or _is_zero(style.get("opacity")):
        return True
    if any(_RESCUE.match(name) for name in style):
        return False
    sides = ("height", "max-height", "width", "max-width")
    if style.get("overflow") == "hidden" and any(_is_zero(style.get(side)) for side in sides):
        return True
    return style.get("position") in ("absolute", "fixed") and any(
        _FAR_AWAY.fullmatch(style.get(side, "")) for side in ("left", "top")
    )


def is_zero_font(style: Style) -> bool:
    """Whether text set directly in such an element is too small to be seen."""
    size = style.get("font-size", "")
    return _is_zero(size) or bool(_TINY_FONT.fullmatch(size))


def _is_zero(value: str | None) -> bool:
    return bool(value and _ZERO.fullmatch(value))


def is_transparent(color: str) -> bool:
    """Whether text in this colour leaves no mark."""
    return color == "transparent" or bool(_TRANSPARENT.fullmatch(color))


def rgb(color: str) -> tuple[int, int, int] | None:
    """Red, green, blue, 0 to 255; None for what is no plain colour known here."""
    if match := _HEX_COLOR.fullmatch(color):
        digits = match[2] or "".join(2 * digit for digit in match[1])
        return int(digits[:2], 16), int(digits[2:4], 16), int(digits[4:], 16)
    if match := _RGB_COLOR.fullmatch(color):
        return int(match[1]), int(match[2]), int(match[3])
    return _NAMED_COLORS.get(color)
