"""The lines of a file of texts: each in its own charset, or the one that all of them tell."""

import codecs
from collections import Counter
from collections.abc import Iterator
from typing import BinaryIO

from model.charset import decode_bytes

MAX_LINE_BYTES = 4 << 20
"""A line or field longer than this is cut, or is a bad record where half of it means nothing."""
READ_BYTES = 1 << 16
"""What is read at once of a longer one."""

# By so many bytes of the lines that are no UTF-8, among so many of a file, its charset is told.
_SAMPLE_BYTES, _SAMPLED_BYTES = 1 << 20, 64 << 20
# A line with so many bytes beyond ASCII may tell its own.
_TELLING_BYTES = 40
_BEYOND_ASCII = bytes(range(0x80, 0x100))
_OF_TWO_BYTES = frozenset(("cp932", "euc_jp", "gb18030", "cp950", "cp949"))


def numbered_lines(file: BinaryIO) -> Iterator[tuple[int, bytes, int]]:
    """Number, content up to a bound, and length of each line of a file, behind its BOM."""
    if file.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
        file.seek(0)
    position = 0
    while line := file.readline(MAX_LINE_BYTES):
        position += 1
        size = len(line)
        end = line
        while not end.endswith(b"\n") and (end := file.readline(READ_BYTES)):
            size += len(end)
        yield position, line, size


def charset_of(file: BinaryIO) -> str:
    """The charset that its lines which do not tell their own are likeliest in, all of them
    together; a short one alone would tell nothing."""
    sample = bytearray()
    for _, line, _ in numbered_lines(file):
        if not _is_utf8(line) and _own_text(line) is None:
            sample += line
        if len(sample) > _SAMPLE_BYTES or file.tell() > _SAMPLED_BYTES:
            break
    file.seek(0)
    charset = decode_bytes(bytes(sample), "")[1] if sample else ""
    if charset != "cp1252":
        return charset
    # Which is said, too, where lines of different kinds leave it open: most of them tell then.
    votes: Counter[str] = Counter()
    for line in bytes(sample).split(b"\n"):
        votes[decode_bytes(line, "")[1]] += len(line)
    return max(votes, key=votes.__getitem__)


def decode_line(line: bytes, charset: str) -> str:
    """A line in the charset of the file, unless it tells its own."""
    if not charset or _is_utf8(line):
        return decode_bytes(line, "")[0]
    own_text = _own_text(line)
    return decode_bytes(line, charset)[0] if own_text is None else own_text


def _own_text(line: bytes) -> str | None:
    """A long line in a charset of two bytes a character; those of one byte are guessed poorly."""
    if len(line) - len(line.translate(None, _BEYOND_ASCII)) < _TELLING_BYTES:
        return None
    text, charset = decode_bytes(line, "")
    return text if charset in _OF_TWO_BYTES and "\ufffd" not in text else None


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True
