"""Words that are broken all through a text, whole again: "cl*ick he|re", "c#sh", "cLiCk", "cli ck".

Knows GPT-2's vocabulary, which is a list of the common English words. A word of that kind may be
meant so; a text is read only if it has several, as many as half of all that could be one, or, of
those that a blank breaks, one in twelve.
"""

import itertools
import re

from model.leet import vocabulary
from model.segment import word_costs

_FEWEST_WORDS = 3
_MARK = r"(?:[^\w\s]|_)"
# Letters with marks among them, and marks round them, from one blank to the next.
_BROKEN_WORD = re.compile(
    rf"(?<!\S)({_MARK}{{0,2}}+)([A-Za-z]++(?:{_MARK}{{1,4}}+[A-Za-z]++)++)(?={_MARK}*+(?!\S))"
)
_MARKS = re.compile(rf"{_MARK}++")
# Of so many characters one, at least, is such a mark; that is told sooner than by words.
_MOST_BETWEEN_MARKS = 40
_INNER_MARK = re.compile(r"[^\sA-Za-z0-9'’](?=[A-Za-z])(?<=\S.)")
_CONTRACTION = re.compile(r"[A-Za-z]+['’`][A-Za-z]{1,2}")
# "on-line", "and/or": marks between words.
_MARKS_IN_PAIRS = {"-", "/", ".", "'", "’", "&", "--", "_", "..", "...", ",", ":", "–", "—"}
_MOST_VOWELS = 3
_VOWELS = "eaiou"  # the commonest first
# Words in marks: '"win" "cash"'.
_QUOTED = re.compile(r"""(?<!\S)(["'*_~])(\S+?)\1(?!\S)""")
# Words with each letter twice: "ffrreeee".
_DOUBLED = re.compile(r"(?<![A-Za-z])(?:([A-Za-z])\1)+(?![A-Za-z])", re.IGNORECASE)
# Of so many pieces between blanks one, at least, is broken in two ("clic k he re"), and of so many
# less where it is one alone.
_PIECES_A_BREAK, _PIECES_LESS = 12, 4
_OPENING, _CLOSING = "([\"'*", ")]\"'*.,:;!?"

_LONG_WORD = re.compile(r"[A-Za-z]{4,}+")
# People type "TaKe CaRE" now and then.
_FEWEST_MIXED = 6
# As with marks.
_MOST_BETWEEN_CAPITALS = 16
_INNER_CAPITAL = re.compile(r"[A-Z](?<=[a-z].)")


def without_breaks(text: str) -> str:
    """The text with such words whole.

    >>> without_breaks("cl*ick h|ere for fr%e, m0ney")
    'click here for free, m0ney'
    >>> without_breaks("cLiCK hERe mY FrIeNd aNd gEt tHeSe mOvIEs wITh mE")
    'click here my friend and get these movies with me'
    >>> without_breaks("cli ck he re for ffrreeee"), without_breaks("FFRREEEE CCAASSHH NNOOWW")
    ('click here for ffrreeee', 'FREE CASH NOW')
    """
    text = _in_one_case(_without_doubling(_without_quotes(text)))
    return _without_marks(_without_blanks(text))


def _without_quotes(text: str) -> str:
    quoted = len(_QUOTED.findall(text))
    return _QUOTED.sub(r"\2", text) if _are_many(quoted, len(text.split())) else text


def _without_doubling(text: str) -> str:
    words = set(_LONG_WORD.findall(text))
    doubled = {word for word in words if _DOUBLED.fullmatch(word) and len(set(word.lower())) > 1}
    return _DOUBLED.sub(lambda word: word[0][::2], text) if _is_habit(doubled, words) else text


def _without_blanks(text: str) -> str:
    pieces = text.split(" ")
    whole: list[str] = []
    broken = 0
    for piece in pieces:
        if whole and _are_a_word(whole[-1].lstrip(_OPENING), piece.rstrip(_CLOSING)):
            whole[-1] += piece
            broken += 1
        else:
            whole.append(piece)
    return " ".join(whole) if len(pieces) <= _PIECES_A_BREAK * broken - _PIECES_LESS else text


def _are_a_word(front: str, end: str) -> bool:
    if not (front.isalpha() and end.isalpha()) or (front + end).lower() not in vocabulary():
        return False
    return not (front.lower() in word_costs() and end.lower() in word_costs())


def _without_marks(text: str) -> str:
    if _MOST_BETWEEN_MARKS * len(_INNER_MARK.findall(text)) < len(text):
        return text
    found = {word for _, word in _BROKEN_WORD.findall(text) if not _CONTRACTION.fullmatch(word)}
    if len(found) < _FEWEST_WORDS:
        return text
    read = {word: plain for word in found if (plain := _find_word(word)) is not None}
    if not _is_habit(read, found):
        return text
    return _BROKEN_WORD.sub(lambda match: _put_together(match, read), text)


def _put_together(match: re.Match[str], read: dict[str, str]) -> str:
    front, word = match.groups()
    plain = read.get(word)
    if plain is None:
        return match[0]
    return plain if front in _MARKS.findall(word) else front + plain


def _find_word(word: str) -> str | None:
    """The word without its marks, or with vowels in their place; None if that is no word."""
    parts, marks = _MARKS.split(word), _MARKS.findall(word)
    joined = "".join(parts)
    if joined.lower() in vocabulary():
        honest = set(marks) <= _MARKS_IN_PAIRS and any(p.lower() in vocabulary() for p in parts)
        return None if honest or len(parts[0]) == 1 and "-" in marks else joined
    if len(marks) > _MOST_VOWELS or max(map(len, marks)) > 1:
        return None
    for vowels in itertools.product(_VOWELS, repeat=len(marks)):
        letters = [*itertools.chain.from_iterable(zip(parts, vowels, strict=False)), parts[-1]]
        plain = "".join(letters)
        if plain.lower() in vocabulary():
            return plain.upper() if joined.isupper() else plain
    return None


def _in_one_case(text: str) -> str:
    if _MOST_BETWEEN_CAPITALS * len(_INNER_CAPITAL.findall(text)) < len(text):
        return text
    words = set(_LONG_WORD.findall(text))
    mixed = {w for w in words if _INNER_CAPITAL.search(w) and w.lower() in vocabulary()}
    return text.lower() if len(mixed) >= _FEWEST_MIXED and _is_habit(mixed, words) else text


def _is_habit(found: dict[str, str] | set[str], words: set[str]) -> bool:
    return _are_many(len(found), len(words))


def _are_many(found: int, words: int) -> bool:
    return found >= _FEWEST_WORDS and 2 * found >= words
