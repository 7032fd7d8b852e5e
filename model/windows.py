"""Long texts in windows, and one verdict from theirs that good words cannot buy.

A window is as long as what the model reads at once. Each token but those at the ends stands in two,
unless that takes more windows than are read of a text: then they lie further apart, in the longest
with gaps. So whatever is written before or behind, the worst passage is read whole, and what good
words can take from it is bounded. A text that the model reads at once is its own only window. A
table of n-grams reads all windows of a text together.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise

from model.fold import fold_text
from model.mail import MAX_CHARACTERS, head_and_tail
from model.prediction import EncodedText, Prediction
from model.tokenizer import encode

MAX_WINDOWS = 8
"""What the service reads of one text unless told otherwise; training measures so, too."""


@dataclass(frozen=True)
class WindowedText:
    """A text as it goes through the model.

    Attributes:
        windows: at least one.
        truncated: whether tokens stand in none of them.
    """

    windows: list[EncodedText]
    truncated: bool


def encode_windows(text: str, max_tokens: int, max_windows: int) -> WindowedText:
    """Windows spread over all of a text, its first and last tokens included.

    Args:
        text: any string; disguised letters are made plain here. Of one longer than what is read of
            a message, beginning and end are read.
        max_tokens: tokens of a window, the most that the model reads at once.
        max_windows: bounds the cost of one text; 1 reads the beginning alone.
    """
    folded = fold_text(head_and_tail(text, MAX_CHARACTERS))
    token_ids, truncated = encode(folded, max_tokens if max_windows == 1 else None)
    starts = window_starts(len(token_ids), max_tokens, max_windows)
    parts = [token_ids[start : start + max_tokens] for start in starts]
    whole = list(chain.from_iterable(parts)) if len(parts) > 1 else None
    windows = [EncodedText(part, whole) for part in parts]
    gaps = any(b - a > max_tokens for a, b in pairwise(starts))
    return WindowedText(windows, truncated or gaps or len(text) > MAX_CHARACTERS)


def window_starts(num_tokens: int, size: int, max_windows: int) -> list[int]:
    """Where windows of this size begin: half a window apart, or evenly spread if that is too many.

    >>> window_starts(600, size=256, max_windows=8)
    [0, 128, 256, 344]
    """
    last = num_tokens - size
    if last <= 0 or max_windows == 1:
        return [0]
    stride = max(1, size // 2)
    needed = math.ceil(last / stride) + 1
    if needed <= max_windows:
        return [min(n * stride, last) for n in range(needed)]
    return [round(n * last / (max_windows - 1)) for n in range(max_windows)]


def join_predictions(predictions: Sequence[Prediction], *, truncated: bool) -> Prediction:
    """The verdict on a text from those on its windows: the worst, less what so many looks explain.

    Any one of n windows may look like spam by chance, so the odds of the worst are divided by n, as
    Bonferroni's correction has it. Further good words add windows up to a bound, and lower the odds
    no further than that.
    """
    worst = max(predictions, key=lambda prediction: prediction.spam_probability)
    num_tokens = sum(prediction.num_tokens for prediction in predictions)
    joined = worst.with_odds_divided(len(predictions))
    return replace(joined, num_tokens=num_tokens, truncated=truncated)


def read_in_windows(
    predict: Callable[[Sequence[EncodedText]], Sequence[Prediction]],
    texts: Sequence[str],
    max_tokens: int,
    max_windows: int = MAX_WINDOWS,
) -> list[Prediction]:
    """Verdicts on texts, in their order.

    Args:
        predict: the model; gets the windows by length, so that a batch pads little.
        texts: any strings.
        max_tokens: as for ``encode_windows``.
        max_windows: as for ``encode_windows``.
    """
    return predict_windowed(
        predict, [encode_windows(text, max_tokens, max_windows) for text in texts]
    )


def predict_windowed(
    predict: Callable[[Sequence[EncodedText]], Sequence[Prediction]],
    texts: Sequence[WindowedText],
) -> list[Prediction]:
    """As ``read_in_windows``, of texts that are encoded already."""
    windows = [window for text in texts for window in text.windows]
    order = sorted(range(len(windows)), key=lambda n: len(windows[n].token_ids))
    found = dict(zip(order, predict([windows[n] for n in order]), strict=True))
    return join_windows(texts, [found[n] for n in range(len(windows))])


def join_windows(
    texts: Sequence[WindowedText], predictions: Sequence[Prediction]
) -> list[Prediction]:
    """Verdicts on texts, given those on all of their windows, in order."""
    rest = iter(predictions)
    return [
        join_predictions([next(rest) for _ in text.windows], truncated=text.truncated)
        for text in texts
    ]
