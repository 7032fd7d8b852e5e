"""python -m app.bulk FILES... --out RESULTS.jsonl: scores archives of messages, without a server.

Texts (one a line), CSV, JSON lines, mbox, Maildir and .eml. Long messages are read in windows, as
by POST /classify/message. Results come in the order of the messages; a run that was interrupted
goes on where it stopped when it is started again. Exit codes: 0, 2 where it cannot start, 130 after
Ctrl-C.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from tqdm import tqdm

from app.decision import Cutoffs, score_of
from app.records import Format, Record, Source, SourceError, open_source, read_records
from app.settings import SettingsError, read_settings
from model.checkpoint import CheckpointError
from model.classifier import Classifier, DeviceError, Prediction
from model.windows import WindowedText, encode_windows, join_predictions

# Records that are held, sorted by length, scored and written at a time, to the first of the two
# bounds: what an interrupted run has to do again.
_CHUNK_RECORDS = 1024
_CHUNK_CHARACTERS = 1 << 18

# How each line of results begins.
_RESULT_HEAD = b'{"source": '

_INTERRUPTED = 130


class BulkError(ValueError):
    """Something that a run cannot start with; the message says what to do."""


@dataclass(frozen=True)
class Scorer:
    """The model, and all else that a result depends on beside the record."""

    classifier: Classifier
    cutoffs: Cutoffs
    weight: float
    max_windows: int
    keep_text: bool

    def score(self, records: Sequence[Record]) -> list[dict[str, Any]]:
        """One result a record, in their order; in the model, texts of like length go together."""
        windowed = [self._encode(record.text or "") for record in records]
        parts = [window for text in windowed for window in text.windows]
        order = sorted(range(len(parts)), key=lambda n: len(parts[n].token_ids))
        predictions = self.classifier.predict([parts[n] for n in order])
        found = dict(zip(order, predictions, strict=True))
        in_order = iter([found[n] for n in range(len(parts))])
        results = []
        for record, text in zip(records, windowed, strict=True):
            own = [next(in_order) for _ in text.windows]
            results.append(self._result(record, text, own))
        return results

    def _encode(self, text: str) -> WindowedText:
        return encode_windows(text, self.classifier.max_tokens, self.max_windows)

    def _result(
        self, record: Record, text: WindowedText, predictions: list[Prediction]
    ) -> dict[str, Any]:
        place: dict[str, Any] = {"source": record.source, "position": record.position}
        if record.text is None:
            return place | {"error": record.problem, "model": self.classifier.name}
        whole = join_predictions(predictions, truncated=text.truncated)
        result = place | {
            "label": whole.label,
            "decision": self.cutoffs.decide(whole.spam_probability),
            "score": score_of(whole.spam_probability, self.weight),
            "probabilities": {"ham": whole.ham_probability, "spam": whole.spam_probability},
            "tokens": whole.num_tokens,
            "windows": len(predictions),
            "truncated": whole.truncated or record.is_cut,
            "model": self.classifier.name,
        }
        return result | ({"text": record.text} if self.keep_text else {})


def chunks(records: Iterable[Record]) -> Iterator[list[Record]]:
    """The records in lists that fit in memory, whatever their number and length."""
    chunk: list[Record] = []
    characters = 0
    for record in records:
        chunk.append(record)
        characters += len(record.text or "")
        if len(chunk) >= _CHUNK_RECORDS or characters >= _CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def done_before(out: Path, model: str) -> dict[str, int]:
    """The last position of each file that a run before has written. A half line is cut off.

    Raises:
        BulkError: the file holds something else, or results of another model.
    """
    done: dict[str, int] = {}
    if not out.exists():
        return done
    end = 0
    with out.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n") and (end or _is_half_result(line)):
                break
            try:
                result = json.loads(line)
                done[result["source"]] = int(result["position"])
                written_by = result["model"]
            except (ValueError, TypeError, KeyError, RecursionError):
                raise BulkError(
                    f"{out} exists and holds no results of app.bulk. Give another --out."
                ) from None
            if written_by != model:
                raise BulkError(
                    f"{out} holds results of {written_by}, now {model} is asked. Give another "
                    "--out."
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


def refuse_input(out: Path, sources: Sequence[Source]) -> None:
    """Checks that results do not go where records come from.

    Raises:
        BulkError: they do.
    """
    if out.exists() and any(out.samefile(source.path) for source in sources):
        raise BulkError(f"{out} is one of the files to be scored. Give another --out.")


def run(sources: Sequence[Source], scorer: Scorer, out: Path, column: str) -> tuple[int, int]:
    """Appends the results that are missing.

    Returns:
        How many records were scored, and how many were bad.
    """
    done = done_before(out, scorer.classifier.name)
    total = sum(source.size for source in sources)
    scored = bad = 0
    # Without a terminal tqdm would fill a log.
    with (
        out.open("a", encoding="utf-8") as file,
        tqdm(total=total, unit="B", unit_scale=True, disable=None) as progress,
    ):

        def missing() -> Iterator[Record]:
            for source in sources:
                for record in read_records(source, column):
                    progress.update(record.size)
                    if record.position > done.get(record.source, 0):
                        yield record

        for chunk in chunks(missing()):
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
    options = _parser().parse_args(arguments)
    try:
        sources = [open_source(path, options.format, options.column) for path in options.files]
        refuse_input(options.out, sources)
        scorer = _make_scorer(options)
        scored, bad = run(sources, scorer, options.out, options.column)
    except (SourceError, BulkError, SettingsError, CheckpointError, DeviceError) as error:
        print(f"app.bulk: {error}", file=sys.stderr)  # noqa: T201
        return 2
    except OSError as error:
        where = error.filename or options.out
        print(f"app.bulk: {where}: {error.strerror}. Start again to go on.", file=sys.stderr)  # noqa: T201
        return 2
    except KeyboardInterrupt:
        print("\napp.bulk: interrupted. Start again to go on.", file=sys.stderr)  # noqa: T201
        return _INTERRUPTED
    print(f"{scored} scored, {bad} bad records, results in {options.out}")  # noqa: T201
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m app.bulk", description=__doc__)
    add = parser.add_argument
    add("files", nargs="+", type=Path, metavar="FILE", help="files, and Maildir folders")
    add("--out", type=Path, required=True, help="JSON lines; what is there already stays")
    add("--format", choices=get_args(Format), help="where the name of a file does not tell")
    add("--column", default="text", help="of CSV, key of JSON lines (default: text)")
    add("--keep-text", action="store_true", help="write the texts beside their results")
    add("--ham-below", type=_probability, help="cut-off instead of the checkpoint's")
    add("--spam-from", type=_probability, help="cut-off instead of the checkpoint's")
    # What is not told here is told as to the service: by SPAMGATE_ variables, else the defaults.
    add("--checkpoint", help="folder or hub id (default: that of the service)")
    add("--device", help="auto, cpu, cuda (default: that of the service)")
    return parser


def _probability(value: str) -> float:
    number = float(value)
    if not 0 <= number <= 1:
        raise ValueError
    return number


def _make_scorer(options: argparse.Namespace) -> Scorer:
    told = {"--checkpoint": options.checkpoint, "--device": options.device}
    settings = read_settings([word for flag in told.items() if flag[1] for word in flag])
    torch.set_num_threads(settings.threads or len(os.sched_getaffinity(0)))
    if settings.dtype == "auto":
        classifier = Classifier.load_fastest(settings.checkpoint, settings.device)
    else:
        classifier = Classifier.load(settings.checkpoint, settings.device, settings.dtype)
    if settings.spam_prior is not None:
        classifier.assume_spam_prior(settings.spam_prior)
    known = Cutoffs.of(classifier)
    cutoffs = Cutoffs(
        known.ham_below if options.ham_below is None else options.ham_below,
        known.spam_from if options.spam_from is None else options.spam_from,
    )
    weight, max_windows = settings.score_weight, settings.max_windows
    return Scorer(classifier, cutoffs, weight, max_windows, options.keep_text)


if __name__ == "__main__":
    sys.exit(main())
