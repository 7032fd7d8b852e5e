"""python -m training.pretrain RECIPE.toml --data KIND=PATH ...: text becomes a small GPT-2.

The recipe is a TOML file with the fields of PretrainConfig. The result is a folder that
``training.finetune --base`` takes as it takes a hub's. On the way the newest state lies beside
it, in ``OUT.unfinished``: after Ctrl-C or a crash the same command with ``--resume`` goes on.
Under torchrun several processes share the work.
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from model.checkpoint import save_language_model
from model.devices import pick_device
from model.folders import CheckpointError, new_folder, write_json
from training.command import add_device, add_sources, check_new, exit_code, versions
from training.config import TrainingError, read_recipe
from training.corpora import Source
from training.documents import TextSplit, count_guesses, read_sources
from training.features import Lessons
from training.parallel import is_first, processes
from training.pretrain_config import PretrainConfig
from training.pretrain_loop import Pretrainer, saved_steps
from training.provenance import learnt_by, read_run


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains from the command line. Returns the exit code: 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m training.pretrain",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("recipe", type=Path, help="TOML file, see training/configs/pretrain/")
    add_sources(parser)
    parser.add_argument("--base", help="folder to go on from, instead of the recipe's")
    parser.add_argument(
        "--teacher", type=Path, help="file of training.features, where the recipe distils"
    )
    parser.add_argument("--out", type=Path, help="folder to write (default: runs/RECIPE)")
    parser.add_argument("--resume", action="store_true", help="go on with a stopped run")
    add_device(parser)
    options = parser.parse_args(arguments)
    return exit_code("training.pretrain", lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    config = read_recipe(options.recipe, PretrainConfig, base=options.base)
    sources = [Source.parse(text) for text in options.data]
    out: Path = options.out or Path("runs") / options.recipe.stem
    unfinished = Path(f"{out}.unfinished")
    _check_folders(out, unfinished, resume=options.resume)
    lessons = _lessons(config, options.teacher)
    base_run = learnt_by(read_run(config.base)) if config.base else {}
    with processes(pick_device(options.device)) as device:
        texts = read_sources(sources, config.split_seed, config.n_positions)
        trainer = Pretrainer(config, texts, device, lessons)
        if options.resume:
            trainer.restore(saved_steps(unfinished)[-1])
        return _train_and_save(trainer, out, unfinished, base_run)


def _train_and_save(
    trainer: Pretrainer, out: Path, unfinished: Path, base_run: dict[str, Any]
) -> int:
    print(_describe(trainer))
    if not trainer.run(unfinished):
        print(f"stopped after step {trainer.steps_done}; the same command with --resume goes on")
        return 130
    losses = held_back_losses(trainer)
    unlearnt = trainer.held_back_lessons()
    if is_first():
        save_base(out, trainer, losses, unlearnt, base_run)
        shutil.rmtree(unfinished, ignore_errors=True)
    for name, loss in losses.items():
        print(f"held-back loss, {name}: {loss:.4f} nats a token")
    if unlearnt is not None:
        print(f"held-back variance of the teacher's states left unlearnt: {unlearnt:.3f}")
    print(f"saved to {out} after {trainer.seconds:.0f} s")
    return 0


def _lessons(config: PretrainConfig, teacher: Path | None) -> Lessons | None:
    if not config.distillation:
        if teacher:
            raise TrainingError("this recipe does not distil: leave --teacher out.")
        return None
    if teacher is None:
        raise TrainingError("this recipe distils: give --teacher, the file of training.features.")
    return Lessons(teacher)


def _check_folders(out: Path, unfinished: Path, *, resume: bool) -> None:
    check_new(out)
    if unfinished.exists() and not unfinished.is_dir():
        raise CheckpointError(f"{unfinished} is no folder: remove it, the run's states go there.")
    has_state = bool(saved_steps(unfinished))
    if resume and not has_state:
        raise CheckpointError(f"{unfinished} holds no stopped run: leave --resume out.")
    if has_state and not resume:
        raise CheckpointError(f"{unfinished} holds a stopped run: add --resume, or remove it.")


def held_back_losses(trainer: Pretrainer) -> dict[str, float]:
    """Loss over all held-back tokens, by source and together."""
    held_back = trainer.texts.held_back
    losses = {name: trainer.held_back_loss(part) for name, part in held_back.items()}
    sizes = {name: count_guesses(part) for name, part in held_back.items()}
    total = sum(loss * sizes[name] for name, loss in losses.items())
    return losses | {"all": total / sum(sizes.values())}


def save_base(
    out: Path,
    trainer: Pretrainer,
    losses: dict[str, float],
    unlearnt: float | None,
    base_run: dict[str, Any],
) -> None:
    """Writes the language model and ``run.json`` beside the final name, then renames the folder.

    Raises:
        CheckpointError: the folder exists.
    """
    sizes = ("n_layer", "n_head", "n_embd")
    facts = {
        "recipe": trainer.config.model_dump(mode="json")
        | {size: getattr(trainer.model.config, size) for size in sizes},
        "base_run": base_run,
        "teacher_sha256": trainer.lessons.sha256 if trainer.lessons else None,
        "versions": versions("torch", "tiktoken", "numpy"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": str(trainer.device),
        "tokens": _token_counts(trainer.texts),
        "held_back_loss": losses,
        "held_back_variance_unlearnt": unlearnt,
        "seconds": round(trainer.seconds, 1),
        "history": [vars(point) for point in trainer.history],
    }
    with new_folder(out) as folder:
        save_language_model(folder, trainer.model, getattr(torch, trainer.config.storage_dtype))
        write_json(folder / "run.json", facts)


def _describe(trainer: Pretrainer) -> str:
    parameters = sum(p.numel() for p in trainer.model.parameters())
    counts = _token_counts(trainer.texts)
    passes = trainer.config.steps * trainer.config.batch_tokens / counts["train"]
    return (
        f"{parameters:,} parameters on {trainer.device}; tokens: {counts}; "
        f"about {passes:.1f} passes over the training text"
    )


def _token_counts(texts: TextSplit) -> dict[str, int]:
    held_back = {name: count_guesses(part) for name, part in texts.held_back.items()}
    return {"train": count_guesses(texts.train)} | held_back


if __name__ == "__main__":
    sys.exit(main())
