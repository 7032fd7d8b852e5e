"""Training texts made anew each time they are read, so that a network sees no text twice."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from model.fold import fold_text
from model.tokenizer import decode, encode, word_ranks
from training.bag_of_words import PLACES
from training.config import TrainConfig
from training.corpora import Example
from training.furniture import furnish

_RECASED = (str.lower, str.lower, str.upper, str.upper, str.title)
# Letters and what spammers put in their place.
_LEET = {
    "a": "4@",
    "b": "8",
    "e": "3",
    "g": "9",
    "i": "1!",
    "l": "1",
    "o": "0",
    "s": "5$",
    "t": "7",
}
_LEET_LETTERS = 0.7
_SEPARATORS = (".", "-", "_", "*", " ", "/")
# Words of obfuscated texts that are disguised; shorter ones are left alone, as spammers do.
_DISGUISED_WORDS = 0.5
_LONG_WORD = 4
# How often a passage begins where what it is taken from does. Of very long texts a stretch is taken
# first, then a passage of that.
_FROM_THE_START = 0.5
# Good words put beside a text, in tokens: a greeting.
_FEWEST_GOOD_TOKENS = 8
_NEWLINE = encode("\n", 1)[0]
# Words that spammers draw from a dictionary, where filters count words, and what follows a word.
_DICTIONARY = tuple(sorted(word_ranks(3)))
_AFTER_A_WORD = (" ",) * 24 + (", ", ", ", ". ", ". ", "? ", "\n", "\n", "")
# Of texts with such words, how often no more than a subject is left, and of how many tokens.
_SUBJECT_ALONE = 0.5
_CHAFF_IN_FRONT = 0.3
_SUBJECT_TOKENS = 12
# No tokenizer is given more of a text than a window can hold.
_CHARACTERS_A_TOKEN = 8


@dataclass(frozen=True)
class Reading:
    """A training text as it is read this time.

    Attributes:
        tokens: at least one.
        label: 0 ham, 1 spam.
        onset: number of the token from which the label holds; what stands before is ham.
        passages: what a bag of words is asked about: numbers of tokens, and the text up to there
            without what was put in front; none of a disguised one or one with chaff or furniture.
    """

    tokens: list[int]
    label: int
    onset: int = 0
    passages: tuple[tuple[int, str], ...] = ()


class Augmenter:
    """Readings of the training texts, changed at random; draws from torch's global generator.

    Recasing matters: to GPT-2's tokenizer ``FREE``, ``Free`` and ``free`` have nothing in common.
    Joining teaches that good words before or behind do not redeem a spam, chaff that a sequence of
    words drawn at random is spam itself.
    """

    def __init__(self, examples: Sequence[Example], config: TrainConfig) -> None:
        """Keeps the training part, and the recipe for what may happen to a text and how often."""
        self._examples = examples
        self._ham = [example for example in examples if example.label == 0]
        self._ham_of: dict[str, list[Example]] = {}
        for example in self._ham:
            self._ham_of.setdefault(example.source, []).append(example)
        self._max_tokens = config.max_tokens
        self._config = config

    def __call__(self, index: int) -> Reading:
        """The text with this number, anew."""
        example = self._examples[index]
        spelled, disguised = self._respell(example.text)
        tokens = self._drop(self._window(spelled))
        if example.label and self._happens(self._config.chaff):
            return Reading(self._with_chaff(tokens), example.label)
        passages = () if disguised else self._passages(tokens)
        room = self._max_tokens - len(tokens) - len(_NEWLINE)
        if room < 1 or not self._ham or not self._happens(self._config.joining):
            return Reading(tokens, example.label, passages=passages)
        # A spam among many messages of its own kind, or among anything.
        own = self._ham_of.get(example.source) if self._happens(0.5) else None
        good = self._good_words(own or self._ham, room)
        if torch.rand(()) < 0.5:
            front = good + _NEWLINE
            shifted = tuple((len(front) + place, text) for place, text in passages)
            return Reading(front + tokens, example.label, len(front), shifted)
        return Reading(tokens + _NEWLINE + good, example.label, passages=passages)

    def _passages(self, tokens: list[int]) -> tuple[tuple[int, str], ...]:
        """Some beginnings of a passage and all of it, where the recipe asks a bag of words."""
        if not self._config.bag_of_words:
            return ()
        sizes = sorted({math.ceil(len(tokens) * n / PLACES) for n in range(1, PLACES + 1)})
        return tuple((size - 1, decode(tokens[:size])) for size in sizes)

    def _with_chaff(self, tokens: list[int]) -> list[int]:
        """The tokens, or the first of them, beside words drawn at random."""
        if self._happens(_SUBJECT_ALONE):
            tokens = tokens[:_SUBJECT_TOKENS]
        chaff = encode(draw_chaff(self._joined_size()), self._max_tokens)[0]
        in_front = self._happens(_CHAFF_IN_FRONT)
        joined = chaff + _NEWLINE + tokens if in_front else tokens + _NEWLINE + chaff
        return joined[: self._max_tokens]

    def _joined_size(self) -> int:
        """How much to put beside a text, in tokens or words: a greeting or more, mostly little."""
        longest = self._config.joined_tokens / _FEWEST_GOOD_TOKENS
        return round(_FEWEST_GOOD_TOKENS * 2 ** (math.log2(longest) * float(torch.rand(()))))

    def _good_words(self, pool: Sequence[Example], most: int) -> list[int]:
        """Tokens of ham texts of the pool one after another, ``most`` at most."""
        size = min(most, self._joined_size())
        tokens: list[int] = []
        while len(tokens) < size:
            ham, _ = self._respell(pool[_below(len(pool))].text)
            tokens += self._drop(self._cut(encode(ham, self._max_tokens)[0], size)) + _NEWLINE
        return tokens[:size]

    def _respell(self, text: str) -> tuple[str, bool]:
        """The text as it is spelled this time, read as the service reads it, and whether words are
        disguised or others stand among them.
        """
        spelled = text
        furnished = self._happens(self._config.furniture)
        if furnished:
            spelled = furnish(spelled)
        if self._happens(self._config.recasing):
            spelled = _RECASED[_below(len(_RECASED))](spelled)
        if self._happens(self._config.respacing):
            spelled = respace(spelled, keep_punctuation=bool(torch.rand(()) < 0.7))
        disguised = self._happens(self._config.obfuscation)
        if disguised:
            spelled = " ".join(map(_disguise, spelled.split(" ")))
        return text if spelled == text else fold_text(spelled), disguised or furnished

    def _window(self, text: str) -> list[int]:
        """All tokens of the text, or those of a random passage where it is longer than one."""
        size = self._config.window_tokens
        if not size:
            return encode(text, self._max_tokens)[0]
        # Of a very long text a stretch first, so that a megabyte is not tokenized for a window.
        most = _CHARACTERS_A_TOKEN * self._max_tokens
        if len(text) > most:
            start = _start_of_passage(len(text), most)
            text = text[start : start + most]
        # Mostly short passages, now and then a long one: cost, and every position is learnt.
        longest = self._max_tokens if torch.rand(()) < 0.15 else size
        tokens = encode(text)[0]
        return self._cut(tokens, longest)

    def _cut(self, tokens: list[int], size: int) -> list[int]:
        if len(tokens) <= size:
            return tokens
        start = _start_of_passage(len(tokens), size)
        return tokens[start : start + size]

    def _drop(self, tokens: list[int]) -> list[int]:
        """Without some tokens: none to twice the recipe's share, by chance."""
        if not self._config.token_dropout:
            return tokens
        share = 2 * self._config.token_dropout * float(torch.rand(()))
        keep = (torch.rand(len(tokens)) >= share).tolist()
        return [token for token, kept in zip(tokens, keep, strict=True) if kept] or tokens[-1:]

    def _happens(self, chance: float) -> bool:
        return chance > 0 and float(torch.rand(())) < chance


def respace(text: str, *, keep_punctuation: bool) -> str:
    """Lower case with blanks around punctuation, or without it: as published corpora often are.

    >>> respace("Call now: 50% off!", keep_punctuation=True)
    'call now : 50 % off !'
    """
    apart = re.sub(r"([^\w\s])", r" \1 " if keep_punctuation else " ", text.lower())
    return re.sub(r"[^\S\n]+", " ", apart).strip()


def draw_chaff(num_words: int) -> str:
    """So many words drawn at random, set like text; some of them run together."""
    capital, parts = bool(torch.rand(()) < 0.5), []
    for _ in range(num_words):
        word = _DICTIONARY[_below(len(_DICTIONARY))]
        after = _AFTER_A_WORD[_below(len(_AFTER_A_WORD))]
        parts += [word.capitalize() if capital else word, after]
        capital = after in (". ", "? ", "\n")
    return "".join(parts).rstrip()


def _disguise(word: str) -> str:
    if len(word) < _LONG_WORD or torch.rand(()) >= _DISGUISED_WORDS:
        return word
    separator = _SEPARATORS[_below(len(_SEPARATORS))]
    place = 1 + _below(len(word) - 1)
    ways: tuple[Callable[[], str], ...] = (
        lambda: "".join(map(_to_leet, word)),
        lambda: word[:place] + separator + word[place:],
        lambda: word[:place] + word[place - 1] + word[place:],
        lambda: word[: place - 1] + word[place] + word[place - 1] + word[place + 1 :],
    )
    return ways[_below(len(ways))]()


def _to_leet(letter: str) -> str:
    others = _LEET.get(letter.lower())
    return others[_below(len(others))] if others and torch.rand(()) < _LEET_LETTERS else letter


def _start_of_passage(length: int, size: int) -> int:
    """Where a passage of ``size`` begins: half of the time at 0, else in the middle of one around a
    random place, moved inside, so that the end is read often, too."""
    if torch.rand(()) < _FROM_THE_START:
        return 0
    return min(max(_below(length) - size // 2, 0), length - size)


def _below(bound: int) -> int:
    return int(torch.randint(bound, ()))
