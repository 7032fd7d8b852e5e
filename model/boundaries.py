"""A multipart's body cut at its boundary lines (RFC 2046, section 5.1)."""

import re
from collections.abc import Iterator
from itertools import islice

# Of more parts the first and the last ones are looked at.
_FIRST_PARTS, _LAST_PARTS = 700, 250
_GUESSED_BOUNDARY = re.compile(rb"\n--(?!-*+\s)(\S[^\n]{0,199})\n[ \t\n]*+Content-", re.IGNORECASE)
_MAX_GUESSED_BYTES = 64 << 10
_AFTER_BOUNDARY = re.compile(rb"(--)?[ \t]*+(?=\n|\Z)")
# Longer ones than that are no patterns: Python keeps hundreds.
_MAX_PATTERN_BYTES = 256


def guess_boundary(body: bytes) -> bytes:
    """What looks like a boundary near the beginning; empty where nothing does."""
    guess = _GUESSED_BOUNDARY.search(body, 0, _MAX_GUESSED_BYTES)
    return guess[1].rstrip() if guess else b""


def cut_at(boundary: bytes, body: bytes) -> tuple[list[bytes], bool]:
    """What lies between the boundary lines, and whether some was left out of very much.

    Args:
        boundary: without the two hyphens in front.
        body: begins with a line end.
    """
    lines, is_exceeded = _boundary_lines(body, b"\n--" + boundary)
    children: list[bytes] = []
    start = None
    for begin, end, is_last in lines:
        if start is not None:
            children.append(body[start:begin])
        start = end + 1
        if is_last:
            break
    else:
        # Never closed: the last child reaches to the end.
        if start is not None:
            children.append(body[start:])
    return children, is_exceeded


def _boundary_lines(body: bytes, line: bytes) -> tuple[list[tuple[int, int, bool]], bool]:
    """Where boundary lines begin and end, and which closes; whether any were left out."""
    first = list(islice(_find_lines(body, line, 0, len(body)), _FIRST_PARTS))
    end = first[-1][1] if first else 0
    last = len(body)
    for _ in range(_LAST_PARTS):
        last = max(body.rfind(line, end, last), end)
    is_exceeded = next(_find_lines(body, line, end, last), None) is not None
    return first + list(_find_lines(body, line, last, len(body))), is_exceeded


def _find_lines(body: bytes, line: bytes, start: int, end: int) -> Iterator[tuple[int, int, bool]]:
    if len(line) <= _MAX_PATTERN_BYTES:
        pattern = re.compile(re.escape(line) + _AFTER_BOUNDARY.pattern)
        for found in pattern.finditer(body, start, end):
            yield found.start(), found.end(), found[1] is not None
        return
    while (begin := body.find(line, start, end)) >= 0:
        start = begin + len(line)
        if match := _AFTER_BOUNDARY.match(body, start, end):
            start = match.end()
            yield begin, start, match[1] is not None
