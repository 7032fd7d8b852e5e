"""HTML to the text that a person sees: hidden elements out, then plain text.

Knows HTML and the few CSS properties that hide text, nothing of mail. Where it cannot tell whether
something is visible it counts as visible: text that is read though nobody sees it costs little,
text that is shown but not read is a way past the filter.
"""

import re
from collections.abc import Callable, Iterator

from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.html import DocumentNode, ElementNode, HTMLTree, Node, NodeType
from resiliparse.parse.html.exception import CSSParserException

# Bounds on the work that one document can ask for.
_MAX_ELEMENTS = 20_000
_MAX_ANCESTORS = 32
_MAX_RULES = 200
_MAX_RULES_TIMES_CHARACTERS = 20_000_000
_MAX_STYLESHEET_CHARACTERS = 65_536

_STYLED = "[style],[hidden],[color],[bgcolor],[background],[text]"
_HIDING_PROPERTY = re.compile(
    r"display|visibility|opacity|font|color|background|height|width|overflow|indent|left|top", re.I
)
_ZERO = re.compile(r"[-+]?0*+\.?0*+(?:px|pt|em|rem|ex|ch|cm|mm|in|pc|vw|vh|%)?")
_TINY_FONT = re.compile(r"(?:0?\.\d++|1(?:\.0*+)?)(?:px|pt)")
_ZERO_FONT_SHORTHAND = re.compile(r"(?:^|\s)0(?:px|pt|em|%)?(?:/|\s)")
_RELATIVE_FONT = re.compile(r"[\d.\s]*+(?:em|ex|%)|larger|smaller|inherit|unset")
_FAR_AWAY = re.compile(r"-\d{3,}+(?:\.\d*+)?(?:px|pt|em|rem|%)?")
_HEX_COLOR = re.compile(r"#?(?:([0-9a-f]{3})|([0-9a-f]{6}))")
_RGB_COLOR = re.compile(
    r"rgba?\(\s*+(\d{1,3})[\s,]++(\d{1,3})[\s,]++(\d{1,3})\s*+(?:[,/]([^)]*+))?\)"
)
_NAMED_COLORS = {
    "black": (0, 0, 0), "white": (255, 255, 255), "snow": (255, 250, 250),
    "ivory": (255, 255, 240), "ghostwhite": (248, 248, 255), "whitesmoke": (245, 245, 245),
    "red": (255, 0, 0), "lime": (0, 255, 0), "blue": (0, 0, 255), "yellow": (255, 255, 0),
    "aqua": (0, 255, 255), "fuchsia": (255, 0, 255), "gray": (128, 128, 128),
    "silver": (192, 192, 192), "maroon": (128, 0, 0), "green": (0, 128, 0), "navy": (0, 0, 128),
    "olive": (128, 128, 0), "purple": (128, 0, 128), "teal": (0, 128, 128),
}  # fmt: skip
# Colours closer than this in each channel cannot be told apart.
_SAME_COLOR = 16

_Style = dict[str, str]
_Color = tuple[int, int, int]


def html_to_text(html: str) -> str:
    """The visible text; words split by tags joined, blocks on lines, table cells apart.

    >>> html_to_text("<p>Vi<b></b>agra<span style='display:none'> dear friend</span>")
    'Viagra'

    Args:
        html: any string without lone surrogates; broken markup is read as browsers do.
    """
    tree = HTMLTree.parse(html)
    document = tree.document
    if document is not None:
        _inline_stylesheets(document, len(html))
        _remove_hidden(document)
    return extract_plain_text(
        tree, preserve_formatting=True, list_bullets=False, form_fields=True
    ).strip()


def _inline_stylesheets(document: DocumentNode, characters: int) -> None:
    """Writes the rules of ``<style>`` elements that may hide or show text into ``style``.

    Later rules win over earlier ones and ``style`` over both, ``!important`` over all. Rules inside
    ``@media`` hold only somewhere, so they may show text but not hide it.
    """
    if document.query_selector("style") is None:
        return
    sheets = document.query_selector_all("style").values()
    css = "\n".join(sheet.text or "" for sheet in sheets)[:_MAX_STYLESHEET_CHARACTERS]
    rules = [rule for rule in _rules(css) if _HIDING_PROPERTY.search(rule[1])]
    rules = rules[: min(_MAX_RULES, _MAX_RULES_TIMES_CHARACTERS // (characters + 1))]
    overriding = [
        (selector, declarations)
        for selector, declarations, conditional in rules
        if "!important" in declarations or (conditional and not _hides(_parse(declarations)))
    ]
    plain = [rule[:2] for rule in rules if not rule[2] and rule[:2] not in overriding]
    for selector, declarations in reversed(plain):
        for element in _select(document, selector):
            element["style"] = f"{declarations};{element.getattr('style') or ''}"
    for selector, declarations in overriding:
        for element in _select(document, selector):
            element["style"] = f"{element.getattr('style') or ''};{declarations}"


def _rules(css: str) -> Iterator[tuple[str, str, bool]]:
    """Each rule's selector, declarations, and whether it stands inside an at-rule."""
    css = re.sub(r"/\*(?:.*?\*/|.*)|<!--|-->", " ", css, flags=re.DOTALL)
    pieces = re.split(r"([{}])", css)
    opened: list[str] = []
    for text, brace in zip(pieces[::2], pieces[1::2], strict=False):
        if brace == "{":
            opened.append(text.rpartition(";")[2].strip())
        elif opened:
            selector = opened.pop()
            if selector and not selector.startswith("@"):
                yield selector, text, bool(opened)


def _select(document: DocumentNode, selector: str) -> list[ElementNode]:
    try:
        return document.query_selector_all(selector).values()[:_MAX_ELEMENTS]
    except CSSParserException:
        return []


def _remove_hidden(document: DocumentNode) -> None:
    """Takes out elements that are not displayed, and text too small or pale to be seen."""
    for element in document.query_selector_all(_STYLED).values()[:_MAX_ELEMENTS]:
        style = _style(element)
        if element.hasattr("hidden") or _hides(style):
            element.decompose()
        elif _is_zero_font(style):
            _blank(element, _sets_font)
        elif style.get("visibility") in ("hidden", "collapse"):
            _blank(element, lambda child: "visibility" in _style(child))
        elif _text_looks_like_background(element, style):
            _blank(element, _sets_color)


def _style(element: ElementNode) -> _Style:
    """The element's own declarations; its colour attributes count as the weakest of them."""
    style: _Style = {}
    for attribute, name in (("color", "color"), ("text", "color"), ("bgcolor", "background-color")):
        if value := element.getattr(attribute):
            style[name] = value.strip().lower()
    if element.getattr("background"):
        style["background-image"] = "url()"
    if css := element.getattr("style"):
        style |= _parse(css)
    return style


def _parse(css: str) -> _Style:
    css = re.sub(r"/\*(?:.*?\*/|.*)", "", css.lower(), flags=re.DOTALL)
    declarations = (declaration.partition(":") for declaration in css.split(";"))
    return {
        name.strip(): value.replace("!important", "").strip() for name, _, value in declarations
    }


def _hides(style: _Style) -> bool:
    """Whether nothing inside such an element is displayed, whatever its children say."""
    if style.get("display") == "none" or _is_zero(style.get("opacity")):
        return True
    sides = ("height", "max-height", "width", "max-width")
    if style.get("overflow") == "hidden" and any(_is_zero(style.get(side)) for side in sides):
        return True
    if style.get("position") in ("absolute", "fixed") and any(
        _FAR_AWAY.fullmatch(style.get(side, "")) for side in ("left", "top")
    ):
        return True
    return bool(_FAR_AWAY.fullmatch(style.get("text-indent", "")))


def _is_zero(value: str | None) -> bool:
    return bool(value and _ZERO.fullmatch(value) and "0" in value)


def _is_zero_font(style: _Style) -> bool:
    size = style.get("font-size", "")
    if "font" in style and _ZERO_FONT_SHORTHAND.search(style["font"]):
        return not size
    return _is_zero(size) or bool(size and _TINY_FONT.fullmatch(size))


def _sets_font(element: ElementNode) -> bool:
    style = _style(element)
    size = style.get("font-size", "medium" if "font" in style else "")
    return element.hasattr("size") or bool(size and not _RELATIVE_FONT.fullmatch(size))


def _sets_color(element: ElementNode) -> bool:
    # Links have a colour of their own.
    names = ("color", "background", "background-color", "background-image")
    return element.tag == "a" or any(name in _style(element) for name in names)


def _blank(element: ElementNode, is_set_anew: Callable[[ElementNode], bool]) -> None:
    """Empties the text below an element down to where a child sets the property anew."""
    stack: list[Node] = [element]
    while stack:
        for child in stack.pop().child_nodes.values():
            if child.type is NodeType.TEXT:
                child.value = ""
            elif isinstance(child, ElementNode) and not is_set_anew(child):
                stack.append(child)


def _text_looks_like_background(element: ElementNode, style: _Style) -> bool:
    if not any(name in style for name in ("color", "background", "background-color")):
        return False
    if style.get("color") == "transparent" or re.search(
        r",\s*0(?:\.0*)?\)$", style.get("color", "")
    ):
        return True
    text, background = _colors(element)
    if text is None or background is None:
        return False
    return all(abs(a - b) < _SAME_COLOR for a, b in zip(text, background, strict=True))


def _colors(element: ElementNode) -> tuple[_Color | None, _Color | None]:
    """Colour of text and background, inherited where not set; None where it cannot be told."""
    text = background = ""
    ancestor: ElementNode | None = element
    for _ in range(_MAX_ANCESTORS):
        if ancestor is None or (text and background):
            break
        style = _style(ancestor)
        text = text or style.get("color", "").replace("inherit", "")
        image = style.get("background-image", "")
        own = style.get("background", style.get("background-color", ""))
        own = own if own not in ("transparent", "inherit", "none") else ""
        background = background or (image if image not in ("", "none") else own)
        ancestor = ancestor.parent_element
    return _rgb(text or "black"), _rgb(background or "white")


def _rgb(color: str) -> _Color | None:
    color = color.strip()
    if match := _HEX_COLOR.fullmatch(color):
        digits = match[2] or "".join(2 * digit for digit in match[1])
        return int(digits[:2], 16), int(digits[2:4], 16), int(digits[4:], 16)
    if match := _RGB_COLOR.fullmatch(color):
        return int(match[1]), int(match[2]), int(match[3])
    return _NAMED_COLORS.get(color)
