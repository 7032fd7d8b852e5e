"""The common English words, as GPT-2's vocabulary tells them, and whether words are English."""

import functools
import re
from collections.abc import Collection

from model.tokenizer import word_ranks

# Letters of a word from which on the vocabulary is believed: it has many shorter pieces of words.
SHORTEST_WORD = 4
# Of three letters the commonest alone: part numbers spell the vocabulary's others ("CEO", "SMS").
_COMMON_WORDS = frozenset(
    "all and any are ask but buy can day for get her hey him his how its key may new not now off"
    " one our out pay say see she the too try use was way who why win yes yet you".split()
)
SHORT_WORDS = _COMMON_WORDS.union(
    "a i u ad am an as at be by do go he hi if in is it me my no of oh ok on or pm so to up ur"
    " us we add age ago app bad bet bid big bit box car cat com cut did don due eat end far fee"
    " few fun god got guy had has hit hot ice inc job lab law let lol lot low man men mix mob"
    " mom msg net nor oil old org own per pic pls ppl put ran red run sad sat saw sea set sex"
    " sir sit six son sub sum sun tax tel ten tip top two txt via wan wap war web won www 2 4"
    " log met min cap".split()
)
# Of messages, in pieces in the vocabulary.
LONG_WORDS = frozenset(
    "bitcoin camcorder cialis crypto diploma diplomas handbags hotmail landline onlyfans"
    " postcode prescriptions refinance refinancing refund refunds replicas ringtone ringtones"
    " rolex unsubscribe unsubscribed viagra voicemail webmail".split()
)
_RANK_OF_COMMONEST = 5_000
_FEWEST_OF_A_HABIT = 3
_WORD = re.compile(r"[^\W\d_]+")


@functools.cache
def vocabulary() -> frozenset[str]:
    """Common English words in small letters."""
    return _COMMON_WORDS.union(word_ranks(SHORTEST_WORD))


@functools.cache
def commonest_words() -> frozenset[str]:
    """Some 1,900 English words in small letters."""
    ranks = word_ranks(SHORTEST_WORD)
    return frozenset(word for word, rank in ranks.items() if rank < _RANK_OF_COMMONEST)


def is_known(word: str) -> bool:
    """Whether this is a common word, a short one or one of messages."""
    return word.lower() in _known_words()


def find_words(text: str) -> set[str]:
    """The words of a text, of any script, in small letters."""
    return set(map(str.lower, _WORD.findall(text)))


def are_english(words: Collection[str]) -> bool:
    """Whether at least half of these are known, as of words in no other language.

    >>> are_english(find_words("See u at the pub, Bob")), are_english(find_words("No te oigo bien"))
    (True, False)
    """
    return 2 * sum(map(is_known, words)) >= len(words)


def are_a_habit(found: Collection[object], of: Collection[object]) -> bool:
    """Whether a writer means what was found: three times at least, and half of what it could be.

    >>> are_a_habit(["fr33", "c4sh", "w1n"], ["fr33", "c4sh", "w1n", "b2b"]), are_a_habit("a", "a")
    (True, False)
    """
    return len(found) >= _FEWEST_OF_A_HABIT and 2 * len(found) >= len(of)


@functools.cache
def _known_words() -> frozenset[str]:
    return vocabulary() | SHORT_WORDS | LONG_WORDS
