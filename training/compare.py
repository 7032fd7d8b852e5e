"""python -m training.compare RECIPE.toml --seeds 5: a recipe beside bag-of-words models.

Every system is judged on the same texts: the recipe's test part, by corpus, and with --foreign
corpora of which it was trained on nothing; texts of theirs that nearly equal one of the recipe's
corpora are left out. With --leave-out each corpus in turn is not trained on, and its test part is
judged; the recipe's base is then none that has learnt labels. From random weights each seed draws a
split of its own; a base was kept from the recipe's own split alone, so there the seed is only the
training's. With --checkpoint nothing is trained: those that it names are judged, on the split that
the recipe draws. What a checkpoint or base has learnt from, by its run.json, is refused.
"""

import argparse
import dataclasses
import statistics
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

from model.checkpoint import ReadToken, hash_files, load_classifier
from model.devices import pick_device
from model.folders import write_json
from model.hub import resolve
from training.baselines import fit_baselines
from training.command import add_device, check_folder, exit_code, portable, versions
from training.config import (
    ConfigError,
    TrainConfig,
    TrainingError,
    load_config,
    refuse_seeds,
)
from training.corpora import CORPORA, Example, Source, read_corpora, sha256_of
from training.data import Splits, drop_duplicates, folded, split_examples, tokenize_parts
from training.evaluate import FIGURES, Metrics, measure
from training.features import Lessons
from training.foreign import read_foreign, unlike
from training.measuring import read_as_trained
from training.provenance import check_foreign, check_split, read_base_run, read_run
from training.run import finetune

_SHOWN = (
    *("mcc", "f1", "spam_caught", "ham_blocked", "roc_auc"),
    *("calibration_error", "calibration_noise"),
)
_FOREIGN_TEXTS = 3000
_SEEDS = 5
OWN = "spamgate"

Results = dict[str, dict[str, list[Metrics]]]
"""Metrics by set of texts and by system, in the order of the seeds."""
Score = Callable[[Sequence[Example]], list[float]]


def compare(
    config: TrainConfig,
    examples: Sequence[Example],
    seeds: Sequence[int],
    device: torch.device,
    foreign: Sequence[Example] = (),
) -> Results:
    """The recipe over several seeds, tested on its own corpora and on foreign texts."""
    refuse_seeds(config, len(seeds))
    if not seeds:
        raise TrainingError("no seeds to compare: at least 1 is needed.")
    results: Results = {}
    baselines: tuple[Splits, dict[str, Score]] | None = None
    for seed in seeds:
        split_seed = seed if config.base == "random" or config.random_weights else config.split_seed
        seeded = config.model_copy(update={"seed": seed, "split_seed": split_seed})
        splits = split_examples(examples, seeded)
        tests = _tests(config, splits.test, foreign)
        if baselines is None or baselines[0] != splits:
            baselines = splits, fit_baselines(splits, seed)
        systems = {OWN: _train(seeded, examples, device)} | baselines[1]
        _judge(systems, tests, results, f"seed {seed}")
    return results


def leave_out(
    config: TrainConfig,
    examples: Sequence[Example],
    device: torch.device,
    foreign: Sequence[Example] = (),
) -> Results:
    """The recipe without each of its corpora in turn, tested on that one and on foreign texts."""
    results: Results = {}
    tests = _tests(config, split_examples(examples, config).test)
    if len(tests) < 2:
        raise TrainingError("--leave-out takes a recipe of two corpora at least: one is left.")
    elsewhere = _tests(config, [], foreign)
    for left_out, test in tests.items():
        kept = unlike([e for e in examples if e.source != left_out], test)
        systems = {OWN: _train(config, kept, device)}
        systems |= fit_baselines(split_examples(kept, config), config.seed)
        others = {f"{name} (without {left_out})": t for name, t in elsewhere.items()}
        _judge(systems, {left_out: test} | others, results, f"without {left_out}")
    return results


def judge(
    checkpoints: Sequence[str],
    config: TrainConfig,
    examples: Sequence[Example],
    device: torch.device,
    foreign: Sequence[Example] = (),
) -> Results:
    """Finished classifiers of this recipe on the recipe's test part and on foreign texts.

    Raises:
        TrainingError: one that reads another token.
    """
    results: Results = {}
    splits = split_examples(examples, config)
    tests = _tests(config, splits.test, foreign)
    baselines = fit_baselines(splits, config.seed)
    read_token: ReadToken = config.read_token
    if config.padding != "none":
        read_token = tokenize_parts(splits, config)[1]
    for place in checkpoints:
        checkpoint = load_classifier(place)
        if (checkpoint.read_token, checkpoint.causal_mask) != (read_token, config.causal_mask):
            raise TrainingError(
                f"{checkpoint.name} was trained to read token {checkpoint.read_token}, and by this "
                f"recipe it would read {read_token}, or with another mask: take its own recipe."
            )
        model = checkpoint.model.to(device)
        own = partial(read_as_trained, model, splits=splits, config=config, device=device)
        _judge({OWN: own} | baselines, tests, results, place)
    return results


def _train(config: TrainConfig, examples: Sequence[Example], device: torch.device) -> Score:
    run = finetune(config, examples, device)
    if run.outcome.interrupted:  # a part of a run is not to be judged
        raise KeyboardInterrupt
    model = run.model.to(device)
    return partial(read_as_trained, model, splits=run.splits, config=config, device=device)


def _judge(
    systems: dict[str, Score], tests: dict[str, list[Example]], results: Results, run: str
) -> None:
    for test, texts in tests.items():
        labels = [e.label for e in texts]
        for name, score in systems.items():
            metrics = measure(labels, score(texts))
            results.setdefault(test, {}).setdefault(name, []).append(metrics)
            print(
                f"{run}  {test}  {name}: MCC {metrics.mcc:.4f}, ROC AUC {metrics.roc_auc:.4f}",
                flush=True,
            )


def _tests(
    config: TrainConfig, test: Sequence[Example], foreign: Sequence[Example] = ()
) -> dict[str, list[Example]]:
    """The sets of texts that are judged: the test part by corpus, then the foreign corpora.

    As the service reads them, and each once; the book's selection is left as it is.

    Raises:
        TrainingError: one of them has only ham or only spam.
    """
    tests = _by_source(test if config.selection == "book" else drop_duplicates(folded(test)))
    for name, texts in _by_source(drop_duplicates(folded(foreign))).items():
        tests[f"{name} (foreign)" if name in tests else name] = texts
    for name, texts in tests.items():
        if len({example.label for example in texts}) < 2:
            raise TrainingError(
                f"the {len(texts)} texts of {name} to judge by are all ham or all spam: no figures "
                "come of them. Give a corpus of both as one."
            )
    return tests


def _by_source(examples: Sequence[Example]) -> dict[str, list[Example]]:
    parts: dict[str, list[Example]] = {}
    for example in examples:
        parts.setdefault(example.source, []).append(example)
    return dict(sorted(parts.items()))


def summarize(
    results: Results,
) -> dict[str, dict[str, dict[str, tuple[float, float]]]]:
    """Mean and standard deviation over the seeds, by set, system and metric."""
    return {
        test: {
            name: {metric: _mean_and_deviation(runs, metric) for metric in _SHOWN}
            for name, runs in systems.items()
        }
        for test, systems in results.items()
    }


def _mean_and_deviation(runs: Sequence[Metrics], metric: str) -> tuple[float, float]:
    values = [getattr(run, metric) for run in runs]
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def as_table(summary: dict[str, dict[str, dict[str, tuple[float, float]]]]) -> str:
    """Markdown, mean ± standard deviation; of one run, or of equal ones, the figure alone."""
    columns = ["texts", "system", *(FIGURES[metric][0] for metric in _SHOWN)]
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for test, systems in summary.items():
        for name, metrics in systems.items():
            cells = (
                f"{mean:.4f} ± {deviation:.4f}" if deviation else f"{mean:.4f}"
                for mean, deviation in metrics.values()
            )
            lines.append(f"| {test} | {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table and writes JSON with every seed's figures. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m training.compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("recipe", type=Path, help="TOML file, see training/configs/")
    for name, meaning in (
        ("--data", f"as for training.finetune; KIND is one of {', '.join(CORPORA)}"),
        ("--foreign", "labelled texts to test on and never train on, as KIND=PATH"),
    ):
        parser.add_argument(name, action="append", default=[], metavar="KIND=PATH", help=meaning)
    parser.add_argument(
        "--sample",
        type=int,
        default=_FOREIGN_TEXTS,
        help=f"foreign texts drawn of each corpus (default: {_FOREIGN_TEXTS})",
    )
    parser.add_argument("--seeds", type=int, help=f"how many, from 0 (default: {_SEEDS})")
    parser.add_argument("--epochs", type=int, help="instead of the recipe's")
    parser.add_argument("--teacher", help="file of training.features, instead of the recipe's")
    parser.add_argument(
        "--checkpoint", action="append", help="judge this one instead of training; repeatable"
    )
    parser.add_argument("--leave-out", action="store_true", help="see above; one seed")
    parser.add_argument("--out", type=Path, help="JSON file (default: none)")
    add_device(parser)
    options = parser.parse_args(arguments)
    return exit_code("training.compare", lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    _refuse_unused(options)
    config = load_config(options.recipe, epochs=options.epochs, teacher=options.teacher)
    if options.out:
        check_folder(options.out)
    teacher_sha256 = None
    if config.teacher and not options.checkpoint:
        Lessons(Path(config.teacher))  # to be told before the work
        teacher_sha256 = sha256_of(Path(config.teacher))
    device = pick_device(options.device)
    corpus = read_corpora(options.data, config)
    foreign = read_foreign(options.foreign, options.sample, corpus.examples)
    _check_unread(options, config, corpus.sha256)
    if options.checkpoint:
        results = judge(options.checkpoint, config, corpus.examples, device, foreign)
    elif options.leave_out:
        results = leave_out(config, corpus.examples, device, foreign)
    else:
        seeds = range(_SEEDS if options.seeds is None else options.seeds)
        results = compare(config, corpus.examples, seeds, device, foreign)
    summary = summarize(results)
    if options.out:  # before a terminal can refuse it
        told = _as_json(options, config, summary, results, corpus.sha256)
        write_json(options.out, told | {"teacher_sha256": teacher_sha256})
    print(as_table(summary))
    return 0


def _refuse_unused(options: argparse.Namespace) -> None:
    """Refuses options that another one leaves without a meaning.

    Raises:
        ConfigError: such options.
    """
    given = {
        "--leave-out": options.leave_out,
        "--seeds": options.seeds is not None,
        "--epochs": options.epochs is not None,
        "--teacher": options.teacher is not None,
    }
    unused = [name for name, is_given in given.items() if is_given]
    if options.checkpoint and unused:
        raise ConfigError(f"--checkpoint trains nothing: leave out {' and '.join(unused)}.")
    if options.leave_out and given["--seeds"]:
        raise ConfigError("--leave-out trains with the recipe's seed alone: leave out --seeds.")


def _check_unread(options: argparse.Namespace, config: TrainConfig, sha256: dict[str, str]) -> None:
    """Refuses texts to judge by that what is judged, or the base it comes from, has learnt from.

    Raises:
        TrainingError: such texts.
    """
    if options.checkpoint:
        runs = {place: read_run(place) for place in options.checkpoint}
    else:
        runs = {config.base: read_base_run(config)}
        learnt = runs[config.base].get("data_sha256")
        if options.leave_out and (config.keep_head or learnt):
            raise TrainingError(
                f"{config.base} is a classifier, which may have learnt the labels that --leave-out "
                "leaves out: take a recipe whose base is a language model, or random."
            )
    for name, run in runs.items():
        check_foreign(run, name, map(Source.labelled, options.foreign))
        check_split(run, name, config, sha256, is_judged=bool(options.checkpoint))


def _command(options: argparse.Namespace) -> str:
    """What was asked, without the folders of this machine."""
    words = ["python -m training.compare", portable(options.recipe)]
    words += [f"--data {Source.labelled(place).name}" for place in options.data]
    if options.checkpoint:
        words += [f"--checkpoint {portable(checkpoint)}" for checkpoint in options.checkpoint]
    else:
        seeds = _SEEDS if options.seeds is None else options.seeds
        words.append("--leave-out" if options.leave_out else f"--seeds {seeds}")
    if options.epochs:
        words.append(f"--epochs {options.epochs}")
    if options.teacher:
        words.append(f"--teacher {portable(options.teacher)}")
    words += [f"--foreign {Source.labelled(place).name}" for place in options.foreign]
    if options.foreign and options.sample != _FOREIGN_TEXTS:
        words.append(f"--sample {options.sample}")
    return " ".join(words)


def _portable_recipe(config: TrainConfig) -> dict[str, object]:
    """A recipe whose files are named without the folders of this machine."""
    recipe = config.model_dump()
    one = {key: portable(recipe[key]) for key in ("base", "teacher")}
    several = ("training_only", "table_only", "replay")
    return recipe | one | {key: [portable(path) for path in recipe[key]] for key in several}


def _as_json(
    options: argparse.Namespace,
    config: TrainConfig,
    summary: dict[str, dict[str, dict[str, tuple[float, float]]]],
    results: Results,
    sha256: dict[str, str],
) -> dict[str, object]:
    return {
        "command": _command(options),
        "versions": versions("torch", "numpy", "scikit-learn"),
        "recipe": _portable_recipe(config),
        "data_sha256": sha256,
        "checkpoints": [
            {"place": portable(place), "sha256": hash_files(resolve(place))}
            for place in options.checkpoint or ()
        ],
        "mean_and_deviation": summary,
        "runs": {
            test: {name: [dataclasses.asdict(m) for m in runs] for name, runs in systems.items()}
            for test, systems in results.items()
        },
    }


if __name__ == "__main__":
    sys.exit(main())
