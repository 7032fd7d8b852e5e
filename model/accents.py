"""Letters of English words without accents that nobody writes there: "frée cásh", "frøø".

Knows GPT-2's vocabulary, which is a list of the common English words. French and Spanish share many
of these with English, but for accents, and few of their other words: such text stays as it is. So
does one whose words all may be French or Vietnamese.
"""

import re
import unicodedata

from model.words import are_a_habit, are_english, is_known, vocabulary

_ACCENTED = "\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u02af\u1e00-\u1eff\u2c60-\u2c7f"
_VOWEL = re.compile(f"[aeiouAEIOU{_ACCENTED}]")
_ACCENTED_LETTER = re.compile(f"[{_ACCENTED}]")
_ACCENTED_WORD = re.compile(f"(?<![A-Za-z])[A-Za-z]*+[{_ACCENTED}][A-Za-z{_ACCENTED}]*+")
_WORD = re.compile(f"[A-Za-z{_ACCENTED}]++")
_MARK = re.compile("[\u0300-\u036f]")
# Letters that no accent can be taken off, by their names: "LATIN SMALL LETTER O WITH STROKE".
_BASE = re.compile(r"LATIN (SMALL|CAPITAL) LETTER ([A-Z]) WITH .*")
_STROKED = {
    code: name[2] if name[1] == "CAPITAL" else name[2].lower()
    for code in (*range(0xC0, 0x2B0), *range(0x2C60, 0x2C80))
    if (name := _BASE.fullmatch(unicodedata.name(chr(code), "")))
} | {ord(other): latin for other, latin in zip("ßþðɛ", "bpde", strict=True)}
# Of the vowels of no language so many have the same accent: "Súbscríbé tó mé".
_SHARE_OF_VOWELS = 0.8
# What neither French nor Vietnamese spells so, as they do "the" ("thế") and "decision".
_ENGLISH_ALONE = re.compile(r"w|ee|oo|sh|ck|you|..[^aeiou]y$|ll$")


def without_disguising_accents(text: str) -> str:
    """The text without any accents if most words, and most that have some, are English without.

    >>> without_disguising_accents("Fréé cásh, wín nów! Mañana")
    'Free cash, win now! Manana'
    """
    if text.isascii() or not _ACCENTED_LETTER.search(text):
        return text
    # "Café" and "résumé" are English, too.
    accented = {_plain(word).lower() for word in _ACCENTED_WORD.findall(text)}
    english = accented & vocabulary()
    are_most = are_a_habit(english, accented)
    num_accented, num_vowels = (len(p.findall(text)) for p in (_ACCENTED_LETTER, _VOWEL))
    are_all = (
        len(english) > 0
        and num_accented >= _SHARE_OF_VOWELS * num_vowels
        and len(set(_MARK.findall(unicodedata.normalize("NFKD", text)))) == 1
    )
    if not are_most and not are_all:
        return text
    words = {_plain(word).lower() for word in _WORD.findall(text)}
    is_english = are_all or any(map(_ENGLISH_ALONE.search, filter(is_known, words)))
    if not (is_english and are_english(words)):
        return text
    return _ACCENTED_WORD.sub(lambda word: _plain(word[0]), text)


def _plain(word: str) -> str:
    return _MARK.sub("", unicodedata.normalize("NFKD", word.translate(_STROKED)))
