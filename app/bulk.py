"""python -m app.bulk FILES... --out RESULTS.jsonl: scores archives of messages, without a server.

Texts (one a line), CSV, JSON lines, mbox, Maildir and .eml. Long messages are read in windows, as
by POST /classify/message. Results come in the order of the messages; a run that was interrupted
goes on where it stopped when it is started again. Exit codes: 0, 2 where it cannot start or go on,
130 after Ctrl-C.
"""

import argparse
import fcntl
import hashlib
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import torch
from tqdm import tqdm

from app import take_ctrl_c
from app.cores import usable_cores
from app.decision import Cutoffs, score_of
from app.records import (
    MAILDIR_FOLDERS,
    FileFormat,
    Record,
    Source,
    SourceError,
    message_name,
    open_source,
    read_records,
)
from app.settings import SettingsError, read_settings
from model.classifier import Classifier
from model.devices import DeviceError
from model.folders import CheckpointError
from model.prediction import Prediction, judge_readings
from model.windows import encode_windows, predict_windowed

# Records that are held, sorted by length, scored and written at a time, to the first of the two
# bounds: what an interrupted run has to do again.
_CHUNK_RECORDS = 1024
_CHUNK_CHARACTERS = 1 << 18

# How each line of results begins.
_RESULT_HEAD = b'{"source": '

_COLUMN = "text"
_INTERRUPTED = 130
_LESS_MEMORY = (
    "Start again to go on, with SPAMGATE_MAX_BATCH_TOKENS=2048, when less else uses the GPU, or "
    "with --device cpu."
)


class BulkError(ValueError):
    """Something that a run cannot start with; the message says what to do."""


@dataclass(frozen=True)
class Scorer:
    """The model, and all else that a result depends on beside the record."""

    classifier: Classifier
    cutoffs: Cutoffs
    weight: float
    max_windows: int
    column: str
    keep_text: bool

    @cached_property
    def settings(self) -> str:
        """A short name for all that results depend on beside model and file."""
        told = (self.cutoffs, self.weight, self.max_windows, self.classifier.log_odds_shift)
        column = "" if self.column == _COLUMN else self.column
        return sha256_of(repr(told) + column)[:8]

    def score(self, records: Sequence[Record]) -> list[dict[str, Any]]:
        """One result a record, in their order; in the model, texts of like length go together."""
        size = self.classifier.max_tokens
        texts = [
            encode_windows(text, size, self.max_windows)
            for record in records
            for text in record.readings
        ]
        predictions = predict_windowed(self.classifier.predict, texts)
        judged = judge_readings(predictions, [len(record.readings) for record in records])
        return [
            self._result(record, len(texts[n].windows), prediction)
            for record, (n, prediction) in zip(records, judged, strict=True)
        ]

    def _result(self, record: Record, num_windows: int, prediction: Prediction) -> dict[str, Any]:
        place: dict[str, Any] = {"source": record.source, "position": record.position}
        origin = {"model": self.classifier.name, "settings": self.settings}
        if record.text is None:
            return place | {"error": record.problem, **origin}
        result = place | {
            "text_sha256": sha256_of(record.text),
            "label": prediction.label,
            "decision": self.cutoffs.decide(prediction.spam_probability),
            "score": score_of(prediction.spam_probability, self.weight),
            "probabilities": {
                "ham": prediction.ham_probability,
                "spam": prediction.spam_probability,
            },
            "tokens": prediction.num_tokens,
            "windows": num_windows,
            "truncated": prediction.truncated or record.is_cut,
            **origin,
        }
        return result | ({"text": record.text} if self.keep_text else {})


def chunks(records: Iterable[Record]) -> Iterator[list[Record]]:
    """The records in lists that fit in memory, whatever their number and length."""
    chunk: list[Record] = []
    characters = 0
    for record in records:
        chunk.append(record)
        characters += sum(map(len, record.readings))
        if len(chunk) >= _CHUNK_RECORDS or characters >= _CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def sha256_of(text: str) -> str:
    """Tells a run that is resumed whether a text is the one that was read before."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True)
class Done:
    """The last of a file's records that has a result: its position, and the SHA-256 of its text.
    None for a bad record."""

    position: int
    text_sha256: str | None


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
                last = Done(int(result["position"]), result.get("text_sha256"))
                done[result["source"]] = last
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


def refuse_out(out: Path, sources: Sequence[Source]) -> None:
    """Checks that results go to a file of their own.

    Raises:
        BulkError: they go where records come from, or to what is no file.
    """
    if not out.exists():
        if not out.parent.is_dir():
            raise BulkError(f"{out.parent} is no folder. Make it, or give another --out.")
    elif not out.is_file():
        raise BulkError(f"{out} is no regular file, and a run that goes on reads it. Give a file.")
    elif any(out.samefile(source.path) for source in sources):
        raise BulkError(f"{out} is one of the files to be scored. Give another --out.")
    for source in sources:
        if source.format == "maildir" and source.path.resolve() in out.resolve().parents:
            raise BulkError(f"{out} is in {source.path}, to be scored. Give another --out.")


def run(sources: Sequence[Source], scorer: Scorer, out: Path) -> tuple[int, int]:
    """Appends the results that are missing.

    Returns:
        How many records were scored, and how many were bad.

    Raises:
        BulkError: see ``done_before``; another run writes there; other records lie where those
            with results lay; a source has results under another spelling of its path.
    """
    scored = bad = 0
    with out.open("a", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BulkError(f"another run writes to {out}. Wait for it.") from None
        except OSError:
            pass  # a file system that knows no locks
        done = done_before(out, scorer.classifier.name, scorer.settings)
        _refuse_other_spellings(sources, done)
        total = sum(source.size for source in sources)
        # Without a terminal tqdm would fill a log.
        with tqdm(total=total, unit="B", unit_scale=True, disable=None) as progress:
            for chunk in chunks(_missing(sources, scorer.column, done, progress.update)):
                results = scorer.score(chunk)
                file.writelines(json.dumps(result) + "\n" for result in results)
                file.flush()
                num_bad = sum("error" in result for result in results)
                bad += num_bad
                scored += len(results) - num_bad
                progress.set_postfix(scored=scored, bad=bad)
    return scored, bad


def _missing(
    sources: Sequence[Source],
    column: str,
    done: dict[str, Done],
    advance: Callable[[int], object],
) -> Iterator[Record]:
    """The records that have no result yet; tells how many bytes each read one takes."""
    for source in sources:
        position = 0
        moved = _results_of_messages(source, done) if source.format == "maildir" else {}
        for record in read_records(source, column):
            advance(record.size)
            position = record.position
            last = done.get(record.source)
            if last is None and moved:
                last = moved.get(message_name(record.source))
            if last is None or position > last.position:
                yield record
            elif position < last.position:
                continue
            elif record.text is None:  # a message of a Maildir may be gone
                is_same = last.text_sha256 is None or source.format == "maildir"
                _refuse_other(record.source, is_same)
            elif last.text_sha256 is None:  # it was bad: its other half had yet to be written
                yield record
            else:
                _refuse_other(record.source, sha256_of(record.text) == last.text_sha256)
        last = done.get(str(source.path))
        _refuse_other(str(source.path), last is None or position >= last.position)


def _refuse_other_spellings(sources: Sequence[Source], done: dict[str, Done]) -> None:
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
        raise BulkError(f"{source} has changed since results were written. Give another --out.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Scores the files. Returns the exit code."""
    take_ctrl_c()
    options = _parser().parse_args(arguments)
    files: dict[str, Path] = {}
    for path in options.files:
        files.setdefault(os.path.abspath(path), path)  # each once
    try:
        sources = [open_source(path, options.format, options.column) for path in files.values()]
        refuse_out(options.out, sources)
        scorer = _make_scorer(options)
        scored, bad = run(sources, scorer, options.out)
    except (SourceError, BulkError, SettingsError, CheckpointError, DeviceError) as error:
        print(f"app.bulk: {error}", file=sys.stderr)  # noqa: T201
        return 2
    except OSError as error:
        reason = f"{error.filename or options.out}: {error.strerror}"
        print(f"app.bulk: {reason}. Mend that, and start again to go on.", file=sys.stderr)  # noqa: T201
        return 2
    # The second where others have left no room for as much as a context.
    except (torch.OutOfMemoryError, torch.AcceleratorError) as error:
        if isinstance(error, torch.AcceleratorError) and "out of memory" not in str(error):
            raise
        reason = str(error).partition("\n")[0].partition(". ")[0]
        print(f"app.bulk: {reason}. {_LESS_MEMORY}", file=sys.stderr)  # noqa: T201
        return 2
    except KeyboardInterrupt:
        print("\napp.bulk: interrupted. Start again to go on.", file=sys.stderr)  # noqa: T201
        return _INTERRUPTED
    summary = f"{scored} scored, {bad} bad records, results in {options.out}"
    # Names of files need not be text.
    print(summary.encode(errors="backslashreplace").decode())  # noqa: T201
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m app.bulk", description=__doc__)
    add = parser.add_argument
    files = "files, and Maildirs: a folder below one is named by itself"
    add("files", nargs="+", type=Path, metavar="FILE", help=files)
    add("--out", type=Path, required=True, help="JSON lines; what is there already stays")
    add("--format", choices=get_args(FileFormat), help="where the name of a file does not tell")
    add("--column", default=_COLUMN, help=f"of CSV, key of JSON lines (default: {_COLUMN})")
    add("--keep-text", action="store_true", help="write the texts beside their results")
    add("--ham-below", type=_probability, help="cut-off instead of the checkpoint's")
    add("--spam-from", type=_probability, help="cut-off instead of the checkpoint's")
    # What is not told here is told as to the service: by SPAMGATE_ variables, else the defaults.
    add("--checkpoint", help="folder or hub id (default: that of the service)")
    add("--device", help="auto, cpu, cuda (default: that of the service)")
    return parser


def _probability(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{value!r} is no number from 0 to 1")
    return number


def _make_scorer(options: argparse.Namespace) -> Scorer:
    told = {"--checkpoint": options.checkpoint, "--device": options.device}
    settings = read_settings([word for flag in told.items() if flag[1] for word in flag])
    torch.set_num_threads(settings.threads or usable_cores())
    classifier = Classifier.load(settings.checkpoint, settings.device, settings.dtype)
    if settings.max_batch_tokens:
        classifier.max_batch_tokens = settings.max_batch_tokens
    if settings.spam_prior is not None:
        classifier.assume_spam_prior(settings.spam_prior)
    known = Cutoffs.of(classifier)
    try:
        cutoffs = known.override(options.ham_below, options.spam_from)
    except ValueError as error:
        raise BulkError(f"--ham-below and --spam-from: {error}.") from error
    weight, max_windows = settings.score_weight, settings.max_windows
    return Scorer(classifier, cutoffs, weight, max_windows, options.column, options.keep_text)


if __name__ == "__main__":
    sys.exit(main())
