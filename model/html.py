"""HTML to the text that a person sees: hidden elements out, then plain text.

Knows HTML and the few CSS properties that hide text, nothing of mail. Where it cannot tell whether
something is visible, or one of the large webmail services shows it, it counts as visible: text that
is read though nobody sees it may water spam down, text that is shown but not read is all of it.
"""

import re
from dataclasses import dataclass
from html import unescape

from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.html import DocumentNode, ElementNode, HTMLTree, Node, NodeType

from model.background import (
    BGCOLORED,
    BLOCKS,
    INDEPENDENT,
    ROOTS,
    Colors,
    around_all,
    is_solid,
    select,
)
from model.colors import attribute_color
from model.css import COLOR_PROPERTIES, Rank, Rule, Style, parse_style, specificity, style_rules
from model.direction import (
    END_OF_ISOLATE,
    END_OF_OVERRIDE,
    ISOLATE_LEFT_TO_RIGHT,
    ISOLATE_RIGHT_TO_LEFT,
    OVERRIDE_RIGHT_TO_LEFT,
    carry_over_lines,
)
from model.generated import generated_text
from model.markup import (
    BLANKS,
    INLINE,
    RAW,
    flatten_markup,
    framed_markup,
    outlook_markup,
    simplify_markup,
)
from model.visibility import (
    clips,
    hides,
    is_positioned,
    is_relative_font,
    is_tiny_font,
    is_zero_font,
)

# Bounds on the work that one document can ask for. Beyond them all text counts as visible.
_MAX_STYLESHEET_CHARACTERS = 65_536
_MAX_RULES_TIMES_CHARACTERS = 20_000_000
_MAX_RULES = 2_000
_MAX_STYLED = 5_000
# Elements times those whose content moves, which is walked over each time.
_MAX_MOVED = 10_000_000
# A text in a list is set in by two blanks for each list around it.
_MAX_LISTS = 12

_STYLED = "[style],[color],[bgcolor],[background],[text]"
# Elements that are part of a line unless they are displayed otherwise.
_LINES = INLINE - {"br"} | {"a", "abbr", "code", "del", "ins", "label", "sub", "sup", "time"}
# Those that stand on lines of their own unless they are displayed otherwise.
_STACKED = BLOCKS | frozenset(
    ("h1", "h2", "h3", "h4", "h5", "h6", "form", "blockquote", "pre", "address", "nav", "aside")
    + ("figure", "figcaption", "fieldset", "dl", "dt", "dd", "details", "ul", "ol", "li", "hgroup")
)
# The rules after which an element's own style comes, without and with ``!important``.
_BEFORE_OWN = (Rank.UNCERTAIN, Rank.IMPORTANT)
_ISOLATES = {"rtl": ISOLATE_RIGHT_TO_LEFT, "ltr": ISOLATE_LEFT_TO_RIGHT}
_ENLARGED = frozenset(("big", "h1", "h2", "h3"))
_SELECTED_NAMES = re.compile(r"[.#]([\w-]+)")
_COLOR_ATTRIBUTES = (
    ("color", frozenset(("font",)), "color"),
    ("text", frozenset(("body",)), "color"),
    ("bgcolor", BGCOLORED, "background"),
)
# In these other rules of markup hold, and other properties of CSS.
_FOREIGN = re.compile(r"<(?:svg|math)\b", re.ASCII | re.IGNORECASE)
# Nothing is written in these.
_SHAPE = (
    "(?:path|g|circle|rect|line|polygon|polyline|ellipse|defs|use|symbol|title|stop|mask|image"
    "|linearGradient|radialGradient|clipPath|filter|fe[a-z]+)"
)
_EMPTY_DRAWING = re.compile(
    rf"<(svg|math)\b[^<>]*+>(?:\s|</?{_SHAPE}\b[^<>]*+>)*+</\1\s*>", re.ASCII | re.IGNORECASE
)
_FOREIGN_RAW = re.compile(rf"<(?:{RAW}|!\[CDATA\[)", re.ASCII | re.IGNORECASE)
_TAG = re.compile(r"</?[a-z][^<>]*+>", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class HTMLText:
    """What was read of a document.

    Attributes:
        text: the words.
        hides: whether some were left out.
    """

    text: str
    hides: bool


def read_html(html: str, *, whole: bool = False) -> HTMLText:
    """The text; words split by tags joined, blocks on lines, table cells apart.

    >>> read_html("<p>Vi<b></b>agra<span style='display:none'> dear friend</span>")
    HTMLText(text='Viagra', hides=True)

    What CSS puts in follows, what Outlook alone shows, and what frames hold, where they say more.

    Args:
        html: any string without lone surrogates; broken markup is read as browsers do.
        whole: with what is hidden.
    """
    shown = _laid_out(html, whole=whole)
    outlook = _laid_out(outlook_markup(html), whole=whole)
    frames = _laid_out(framed_markup(html), whole=True)
    text = shown.text
    for more in (generated_text(html), outlook.text, frames.text):
        if not set(more.split()) <= set(text.split()):
            text += f"\n\n{more}"
    return HTMLText(text.strip(), shown.hides or outlook.hides)


def _laid_out(html: str, *, whole: bool) -> HTMLText:
    if not html:
        return HTMLText("", hides=False)
    try:
        return _extract(html, whole=whole)
    except BaseException as error:
        # What the library raises where it finds a fault in itself is no Exception.
        if type(error).__name__ != "PanicException":
            raise
        return HTMLText(unescape(_TAG.sub(" ", flatten_markup(html))), hides=False)


def _extract(html: str, *, whole: bool) -> HTMLText:
    markup, is_costly = simplify_markup(html)
    # Not by nothing: what stands around one might become a tag.
    markup = _EMPTY_DRAWING.sub("<b></b>", markup)
    foreign = _FOREIGN.search(html) if _FOREIGN.search(markup) else None
    is_hiding = False
    tree = None if is_costly else HTMLTree.parse(markup)
    if tree is not None and tree.document is not None and foreign is None:
        styles = _cascade(tree.document, len(html))
        is_hiding = not whole and _remove_hidden(tree.document, styles)
        _tell_directions(tree, tree.document, styles)
        _tell_lines(tree, styles)
    if tree is None or tree.document is None or not _flatten_lists(tree.document):
        tree = HTMLTree.parse(flatten_markup(html))
    text = extract_plain_text(tree, preserve_formatting=True, list_bullets=False, form_fields=True)
    text = carry_over_lines(text)
    if foreign and _FOREIGN_RAW.search(html, foreign.end()):
        # What is markup, what a script, only a browser can tell: all that may be text is.
        text += "\n" + unescape(_TAG.sub("", html[foreign.start() :]))
    return HTMLText(text, is_hiding)


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
        for element in select(document, "bdo [dir=rtl],bdo [dir=ltr]")
    }
    for element, (begin, end) in (isolated | overridden).items():
        first, nodes = element.first_child, [tree.create_text_node(mark) for mark in (begin, end)]
        if element.parent is not None and first and nodes[0] and nodes[1]:
            element.insert_before(nodes[0], first)
            element.append_child(nodes[1])


def _tell_lines(tree: HTMLTree, styles: dict[ElementNode, Style]) -> None:
    """Parts what is displayed on lines of its own, and joins what is not, whatever its tag says."""
    displays = {e: display for e, style in styles.items() if (display := style.get("display"))}
    if not displays or tree.document is None:
        return
    elements = select(tree.document, "*")
    for element in elements:
        is_block = displays.get(element) in ("block", "list-item", "flex", "grid", "table")
        if element.tag in _LINES and is_block and element.parent is not None:
            before, after = tree.create_element("br"), tree.create_element("br")
            if before and after:
                element.before(before)
                element.after(after)
    joined = [
        element
        for element in elements
        if element.tag in _STACKED and displays.get(element, "").startswith(("inline", "contents"))
    ]
    if len(joined) * len(elements) <= _MAX_MOVED:
        _join_lines(tree, joined, displays)


def _join_lines(
    tree: HTMLTree, elements: list[ElementNode], displays: dict[ElementNode, str]
) -> None:
    """Puts what these elements hold in their place, the outermost first: no text is moved twice."""
    for element in elements:
        if (parent := element.parent) is None:
            continue
        # A box in a line: of letters or words, but of buttons and columns, too.
        blanks = [tree.create_text_node(" ") for _ in range(2)]
        between = element.child_nodes.values()
        is_apart = displays[element].startswith("inline-")
        for child in (blanks[0], *between, blanks[1]) if is_apart else between:
            if child:
                parent.insert_before(child, element)
        parent.remove_child(element)


def _flatten_lists(document: DocumentNode) -> bool:
    """Takes lists that lie so deep in others that their text would be mostly blanks for none.

    Returns whether there are none left: False where that would be too much work.
    """
    lists = select(document, "ul,ol")
    if not _MAX_LISTS < len(lists) <= _MAX_STYLED:
        return len(lists) <= _MAX_LISTS
    deep = [element for element, depth in _depths(lists).items() if depth > _MAX_LISTS]
    if deep and len(deep) * len(select(document, "*")) > _MAX_MOVED:
        return False
    for element in deep:  # the outermost first, as above
        if (parent := element.parent) is not None:
            for child in element.child_nodes.values():
                if child:
                    parent.insert_before(child, element)
            parent.remove_child(element)
    return True


def _depths(lists: list[ElementNode]) -> dict[ElementNode, int]:
    """In how many lists each of a document's lists lies, with itself, in the same order."""
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
    return {element: depths[element] for element in lists}


def _cascade(document: DocumentNode, characters: int) -> dict[ElementNode, Style]:
    """What sheets and attributes set on each element; nothing if it is unclear or too much."""
    sheets = select(document, "style")
    if sum(len(sheet.text or "") for sheet in sheets) > _MAX_STYLESHEET_CHARACTERS:
        return {}
    rules = _rules(document, sheets)
    if len(rules) > min(_MAX_RULES, _MAX_RULES_TIMES_CHARACTERS // (characters + 1)):
        return {}
    own = select(document, _STYLED)[: _MAX_STYLED + 1]
    left = _MAX_STYLED - len(own)
    styles = {element: _hints(element) for element in own}
    names: dict[ElementNode, set[str]] = {}
    for rank in Rank:
        for rule in rules:
            if rule.rank != rank:
                continue
            elements = select(document, rule.selector)
            left -= len(elements)
            if left < 0 or not all(_is_certain(rule, element, names) for element in elements):
                return {}
            for element in elements:
                styles.setdefault(element, {}).update(rule.style)
        if rank in _BEFORE_OWN:
            for element in own:
                said = parse_style(element.getattr("style") or "")
                styles[element].update(said[_BEFORE_OWN.index(rank)])
    return styles if left >= 0 else {}


def _rules(document: DocumentNode, sheets: list[ElementNode]) -> list[Rule]:
    """The rules of all sheets that may select something, weakest first."""
    # Those in the body Gmail leaves out.
    uncertain = {*select(document, "style.uncertain"), *select(document, "body style")}
    rules: list[Rule] = []
    for sheet in sheets:
        rules += style_rules(sheet.text or "", is_uncertain=sheet in uncertain)
    # Newsletters bring hundreds of rules of which they use some.
    names = {
        name.lower()
        for element in (select(document, "[class],[id]") if rules else ())
        for name in (element.getattr("id"), *BLANKS.split(element.getattr("class") or ""))
        if name
    }
    used = [
        rule
        for rule in rules
        if names.issuperset(map(str.lower, _SELECTED_NAMES.findall(rule.selector)))
    ]
    return sorted(used, key=lambda rule: specificity(rule.selector))


def _is_certain(rule: Rule, element: ElementNode, names: dict[ElementNode, set[str]]) -> bool:
    """Whether a rule that may hide selects an element even if capital letters count; ``names``
    keeps those that elements have."""
    if rule.rank in (Rank.UNCERTAIN, Rank.UNCERTAIN_IMPORTANT):
        return True
    if element not in names:
        own = (element.getattr("id") or "", *BLANKS.split(element.getattr("class") or ""))
        names[element] = set(own)
    return names[element].issuperset(_SELECTED_NAMES.findall(rule.selector))


def _hints(element: ElementNode) -> Style:
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


def _remove_hidden(document: DocumentNode, styles: dict[ElementNode, Style]) -> bool:
    """Takes out elements that are not displayed, and text too small or pale to be seen.

    Returns whether there are any.
    """
    is_any = False
    positioned = [element for element, style in styles.items() if is_positioned(style)]
    # What is around that need not keep within them.
    open_blocks = around_all(positioned + select(document, "dialog"))
    is_scaled = any("scale" in style for style in styles.values())
    colors = Colors(document, styles)
    for element, style in styles.items():
        if element.tag in ROOTS:  # of which webmail makes others
            continue
        is_clipped = element.tag in BLOCKS and element not in open_blocks and clips(style)
        if is_clipped or hides(style):
            # Not decomposed: what lies in it is looked at later, in memory that others would have.
            if element.parent is not None:
                element.parent.remove_child(element)
        elif is_zero_font(style) or (is_tiny_font(style) and not is_scaled):
            _blank(element, "font-size", styles)
        elif not style.keys().isdisjoint(COLOR_PROPERTIES) and colors.are_same(element):
            _blank(element, "color", styles, colors)
        else:
            continue
        is_any = True
    return is_any


def _blank(
    element: ElementNode,
    inherited: str,
    styles: dict[ElementNode, Style],
    colors: Colors | None = None,
) -> None:
    """Empties the text below an element down to where a child sets the property anew.

    Such a child is looked at by itself, so that no text is walked over more than once for each of
    the two properties.
    """
    is_tiny = inherited == "font-size" and not is_zero_font(styles[element])
    is_line = inherited == "color" and not is_solid(element, styles[element])
    stack: list[Node] = [element]
    while stack:
        for child in stack.pop().child_nodes.values():
            if child.type is NodeType.TEXT:
                child.value = ""
            elif isinstance(child, ElementNode):
                style = styles.get(child, {})
                is_enlarged = is_tiny and (child.tag in _ENLARGED or "font-size" in style)
                is_block = is_line and (child.tag not in INLINE or "display" in style)
                may_differ = style or child.tag in ("caption", "table")
                is_seen = colors is not None and may_differ and not colors.are_same(child)
                if not (is_enlarged or is_block or is_seen or _sets(child, style, inherited)):
                    stack.append(child)


def _sets(element: ElementNode, style: Style, inherited: str) -> bool:
    if element.tag in INDEPENDENT:
        return True
    if inherited == "color":
        # Links have a colour of their own.
        return element.tag == "a" or not style.keys().isdisjoint(COLOR_PROPERTIES)
    return element.hasattr("size") or is_zero_font(style) or not is_relative_font(style)
