"""What a style does to the text in an element: whether that can be seen, and where it lies.

Knows values of CSS, not how they are written: ``css.py`` reads them.
"""

import re
from collections.abc import Mapping

from model.colors import FAINT

ZERO = r"(?:0+(?:\.0+)?|\.0+)"
UNIT = r"(?:px|pt|pc|em|rem|ex|ch|in|cm|mm|vw|vh)"

_Style = Mapping[str, str]

_ZERO_OPACITY = re.compile(FAINT)
# As high or wide as no letter that can be read.
_SMALL_LENGTH = re.compile(rf"{ZERO}{UNIT}?|(?:[0-4]?\.\d+|[1-4])px|(?:[0-3]?\.\d+|[1-3])pt")
_ZERO_FONT = re.compile(rf"{ZERO}(?:{UNIT}|%)?")
_TINY_FONT = re.compile(r"(?:[0-2]?\.\d+|[12])px|(?:[01]?\.\d+|1)pt")
_RELATIVE_FONT = re.compile(r"(?:\d+(?:\.\d+)?|\.\d+)(?:%|em|ex)|larger|smaller|inherit|unset|")
_INVISIBLE = ("hidden", "collapse")
SIDES = ("height", "max-height", "width", "max-width")
_CLIPPING_DISPLAYS = ("block", "inline-block", "flow-root", "flex", "grid")
_BOXES = (*_CLIPPING_DISPLAYS, "inline", "inline-flex", "inline-grid", "inline-table", "list-item")


def hides(style: _Style) -> bool:
    """Whether nothing inside such an element is displayed, whatever its children say."""
    is_clear = has_box(style) and _matches(_ZERO_OPACITY, style, "opacity")
    return is_clear or style.get("display") == "none"


def has_box(style: _Style) -> bool:
    """Whether an element is a box of its own, so that what is set on it counts."""
    return style.get("display", "inline") in (*_BOXES, "table", "table-cell")


def clips(style: _Style) -> bool:
    """Whether a block shows nothing of what is in it, other than what is positioned."""
    return (
        style.get("overflow") == "hidden"
        and "room" not in style
        and style.get("display", "block") in _CLIPPING_DISPLAYS
        and any(_matches(_SMALL_LENGTH, style, side) for side in SIDES)
    )


def may_hide(style: _Style) -> bool:
    """Whether only some mail programs, if any, show what is in an element, whatever its tag."""
    is_out = style.get("away") == "box" and style.get("position", "static") != "static"
    return is_out or style.get("away") == "text" or style.get("visibility") in _INVISIBLE


def may_clip(style: _Style) -> bool:
    """Whether a block of any tag shows nothing of what is in it, in those that know all of CSS."""
    is_cut = style.get("overflow") in ("hidden", "clip")
    return is_cut and clips({**style, "overflow": "hidden"})


def is_positioned(style: _Style) -> bool:
    """Whether an element takes no room, and need not keep within the one around it."""
    return style.get("position", "static") not in ("static", "relative", "sticky")


def is_low(style: _Style) -> bool:
    """Whether what is in an element may lie over what comes after it."""
    sides = SIDES if style.get("display", "block").startswith("inline") else SIDES[:2]
    return "spill" in style or _is_sized(style, sides)


def spills(style: _Style) -> bool:
    """Whether what is in an element may lie beside its box, on what is behind that."""
    return "spill" in style or _is_sized(style, SIDES)


def _is_sized(style: _Style, sides: tuple[str, ...]) -> bool:
    is_told = any(style.get(side, "auto") not in ("auto", "none", "100%") for side in sides)
    return is_told and style.get("overflow") != "hidden"


def is_zero_font(style: _Style) -> bool:
    """Whether text set directly in such an element has no size."""
    return _matches(_ZERO_FONT, style, "font-size")


def is_tiny_font(style: _Style) -> bool:
    """Whether text set directly in such an element is too small to be read, unless magnified."""
    return _matches(_TINY_FONT, style, "font-size")


def is_relative_font(style: _Style) -> bool:
    """Whether the size of the letters is zero where that of the parent element is."""
    return _RELATIVE_FONT.fullmatch(style.get("font-size", "")) is not None


def _matches(pattern: re.Pattern[str], style: _Style, name: str) -> bool:
    return pattern.fullmatch(style.get(name, "")) is not None
