"""Several processes pretrain as one: gloo, two processes on loopback."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from model.tokenizer import ENDOFTEXT
from tests.test_features import lessons_of
from tests.test_parallel import in_two_processes
from tests.test_pretrain import TINY_RECIPE
from tests.tiny_training import synthetic_lines
from training import pretrain
from training.config import TrainingError
from training.corpora import Source
from training.documents import read_sources
from training.memory import EmbeddingsInUse
from training.parallel import check_batch_tokens, mean_over_processes, share_of_windows
from training.sparse_rows import RowGradient

RECIPES = {
    "sampled": TINY_RECIPE + 'optimizer = "muon"\n',
    "exact": TINY_RECIPE.replace('"unigram"', '"exact"'),
    "taught": TINY_RECIPE + "distillation = 3.0\n",
}
# Presses Ctrl-C for one of two processes, in its third step.
INTERRUPTED = """
import os, signal, sys
from training import pretrain
from training.pretrain_loop import Pretrainer
step = Pretrainer.step
def interrupted(self, windows):
    if self.steps_done == 2 and os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGINT)
    return step(self, windows)
Pretrainer.step = interrupted
assert pretrain.main(sys.argv[1:]) == 130
"""


def test_processes_share_the_windows_of_a_batch_by_size(monkeypatch: pytest.MonkeyPatch) -> None:
    windows = [[ENDOFTEXT] * length for length in (9, 2, 5, 3, 8)]
    assert share_of_windows(windows) is windows
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    for rank, lengths in enumerate(([9, 3, 2], [8, 5])):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        assert [len(window) for window in share_of_windows(windows)] == lengths
    check_batch_tokens(128, 64)
    with pytest.raises(TrainingError, match="batch_tokens is 127, 2 processes need 128: 64 each"):
        check_batch_tokens(127, 64)


def test_processes_share_the_batches_of_held_back_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = [[[ENDOFTEXT] * length] for length in (3, 1, 4)]
    told: list[list[int]] = []

    def read(batch: list[list[int]]) -> tuple[float, int]:  # 1.0 for 3 tokens, 2.0 for 1 ...
        told[-1].append(len(batch[0]))
        return {3: 1.0, 1: 2.0, 4: 5.0}[len(batch[0])], len(batch[0])

    told.append([])
    assert mean_over_processes(read, iter(batches), torch.device("cpu")) == (3 + 2 + 20) / 8
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    for rank, others in enumerate(((2.0, 1), (23.0, 7))):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        monkeypatch.setattr(
            torch.distributed,
            "all_reduce",
            lambda sums, others=others: sums.add_(torch.tensor(others)),
        )
        told.append([])
        assert mean_over_processes(read, iter(batches), torch.device("cpu")) == (3 + 2 + 20) / 8
    assert told == [[3, 1, 4], [3, 4], [1]]


def test_a_row_gradient_is_the_dense_one_step_after_step() -> None:
    weights = [torch.nn.Embedding(9, 3, _weight=torch.arange(27.0).view(9, 3)) for _ in range(2)]
    row_gradient = RowGradient(weights[0])
    for tokens in ([1, 4, 4], [2, 4], [8]):
        for embedding in weights:
            embedding.weight.grad = None
            read = embedding(torch.tensor(tokens))
            (read.square().sum() + read[0].sum()).backward()
        assert weights[0].weight.grad is not None
        assert weights[0].weight.grad.is_sparse
        row_gradient.make_dense()
        torch.testing.assert_close(weights[0].weight.grad, weights[1].weight.grad)
    kept = weights[0].weight.grad
    row_gradient.make_dense()  # nothing to do
    assert weights[0].weight.grad is kept


def test_only_an_embedding_that_learns_has_a_row_gradient() -> None:
    embedding = torch.nn.Embedding(9, 3)
    assert RowGradient.of(EmbeddingsInUse(embedding, [1, 2])) is None
    embedding.requires_grad_(False)
    assert RowGradient.of(embedding) is None
    assert not embedding.sparse
    embedding.requires_grad_(True)
    assert RowGradient.of(embedding)
    assert embedding.sparse


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_two_processes_give_the_base_that_one_gives(name: str, tmp_path: Path) -> None:
    recipe, corpus = tmp_path / "recipe.toml", tmp_path / "corpus"
    recipe.write_text(RECIPES[name])
    corpus.write_text("\n".join(synthetic_lines(90)) + "\n")
    arguments = [str(recipe), "--data", f"sms={corpus}"]
    if name == "taught":
        lessons_of(read_sources([Source("sms", corpus)], 123, 64), tmp_path / "teacher")
        arguments += ["--teacher", str(tmp_path / "teacher")]
    assert pretrain.main([*arguments, "--out", str(tmp_path / "alone")]) == 0
    together = ["-m", "training.pretrain", *arguments, "--out", str(tmp_path / "together")]
    first, second = in_two_processes(together)
    assert "saved to" in first
    assert second == ""
    runs = [json.loads((tmp_path / out / "run.json").read_text()) for out in ("alone", "together")]
    for key in ("held_back_loss", "held_back_variance_unlearnt"):
        assert runs[1][key] == pytest.approx(runs[0][key], abs=1e-3)
    for alone, both in zip(runs[0]["history"], runs[1]["history"], strict=True):
        assert both["train_loss"] == pytest.approx(alone["train_loss"], abs=1e-3)
    alone, both = (load_file(tmp_path / out / "model.safetensors") for out in ("alone", "together"))
    for tensor_name, tensor in alone.items():
        if tensor_name.endswith("c_attn.bias"):
            for parameter in (tensor, both[tensor_name]):
                parameter.chunk(3)[1].zero_()  # the keys': their gradient is rounding alone
        tolerance = 4e-3 if name == "sampled" else 1e-3  # Muon computes in bfloat16
        torch.testing.assert_close(both[tensor_name], tensor, atol=tolerance, rtol=1e-3)


@pytest.mark.slow
def test_ctrl_c_in_one_process_stops_both_after_one_step(tmp_path: Path) -> None:
    recipe, corpus = tmp_path / "recipe.toml", tmp_path / "corpus"
    recipe.write_text(TINY_RECIPE)
    corpus.write_text("\n".join(synthetic_lines(90)) + "\n")
    arguments = [str(recipe), "--data", f"sms={corpus}", "--out", str(tmp_path / "base")]
    first, _ = in_two_processes(["-c", INTERRUPTED, *arguments])
    assert "stopped after step 3" in first
    assert [path.name for path in (tmp_path / "base.unfinished").iterdir()] == ["step-0000003"]
    in_two_processes(["-m", "training.pretrain", *arguments, "--resume"])
    assert (tmp_path / "base" / "model.safetensors").exists()
