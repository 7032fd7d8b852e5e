"""Files of messages, one record after the other: texts, CSV, JSON lines, mbox, Maildir, .eml.

Reads in one pass and holds one record at a time. What a record holds is never a reason to stop: one
that is not what its format says comes with a reason instead of a text.
"""

import codecs
import contextlib
import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import BinaryIO, Literal, TextIO, get_args

from app import text_lines
from app.text_lines import READ_BYTES, charset_of, decode_line, numbered_lines
from model.mail import MAX_MESSAGE_BYTES, message_to_text

FileFormat = Literal["txt", "csv", "jsonl", "mbox", "eml"]
Format = FileFormat | Literal["maildir"]

_SUFFIXES: dict[str, FileFormat] = {
    ".txt": "txt",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".mbox": "mbox",
    ".eml": "eml",
}
MAILDIR_FOLDERS = ("cur", "new")
"""Where a Maildir's messages lie."""
# How gzip, xz, zstd, lz4, zip, Dovecot's lz4 and bzip2 begin. No text and no message does.
_PACKED = (
    *(
        b"\x1f\x8b",
        b"\xfd7zXZ",
        b"\x28\xb5\x2f\xfd",
        b"\x04\x22\x4d\x18",
        b"PK\3\4",
        b"Dovecot-LZ4",
    ),
    *(b"BZh%d1" % level for level in range(1, 10)),
)
# How a message of an mbox begins: whose it is (Thunderbird leaves it out), and when it came, if no
# blank line tells it, too; then its fields.
_DATED_FROM = re.compile(rb"From \S.*\d\d:\d\d.*\d{4}")
_BARE_FROM = re.compile(rb"From \S*\s*\Z")
_TOLD_FROM = re.compile(
    rb"From \S.*\b(?:[A-Z][a-z]{2} {1,2}\d{1,2} \d\d:\d\d(?::\d\d)?(?: [A-Z]{1,5}| [+-]\d{4})*"
    rb" \d{4}\b|\d{1,2} [A-Z][a-z]{2} \d{4} \d\d:\d\d)"
)
_FIELD = re.compile(rb">?From |[!-9;-~]+[ \t]*:(?!//)")
_MAX_FROM_BYTES = 400
# How text that Windows calls Unicode begins. Read as UTF-8 it would get verdicts on noise.
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class SourceError(ValueError):
    """A file that cannot be read at all; the message says which and what to do."""


@dataclass(frozen=True)
class Source:
    """A file or folder of the command line, and how it is read."""

    path: Path
    format: Format

    @property
    def size(self) -> int:
        """In bytes, all files of a Maildir together."""
        size = 0
        for path in _files(self):
            with contextlib.suppress(FileNotFoundError):  # a message that was moved meanwhile
                size += path.stat().st_size
        return size


@dataclass(frozen=True)
class Record:
    """One message of a source.

    Attributes:
        source: the path of its file.
        position: in the file, from 1: of the line, the row below the header or the message.
        size: bytes of the file that it takes.
        text: as the model reads it; None for a bad record.
        problem: why it is bad. Repeats nothing of the record.
        is_cut: whether more stood there than is read.
        other_readings: of a message, with what HTML hides and without what it may hide.
    """

    source: str
    position: int
    size: int
    text: str | None
    problem: str = ""
    is_cut: bool = False
    other_readings: tuple[str, ...] = ()

    @property
    def readings(self) -> tuple[str, ...]:
        """The texts to be judged, the worst of which counts."""
        return (self.text or "", *self.other_readings)


def open_source(path: Path, given: FileFormat | None, column: str) -> Source:
    """Checks that a path can be read, and how.

    Args:
        path: of the command line.
        given: the format, where the file's name does not tell.
        column: the column that a CSV file must have.

    Raises:
        SourceError: it cannot.
    """
    if path.is_dir():
        if not any((path / name).is_dir() for name in MAILDIR_FOLDERS):
            raise SourceError(
                f"{path} is a folder but no Maildir: it has neither cur nor new. Name the files in "
                "it instead."
            )
        return Source(path, "maildir")
    if path.exists() and not path.is_file():
        raise SourceError(
            f"{path} is no regular file, and is read more than once. Write what it gives to a file."
        )
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}.") from error
    if start.startswith(_PACKED):
        raise SourceError(f"{path} is compressed. Unpack it first.")
    found = (
        given
        or _SUFFIXES.get(path.suffix.lower())
        or ("mbox" if start.startswith(b"From ") else None)
    )
    if found is None:
        formats = ", ".join(get_args(FileFormat))
        raise SourceError(
            f"the name of {path} does not tell its format. Say one with --format: {formats}."
        )
    if found in ("txt", "csv", "jsonl") and start.startswith(_UTF16):
        raise SourceError(f"{path} is in UTF-16. Convert it to UTF-8 first.")
    if found == "csv":
        _check_column(path, column)
    return Source(path, found)


def read_records(source: Source, column: str) -> Iterator[Record]:
    """All records of a source, in an order that stays.

    Raises:
        OSError: the file went away, or the disk fails.
    """
    if source.format == "csv":
        yield from _read_csv(source.path, column)
        return
    for path in _files(source):
        try:
            with path.open("rb") as file:
                yield from _read_file(str(path), file, source.format, column)
        except (FileNotFoundError, PermissionError) as error:  # of one message among many
            if source.format != "maildir":
                raise
            is_gone = isinstance(error, FileNotFoundError)  # moved meanwhile
            problem = "the file is gone" if is_gone else "the file may not be read"
            yield Record(str(path), 1, 0, None, problem)


def message_name(path: str) -> str:
    """What stays of a message's path in a Maildir: neither in which of its folders, nor the flags.

    >>> message_name("mail/new/1.host") == message_name("mail/cur/1.host:2,S")
    True
    """
    place = Path(path)
    return str(place.parent.parent / place.name.partition(":2,")[0])


def _files(source: Source) -> list[Path]:
    if source.format != "maildir":
        return [source.path]
    folders = [source.path / name for name in MAILDIR_FOLDERS]
    found = [path for folder in folders if folder.is_dir() for path in folder.iterdir()]
    return sorted(path for path in found if path.is_file() and not path.name.startswith("."))


def _read_file(name: str, file: BinaryIO, format: Format, column: str) -> Iterator[Record]:
    if format in ("eml", "maildir"):
        raw = file.read(MAX_MESSAGE_BYTES + 1)
        if raw.startswith(_PACKED):  # as Dovecot can store them
            yield Record(name, 1, len(raw), None, "compressed")
        else:
            yield _mail_record(name, 1, raw, len(raw))
    elif format == "mbox":
        yield from _read_mbox(name, file)
    else:
        charset = charset_of(file)
        for position, line, size in numbered_lines(file):
            is_cut = size > len(line)
            content = line.rstrip(b"\r\n")
            if not content.strip():
                continue
            if format == "txt":
                text = decode_line(content, charset)
                yield Record(name, position, size, text, is_cut=is_cut)
            else:
                text_or_none, problem = _json_text(content, column, charset, is_cut)
                yield Record(name, position, size, text_or_none, problem)


def _json_text(line: bytes, column: str, charset: str, is_cut: bool) -> tuple[str | None, str]:
    if is_cut:
        return None, f"longer than {text_lines.MAX_LINE_BYTES} bytes"
    try:
        encoding = json.detect_encoding(line)
        is_utf8 = encoding.startswith("utf-8")
        content = decode_line(line, charset) if is_utf8 else line.decode(encoding, "replace")
        # Not strict: exports leave control characters as they are.
        value = json.loads(content, strict=False)
    except (ValueError, RecursionError):
        return None, "not JSON"
    text = value.get(column) if isinstance(value, dict) else None
    if not isinstance(text, str):
        return None, f"not an object with a text under {column!r}"
    return text, ""


_SURPLUS = "more values than columns: a text with commas stands in quotation marks"


def _read_csv(path: Path, column: str) -> Iterator[Record]:
    with path.open("rb") as binary:
        charset = charset_of(binary)
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        lines = _CsvLines(file, charset)
        rows = _csv_rows(lines)
        position = 0
        while True:
            position += 1
            lines.is_quote_open = False
            text: str | None
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error as error:  # it has forgotten whether a quote is open
                lines.skip_quote()
                text, size, problem = None, 0, f"not a row of CSV: {error}"
            else:
                surplus = row.pop(None, None) or ()
                text = row.get(column)
                size = sum(len(value) + 1 for value in row.values() if isinstance(value, str))
                problem = "" if isinstance(text, str) else f"no value in column {column!r}"
                if any(surplus):
                    text, problem = None, _SURPLUS
            if lines.have_ended:  # one more was asked for
                text, problem = None, "a quote without end: all rows from here on"
            yield Record(str(path), position, size, text, problem)


def _check_column(path: Path, column: str) -> None:
    with path.open("rb") as binary:
        charset = charset_of(binary)
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        try:
            columns = list(_csv_rows(_CsvLines(file, charset)).fieldnames or [])
        except csv.Error as error:
            raise SourceError(f"{path} is not CSV: {error}.") from error
    if column not in columns:
        raise SourceError(
            f"{path} has no column {column!r}: it is not among the {len(columns)} that the first "
            "row names, separated by commas. Say --column."
        )
    if columns.count(column) > 1:
        raise SourceError(f"{path} has more than one column {column!r}. Rename all but one.")


def _csv_rows(lines: Iterator[str]) -> "csv.DictReader[str]":
    csv.field_size_limit(text_lines.MAX_LINE_BYTES)
    rows = csv.DictReader(lines)
    names = list(rows.fieldnames or ())
    while names and not names[-1].strip():  # as spreadsheets leave them
        names.pop()
    rows.fieldnames = names
    return rows


class _CsvLines(Iterator[str]):
    """Each line, by this charset if it is no UTF-8 (Excel writes such); for one beyond the bound,
    which is not held, a field that csv refuses.

    Attributes:
        is_quote_open: whether what has been read of a row ends within quotation marks.
        have_ended: whether a line more than there are was asked for.
    """

    def __init__(self, file: TextIO, charset: str) -> None:
        self._file = file
        self._charset = charset
        self.is_quote_open = False
        self.have_ended = False

    def __next__(self) -> str:
        line = self._file.readline(text_lines.MAX_LINE_BYTES)
        if not line:
            self.have_ended = True
            raise StopIteration
        self._count_quotes(line)
        if line.endswith(("\n", "\r")) or len(line) < text_lines.MAX_LINE_BYTES:
            content = line.encode("utf-8", "surrogateescape")
            is_plain = line.isascii() and "\x1b" not in line
            return line if is_plain else decode_line(content, self._charset)
        while line and not line.endswith(("\n", "\r")):
            line = self._file.readline(READ_BYTES)
            self._count_quotes(line)
        return "x" * (text_lines.MAX_LINE_BYTES + 1)

    def skip_quote(self) -> None:
        """Leaves out the lines up to where an open quote ends."""
        while self.is_quote_open and next(self, None) is not None:
            pass

    def _count_quotes(self, line: str) -> None:
        self.is_quote_open ^= line.count('"') % 2 == 1


def _read_mbox(name: str, file: BinaryIO) -> Iterator[Record]:
    """Messages that begin with a ``From `` line, and fields; one without a date follows a blank
    line, one with a date as C or mail writes it may have no fields."""
    raw, size, position = bytearray(), 0, 0
    lines = chain(numbered_lines(file), [(0, b"", 0)])
    has_text, after_blank, is_cut = False, True, False
    for (_, line, length), (_, following, _) in pairwise(lines):
        if has_text and _begins_message(line[:_MAX_FROM_BYTES], after_blank, following):
            position += 1
            yield _mail_record(name, position, bytes(raw), size, is_cut)
            raw, size, has_text, is_cut = bytearray(), 0, False, False
        size += length
        if length > len(line):  # without its end the next line would belong to it
            line, is_cut = line + b"\n", True
        if has_text or not line.startswith((b"From ", b">From ")):
            raw += line[: max(0, MAX_MESSAGE_BYTES + 1 - len(raw))]
        after_blank = not line.strip()
        has_text |= not after_blank
    if has_text:
        yield _mail_record(name, position + 1, bytes(raw), size, is_cut)


def _begins_message(line: bytes, after_blank: bool, following: bytes) -> bool:
    if _FIELD.match(following):
        is_bare = after_blank and _BARE_FROM.match(line) is not None
        return is_bare or bool(_DATED_FROM.match(line) or _TOLD_FROM.match(line))
    is_told = after_blank or not following.strip()
    return is_told and _TOLD_FROM.match(line) is not None


def _mail_record(name: str, position: int, raw: bytes, size: int, is_cut: bool = False) -> Record:
    mail = message_to_text(raw)
    text, *others = mail.readings
    is_cut = is_cut or mail.truncated
    return Record(name, position, size, text, is_cut=is_cut, other_readings=tuple(others))
