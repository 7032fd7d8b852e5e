"""What is written beside the weights: run.json, the model card, and the golden messages' texts."""

import dataclasses
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from model.checkpoint import hash_files
from model.folders import write_json
from model.hub import resolve
from training.command import versions
from training.config import TrainConfig
from training.corpora import sha256_of
from training.cutoffs import TEXTS_OF_A_CUTOFF, ReliabilityBin, as_cutoff, as_reliability_table
from training.data import Splits
from training.evaluate import Metrics, as_table
from training.loop import Outcome, chosen_precision
from training.parallel import num_processes
from training.provenance import learnt_by, learnt_whole, read_base_run

# Written for this project: no text of a corpus, so that a checkpoint gives none away. The first
# two are the sentences of the post that the recipe comes from.
GOLDEN_TEXTS = (
    "You are a winner you have been specially selected to receive $1000 cash or a $2000 reward",
    "Hey, just wanted to check if we're still on for dinner tonight? Let me know!",
    "URGENT! Your mobile number has won a 2,000 pound prize. Call 09061 000000 now to claim.",
    "Running ten minutes late, start without me. Sorry!",
    "FREE ringtone! Txt TONE to 80000 now. 150p/msg, stop to end.",
    "Can you send me the notes from today's lecture?",
    "",
    "Überraschung \u2013 字 \U0001f600 <|endoftext|> it&#39;s &amp; \x00",
)

# By the SHA-256 that run.json has of them: nothing else tells what a file of somebody's holds.
_CORPORA = {
    "7d039a24a6083ed9ef0f806ebad56bbb976e3aeb8de05669173bfdc4996c239d": "SMS Spam Collection "
    "(English; Almeida, Gómez Hidalgo, UCI 228, CC BY 4.0)",
    "137276bc22e3c4d43bd5d4d8f2a52718591676fbadbe92623a23ee01e3356aca": "YouTube Spam Collection "
    "(English comments; Alberto, Lochter, Almeida, UCI 380, CC BY 4.0)",
    "17d44d80a000876b7141106f7cf07a83c133195fbad165527db68b89ff4cdb02": "SpamAssassin public mail "
    "corpus (English, of 2002 and 2003; PDDL 1.0, contents CC0 1.0 as published)",
}
_SPLITS = {
    "all": "Equal and nearly equal texts stand in one part, compared before leet, marks and HTML's "
    "names of characters are read.",
    "book": "Equal texts may stand in several parts.",
}
_READS = {
    "last": "each text's last token",
    "first": "each text's first token",
    "mean": "the mean of each text's tokens",
}
_DECIDING = ("ham_below", "spam_from")
_FEW_DECIDED = 0.5
_SNAPSHOTS = {"best": "chosen by validation loss", "last": "the last one"}


@dataclass(frozen=True)
class RunRecord:
    """The facts of one run, for run.json and the card."""

    counts: dict[str, dict[str, int]]
    metrics: dict[str, Metrics]
    facts: dict[str, Any]
    data_sha256: dict[str, str]
    best_step: int
    best_validation_loss: float
    training_seconds: float
    examples_per_second: float
    interrupted: bool
    history: dict[str, Any]
    seeds: list[dict[str, Any]]
    is_average: bool

    @classmethod
    def of(
        cls,
        splits: Splits,
        outcome: Outcome,
        metrics: dict[str, Metrics],
        facts: dict[str, Any],
        data_sha256: dict[str, str],
        seeds: list[dict[str, Any]],
        *,
        is_average: bool = False,
    ) -> "RunRecord":
        """Gathers the record from a run's results."""
        return cls(
            counts=splits.counts(),
            metrics=metrics,
            facts=facts,
            data_sha256=data_sha256,
            best_step=outcome.snapshot.step,
            best_validation_loss=outcome.snapshot.validation_loss,
            training_seconds=round(outcome.seconds, 1),
            examples_per_second=round(outcome.examples_per_second, 1),
            interrupted=outcome.interrupted,
            history=dataclasses.asdict(outcome.history),
            seeds=seeds,
            is_average=is_average,
        )


def write_run_json(path: Path, config: TrainConfig, record: RunRecord) -> None:
    """Everything needed to repeat the run and to judge it."""
    facts = {
        "recipe": config.model_dump(),
        "versions": versions("torch", "tiktoken", "numpy", "scikit-learn"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    fields = dataclasses.asdict(record)
    write_json(path, facts | fields.pop("facts") | fields)


def circumstances(config: TrainConfig, device: torch.device) -> dict[str, object]:
    """What a recipe leaves open: which files its names stood for, and what computed.

    Returns:
        ``base_sha256`` (as ``Checkpoint.sha256``) and ``teacher_sha256``, None where there is
        none; ``base_run``, what the base has learnt from; ``device``, ``precision``, ``processes``.

    Raises:
        CheckpointError: as for ``read_run``.
    """
    has_base = config.base != "random"
    return {
        "base_sha256": hash_files(resolve(config.base)) if has_base else None,
        "base_run": learnt_by(read_base_run(config)),
        "teacher_sha256": sha256_of(Path(config.teacher)) if config.teacher else None,
        "device": str(device),
        "precision": chosen_precision(config.precision, device),
        "processes": num_processes(),
    }


def write_model_card(
    path: Path, name: str, config: TrainConfig, record: RunRecord, *, has_table: bool = False
) -> None:
    """A model card with the metadata block that hubs read; ``has_table``: the model has n-grams."""
    cut = f"texts cut after {config.max_tokens} tokens"
    if config.padding == "longest":
        cut = "texts cut after as many tokens as the longest of the training part has"
    long = "long texts read in windows" if config.is_served else cut
    decides = "a reply's `decision` goes by the first two"
    if not config.is_served:
        decides = "the service does not take this checkpoint, which it would read otherwise"
    maker, start = _origin(config, record)
    seed, chosen = _seed_and_weights(config, record)
    path.write_text(
        f"""---
license: apache-2.0
library_name: transformers
pipeline_tag: text-classification
tags: [spam, gpt2]
---
# {name}

GPT-2 that tells ham (0) from spam (1), made by {maker} from
{start}; trained part: {config.trained}; the verdict is read at {_reading(config, has_table)}.

## Data

{_data_list(config, record)}

Selection `{config.selection}`, split seed {config.split_seed}, {seed}.
{_SPLITS[config.selection]}

{_counts_table(record.counts)}

## Figures

Of {chosen}, {long},
at a threshold of 0.5:

{as_table(record.metrics)}

## Cut-offs and calibration

From the validation part. `run.json` holds them; {decides}.

{_cutoffs_table(record.facts["cutoffs"])}

{as_decisions(record)}
{_cutoffs_caveat(record.counts)}
{as_reliability_table([ReliabilityBin(**row) for row in record.facts["reliability"]])}

## Use

One signal among several, for texts like the data's. A score is not a reason to delete a message.
**Known limits.** Other languages and kinds of text than the data's, and campaigns newer than it,
were not in training. `run.json` holds recipe, versions, hashes, curves.
""",
        encoding="utf-8",
        errors="backslashreplace",
    )


def _origin(config: TrainConfig, record: RunRecord) -> tuple[str, str]:
    """The command that made it, and what weights that began with."""
    start = "random weights" if config.base == "random" else f"`{config.base}`"
    if config.base != "random" and config.random_weights:
        start = f"random weights of the sizes of {start}"
    if record.is_average:
        return "`python -m training.average` of spamgate of runs", start
    return "`python -m training.finetune` of spamgate", start


def _seed_and_weights(config: TrainConfig, record: RunRecord) -> tuple[str, str]:
    if record.is_average:
        seeds = ", ".join(str(run["seed"]) for run in record.seeds)
        weights = f"the average of the {len(record.seeds)} runs' weights (`training.average`)"
        return f"training seeds {seeds}", weights + ", some interrupted" * record.interrupted
    seed = f"training seed {config.seed}"
    if len(record.seeds) > 1:
        seed += f", the best of {len(record.seeds)} by validation loss"
    weights = f"the saved snapshot (step {record.best_step}, {_SNAPSHOTS[config.snapshot]})"
    return seed, weights + ", of a training that was interrupted" * record.interrupted


def _reading(config: TrainConfig, has_table: bool) -> str:
    padded = ", with the padding that the training had" if config.padding != "none" else ""
    table = ", and a table of n-grams (`ngrams.safetensors`) has a say" if has_table else ""
    return _READS[config.read_token] + padded + table


def _data_list(config: TrainConfig, record: RunRecord) -> str:
    unsplit = learnt_whole(config.model_dump())
    table_only = {Path(path).name for path in config.table_only}
    is_in_parts = config.replay_parts > 1
    in_parts = {Path(path).name for path in config.replay} if is_in_parts else set()
    one_part = f"one of {config.replay_parts} parts, chosen by the seed, of "
    listed = "\n".join(
        f"- {'for training only: ' if name in unsplit else ''}"
        f"{'of the table alone, ' if name in table_only else ''}"
        f"{one_part if name in in_parts else ''}"
        + _CORPORA.get(sha256, f"{name} (SHA-256 {sha256[:12]}…)")
        for name, sha256 in record.data_sha256.items()
    )
    others = "\n\n`base_run` in `run.json` tells what each of the averaged runs has learnt from."
    return listed + others * record.is_average


def _counts_table(counts: dict[str, dict[str, int]]) -> str:
    lines = (f"| {part} | {of['ham']} | {of['spam']} |" for part, of in counts.items())
    return "\n".join(["| part | ham | spam |", "|---|---|---|", *lines])


def _cutoffs_caveat(counts: dict[str, dict[str, int]]) -> str:
    ham = counts["validation"]["ham"]
    if ham >= TEXTS_OF_A_CUTOFF:
        return ""
    return (
        f"\nThe validation part has {ham} ham. Below {TEXTS_OF_A_CUTOFF} the cut-off for spam lies "
        "beyond all that was seen, and more ham than promised may lie above it.\n"
    )


def as_decisions(record: RunRecord) -> str:
    """How much of the validation part the cut-offs decide, and what to do where that is little."""
    counts, decided = record.counts["validation"], record.facts["decided"]
    ham_below, spam_from = (as_cutoff(record.facts["cutoffs"][key]) for key in _DECIDING)
    told = [
        f"Of the validation part's {counts['spam']} spam {decided['spam']:.1%} lie at or above "
        f"`spam_from`, {spam_from}, of its {counts['ham']} ham {decided['ham']:.1%} below "
        f"`ham_below`, {ham_below}."
    ]
    if decided["spam"] < _FEW_DECIDED:
        told.append(
            "Warning: most spam would not be called so. More texts bring `spam_from` down; or "
            "write a lower one into `run.json`, and more ham may lie above it."
        )
    if decided["ham"] < _FEW_DECIDED:
        told.append(
            "Warning: most ham would not be called so. More texts bring `ham_below` up; or write a "
            "higher one into `run.json`, and more spam may lie below it."
        )
    return "\n".join(told)


def _cutoffs_table(cutoffs: dict[str, float]) -> str:
    rows = {
        "ham below": "ham_below",
        "spam from": "spam_from",
        "0.1 % of ham from": "blocks_0_1_percent",
        "1 % of ham from": "blocks_1_percent",
    }
    lines = (f"| {name} | {as_cutoff(cutoffs[key])} |" for name, key in rows.items())
    return "\n".join(["| | P(spam) |", "|---|---|", *lines])
