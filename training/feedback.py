"""Labels that people gave to messages (POST /feedback) as examples, with guards against poisoning.

A source counts for so many texts only, and a text about which sources disagree for nothing.
"""

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from model.gpt2 import LABELS
from training.config import CorpusError
from training.corpora import Corpus, Example, note_hash, same_name

MAX_TEXTS_PER_SOURCE = 200


@dataclass(frozen=True)
class Feedback:
    """What a file of feedback gives to training, and what it does not.

    Attributes:
        examples: texts whose sources agree; ``source`` is ``feedback``.
        conflicting: digests of texts that one source calls ham and another spam.
        capped: reports left out, by source, because it had told enough.
        textless: texts that nobody sent, of which sources agree.
    """

    examples: list[Example]
    conflicting: list[str]
    capped: dict[str, int]
    textless: int

    def summary(self) -> str:
        """One line for whoever starts the run; texts are not in it."""
        line = f"feedback: {len(self.examples)} texts"
        if self.conflicting:
            line += f"; left out {len(self.conflicting)} that sources disagree about"
        if self.textless:
            line += f"; left out {self.textless} of which nobody sent the text"
        for source, number in self.capped.items():
            line += f"; left out {number} of {source!r}, which told more than its share"
        return line


def mix_in(corpus: Corpus, paths: Sequence[Path]) -> Corpus:
    """The corpus with feedback, whose labels count before those of the same texts there.

    Args:
        corpus: what is trained on otherwise.
        paths: files of feedback; none leaves that as it is.

    Raises:
        CorpusError: as for ``read_feedback``, or a corpus or another of them has a file's name.
    """
    if not paths:
        return corpus
    feedback = read_feedback(paths)
    print(feedback.summary())
    sha256 = dict(corpus.sha256)
    for path in paths:
        note_hash(sha256, path)
    if any(example.source == "feedback" for example in corpus.examples):
        raise same_name("feedback")
    return Corpus([*feedback.examples, *corpus.examples], sha256)


def read_feedback(
    paths: Sequence[Path], max_texts_per_source: int = MAX_TEXTS_PER_SOURCE
) -> Feedback:
    """Reads SQLite files of the service; the oldest reports of a source count first, and of those
    of one source about one text, which may stand in several files, the last.

    Raises:
        CorpusError: no such file, or not one of feedback.
    """
    reports = sorted(report for path in paths for report in _read_reports(path))
    last = {(digest, source): label for _, digest, source, label, _ in reports}
    texts: dict[str, str] = {}
    for _, digest, _, _, text in reports:
        # A text counts although the source that sent it has told too much: others may confirm it.
        if text:
            texts.setdefault(digest, text)
    told: Counter[str] = Counter()
    capped: Counter[str] = Counter()
    labels: dict[str, set[str]] = defaultdict(set)
    for (digest, source), label in last.items():
        if told[source] == max_texts_per_source:
            capped[source] += 1
            continue
        told[source] += 1
        labels[digest].add(label)
    agreed = {digest: next(iter(said)) for digest, said in labels.items() if len(said) == 1}
    return Feedback(
        examples=[
            Example(texts[digest], LABELS.index(label), "feedback")
            for digest, label in agreed.items()
            if digest in texts
        ],
        conflicting=[digest for digest, said in labels.items() if len(said) > 1],
        capped=dict(capped),
        textless=sum(digest not in texts for digest in agreed),
    )


def _read_reports(path: Path) -> list[tuple[float, str, str, str, str]]:
    """When it came, digest, source, label and text of each; an empty text where nobody sent it."""
    if not path.is_file():
        raise CorpusError(f"there is no file of feedback at {path}.")
    query = "SELECT received, digest, source, label, COALESCE(text, '') FROM feedback"
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            reports = connection.execute(query).fetchall()
    except sqlite3.Error as error:
        raise CorpusError(f"{path} is not a file of feedback: {error}.") from error
    if not {label for _, _, _, label, _ in reports} <= set(LABELS):
        raise CorpusError(f"{path} holds a label that is neither ham nor spam.")
    return reports
