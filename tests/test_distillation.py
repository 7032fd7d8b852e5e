"""What the base has learnt from a teacher is kept in fine-tuning, where the recipe says so."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F

from model.checkpoint import load_classifier, load_language_model
from model.packing import pack
from tests.conftest import TINY, tiny_classifier_model
from tests.tiny_training import TINY_RECIPE, synthetic_lines
from training import distillation, finetune
from training.config import ConfigError, TrainingError, load_config
from training.distillation import Distillation
from training.documents import Window, windows
from training.features import Lessons, save_lessons

CPU = torch.device("cpu")
KEPT = "distillation = 3.0\nprefix_loss = 0.5\n"


@pytest.fixture(autouse=True)
def few_first_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of them: one holds all texts here."""
    monkeypatch.setattr(distillation, "_FIRST_BATCHES", 6)
    monkeypatch.setattr(distillation, "_RIDGE", 1.0)


@pytest.fixture
def texts() -> list[Window]:
    lines = synthetic_lines(60)
    return [window for line in lines for window in windows(line.split("\t")[1], 64)]


@pytest.fixture
def lessons(texts: list[Window], tmp_path: Path) -> Path:
    """What a random linear map of each token's own vector says at every second token."""
    vectors = np.random.default_rng(0).normal(size=(50257, 3))
    seen = []
    for window in texts:
        places = np.arange(0, len(window) - 1, 2)
        seen.append((places.astype(np.int16), vectors[np.array(window)[places]].astype(np.float16)))
    path = tmp_path / "teacher.safetensors"
    save_lessons(path, texts, seen, len(texts))
    return path


def test_the_loss_is_what_the_least_squares_leave(
    texts: list[Window], lessons: Path, tiny_base: Path
) -> None:
    transformer = load_language_model(tiny_base).transformer
    kept = Distillation(transformer, Lessons(lessons), 0, CPU)
    losses = [kept.loss(transformer).item() for _ in range(5)]
    found = Lessons(lessons)
    with torch.no_grad():
        states = torch.cat([transformer(pack([w[:-1]]))[found.of(w)[0]] for w in texts])
    features = torch.cat([found.of(w)[1] for w in texts])
    ones = F.pad(states, (0, 1), value=1.0)
    solved = torch.linalg.lstsq(ones, features).solution
    assert np.mean(losses) == pytest.approx(F.mse_loss(ones @ solved, features).item(), rel=0.05)
    with torch.no_grad():
        transformer.wte.weight.add_(torch.randn_like(transformer.wte.weight))
    assert kept.loss(transformer).item() > 2 * max(losses)


def test_processes_divide_a_step_and_their_losses_add_up(
    lessons: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transformer = load_language_model(tiny_base).transformer
    read: list[list[int]] = []
    transformer.register_forward_hook(lambda _, args, out: read.append(args[0].input_ids.tolist()))
    monkeypatch.setattr(distillation, "_TOKENS", 200)

    def losses() -> tuple[float, list[list[int]]]:
        kept = Distillation(transformer, Lessons(lessons), 0, CPU)
        read.clear()
        return float(np.mean([kept.loss(transformer).item() for _ in range(8)])), read.copy()

    alone, read_alone = losses()
    assert all(len(ids) >= 200 for ids in read_alone)
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    shares = []
    for rank in range(2):
        monkeypatch.setattr(dist, "get_rank", lambda rank=rank: rank)
        shares.append(losses())
    (first, read_first), (second, read_second) = shares
    assert all(100 <= len(ids) < 150 for ids in [*read_first, *read_second])
    assert read_first[0] != read_second[0]
    assert first + second == pytest.approx(alone, rel=0.15)


def test_a_run_that_distils_keeps_what_another_forgets(tmp_path: Path, lessons: Path) -> None:
    corpus, recipe = tmp_path / "SMSSpamCollection", tmp_path / "tiny.toml"
    corpus.write_text("\n".join(synthetic_lines(90)) + "\n")
    recipe.write_text(TINY_RECIPE.replace("epochs = 2", "epochs = 1"))
    command = [str(recipe), "--data", str(corpus), "--out", str(tmp_path / "base")]
    assert finetune.main(command) == 0
    base = load_classifier(tmp_path / "base").model.transformer
    kept = Distillation(base, Lessons(lessons), 0, CPU)
    left = {}
    for name, more in (("plain", ""), ("distilled", KEPT)):
        own = TINY_RECIPE.replace('"random"', f'"{tmp_path / "base"}"') + "keep_head = true\n"
        recipe.write_text(own + more)
        command[-1] = str(tmp_path / name)
        assert finetune.main([*command, *(["--teacher", str(lessons)] if more else [])]) == 0
        transformer = load_classifier(tmp_path / name).model.transformer
        left[name] = np.mean([kept.loss(transformer).item() for _ in range(3)])
    assert left["distilled"] < 0.7 * left["plain"]


def test_lessons_longer_than_the_network_reads_are_refused(lessons: Path) -> None:
    model = tiny_classifier_model(config=replace(TINY, n_positions=4))
    with pytest.raises(TrainingError, match="the base reads 4 at most"):
        Distillation(model.transformer, Lessons(lessons), 0, CPU)


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        (KEPT, "go together"),
        ('teacher = "x"', "go together"),
        ('distillation = 1.0\nteacher = "x"', "prefix_loss only"),
    ],
)
def test_a_recipe_that_cannot_distil_is_refused(tmp_path: Path, more: str, problem: str) -> None:
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(TINY_RECIPE + more)
    with pytest.raises(ConfigError, match=problem):
        load_config(recipe)
