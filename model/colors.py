"""The colours of CSS that can be told from one another, and those of HTML's attributes."""

import colorsys
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
_PERCENT = r"\s*+(\d{1,3}(?:\.\d+)?)%\s*+"
_RGB_OF_SHARES = re.compile(rf"rgb\({_PERCENT},{_PERCENT},{_PERCENT}\)")
_HSL_COLOR = re.compile(rf"hsl\(\s*+(\d{{1,3}})(?:deg)?\s*+,{_PERCENT},{_PERCENT}\)")
_NAMED_COLORS = {
    "black": (0, 0, 0), "white": (255, 255, 255), "snow": (255, 250, 250),
    "ivory": (255, 255, 240), "ghostwhite": (248, 248, 255), "whitesmoke": (245, 245, 245),
    "red": (255, 0, 0), "lime": (0, 255, 0), "blue": (0, 0, 255), "yellow": (255, 255, 0),
    "aqua": (0, 255, 255), "fuchsia": (255, 0, 255), "gray": (128, 128, 128),
    "silver": (192, 192, 192), "maroon": (128, 0, 0), "green": (0, 128, 0), "navy": (0, 0, 128),
    "olive": (128, 128, 0), "purple": (128, 0, 128), "teal": (0, 128, 128),
    "azure": (240, 255, 255), "mintcream": (245, 255, 250), "honeydew": (240, 255, 240),
    "aliceblue": (240, 248, 255), "floralwhite": (255, 250, 240), "lavenderblush": (255, 240, 245),
    "seashell": (255, 245, 238), "lightyellow": (255, 255, 224), "lightcyan": (224, 255, 255),
    "cornsilk": (255, 248, 220), "beige": (245, 245, 220), "lavender": (230, 230, 250),
    "oldlace": (253, 245, 230), "linen": (250, 240, 230),
}  # fmt: skip
# Of all else an attribute makes a colour, too: black of "#0000", yellow of "#ffff".
_ATTRIBUTE_COLOR = re.compile(r"#[0-9a-f]{3}|#?([0-9a-f]{6})")
# Colours closer than this in each channel cannot be told apart.
_SAME_COLOR = 16
# Nor such that differ in blue alone and have less contrast, as WCAG has it: pale yellow on white.
_LEAST_CONTRAST = 1.04


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
    red, green, blue = (abs(a - b) for a, b in zip(text_rgb, background_rgb, strict=True))
    if max(red, green) >= _SAME_COLOR:
        return False
    light, dark = sorted((_luminance(text_rgb), _luminance(background_rgb)), reverse=True)
    return blue < _SAME_COLOR or (light + 0.05) / (dark + 0.05) < _LEAST_CONTRAST


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
    if match := _RGB_OF_SHARES.fullmatch(color):
        return _of_shares(*(min(1, float(match[n]) / 100) for n in (1, 2, 3)))
    if match := _HSL_COLOR.fullmatch(color):
        hue, saturation, lightness = (float(match[n]) for n in (1, 2, 3))
        saturation, lightness = min(1, saturation / 100), min(1, lightness / 100)
        return _of_shares(*colorsys.hls_to_rgb(hue / 360, lightness, saturation))
    return _NAMED_COLORS.get(color)


def _of_shares(red: float, green: float, blue: float) -> tuple[int, int, int]:
    return round(255 * red), round(255 * green), round(255 * blue)


def _luminance(color: tuple[int, int, int]) -> float:
    """How light a colour is, 0 to 1 (W3C, Web Content Accessibility Guidelines 2.1)."""
    shares = (channel / 255 for channel in color)
    red, green, blue = (s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
