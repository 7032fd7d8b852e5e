"""How many verdicts on spam are turned by disguises and by good words, on a checkpoint's own test
part; and what reading mail in windows costs in ham.

    python -m benchmarks.robustness CHECKPOINT --data sms=SMSSpamCollection --data mail=FOLDER

The texts that the checkpoint's recipe keeps for the test are drawn again from its corpora, and read
as the service reads them. Writes results/robustness.json and prints it as the last line.
"""

import argparse
import random
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.disguises import FOLDED, UNFOLDED
from benchmarks.environment import describe, write_result
from model.classifier import Classifier
from model.windows import MAX_WINDOWS
from training.command import exit_code, portable
from training.corpora import Corpus, Source, read_corpora
from training.data import Splits, split_examples
from training.evaluate import spam_probabilities
from training.provenance import check_data, recorded_recipe

RESULT = Path(__file__).parent / "results" / "robustness.json"
GOOD_WORDS = (50, 200, 500, 2000)

Read = Callable[[Sequence[str]], list[float]]
"""P(spam) of texts."""


def measure(read: Read, spam: Sequence[str], ham: Sequence[str], cutoff: float) -> dict[str, Any]:
    """Shares of the spam texts whose verdict a change turns, at 0.5 and at the cut-off.

    Args:
        read: how texts are read.
        spam: the texts that are changed.
        ham: where the good words come from.
        cutoff: from which probability on mail is spam.
    """
    plain = read(spam)
    rng = random.Random(0)
    all_words = " ".join(rng.sample(list(ham), len(ham))).split()
    changes = FOLDED | UNFOLDED
    changed = {name: [change(text) for text in spam] for name, change in changes.items()}
    for number in GOOD_WORDS:
        # For each text another stretch of ham: one for all could be a lucky one. Behind the last
        # word comes the first, where there are few.
        firsts = [rng.randrange(max(1, len(all_words))) for _ in spam]
        good = [" ".join(islice(cycle(all_words), first, first + number)) for first in firsts]
        pairs = list(zip(good, spam, strict=True))
        changed[f"{number} good words in front"] = [f"{words}\n{text}" for words, text in pairs]
        changed[f"{number} good words behind"] = [f"{text}\n{words}" for words, text in pairs]
    return {
        "spam": len(spam),
        "caught": share(p > 0.5 for p in plain),
        "caught_at_cutoff": share(p >= cutoff for p in plain),
        "turned": {
            name: compare(plain, read(texts), cutoff)
            for name, texts in tqdm(changed.items(), unit=" changes")
        },
    }


def compare(plain: Sequence[float], changed: Sequence[float], cutoff: float) -> dict[str, float]:
    """How many verdicts are others, how many of these let spam pass that was caught, and how much
    is still caught."""
    pairs = list(zip(plain, changed, strict=True))
    return {
        "turned": share((old > 0.5) != (new > 0.5) for old, new in pairs),
        "turned_at_cutoff": share((old >= cutoff) != (new >= cutoff) for old, new in pairs),
        "evaded": share(old > 0.5 >= new for old, new in pairs),
        "evaded_at_cutoff": share(old >= cutoff > new for old, new in pairs),
        "caught": share(new > 0.5 for _, new in pairs),
    }


def windows_on_ham(classifier: Classifier, ham: Sequence[str], cutoff: float) -> dict[str, Any]:
    """Ham that is blocked with windows and with the beginning alone."""
    costs: dict[str, Any] = {"ham": len(ham)}
    for name, number in (("beginning alone", 1), ("with windows", MAX_WINDOWS)):
        found = spam_probabilities(classifier, ham, number)
        costs[name] = {
            "blocked": share(p > 0.5 for p in found),
            "blocked_at_cutoff": share(p >= cutoff for p in found),
        }
    return costs


def share(flags: Iterable[bool]) -> float:
    """Of true ones."""
    known = list(flags)
    return round(sum(known) / max(1, len(known)), 5)


def own_splits(classifier: Classifier, places: Sequence[str]) -> tuple[Corpus, Splits]:
    """The corpora of a checkpoint, read again, and the split that its recipe drew of them.

    Raises:
        CorpusError: other corpora than those it was made from.
    """
    config = recorded_recipe(classifier.run, classifier.name)
    corpus = read_corpora(places, config)
    check_data(classifier.run, classifier.name, config, corpus.sha256)
    return corpus, split_examples(corpus.examples, config)


def cutoff_of(classifier: Classifier) -> float:
    """From which P(spam) on the service calls spam what this checkpoint reads."""
    stated = classifier.run.get("cutoffs") or {}
    return float(stated.get("spam_from", 0.8))


def written_down(checkpoint: str, flags: Sequence[str], places: dict[str, Sequence[str]]) -> str:
    """What a command was asked, without this machine's folders; ``places`` by the flag's name."""
    words = [portable(checkpoint), *flags]
    for flag, given in places.items():
        words += [f"--{flag} {Source.labelled(place).name}" for place in given]
    return " ".join(words)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", help="folder of a classifier with its run.json")
    parser.add_argument("--data", action="append", default=[], help="KIND=PATH of each corpus")
    parser.add_argument("--most", type=int, default=300, help="spam texts of a corpus (300)")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args(arguments)
    return exit_code("benchmarks.robustness", lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    classifier = Classifier.load(options.checkpoint, "cpu", "float32")
    examples = own_splits(classifier, options.data)[1].test
    cutoff = cutoff_of(classifier)
    read = partial(spam_probabilities, classifier)
    result: dict[str, Any] = {"model": classifier.name, "cutoff": cutoff, "corpora": {}}
    for source in sorted({example.source for example in examples}):
        ham, spam = (
            [e.text for e in examples if e.source == source and e.label == label]
            for label in (0, 1)
        )
        figures = measure(read, spam[: options.most], ham, cutoff)
        figures["windows"] = windows_on_ham(classifier, ham, cutoff)
        result["corpora"][source] = figures
    asked = written_down(options.checkpoint, [f"--most {options.most}"], {"data": options.data})
    result |= describe("benchmarks.robustness", arguments=asked)
    write_result(options.out, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
