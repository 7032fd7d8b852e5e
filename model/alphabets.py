"""English in letters of other scripts that look a little like Latin ones, as generators write it,
and with one of them among its own: "fㅡrㅡeㅡe".

Each alphabet has its letters in the order of a to z, as NFKC leaves them. Where a text so read has
no English words, it is in the language of its letters and stays.
"""

import re
from collections import Counter

from model.words import are_a_habit, are_english, find_words, is_known, vocabulary

_ALPHABETS = (
    "ǟɮƈɖɛʄɢɦɨʝӄʟʍռօքզʀֆȶʊʋաӼʏʐ",
    "ค๒ς๔єŦوђเןкɭ๓ภ๏קợгรՇยשฬאץչ",
    "ልጌርዕቿቻኗዘጎጋጕረጠክዐየዒዪነፕሁሀሠሸሃጊ",
    "₳฿₵ĐɆ₣₲ⱧłJ₭Ⱡ₥₦Ø₱QⱤ₴₮ɄV₩ӾɎⱫ",
    "卂乃匚ᗪ乇千Ꮆ卄丨フҜㄥ爪几ㄖ卩Ɋ尺丂ㄒㄩᐯ山乂ㄚ乙",
    "ДБCDΞFGHIJҜLMИФPǪЯSΓЦVЩЖУZ",
    "ΛBCDΣFGHIJKLMПӨPQЯSƬЦVЩXYZ",
    "αв¢∂єfgнιנкlмησρqяѕтυνωχуz",
    "αɓƈԃҽϝɠԋιʝƙʅɱɳσρϙɾʂƚυʋɯxყȥ",
    "ɑɓƈɗɛƒɠɦιʝƙlɱɲσρqɾʂƭυѵωхყʑ",
    "Ⱥƀȼđɇfǥħɨɉꝁłmnøᵽꝗɍsŧᵾvwxɏƶ",
    "ꍏꌃꉓꀸꍟꎇꁅꃅꀤꀭꀘ꒒ꂵꈤꂦꉣꆰꋪꌗ꓄ꀎꃴꅏꊼꌩꁴ",
    "ᎪᏴᏟᎠᎬFᎶᎻᎥᎫᏦᏞmᏁᎾᏢqᏒᏕᎿuᏉᏇXᎽᏃ",
    "ⲁⲃⲥⲇⲉϝgⲏⲓϳⲕⲗⲙⲛⲟⲣϙⲅⲋⲧuvⲱⲭⲩⲍ",
)
# Of a letter that stands for two, the first.
_PLAIN = {
    ord(letter): chr(ord("a") + place)
    for alphabet in reversed(_ALPHABETS)
    for place, letter in enumerate(alphabet)
    if not letter.isascii()
}
_LETTER = re.compile(f"[{''.join(map(chr, _PLAIN))}]")
_WORD = re.compile(r"\w+")
# Letters, figures and marks upside down, and what they are when the page is turned.
_TURNED = str.maketrans(
    "ɐqɔpǝɟƃɥᴉıɾʞlןɯuodbɹsʇnʌʍxʎz∀ƆƎℲ⅁˥Ԁ┴∩Λ⅄MWƖᄅƐㄣϛ96ㄥ¡¿,')(][}{><",
    "abcdefghiijkllmnopqrstuvwxyzACEFGLPTUVYWM12345697!?',()[]{}<>",
)
_TURNED_LETTER = re.compile("[ɐɔǝɟƃɥᴉɾʞɯɹʇʌʍʎ]")
# Of Danish and Polish, where they are no disguise (accents.py reads those that are).
_NORDIC = {ord(letter): _PLAIN.get(ord(letter), letter) for letter in "øłđħ"}
# So many words that spell English tell that a text is, and half of those that are read otherwise.
_FEWEST_WORDS = 3
# Neither Latin, nor one that is taken for a Latin one.
_OTHER_LETTER = "[^\\W\\d_A-Za-z\u00c0-\u02af\u1d00-\u1dbf\u1e00-\u1eff\u2c60-\u2c7f]"
_BETWEEN_LETTERS = re.compile(rf"({_OTHER_LETTER})(?<=[A-Za-z].)(?=\1{{0,2}}+[A-Za-z])")


def read_alphabets(text: str) -> str:
    """The text in Latin letters, where it is English in one of these alphabets.

    >>> read_alphabets("¢lαιм уσυя fяєє ρяιzє тσ∂αу"), read_alphabets("¡ʎɐpoʇ ǝzᴉɹd ǝǝɹɟ")
    ('claim your free prize today', 'free prize today!')
    """
    text = _read_turned(text)
    if not _LETTER.search(text):
        return text
    read = text.translate(_PLAIN)
    others = {
        word.lower()
        for before, after in zip(text.split(), read.split(), strict=True)
        if before.translate(_NORDIC) != after
        for word in {*_WORD.findall(after)}.difference(_WORD.findall(before))
    }
    return read if are_a_habit(others & vocabulary(), others) else text


def _read_turned(text: str) -> str:
    """The text as it is when its page is turned, if it is English so."""
    if not _TURNED_LETTER.search(text):
        return text
    read = "\n".join(line[::-1] for line in text.translate(_TURNED).split("\n"))
    words = find_words(read)
    return read if len(words) >= _FEWEST_WORDS and are_english(words) else text


def without_letter_between(text: str) -> str:
    """The text without the letter of another script that stands in its words, if these are English.

    >>> without_letter_between("fㅡrㅡeㅡe cㅡaㅡsㅡh, wㅡiㅡn")
    'free cash, win'
    >>> without_letter_between("AとBとCとD")
    'AとBとCとD'
    """
    if text.isascii() or not (found := _BETWEEN_LETTERS.findall(text)):
        return text
    [(letter, _)] = Counter(found).most_common(1)
    read = re.sub(rf"(?<=[!-~£€]){letter}++|{letter}++(?=[!-~£€])", "", text)
    new = find_words(read) - find_words(text)
    num_known = sum(map(is_known, new))
    return read if num_known >= _FEWEST_WORDS and 3 * num_known >= len(new) else text
