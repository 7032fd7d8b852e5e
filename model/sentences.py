"""Marks and case as people type them, whatever a sender or a published corpus made of them.

GPT-2's tokens of "free , now" and of "FREE, NOW" have nothing in common with those of "Free, now".
"""

import re

from model.tokenizer import usual_spellings
from model.words import are_english, find_words

# Marks that blanks keep apart, as published corpora write them: "free , now", "don ' t", "( all )";
# but the blank behind a sad face is a blank.
_SET_APART = re.compile(
    r" (?:(?<=\S )(?=[,.;:!?](?!\S)|[)\]%](?![^\s,.;:!?]))"
    r"|(?<=[(\[] )(?<![:;=]. )(?<![:;=]['-]. )(?=\S))"
)
_ENDING = r"(?=(?:[stmd]|re|ve|ll)\b)"
_APOSTROPHE = re.compile(rf" '(?<=\w..) ?{_ENDING}|' (?<=\w..){_ENDING}", re.IGNORECASE)
# A text of so many capitals a small letter, and of some capitals at all, is typed in capitals.
_CAPITALS = 9
_FEWEST_CAPITALS = 4
_NO_CAPITALS = bytes(set(range(128)) - set(range(ord("A"), ord("Z") + 1)))
_NO_SMALL = bytes(set(range(128)) - set(range(ord("a"), ord("z") + 1)))
# Latin letters, with accents and without; Python makes two characters of a capital dotted I.
_TO_SMALL = {
    code: chr(code).lower()
    for code in (*range(0x41, 0x5B), *range(0xC0, 0x250), *range(0x1E00, 0x1F00))
} | {0x130: "i"}
# Whole words, not parts of links, addresses and file names, nor of "j'ai".
_WORD = re.compile(r"(?<![^\s\"'(\[])(?<!\w')[a-z]{2,}+(?![@/-]|[^\W\d]|[.:][^\s\"])")
# What stands between two words, or before the first, and the next letter, if it has a capital of
# its own (a dotless i has that of i) that is one character. One blank ends no sentence.
_BETWEEN_WORDS = re.compile(
    r"(?:\A\W*+|(?<=\w)(?! \w)\W++)(?!https?:|www\.)[a-zà-öø-İĲ-ňŋ-ǯǱ-ɏḁ-ẕẛ-ỿ]"
)
_SENTENCE_END = re.compile(r"[.!?]\s|\n\s*\n")
# Lines this long go on in the next one, unless a sentence ends there.
_FULL_LINE = 50
# Not "i.e." and "l'i", nor code: "for (i=0;i<a;i++)", "a[i]"; but "so do i)" and "i <3 u".
_I = re.compile(r"(?<![=;<+])(?<!\w[\['’])\bi\b(?!\.\w|[=;+]|<(?!3)|(?<=\(i)\))")


def as_typed(text: str) -> str:
    """The text with marks where they belong, and in sentences where it is in one case throughout.

    >>> as_typed("i don ' t know ( yet ) . call me !")
    "I don't know (yet). Call me!"

    There, names get their capitals, too, where GPT-2's vocabulary knows them and the text is
    English: "dan" is "and" in Indonesian, and "i" in Polish.

    >>> as_typed("the dvd is in london"), as_typed("kopi dan gula")
    ('The DVD is in London', 'Kopi dan gula')
    """
    text = _SET_APART.sub("", text)
    if " '" in text or "' " in text:
        text = _APOSTROPHE.sub("'", text)
    letters = text.encode("ascii", "ignore")
    capitals = len(letters.translate(None, _NO_CAPITALS))
    small = len(letters.translate(None, _NO_SMALL))
    if capitals and capitals < max(_CAPITALS * small, _FEWEST_CAPITALS):
        return text
    if capitals and _CAPITALS * _num_other_small(text) > capitals:
        return text
    if capitals:  # else capitals with accents, if any, begin names
        text = text.translate(_TO_SMALL)
    if are_english(find_words(text)):
        spellings = usual_spellings()
        text = _I.sub("I", _WORD.sub(lambda word: spellings.get(word[0], word[0]), text))
    return _BETWEEN_WORDS.sub(_begin_sentence, text)


def _num_other_small(text: str) -> int:
    """Letters beyond ASCII that are no capitals: small ones, and those of scripts with one case."""
    if text.isascii():
        return 0
    return sum(c > "\x7f" and c.isalpha() and not c.isupper() for c in text)


def _begin_sentence(place: re.Match[str]) -> str:
    if place.start() == 0 or _SENTENCE_END.search(place[0]):
        return place[0].upper()
    if "\n" not in place[0]:
        return place[0]
    line = place.start() - place.string.rfind("\n", 0, place.start())
    return place[0].upper() if line <= _FULL_LINE else place[0]
