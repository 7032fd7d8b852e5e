"""The words that letters spell which no blank parts: "callmenow" is "call me now".

Knows GPT-2's vocabulary, whose order is about that of how common words are: a word costs the
logarithm of its place there (Zipf's law), and letters are read in the way that costs least.
"""

import functools
import math

from model.leet import spells_a_word
from model.tokenizer import word_ranks
from model.words import LONG_WORDS, SHORT_WORDS, SHORTEST_WORD, is_known

# Of words that the vocabulary has not, short ones and long ones.
_SHORT_COST = 7.0
_LONG_COST = 10.0
# "Check out my channel": in two words it is much the commoner.
_RARER = {"checkout": 16.0}
# Longer ones are no words.
_MOST_LETTERS = 20
# What letters cost that are no known word: so much each time, and more the more they are.
_UNKNOWN_COSTS = [14 + 2.5 * n + n * n / 10 for n in range(_MOST_LETTERS + 1)]
# Behind a small letter a capital rather begins a word.
_CAPITAL_COST = 4.0


def segment(letters: str) -> list[str]:
    """The likeliest words that letters and digits spell, in their order; nothing is left out.

    >>> segment("Callmenow"), segment("viagra"), segment("MyFriend")
    (['Call', 'me', 'now'], ['viagra'], ['My', 'Friend'])
    """
    if spells_a_word(letters):
        return [letters]
    costs, lowered = _costs(), letters.lower()
    # Of the letters up to each place: the least cost, where the last word begins, and how many
    # capitals stand behind small letters.
    least, begins, capitals = [0.0], [0], [0]
    for end in range(1, len(letters) + 1):
        capitals.append(
            capitals[-1] + (letters[end - 2 : end - 1].islower() & letters[end - 1].isupper())
        )
        found = []
        for begin in range(max(0, end - _MOST_LETTERS), end):
            cost = costs.get(lowered[begin:end], _UNKNOWN_COSTS[end - begin])
            within = capitals[end] - capitals[begin + 1]
            found.append((least[begin] + cost + _CAPITAL_COST * within, begin))
        cost, begin = min(found)
        least.append(cost)
        begins.append(begin)
    words, end = [], len(letters)
    while end:
        words.append(letters[begins[end] : end])
        end = begins[end]
    # "Un" and "subscribe" are rather one word that is not known.
    if len(words) == 2 and not all(map(is_known, words)):
        return [letters]
    return words[::-1]


@functools.cache
def _costs() -> dict[str, float]:
    # Of the vocabulary's shorter tokens most are pieces of words.
    known = {
        word: math.log(rank)
        for word, rank in word_ranks(1).items()
        if len(word) >= SHORTEST_WORD or word in SHORT_WORDS
    }
    others = dict.fromkeys(LONG_WORDS, _LONG_COST) | dict.fromkeys(SHORT_WORDS, _SHORT_COST)
    return others | known | _RARER
