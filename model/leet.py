"""Words and links spelled with digits and signs for letters: "fr33", "c@$h", "h77p://a.c0m".

Knows GPT-2's vocabulary, which is a list of the common English words: what spells one of them is
read as that word. Hardly any honest name, time, price or slang ("4get", "mp3", "100k") spells one;
what honest texts do have, as postcodes, flights and rooms, is read in a text that has other leet.
"""

import functools
import re
from collections.abc import Callable
from functools import partial

from model.tokenizer import encode
from model.words import vocabulary

_LETTERS = str.maketrans("@4$53€70891!", "aasseetobgii")
# Told much sooner than a word that has one.
_SIGNS = "0-9@$!€"
_STAND_IN = re.compile(f"[{_SIGNS}](?:(?=[A-Za-z])|(?<=[A-Za-z].))")
_WITH_L = _LETTERS | str.maketrans("1!", "ll")
# Letters and their stand-ins, at least one of each, standing alone: not in links, addresses, code,
# nor in "0b1e9a7c-90a7-4c6d".
# Behind an apostrophe what is left of "not", "is", "have" and their like.
_END = r"""(?=[-&<]|[.,:;?!"')*>]*+(?!\S))"""
_WORD = re.compile(
    rf"""(?<![^\s("'*,&<>-])(?<![0-9a-f]{{4}}-)(?=[{_SIGNS}]*+[A-Za-z])(?=[A-Za-z]*+[{_SIGNS}])"""
    rf"""([A-Za-z{_SIGNS}]{{2,24}})(?<!!)"""
    rf"""(?:(['’])((?i:[t7s$md]|[rv][e3]|ll)))?{_END}"""
)
# "I'm" and "it's" that have no letter before the apostrophe.
_PRONOUN = re.compile(rf"""1(?<![^\s("'*,&<>-]1)(?:(['’])(m|[l1]{{2}}|v[e3]|d)|7(['’])\$){_END}""")
# Names of HTML that leet has been written over.
_MARK_NAME = re.compile("&(?:@mp|qu07|[lg]7);")
_BEFORE_NOT = frozenset(
    "ain aren can couldn didn doesn don hadn hasn haven isn shouldn wasn weren won wouldn".split()
)
_BEFORE_VERBS = frozenset("he here how it let she that there they we what where who you".split())
# Behind which a sentence begins; a line of a mail often ends within one.
_SENTENCE_END = r"""(?:\A|[.!?]["')]?\s|\n\n)[\s("'*]{0,2}"""
_BEHIND_SENTENCE = re.compile(rf"{_SENTENCE_END}\Z")
_FIRST_LETTER = re.compile(rf"{_SENTENCE_END}([A-Za-z])")
# Names and headlines: the words before and behind begin with a capital.
_BEHIND_CAPITAL = re.compile(r"""(?<!\S)["'(]?[A-Z]\S*\s["'(*]*\Z""")
_BEFORE_CAPITAL = re.compile(r"""\S*\s["'(*]*[A-Z]""")
_NEIGHBOUR = 24  # characters in which the word before begins
# "5pm", "100k", "win95", "pop3", "shops4u", "Cars4You", "a11y" and "l10n", digits that stand for no
# letter, "$14M".
_HONEST = re.compile(
    r"(?![37][037]*[A-Za-z]{2,}\Z)[1-9]\d*[A-Za-z]{1,3}|[A-Za-z]{3,}(?!0$)\d+|[A-Za-z]{1,2}\d"
    r"|[A-Za-z]+4[Uu]|.*[a-z]4[A-Z].*|[Aa]11[Yy]|[Ll]10[Nn]|.*[26].*|\$[1-9]\d*(?:[kKmMbBtT]|[mMbB][nN])"
)
# What spells a word now and then, though it is none: the time "7h15", the size "80x35", the room
# "C411", the flight "BA53", in a text that was in capitals "Ba53", and the name "@live"; but for
# the commonest words.
_DOUBTFUL = re.compile(
    r"(?!(?i:fr33|73x7)\Z)(?:\d{1,2}[hHu][0-5]\d|\d+[xX]\d+|[A-Za-z]\d{2,4}|[A-Z][A-Za-z]\d{2,4}"
    r"|@[A-Za-z]{3,})"
)
# The halves of postcodes, which are typed in small letters, too: "se11 4qe", "CV4 7HE".
_OUTWARD = re.compile(r"[A-Za-z]{1,2}\d[A-Za-z\d]? \d[A-Za-z]{2}(?!\w)")
_INWARD = re.compile(r"(?:(?<=[A-Za-z]\d )|(?<=[A-Za-z]\d\w ))\d[A-Za-z]{2}(?!\w)")
# Variables of programs, all of which are honest where one is used as they are.
_VARIABLE = re.compile(r"\$[A-Za-z]+")
_VARIABLE_IN_USE = re.compile(r"\$(?<![^\s(].)[A-Za-z]+(?: ?=|;)")
# What follows is to be typed as it stands.
_BEHIND_PASSWORD = re.compile(r"(?i:(?<=password: )|(?<=password is ))")
# A link that begins or ends like no honest one; looked for where a text has one of these.
_LINK_MARKS = ("h77p", "h7tp", "ht7p", ".c0m")
_LINK = re.compile(
    r"(?<!\S)(?:h(?:7[7t]|t7)p[s5$]?:|\S{1,80}\.c0m(?![^/!?.,]))(?:\S*[^\s!?.,)])?", re.IGNORECASE
)
_LINK_PIECE = re.compile(r"[^/.?=&_-]+")
_NUMBER = re.compile(r"\d{4}|\A\d+\Z")
# What may be a word that the vocabulary has in two or three pieces, but no hash.
_LONG_WORD = re.compile(r"(?![0-9a-f]+\Z)[A-Za-z@$][A-Za-z0-9@$]{5,}[A-Za-z03$]")


def read_leet(text: str) -> str:
    """The text with such words and links in letters.

    >>> read_leet("Fr33 c@$h, 10am to 5pm, b4 L8 callers get a r1ngt0ne!")
    'Free cash, 10am to 5pm, b4 L8 callers get a ringtone!'
    """
    as_it_came, lowered = text, text.lower()
    if any(mark in lowered for mark in _LINK_MARKS):
        text = _LINK.sub(lambda match: _LINK_PIECE.sub(_read_piece, match[0]), text)
    if "&" in text:
        text = _MARK_NAME.sub(lambda name: _in_letters(name[0]), text)
    if "1" in text:
        text = _PRONOUN.sub(_read_pronoun, text)
    if not _STAND_IN.search(text) or not _has_leet(text):
        return text
    large = functools.cache(partial(_sentences_begin_large, text))
    has_code = bool(_VARIABLE_IN_USE.search(text))
    surely = _WORD.sub(
        lambda word: word[0] if _is_doubtful(word, has_code) else _read_word(word, large), text
    )
    if surely == as_it_came:
        return text
    return _WORD.sub(lambda match: _read_word(match, large), surely)


def spells_a_word(word: str) -> bool:
    """Whether letters with digits and signs among them are read as a word."""
    return _find_word(word, "") != word


def _has_leet(text: str) -> bool:
    """Whether any of its words spells another one: told without most of them, and each once."""
    lines = filter(_STAND_IN.search, text.split("\n"))
    others = {word for line in lines for word in line.split() if _STAND_IN.search(word)}
    words = _WORD.finditer(" ".join(others))
    return any(_find_word(*_word_and_ending(word)) != word[1] for word in words)


def _sentences_begin_large(text: str) -> bool:
    firsts = _FIRST_LETTER.findall(text)
    return 2 * sum(map(str.isupper, firsts)) >= len(firsts)


def _is_doubtful(match: re.Match[str], has_code: bool) -> bool:
    """Whether what spells a word may be honest where it stands."""
    text, word, start = match.string, match[1], match.start()
    if _DOUBTFUL.fullmatch(word) or has_code and _VARIABLE.fullmatch(word):
        return True
    return any(p.match(text, start) for p in (_OUTWARD, _INWARD, _BEHIND_PASSWORD))


def _read_piece(match: re.Match[str]) -> str:
    """A piece of a link in letters, unless it is a number."""
    return match[0] if _NUMBER.search(match[0]) else _in_letters(match[0])


def _read_pronoun(match: re.Match[str]) -> str:
    mark, ending, mark_of_it = match.groups()
    return f"it{mark_of_it}s" if mark_of_it else f"I{mark}{ending.translate(_WITH_L)}"


def _read_word(match: re.Match[str], begin_large: Callable[[], bool]) -> str:
    word, ending = _word_and_ending(match)
    plain = _find_word(word, ending)
    if plain == word:
        return match[0]
    if not word[0].isalpha() and _begins_large(match, begin_large):
        plain = plain[0].upper() + plain[1:]
    return plain + (match[2] or "") + (ending.upper() if plain.isupper() else ending)


def _word_and_ending(match: re.Match[str]) -> tuple[str, str]:
    return match[1], (match[3] or "").lower().translate(_LETTERS)


def _begins_large(match: re.Match[str], sentences_do: Callable[[], bool]) -> bool:
    """Whether a word whose first letter is hidden begins with a capital where it stands."""
    text, start = match.string, match.start()
    if _BEHIND_SENTENCE.search(text, max(0, start - 6), start) and sentences_do():
        return True
    if not _BEFORE_CAPITAL.match(text, match.end(), match.end() + _NEIGHBOUR):
        return False
    return bool(_BEHIND_CAPITAL.search(text, max(0, start - _NEIGHBOUR), start))


def _find_word(word: str, ending: str) -> str:
    """The word in letters if it is one, else as it is."""
    before_ending = _BEFORE_NOT if ending == "t" else _BEFORE_VERBS if ending else frozenset()
    for letters in (_LETTERS, _WITH_L):
        plain = _in_letters(word, letters)
        if plain.lower() in before_ending:
            return plain
        if ending == "t" or _HONEST.fullmatch(word):
            continue
        if plain.lower() in vocabulary() or _is_plainer(plain, word):
            return plain
    return word


def _in_letters(word: str, letters: dict[int, int] = _LETTERS) -> str:
    plain = word.translate(letters)
    return plain.upper() if word.isupper() else plain


def _is_plainer(plain: str, word: str) -> bool:
    return bool(_LONG_WORD.fullmatch(word)) and 2 * _num_tokens(plain.lower()) <= _num_tokens(word)


def _num_tokens(word: str) -> int:
    return len(encode(f" {word}", 100)[0])
