"""The colours of CSS that can be told from one another, and those of HTML's attributes."""

import re

_UNKNOWN = "unknown"

# With commas throughout, or without any and a slash before the opacity.
_CHANNELS = r"rgba?\(\s*+(\d{1,3})(?:\s*+(,)\s*+|\s++)(\d{1,3})(?(2)\s*+,\s*+|\s++)(\d{1,3})\s*+"
FAINT = r"(?:0+|0*\.0(?:[0-4]\d*)?|(?:0*[0-4](?:\.\d+)?|0*\.\d+)%)"
"""An opacity of less than a twentieth."""
_TRANSPARENT = re.compile(
    rf"transparent|#[0-9a-f]{{3}}0|#[0-9a-f]{{6}}00"
    rf"|{_CHANNELS}(?(2),|/)\s*+{FAINT}\s*+\)"
)
_HEX_COLOR = re.compile(r"#(?:([0-9a-f]{3})f?|([0-9a-f]{6})(?:ff)?)")
_RGB_COLOR = re.compile(rf"{_CHANNELS}(?:(?(2),|/)\s*+(?:1(?:\.0+)?|100%)\s*+)?\)")
_NAMED_COLORS = {
    "black": (0, 0, 0), "white": (255, 255, 255), "snow": (255, 250, 250),
    "ivory": (255, 255, 240), "ghostwhite": (248, 248, 255), "whitesmoke": (245, 245, 245),
    "red": (255, 0, 0), "lime": (0, 255, 0), "blue": (0, 0, 255), "yellow": (255, 255, 0),
    "aqua": (0, 255, 255), "fuchsia": (255, 0, 255), "gray": (128, 128, 128),
    "silver": (192, 192, 192), "maroon": (128, 0, 0), "green": (0, 128, 0), "navy": (0, 0, 128),
    "olive": (128, 128, 0), "purple": (128, 0, 128), "teal": (0, 128, 128),
    "azure": (240, 255, 255), "mintcream": (245, 255, 250), "honeydew": (240, 255, 240),
    "aliceblue": (240, 248, 255), "floralwhite": (255, 250, 240), "lavenderblush": (255, 240, 245),
    "seashell": (255, 245, 238), "oldlace": (253, 245, 230), "linen": (250, 240, 230),
}  # fmt: skip
# Of all else an attribute makes a colour, too: black of "#0000", yellow of "#ffff".
_ATTRIBUTE_COLOR = re.compile(r"#[0-9a-f]{3}|#?([0-9a-f]{6})")
# Colours closer than this in each channel cannot be told apart.
_SAME_COLOR = 16


def is_transparent(color: str) -> bool:
    """Whether text in this colour leaves no mark."""
    return _TRANSPARENT.fullmatch(color) is not None


def is_same_color(text: str, background: str) -> bool:
    """Whether such text cannot be told from its background; False where it is not known."""
    text_rgb, background_rgb = rgb(text), rgb(background)
    if background_rgb is None:
        return False
    if text_rgb is None:
        return is_transparent(text)
    return all(abs(a - b) < _SAME_COLOR for a, b in zip(text_rgb, background_rgb, strict=True))


def attribute_color(value: str) -> str:
    """The colour that a ``color`` or ``bgcolor`` attribute means, in CSS."""
    value = value.strip(" \t\n\f\r").lower()
    if value in _NAMED_COLORS:
        return value
    match = _ATTRIBUTE_COLOR.fullmatch(value)
    return _UNKNOWN if match is None else f"#{match[1]}" if match[1] else value


def rgb(color: str) -> tuple[int, int, int] | None:
    """Red, green, blue, 0 to 255; None for what is no plain colour known here."""
    if match := _HEX_COLOR.fullmatch(color):
        digits = match[2] or "".join(2 * digit for digit in match[1])
        return int(digits[:2], 16), int(digits[2:4], 16), int(digits[4:], 16)
    if match := _RGB_COLOR.fullmatch(color):
        red, green, blue = (min(255, int(match[n])) for n in (1, 3, 4))
        return red, green, blue
    return _NAMED_COLORS.get(color)
