"""Training texts made anew each time they are read, so that a network sees no text twice."""

from collections.abc import Sequence

import torch

from model.tokenizer import encode

_RECASED = (str.lower, str.lower, str.upper, str.title)


class Augmenter:
    """Token ids of a training text, changed at random; draws from torch's global generator.

    Recasing matters: to GPT-2's tokenizer ``FREE``, ``Free`` and ``free`` have nothing in common.
    """

    def __init__(
        self, texts: Sequence[str], max_tokens: int, *, recasing: float, token_dropout: float
    ) -> None:
        """Keeps the texts and their tokens.

        Args:
            texts: the training part.
            max_tokens: texts are cut after this many tokens.
            recasing: chance of a text to be put in lower case, capitals or title case.
            token_dropout: chance of each token to be left out.
        """
        self._texts = texts
        self._tokens = [encode(text, max_tokens)[0] for text in texts]
        self._max_tokens = max_tokens
        self._recasing = recasing
        self._token_dropout = token_dropout

    def __call__(self, index: int) -> list[int]:
        """At least one token of the text with this number."""
        tokens = self._tokens[index]
        if self._recasing and torch.rand(()) < self._recasing:
            recase = _RECASED[int(torch.randint(len(_RECASED), ()))]
            tokens = encode(recase(self._texts[index]), self._max_tokens)[0]
        if not self._token_dropout:
            return tokens
        keep = (torch.rand(len(tokens)) >= self._token_dropout).tolist()
        return [token for token, kept in zip(tokens, keep, strict=True) if kept] or tokens[-1:]
