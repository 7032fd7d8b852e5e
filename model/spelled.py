"""Words spelled out letter by letter, put together: "f r e e", "f.r.e.e", "[f][r][e][e]".

Where blanks part words and letters alike ("c a l l n o w"), ``segment.py`` tells the words.
"""

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from model.leet import spells_a_word
from model.marked import CLOSING_BRACKETS, OPENING_BRACKETS
from model.segment import segment
from model.words import is_known, vocabulary


@dataclass(frozen=True)
class _Spelling:
    """Words spelled out in one way, and what is in the midst of each, which is told much sooner."""

    word: re.Pattern[str]
    sign: re.Pattern[str]

    def sub(self, put: Callable[[re.Match[str]], str], text: str) -> str:
        return self.word.sub(put, text) if self.sign.search(text) else text


# Letters and digits that one separator keeps apart: "f r e e", "f.r.e.e"; not the end of "a b 0.5".
_SPELLED_OUT = _Spelling(
    re.compile(
        r"(?<![^\W_])[A-Za-z0-9](?:([ .\-_*/·•–—−~‧])[A-Za-z0-9])(?:\1[A-Za-z0-9])+"
        r"(?![^\W_]|(?<= \d)[.,]\d)"
    ),
    sign=re.compile(r"([ .\-_*/·•–—−~‧])[A-Za-z0-9]\1[A-Za-z0-9](?![^\W_])"),
)
_OPENING, _CLOSING = map(re.escape, (OPENING_BRACKETS, CLOSING_BRACKETS))
# Characters in boxes: "[f][r][e][e]".
_BOX = re.compile(rf"[{_OPENING}](\S)[{_CLOSING}]")
_FEWEST_BOXES = 8
# A mark, or a letter of another script: a character is found in such a set sooner than in classes.
_MARK = r"[^A-Za-z0-9_ \n<>?]"
# Four and more letters that any other mark or symbol keeps apart, and three and more in boxes:
# "f|r|e|e", "f--r--e--e", "[f][r][e][e]"; "A|B|C|D" and "f(x,y,z,t)", too, which are no words.
_MARKED_WORD = _Spelling(
    re.compile(
        r"(?<![^\W_])[A-Za-z]([^\w\s<>?]{1,2})[A-Za-z](?![^\W_])(?:\1[A-Za-z](?![^\W_])){2,}+"
        rf"|(?<![^\W_])(?:[{_OPENING}][A-Za-z][{_CLOSING}]){{3,}}+"
    ),
    sign=re.compile(rf"({_MARK})[A-Za-z]{_MARK}?(?:\1|[{_OPENING}])[A-Za-z]{_MARK}"),
)
# Four and more letters that one mark and a blank or two keep apart: "f - r - e - e", "f, r, e, e".
_LETTERS_APART = _Spelling(
    re.compile(
        r"(?<![^\W_])[A-Za-z](?P<between> ?(?:[^\w\s<>?]|_) )[A-Za-z](?![^\W_])"
        r"(?:(?P=between)[A-Za-z](?![^\W_])){2,}+"
    ),
    sign=re.compile(r"([^A-Za-z0-9 \n<>?]) [A-Za-z] ?\1 [A-Za-z](?![^\W_])"),
)
# Five and more letters or digits that different marks keep apart: "V _ 1, c - o'd - 1 ' n".
_SCATTERED_WORD = _Spelling(
    re.compile(r"(?<![^\W_])[A-Za-z0-9](?: ?[.,;:!?*_'`^~|\"-]{1,2} ?[A-Za-z0-9](?![^\W_])){4,}+"),
    sign=re.compile(
        r"[.,;:!?*_'`^~|\"-](?: ?[A-Za-z0-9] ?[.,;:!?*_'`^~|\"-]{1,2}){2} ?[A-Za-z0-9](?![^\W_])"
    ),
)
_LETTERS_AND_DIGITS = re.compile(r"[A-Za-z0-9]")
_FEWEST_LETTERS = 3
# Labels and versions, of letters and digits in turn: "1-A, 2-C", "x_1, x_2", "1.9.x".
_LABELS = re.compile(r"(?:[A-Za-z]\d+)+|(?:\d+[A-Za-z])+")
# Notes, grades and answers: "G C G D G".
_NOTES = re.compile(r"[A-G]+", re.IGNORECASE)
_VOWELS = re.compile(r"[aeiou\d]|[^\x00-\x7f]", re.IGNORECASE)
# Scales, pagers and alphabets.
_EVERY_CHARACTER = "0123456789 abcdefghijklmnopqrstuvwxyz"
_LONGEST_LIST = 100
# Object identifiers of the internet: "1.3.6.1.2.1.1.3.0".
_IDENTIFIER = "1361"
# Longer than scores, versions and sections are only telephone numbers; codes begin like this.
_FEWEST_DIGITS = 7
_SHORT_NUMBER = re.compile(r"[08]\d{4,}")
# Marks that lists, abbreviations and initials have among them.
_IN_LISTS = {".", ",", ".,", ";", ":"}
# Beside a digit, what makes three of them a price.
_CURRENCY = re.compile(r"[$£€%]\d|\d[$£€%]")
# "h t t p : / / a . b": marks are put together only where a link begins.
_SPELLED_LINK = re.compile(r"(?<!\S)h t t p(?: s)? : / /(?: \S(?!\S))++", re.IGNORECASE)
# The same without that: "w w w . a . c o m". Where nothing tells its begin, the end alone.
_HOST_END = r" \. (?:c o m|n e t|o r g|b i z|i n f o|(?:c o|o r g|a c) \. u k)(?!\S)"
_SPELLED_HOST = re.compile(
    rf"(?<!\S)w w w \.(?: [\w.-](?!\S)){{1,40}}?{_HOST_END}|(?<=\w){_HOST_END}", re.IGNORECASE
)
# Cells of a table.
_ROW = re.compile(r"(?<![^\W_])[A-Za-z0-9](?: [A-Za-z0-9](?![^\W_])){3,}+")
# Words of which every second character is one separator, whatever the others: "d.o.n.'.t". A
# line may end among them.
_SPELLED_WORD = _Spelling(
    re.compile(
        r"(?<!\S)\S([.\-_*/|·•–—−~‧])(?:\S|\n(?=\1))(?:\1(?:\S|\n(?=\1)))++(?=[,;:!?)]*+(?!\S))"
    ),
    sign=re.compile(r"([.\-_*/|·•–—−~‧])(?<=(?<!\S)\S.)(?!\1*+(?!\S|\n\1))[\S\n]\1"),
)
# The same of any character, by one mark between blanks: "h - t - t - p - : - / - /".
_SPELLED_APART = _Spelling(
    re.compile(r"(?<!\S)\S( [\-_*·•–—−~|] )\S(?!\S)(?:\1\S(?!\S)){2,}+"),
    sign=re.compile(r"([\-_*·•–—−~|])(?<= .) [^\W_] \1 "),
)
# From so many on such a run may be no word: "N - S - E - W" is none. Digits are a number to call.
_FEWEST_APART = 7
_DIALLED = re.compile(r"(?:[08]\d{4,}|\d{10,})[.,!?]?")
# Chinese and Japanese, which part no characters by blanks.
_HAN = "[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]"
_HAN_APART = re.compile(rf"{_HAN}(?<!\w.)(?: {_HAN}(?!\w)){{3,}}+")
# Letters and digits that one blank keeps apart, and marks among them that belong to words, prices,
# contractions and addresses.
_LETTER = r"[A-Za-z0-9](?![^\W_])"
_DIGIT = r"\d(?![^\W_])"
_BLANK_RUN = re.compile(
    rf"(?<![^\W_])(?<![^\W_]['’])(?:{_LETTER}|[£$€](?= {_DIGIT}))"
    rf"(?: (?:{_LETTER}|[£$€](?= {_DIGIT})|(?<=\d )[.,](?= {_DIGIT})|[-/&@_'’](?= {_LETTER})))++"
)
# Three in a row are in each run that spells a word.
_LETTERS_IN_A_ROW = re.compile(rf" [A-Za-z0-9] {_LETTER}")
# Letters one below another, words apart by empty lines.
_COLUMN = _Spelling(
    re.compile(r"(?<![^\n])[A-Za-z](?:\n\n?[A-Za-z](?![^\n])){3,}+"),
    sign=re.compile(r"\n[A-Za-z]\n"),
)
# Where more blanks part such runs, each of them is one word.
_WIDE_BLANK = re.compile(r"(?<= [A-Za-z0-9]) {2,}(?=[A-Za-z0-9] )")
# Of a run, what is no word: prices, numbers, ends of contractions, and marks.
_NO_WORD = re.compile(r"([£$€]\d[\d.,]*|\d[\d.,]{2,}|['’](?:[stmd]|re|ve|ll)|[-/&@_'’])", re.I)
# The blanks that do not belong round marks and the ends of contractions.
_BEFORE_MARK = re.compile(r" (?=[-/&@_'’])|(?<=[-/&@_]) ")


def put_together(text: str, *, typing: bool) -> str:
    """The text with such words whole; ``typing`` as for ``fold_text``.

    Four letters apart by blanks, three by a usual separator, and, where they are like a word, four
    by any other mark and three in boxes; so are prices, links, and numbers of seven digits, or of
    five that begin like a telephone's.
    With ``typing`` blanks may stand beside the mark; and where a longer word is spelled out by
    blanks, shorter ones are read, too.

    >>> put_together("C a l l n o w for a f r e e prize, v.i.s.a", typing=True)
    'Call now for a free prize, visa'
    """
    if typing:
        text = _without_boxes(text)
    if ": / /" in text:
        text = _SPELLED_LINK.sub(lambda link: link[0].replace(" ", ""), text)
    if " . " in text:
        text = _SPELLED_HOST.sub(lambda part: part[0].replace(" ", ""), text)
    text = _SPELLED_WORD.sub(_put_word_together, text)
    if typing:
        text = _SPELLED_APART.sub(_put_characters_together, text)
        if not text.isascii():
            text = _HAN_APART.sub(lambda run: run[0].replace(" ", ""), text)
        text = _LETTERS_APART.sub(_put_marked_together, text)
        text = _read_blank_runs(_COLUMN.sub(_read_column, text))
    text = _put_runs_together(text) if typing else _SPELLED_OUT.sub(_put_letters, text)
    return _MARKED_WORD.sub(_put_marked_together, text)


def gather(text: str) -> str:
    """The text with words whole whose letters different marks keep apart."""
    return _SCATTERED_WORD.sub(_gather, text)


def _without_boxes(text: str) -> str:
    """The text without the brackets round its characters, if most of it is in such boxes.

    >>> _without_boxes("[w][i][n] [a] [c][a][r], 5 [£]!"), _without_boxes("[x] no [ ] yes [5]")
    ('win a car, 5 £!', '[x] no [ ] yes [5]')
    """
    num_boxes = len(_BOX.findall(text))
    if num_boxes < _FEWEST_BOXES or 2 * 3 * num_boxes < len("".join(text.split())):
        return text
    return _BOX.sub(r"\1", text)


def _read_blank_runs(text: str) -> str:
    if not _LETTERS_IN_A_ROW.search(text):
        return text
    found = set(_BLANK_RUN.findall(text))
    are_words = bool(_WIDE_BLANK.search(text))
    runs = {run: _read_run(run, are_words) for run in found}
    if any(map(_is_spelled_out, runs.values())):
        text = _BLANK_RUN.sub(lambda run: _join(run[0], runs[run[0]]), text)
    return text


def _read_column(column: re.Match[str]) -> str:
    words = [word for part in column[0].split("\n\n") for word in segment(part.replace("\n", ""))]
    # "A", "B", "C" may be answers, and "a" and "I" are words.
    letters = sum(len(word) for word in words if is_known(word) and len(word) > 1)
    return " ".join(words) if 2 * letters > sum(map(len, words)) else column[0]


def _read_run(run: str, is_word: bool) -> list[str]:
    words: list[str] = []
    for n, piece in enumerate(_NO_WORD.split(run.replace(" ", ""))):
        words += [piece] if n % 2 or is_word else segment(piece)
    return words


def _is_spelled_out(words: list[str]) -> bool:
    return _is_long(words) and any(is_known(word) and len(word) > 2 for word in words)


def _is_long(words: list[str]) -> bool:
    return sum(map(len, words)) > 3


def _join(run: str, words: list[str]) -> str:
    # "a b c" may be words of one letter.
    if _is_long(words) or all(is_known(word) or _NO_WORD.fullmatch(word) for word in words):
        return _BEFORE_MARK.sub("", " ".join(words))
    return run


def _put_word_together(word: re.Match[str]) -> str:
    characters = word[0][::2]
    if sum(map(str.isalpha, characters)) > 2:
        is_word = _is_spelled(characters, word[1])
    else:
        is_word = _is_amount(characters)
    return characters if is_word else word[0]


def _put_characters_together(run: re.Match[str]) -> str:
    characters = run[0][::4]
    letters = "".join(filter(str.isalpha, characters)).lower()
    is_long = len(characters) >= _FEWEST_APART and len(letters) >= _FEWEST_LETTERS
    is_word = _is_like_a_word(letters) or is_long and _is_spelled(characters, "-")
    return characters if is_word or _DIALLED.fullmatch(characters) else run[0]


def _put_runs_together(text: str) -> str:
    """As ``_put_letters``; but what is like no word in rows one below another is a table's."""
    if not _SPELLED_OUT.sign.search(text):
        return text
    lines = text.split("\n")

    @functools.cache  # each line is looked at once, however many runs stand beside it
    def is_row(n: int) -> bool:
        return 0 <= n < len(lines) and _ROW.search(lines[n]) is not None

    return "\n".join(
        _SPELLED_OUT.sub(partial(_put_run_together, is_row, n), line)
        for n, line in enumerate(lines)
    )


def _put_run_together(is_row: Callable[[int], bool], n: int, run: re.Match[str]) -> str:
    is_letters = run[1] == " " and not _is_like_a_word(run[0][::2].lower())
    return run[0] if is_letters and (is_row(n - 1) or is_row(n + 1)) else _put_letters(run)


def _put_letters(run: re.Match[str]) -> str:
    letters = run[0][::2]
    if letters.isdigit():
        is_word = _is_amount(letters)
    else:
        # "a b c" may be words of one letter.
        is_word = _is_spelled(letters, run[1]) and len(letters) > (3 if run[1] == " " else 2)
    return letters if is_word else run[0]


def _is_spelled(letters: str, separator: str) -> bool:
    """Whether they are rather one word than a list of things of one character each.

    >>> [_is_spelled(letters, "-") for letters in ("win", "MWF", "A1B2", "abcde", "MTWTFS")]
    [True, False, False, False, False]
    """
    letters = letters.strip("!?.,:;")
    lowered = letters.lower()
    # "a*b*c" is a product, though "abc" is a word.
    if lowered in _EVERY_CHARACTER:
        return False
    if len(letters) > _LONGEST_LIST or is_known(letters) or spells_a_word(letters):
        return True
    if _LABELS.fullmatch(letters):
        return False
    if separator not in " -–—−/|":
        return True
    # "S M T W T F S", "M-W-F", "m/w/d"; any letter of another script may be a vowel.
    has_vowels = _VOWELS.search(letters) and not _NOTES.fullmatch(letters)
    is_varied = len(set(lowered)) >= _FEWEST_LETTERS
    # "s/a/b/g"
    is_long = separator not in "/|" or len(letters) > 4
    return bool(has_vowels) and is_varied and is_long


def _put_marked_together(word: re.Match[str]) -> str:
    letters = "".join(filter(str.isalpha, word[0]))
    return letters if _is_like_a_word(letters.lower()) else word[0]


def _is_like_a_word(letters: str) -> bool:
    """Whether they are a common word, or may be a rare one: no list, no formula, no code.

    >>> [_is_like_a_word(letters) for letters in ("cash", "viagra", "abcde", "smtwtfs", "rnrn")]
    [True, True, False, False, False]
    """
    vowels = sum(map("aeiou".count, letters))
    is_varied = len(letters) > 4 and len(set(letters)) >= _FEWEST_LETTERS
    is_rare_word = is_varied and 3 * vowels >= len(letters) and [*letters] != sorted(letters)
    return is_rare_word and not _NOTES.fullmatch(letters) or letters in vocabulary()


def _gather(word: re.Match[str]) -> str:
    characters = "".join(_LETTERS_AND_DIGITS.findall(word[0]))
    marks = [mark.strip() for mark in _LETTERS_AND_DIGITS.split(word[0])[1:-1]]
    # "A-B, B-C" are pairs.
    are_pairs = len(set(marks[::2])) == len(set(marks[1::2])) == 1
    is_disguise = len(set(marks)) > 1 and not are_pairs and not {*marks} <= _IN_LISTS
    is_word = is_disguise and sum(map(str.isalpha, characters)) >= _FEWEST_LETTERS
    # "1-A, 2-C" and the chords "C-E-G, A-C-E".
    is_list = _LABELS.fullmatch(characters) or _NOTES.fullmatch(characters)
    return characters if is_word and not is_list else word[0]


def _is_amount(characters: str) -> bool:
    """Whether these can be a price or a telephone number, but no score, version or section."""
    digits = "".join(filter(str.isdigit, characters))
    if _CURRENCY.search(characters):
        return len(digits) >= _FEWEST_LETTERS
    if digits[:4] in _EVERY_CHARACTER or digits.startswith(_IDENTIFIER):
        return False
    return len(digits) >= _FEWEST_DIGITS or bool(_SHORT_NUMBER.fullmatch(digits))
