"""Texts whose marks all stand apart, as tokenised corpora have them, put together again.

"$ 5 , see http : / / www . a . com ." reads "$5, see http://www.a.com.". Knows text only.
"""

import re

_APART = re.compile(r"[.,:;!?](?<=\S[ \n].)(?!\S)")
_ATTACHED = re.compile(r"[.,:;!?](?<=[^\s.,:;!?].)(?!\S)")
# A text with fewer marks apart, or not so many for each at its word, is left as it is.
_FEWEST_APART = 2
_SHARE_APART = 2

# What a host ends in; "in", "it" and the like are words more often.
_ENDING = (
    r"(?:com|net|org|edu|gov|info|biz|uk|de|fr|nl|ca|au|jp|ru|cn|es|ch|br|za|nz|ie|sg|kr|tw|hk|ws)"
    r"(?![^\W_])"
)
_DIGITS_BESIDE = r"(?<=[a-z]) (?=\d)|(?<=\d) (?=[a-z])"
_LINK_OR_ADDRESS = re.compile(
    r"(?:(?<!\w)(?:https? : / / |www \. )|(?<!\w)\w++(?: [._-] \w++){0,3} @ )"
    rf"\w++(?:(?:{_DIGITS_BESIDE}| [.-] )\w++){{0,6}}?(?: \. {_ENDING}){{1,2}}"
    r"(?: / [\w~%-]++(?: [.-] (?:html?|php|asp|gif|jpe?g))?+)*+(?: /(?!\S))?+",
    re.IGNORECASE,
)
# "- - - -"; from its first sign alone, or a long one would be read once for each of them.
_RULE = re.compile(r"([-_*=~#+])(?<!\1 \1)(?: \1)++(?!\S)")
_QUOTED = re.compile(r'(?<!\S)" ((?:[^"\s]++ ){1,30}+)"(?!\w)')
_BLANK = re.compile(
    r"(?<=\d) (?=[.,:] \d)|(?<=\d [.,:]) (?=\d)"  # 1 , 000 and 2 : 30
    r"|(?<=\w) (?=[/_] \w)|(?<=\w [/_]) (?=\w)"  # and / or, e - mail
    r"|(?<=[$£€#]) (?=\d)|(?<=\d) (?=(?:st|nd|rd|th|am|pm|s)\b)"  # $ 5, 8 th
)


def join_marks(text: str) -> str:
    """The text with its marks where people type them, if it keeps nearly all of them apart.

    >>> join_marks("call by 2 : 30 pm , write to jo @ site . com .")
    'call by 2:30pm , write to jo@site.com .'
    """
    apart = len(_APART.findall(text))
    if apart < _FEWEST_APART or apart < _SHARE_APART * len(_ATTACHED.findall(text)):
        return text
    text = _LINK_OR_ADDRESS.sub(_without_blanks, text)
    text = _RULE.sub(_without_blanks, text)
    text = _QUOTED.sub(lambda quoted: f'"{quoted[1][:-1]}"', text)
    return _BLANK.sub("", text)


def _without_blanks(place: re.Match[str]) -> str:
    return place[0].replace(" ", "")
