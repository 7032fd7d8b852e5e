"""Words that are broken all through a text, whole again: "cl*ick he|re", "c#sh", "cLiCk", "cli ck".

Knows GPT-2's vocabulary, which is a list of the common English words. A word of that kind may be
meant so; a text is read only if it has several, as many as half of all that could be one. Of words
that a blank breaks two are enough, one of twelve pieces, if the others are English; of words in
quotes it takes four and three quarters, or all, of marks alone between words six and as many, or
three and all. One is enough of words with a mark where none belongs, of those whose four letters
or more stand twice or more each, and of two pieces that are no words.
"""

import functools
import re
from collections import Counter
from collections.abc import Callable, Collection
from functools import partial

from model.words import are_english, find_words, is_known, vocabulary

_FEWEST_WORDS = 3
_MARK = r"(?:[^\w\s]|_)"
# Letters with marks among them, and marks round them, from one blank to the next.
_BROKEN_WORD = re.compile(
    rf"(?<!\S)({_MARK}{{0,2}}+)([A-Za-z]++(?:{_MARK}{{1,4}}+[A-Za-z]++)++)(?={_MARK}*+(?!\S))"
)
_MARKS = re.compile(rf"{_MARK}++")
# Of so many characters one, at least, is such a mark; that is told sooner than by words.
_MOST_BETWEEN_MARKS = 40
_INNER_MARK = re.compile(r"[^\sA-Za-z0-9](?=[A-Za-z])(?<=\S.)")
_CONTRACTION = re.compile(r"[A-Za-z]+['’`](?:[smdt]|re|ve|ll|em)", re.IGNORECASE)
# One mark within a word that no word has there, but for contractions: "ch'eck", "mon*ey". Of
# 163,540 messages thirteen had one with an apostrophe, slips and disguises all ("UP'COMING",
# "need'ed"), and some thirty with another mark, disguises but for two lines of code.
_STRAY_MARK = re.compile(r"(?<=[A-Za-z]{2})['’‘`\"*|~^#+=_](?=[A-Za-z]{2})")
_STRAY_MARKED = re.compile(
    rf"(?<![\w/?&.@%#-])([A-Za-z]{{2,}})({_STRAY_MARK.pattern})([A-Za-z]{{2,}})(?![\w/&%@=-]|\.\w)"
)
_CONTRACTED = {"re", "ve", "ll", "em", "nt"}
_APOSTROPHES = "'’‘`"
# "on-line", "and/or": marks between words.
_MARKS_IN_PAIRS = {"-", "/", ".", "'", "’", "&", "--", "_", "..", "...", ",", ":", "–", "—"}
_MOST_VOWELS = 3
_VOWELS = "eaiou"  # the commonest first
_ANY_VOWEL = re.compile(f"[{_VOWELS}]")
# Words in quotes: '"win" "cash"'; letters alone in quotes are a list.
_QUOTES = "\"'“”„‘’«»"
_QUOTED = re.compile(
    rf"(?<!\S)[{_QUOTES}]++([^\s{_QUOTES}](?:\S*[^\s{_QUOTES}])?)[{_QUOTES}]++(?!\S)"
)
_FEWEST_QUOTED = 4
# Words with each letter two, three or four times: "ffrreeee".
_REPEATED = re.compile(r"(?<![A-Za-z])(?:([A-Za-z])\1++)++(?![A-Za-z])", re.IGNORECASE)
_TIMES = (2, 3, 4)
# One mark alone between words: "win · cash · now".
_LONE_MARK = re.compile(rf"(?<=\S) ({_MARK}{{1,3}}+) (?=\S)")
_FEWEST_LONE = 6
_FEWEST_ALL_LONE = 3
_LETTER_OR_DIGIT = re.compile(r"[^\W_]")
_FEWEST_SPLIT = 2
# Two pieces that are no words but together: "infor mation". Of 163,540 messages 387 have such a
# word, all broken but this.
_LONG_SPLIT = 6
_NAMES = {"vander"}
_PIECES_A_SPLIT = 12
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
    >>> without_breaks("that's why they've che'cked it, don't")
    "that's why they've checked it, don't"
    >>> without_breaks("cli ck he re"), without_breaks("FFRREEEE infor mation on it")
    ('click here', 'FREE information on it')
    """
    text = _in_one_case(_without_repeats(_without_quotes(text)))
    return _without_stray_marks(_without_marks(_without_blanks(text)))


def without_lone_marks(text: str) -> str:
    """The text with blanks alone between words, where one mark stands in most of the gaps.

    >>> without_lone_marks("win · a · lot · of · cash · here · now")
    'win a lot of cash here now'
    """
    marks = Counter(_LONE_MARK.findall(text))
    if not marks:
        return text
    [(mark, count)] = marks.most_common(1)
    words = text.split()
    gaps = sum(bool(_LETTER_OR_DIGIT.search(word)) for word in words) - 1
    are_most = count >= _FEWEST_LONE and 4 * count >= 3 * gaps
    are_all = count >= _FEWEST_ALL_LONE and {*words[1::2]} == {mark} and mark not in words[::2]
    if not are_most and not are_all:
        return text
    return text.replace(f" {mark} ", " ")


def _without_quotes(text: str) -> str:
    quoted = _QUOTED.findall(text)
    if not quoted:
        return text
    long, words = sum(len(word) > 1 for word in quoted), len(text.split())
    are_most = long >= _FEWEST_QUOTED and 4 * long >= 3 * words
    are_all = len(quoted) == words and 2 * long > words
    return _QUOTED.sub(r"\1", text) if are_most or are_all else text


def _without_repeats(text: str) -> str:
    # Two letters at least: "www" is none.
    repeated = {word[0] for word in _REPEATED.finditer(text) if len(word[0]) > 3}
    if not repeated:
        return text
    is_habit = _is_habit(repeated, set(_LONG_WORD.findall(text)))
    for times in _TIMES:
        plain = [word[::times] for word in repeated if _is_repeated(word, times)]
        known = [word for word in plain if is_known(word)]
        if is_habit and _is_habit(known, repeated) or any(map(_LONG_WORD.fullmatch, known)):
            return _REPEATED.sub(partial(_read_repeated, times), text)
    return text


def _is_repeated(word: str, times: int) -> bool:
    letters = word.lower()[::times]
    return word.lower() == "".join(letter * times for letter in letters)


def _read_repeated(times: int, word: re.Match[str]) -> str:
    return word[0][::times] if _is_repeated(word[0], times) else word[0]


def _without_blanks(text: str) -> str:
    pieces = text.split(" ")
    in_two = _words_in_two(text.lower().split(" "))
    if _are_many(len(in_two), pieces):
        whole = _put_pieces_together(pieces, _are_a_word)
        # Words of other languages make English ones, too: "fa il" and "ma il" are Italian.
        if _are_many(len(pieces) - len(whole), pieces) and _stays_english(text, whole):
            return " ".join(whole)
    if any(_are_no_words(front, end) for front, end in in_two):
        whole = _put_pieces_together(pieces, _are_a_word_of_none)
        if _stays_english(text, whole):
            return " ".join(whole)
    return text


def _put_pieces_together(pieces: list[str], are_a_word: Callable[[str, str], bool]) -> list[str]:
    whole = [""]
    front = ""  # what the next piece may end
    for piece, following in zip(pieces, [*pieces[1:], ""], strict=True):
        # "the re al" is "the real", not "there al".
        begins_another = is_known(front) and are_a_word(piece, following)
        if are_a_word(front, piece) and not begins_another:
            whole[-1] += piece
            front = ""
        else:
            whole.append(piece)
            front = piece
    return whole[1:]


def _stays_english(text: str, whole: list[str]) -> bool:
    return are_english(find_words(text) & find_words(" ".join(whole)))


def _words_in_two(pieces: list[str]) -> list[tuple[str, str]]:
    """Pieces, in small letters, that may begin a word, and the next ones, which would end it; or
    more: told sooner than exactly."""
    fronts = [piece.lstrip(_OPENING) for piece in pieces]
    ends = [piece.rstrip(_CLOSING) for piece in pieces[1:]]
    words = vocabulary()
    return [(f, e) for f, e in zip(fronts, ends, strict=False) if f + e in words]


def _are_no_words(front: str, end: str) -> bool:
    """Whether two pieces of a long word are none themselves; nor is one a letter or empty."""
    are_long = min(len(front), len(end)) > 1 and len(front + end) >= _LONG_SPLIT
    are_known = is_known(front) or is_known(end) or (front + end).lower() in _NAMES
    return are_long and not are_known


def _are_a_word_of_none(front: str, end: str) -> bool:
    plain = front.lstrip(_OPENING), end.rstrip(_CLOSING)
    return _are_a_word(front, end) and _are_no_words(*plain)


def _are_many(splits: int, pieces: list[str]) -> bool:
    return splits >= _FEWEST_SPLIT and _PIECES_A_SPLIT * splits >= len(pieces)


def _are_a_word(front: str, end: str) -> bool:
    front, end = front.lstrip(_OPENING), end.rstrip(_CLOSING)
    if not (front.isalpha() and end.isalpha()) or (front + end).lower() not in vocabulary():
        return False
    has_capital_within = end[0].isupper() and not front.isupper()
    return not has_capital_within and not (is_known(front) and is_known(end))


def _without_stray_marks(text: str) -> str:
    return _STRAY_MARKED.sub(_without_mark, text) if _STRAY_MARK.search(text) else text


def _without_mark(word: re.Match[str]) -> str:
    front, mark, end = word.groups()
    if (front + end).lower() not in vocabulary():
        return word[0]
    is_contracted = end.lower() in _CONTRACTED and is_known(front)
    are_two = mark not in _APOSTROPHES and is_known(front) and is_known(end)
    return word[0] if is_contracted or are_two else front + end


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
    holed = "*".join(parts)
    for known in _by_consonants().get(_ANY_VOWEL.sub("*", holed.lower()), ()):
        letters = [vowel if a == "*" else a for a, vowel in zip(holed, known, strict=True)]
        plain = "".join(letters)
        if plain.lower() == known:
            return plain.upper() if joined.isupper() else plain
    return None


@functools.cache
def _by_consonants() -> dict[str, list[str]]:
    """Words by what they are with a star for each vowel; those of commoner vowels first."""
    found: dict[str, list[str]] = {}
    for word in sorted(vocabulary(), key=lambda word: [*map(_VOWELS.find, word)]):
        found.setdefault(_ANY_VOWEL.sub("*", word), []).append(word)
    return found


def _in_one_case(text: str) -> str:
    if _MOST_BETWEEN_CAPITALS * len(_INNER_CAPITAL.findall(text)) < len(text):
        return text
    words = set(_LONG_WORD.findall(text))
    mixed = {w for w in words if _INNER_CAPITAL.search(w) and w.lower() in vocabulary()}
    return text.lower() if len(mixed) >= _FEWEST_MIXED and _is_habit(mixed, words) else text


def _is_habit(found: Collection[str], words: Collection[str]) -> bool:
    return len(found) >= _FEWEST_WORDS and 2 * len(found) >= len(words)
