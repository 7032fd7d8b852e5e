"""Text in the order in which it is shown, where directional formatting turns it round.

Knows Unicode's bidirectional algorithm (UAX 9), by python-bidi, nothing of mail.
"""

import re

from bidi import get_display

# What begins text from right to left, whatever its letters: an embedding, an override, isolates.
_TURNS = re.compile("[\u202b\u202e\u2067\u2068]")
OVERRIDE_RIGHT_TO_LEFT, OVERRIDE_LEFT_TO_RIGHT, END_OF_OVERRIDE = "\u202e", "\u202d", "\u202c"
ISOLATE_RIGHT_TO_LEFT, ISOLATE_LEFT_TO_RIGHT, END_OF_ISOLATE = "\u2067", "\u2066", "\u2069"
# Lines are paragraphs of their own. The library takes time with the square of their number.
_END_OF_PARAGRAPH = re.compile("([\n\r\x1c-\x1e\x85\u2029])")
# Hebrew, Arabic and their like, with what may stand between them.
_LETTERS = "\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U00010fff\U0001e800-\U0001efff"
_LETTER = re.compile(f"[{_LETTERS}]")
_WORDS = re.compile(f"[{_LETTERS}](?:[^\\w{_LETTERS}]{{0,3}}[{_LETTERS}])*+")
_CONTROL = re.compile("[\u202a-\u202e\u2066-\u2069]")
# As deep as the algorithm goes, and how many of the innermost matter for a line of one language.
_MAX_OPENED, _CARRIED = 125, 4


def as_shown(text: str) -> str:
    """The same text, read from left to right.

    Words of scripts that run from right to left stay as they are typed, as they are read; lines
    with such words are only looked at where letters are turned by force.

    >>> as_shown("\\u202eeerf\\u202c prize").translate({0x202E: None, 0x202C: None})
    'free prize'
    """
    if not _TURNS.search(text):
        return text
    return "".join(map(_line_as_shown, _END_OF_PARAGRAPH.split(text)))


def _line_as_shown(line: str) -> str:
    if not _TURNS.search(line):
        return line
    has_such_words = _LETTER.search(line) is not None
    if has_such_words and OVERRIDE_RIGHT_TO_LEFT not in line:
        return line
    whole = line.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    shown: str = get_display(whole, base_dir="L")
    return _WORDS.sub(lambda words: words[0][::-1], shown) if has_such_words else shown


def carry_over_lines(text: str) -> str:
    """Opens on each line what was open at the end of the one before, as on a page.

    In plain text a direction ends with its line.
    """
    if not _TURNS.search(text):
        return text
    opened: list[str] = []
    lines = []
    for line in text.split("\n"):
        lines.append("".join(opened[-_CARRIED:]) + line)
        for control in _CONTROL.findall(line):
            if control == END_OF_ISOLATE:
                _close_isolate(opened)
            elif control != END_OF_OVERRIDE:
                opened += [control] if len(opened) < _MAX_OPENED else []
            elif opened and opened[-1] < ISOLATE_LEFT_TO_RIGHT:
                opened.pop()
    return "\n".join(lines)


def _close_isolate(opened: list[str]) -> None:
    isolates = [n for n, control in enumerate(opened) if control >= ISOLATE_LEFT_TO_RIGHT]
    if isolates:
        del opened[isolates[-1] :]
