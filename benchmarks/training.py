"""Fine-tuning beside the book's own loop: same weights, same texts, one process after another.

    python -m benchmarks.training --data ../shared/data/sms

Random 124M weights, a balanced part of the SMS collection, five epochs, evaluation as in the book,
texts cut and in the book's loop padded to 120 tokens, as long as the book's longest, whatever the
part's is. Both read the last real token, so their
losses must agree. Ours runs before and after the book's minutes, and the mean counts: a shared
machine changes its pace meanwhile. The book computes in float32, so the speedup in bfloat16 is over
that; the one over its loop in bfloat16 stands beside it. Writes results/training.json and prints it
as the last line. bfloat16 is measured where the processor computes in it, and null elsewhere.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.book_loop import book_loop
from benchmarks.environment import describe, write_result
from model import bf16
from model.checkpoint import save_language_model
from model.gpt2 import GPT2Config, GPT2LMHeadModel, init_weights
from training.config import TrainConfig
from training.corpora import Example, read_sms_as_the_book
from training.data import split_examples, tokenize
from training.download import find_sms_file
from training.run import finetune

RESULT = Path(__file__).parent / "results" / "training.json"

# The longest of the book's training texts, to which it pads.
MAX_TOKENS = 120

# Trained parts, and how many of the 747 spam texts, with as many ham: minutes each.
SPAM_TEXTS = {"last_block": 150, "all": 100}
FEWEST_SPAM_TEXTS = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the SMS collection")
    parser.add_argument("--spam", type=int, help=f"spam texts; as many ham (default {SPAM_TEXTS})")
    parser.add_argument("--modes", nargs="+", choices=SPAM_TEXTS, default=SPAM_TEXTS)
    parser.add_argument("--worker", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.spam is not None and arguments.spam < FEWEST_SPAM_TEXTS:
        parser.error(f"--spam {arguments.spam} is too few to split: take {FEWEST_SPAM_TEXTS}.")
    if arguments.worker:
        print(json.dumps(work(arguments, *arguments.worker)))
        return
    runs: dict[str, dict[str, dict] | None] = {}
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "gpt2"
        make_base(base)
        for mode in arguments.modes:
            for precision, figures in measure(arguments, mode, base).items():
                key = f"{mode.replace('all', 'all_layers')}_{precision.replace('bfloat', 'bf')}"
                runs[key] = figures
                print(key, figures, flush=True)
    result = summary(runs) | describe("benchmarks.training")
    write_result(RESULT, result)


def measure(arguments, mode: str, base: Path) -> dict[str, dict[str, dict] | None]:
    """Both loops' figures by number format; None where the processor has no such arithmetic."""
    figures: dict[str, dict[str, dict] | None] = {"float32": None, "bfloat16": None}
    formats = list(figures) if bf16.is_native(torch.device("cpu")) else ["float32"]

    def run(who: str) -> dict[str, dict]:
        return {p: in_own_process(arguments, who, mode, p, base) for p in formats}

    before, book, after = run("spamgate"), run("book"), run("spamgate")
    for precision in formats:
        seconds = [run[precision]["seconds"] for run in (before, after)]
        ours = before[precision] | {"seconds": statistics.mean(seconds), "runs": seconds}
        figures[precision] = {"book": book[precision], "spamgate": ours}
    return figures


def summary(runs: dict[str, dict[str, dict] | None]) -> dict[str, Any]:
    """The figures of all runs."""
    measured = {key: run for key, run in runs.items() if run}
    result: dict[str, Any] = {
        "speedup": dict.fromkeys(runs)
        | {key: speedup(runs[as_float32(key)] or run, run) for key, run in measured.items()},
        "speedup_at_equal_precision": {key: speedup(run, run) for key, run in measured.items()},
        "largest_loss_difference": {key: loss_difference(run) for key, run in measured.items()},
        "seconds": {
            key: {who: round(run[who]["seconds"], 1) for who in run}
            for key, run in measured.items()
        },
        "spamgate_runs": {
            key: [round(seconds, 1) for seconds in run["spamgate"]["runs"]]
            for key, run in measured.items()
        },
        "texts": {key: run["spamgate"]["texts"] for key, run in measured.items()},
        "mean_tokens": {key: run["spamgate"]["mean_tokens"] for key, run in measured.items()},
        "epochs": 5,
    }
    if len(measured) < len(runs):
        result["null_because"] = "this processor has no AVX512-BF16"
    return result


def as_float32(key: str) -> str:
    """The run of the same trained part in the book's own number format."""
    return key.replace("bf16", "float32")


def speedup(theirs: dict[str, dict], ours: dict[str, dict]) -> float:
    """How many times the book's loop takes what ours takes."""
    return round(float(theirs["book"]["seconds"]) / float(ours["spamgate"]["seconds"]), 1)


def make_base(folder: Path) -> None:
    """The 124M model with random weights, in the published form."""
    torch.manual_seed(0)
    config = GPT2Config()
    model = GPT2LMHeadModel(config)
    init_weights(model, config)
    folder.mkdir()
    save_language_model(folder, model)


def in_own_process(arguments, who: str, mode: str, precision: str, base: Path) -> dict:
    """Figures of one run in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.training", "--data", str(arguments.data)]
    spam = arguments.spam or SPAM_TEXTS[mode]
    command += ["--spam", str(spam), "--worker", who, mode, precision, str(base)]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    figures: dict = json.loads(run.stdout.splitlines()[-1])
    return figures


def work(arguments, who: str, mode: str, precision: str, base: str) -> dict:
    """One run: seconds from the loading of the base to the last figure, and the losses printed."""
    config = TrainConfig.model_validate(
        {
            "base": base,
            "trained": mode,
            "precision": precision,
            "selection": "book",
            "max_tokens": MAX_TOKENS,
        }
    )
    examples = balanced_part(arguments.data, arguments.spam)
    splits = split_examples(examples, config)
    # The first optimizer of a process imports torch's compiler: a second that is neither loop's.
    torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))])
    start = time.perf_counter()
    if who == "book":
        losses = book_loop(config, splits)
    else:
        run = finetune(config, examples, torch.device("cpu"))
        # The book does not evaluate once more after the last step.
        points = run.outcome.history.losses[:-1]
        losses = [(point.train_loss, point.validation_loss) for point in points]
    seconds = time.perf_counter() - start
    texts = {name: len(part) for name, part in vars(splits).items()}
    lengths = [len(tokens) for tokens, _ in tokenize(splits.train, MAX_TOKENS)]
    return {
        "seconds": seconds,
        "losses": losses,
        "texts": texts,
        "mean_tokens": round(statistics.mean(lengths), 1),
    }


def balanced_part(data: Path, spam: int) -> list[Example]:
    """The collection's first texts: so many spam, and twice as many ham to draw from."""
    examples = read_sms_as_the_book(find_sms_file(data, (), ""))
    ham_texts = [e for e in examples if e.label == 0][: 2 * spam]
    spam_texts = [e for e in examples if e.label == 1][:spam]
    return ham_texts + spam_texts


def loss_difference(run: dict[str, dict]) -> float:
    """The largest difference between losses printed at the same step."""
    pairs = zip(run["book"]["losses"], run["spamgate"]["losses"], strict=True)
    return max(
        abs(float(a) - float(b))
        for theirs, ours in pairs
        for a, b in zip(theirs, ours, strict=True)
    )


if __name__ == "__main__":
    main()
