"""spamgate's verdicts on mail beside those of the filters that people run, message by message.

    apt-get install spamassassin rspamd redis-server bogofilter
    python -m benchmarks.judges CHECKPOINT --data sms=SMSSpamCollection --data mail=FOLDER \\
        --foreign jsonl=enron-spam.jsonl.gz

Judged are the messages of the checkpoint's test part as they came, and, all under the same few
header fields, the texts that spamgate reads in them and foreign texts: in an archive the fields
alone tell most ham from spam. A filter that learns gets the training part in the same form; what is
not installed is left out. Each one's own threshold decides. No filter reaches another machine, so
SpamAssassin and rspamd go without their network tests, of which much of their strength comes. What
other filters wrote into a message (X-Spam-...) is taken out. Writes results/judges.json and prints
it as the last line.
"""

import argparse
import hashlib
import math
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.environment import describe, write_result
from benchmarks.filters import CONTENDERS, Contender, Filter
from benchmarks.robustness import cutoff_of, own_splits, written_down
from model.classifier import Classifier
from model.fold import fold_text
from model.gpt2 import LABELS
from model.mail import message_to_text
from model.prediction import judge_readings
from training.command import exit_code
from training.config import TrainingError
from training.corpora import Example, Source, mail_paths
from training.evaluate import measure_with_intervals
from training.foreign import read_foreign

RESULT = Path(__file__).parent / "results" / "judges.json"
OWN = "spamgate"
_AT_ONCE = 64
_SHOWN = ("mcc", "f1", "spam_caught", "ham_blocked", "roc_auc")
_SCALE = 10.0
"""Points of a filter's score to one of log odds: of no effect but that far ones stay apart."""


@dataclass(frozen=True)
class Message:
    """A raw message in a file, and its label, 0 ham or 1 spam."""

    path: Path
    label: int


@dataclass(frozen=True)
class Form:
    """Messages in one form: those to learn, and sets to judge by name."""

    train: list[Message]
    sets: dict[str, list[Message]]


def as_mail(text: str) -> bytes:
    """A text as a plain message: its first line is the subject, less ``Subject:`` before it."""
    clean = text.encode("utf-8", "replace")  # no surrogates
    first, _, body = clean.decode().partition("\n")
    message = EmailMessage(policy=SMTP)
    message["From"] = "Sender <sender@example.org>"
    message["To"] = "reader@example.net"
    message["Subject"] = " ".join(first.removeprefix("Subject:").split())
    message["Date"] = "Tue, 03 Nov 2026 10:00:00 +0000"
    message["Message-ID"] = f"<{hashlib.sha256(clean).hexdigest()[:16]}@mail.example.org>"
    message.set_content(body)
    return message.as_bytes()


def without_verdicts(raw: bytes) -> bytes:
    """A message without the X-Spam fields that another filter wrote, and mbox's From line."""
    end = re.search(rb"\r?\n\r?\n", raw)
    size = end.start() if end else len(raw)
    kept: list[bytes] = []
    dropping = False
    for number, line in enumerate(raw[:size].split(b"\n")):
        if not line.startswith((b" ", b"\t")):
            is_from = number == 0 and line.startswith(b"From ")
            dropping = is_from or line.lower().startswith(b"x-spam")
        if not dropping:
            kept.append(line)
    return b"\n".join(kept) + raw[size:]


def own_scores(classifier: Classifier, messages: Sequence[Message]) -> list[float]:
    """P(spam) of each message, decoded and read as the service does."""
    scores: list[float] = []
    for start in tqdm(range(0, len(messages), _AT_ONCE), unit=" batches", desc=OWN):
        chunk = messages[start : start + _AT_ONCE]
        mails = [message_to_text(message.path.read_bytes()) for message in chunk]
        found = classifier.classify([text for mail in mails for text in mail.readings])
        judged = judge_readings(found, [len(mail.readings) for mail in mails])
        scores += [verdict.spam_probability for _, verdict in judged]
    return scores


def filter_scores(name: str, running: Filter, messages: Sequence[Message]) -> list[float]:
    """A filter's score of each message, as one from 0 to 1 of which those above 0.5 are spam."""
    margins = (
        running.score(message.path) - running.threshold
        for message in tqdm(messages, unit=" messages", desc=name)
    )
    # A score on the threshold is spam; a probability of 0.5 is not.
    return [1 / (1 + math.exp(-margin / _SCALE - 1e-9)) for margin in margins]


def judge(name: str, contender: Contender, form: Form) -> dict[str, Any]:
    """A filter's figures on each set, after it has learnt the training part, if it learns."""
    with tempfile.TemporaryDirectory(prefix="spamgate-judge-") as folder:
        with contender.start(Path(folder)) as running:
            for label in range(len(LABELS)) if contender.learns else ():
                running.learn([m.path for m in form.train if m.label == label], label)
            return {
                of_set: figures(messages, filter_scores(name, running, messages))
                for of_set, messages in form.sets.items()
            }


def judge_all(
    classifier: Classifier, forms: Sequence[Form]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Every system's figures on each set, and why filters were left out. As many filters at once
    as there are cores: each is a process of its own."""
    systems: dict[str, Any] = {}
    left_out = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs: dict[str, list[Future[dict[str, Any]]]] = {}
        for system, contender in CONTENDERS.items():
            if contender.missing:
                left_out[system] = f"not installed: {', '.join(contender.missing)}"
            else:
                jobs[system] = [pool.submit(judge, system, contender, form) for form in forms]
        for form in forms:
            for of_set, messages in form.sets.items():
                for system, row in judge_own(classifier, messages).items():
                    systems.setdefault(system, {})[of_set] = row
        for system, found in jobs.items():
            try:
                systems[system] = {name: row for job in found for name, row in job.result().items()}
            except RuntimeError as error:
                left_out[system] = str(error)
    return systems, left_out


def judge_own(classifier: Classifier, messages: Sequence[Message]) -> dict[str, Any]:
    """Our figures at 0.5 and at the checkpoint's cut-off for spam, by which the service decides."""
    cutoff = cutoff_of(classifier)
    scores = own_scores(classifier, messages)
    called = [p if p >= cutoff else p / 2 for p in scores]
    return {
        f"{OWN} at 0.5": figures(messages, scores),
        f"{OWN} at its cut-off, {cutoff:.2f}": figures(messages, called),
    }


def figures(messages: Sequence[Message], scores: Sequence[float]) -> dict[str, Any]:
    """The metrics that do not take scores for probabilities, each with its interval."""
    measured = measure_with_intervals([message.label for message in messages], scores)
    values = asdict(measured.value)
    return {"messages": len(messages)} | {
        name: [round(value, 4) for value in (values[name], *(measured.interval(name) or ()))]
        for name in _SHOWN
    }


def write_set(folder: Path, raws: Iterable[tuple[bytes, int]]) -> list[Message]:
    """Messages put into a folder, without other filters' verdicts."""
    folder.mkdir()
    messages = []
    for number, (raw, label) in enumerate(raws):
        path = folder / f"{number}.eml"
        path.write_bytes(without_verdicts(raw))
        messages.append(Message(path, label))
    return messages


def raw_messages(examples: Sequence[Example], mail: Path) -> list[tuple[bytes, int]]:
    """The messages in a corpus' folder that these texts of it were read from, with their labels."""
    paths: dict[str, Path] = {}
    for path in mail_paths(mail):
        text = message_to_text(path.read_bytes()).text
        paths.setdefault(fold_text(text), path)  # as a split holds it
    return [
        (paths[example.text].read_bytes(), example.label)
        for example in examples
        if example.source == "mail"
    ]


def as_plain(raws: Iterable[tuple[bytes, int]]) -> list[tuple[bytes, int]]:
    """The text that is read in each message, as a mail of its own, with the label."""
    return [(as_mail(message_to_text(raw).text), label) for raw, label in raws]


def versions() -> dict[str, str]:
    """Of the Debian packages that are installed."""
    names = sorted({name for c in CONTENDERS.values() if not c.missing for name in c.programs})
    command = ["dpkg-query", "--show", "--showformat=${Package} ${Version}\\n", *names]
    lines = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    return dict(line.split() for line in lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", help="folder of a classifier with its run.json")
    parser.add_argument("--data", action="append", default=[], help="KIND=PATH of each corpus")
    parser.add_argument("--foreign", action="append", default=[], help="KIND=PATH of other texts")
    parser.add_argument("--sample", type=int, default=1000, help="foreign texts (1000)")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args(arguments)
    return exit_code("benchmarks.judges", lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    classifier = Classifier.load(options.checkpoint, "cpu", "float32")
    corpus, splits = own_splits(classifier, options.data)
    foreign = read_foreign(options.foreign, options.sample, corpus.examples)
    folders = [
        source.path for source in map(Source.labelled, options.data) if source.kind == "mail"
    ]
    if not folders:
        raise TrainingError("there is no mail to judge: give --data mail=FOLDER.")
    train, test = (raw_messages(part, folders[0]) for part in (splits.train, splits.test))
    with tempfile.TemporaryDirectory(prefix="spamgate-mail-") as name:
        folder = Path(name)
        raw = Form(write_set(folder / "0", train), {"mail": write_set(folder / "1", test)})
        plain = Form(
            write_set(folder / "2", as_plain(train)),
            {"mail, text alone": write_set(folder / "3", as_plain(test))},
        )
        for source in sorted({example.source for example in foreign}):
            texts = [(as_mail(e.text), e.label) for e in foreign if e.source == source]
            plain.sets[source] = write_set(folder / source, texts)
        systems, left_out = judge_all(classifier, [raw, plain])
    counts = Counter(label for _, label in train)
    flags = [f"--sample {options.sample}"] if options.foreign else []
    places = {"data": options.data, "foreign": options.foreign}
    asked = written_down(options.checkpoint, flags, places)
    result: dict[str, Any] = {
        "model": classifier.name,
        "systems": systems,
        "left_out": left_out,
    }
    result |= {"learnt": {name: counts[label] for label, name in enumerate(LABELS)}}
    result |= describe("benchmarks.judges", arguments=asked) | {"filters": versions()}
    write_result(options.out, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
