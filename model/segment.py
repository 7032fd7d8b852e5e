"""The words that letters spell which no blank parts: "callmenow" is "call me now".

Knows GPT-2's vocabulary, whose order is about that of how common words are: a word costs the
logarithm of its place there (Zipf's law), and letters are read in the way that costs least.
"""

import functools
import math

from model.tokenizer import word_ranks

# Letters of a word from which on the vocabulary is believed: it has many shorter pieces of words.
_SHORTEST_WORD = 4
_SHORT_WORDS = frozenset(
    "a i u ad am an as at be by do go he hi if in is it me my no of oh ok on or pm so to up ur"
    " us we add age ago all and any app are ask bad best bet bid big bit box but buy can car cat"
    " com cut day did don due eat end far fee few for fun get god got guy had has her hey him"
    " his hit hot how ice inc its job key lab law let lol lot low man may men mix mob mom msg"
    " net new nor not now off oil old one org our out own pay per pic pls ppl put ran red run"
    " sad sat saw say sea see set sex she sir sit six son sub sum sun tax tel ten the tip too"
    " top try two txt use via wan wap war was way web who why win won www yes yet you 2 4".split()
)
_SHORT_COST = 7.0
# Longer ones are no words.
_MOST_LETTERS = 20
# What letters cost that are no known word: so much each time, and more the more they are.
_UNKNOWN_COSTS = [22 + n + n * n / 10 for n in range(_MOST_LETTERS + 1)]
# Behind a small letter a capital rather begins a word.
_CAPITAL_COST = 4.0


def segment(letters: str) -> list[str]:
    """The likeliest words that letters and digits spell, in their order; nothing is left out.

    >>> segment("Callmenow"), segment("viagra"), segment("SirMadam")
    (['Call', 'me', 'now'], ['viagra'], ['Sir', 'Madam'])
    """
    costs, lowered = word_costs(), letters.lower()
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
    return words[::-1]


@functools.cache
def word_costs() -> dict[str, float]:
    """Words in small letters, and what each costs."""
    ranks = word_ranks(_SHORTEST_WORD)
    return dict.fromkeys(_SHORT_WORDS, _SHORT_COST) | {w: math.log(r) for w, r in ranks.items()}
