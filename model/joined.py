"""Words that run together, apart again: "checkoutmychannel", "CheckOutMyChannel"."""

import re

from model.segment import segment
from model.words import is_known

# Letters alone, not in links, addresses, tags and code.
_RUN = re.compile(r"(?<![\w/@#.&=%$-])[A-Za-z]{6,}+(?![\w/@&=%$(-]|[.:]\w)")
_LETTERS = re.compile(r"[^\W\d_]+")
# Characters for each blank, as hardly any text has them; told much sooner than words.
_FEWEST_A_BLANK = 7
# What is read takes time; nothing to be read has more in such runs.
_MOST_LETTERS = 5_000
# Fewer letters a word are pieces of another language's.
_FEWEST_A_WORD = 3
# One or two such runs of two or three words may be names: "SourceForge", "goodmorning".
_FEWEST_RUNS = 3
_FEWEST_WORDS = 4
# Of a text's letters, so much stands in such runs.
_SHARE_OF_LETTERS = 0.5


def part(text: str) -> str:
    """The text with its words apart, if most of them run together.

    >>> part("Visitmy channel forfree musicvideos"), part("Look at SourceForge please")
    ('Visit my channel for free music videos', 'Look at SourceForge please')
    """
    if len(text) < _FEWEST_A_BLANK * (1 + text.count(" ") + text.count("\n")):
        return text
    found = _RUN.findall(text)
    if not 0 < sum(map(len, found)) <= _MOST_LETTERS:
        return text
    fewest = _SHARE_OF_LETTERS * sum(map(len, _LETTERS.findall(text)))
    if sum(map(len, found)) < fewest:
        return text
    parted = {run: own for run in set(found) if (own := _read(run))}
    is_long = any(len(own) >= _FEWEST_WORDS for own in parted.values())
    are_many = len(parted) >= _FEWEST_RUNS or is_long
    if not are_many or sum(len(run) for run in found if run in parted) < fewest:
        return text
    return _RUN.sub(lambda run: " ".join(parted.get(run[0], [run[0]])), text)


def _read(run: str) -> list[str] | None:
    """The words that run together, at least two; None where there are none."""
    if is_known(run):
        return None
    words = segment(run)
    are_words = len(words) > 1 and len(run) >= _FEWEST_A_WORD * len(words)
    return words if are_words and all(map(is_known, words)) else None
