"""python -m training.experiments [ROWS]: the 19 rows of the book's table, over several seeds.

Each run is recorded as it ends, so an interrupted table goes on where it stopped.
"""

import argparse
import dataclasses
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from model.devices import pick_device
from model.folders import new_file, read_json
from training.command import add_device, check_folder, exit_code
from training.config import ConfigError, TrainConfig, load_config
from training.corpora import Example, read_sms_as_the_book
from training.download import find_sms_file
from training.memory import peak_memory_bytes, reset_peak_memory
from training.results import Results
from training.run import finetune

_RECIPE = Path(__file__).parent / "configs" / "book_last_block.toml"


@dataclass(frozen=True)
class Row:
    """One row: what it changes in the book's recipe, and what the book found.

    Attributes:
        size: suffix of the base's id: none, ``-medium``, ``-large`` or ``-xl``.
        changes: fields of TrainConfig.
        book: accuracy on test in percent, and minutes on an A100.
    """

    number: int
    about: str
    book: tuple[float, float]
    size: str = ""
    changes: dict[str, Any] = field(default_factory=dict)


_NO_PADDING: dict[str, Any] = {"padding": "none", "batch_size": 1}

ROWS = (
    Row(1, "the chapter", (95.00, 0.28)),
    Row(2, "first token", (75.00, 0.28), changes={"read_token": "first"}),
    Row(3, "head only", (72.00, 0.25), changes={"trained": "head"}),
    Row(4, "last two blocks", (98.33, 0.33), changes={"trained": "last_two_blocks"}),
    Row(5, "all layers", (96.67, 0.69), changes={"trained": "all"}),
    Row(6, "355M", (84.67, 0.75), "-medium"),
    Row(7, "774M", (96.67, 1.50), "-large"),
    Row(8, "1558M", (98.33, 2.83), "-xl"),
    Row(9, "1558M, all layers", (98.67, 8.12), "-xl", {"trained": "all"}),
    Row(
        10,
        "random weights as GPT-2's are drawn, all layers",
        (93.67, 0.69),
        changes={"random_weights": True, "trained": "all"},
    ),
    Row(
        11,
        "LoRA, rank 16, alpha 16",
        (96.67, 0.75),
        changes={"trained": "lora", "lora_rank": 16, "lora_alpha": 16.0},
    ),
    Row(
        12,
        "1558M, LoRA, rank 16, alpha 8",
        (98.33, 5.79),
        "-xl",
        {"trained": "lora", "lora_rank": 16, "lora_alpha": 8.0},
    ),
    Row(13, "padded to 1024", (78.33, 2.46), changes={"padding": "context"}),
    Row(14, "no padding, batch 1", (98.00, 1.75), changes=_NO_PADDING),
    Row(
        15,
        "no padding, batch 8 by accumulation",
        (98.33, 1.70),
        changes=_NO_PADDING | {"accumulation_steps": 8},
    ),
    # What follows the last real token cannot reach it, so its padding need not be computed.
    Row(16, "last real token", (98.33, 0.30), changes={"padding": "none"}),
    Row(17, "no causal mask", (95.33, 0.29), changes={"causal_mask": False}),
    Row(18, "ignore_index 50256", (95.00, 0.28), changes={"ignore_index": 50256}),
    Row(19, "mean of all tokens", (96.33, 0.32), changes={"read_token": "mean"}),
)


def row_config(row: Row, base: str, seed: int, **changes: object) -> TrainConfig:
    """The recipe of one run.

    A hub id, or a folder with larger ones beside it (``gpt2``, ``gpt2-medium``, ...), is taken by
    size; any other folder serves every row, within its own context.
    """
    base = Path(base).as_posix()  # without the slash that a shell's completion adds
    sized = base + row.size
    if Path(base).is_dir() and not Path(sized).is_dir():
        sized = base
    config = load_config(_RECIPE, base=sized, seed=seed, **{**row.changes, **changes})
    if not (Path(sized) / "config.json").is_file():
        return config
    most = read_json(Path(sized) / "config.json").get("n_positions")
    is_shorter = isinstance(most, int) and most < config.max_tokens
    return config.model_copy(update={"max_tokens": most}) if is_shorter else config


def run_row(
    config: TrainConfig, examples: Sequence[Example], device: torch.device
) -> dict[str, Any]:
    """Trains once; figures for the table and the JSON file."""
    reset_peak_memory(device)
    start = time.monotonic()
    run = finetune(config, examples, device)
    if run.outcome.interrupted:  # a part of a run is none to be recorded
        raise KeyboardInterrupt
    return {
        "accuracy": {name: 100 * metrics.accuracy for name, metrics in run.metrics.items()},
        "metrics": {name: dataclasses.asdict(metrics) for name, metrics in run.metrics.items()},
        "parameters": sum(p.numel() for p in run.model.parameters()),
        "trained_parameters": run.trained_parameters,
        "minutes": (time.monotonic() - start) / 60,
        "examples_per_second": run.outcome.examples_per_second,
        "peak_memory_mib": peak_memory_bytes(device) / 2**20,
        "device": _device_name(device),
    }


def as_table(rows: Sequence[Row], results: Results, base: str, epochs: int | None = None) -> str:
    """Markdown: ours, mean ± standard deviation over the seeds, beside the book's figure.

    Args:
        rows: those to show; one that was not run so is left out.
        results: all runs, some perhaps of another base or of other epochs.
        base: as for ``row_config``.
        epochs: instead of the recipe's.
    """
    lines = [
        "| # | what | parameters | trained | train % | validation % | test % | book's test % "
        "| minutes | book's | examples/s | peak MiB | seeds | device |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        runs = results.of_row(row.number, row_config(row, base, 0, epochs=epochs))
        if not runs:
            continue
        accuracies = [
            _mean_and_deviation([run["accuracy"][part] for run in runs])
            for part in ("train", "validation", "test")
        ]
        minutes, rate, memory = (
            statistics.mean(run[key] for run in runs)
            for key in ("minutes", "examples_per_second", "peak_memory_mib")
        )
        first = runs[0]
        lines.append(
            f"| {row.number} | {row.about} | {first['parameters']:,} "
            f"| {first['trained_parameters']:,} | {' | '.join(accuracies)} | {row.book[0]:.2f} "
            f"| {minutes:.2f} | {row.book[1]:.2f} | {rate:.0f} | {memory:.0f} | {len(runs)} "
            f"| {', '.join(dict.fromkeys(run['device'] for run in runs))} |"
        )
    return "\n".join(lines)


def parse_rows(text: str) -> list[Row]:
    """The rows of ``"1,5,10-12"``, each once; of an empty text, all.

    Raises:
        ConfigError: not of that form, or no such row.
    """
    by_number = {row.number: row for row in ROWS}
    numbers: list[int] = []
    try:
        for part in filter(None, text.split(",")):
            first, _, last = part.partition("-")
            span = range(int(first), int(last or first) + 1)
            if not span:
                raise ValueError(part)
            numbers += span
        return [by_number[number] for number in dict.fromkeys(numbers)] or list(ROWS)
    except (ValueError, KeyError) as error:
        raise ConfigError(
            f"rows are numbers from 1 to {len(ROWS)} such as 1,5,10-12; {text!r} came."
        ) from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what is still missing, then writes the table. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.experiments", description=__doc__)
    parser.add_argument("rows", nargs="?", default="", help="such as 1,5,10-12 (default: all)")
    parser.add_argument("--data", type=Path, help="the SMS collection; without it, downloaded")
    parser.add_argument("--base", default="openai-community/gpt2", help="folder or hub id")
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 123 (default: 3)")
    parser.add_argument("--epochs", type=int, help="instead of the book's five")
    parser.add_argument("--out", type=Path, default=Path("runs/experiments"), help="folder")
    add_device(parser)
    options = parser.parse_args(arguments)
    return exit_code("training.experiments", lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    rows = parse_rows(options.rows)
    check_folder(options.out / "results.json")
    results = Results.open(options.out / "results.json")
    try:
        _run_missing(rows, results, options)
    except KeyboardInterrupt:
        print(f"interrupted: run again to go on from {options.out}", file=sys.stderr)
        return 130
    with new_file(options.out / "results.md") as partial:  # with the rows of other times
        whole = as_table(ROWS, results, options.base, options.epochs)
        partial.write_text(whole + "\n", encoding="utf-8")
    print(as_table(rows, results, options.base, options.epochs))
    return 0


def _run_missing(rows: Sequence[Row], results: Results, options: argparse.Namespace) -> None:
    if options.seeds < 1:
        raise ConfigError(f"--seeds is {options.seeds}: at least 1 is needed.")
    device = pick_device(options.device)
    first = load_config(_RECIPE)
    data = find_sms_file(options.data, first.data_urls, first.data_sha256)
    examples = read_sms_as_the_book(data)
    for row in rows:
        for seed in range(first.seed, first.seed + options.seeds):
            config = row_config(row, options.base, seed, epochs=options.epochs)
            if results.has(row.number, config):
                continue
            print(f"row {row.number} ({row.about}), seed {seed}")
            results.add(row.number, config, run_row(config, examples, device))


def _mean_and_deviation(values: Sequence[float]) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.2f} ± {deviation:.2f}"


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"


if __name__ == "__main__":
    sys.exit(main())
