"""Long texts in windows, and one verdict from theirs that good words cannot buy.

The beginning is read as the model was trained to read it. Windows of a few hundred tokens, each
token in two of them, are read besides: whatever stands before or behind, the worst passage is read
nearly alone, and a window of good words takes nothing from it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from model.classifier import EncodedText, Prediction
from model.tokenizer import encode

WINDOW_TOKENS = 256
_STRIDE = WINDOW_TOKENS // 2
# A character of four bytes makes four tokens at most.
_MAX_TOKENS_PER_CHARACTER = 4
_LOGIT_BOUND = 1e-9


@dataclass(frozen=True)
class WindowedText:
    """A text as it goes through the model.

    Attributes:
        parts: the beginning, then windows if the text is longer than one.
        truncated: whether tokens stand in none of them.
    """

    parts: list[EncodedText]
    truncated: bool


def encode_windows(text: str, max_tokens: int, max_windows: int) -> WindowedText:
    """The beginning of a text, and windows spread over all of it, first and last included.

    Args:
        text: any string.
        max_tokens: tokens of the beginning, the most that the model reads at once.
        max_windows: windows besides the beginning; bounds the cost of one text.
    """
    token_ids, _ = encode(text, max(1, _MAX_TOKENS_PER_CHARACTER * len(text)))
    beginning = EncodedText(token_ids[:max_tokens], truncated=False)
    size = min(WINDOW_TOKENS, max_tokens)
    starts = window_starts(len(token_ids), size, max_windows)
    windows = [EncodedText(token_ids[start : start + size], truncated=False) for start in starts]
    covered = len(beginning.token_ids)
    for start in starts:
        covered = max(covered, start + size) if start <= covered else covered
    return WindowedText([beginning, *windows], truncated=covered < len(token_ids))


def window_starts(num_tokens: int, size: int, max_windows: int) -> list[int]:
    """Where windows of this size begin: half a window apart, or evenly spread if that is too many.

    >>> window_starts(600, size=256, max_windows=8)
    [0, 128, 256, 344]
    """
    if num_tokens <= size or max_windows == 0:
        return []
    last = num_tokens - size
    needed = math.ceil(last / min(_STRIDE, size)) + 1
    if needed <= max_windows:
        return [min(n * _STRIDE, last) for n in range(needed)]
    if max_windows == 1:
        return [last]
    return [round(n * last / (max_windows - 1)) for n in range(max_windows)]


def join_predictions(predictions: Sequence[Prediction], *, truncated: bool) -> Prediction:
    """One verdict from those on the parts of a text, the beginning's first.

    The larger of the beginning's log-odds of spam and the mean of the two largest among the
    windows'. Further good words add windows, and these can only raise a maximum; two windows, since
    half of each lies in its neighbour, so that one odd reading alone does not condemn a text.
    """
    beginning, *windows = [_log_odds(prediction.spam_probability) for prediction in predictions]
    worst = sorted(windows)[-2:]
    joined = max([beginning] + ([sum(worst) / len(worst)] if worst else []))
    spam = 1 / (1 + math.exp(-joined))
    if len(predictions) == 1:
        spam = predictions[0].spam_probability
    num_tokens = sum(prediction.num_tokens for prediction in predictions)
    return Prediction(1 - spam, spam, num_tokens, truncated)


def _log_odds(probability: float) -> float:
    bounded = min(max(probability, _LOGIT_BOUND), 1 - _LOGIT_BOUND)
    return math.log(bounded / (1 - bounded))
