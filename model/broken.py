"""Words that are broken all through a text, whole again: "cl*ick he|re", "c#sh", "cLiCk", "cli ck".

Knows GPT-2's vocabulary, which is a list of the common English words. A word of that kind may be
meant so; a text is read only if it has several, as many as half of all that could be one. Of words
that a blank breaks two are enough, one of twelve pieces, if the others are English; of words in
quotes or brackets it takes four and three quarters, or all, of marks alone between words six and as
many, or three and all, of words in a line of their own four and all. One is enough of words with a
mark where none belongs, of those whose four letters or more stand twice or more each, and of two
pieces that are no words.
"""

import re
from collections.abc import Callable
from functools import partial
from itertools import compress, count, repeat
from operator import add

from model.joined import part
from model.marked import without_quotes
from model.misspelled import fill_vowels, without_drawn_out, without_holes, without_misspellings
from model.words import (
    SHORTEST_WORD,
    are_a_habit,
    are_english,
    commonest_words,
    find_words,
    is_known,
    vocabulary,
)

_MARK = r"(?:[^\w\s]|_)"
# Letters with marks among them, and marks round them, from one blank to the next.
_BROKEN_WORD = re.compile(
    rf"(?<!\S)({_MARK}{{0,2}}+)([A-Za-z]++(?:{_MARK}{{1,4}}+[A-Za-z]++)++)(?={_MARK}*+(?!\S))"
)
_MARKS = re.compile(rf"{_MARK}++")
# Of so many characters one, at least, is such a mark; that is told sooner than by words.
_MOST_BETWEEN_MARKS = 40
_INNER_MARK = re.compile(r"[^ \nA-Za-z0-9](?=[A-Za-z])(?<=\S.)")
_CONTRACTION = re.compile(r"[A-Za-z]+['’`](?:[smdt]|re|ve|ll|em)", re.IGNORECASE)
# One mark within a word that no word has there, but for contractions: "ch'eck", "mon*ey". Of
# 163,540 messages thirteen had one with an apostrophe, slips and disguises all ("UP'COMING",
# "need'ed"), and some thirty with another mark, disguises but for two lines of code.
_STRAY_MARKS = "'’‘`\"*|~^#+=_"
# As many honest ones stand between words; so each piece has to be none: "onl/ine". Of 163,540
# messages some 120 have such a word, nearly all of them spam; with a hyphen 37 have a long one
# ("pre-scription", and "co-ordinate", which is read alike), and many "Wi-Fi".
_MARKS_BETWEEN_WORDS = "./,:;!?()[]<>{}&$%@\\-"
_STRAY_MARK = re.compile(
    rf"[{re.escape(_STRAY_MARKS + _MARKS_BETWEEN_WORDS)}](?<=[A-Za-z]{{2}}.)"
    r"(?=([A-Za-z]{2,}+)(?![\w/&%@=-]|\.\w))"
)
_BEFORE_MARK = re.compile(r"(?<![\w/?&.@%#-])[A-Za-z]{2,}+\Z")
_LONGEST_PIECE = 24
_CONTRACTED = {"re", "ve", "ll", "em", "nt"}
_APOSTROPHES = "'’‘`"
# "on-line", "and/or": marks between words.
_MARKS_IN_PAIRS = {"-", "/", ".", "'", "’", "&", "--", "_", "..", "...", ",", ":", "–", "—"}
_MOST_VOWELS = 3
# Words with each letter two, three or four times: "ffrreeee".
_REPEATED = re.compile(r"(?<![A-Za-z])(?:([A-Za-z])\1++)++(?![A-Za-z])", re.IGNORECASE)
# What such a word begins with, behind another character; that is told sooner.
_DOUBLE = re.compile(r"[^A-Za-z]([A-Za-z])(?i:\1)[A-Za-z]{2}")
_TIMES = (2, 3, 4)
# "Oranges\nLemons\nBread" may be a list.
_FEWEST_LINES = 4
_LETTERS_OF_A_WORD = 3  # on average
_FEWEST_SPLIT = 2
# Two pieces that are no words but together: "infor mation". Of 163,540 messages some 550 have such
# a word, all broken but these names; 122 have one of which a piece is a letter other than these. Of
# shorter words many are two ("ha ha"), but for the commonest ("fr om"): 142 messages, all broken.
_SPLIT = 5
_HYPHENATED_WORD = 6
_CONTRACTED_TO_A_LETTER = {"s", "t"}  # "Jo ' s", "don ' t"
_NAMES = {"vander", "macos", "fedex", "devos"}
_BLANK = re.compile("([ \\n])")
# A word with a hyphen at the end of a line, which is told sooner.
_HYPHEN_AT_END = re.compile(r"-\n(?<=[A-Za-z]-\n)(?=[A-Za-z])")
_HYPHENATED = re.compile(r"(?<![\w-])([A-Za-z]{2,}+)-\n([A-Za-z]{2,}+)(?![\w-])")
_PIECES_A_SPLIT = 12
_OPENING, _CLOSING = "([\"'*", ")]\"'*.,:;!?"

_LONG_WORD = re.compile(r"[A-Za-z]{4,}+")
# People type "TaKe CaRE" now and then.
_FEWEST_MIXED = 6
_FEWEST_NEARLY_ALL_MIXED = 3
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
    text = without_drawn_out(_without_repeats(without_quotes(_in_lines(text))))
    text = part(_in_one_case(text))
    text = _without_blanks(text)
    if _HYPHEN_AT_END.search(text):
        text = _HYPHENATED.sub(_without_hyphen, text)
    return without_misspellings(without_holes(_without_stray_marks(_without_marks(text))))


def _in_lines(text: str) -> str:
    """The text in one line if each of its words has one of its own."""
    lines = [line for line in text.split("\n") if line]
    if len(lines) < _FEWEST_LINES or any(" " in line for line in lines):
        return text
    are_words = sum(map(len, lines)) >= _LETTERS_OF_A_WORD * len(lines)
    return " ".join(lines) if are_words and are_english(find_words(text)) else text


def _without_repeats(text: str) -> str:
    if not _DOUBLE.search(f" {text}"):
        return text
    # Two letters at least: "www" is none.
    repeated = {word[0] for word in _REPEATED.finditer(text) if len(word[0]) > 3}
    if not repeated:
        return text
    is_habit = are_a_habit(repeated, set(_LONG_WORD.findall(text)))
    for times in _TIMES:
        plain = [word[::times] for word in repeated if _is_repeated(word, times)]
        known = [word for word in plain if is_known(word)]
        if is_habit and are_a_habit(known, repeated) or any(map(_LONG_WORD.fullmatch, known)):
            return _REPEATED.sub(partial(_read_repeated, times), text)
    return text


def _is_repeated(word: str, times: int) -> bool:
    letters = word.lower()[::times]
    return word.lower() == "".join(letter * times for letter in letters)


def _read_repeated(times: int, word: re.Match[str]) -> str:
    return word[0][::times] if _is_repeated(word[0], times) else word[0]


def _without_blanks(text: str) -> str:
    places = _places_in_words(text.lower().replace("\n", " ").split(" "))
    if not places:
        return text
    pieces = text.replace("\n", " ").split(" ")
    if _are_many(len(places), pieces):
        within = _within_words(pieces, places, _are_a_word)
        # Words of other languages make English ones, too: "fa il" and "ma il" are Italian.
        if _are_many(len(within), pieces) and (whole := _without_these(within, text)):
            return whole
    return _without_these(_within_words(pieces, places, _are_a_word_of_none), text) or text


def _places_in_words(pieces: list[str]) -> list[int]:
    """Which pieces, in small letters, make a word with the next one, or may: told sooner than
    exactly."""
    fronts = map(str.lstrip, pieces, repeat(_OPENING))
    ends = map(str.rstrip, pieces[1:], repeat(_CLOSING))
    are_words = map(vocabulary().__contains__, map(add, fronts, ends))
    return [n for n in compress(count(), are_words) if pieces[n] and pieces[n + 1]]


def _within_words(
    pieces: list[str], places: list[int], are_a_word: Callable[[str, str], bool]
) -> list[int]:
    """Which of these pieces make a word with the next one; each is of one word."""
    within: list[int] = []
    for n in places:
        if within and within[-1] == n - 1 or not are_a_word(*pieces[n : n + 2]):
            continue
        # "the re al" is "the real", not "there al".
        begins_another = is_known(pieces[n]) and n + 2 < len(pieces)
        if not (begins_another and are_a_word(*pieces[n + 1 : n + 3])):
            within.append(n)
    return within


def _without_these(within: list[int], text: str) -> str | None:
    """The text without the blanks behind these pieces; None if there are none, or words that stay
    as they were are not English."""
    if not within:
        return None
    parts = _BLANK.split(text)
    for n in within:
        parts[2 * n + 1] = ""
    whole = "".join(parts)
    return whole if are_english(find_words(text) & find_words(whole)) else None


def _are_no_words(front: str, end: str, fewest: int) -> bool:
    """Whether two pieces of a word of so many letters, or of one of the commonest, are none
    themselves; nor is one empty."""
    if is_known(front) or is_known(end):
        return False
    word, shorter = (front + end).lower(), min(front, end, key=len).lower()
    if len(word) < fewest and word not in commonest_words():
        return False
    return shorter.isalpha() and shorter not in _CONTRACTED_TO_A_LETTER and word not in _NAMES


def _are_a_word_of_none(front: str, end: str) -> bool:
    plain = front.lstrip(_OPENING), end.rstrip(_CLOSING)
    return _are_no_words(*plain, _SPLIT) and _are_a_word(front, end)


def _are_many(splits: int, pieces: list[str]) -> bool:
    return splits >= _FEWEST_SPLIT and _PIECES_A_SPLIT * splits >= len(pieces)


def _are_a_word(front: str, end: str) -> bool:
    front, end = front.lstrip(_OPENING), end.rstrip(_CLOSING)
    if not (front.isalpha() and end.isalpha()) or (front + end).lower() not in vocabulary():
        return False
    has_capital_within = end[0].isupper() and not front.isupper()
    return not has_capital_within and not (is_known(front) and is_known(end))


def _without_hyphen(word: re.Match[str]) -> str:
    front, end = word.groups()
    is_one = (front + end).lower() in vocabulary() and not (is_known(front) and is_known(end))
    return front + end if is_one else word[0]


def _without_stray_marks(text: str) -> str:
    return _STRAY_MARK.sub(lambda mark: "" if _is_stray(mark) else mark[0], text)


def _is_stray(mark: re.Match[str]) -> bool:
    start, end = mark.start(), mark[1]
    found = _BEFORE_MARK.search(mark.string, max(0, start - _LONGEST_PIECE), start)
    front = found[0] if found else ""
    if not front or (front + end).lower() not in vocabulary():
        return False
    if mark[0] in _MARKS_BETWEEN_WORDS:
        fewest = _HYPHENATED_WORD if mark[0] == "-" else SHORTEST_WORD
        return _are_no_words(front, end, fewest)
    is_contracted = end.lower() in _CONTRACTED and is_known(front)
    are_two = mark[0] not in _APOSTROPHES and is_known(front) and is_known(end)
    return not is_contracted and not are_two


def _without_marks(text: str) -> str:
    if _MOST_BETWEEN_MARKS * len(_INNER_MARK.findall(text)) < len(text):
        return text
    found = {word for _, word in _BROKEN_WORD.findall(text) if not _CONTRACTION.fullmatch(word)}
    read = {word: plain for word in found if (plain := _find_word(word)) is not None}
    if not are_a_habit(read, found):
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
    return fill_vowels("*".join(parts))


def _in_one_case(text: str) -> str:
    if _MOST_BETWEEN_CAPITALS * len(_INNER_CAPITAL.findall(text)) < len(text):
        return text
    words = set(_LONG_WORD.findall(text))
    mixed = {w for w in words if _INNER_CAPITAL.search(w) and w.lower() in vocabulary()}
    are_most = len(mixed) >= _FEWEST_MIXED and are_a_habit(mixed, words)
    are_nearly_all = len(mixed) >= _FEWEST_NEARLY_ALL_MIXED and 3 * len(mixed) >= 2 * len(words)
    return text.lower() if are_most or are_nearly_all else text
