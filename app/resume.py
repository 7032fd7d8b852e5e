"""What a run of app.bulk goes on from: which records have results, and whether they are those."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.records import MAILDIR_FOLDERS, Record, Source, message_name, read_records

# How each line of results begins.
_RESULT_HEAD = b'{"source": '


class BulkError(ValueError):
    """Something that a run cannot start with; the message says what to do."""


def sha256_of(text: str) -> str:
    """Tells a run that is resumed whether a text is the one that was read before."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True)
class Done:
    """The last of a file's records that has a result.

    Attributes:
        position: in the file, from 1 on.
        text_sha256: of its text; None for a bad record.
        before: the same of all records before it, one by one hashed together.
    """

    position: int
    text_sha256: str | None
    before: str = ""

    def and_then(self, position: int, text_sha256: str | None) -> "Done":
        """With one result more; a record that was bad, and is whole now, has two."""
        is_again = position == self.position
        return Done(position, text_sha256, self.before if is_again else self.all())

    def all(self) -> str:
        """The same of it and of all before it."""
        return sha256_of(f"{self.before} {self.text_sha256}")


_NOTHING = Done(0, None)


def done_before(out: Path, model: str, settings: str) -> dict[str, Done]:
    """How far a run before has come in each file. A half line is cut off.

    Raises:
        BulkError: the file holds something else, or results of another model or other settings.
    """
    done: dict[str, Done] = {}
    end = 0
    with out.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n") and (end or _is_half_result(line)):
                break
            try:
                result = json.loads(line)
                source, position = result["source"], int(result["position"])
                done[source] = done.get(source, _NOTHING).and_then(
                    position, result.get("text_sha256")
                )
                written_by = result["model"]
                written_with = result.get("settings", settings)  # older ones do not tell
            except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
                raise BulkError(
                    f"{out} exists and holds no results of app.bulk. Give another --out."
                ) from None
            if written_by != model:
                raise BulkError(
                    f"{out} holds results of {written_by}, now {model} is asked. Give another "
                    "--out."
                )
            if written_with != settings:
                raise BulkError(
                    f"{out} holds results by other cut-offs, or another prior, weight, number of "
                    "windows or column. Ask as before, or give another --out."
                )
            end += len(line)
    os.truncate(out, end)
    return done


def _is_half_result(line: bytes) -> bool:
    """Whether a line without an end may be one that a run broke off, and nothing of others."""
    if not line.startswith(_RESULT_HEAD[: len(line)]):
        return False
    try:
        return "model" in json.loads(line)  # all but the line end
    except (ValueError, RecursionError):
        return True


def missing(
    sources: Sequence[Source],
    column: str,
    done: dict[str, Done],
    advance: Callable[[int], object],
) -> Iterator[Record]:
    """The records that have no result yet; tells how many bytes each read one takes."""
    for source in sources:
        position, before = 0, _NOTHING
        moved = _results_of_messages(source, done) if source.format == "maildir" else {}
        for record in read_records(source, column):
            advance(record.size)
            previous, position = position, record.position
            last = done.get(record.source)
            if last is None and moved:
                last = moved.get(message_name(record.source))
            sha256 = None if record.text is None else sha256_of(record.text)
            if last is None or position > last.position:
                # Else a blank line stands where it was.
                _refuse_other(record.source, last is None or previous >= last.position)
                yield record
                continue
            if position < last.position:
                before = before.and_then(position, sha256)
                continue
            _refuse_other(record.source, before.all() == last.before)
            if record.text is None:  # a message of a Maildir may be gone
                is_same = last.text_sha256 is None or source.format == "maildir"
                _refuse_other(record.source, is_same)
            elif last.text_sha256 is None:  # it was bad: its other half had yet to be written
                yield record
            else:
                _refuse_other(record.source, sha256 == last.text_sha256)
        last = done.get(str(source.path))
        _refuse_other(str(source.path), last is None or position >= last.position)


def refuse_other_spellings(sources: Sequence[Source], done: dict[str, Done]) -> None:
    """Refuses sources whose results stand under another spelling of their path: they would be
    scored once more."""
    files = {os.path.abspath(name): name for name in done}
    maildirs = {os.path.abspath(place): place for place in {_folder_of(name) for name in done}}
    for source in sources:
        spellings = maildirs if source.format == "maildir" else files
        known = spellings.get(os.path.abspath(source.path), str(source.path))
        if known != str(source.path):
            raise BulkError(
                f"{source.path} has results as {known}. Name it so, or give another --out."
            )


def _folder_of(message: str) -> str:
    """The Maildir that a message lies in."""
    return str(Path(message).parent.parent)


def _results_of_messages(maildir: Source, done: dict[str, Done]) -> dict[str, Done]:
    """By what stays of their names: who reads a message moves it and sets flags."""
    folders = {maildir.path / folder for folder in MAILDIR_FOLDERS}
    return {
        message_name(name): last
        for name, last in done.items()
        if Path(name).parent in folders and last.text_sha256  # else it was gone, or bad
    }


def _refuse_other(source: str, is_same: bool) -> None:
    if not is_same:
        raise BulkError(
            f"{source} has changed since results were written, or what was added "
            "tells of another charset. Give another --out."
        )
