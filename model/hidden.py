"""What of a document's tree is not shown, taken out. Knows elements and their styles, no markup."""

from resiliparse.parse.html import DocumentNode, ElementNode, Node, NodeType

from model.background import BLOCKS, INDEPENDENT, ROOTS, Colors, around_all, is_solid, select
from model.css import COLOR_PROPERTIES, Style
from model.markup import INLINE
from model.visibility import (
    clips,
    hides,
    is_positioned,
    is_relative_font,
    is_tiny_font,
    is_zero_font,
    may_clip,
    may_hide,
)

STACKED = BLOCKS | frozenset(
    ("h1", "h2", "h3", "h4", "h5", "h6", "form", "blockquote", "pre", "address", "nav", "aside")
    + ("figure", "figcaption", "fieldset", "dl", "dt", "dd", "details", "ul", "ol", "li", "hgroup")
)
"""Elements that stand on lines of their own unless they are displayed otherwise."""

_ENLARGED = frozenset(("big", "h1", "h2", "h3"))


def remove_doubtful(
    document: DocumentNode, styles: dict[ElementNode, Style], *, if_any: bool = False
) -> bool:
    """Takes out what some mail programs alone show. Returns whether there is any.

    Args:
        document: whose elements.
        styles: what is set on each.
        if_any: only tells.
    """
    found = [e for e in select(document, "[hidden]") if "display" not in styles.get(e, {})]
    around_visible = around_all([e for e, s in styles.items() if s.get("visibility") == "visible"])
    open_blocks = around_all([e for e, s in styles.items() if is_positioned(s)])
    for element, style in styles.items():
        is_block = element.tag in STACKED or "display" in style
        is_clipped = is_block and element not in open_blocks and may_clip(style)
        if is_clipped or (may_hide(style) and element not in around_visible):
            found.append(element)
    for element in () if if_any else found:
        if element.parent is not None and element.tag not in ROOTS:
            element.parent.remove_child(element)
    return bool(found)


def remove_hidden(document: DocumentNode, styles: dict[ElementNode, Style]) -> bool:
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
