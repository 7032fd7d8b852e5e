"""Labels that people gave to messages (POST /feedback) as examples, with guards against poisoning.

A source counts for so many texts only, and a text about which sources disagree for nothing.
"""

import sqlite3
from collections import Counter, defaultdict
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from model.gpt2 import LABELS
from training.corpora import Corpus, CorpusError, Example, note_hash, same_name

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


def mix_in(corpus: Corpus, path: Path | None) -> Corpus:
    """The corpus with a file of feedback, whose labels count before those of the same texts there.

    Args:
        corpus: what is trained on otherwise.
        path: None leaves that as it is.

    Raises:
        CorpusError: as for ``read_feedback``, or a corpus has its name.
    """
    if path is None:
        return corpus
    feedback = read_feedback(path)
    print(feedback.summary())
    sha256 = dict(corpus.sha256)
    note_hash(sha256, path)
    if any(example.source == "feedback" for example in corpus.examples):
        raise same_name("feedback")
    return Corpus([*feedback.examples, *corpus.examples], sha256)


def read_feedback(path: Path, max_texts_per_source: int = MAX_TEXTS_PER_SOURCE) -> Feedback:
    """Reads the SQLite file of the service; the oldest reports of a source count first.

    Raises:
        CorpusError: no such file, or not one of feedback.
    """
    if not path.is_file():
        raise CorpusError(f"there is no file of feedback at {path}.")
    query = "SELECT digest, source, label, text FROM feedback ORDER BY received, digest"
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            rows = connection.execute(query).fetchall()
    except sqlite3.Error as error:
        raise CorpusError(f"{path} is not a file of feedback: {error}.") from error
    told: Counter[str] = Counter()
    capped: Counter[str] = Counter()
    labels: dict[str, set[str]] = defaultdict(set)
    texts: dict[str, str] = {}
    for digest, source, label, text in rows:
        if label not in LABELS:
            raise CorpusError(f"{path} holds a label that is neither ham nor spam.")
        # A text counts although the source that sent it has told too much: others may confirm it.
        if text is not None:
            texts.setdefault(digest, text)
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
