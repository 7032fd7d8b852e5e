"""Text folded for the model: disguised letters become the plain ones that they look like.

Leet, marks and case become what people type (``leet.py``, ``tokenized.py``, ``sentences.py``), and
HTML's names of characters those characters.

Knows Unicode, nothing of mail. Training and service fold alike, SMS and mail alike; what is shown
or stored stays as it came.
"""

import re
import unicodedata
from html import unescape
from html.entities import html5

from model.accents import without_disguising_accents
from model.alphabets import read_alphabets, without_letter_between
from model.broken import without_breaks
from model.direction import as_shown
from model.leet import read_leet
from model.lines import tidy_blanks
from model.marked import without_lone_marks, without_marks_on_words, without_numbering
from model.sentences import as_typed
from model.spelled import gather, put_together
from model.tokenized import join_marks
from model.words import are_a_habit, vocabulary

# Letters that NFKC keeps apart though they look like Latin ones, in mail that means to deceive.
_LOOKALIKES = {
    "a": "аɑαᴀ", "b": "ЬƄƅʙᏏ", "c": "сϲᴄⲥ", "d": "ԁɗᴅꓒᏧ", "e": "еёҽєεᴇ℮", "f": "ꜰƒ", "g": "ɡցɢ",
    "h": "һհʜ", "i": "іїıɩιɪꙇ", "j": "јʝϳᴊ", "k": "кκᴋ", "l": "ӏʟⅼ", "m": "мᴍ", "n": "ոռɴпη",
    "o": "оοօσᴏⲟ", "p": "рρᴘⲣ", "q": "ԛգ", "r": "гᴦʀ", "s": "ѕꜱʂ", "t": "тτᴛ", "u": "υսᴜц",
    "v": "ѵνᴠ", "w": "ԝѡաᴡшω", "x": "хχ", "y": "уүγʏ", "z": "ᴢʐ",
    "A": "АΑᎪꓮᗩ", "B": "ВΒᏴꓐᗷ", "C": "СϹᏟꓚᑕⲤ", "D": "ƊᎠꓓᗪᗞ", "E": "ЕЁΕᎬꓰᗴ", "F": "ƑϜꓝᖴ",
    "G": "ԌᏀᏳꓖᘜ", "H": "НΗᎻꓧᕼⲎ", "I": "ІЇƖΙӀꓲⲒ", "J": "ЈᎫꓙᒍ", "K": "КΚᏦꓗⲔ", "L": "Ꮮꓡᒪ",
    "M": "МΜᎷꓟᗰⲘ", "N": "ΝꓠᑎⲚ", "O": "ОΟՕꓳⲞ", "P": "РΡᏢꓑᑭⲢ", "Q": "Ԛᑫ", "R": "ƦᎡᏒꓣᖇ", "S": "ЅՏᏚᏕꓢᔕ",
    "T": "ТΤᎢꓔⲦ", "U": "Սꓴᑌ", "V": "ѴᏙꓦᐯ", "W": "ԜᎳᏔꓪᗯ", "X": "ХΧꓫᕽⲬ", "Y": "ҮΥᎩᎽꓬ", "Z": "ΖᏃꓜᘔ",
}  # fmt: skip
_TO_LATIN = {ord(other): latin for latin, others in _LOOKALIKES.items() for other in others}
# The small letters of Cherokee look like small capitals, in the order of its capitals.
_TO_LATIN |= {
    code - 0x13A0 + 0xAB70: latin.lower()
    for code, latin in _TO_LATIN.items()
    if 0x13A0 <= code < 0x13F0
}
_LOOKALIKE = re.compile(f"[{''.join(map(chr, _TO_LATIN))}]")
# Ends of lines and of pages, and Windows' "…" where it was taken for one.
_PARTING = {0x0B: "\n", 0x0C: "\n", 0x85: " "}
# Letters in circles, in boxes, and the halves of flags: NFKC leaves them as symbols. Braille has a
# blank without dots.
_SYMBOLS = (
    {
        first + n: chr(ord("A") + n)
        for first in (0x1F150, 0x1F170, 0x1F1E6, 0x1CCD6)
        for n in range(26)
    }
    | {0x2800: " "}
    | _PARTING
)

# Zero-width, bidi and other format characters (Cf), variation selectors, blank-looking fillers, and
# the combining strokes and accents that NFKC could not join to a letter.
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u070f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffc\U0001bca0-\U0001bca3"
    "\U00013430-\U0001345f\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_STRAY_ACCENT = re.compile("[\u0300-\u036f\u0488\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff]")
_MARKS = [mark for mark in map(chr, range(0x300, 0x1FFFF)) if unicodedata.category(mark)[0] == "M"]
# Marks of any script on a letter that is Latin or looks so; NFKC has joined those of Latin.
_MARKS_ON_LETTERS = "".join(mark for mark in _MARKS if unicodedata.category(mark) != "Mc")
# That a character is beyond U+02FF is told much sooner than that it is one of these.
_FOREIGN_MARK = re.compile(
    f"(?=[\u0300-\U0010ffff])(?<=[A-Za-z{''.join(map(chr, _TO_LATIN))}])[{_MARKS_ON_LETTERS}]+"
)
# Letters with blanks between them that are too narrow to be seen.
_NARROW_BLANKS = re.compile(
    r"(?<!\w)[^\W\d_](?:[\u2005-\u200a\u202f\u205f\u2800][^\W\d_](?!\w)){2,}+"
)
_NARROW_BLANK = re.compile("[\u2005-\u200a\u202f\u205f\u2800]")
# An accent of its own, typed as an apostrophe: NFKC makes a blank of it, and two words of "it´s".
_ACUTE = re.compile(r"\u00b4(?<=[^\W\d_].)(?=[^\W\d_])")
_WORD = re.compile(r"\w+")
_LATIN = re.compile(r"[A-Za-zİ]")  # of this, too, an ASCII letter is made
_OTHER_LETTER = re.compile(r"[^\W\d_A-Za-z\u00c0-\u02af\u1d00-\u1dbf\ua720-\ua7ff]")
_ADDRESS = re.compile(r"://|@|\bwww\.")
# What programs that store texts for a page put in them: "&lt;", "&amp;#39;", "<br />". Some corpora
# have it in one class alone, so it would tell who collected a text instead of what it says.
# Tags are those of one text; what has more is a page, and a mail's are read by html.py.
_CHARACTER_NAME = re.compile(
    r"&(?:(#0{0,20}\d{1,7}|#[xX]0{0,20}[\dA-Fa-f]{1,6});?+|([A-Za-z][A-Za-z\d]{1,30});)"
)
_LINE_END = re.compile(r"<br ?/?>[ \t]?", re.IGNORECASE)
# "if (a<b && c>d)" has none, nor has "<a long letter, dear>": values have no blanks, or words could
# hide in them, but for those between declarations of a style.
_DECLARATION = (
    "(?:background|border|color|display|float|font|height|letter|line|margin|mso|padding|text"
    r"|vertical|width|word)[a-z-]{0,30}:\s?[^\s\"'<>:;]{1,60}"
)
_DECLARATIONS = rf"{_DECLARATION}(?:;\s?{_DECLARATION}){{0,11}};?"
_ATTRIBUTE = (
    rf"""\s+(?:style\s?=\s?(?:"{_DECLARATIONS}"|'{_DECLARATIONS}')|[\w:-]{{1,30}}\s?=\s?"""
    r"""(?:"[^\s"<>]{0,500}"|'[^\s'<>]{0,500}'|[^\s"'<>]{1,500}))(?=[\s/>])"""
)
_TAG = re.compile(rf"</?(a|b|i|u|em|strong|span|p)(?>{_ATTRIBUTE}){{0,8}}+\s?/?>", re.IGNORECASE)
# What no page shows, most of it between letters; a comment of words is read where a text is none.
_SHOWS_NOTHING = re.compile(
    rf"<wbr ?/?>|(?<=[A-Za-z])(?:</?font(?>{_ATTRIBUTE}){{0,8}}+\s?/?>|<!--[ \d-]{{0,20}}+>)++"
    r"(?=[A-Za-z])",
    re.IGNORECASE,
)
_END_TAG = re.compile(r"</(a|b|i|u|em|strong|span|p)\s?>", re.IGNORECASE)
# BBCode; of those whose end is there, too: "a[i]" is none.
_BOARD_TAG = re.compile(
    r"\[(/?)(b|i|u|s|color|size|font|url|center|quote)(?:=[^\[\]\s]{1,300})?\]", re.IGNORECASE
)
# What collectors of SMS put where they took a number out of ham; it hid one spam SMS of nine.
_NUMBERS = {"<#>": "5", "<DECIMAL>": "2.5", "<TIME>": "5:30"}
_TAKEN_OUT = re.compile("|".join(_NUMBERS))
# What comes out may be spelled out once more: "w.w.w...s.i.t.e".
_PASSES = 4
# What some callers and corpora write before a mail's subject; it says nothing of the mail.
_FIELD_NAME = re.compile(r"\A\s*+(?:subject\s*+:\s*+)++", re.IGNORECASE)
_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f]")
# Marks of Windows-1252 that were taken for Latin-1's control characters. Within a word they show
# nothing, but for the apostrophe.
_WINDOWS_MARKS = {
    chr(code): mark
    for code in range(0x80, 0xA0)
    if code != 0x85 and (mark := bytes([code]).decode("cp1252", "ignore"))
}
_OF_WINDOWS = f"[{''.join(_WINDOWS_MARKS)}]"
_WINDOWS_MARK = re.compile(
    rf"{_OF_WINDOWS}(?:(?<![^\W\d_].)|(?![^\W\d_])|(?<=[^\W\d_]\x92)(?=[^\W\d_]))"
)
# Colours, as terminals and chats write them: what follows the control character goes with it.
_COLOUR = re.compile(r"\x1b\[[\d;]{0,20}m|\x03\d{1,2}(?:,\d{1,2})?")

# unicodedata sorts a run of combining marks in quadratic time; in pieces the run stays short. A
# piece ends behind the marks of its last letter and the parts of its Hangul syllable.
_PIECE = re.compile(f".{{1,256}}[{''.join(_MARKS)}\u1160-\u11ff\uff9e\uff9f]{{,16}}", re.DOTALL)
# NFKC turns some characters into up to 18; an honest piece grows threefold at most. Of each
# character of one that grows more, so much is kept, and all of what stands behind.
_LONGEST_PIECE = 4 * 256
_MOST_OF_A_CHARACTER = 4


def fold_text(text: str, *, typing: bool = True) -> str:
    """NFKC without invisible characters, with disguised Latin letters made plain.

    >>> fold_text("F\\u200bR\\u0415\\u0415 \\uff56\\u0456agra n.o.w , don ' t wait !")
    "FREE viagra now, don't wait!"

    Words are only touched where they pose as Latin: words of mixed scripts, and words made wholly
    of lookalikes in a text that is mostly Latin. Russian stays Russian. Words spelled out letter by
    letter are put together (``spelled.py``). "Subject:" in front and colours of terminals are left
    out. Unless ``typing`` is False, accents that disguise English are left out (``accents.py``),
    words that one blank keeps apart like their letters are told (``segment.py``), those with digits
    and signs for letters are read (``leet.py``), those with marks on them (``marked.py``), broken
    ones (``broken.py``), many misspelled ones (``misspelled.py``) and ones that run together
    (``joined.py``), marks that stand apart put where they belong (``tokenized.py``), HTML's names
    of characters are read, its tags and those of message boards left out, tabs are blanks, several
    blanks and empty lines are one (``lines.py``), signs for a number that was taken out ("<#>") are
    a number, and a text in capitals or small letters throughout gets a capital at each sentence and
    name (``sentences.py``). Never raises.
    """
    # Clients send either; mail and training texts have line feeds alone.
    folded = _fold_letters(text.replace("\r\n", "\n").replace("\r", "\n"))
    for _ in range(_PASSES):
        spelled, folded = folded, _FIELD_NAME.sub("", folded)
        folded = put_together(folded, typing=typing)
        # Two blanks part words that are spelled out by one, so these are read before.
        folded = tidy_blanks(_read_typing(folded)) if typing else folded
        if folded == spelled:
            break
    return folded


def _read_typing(text: str) -> str:
    text = without_letter_between(_read_escapes(text))
    text = without_disguising_accents(text).replace("\t", " ")
    text = join_marks(gather(without_lone_marks(without_marks_on_words(without_numbering(text)))))
    return as_typed(without_breaks(read_leet(text)))


def _read_escapes(text: str) -> str:
    """Names of characters as the characters, folded, and text without tags, as a page shows it."""
    read = text
    if "&" in text:
        read = _CHARACTER_NAME.sub(_name_to_character, text)
    if "<" in read:
        read = _TAKEN_OUT.sub(lambda sign: _NUMBERS[sign[0]], read)
        read = _without_tags(_SHOWS_NOTHING.sub("", _LINE_END.sub("\n", read)))
    if "[/" in read:
        read = _without_board_tags(read)
    return text if read == text else _fold_letters(read)


def _without_tags(text: str) -> str:
    """The text without tags, but for those that it speaks of: of no attributes, and never ended."""
    ended = {name.lower() for name in _END_TAG.findall(text)}

    def is_spoken_of(tag: re.Match[str]) -> bool:
        return tag[0][-2:-1].isalpha() and tag[1].lower() not in ended

    return _TAG.sub(lambda tag: tag[0] if is_spoken_of(tag) else "", text)


def _without_board_tags(text: str) -> str:
    tags = {(end, name.lower()) for end, name in _BOARD_TAG.findall(text)}
    pairs = {name for _, name in tags if {("", name), ("/", name)} <= tags}
    return _BOARD_TAG.sub(lambda tag: "" if tag[2].lower() in pairs else tag[0], text)


def _name_to_character(name: re.Match[str]) -> str:
    return unescape(f"&{name[1]};") if name[1] else html5.get(f"{name[2]};", name[0])


def _fold_letters(text: str) -> str:
    if "\x1b" in text or "\x03" in text:
        text = _COLOUR.sub("", text)
    if text.isascii():
        return _CONTROL.sub("", text).replace("\x0b", "\n").replace("\x0c", "\n")
    text = _WINDOWS_MARK.sub(lambda mark: _WINDOWS_MARKS[mark[0]], text)
    text = _ACUTE.sub("'", _INVISIBLE.sub("", as_shown(text)))
    if _NARROW_BLANK.search(text):
        text = _NARROW_BLANKS.sub(lambda word: _NARROW_BLANK.sub("", word[0]), text)
    text = "".join(map(_normalize, _PIECE.findall(text)))
    text = _CONTROL.sub("", _STRAY_ACCENT.sub("", _INVISIBLE.sub("", text)))
    text = text.translate(_SYMBOLS)
    text = read_alphabets(_FOREIGN_MARK.sub("", text))
    if not _LOOKALIKE.search(text):
        return text
    is_latin = _is_latin(text) or _is_english(text)
    text = _WORD.sub(lambda match: _fold_word(match[0], is_latin), text)
    if not is_latin and _is_latin(text):
        # Words of mixed scripts have turned the scale.
        text = _WORD.sub(lambda match: _fold_word(match[0], True), text)
    return text


def _normalize(piece: str) -> str:
    normal = unicodedata.normalize("NFKC", piece)
    if len(normal) <= _LONGEST_PIECE:
        return normal
    each = (unicodedata.normalize("NFKC", character)[:_MOST_OF_A_CHARACTER] for character in piece)
    return unicodedata.normalize("NFKC", "".join(each))


def _is_latin(text: str) -> bool:
    # Addresses are Latin in every language.
    words = "".join(word for word in text.split() if not _ADDRESS.search(word))
    return len(_LATIN.findall(words)) >= len(_OTHER_LETTER.findall(words))


def _is_english(text: str) -> bool:
    """Whether words of other scripts spell English, as no text in another language does."""
    words = {word for word in _WORD.findall(text) if _LOOKALIKE.search(word)}
    english = {
        plain for word in words if (plain := word.translate(_TO_LATIN).lower()) in vocabulary()
    }
    return are_a_habit(english, words)


def _fold_word(word: str, text_is_latin: bool) -> str:
    if word.isascii():
        return word
    folded = word.translate(_TO_LATIN)
    poses_as_latin = _LATIN.search(word) or (text_is_latin and folded.isascii())
    return folded if poses_as_latin else word
