"""Words with marks round them, on each or alone between them: "[win] [cash]", "·win ·cash",
"win · cash".

Nearly all words of a text have them, or it is left as it is: lists and emphasis have marks, too.
"""

import operator
import re
from collections import Counter
from itertools import count

from model.words import find_words, is_known

OPENING_BRACKETS = "([{«‹「『《〈【〔〖"
CLOSING_BRACKETS = ")]}»›」』》〉】〕〗"
_MARK = r"(?:[^\w\s]|_)"
# Letters alone in quotes are a list, and a word alone in brackets is a sign: "[photo]".
_BRACKETS = "<>*_~|" + (OPENING_BRACKETS + CLOSING_BRACKETS).replace("«", "").replace("»", "")
_QUOTES = re.escape("\"'“”„‘’«»" + _BRACKETS)
_QUOTED = re.compile(
    rf"[{_QUOTES}](?<!\S.)[{_QUOTES}]*+([^\s{_QUOTES}](?:\S*[^\s{_QUOTES}])?)[{_QUOTES}]++(?!\S)"
)
_FEWEST_QUOTED = 4
# One mark alone between words: "win · cash · now".
_LONE_MARK = re.compile(rf" (?<=\S.)({_MARK}{{1,3}}+) (?=\S)")
_FEWEST_LONE = 6
_FEWEST_ALL_LONE = 3
_LETTER_OR_DIGIT = re.compile(r"[^\W_]")
# A mark that stands on words, but none that people write there: "$5", "#tag", "-v", "__init__".
_ODD_MARK = r"[^\w\s.,;:!?'\"()\[\]{}<>@#$£€¥%&+/\\‘’“”„‐‑–—-]"
_ODD = rf"{_ODD_MARK}{{1,4}}+"
_OR_DOTS = rf"(?:{_ODD}|\.{{2,4}}+)"
_FRONT, _END = r"[A-Za-z0-9$£€\"'(]", r"[A-Za-z0-9.,;:!?\"')]"
# First what tells a habit, then what goes: the habit is told by words of Latin letters.
_BEFORE_WORD = re.compile(rf"(?<!\S){_ODD}(?={_FRONT})"), re.compile(rf"(?<!\S){_ODD}(?=\S)")
_BEHIND_WORD = re.compile(rf"(?<={_END}){_OR_DOTS}(?!\S)"), re.compile(rf"(?<=\S){_OR_DOTS}(?!\S)")
# Those of ASCII stand in names and links, "a|b", and some others between digits: "1⁄2", "2×3".
_BETWEEN_WORDS = (
    re.compile(
        rf"(?![\x00-\x7f])(?:(?<=[A-Za-z.,;:!?]){_ODD}(?=[A-Za-z0-9$£€])"
        rf"|(?<=[0-9]){_ODD}(?=[A-Za-z]))"
    ),
    re.compile(rf"(?![\x00-\x7f])(?<=\S){_ODD}(?=\S)"),
)
_FEWEST_MARKED = 4
# "1. win 2. cash", "1) win"
_NUMBERING = re.compile(r"(?<!\S)([0-9]{1,3})[.):] ?(?=\S)")


def without_quotes(text: str) -> str:
    """The text without the quotes or brackets that stand round most of its words.

    >>> without_quotes("“win” “cash” “right” “now”"), without_quotes("「win」 「cash」")
    ('win cash right now', 'win cash')
    """
    quoted = _QUOTED.findall(text)
    if not quoted or len(quoted) == 1 and text[0] in _BRACKETS:
        return text
    long, words = sum(len(word) > 1 for word in quoted), len(text.split())
    are_most = long >= _FEWEST_QUOTED and 4 * long >= 3 * words
    are_all = len(quoted) == words and 2 * long > words
    return _QUOTED.sub(r"\1", text) if are_most or are_all else text


def without_marks_on_words(text: str) -> str:
    """The text without the marks or dots that stand before most words, behind them, or both, and
    with blanks for marks that stand between most; without these, too, if they part letters.

    >>> without_marks_on_words("·win ·a ·lot ·of ·cash, ·now"), without_marks_on_words("•milk •tea")
    ('win a lot of cash, now', '•milk •tea')
    >>> without_marks_on_words("win»a♥lot»of♥cash"), without_marks_on_words("w♥in c♥as♥h no♥w")
    ('win a lot of cash', 'win cash now')
    """
    for (habit, mark), *blanks in (
        (_BEFORE_WORD, ""),
        (_BEHIND_WORD, ""),
        (_BETWEEN_WORDS, " ", ""),
    ):
        num_marks = len(habit.findall(text))
        if num_marks >= _FEWEST_MARKED:
            read = max((mark.sub(blank, text) for blank in blanks), key=_share_known)
            text = read if 2 * num_marks >= len(read.split()) else text
    return text


def without_numbering(text: str) -> str:
    """The text without the numbers before its words, if they count most of these from one on.

    >>> without_numbering("1. win 2. cash 3. right 4. now"), without_numbering("1) win cash 2) now")
    ('win cash right now', '1) win cash 2) now')
    """
    numbers = _NUMBERING.findall(text)
    if len(numbers) < _FEWEST_MARKED or any(map(operator.ne, map(int, numbers), count(1))):
        return text
    read = _NUMBERING.sub("", text)
    return read if 4 * len(numbers) >= 3 * len(read.split()) else text


def _share_known(text: str) -> float:
    words = find_words(text)
    return sum(map(is_known, words)) / max(1, len(words))


def without_lone_marks(text: str) -> str:
    """The text with blanks alone between words, where one mark stands in most of the gaps.

    >>> without_lone_marks("win · a · lot · of · cash · here · now")
    'win a lot of cash here now'
    """
    marks = Counter(_LONE_MARK.findall(text))
    if marks.total() < _FEWEST_ALL_LONE:
        return text
    [(mark, num_marks)] = marks.most_common(1)
    words = text.split()
    are_most = num_marks >= _FEWEST_LONE and _are_in_most_gaps(num_marks, words)
    are_all = num_marks >= _FEWEST_ALL_LONE and {*words[1::2]} == {mark} and mark not in words[::2]
    if not are_most and not are_all:
        return text
    return text.replace(f" {mark} ", " ")


def _are_in_most_gaps(num_marks: int, words: list[str]) -> bool:
    # Words of letters and digits alone are told sooner, and most texts have too many of them.
    if 4 * num_marks < 3 * (sum(map(str.isalnum, words)) - 1):
        return False
    gaps = sum(bool(_LETTER_OR_DIGIT.search(word)) for word in words) - 1
    return 4 * num_marks >= 3 * gaps
