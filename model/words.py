"""The common English words, as GPT-2's vocabulary tells them."""

import functools

from model.tokenizer import word_ranks

# Of three letters the commonest alone: part numbers spell the vocabulary's others ("CEO", "SMS").
SHORT_WORDS = frozenset(
    "all and any are ask but buy can day for get her hey him his how its key may new not now off"
    " one our out pay say see she the too try use was way who why win yes yet you".split()
)


@functools.cache
def vocabulary() -> frozenset[str]:
    """Common English words in small letters."""
    return SHORT_WORDS.union(word_ranks(4))
