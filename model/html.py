"""HTML to the text that a person sees: hidden elements out, then plain text.

Knows HTML and the few CSS properties that hide text, nothing of mail. Where it cannot tell whether
something is visible it counts as visible: text that is read though nobody sees it costs little,
text that is shown but not read is a way past the filter.
"""

import re

from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.html import DocumentNode, ElementNode, HTMLTree, Node, NodeType
from resiliparse.parse.html.exception import CSSParserException

from model.css import (
    COLOR_PROPERTIES,
    Style,
    hides,
    is_transparent,
    is_zero_font,
    parse_style,
    rgb,
    style_rules,
)

# Bounds on the work that one document can ask for. Beyond them all text counts as visible.
_MAX_STYLESHEET_CHARACTERS = 65_536
_MAX_RULES_TIMES_CHARACTERS = 20_000_000
_MAX_RULES = 500
_MAX_STYLED = 5_000

_STYLED = "[style],[hidden],[color],[bgcolor],[background],[text]"
# Colours closer than this in each channel cannot be told apart.
_SAME_COLOR = 16
# Elements that have a background without being told.
_PAINTED = ("mark", "button")

# What selectors match and what hides, shows or is itself text; the parser takes quadratic time over
# the attributes of one tag, so it gets to see no others.
_KEPT_ATTRIBUTES = frozenset(
    ("style", "class", "id", "hidden", "color", "bgcolor", "background", "text", "size")
    + ("alt", "value", "type")
)
_NAME = r"=?[^\s/>=]++|="
_VALUE = r"""\"[^\"]*+\"?|'[^']*+'?|[^\s>]*+"""
_ATTRIBUTES = re.compile(rf"[\s/]*+({_NAME})(?:\s*+=\s*+({_VALUE}))?+")
_TAG_ATTRIBUTES = rf"(?:[\s/]*+(?:{_NAME})(?:\s*+=\s*+(?:{_VALUE}))?+)*+"
_MARKUP = re.compile(
    # Comments, to the end if never closed.
    r"<!--(?:-?>|.*?--!?>|.*)"
    # Elements that hold no markup, with their content.
    r"|<(?P<raw>script|style|title|textarea|xmp|iframe|noembed|noframes)(?=[\s/>])"
    rf"{_TAG_ATTRIBUTES}[\s/]*+>(?P<content>.*?)(?:(?=</(?P=raw)[\s/>])|\Z)"
    # Start and end tags.
    rf"|<(?P<name>/?[a-z][^\s/>]*+)(?P<attributes>{_TAG_ATTRIBUTES})[\s/]*+(?P<end>>?)"
    # Declarations and other things that show nothing.
    r"|<[!?/][^>]*+>?",
    re.IGNORECASE | re.DOTALL,
)


def html_to_text(html: str) -> str:
    """The visible text; words split by tags joined, blocks on lines, table cells apart.

    >>> html_to_text("<p>Vi<b></b>agra<span style='display:none'> dear friend</span>")
    'Viagra'

    Args:
        html: any string without lone surrogates; broken markup is read as browsers do.
    """
    tree = HTMLTree.parse(_MARKUP.sub(_simplify, html))
    document = tree.document
    if document is not None:
        if _inline_stylesheets(document, len(html)):
            _remove_hidden(document)
    return extract_plain_text(
        tree, preserve_formatting=True, list_bullets=False, form_fields=True
    ).strip()


def _simplify(markup: re.Match[str]) -> str:
    """The same markup without comments, scripts and the attributes that do not matter here."""
    if raw := markup["raw"]:
        is_needed = raw.lower() in ("style", "textarea", "xmp")
        return f"<{raw}>{markup['content']}" if is_needed else f"<{raw}>"
    # Browsers drop a tag that the end of the document cuts off.
    if not markup["name"] or not markup["end"]:
        return ""
    if not markup["attributes"]:
        return f"<{markup['name']}>"
    kept: dict[str, str] = {}
    for name, value in _ATTRIBUTES.findall(markup["attributes"]):
        if (name := name.lower()) in _KEPT_ATTRIBUTES:
            value = value.strip(value[0]) if value[:1] in ("'", '"') else value
            kept.setdefault(name, value.replace('"', "&quot;"))
    attributes = "".join(f' {name}="{value}"' for name, value in kept.items())
    return f"<{markup['name']}{attributes}>"


def _inline_stylesheets(document: DocumentNode, characters: int) -> bool:
    """Writes the rules of ``<style>`` elements into ``style`` attributes, as the cascade does.

    Returns:
        False if the document asked for too much, so that ``style`` attributes do not say it all.
    """
    css = "\n".join(sheet.text or "" for sheet in _select(document, "style"))
    if len(css) > _MAX_STYLESHEET_CHARACTERS:
        return False
    rules = style_rules(css)
    if len(rules) > min(_MAX_RULES, _MAX_RULES_TIMES_CHARACTERS // (characters + 1)):
        return False
    rules_to_append = [rule for rule in rules if rule.overrides]
    rules_to_prepend = [rule for rule in reversed(rules) if not rule.overrides]
    left = _MAX_STYLED
    for rule in rules_to_prepend + rules_to_append:
        elements = _select(document, rule.selector)
        left -= len(elements)
        if left < 0:
            return False
        for element in elements:
            own = element.getattr("style") or ""
            pair = (own, rule.declarations) if rule.overrides else (rule.declarations, own)
            element["style"] = ";".join(pair)
    return True


def _select(document: DocumentNode, selector: str) -> list[ElementNode]:
    try:
        # A list of its own: the library walks the whole tree again for each index of a node list.
        return document.query_selector_all(selector).values()
    except CSSParserException:
        return []


def _remove_hidden(document: DocumentNode) -> None:
    """Takes out elements that are not displayed, and text too small or pale to be seen."""
    elements = _select(document, _STYLED)
    if len(elements) > _MAX_STYLED:
        return
    known_colors: dict[ElementNode, tuple[str, str]] = {}
    for element in elements:
        style = _style(element)
        if (element.hasattr("hidden") and "display" not in style) or hides(style):
            element.decompose()
        elif is_zero_font(style):
            _blank(element, "font-size")
        elif style.get("visibility") in ("hidden", "collapse"):
            _blank(element, "visibility")
        elif not style.keys().isdisjoint(COLOR_PROPERTIES) and _is_same_color(
            *_colors(element, known_colors)
        ):
            _blank(element, "color")


def _style(element: ElementNode) -> Style:
    """The element's own declarations; its older colour attributes are the weakest of them."""
    style: Style = {}
    css = ""
    for attribute in element.attrs:
        value = (element.getattr(attribute) or "").strip().lower()
        if attribute == "style":
            css = value
        elif attribute in ("color", "text") and value:
            style["color"] = value
        elif attribute == "bgcolor" and value:
            style["background"] = value
        elif attribute == "background":
            style["background-image"] = value
    return style | parse_style(css) if css else style


def _blank(element: ElementNode, inherited: str) -> None:
    """Empties the text below an element down to where a child sets the property anew."""
    stack: list[Node] = [element]
    while stack:
        for child in stack.pop().child_nodes.values():
            if child.type is NodeType.TEXT:
                child.value = ""
            elif isinstance(child, ElementNode) and not _sets(child, inherited):
                stack.append(child)


def _sets(element: ElementNode, inherited: str) -> bool:
    style = _style(element)
    if inherited == "color":
        # Links have a colour of their own.
        return element.tag == "a" or not style.keys().isdisjoint(COLOR_PROPERTIES)
    if inherited == "font-size":
        size = style.get("font-size", "")
        is_relative = size.endswith(("%", "em", "ex")) and not size.endswith("rem")
        is_relative |= size in ("", "larger", "smaller", "inherit", "unset")
        return element.hasattr("size") or not is_relative
    return inherited in style


def _is_same_color(text: str, background: str) -> bool:
    """Whether such text cannot be told from its background; False where it is not known."""
    if is_transparent(text):
        return True
    text_rgb, background_rgb = rgb(text), rgb(background)
    if text_rgb is None or background_rgb is None:
        return False
    return all(abs(a - b) < _SAME_COLOR for a, b in zip(text_rgb, background_rgb, strict=True))


def _colors(element: ElementNode, known: dict[ElementNode, tuple[str, str]]) -> tuple[str, str]:
    """The colours of text and background in CSS, inherited where not set."""
    path: list[ElementNode] = []
    ancestor: ElementNode | None = element
    while ancestor is not None and ancestor not in known:
        path.append(ancestor)
        ancestor = ancestor.parent_element
    text, background = known[ancestor] if ancestor is not None else ("black", "white")
    for descendant in reversed(path):
        style = _style(descendant)
        if (own := style.get("color", "inherit")) != "inherit":
            text = own
        own = style.get("background-image", style.get("background", "none"))
        if own not in ("transparent", "inherit", "none", "initial"):
            background = own
        elif descendant.tag in _PAINTED:
            background = "unknown"
        known[descendant] = (text, background)
    return text, background
