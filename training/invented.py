"""Names of hosts in invented messages, which stand under .example, made such as mail has."""

import re
import zlib

_EXAMPLE_NAME = re.compile(r"([\w-]+)\.example(\.\w+|\b)")
_ENDINGS = ("com", "com", "com", "net", "org", "co.uk", "info", "biz", "in", "io")


def renamed(text: str) -> str:
    """The text with real endings in place of .example.

    >>> renamed("see win.example, bank.example.co.uk")
    'see win.com, bank.co.uk'
    """

    def ending(match: re.Match[str]) -> str:
        drawn = _ENDINGS[zlib.crc32(match[1].lower().encode()) % len(_ENDINGS)]
        return match[1] + (match[2] or f".{drawn}")

    return _EXAMPLE_NAME.sub(ending, text)
