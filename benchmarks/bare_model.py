"""The model without a server, in each number format: distance from float32, speed, cost of length.

    python -m benchmarks.bare_model [FOLDER]

One thread of the CPU. Writes results/bare_model.json and prints it as the last line.
"""

import argparse
import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import torch

from benchmarks.environment import describe, write_result
from benchmarks.server import ROOT
from benchmarks.texts import load_texts
from model import bf16, int8
from model.checkpoint import load_classifier
from model.classifier import Classifier
from model.folders import CheckpointError
from model.prediction import EncodedText
from model.windows import encode_windows

RESULT = Path(__file__).parent / "results" / "bare_model.json"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int8": torch.int8}
TEXTS_PER_BATCH = (16, 64, 256)
SHORT_TOKENS = 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", default=str(ROOT / "checkpoints" / "starter"))
    parser.add_argument("--dtypes", nargs="+", choices=list(DTYPES), default=list(DTYPES))
    parser.add_argument("--seconds", type=float, default=5, help="of each speed")
    parser.add_argument(
        "--compared", type=int, help="texts to compare with float32; all by default, 0 for none"
    )
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    texts, description = load_texts()
    result: dict = {}
    for name in arguments.dtypes:
        reason = missing(name)
        result[name] = (
            {"left_out": reason}
            if reason
            else measure(arguments.folder, name, texts, arguments.seconds, arguments.compared)
        )
    result |= {"threads": 1, "texts": description, "checkpoint": Path(arguments.folder).name}
    result |= describe("benchmarks.bare_model")
    write_result(arguments.out, result)


def missing(dtype: str) -> str | None:
    """Why a number format gains nothing on this CPU; None where it can be used."""
    if dtype == "bfloat16" and not bf16.is_native(torch.device("cpu")):
        return "this processor has no AVX512-BF16 instructions"
    if dtype == "int8" and not int8.is_supported():
        return "this processor has no VNNI instructions, or torch no oneDNN"
    return None


def measure(
    folder: str, dtype: str, texts: list[str], seconds: float, compared: int | None
) -> dict[str, object]:
    """All figures of one number format."""
    classifier = _load(folder, dtype)
    encoded = [encode_windows(text, classifier.max_tokens, 1).windows[0] for text in texts]
    figures: dict[str, object] = {"golden": golden(classifier)}
    if dtype != "float32" and compared != 0:
        figures["against_float32"] = agreement(
            classifier, _load(folder, "float32"), encoded[:compared]
        )
    figures["texts_per_second"] = {
        str(size): round(texts_per_second(classifier, encoded, size, seconds), 1)
        for size in TEXTS_PER_BATCH
    }
    return figures | cost_of_length(classifier, encoded)


def golden(classifier: Classifier) -> str:
    """Whether the service would take this number format, or why not."""
    try:
        classifier.check_golden()
    except CheckpointError as error:
        return f"refused: {error}"
    return f"{len(classifier.golden)} kept"


def agreement(classifier: Classifier, exact: Classifier, texts: list[EncodedText]) -> dict:
    """How far the probabilities of spam lie from float32's, and how many labels change."""
    pairs = list(zip(classifier.predict(texts), exact.predict(texts), strict=True))
    moves = sorted(abs(a.spam_probability - b.spam_probability) for a, b in pairs)
    return {
        "texts": len(pairs),
        "labels_that_differ": sum(a.label != b.label for a, b in pairs),
        "largest_move": moves[-1],
        "moves_over_0.02": sum(move > 0.02 for move in moves),
    }


def texts_per_second(
    classifier: Classifier, texts: list[EncodedText], size: int, seconds: float
) -> float:
    """A plain loop over the texts in batches of this size; they are tokens already."""
    batches = [texts[i : i + size] for i in range(0, len(texts) - size + 1, size)]
    classifier.predict(batches[0])  # warms up
    done = 0
    begin = time.perf_counter()
    for batch in cycle(batches):
        classifier.predict(batch)
        done += size
        elapsed = time.perf_counter() - begin
        if elapsed >= seconds:
            break
    return done / elapsed


def cost_of_length(classifier: Classifier, texts: list[EncodedText]) -> dict[str, object]:
    """The longest text against as many tokens in texts of 128: 1.0 would be linear."""
    tokens = [token for text in texts for token in text.token_ids][: classifier.max_tokens]
    short = [EncodedText(tokens[i : i + SHORT_TOKENS]) for i in range(0, len(tokens), SHORT_TOKENS)]
    one_long = shortest_seconds(lambda: classifier.predict([EncodedText(tokens)]))
    return {
        "longest_text": {
            "tokens": len(tokens),
            "seconds": round(one_long, 4),
            "times_linear_from_128": round(
                one_long / shortest_seconds(lambda: classifier.predict(short)), 3
            ),
        }
    }


def shortest_seconds(run: Callable[[], object]) -> float:
    """The shortest of a few times that a call takes, after one to warm up."""
    run()
    times = []
    for _ in range(7):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return min(times)


def _load(folder: str, dtype: str) -> Classifier:
    """Without the check of the golden messages, whose outcome is a figure here."""
    checkpoint = load_classifier(folder)
    return Classifier(checkpoint, device=torch.device("cpu"), dtype=DTYPES[dtype])


if __name__ == "__main__":
    main()
