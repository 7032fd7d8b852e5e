"""Bytes of an unknown or falsely declared charset to text. Never raises."""

import codecs
import encodings
import pkgutil
import re
from encodings.aliases import aliases

from resiliparse.parse.encoding import detect_encoding, map_encoding_to_html5

_LABEL = re.compile(r"[\w.:+-]{1,40}")
# Asked for any other label, or another spelling of one of these, Python would remember it for ever.
_KNOWN_LABELS = frozenset(aliases) | {
    module.name for module in pkgutil.iter_modules(encodings.__path__)
}
_META_CHARSET = re.compile(rb"charset\s*=\s*[\"']?([\w-]{1,40})", re.I)
# Decoders of Python's own that no mail declares honestly, and that are slow on long input.
_NOT_CHARSETS = frozenset({"idna", "punycode", "unicode-escape", "raw-unicode-escape", "undefined"})
# Seven-bit charsets: bytes below 128 that are not ASCII, and what begins them.
_SEVEN_BIT = {"utf-7": b"+", "hz": b"~", "iso2022_kr": b"\33"} | dict.fromkeys(
    ("iso2022_jp", *(f"iso2022_jp_{variant}" for variant in ("1", "2", "3", "2004", "ext"))), b"\33"
)
# Other names that Windows has for one.
_OTHER_NAMES = dict.fromkeys(
    ("csunicode11utf7", "unicode-2-0-utf-7", "x-unicode-1-1-utf-7", "x-unicode-2-0-utf-7"), "utf-7"
)
# What browsers read under the names of Python's narrower codecs: with what Windows added to them.
_WINDOWS = {
    "shift_jis": "cp932", "euc_kr": "cp949", "gb2312": "gb18030", "gbk": "gb18030", "big5": "cp950",
    "iso8859-11": "cp874", "iso8859-1": "cp1252", "ascii": "cp1252",
}  # fmt: skip
# What goes by the same label: Hong Kong's characters, and Thai with control characters, which
# browsers show for bytes that Windows gave no character.
_SAME_LABEL = {"cp950": "big5hkscs", "cp874": "iso8859-11"}
# The Macintosh's, which go by other names in Python.
_MACINTOSH = {
    "x-mac-cyrillic": "mac-cyrillic", "x-mac-ukrainian": "mac-cyrillic", "x-mac-greek": "mac-greek",
    "x-mac-ce": "mac-latin2", "x-mac-centraleurroman": "mac-latin2", "x-mac-turkish": "mac-turkish",
}  # fmt: skip
# Characters of ISO-2022-JP behind what says of which set they are, up to the end of the line.
_JAPANESE_RUN = re.compile("\x1b(\\$[@B]|\\([BIJ])([^\x1b\n]*+)")
_PAIR = re.compile("([!-~])([!-~])")
# Where pairs begin, and a run that holds more than pairs.
_PAIRS_BEGIN = re.compile(rb"\x1b\$[@B]")
_NOT_PAIRS = re.compile(rb"\x1b\$[@B](?:[!-~]{2})*+[^\x1b\r\n]")
# Of EUC-JP: narrow katakana, JIS X 0212, a pair with the eighth bits set, anything else.
_EUC_JP = re.compile("\x8e[\xa1-\xdf]|\x8f[\xa1-\xfe]{2}|([\xa1-\xfe])([\xa1-\xfe])|[\x80-\xff]")
_HALF_WIDTH = {code: code + 0xFF40 for code in range(0x21, 0x60)}
_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
_UTF_16 = ("utf-16-le", "utf-16-be")
# By these, and by those of mainframes, ASCII is noise.
_NOT_ASCII = frozenset((*_UTF_16, "cp037", "cp273", "cp424", "cp500", "cp875", "cp1026", "cp1140"))
_SURROGATE = re.compile("[\ud800-\udfff]")

_BEYOND_ASCII = re.compile(rb"[\x80-\xff]+")
_FEWEST_SYLLABLES = 8
# A declared charset is believed as long as at most one character in so many is not of it.
_BELIEVED_SHARE = 20


def decode_bytes(data: bytes, declared: str, *, is_html: bool = False) -> tuple[str, str]:
    """Text, and the charset in Python's spelling that it was decoded by.

    In this order: a byte order mark, ISO-2022-JP by its escapes unless a charset beyond ASCII and
    Latin-1 is declared, plain ASCII, the declared charset as browsers understand it,
    UTF-8, the declared one with some errors, the likeliest by detection. UTF-8 goes before a
    declared ASCII or Latin-1: text that is valid as UTF-8 by chance is hardly ever met.

    >>> decode_bytes(b"caf\\xc3\\xa9", "iso-8859-1")
    ('café', 'utf-8')

    Args:
        data: any bytes.
        declared: the label in the message, or "".
        is_html: whether a ``<meta charset>`` counts where no known charset is declared.
    """
    for mark, name in _BOMS:
        # UTF-16 has NULs wherever it has blanks; without any, two odd bytes are no mark.
        if data.startswith(mark) and (name == "utf-8" or b"\0" in data):
            return _decode(data[len(mark) :], name), name
    codec = _codec(declared)
    if codec is None and is_html and (match := _META_CHARSET.search(data, 0, 1024)):
        codec = _codec(match[1].decode("ascii"))
        # Where the tag can be found, it is wrong.
        codec = "utf-8" if codec in _UTF_16 else codec
    if codec in (None, "cp1252") and _is_japanese(data):
        codec = "iso2022_jp"
    if codec in _NOT_ASCII and b"\0" not in data and _is_mostly_ascii(data):
        codec = None
    if codec not in _SEVEN_BIT and data.isascii() and b"\0" not in data:
        return data.decode("ascii"), "ascii"
    if codec == "utf-16-le" and data[::2].count(0) > data[1::2].count(0):
        codec = "utf-16-be"
    return _decode_eight_bit(data, codec)


def _decode_eight_bit(data: bytes, codec: str | None) -> tuple[str, str]:
    # Letters of seven-bit charsets are valid UTF-8, too, but nobody sees them as such.
    if (
        codec in _SEVEN_BIT
        and _SEVEN_BIT[codec] in data
        and (text := _decode_mostly(data, codec)) is not None
    ):
        return text, codec
    order = ("utf-8", codec) if codec in (None, "cp1252") else (codec, "utf-8")
    for candidate in (*order, _SAME_LABEL.get(codec or "")):
        if candidate and (text := _decode_strictly(data, candidate)) is not None:
            return text, candidate
    if codec is not None and (text := _decode_mostly(data, codec)) is not None:
        return text, codec
    likeliest = _codec(detect_encoding(data) or "") or "cp1252"
    if likeliest.startswith("utf-16") or (likeliest == "utf-8" and not _is_damaged_utf8(data)):
        likeliest = "cp1252"
    if likeliest == "cp1252" and _is_korean(data):
        likeliest = "cp949"
    return _decode(data, likeliest), likeliest


def _is_mostly_ascii(data: bytes) -> bool:
    """Whether three in four bytes are; of Chinese characters in UTF-16 hardly half are."""
    return 4 * len(_BEYOND_ASCII.sub(b"", data)) > 3 * len(data)


def _is_japanese(data: bytes) -> bool:
    """Whether this is ISO-2022-JP, whatever it is called; ASCII is cp1252 to browsers, too."""
    return data.isascii() and bool(_PAIRS_BEGIN.search(data)) and not _NOT_PAIRS.search(data)


def _is_korean(data: bytes) -> bool:
    """Whether what is beyond ASCII comes in pairs, most of them syllables of EUC-KR."""
    runs = _BEYOND_ASCII.findall(data)
    leads = [lead for run in runs for lead in run[::2]]
    syllables = sum(0xB0 <= lead <= 0xC8 for lead in leads)
    is_in_pairs = all(len(run) % 2 == 0 for run in runs)
    return is_in_pairs and syllables >= _FEWEST_SYLLABLES and 2 * syllables > len(leads)


def _is_damaged_utf8(data: bytes) -> bool:
    """Whether more of it beyond ASCII is UTF-8 than not, such as a text that was cut off."""
    beyond = [character for character in data.decode("utf-8", "replace") if character > "\x7f"]
    return 2 * beyond.count("\ufffd") < len(beyond)


def _codec(label: str) -> str | None:
    """Python's name of the charset that browsers read under this label; None if nobody knows it."""
    label = label.strip().strip("\"'").lower()
    if not _LABEL.fullmatch(label):
        return None
    label = _OTHER_NAMES.get(label, label)
    label = map_encoding_to_html5(label, fallback_utf8=False) or label
    label = _MACINTOSH.get(label, label)
    label = encodings.normalize_encoding(label)
    if not {label, label.replace(".", "_")} & _KNOWN_LABELS:
        return None
    try:
        codec = codecs.lookup(label)
    except (LookupError, ValueError):
        return None
    # "base64" and its like are codecs too, but not of text.
    is_charset = codec._is_text_encoding and codec.name not in _NOT_CHARSETS
    return _WINDOWS.get(codec.name, codec.name) if is_charset else None


def _decode_strictly(data: bytes, name: str) -> str | None:
    try:
        text = data.decode(name)
    except ValueError:
        return None
    return None if _SURROGATE.search(text) else text


def _decode_mostly(data: bytes, name: str) -> str | None:
    text = _decode(data, name)
    return text if text.count("\ufffd") * _BELIEVED_SHARE <= len(text) else None


def _decode(data: bytes, name: str) -> str:
    text = data.decode(name, "replace")
    if name.startswith("iso2022_jp") and "\ufffd" in text:
        text = _JAPANESE_RUN.sub(_read_japanese, data.decode("ascii", "replace"))
    if name == "euc_jp" and "\ufffd" in text:
        text = _EUC_JP.sub(_read_euc_jp, data.decode("latin-1"))
    return _SURROGATE.sub("\ufffd", text)


def _read_japanese(run: re.Match[str]) -> str:
    """ISO-2022-JP as Windows writes it: with "①", "㈱" and narrow katakana."""
    if run[1] == "(I":
        return run[2].translate(_HALF_WIDTH)
    return _PAIR.sub(_read_pair, run[2]) if run[1][0] == "$" else run[2]


def _read_euc_jp(character: re.Match[str]) -> str:
    """EUC-JP as Windows writes it."""
    if character[1]:
        return _read_pair(character)
    return character[0].encode("latin-1").decode("euc_jp", "replace")


def _read_pair(pair: re.Match[str]) -> str:
    """Two bytes of JIS X 0208, or of what is beside it, by way of Shift JIS.

    Their eighth bits do not count.
    """
    row, cell = ((ord(byte) & 0x7F) - 0x21 for byte in pair.groups())
    lead = (row >> 1) + (0x81 if row < 0x3E else 0xC1)
    trail = cell + 0x9F if row & 1 else cell + 0x40 + (cell >= 0x3F)
    return bytes((lead, trail)).decode("cp932", "replace")[:1]  # one for what is none, too
