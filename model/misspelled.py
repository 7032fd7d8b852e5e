"""Words with letters missing, wrong, elsewhere or drawn out: "co*ment", "ch*nn*l", "chcek tihs
vdieo", "frrreee".

Knows GPT-2's vocabulary, which is a list of the common English words. A mark in the place of a
letter is told wherever it makes a word: in 164,000 messages next to nobody writes so but to
disguise, or because a letter was lost. Any text may have a misspelled word, and rare words are a
letter away from others; so those are read in an English text alone, if it has two or more, a third
of its long ones, or three and a fifth. Names do not count and stay.
"""

import functools
import itertools
import operator
import re
from collections.abc import Collection, Iterator

from model.tokenizer import word_ranks
from model.words import SHORTEST_WORD, are_a_habit, find_words, is_known, vocabulary

_VOWEL = re.compile("[aeiou]")
# Told sooner than a word that has one.
_HOLE = re.compile(r"[*#|+?~^•](?<=[A-Za-z].)(?=[A-Za-z*])")
# Not in links, addresses, code and emphasis: "a*b*c", "*all*".
_HOLED = re.compile(
    r"(?<![\w/?&.@%#*=-])[A-Za-z]++(?:\*[A-Za-z*]*+|[#|+?~^•][A-Za-z]++)(?![\w/&%@=#-]|\.\w)"
)
_FEWEST_LETTERS = 3
_WORD = re.compile(
    r"(?<![^\s\"'(,])[A-Za-z]{4,24}+(?=[\"').,:;!?]*(?!\S)|['’](?:s|re|ll|ve|d|m|t)\b)"
)
# Within a sentence, unless it is a title.
_NAME = re.compile(r"(?<=[a-z,] )[A-Z][a-z]{3,}+")
# So many words, and so large a part of the long ones.
_MANY = ((2, 3), (3, 5))
# Of what is left, so much is English.
_ENGLISH_SHARE = 2 / 3
# Words of which so many would have to be looked for are no misspelled English.
_MOST_WORDS = 200
# Rarer ones are mostly pieces of words.
_HIGHEST_RANK = 25_000
_REPEATS = re.compile(r"(.)\1+")
# Of letters that stand three times in a row, which no English word has; told sooner than by words.
_THREE = re.compile(r"([A-Za-z])\1\1+")
_DRAWN_OUT = re.compile(r"(?<![A-Za-z])(?=[A-Za-z]{4})[A-Za-z]*?([A-Za-z])\1\1[A-Za-z]*+")
_FEWEST_DRAWN_OUT = 3
# "Herr" is not "her", nor is "llama" "lama".
_FEWEST_BUT_A_DOUBLE = 5
# Shorter ones have a word beside them too often: "noms" and "nons".
_FEWEST_TO_REPLACE = 5


def without_holes(text: str) -> str:
    """The text with the letters for which marks stand.

    >>> without_holes("Like my co*ment on this ch*nn*l, f*** 5*6 *all*")
    'Like my comment on this channel, f*** 5*6 *all*'
    """
    return _HOLED.sub(_fill, text) if _HOLE.search(text) else text


def without_drawn_out(text: str) -> str:
    """The text with letters once that stand three times or more in a row, if three words and most
    of those that have some are known without.

    >>> without_drawn_out("Frrree caaash priiize nooow ppplz"), without_drawn_out("sooo goood www")
    ('Free cash prize now plz', 'sooo goood www')
    """
    if len(_THREE.findall(text)) < _FEWEST_DRAWN_OUT:
        return text
    found = {word[0] for word in _DRAWN_OUT.finditer(text)}
    read = {word: _shorten(word.lower()) for word in found}
    if not are_a_habit([*filter(None, read.values())], found):
        return text

    def shorten(word: re.Match[str]) -> str:
        plain = read[word[0]]
        return _in_case_of(word[0], plain) if plain else _THREE.sub(r"\1", word[0])

    return _DRAWN_OUT.sub(shorten, text)


def without_misspellings(text: str) -> str:
    """The text with its long words as they are spelled, if many of them are not.

    >>> without_misspellings("Please chcek out my chanel"), without_misspellings("Thanx luv")
    ('Please check out my channel', 'Thanx luv')
    """
    words = set(map(str.lower, _WORD.findall(" ".join(set(text.split())))))
    common = vocabulary()
    unknown = {word for word in words if word not in common and not is_known(word)}
    if not _are_many(unknown, words):
        return text
    names = set(map(str.lower, _NAME.findall(text)))
    if 2 * len(names) < len(words):
        words, unknown = words - names, unknown - names
    if not _are_many(unknown, words) or len(unknown) > _MOST_WORDS:
        return text
    read = {word: plain for word in unknown if (plain := _correct(word))}
    if not _are_many(read, words):
        return text
    others = find_words(text) - read.keys()
    if sum(map(is_known, others)) < _ENGLISH_SHARE * len(others):
        return text
    return _WORD.sub(lambda word: _in_case_of(word[0], read.get(word[0].lower())), text)


def fill_vowels(word: str) -> str | None:
    """The word that has vowels where this one has stars; None if there is none.

    >>> fill_vowels("ch*nn*l"), fill_vowels("FR*E"), fill_vowels("*bc*")
    ('channel', 'FREE', None)
    """
    for known in _by_consonants().get(_VOWEL.sub("*", word.lower()), ()):
        letters = [vowel if a == "*" else a for a, vowel in zip(word, known, strict=True)]
        plain = "".join(letters)
        if plain.lower() == known:
            return plain.upper() if word.replace("*", "").isupper() else plain
    return None


def _fill(match: re.Match[str]) -> str:
    word = match[0]
    letters = "".join(filter(str.isalpha, word))
    is_word = word.rstrip("*") == letters or letters.lower() in vocabulary()
    if is_word or len(letters) < _FEWEST_LETTERS:
        return word
    if len(word) == len(letters) + 1:
        found = _by_hole().get(re.sub(r"[^a-z]", "*", word.lower()))
    else:
        found = fill_vowels(word)
    return _in_case_of(letters, found.lower()) if found else word


def _are_many(found: Collection[str], words: set[str]) -> bool:
    return any(len(found) >= few and part * len(found) >= len(words) for few, part in _MANY)


def _correct(word: str) -> str | None:
    """The common word of which this one, in small letters, may be a slip; None if there is none."""
    shorter = _shorten(word)
    if shorter and (_THREE.search(word) or len(shorter) >= _FEWEST_BUT_A_DOUBLE):
        return shorter
    if word[:-1] in vocabulary() or word.endswith("in") and word + "g" in vocabulary():
        return None  # "emojis", "comin"
    ranks = _ranks()
    likeliest_first = (
        _with_neighbours_swapped,
        _with_one_letter_changed,
        _without_the_first_letter,
    )
    for slips in likeliest_first:
        if found := ranks.keys() & set(slips(word)):
            return min(found, key=ranks.__getitem__)
    return None


def _shorten(word: str) -> str | None:
    """The commonest word that has no letter more often in a row: of "pleeeasse" "please"."""
    runs = _runs(word)
    for known in _by_letters().get(_REPEATS.sub(r"\1", word), ()):
        if all(map(operator.ge, runs, _runs(known))):
            return known
    return None


def _runs(word: str) -> list[int]:
    """How often each letter stands in a row."""
    return [sum(1 for _ in run) for _, run in itertools.groupby(word)]


def _with_neighbours_swapped(word: str) -> Iterator[str]:
    for n in range(len(word) - 1):
        yield word[:n] + word[n + 1] + word[n] + word[n + 2 :]


def _with_one_letter_changed(word: str) -> Iterator[str]:
    """With one less, and the common words with one more or another one; the first letter stays,
    and the last is no other."""
    by_hole = _by_hole()
    for n in range(1, len(word)):
        yield word[:n] + word[n + 1 :]
    for n in range(1, len(word) + 1):
        yield by_hole.get(f"{word[:n]}*{word[n:]}", "")
    if len(word) >= _FEWEST_TO_REPLACE:
        for n in range(1, len(word) - 1):
            yield by_hole.get(f"{word[:n]}*{word[n + 1 :]}", "")


def _without_the_first_letter(word: str) -> Iterator[str]:
    yield word[1:]


def _in_case_of(model: str, word: str | None) -> str:
    if word is None:
        return model
    if model.isupper():
        return word.upper()
    return word.capitalize() if model[0].isupper() else word


@functools.cache
def _ranks() -> dict[str, int]:
    """Common words, the commonest first."""
    ranks = word_ranks(SHORTEST_WORD)
    return {word: rank for word, rank in ranks.items() if rank <= _HIGHEST_RANK}


@functools.cache
def _by_letters() -> dict[str, list[str]]:
    """Words by their letters, each once in a row, the commonest first."""
    found: dict[str, list[str]] = {}
    for word in filter(is_known, word_ranks(_FEWEST_LETTERS)):
        found.setdefault(_REPEATS.sub(r"\1", word), []).append(word)
    return found


@functools.cache
def _by_hole() -> dict[str, str]:
    """The commonest word that is this one but for a letter, for which a star stands."""
    found: dict[str, str] = {}
    for word in _ranks():
        for n in range(len(word)):
            found.setdefault(f"{word[:n]}*{word[n + 1 :]}", word)
    return found


@functools.cache
def _by_consonants() -> dict[str, list[str]]:
    """Words by what they are with a star for each vowel, the commonest first."""
    found: dict[str, list[str]] = {}
    for word in word_ranks(SHORTEST_WORD):
        found.setdefault(_VOWEL.sub("*", word), []).append(word)
    return found
