"""What a checkpoint was made from, by its run.json, and what so can not be judged by."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from model.folders import CheckpointError, read_json
from model.hub import resolve
from training.config import CorpusError, TrainConfig
from training.corpora import Source, sha256_of
from training.furniture import FURNITURE_FILE

SPLIT_KEYS = ("selection", "split_seed", "train_fraction", "validation_fraction")
"""Keys of a recipe that decide which texts of its corpora are tested by."""


def read_run(place: str) -> dict[str, Any]:
    """The run.json of a checkpoint, a folder or hub id; empty where there is none.

    Raises:
        CheckpointError: no such checkpoint, or a file that training did not write.
    """
    path = resolve(place) / "run.json"
    run = read_json(path) if path.exists() else {}
    if not all(isinstance(run.get(key) or {}, dict) for key in ("recipe", "data_sha256")):
        raise other_version(place, "recipe or data_sha256 is no JSON object")
    return run


def read_base_run(config: TrainConfig) -> dict[str, Any]:
    """The run.json of the recipe's base; empty where there is none, or no weight of it is kept.

    Raises:
        CheckpointError: as for ``read_run``.
    """
    if config.base == "random" or config.random_weights:
        return {}
    return read_run(config.base)


def learnt_by(run: dict[str, Any]) -> dict[str, Any]:
    """Of a run.json what tells from which texts its weights come, its bases' among them."""
    return {key: run[key] for key in ("recipe", "data_sha256", "base_run") if key in run}


def learnt_by_all(runs: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """In one line what several run.json and their bases tell from which texts weights come, each
    once: what ``lineage`` follows of an average of them."""
    found: list[dict[str, Any]] = []
    for own in (own for run in runs for own in lineage(run)):
        told: dict[str, Any] = {key: own[key] for key in ("recipe", "data_sha256") if key in own}
        if told and told not in found:
            found.append(told)
    line: dict[str, Any] = {}
    for told in reversed(found):
        line = told | ({"base_run": line} if line else {})
    return line


def lineage(run: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What is known of a checkpoint, of its base, of the base of that, and so on."""
    while isinstance(run, dict) and run:
        yield run
        run = run.get("base_run") or {}


def recorded_recipe(run: dict[str, Any], name: str) -> TrainConfig:
    """The recipe in a checkpoint's run.json.

    Args:
        run: the file, empty where there is none.
        name: the checkpoint's.

    Raises:
        CheckpointError: no such file, or a recipe that this version cannot follow.
    """
    if not run:
        raise CheckpointError(
            f"{name} holds no run.json, which says what it was trained on: give a folder that "
            "training.finetune wrote."
        )
    if not isinstance(run.get("data_sha256") or {}, dict):
        raise other_version(name, "data_sha256 is no JSON object")
    try:
        return TrainConfig.model_validate(run.get("recipe"))
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, ("recipe", *problem["loc"])))
        raise other_version(name, f"{place}: {problem['msg']}") from error


def other_version(name: str, problem: object) -> CheckpointError:
    """The error of a checkpoint whose run.json this version cannot read."""
    return CheckpointError(
        f"the run.json of {name} is not of this version of training.finetune: {problem}."
    )


def check_data(run: dict[str, Any], name: str, config: TrainConfig, sha256: dict[str, str]) -> None:
    """Refuses corpora that a run was not made from: its test part is not theirs.

    Args:
        run: its run.json, empty where there is none.
        name: the checkpoint's.
        config: names the files for training only, in which runs may differ.
        sha256: of what was read again for it, by file name.

    Raises:
        CorpusError: one of these corpora, or of the run's, feedback too, is none of the other's.
    """
    known = run.get("data_sha256") or {}
    given = _split_data(config, sha256)
    whole = learnt_whole(run.get("recipe") or {})
    if set(given.values()) != {known[file] for file in set(known) - whole}:
        raise other_data(name, known, given)


def check_split(
    run: dict[str, Any],
    name: str,
    config: TrainConfig,
    sha256: dict[str, str],
    *,
    is_judged: bool = False,
) -> None:
    """Refuses a run that may have learnt from test texts of this recipe: it split one of these
    corpora otherwise, or learnt all of it.

    Args: as for ``check_data``, and
        is_judged: by the test part of these corpora, which another corpus of the run's, its
            feedback say, may have moved.

    Raises:
        CorpusError: such a run; one without run.json, or of none of the corpora, is not.
    """
    given = _split_data(config, sha256)
    for own in lineage(run):
        _check_split(own, name, config, given, is_judged=is_judged and own is run)


def _check_split(
    run: dict[str, Any], name: str, config: TrainConfig, given: dict[str, str], *, is_judged: bool
) -> None:
    known = run.get("data_sha256") or {}
    recipe = run.get("recipe") or {}
    if not set(given.values()) & set(known.values()):
        return
    whole = {known[file] for file in learnt_whole(recipe) & set(known)}
    if learnt := [file for file, digest in given.items() if digest in whole]:
        raise CorpusError(f"{name} was trained on all of {learnt[0]}: no part of it can test that.")
    others = [known[file] for file in set(known) - learnt_whole(recipe)]
    if is_judged and not set(others) <= set(given.values()):
        raise other_data(name, known, given)
    for key in SPLIT_KEYS:
        wanted = getattr(config, key)
        if recipe.get(key, wanted) != wanted:
            raise CorpusError(
                f"{name} was trained with {key} = {recipe[key]!r} on texts that this recipe, with "
                f"{wanted!r}, tests by: take a recipe of the same split."
            )


def check_foreign(run: dict[str, Any], name: str, sources: Iterable[Source]) -> None:
    """Refuses foreign texts that a run was made from: it has learnt their labels.

    Args:
        run: its run.json, empty where there is none.
        name: the checkpoint's.
        sources: where the foreign texts are.

    Raises:
        CorpusError: such a source.
    """
    known = {digest for own in lineage(run) for digest in (own.get("data_sha256") or {}).values()}
    for source in sources:
        if sha256_of(source.path) in known:
            raise CorpusError(
                f"{name} was trained on {source.path}, which so is not foreign to it: leave that "
                "out, or give a corpus that it has never read."
            )


def learnt_whole(recipe: Mapping[str, Any]) -> set[str]:
    """Names of files that a run of this recipe learns from without splitting them."""
    keys = ("training_only", "table_only", "replay")
    paths = [path for key in keys for path in recipe.get(key, ())]
    if recipe.get("furniture"):
        paths.append(FURNITURE_FILE)
    return {Path(path).name for path in paths}


def _split_data(config: TrainConfig, sha256: dict[str, str]) -> dict[str, str]:
    """Of the files that were read, those that are split."""
    unsplit = learnt_whole(config.model_dump())
    return {name: digest for name, digest in sha256.items() if name not in unsplit}


def other_data(name: str, known: dict[str, str], given: dict[str, str]) -> CorpusError:
    """The error of a run that was made from other files than those given, each with its hash."""
    made_from, came = (
        ", ".join(f"{file} (SHA-256 {digest[:12]}…)" for file, digest in files.items())
        for files in (known, given)
    )
    return CorpusError(f"{name} was made from {made_from or 'nothing known'}; given: {came}.")
