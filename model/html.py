"""HTML to the text that a person sees: hidden elements out, then plain text.

Knows HTML and the few CSS properties that hide text, nothing of mail. Where it cannot tell whether
something is visible it counts as visible: text that is read though nobody sees it costs little,
text that is shown but not read is a way past the filter.
"""

import re
from html import unescape

from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.html import DocumentNode, ElementNode, HTMLTree, Node, NodeType
from resiliparse.parse.html.exception import CSSParserException

from model.colors import attribute_color, is_same_color
from model.css import (
    COLOR_PROPERTIES,
    Rank,
    Rule,
    Style,
    clips,
    has_box,
    hides,
    is_low,
    is_positioned,
    is_relative_font,
    is_tiny_font,
    is_zero_font,
    parse_style,
    specificity,
    spills,
    style_rules,
)
from model.direction import (
    END_OF_ISOLATE,
    END_OF_OVERRIDE,
    ISOLATE_LEFT_TO_RIGHT,
    ISOLATE_RIGHT_TO_LEFT,
    OVERRIDE_RIGHT_TO_LEFT,
    carry_over_lines,
)
from model.markup import INLINE, RAW, flatten_markup, outlook_markup, simplify_markup

# Bounds on the work that one document can ask for. Beyond them all text counts as visible.
_MAX_STYLESHEET_CHARACTERS = 65_536
_MAX_RULES_TIMES_CHARACTERS = 20_000_000
_MAX_RULES = 500
_MAX_STYLED = 5_000
# A text in a list is set in by two blanks for each list around it.
_MAX_LISTS = 32

_STYLED = "[style],[hidden],[color],[bgcolor],[background],[text]"
# Elements that without height show nothing; others ignore it or may be larger than told.
_BLOCKS = frozenset(("div", "p", "center", "section", "article", "header", "footer", "main"))
# Elements with colours and a size of letters of their own; tables, where no doctype is given.
_INDEPENDENT = frozenset(
    ("mark", "button", "input", "select", "option", "textarea", "dialog", "table")
)
# The background of all that is in an element with ``paint``.
_PAINT = "paint"
_ISOLATES = {"rtl": ISOLATE_RIGHT_TO_LEFT, "ltr": ISOLATE_LEFT_TO_RIGHT}
_COLUMNS = frozenset(("col", "colgroup"))
_ENLARGED = frozenset(("big", "h1", "h2", "h3"))
_BGCOLORED = _COLUMNS | {"body", "table", "thead", "tbody", "tfoot", "tr", "td", "th", "marquee"}
# Elements whose background lies behind all that is in them, and ones that are part of a line.
_SOLID = _BLOCKS | _BGCOLORED | {"html", "blockquote", "pre", "ul", "ol", "li", "h1", "h2", "h3"}

_BLANKS = re.compile(r"[ \t\n\f\r]+")
_SELECTED_NAMES = re.compile(r"[.#]([\w-]+)")
_COLOR_ATTRIBUTES = (
    ("color", frozenset(("font",)), "color"),
    ("text", frozenset(("body",)), "color"),
    ("bgcolor", _BGCOLORED, "background"),
)
# In these other rules of markup hold, and other properties of CSS.
_FOREIGN = re.compile(r"<(?:svg|math)\b", re.ASCII | re.IGNORECASE)
_FOREIGN_RAW = re.compile(rf"<(?:{RAW}|!\[CDATA\[)", re.ASCII | re.IGNORECASE)
_TAG = re.compile(r"</?[a-z][^<>]*+>", re.ASCII | re.IGNORECASE)


def html_to_text(html: str) -> str:
    """The visible text; words split by tags joined, blocks on lines, table cells apart.

    >>> html_to_text("<p>Vi<b></b>agra<span style='display:none'> dear friend</span>")
    'Viagra'

    What Outlook alone shows follows, where it says more.

    Args:
        html: any string without lone surrogates; broken markup is read as browsers do.
    """
    text = _shown_text(html)
    if outlook := outlook_markup(html):
        more = _shown_text(outlook)
        if not set(more.split()) <= set(text.split()):
            text += f"\n\n{more}"
    return text.strip()


def _shown_text(html: str) -> str:
    markup, is_costly = simplify_markup(html)
    foreign = _FOREIGN.search(html) if _FOREIGN.search(markup) else None
    tree = None if is_costly else HTMLTree.parse(markup)
    if tree is None or tree.document is None or _has_deep_lists(tree.document):
        tree = HTMLTree.parse(flatten_markup(html))
    elif foreign is None:
        styles = _cascade(tree.document, len(html))
        _remove_hidden(tree.document, styles)
        _tell_directions(tree, tree.document, styles)
    text = extract_plain_text(tree, preserve_formatting=True, list_bullets=False, form_fields=True)
    text = carry_over_lines(text)
    if foreign and _FOREIGN_RAW.search(html, foreign.end()):
        # What is markup, what a script, only a browser can tell: all that may be text is.
        text += "\n" + unescape(_TAG.sub("", html[foreign.start() :]))
    return text


def _tell_directions(
    tree: HTMLTree, document: DocumentNode, styles: dict[ElementNode, Style]
) -> None:
    """Marks what is shown from right to left by force, and what in it is not."""
    overridden = {
        element: (OVERRIDE_RIGHT_TO_LEFT, END_OF_OVERRIDE)
        for element, style in styles.items()
        if style.get("unicode-bidi") in ("bidi-override", "isolate-override")
        and style.get("direction", element.getattr("dir") or "").lower() == "rtl"
    }
    isolated = {
        element: (_ISOLATES[(element.getattr("dir") or "").lower()], END_OF_ISOLATE)
        for element in _select(document, "bdo [dir=rtl],bdo [dir=ltr]")
    }
    for element, (begin, end) in (isolated | overridden).items():
        first, nodes = element.first_child, [tree.create_text_node(mark) for mark in (begin, end)]
        if element.parent is not None and first and nodes[0] and nodes[1]:
            element.insert_before(nodes[0], first)
            element.append_child(nodes[1])


def _has_deep_lists(document: DocumentNode) -> bool:
    """Whether lists lie in one another so deep that their text would be mostly blanks."""
    lists = _select(document, "ul,ol")
    if len(lists) <= _MAX_LISTS:
        return False
    depths: dict[ElementNode, int] = {}
    for element in lists:
        path: list[ElementNode] = []
        ancestor: ElementNode | None = element
        while ancestor is not None and ancestor not in depths:
            path.append(ancestor)
            ancestor = ancestor.parent_element
        depth = depths[ancestor] if ancestor is not None else 0
        for descendant in reversed(path):
            depth += descendant.tag in ("ul", "ol")
            depths[descendant] = depth
    return max(depths.values()) > _MAX_LISTS


def _cascade(document: DocumentNode, characters: int) -> dict[ElementNode, Style]:
    """What sheets and attributes set on each element; nothing if it is unclear or too much."""
    sheets = _select(document, "style")
    if sum(len(sheet.text or "") for sheet in sheets) > _MAX_STYLESHEET_CHARACTERS:
        return {}
    rules = _rules(document, sheets)
    if len(rules) > min(_MAX_RULES, _MAX_RULES_TIMES_CHARACTERS // (characters + 1)):
        return {}
    own = _select(document, _STYLED)[: _MAX_STYLED + 1]
    left = _MAX_STYLED - len(own)
    styles = {element: _hints(element) for element in own}
    for rank in Rank:
        for rule in rules:
            if rule.rank != rank:
                continue
            elements = _select(document, rule.selector)
            left -= len(elements)
            if left < 0 or not all(_is_certain(rule, element) for element in elements):
                return {}
            for element in elements:
                styles.setdefault(element, {}).update(rule.style)
        if rank != Rank.UNCERTAIN:
            for element in own:
                styles[element].update(parse_style(element.getattr("style") or "")[rank])
    return styles if left >= 0 else {}


def _rules(document: DocumentNode, sheets: list[ElementNode]) -> list[Rule]:
    """The rules of all sheets, weakest first."""
    uncertain = {*_select(document, "style.uncertain"), *_select(document, "noscript style")}
    rules: list[Rule] = []
    for sheet in sheets:
        rules += style_rules(sheet.text or "", is_uncertain=sheet in uncertain)
    return sorted(rules, key=lambda rule: specificity(rule.selector))


def _is_certain(rule: Rule, element: ElementNode) -> bool:
    """Whether a rule that may hide selects an element even if capital letters count."""
    if rule.rank == Rank.UNCERTAIN:
        return True
    names = {element.getattr("id"), *_BLANKS.split(element.getattr("class") or "")}
    return names.issuperset(_SELECTED_NAMES.findall(rule.selector))


def _select(document: DocumentNode, selector: str) -> list[ElementNode]:
    try:
        # A list of its own: the library walks the whole tree again for each index of a node list.
        return document.query_selector_all(selector).values()
    except CSSParserException:
        return []


def _hints(element: ElementNode) -> Style:
    """What attributes other than ``style`` say, which is weaker than any rule."""
    style: Style = {}
    if element.hasattr("hidden") and "until" not in (element.getattr("hidden") or "").lower():
        style["display"] = "none"
    for attribute, tags, name in _COLOR_ATTRIBUTES:
        if element.tag in tags and (value := element.getattr(attribute)):
            style[name] = attribute_color(value)
    if element.hasattr("background"):
        style["background-image"] = "unknown"
    return style


def _remove_hidden(document: DocumentNode, styles: dict[ElementNode, Style]) -> None:
    """Takes out elements that are not displayed, and text too small or pale to be seen."""
    positioned = [element for element, style in styles.items() if is_positioned(style)]
    # What is around that need not keep within them.
    open_blocks = _around(positioned + _select(document, "dialog"))
    is_scaled = any("scale" in style for style in styles.values())
    colors = _Colors(document, styles)
    for element, style in styles.items():
        is_clipped = element.tag in _BLOCKS and element not in open_blocks and clips(style)
        if is_clipped or hides(style):
            element.decompose()
        elif is_zero_font(style) or (is_tiny_font(style) and not is_scaled):
            _blank(element, "font-size", styles)
        elif style.get("visibility") in ("hidden", "collapse"):
            _blank(element, "visibility", styles)
        elif not style.keys().isdisjoint(COLOR_PROPERTIES) and colors.are_same(element):
            _blank(element, "color", styles, colors)


def _around(elements: list[ElementNode]) -> set[ElementNode]:
    """All that these elements are in."""
    around: set[ElementNode] = set()
    for element in elements:
        ancestor = element.parent_element
        while ancestor is not None and ancestor not in around:
            around.add(ancestor)
            ancestor = ancestor.parent_element
    return around


def _blank(
    element: ElementNode,
    inherited: str,
    styles: dict[ElementNode, Style],
    colors: "_Colors | None" = None,
) -> None:
    """Empties the text below an element down to where a child sets the property anew.

    Such a child is looked at by itself, so that no text is walked over more than once for each of
    the three properties.
    """
    is_tiny = inherited == "font-size" and not is_zero_font(styles[element])
    is_line = inherited == "color" and not _is_solid(element, styles[element])
    stack: list[Node] = [element]
    while stack:
        for child in stack.pop().child_nodes.values():
            if child.type is NodeType.TEXT:
                child.value = ""
            elif isinstance(child, ElementNode):
                style = styles.get(child, {})
                is_enlarged = is_tiny and (child.tag in _ENLARGED or "font-size" in style)
                is_block = is_line and (child.tag not in INLINE or "display" in style)
                is_seen = colors is not None and not colors.are_same(child)
                if not (is_enlarged or is_block or is_seen or _sets(child, style, inherited)):
                    stack.append(child)


def _is_solid(element: ElementNode, style: Style) -> bool:
    """Whether what an element has for a background is behind blocks in it, too."""
    return "background" not in style or (element.tag in _SOLID and "display" not in style)


def _sets(element: ElementNode, style: Style, inherited: str) -> bool:
    if inherited == "visibility":
        return "visibility" in style
    if element.tag in _INDEPENDENT:
        return True
    if inherited == "color":
        # Links have a colour of their own.
        return element.tag == "a" or not style.keys().isdisjoint(COLOR_PROPERTIES)
    return element.hasattr("size") or is_zero_font(style) or not is_relative_font(style)


class _Colors:
    """The colours of text and of what lies behind it, inherited where not set."""

    def __init__(self, document: DocumentNode, styles: dict[ElementNode, Style]) -> None:
        self._styles = styles
        # Of elements, and as a third what is behind the elements in each.
        self._known: dict[ElementNode, tuple[str, str, str]] = {}
        # The background of the document, and whether anything in it has another one.
        self._page, self._is_painted = "white", False
        for root in _select(document, "html,body"):
            self._page = self.of(root)[1]
        self._known.clear()
        painted = [element for element, style in styles.items() if self._paints(style)]
        painted += _select(document, "img")
        self._is_painted = bool(painted)
        # Whether something painted may lie behind text that is not in it.
        self._is_overlaid = (
            any(e.tag in _COLUMNS and not COLOR_PROPERTIES.isdisjoint(s) for e, s in styles.items())
            or any("place" in s or is_positioned(s) for s in map(self._style, painted))
            or any(self._may_overlay(element) for element in _around(painted))
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
            style = self._style(descendant)
            if descendant.tag in _INDEPENDENT:
                text = text if text == "black" else "unknown"
            if (own := style.get("color", "inherit")) != "inherit":
                text = own
            if self._is_painted and behind != _PAINT and _strays(descendant, style):
                behind = "unknown"
            background = _background(descendant, style, behind)
            if background != _PAINT and self._spills(descendant, style, background):
                background = "unknown"
            is_passed = background == _PAINT or _is_solid(descendant, style)
            behind = background if is_passed else "unknown"
            self._known[descendant] = (text, background, behind)
        return self._known[element][:2]

    def are_same(self, element: ElementNode) -> bool:
        """Whether text directly in an element cannot be told from what is behind it."""
        return not self._is_overlaid and is_same_color(*self.of(element))

    def _style(self, element: ElementNode) -> Style:
        return self._styles.get(element, {})

    def _paints(self, style: Style) -> bool:
        own = style.get("background", "none")
        is_plain = own in ("transparent", "inherit", "none", "initial")
        is_plain = is_plain or is_same_color(own, self._page)
        return not (is_plain and style.keys().isdisjoint(("paint", "line", "background-image")))

    def _may_overlay(self, element: ElementNode) -> bool:
        """Whether what is in an element may lie over text that is not."""
        style = self._style(element)
        is_low_block = element.tag not in _BGCOLORED and is_low(style)
        return is_low_block or "place" in style or is_positioned(style)

    def _spills(self, element: ElementNode, style: Style, background: str) -> bool:
        """Whether text in an element may lie on another background than the element's."""
        if element.tag in ("html", "body") or is_same_color(background, self._page):
            return False
        is_sized = spills(style) and ("spill" in style or element.tag not in _BGCOLORED)
        return is_sized or element.tag == "caption"


def _strays(element: ElementNode, style: Style) -> bool:
    """Whether an element may lie elsewhere than in the box of the element around it."""
    is_aligned = element.tag == "table" and element.hasattr("align")
    return is_aligned or not style.keys().isdisjoint(("place", "float")) or is_positioned(style)


def _background(element: ElementNode, style: Style, behind: str) -> str:
    """The colour of an element's background, given what is behind the element."""
    if "paint" in style or behind == _PAINT:
        return _PAINT
    own = style.get("background-image", style.get("background", "none"))
    if own not in ("transparent", "inherit", "none", "initial"):
        return own if has_box(style) else "unknown"
    return "unknown" if element.tag in _INDEPENDENT and element.tag != "table" else behind
