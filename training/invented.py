"""Names of hosts in invented messages, which stand under .example, made such as mail has."""

import re
import zlib

# In Chinese, Japanese and Korean the next word follows without a blank.
_EXAMPLE = re.compile(r"(?<=[\w-])(?i:\.example)(\.\w+|(?a:\b))")
_NAME = re.compile(r"[\w-]+$")
_LONGEST_NAME = 253  # characters of a host's
_ENDINGS = ("com", "com", "com", "net", "org", "co.uk", "info", "biz", "in", "io")


def renamed(text: str) -> str:
    """The text with real endings in place of .example.

    >>> renamed("see win.example, bank.example.co.uk")
    'see win.com, bank.co.uk'
    """

    def ending(match: re.Match[str]) -> str:
        name = _NAME.search(text, max(0, match.start() - _LONGEST_NAME), match.start())
        assert name
        drawn = _ENDINGS[zlib.crc32(name[0].lower().encode()) % len(_ENDINGS)]
        return match[1] or f".{drawn}"

    return _EXAMPLE.sub(ending, text)
