"""python -m training.evaluate CHECKPOINT --data PATH: figures of a checkpoint on labelled texts."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.metrics import log_loss, matthews_corrcoef, roc_auc_score

from model.checkpoint import CheckpointError
from model.classifier import Classifier, DeviceError
from training.config import TrainingError
from training.corpora import Example, find_sms_file, read_sms


@dataclass(frozen=True)
class Metrics:
    """Figures on one set of texts; spam is the positive class, the threshold 0.5.

    Attributes:
        texts: how many, ham and spam together.
        accuracy: share of right verdicts.
        mcc: Matthews correlation coefficient, -1 to 1; 0 for a constant verdict.
        spam_caught: share of spam called spam.
        ham_blocked: share of ham called spam.
        roc_auc: chance that a spam text scores above a ham text.
        loss: mean negative log-likelihood of the labels, in nats.
    """

    texts: int
    accuracy: float
    mcc: float
    spam_caught: float
    ham_blocked: float
    roc_auc: float
    loss: float


def measure(labels: Sequence[int], spam_probabilities: Sequence[float]) -> Metrics:
    """Metrics of probabilities of spam against labels (0 ham, 1 spam), both classes present.

    Raises:
        TrainingError: only one class among the labels.
    """
    truth = np.asarray(labels)
    scores = np.asarray(spam_probabilities)
    if len(set(truth.tolist())) != 2:
        raise TrainingError("metrics need ham and spam among the texts, one of them is absent.")
    verdicts = scores > 0.5
    return Metrics(
        texts=len(truth),
        accuracy=float((verdicts == truth).mean()),
        mcc=float(matthews_corrcoef(truth, verdicts)),
        spam_caught=float(verdicts[truth == 1].mean()),
        ham_blocked=float(verdicts[truth == 0].mean()),
        roc_auc=float(roc_auc_score(truth, scores)),
        loss=float(log_loss(truth, np.clip(scores, 1e-7, 1 - 1e-7))),
    )


def evaluate(classifier: Classifier, examples: Sequence[Example]) -> Metrics:
    """Metrics of a classifier on examples."""
    predictions = classifier.classify([e.text for e in examples])
    return measure([e.label for e in examples], [p.spam_probability for p in predictions])


def as_table(rows: dict[str, Metrics]) -> str:
    """A Markdown table, one row a set or system."""
    lines = [
        "| | texts | accuracy | MCC | spam caught | ham blocked | ROC AUC | loss |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {m.texts} | {m.accuracy:.2%} | {m.mcc:.4f} | {m.spam_caught:.2%} "
        f"| {m.ham_blocked:.2%} | {m.roc_auc:.4f} | {m.loss:.4f} |"
        for name, m in rows.items()
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table, or one JSON object with --json. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__)
    parser.add_argument("checkpoint", help="checkpoint folder or hub id")
    parser.add_argument("--data", type=Path, required=True, help="file of lines: label, TAB, text")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda (default: auto)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)
    try:
        examples = read_sms(find_sms_file(options.data, (), ""))
        classifier = Classifier.load(options.checkpoint, options.device, "float32")
        metrics = evaluate(classifier, examples)
    except (TrainingError, CheckpointError, DeviceError) as error:
        print(f"training.evaluate: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps({"model": classifier.name} | dataclasses.asdict(metrics)))
    else:
        print(as_table({classifier.name: metrics}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
