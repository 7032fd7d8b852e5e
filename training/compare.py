"""python -m training.compare RECIPE.toml --seeds 5: a recipe beside bag-of-words models.

Each seed draws a split of its own and trains anew; every system is judged on the same test texts.
"""

import argparse
import dataclasses
import platform
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from model.checkpoint import CheckpointError
from model.classifier import DeviceError, pick_device
from model.folders import write_json
from training.baselines import measure_baselines
from training.config import TrainConfig, TrainingError, load_config
from training.corpora import Example, find_sms_file, read_sms
from training.evaluate import Metrics
from training.run import finetune

_SHOWN = ("mcc", "accuracy", "spam_caught", "ham_blocked", "roc_auc")


def compare(
    config: TrainConfig, examples: Sequence[Example], seeds: Sequence[int], device: torch.device
) -> dict[str, list[Metrics]]:
    """Test metrics of each system, in the order of the seeds."""
    results: dict[str, list[Metrics]] = {}
    for seed in seeds:
        seeded = config.model_copy(update={"seed": seed, "split_seed": seed})
        run = finetune(seeded, examples, device)
        systems = {"spamgate": run.metrics["test"]}
        systems |= measure_baselines(run.splits.train, run.splits.test, seed)
        for name, metrics in systems.items():
            results.setdefault(name, []).append(metrics)
            print(f"seed {seed}  {name}: test MCC {metrics.mcc:.4f}")
    return results


def summarize(results: dict[str, list[Metrics]]) -> dict[str, dict[str, tuple[float, float]]]:
    """Mean and standard deviation over the seeds, by system and metric."""
    return {
        name: {
            metric: (
                statistics.mean(getattr(m, metric) for m in runs),
                statistics.stdev([getattr(m, metric) for m in runs]) if len(runs) > 1 else 0.0,
            )
            for metric in _SHOWN
        }
        for name, runs in results.items()
    }


def as_table(summary: dict[str, dict[str, tuple[float, float]]]) -> str:
    """Markdown, mean ± standard deviation."""
    lines = [
        "| system | MCC | accuracy | spam caught | ham blocked | ROC AUC |",
        "|---|---|---|---|---|---|",
    ]
    for name, metrics in summary.items():
        cells = (f"{mean:.4f} ± {deviation:.4f}" for mean, deviation in metrics.values())
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table and writes JSON with every seed's figures. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.compare", description=__doc__)
    parser.add_argument("recipe", type=Path, help="TOML file, see training/configs/")
    parser.add_argument("--data", type=Path, help="the SMS collection; without it, downloaded")
    parser.add_argument("--seeds", type=int, default=5, help="how many, from 0 (default: 5)")
    parser.add_argument("--out", type=Path, help="JSON file (default: none)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda (default: auto)")
    options = parser.parse_args(arguments)
    try:
        config = load_config(options.recipe)
        device = pick_device(options.device)
        data = find_sms_file(options.data, config.data_urls, config.data_sha256)
        results = compare(config, read_sms(data), range(options.seeds), device)
    except (TrainingError, CheckpointError, DeviceError) as error:
        print(f"training.compare: {error}", file=sys.stderr)
        return 2
    summary = summarize(results)
    print(as_table(summary))
    if options.out:
        runs = {name: [dataclasses.asdict(m) for m in rows] for name, rows in results.items()}
        command = f"python -m training.compare {options.recipe} --seeds {options.seeds}"
        versions = {"python": platform.python_version(), "torch": torch.__version__}
        write_json(
            options.out,
            {"command": command, "versions": versions, "mean_and_deviation": summary, "runs": runs},
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
