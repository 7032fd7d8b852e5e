"""python -m app.bulk FILES... --out RESULTS.jsonl: scores archives of messages, without a server.

Texts (one a line), CSV, JSON lines, mbox, Maildir and .eml. Long messages are read in windows, as
by POST /classify/message. Results come in the order of the messages; a run that was interrupted
goes on where it stopped when it is started again. Exit codes: 0, 2 where it cannot start or go on,
130 after Ctrl-C.
"""

import argparse
import contextlib
import fcntl
import json
import math
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
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
    FileFormat,
    Record,
    Source,
    SourceError,
    open_source,
)
from app.resume import BulkError, done_before, missing, refuse_other_spellings, sha256_of
from app.settings import SettingsError, read_settings, unread_variables
from model.classifier import Classifier
from model.devices import DeviceError
from model.folders import CheckpointError
from model.prediction import Prediction, judge_readings
from model.windows import encode_windows, predict_windowed

# Records that are held, sorted by length, scored and written at a time, to the first of the two
# bounds: what an interrupted run has to do again.
_CHUNK_RECORDS = 1024
_CHUNK_CHARACTERS = 1 << 18

_COLUMN = "text"
_INTERRUPTED = 130
_LESS_MEMORY = (
    "Start again to go on, with SPAMGATE_MAX_BATCH_TOKENS=2048, when less else uses the GPU, or "
    "with --device cpu."
)


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
        readings = [text for record in records for text in record.readings]
        texts = [encode_windows(text, size, self.max_windows) for text in readings]
        predictions = predict_windowed(self.classifier.predict, texts)
        judged = judge_readings(predictions, [len(record.readings) for record in records])
        return [
            self._result(record, readings[n], len(texts[n].windows), prediction)
            for record, (n, prediction) in zip(records, judged, strict=True)
        ]

    def _result(
        self, record: Record, reading: str, num_windows: int, prediction: Prediction
    ) -> dict[str, Any]:
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
        return result | ({"text": reading} if self.keep_text else {})


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
        refuse_other_spellings(sources, done)
        total = sum(source.size for source in sources)
        # Without a terminal tqdm would fill a log.
        with tqdm(total=total, unit="B", unit_scale=True, disable=None) as progress:
            for chunk in chunks(missing(sources, scorer.column, done, progress.update)):
                results = scorer.score(chunk)
                file.writelines(json.dumps(result) + "\n" for result in results)
                file.flush()
                num_bad = sum("error" in result for result in results)
                bad += num_bad
                scored += len(results) - num_bad
                progress.set_postfix(scored=scored, bad=bad)
    return scored, bad


def main(arguments: Sequence[str] | None = None) -> int:
    """Scores the files. Returns the exit code."""
    take_ctrl_c()
    options = _parser().parse_args(arguments)
    if unread := unread_variables():
        print(f"app.bulk: no setting reads these: {', '.join(unread)}", file=sys.stderr)  # noqa: T201
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
    with contextlib.suppress(OSError):  # a full disk, or a pipe that nobody reads
        # Names of files need not be text.
        print(summary.encode(errors="backslashreplace").decode(), flush=True)  # noqa: T201
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m app.bulk", description=__doc__)
    add = parser.add_argument
    files = "files, and Maildirs: a folder below one is named by itself"
    add("files", nargs="+", type=Path, metavar="FILE", help=files)
    add("--out", type=Path, required=True, help="JSON lines; what is there already stays")
    add("--format", choices=get_args(FileFormat), help="where the name of a file does not tell")
    add("--column", default=_COLUMN, help=f"of CSV, key of JSON lines (default: {_COLUMN})")
    add("--keep-text", action="store_true", help="write the texts beside the results from here on")
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
    settings = read_settings(
        [word for flag in told.items() if flag[1] is not None for word in flag]
    )
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
