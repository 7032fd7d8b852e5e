"""python -m training.compare_output_layers RECIPE.toml --data KIND=PATH ...: which loss is best.

Trains the recipe's network from the same weights on the same batches with each output layer, every
one in a process of its own, and prints time, memory and the exact held-back loss. What a recipe
distils is left out.
"""

import argparse
import multiprocessing
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor

from model.folders import write_json
from training.command import add_sources, check_folder, exit_code
from training.config import ConfigError, TrainingError, read_recipe
from training.corpora import Source
from training.documents import TextSplit, batches, count_guesses, read_sources
from training.memory import peak_memory_bytes
from training.pretrain_config import PretrainConfig
from training.pretrain_loop import Pretrainer

_LAYERS = ("whole", "exact", "unigram:512", "unigram:2048", "log_uniform:2048")


class _WholeLogits(Pretrainer):
    """The plain form, all logits at once: what ``exact`` has to equal."""

    def loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        logits = F.linear(hidden, self.model.transformer.wte.weight)
        return F.cross_entropy(logits.float(), targets)


def with_layer(layer: str, config: PretrainConfig) -> PretrainConfig:
    """The recipe with another output layer.

    Args:
        layer: ``whole``, ``exact``, or sampler and number of tokens as in ``unigram:2048``.
        config: the rest of the recipe.

    Raises:
        ConfigError: no such layer.
    """
    name, _, sampled_tokens = layer.partition(":")
    changes: dict[str, Any] = {"output_layer": "exact" if name == "whole" else name}
    if sampled_tokens:
        changes["sampled_tokens"] = sampled_tokens
    try:
        return PretrainConfig.model_validate(config.model_dump() | changes)
    except ValidationError as error:
        raise ConfigError(f"{layer!r} is no output layer; for example {_LAYERS}.") from error


def measure(layer: str, config: PretrainConfig, texts: TextSplit) -> dict[str, Any]:
    """Trains with one output layer and returns its figures; to be called in a fresh process."""
    config = with_layer(layer, config)
    kind = _WholeLogits if layer == "whole" else Pretrainer
    device = torch.device("cpu")
    trainer = kind(config, texts, device)
    before = time.process_time()
    tokens = 0
    for batch in islice(batches(texts.train, config.batch_tokens, config.seed), config.steps):
        trainer.step(batch)
        tokens += count_guesses(batch)
    seconds = time.process_time() - before
    return {
        "output_layer": layer,
        "cpu_seconds": round(seconds, 1),
        "tokens_per_cpu_second": round(tokens / seconds),
        "peak_memory_bytes": peak_memory_bytes(device),
        "held_back_loss": trainer.held_back_loss(trainer.spread_held_back()),
    }


def as_table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown, one row an output layer."""
    lines = [
        "| output layer | CPU s | tokens / CPU s | peak memory, MB | held-back loss, nats |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['output_layer']} | {row['cpu_seconds']} | {row['tokens_per_cpu_second']:,} "
        f"| {row['peak_memory_bytes'] / 1e6:,.0f} | {row['held_back_loss']:.4f} |"
        for row in rows
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m training.compare_output_layers", description=__doc__
    )
    parser.add_argument("recipe", type=Path, help="TOML file, see training/configs/pretrain/")
    add_sources(parser)
    parser.add_argument("--steps", type=int, help="instead of the recipe's")
    parser.add_argument("--layers", nargs="+", default=_LAYERS, help=f"of {' '.join(_LAYERS)}")
    parser.add_argument("--out", type=Path, help="JSON file (default: none)")
    options = parser.parse_args(arguments)
    return exit_code("training.compare_output_layers", lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    config = read_recipe(options.recipe, PretrainConfig, steps=options.steps)
    for layer in options.layers:
        with_layer(layer, config)  # found wrong now rather than after the others
    if options.out:
        check_folder(options.out)
    sources = [Source.parse(text) for text in options.data]
    texts = read_sources(sources, config.split_seed, config.n_positions)
    rows = []
    for layer in options.layers:
        rows.append(_measure_apart(layer, config, texts))
        print(as_table(rows).splitlines()[-1], flush=True)
    print(as_table(rows))
    if options.out:
        write_json(options.out, {"steps": config.steps, "rows": rows})
    return 0


def _measure_apart(layer: str, config: PretrainConfig, texts: TextSplit) -> dict[str, Any]:
    """``measure`` in a fresh process: peak memory is of the process, and never falls."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(measure, layer, config, texts).result()
        except BrokenProcessPool as error:
            raise TrainingError(f"the process of {layer} was ended: out of memory?") from error
        except KeyboardInterrupt:
            for process in multiprocessing.active_children():
                process.terminate()  # else the end of this block would wait for its last step
            raise


if __name__ == "__main__":
    sys.exit(main())
