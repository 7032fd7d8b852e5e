"""One recipe with several seeds: one run proves little; validation alone tells the best."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from model.folders import CheckpointError
from training.command import CtrlC
from training.config import TrainConfig, TrainingError
from training.corpora import Example
from training.measuring import TrainedClassifier
from training.run import finetune


@dataclass(frozen=True)
class SeedResult:
    """What one seed led to, Ctrl-C included; the test figure is told, and chooses nothing."""

    seed: int
    best_step: int
    validation_loss: float
    validation_accuracy: float
    test_accuracy: float
    interrupted: bool


def finetune_seeds(
    config: TrainConfig,
    count: int,
    examples: Sequence[Example],
    device: torch.device,
    ctrl_c: CtrlC,
) -> tuple[TrainConfig, TrainedClassifier, list[SeedResult], int | None]:
    """Trains with ``count`` seeds from the recipe's on; Ctrl-C ends with those that were reached.

    A seed that has been trained is measured even so, unless Ctrl-C comes once more. One that fails
    ends them, too, and a line says why.

    Returns:
        The recipe and the run of the lowest validation loss, what every seed led to, and the seed
        that failed, if one did.

    Raises:
        TrainingError, CheckpointError: as for ``finetune``, with the first seed.
    """
    results: list[SeedResult] = []
    best: tuple[TrainConfig, TrainedClassifier] | None = None
    failed = None
    for seed in range(config.seed, config.seed + count):
        own = config.model_copy(update={"seed": seed})
        try:
            ctrl_c.begin_training()
            run = finetune(own, examples, device, ctrl_c.end_training)
        except KeyboardInterrupt:  # there is nothing of this seed yet
            if best is None:
                raise
            break
        except (TrainingError, CheckpointError, OSError, MemoryError, RuntimeError) as error:
            if best is None:
                raise
            print(f"seed {seed} failed, the seeds before it are kept: {error}", flush=True)
            failed = seed
            break
        snapshot = run.outcome.snapshot
        results.append(
            SeedResult(
                seed,
                snapshot.step,
                snapshot.validation_loss,
                run.metrics["validation"].accuracy,
                run.metrics["test"].accuracy,
                run.outcome.interrupted,
            )
        )
        if best is None or snapshot.validation_loss < best[1].outcome.snapshot.validation_loss:
            best = own, run
        if run.outcome.interrupted or ctrl_c.was_noted:
            break
    if best is None:
        raise TrainingError(f"--seeds is {count}: at least 1 is needed.")
    return *best, results, failed


def as_table(results: Sequence[SeedResult]) -> str:
    """Markdown, one row a seed."""
    lines = ["| seed | best step | validation loss | validation | test |", "|---|---|---|---|---|"]
    lines += [
        f"| {r.seed} | {r.best_step} | {r.validation_loss:.4f} | {r.validation_accuracy:.2%} "
        f"| {r.test_accuracy:.2%} |"
        for r in results
    ]
    return "\n".join(lines)
