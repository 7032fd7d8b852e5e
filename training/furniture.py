"""What pages put around a message and what says nothing about it: links, buttons, footers.

Spam and ham stand among the same lines ("View in browser", "Gift cards", "All rights reserved"),
but a small corpus has most of them on one side. So training texts of both kinds get lines drawn
from one list, as often and as many. The list is invented, as the messages of this folder are.
"""

import json
from functools import cache
from pathlib import Path

import torch

from training.invented import renamed

FURNITURE_FILE = Path(__file__).with_name("furniture.json")
# Of a text of so many words one line more at most; a page has ten.
_WORDS_A_LINE = 12
_MOST_LINES = 10


@cache
def read_furniture() -> tuple[tuple[str, str], ...]:
    """Place (top, middle or bottom) and text of each of the list."""
    places: dict[str, list[str]] = json.loads(FURNITURE_FILE.read_text(encoding="utf-8"))
    return tuple((place, renamed(text)) for place, texts in places.items() for text in texts)


def furnish(text: str) -> str:
    """The text among lines drawn from the list; draws from torch's global generator.

    Args:
        text: a message; its own lines stay whole and in order.

    Returns:
        What belongs on top before it, to the bottom behind it, and all else between its lines.
    """
    furniture = read_furniture()
    most = min(_MOST_LINES, 1 + len(text.split()) // _WORDS_A_LINE)
    # Few lines as often as many: the logarithm is uniform.
    count = int((most + 1) ** float(torch.rand(())))
    lines, top, bottom = text.split("\n"), [], []
    for _ in range(count):
        place, line = furniture[int(torch.randint(len(furniture), ()))]
        if place == "top":
            top.append(line)
        elif place == "bottom":
            bottom.append(line)
        else:
            lines.insert(int(torch.randint(len(lines) + 1, ())), line)
    return "\n".join(top + lines + bottom)
