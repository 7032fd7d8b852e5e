"""What lies behind text in an HTML document, and so whether its colour hides it.

Where something else than what an element stands in may be behind its text, nothing is certain and
nothing hidden.
"""

from functools import cached_property

from resiliparse.parse.html import DocumentNode, ElementNode
from resiliparse.parse.html.exception import CSSParserException

from model.colors import attribute_color, is_same_color
from model.css import COLOR_PROPERTIES, NO_BACKGROUND, Style
from model.visibility import has_box, is_low, is_positioned, spills

# Elements that without height show nothing; others ignore it or may be larger than told.
BLOCKS = frozenset(("div", "p", "center", "section", "article", "header", "footer", "main"))
# Elements with colours and a size of letters of their own; tables, where no doctype is given.
INDEPENDENT = frozenset(
    ("mark", "button", "input", "select", "option", "textarea", "dialog", "table")
)
# Elements whose text or background may differ from what is around without any style.
_WITH_COLORS = INDEPENDENT | {"caption"}
# The background of all that is in an element with ``paint``.
_PAINT = "paint"
ROOTS = ("html", "body")
_COLUMNS = frozenset(("col", "colgroup"))
_BGCOLORED = _COLUMNS | {"body", "table", "thead", "tbody", "tfoot", "tr", "td", "th", "marquee"}
_COLOR_ATTRIBUTES = (
    ("color", frozenset(("font",)), "color"),
    ("text", frozenset(("body",)), "color"),
    ("bgcolor", _BGCOLORED, "background"),
)
# Elements whose background lies behind all that is in them, and ones that are part of a line.
_SOLID = BLOCKS | _BGCOLORED | {"html", "blockquote", "pre", "ul", "ol", "li", "h1", "h2", "h3"}


class Colors:
    """The colours of text and of what lies behind it, inherited where not set.

    Work in proportion to the elements that are asked for and what they are in.
    """

    def __init__(self, document: DocumentNode, styles: dict[ElementNode, Style]) -> None:
        self._document = document
        self._styles = styles
        # Of elements, and as a third what is behind the elements in each.
        self._known: dict[ElementNode, tuple[str, str, str]] = {}

    @cached_property
    def _page(self) -> str:
        """The background of the document."""
        roots = select(self._document, "html,body")
        return self.of(roots[-1])[1] if roots else "white"

    @cached_property
    def _painted(self) -> list[ElementNode]:
        """What has another background, or something drawn in it."""
        painted = [element for element, style in self._styles.items() if self._paints(style)]
        return painted + select(self._document, "img")

    @cached_property
    def _is_overlaid(self) -> bool:
        """Whether something painted may lie behind text that is not in it."""
        return (
            any(
                element.tag in _COLUMNS and not COLOR_PROPERTIES.isdisjoint(style)
                for element, style in self._styles.items()
            )
            or any("place" in s or is_positioned(s) for s in map(self._style, self._painted))
            or any(self._may_overlay(element) for element in around_all(self._painted))
        )

    def of(self, element: ElementNode) -> tuple[str, str]:
        """Of the text that stands directly in an element, and of its background."""
        path: list[ElementNode] = []
        ancestor: ElementNode | None = element
        while ancestor is not None and ancestor not in self._known:
            path.append(ancestor)
            ancestor = ancestor.parent_element
        text, _, behind = ("black", "", "white") if ancestor is None else self._known[ancestor]
        for descendant in reversed(path):
            style, tag = self._style(descendant), descendant.tag
            if not style and tag not in _WITH_COLORS:
                self._known[descendant] = (text, behind, behind)
                continue
            if tag in INDEPENDENT:
                text = text if text == "black" else "unknown"
            if (own := style.get("color", "inherit")) != "inherit":
                text = own
            if behind != _PAINT and _strays(descendant, style) and self._painted:
                behind = "unknown"
            background = _background(descendant, style, behind)
            if background != _PAINT and self._spills(tag, style, background):
                background = "unknown"
            is_passed = background == _PAINT or is_solid(descendant, style)
            behind = background if is_passed else "unknown"
            self._known[descendant] = (text, background, behind)
        return self._known[element][:2]

    def are_same(self, element: ElementNode) -> bool:
        """Whether text directly in an element cannot be told from what is behind it."""
        return is_same_color(*self.of(element)) and not self._is_overlaid

    def _style(self, element: ElementNode) -> Style:
        return self._styles.get(element, {})

    def _paints(self, style: Style) -> bool:
        own = style.get("background", "none")
        is_plain = own in NO_BACKGROUND or is_same_color(own, self._page)
        return not (is_plain and style.keys().isdisjoint(("paint", "line", "background-image")))

    def _may_overlay(self, element: ElementNode) -> bool:
        """Whether what is in an element may lie over text that is not."""
        style = self._style(element)
        is_low_block = element.tag not in _BGCOLORED and is_low(style)
        return is_low_block or "place" in style or is_positioned(style)

    def _spills(self, tag: str | None, style: Style, background: str) -> bool:
        """Whether text in an element may lie on another background than the element's."""
        if tag != "caption":
            is_sized = spills(style) and ("spill" in style or tag not in _BGCOLORED)
            if not is_sized or tag in ROOTS:
                return False
        return not is_same_color(background, self._page)


def attribute_style(element: ElementNode) -> Style:
    """What attributes other than ``style`` say, which is weaker than any rule.

    Not what ``hidden`` says: Gmail and Outlook do not heed it, nor ``visibility``.
    """
    style: Style = {}
    for attribute, tags, name in _COLOR_ATTRIBUTES:
        if element.tag in tags and (value := element.getattr(attribute)):
            style[name] = attribute_color(value)
    if element.hasattr("background"):
        style["background-image"] = "unknown"
    return style


def _strays(element: ElementNode, style: Style) -> bool:
    """Whether an element may lie elsewhere than in the box of the element around it."""
    if element.tag == "table" and element.hasattr("align"):
        return True
    is_moved = not style.keys().isdisjoint(("place", "float")) or is_positioned(style)
    return is_moved and element.tag not in ROOTS


def around_all(elements: list[ElementNode]) -> set[ElementNode]:
    """All that these elements are in."""
    around: set[ElementNode] = set()
    for element in elements:
        ancestor = element.parent_element
        while ancestor is not None and ancestor not in around:
            around.add(ancestor)
            ancestor = ancestor.parent_element
    return around


def is_solid(element: ElementNode, style: Style) -> bool:
    """Whether what an element has for a background is behind blocks in it, too."""
    return "background" not in style or (element.tag in _SOLID and "display" not in style)


def select(document: DocumentNode, selector: str) -> list[ElementNode]:
    """The elements that a selector matches; none where it is not valid."""
    try:
        # A list of its own: the library walks the whole tree again for each index of a node list.
        return document.query_selector_all(selector).values()
    except CSSParserException:
        return []


def _background(element: ElementNode, style: Style, behind: str) -> str:
    """The colour of an element's background, given what is behind the element."""
    if "paint" in style or behind == _PAINT:
        return _PAINT
    own = style.get("background-image", style.get("background", "none"))
    if own not in NO_BACKGROUND:
        return own if has_box(style) else "unknown"
    return "unknown" if element.tag in INDEPENDENT and element.tag != "table" else behind
