"""Which words moved a verdict: each span of words left out in turn, all variants in one batch.

Exact for the spans that it names: the influence of a span is the model's own log-odds of spam with
it minus without it, both read as a text of its own is: without its first word a sentence begins
with the next, in capitals. No gradients, no second model.
"""

import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from model.prediction import Prediction

MAX_SPANS = 48
MAX_TOKENS = 12_288

# Thai, Lao, Burmese, Khmer, kana and Han have no blanks between words: a letter with its marks is
# one here.
_BLOCKS = (
    ("\u0e00", "\u0eff"),
    ("\u1000", "\u109f"),
    ("\u1780", "\u17ff"),
    ("\u3040", "\u30ff"),
    ("\u3400", "\u9fff"),
    ("\uf900", "\ufaff"),
)
_UNSPACED = "".join(f"{first}-{last}" for first, last in _BLOCKS)
_MARKS = "".join(
    chr(code)
    for first, last in _BLOCKS
    for code in range(ord(first), ord(last) + 1)
    if unicodedata.category(chr(code)).startswith("M")
)
_WORD = re.compile(rf"(?:[{_UNSPACED}][{_MARKS}]*|[^\s{_UNSPACED}]+)\s*")
# For log(0); float32 tells probabilities down to 1e-38 from 0, but from 1 none above 1 - 6e-8.
_LEAST = 1e-30


@dataclass(frozen=True)
class Influence:
    """What a span of a text does to the verdict.

    Attributes:
        start: first character.
        end: character after the last.
        log_odds: of spam with the span minus without it; above 0 it speaks for spam.
    """

    start: int
    end: int
    log_odds: float


def cut_spans(text: str, num_tokens: int) -> list[tuple[int, int]]:
    """Spans of as few words as the cost allows, which together are all words of the text.

    Args:
        text: as the model reads it.
        num_tokens: of all windows of the text; each span costs about as many again.
    """
    words = [match.span() for match in _WORD.finditer(text)]
    most = max(1, min(MAX_SPANS, MAX_TOKENS // max(1, num_tokens)))
    words_a_span = max(1, math.ceil(len(words) / most))
    groups = [words[at : at + words_a_span] for at in range(0, len(words), words_a_span)]
    return [(group[0][0], group[-1][1]) for group in groups]


def without(text: str, spans: Sequence[tuple[int, int]]) -> list[str]:
    """The text without each of the spans in turn."""
    return [text[:start] + text[end:] for start, end in spans]


def influences(
    spans: Sequence[tuple[int, int]], whole: Prediction, left_out: Sequence[Prediction]
) -> list[Influence]:
    """The influence of each span.

    Args:
        spans: as ``cut_spans`` gave them.
        whole: the verdict on the whole text.
        left_out: those on the text without each span.
    """
    return [
        Influence(start, end, round(_log_odds(whole) - _log_odds(verdict), 4))
        for (start, end), verdict in zip(spans, left_out, strict=True)
    ]


def _log_odds(verdict: Prediction) -> float:
    spam, ham = (max(p, _LEAST) for p in (verdict.spam_probability, verdict.ham_probability))
    return math.log(spam) - math.log(ham)
