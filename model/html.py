"""HTML to the text that a person sees: hidden elements out, then plain text.

Knows HTML and the few CSS properties that hide text, nothing of mail. Where it cannot tell whether
something is visible, or one of the large webmail services shows it, it counts as visible: text that
is read though nobody sees it may water spam down, text that is shown but not read is all of it.
"""

import re
from dataclasses import dataclass, field
from html import unescape
from typing import Literal

from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.html import DocumentNode, ElementNode, HTMLTree

from model.background import attribute_style, select
from model.css import (
    UNSURE,
    Rank,
    Rule,
    Style,
    hiding_part,
    parse_style,
    specificity,
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
from model.generated import generated_text
from model.hidden import STACKED, remove_doubtful, remove_hidden
from model.lists import MAX_MOVED, flatten_lists
from model.markup import (
    BLANKS,
    INLINE,
    MAX_STEPS,
    RAW,
    flatten_markup,
    framed_markup,
    outlook_markup,
    simplify_markup,
)

# Bounds on the work that one document can ask for. Beyond them all text counts as visible.
_MAX_STYLESHEET_CHARACTERS = 65_536
_MAX_GMAIL_CHARACTERS = 16_384
_MAX_RULES_TIMES_CHARACTERS = 20_000_000
_MAX_RULES = 2_000
_MAX_STYLED = 5_000

_STYLED = "[style],[color],[bgcolor],[background],[text]"
# Elements that are part of a line unless they are displayed otherwise.
_LINES = INLINE - {"br"} | {"a", "abbr", "code", "del", "ins", "label", "sub", "sup", "time"}
# The rules after which an element's own style comes, without and with ``!important``.
_BEFORE_OWN = (Rank.UNCERTAIN, Rank.IMPORTANT)
_ISOLATES = {"rtl": ISOLATE_RIGHT_TO_LEFT, "ltr": ISOLATE_LEFT_TO_RIGHT}
_SELECTED_NAMES = re.compile(r"[.#]([\w-]+)")
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


Extent = Literal["shown", "whole", "least"]
"""How much of a document is read: what programs show, the same with what is hidden, or what is left
where whatever may be hidden is, and what some programs alone show is not there."""


@dataclass(frozen=True)
class HTMLText:
    """What was read of a document.

    Attributes:
        text: the words.
        hides: whether some were left out.
        doubts: whether some are shown by some programs at most.
        num_steps: what it cost, of ``max_steps``.
    """

    text: str
    hides: bool
    doubts: bool = False
    num_steps: int = field(default=0, compare=False, repr=False)


def read_html(html: str, *, extent: Extent = "shown", max_steps: int = MAX_STEPS) -> HTMLText:
    """The text; words split by tags joined, blocks on lines, table cells apart.

    >>> read_html("<p>Vi<b></b>agra<span style='display:none'> dear friend</span>")
    HTMLText(text='Viagra', hides=True, doubts=False)

    What CSS puts in follows, what Outlook alone shows, and what frames hold, where they say more.

    Args:
        html: any string without lone surrogates; broken markup is read as browsers do.
        extent: how much of it.
        max_steps: what its trees may cost; where one would cost more, all text counts as visible.
    """
    shown = _laid_out(html, extent, max_steps)
    text, doubts, num_steps = shown.text, shown.doubts, shown.num_steps
    if extent == "least":
        return HTMLText(text.strip(), shown.hides, num_steps=num_steps)
    outlook = _laid_out(outlook_markup(html), extent, max_steps - num_steps)
    num_steps += outlook.num_steps
    frames = _laid_out(framed_markup(html), "whole", max_steps - num_steps)
    for more in (generated_text(html), outlook.text, frames.text):
        if not set(more.split()) <= set(text.split()):
            text += f"\n\n{more}"
            doubts = True
    hides = shown.hides or outlook.hides
    return HTMLText(text.strip(), hides, doubts, num_steps + frames.num_steps)


def _laid_out(html: str, extent: Extent, max_steps: int) -> HTMLText:
    if not html:
        return HTMLText("", hides=False)
    try:
        return _extract(html, extent, max_steps)
    except BaseException as error:
        # What the library raises where it finds a fault in itself is no Exception.
        if type(error).__name__ != "PanicException":
            raise
        return HTMLText(unescape(_TAG.sub(" ", flatten_markup(html))), hides=False)


def _extract(html: str, extent: Extent, max_steps: int = MAX_STEPS) -> HTMLText:
    markup, num_steps = simplify_markup(html)
    is_costly = num_steps > max_steps
    # Not by nothing: what stands around one might become a tag.
    markup = _EMPTY_DRAWING.sub("<b></b>", markup)
    foreign = _FOREIGN.search(html) if _FOREIGN.search(markup) else None
    is_hiding, doubts = False, foreign is not None
    tree = None if is_costly else HTMLTree.parse(markup)
    if tree is not None and tree.document is not None and (not foreign or extent == "least"):
        unsure = _unsure_sheets(tree.document)
        rules = _rules(tree.document, unsure, is_sure=extent == "least")
        doubts = bool(unsure) or any(r.rank in UNSURE or r.may_hide for r in rules or ())
        if extent != "least":
            rules = rules and [rule for rule in rules if not rule.may_hide]
        styles = _cascade(tree.document, rules, len(html))
        doubts |= remove_doubtful(tree.document, styles, if_any=extent != "least")
        is_hiding = extent != "whole" and remove_hidden(tree.document, styles)
        _tell_directions(tree, tree.document, styles)
        _tell_lines(tree, styles)
    if tree is None or tree.document is None or not flatten_lists(tree.document):
        tree = HTMLTree.parse(flatten_markup(html))
    text = extract_plain_text(tree, preserve_formatting=True, list_bullets=False, form_fields=True)
    text = carry_over_lines(text)
    if foreign and extent != "least" and _FOREIGN_RAW.search(html, foreign.end()):
        # What is markup, what a script, only a browser can tell: all that may be text is.
        text += "\n" + unescape(_TAG.sub("", html[foreign.start() :]))
    return HTMLText(text, is_hiding, doubts, 0 if is_costly else num_steps)


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
        if element.tag in STACKED and displays.get(element, "").startswith(("inline", "contents"))
    ]
    if len(joined) * len(elements) <= MAX_MOVED:
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


def _cascade(
    document: DocumentNode, rules: list[Rule] | None, characters: int
) -> dict[ElementNode, Style]:
    """What sheets and attributes set on each element; nothing if it is unclear or too much."""
    if rules is None or len(rules) > min(
        _MAX_RULES, _MAX_RULES_TIMES_CHARACTERS // (characters + 1)
    ):
        return {}
    own = select(document, _STYLED)[: _MAX_STYLED + 1]
    left = _MAX_STYLED - len(own)
    styles = {element: attribute_style(element) for element in own}
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


def _unsure_sheets(document: DocumentNode) -> set[ElementNode]:
    """Those that Gmail leaves out: in the body, and all where there is so much of them."""
    sheets = select(document, "style")
    if sum(len(sheet.text or "") for sheet in sheets) > _MAX_GMAIL_CHARACTERS:
        return {*sheets}
    return {*select(document, "style.uncertain"), *select(document, "body style")}


def _rules(document: DocumentNode, unsure: set[ElementNode], *, is_sure: bool) -> list[Rule] | None:
    """The rules of all sheets that may select something, weakest first; None if that is too much.

    Args:
        unsure: sheets that may not hold.
        is_sure: whether those count alone that are sure to hold, and of such a sheet what it hides.
    """
    sheets = select(document, "style")
    if sum(len(sheet.text or "") for sheet in sheets) > _MAX_STYLESHEET_CHARACTERS:
        return None
    rules: list[Rule] = []
    for sheet in sheets:
        found = style_rules(sheet.text or "", is_uncertain=sheet in unsure and not is_sure)
        if is_sure:
            found = [rule for rule in found if rule.rank not in UNSURE]
        rules += map(hiding_part, found) if is_sure and sheet in unsure else found
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
        if "(" in rule.selector
        or names.issuperset(map(str.lower, _SELECTED_NAMES.findall(rule.selector)))
    ]
    return sorted(used, key=lambda rule: specificity(rule.selector))


def _is_certain(rule: Rule, element: ElementNode, names: dict[ElementNode, set[str]]) -> bool:
    """Whether a rule that may hide selects an element even if capital letters count; ``names``
    keeps those that elements have."""
    if rule.rank in UNSURE or rule.may_hide:
        return True
    if element not in names:
        own = (element.getattr("id") or "", *BLANKS.split(element.getattr("class") or ""))
        names[element] = set(own)
    return names[element].issuperset(_SELECTED_NAMES.findall(rule.selector))
