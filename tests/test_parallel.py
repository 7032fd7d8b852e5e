"""Several processes train as one: gloo, two processes on loopback."""

import json
import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file

from benchmarks.server import free_port
from model.packing import pack
from tests.tiny_training import synthetic_lines
from training.config import TrainingError, load_config
from training.corpora import read_sms
from training.data import Batch
from training.parallel import check_batch_size, divide_work, processes, share_of, sum_gradients
from training.run import finetune

# Shares of different size and weight; frozen blocks and kept activations; a loss at every token;
# texts read anew each time, and a head beside the saved one.
RUNS: list[dict[str, object]] = [
    {"trained": "last_block", "batch_size": 5, "spam_weight": 3.0},
    {"trained": "last_block", "batch_size": 5, "accumulation_steps": 2},
    {"trained": "all", "batch_size": 5, "prefix_loss": 0.5, "averaging": 0.5},
    {"trained": "all", "batch_size": 5, "prefix_loss": 0.5, "recasing": 0.5, "bag_of_words": 1.0},
]
WORKER = """
import json, sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from training.config import TrainingError, load_config
from training.corpora import read_sms
from training.parallel import is_first, processes
from training.run import finetune

recipe, corpus, out, runs = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
with processes(torch.device("cpu")) as device:
    for number, changes in enumerate(json.loads(runs)):
        run = finetune(load_config(recipe, epochs=1, **changes), read_sms(corpus), device)
        if is_first():
            save_file(run.model.state_dict(), out / f"{number}.safetensors")
            losses = [point.validation_loss for point in run.outcome.history.losses]
            (out / f"{number}.json").write_text(json.dumps(losses))
    try:
        finetune(load_config(recipe, batch_size=1), read_sms(corpus), device)
    except TrainingError as error:
        (out / f"error{int(is_first())}").write_text(str(error))
"""


def in_two_processes(command: list[str]) -> list[str]:
    """What each wrote to standard output, as torchrun would have started them."""
    environment = os.environ | {
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
    }
    started = [
        subprocess.Popen(
            [sys.executable, *command],
            env=environment | {"RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]
    outputs = []
    try:
        for process in started:
            out, err = process.communicate(timeout=120)
            assert process.returncode == 0, err
            outputs.append(out)
    finally:
        for process in started:
            process.kill()
            process.communicate()
    return outputs


def test_more_processes_than_gpus_are_refused_before_they_meet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for name, value in {"WORLD_SIZE": "2", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    with (
        pytest.raises(TrainingError, match=r"process 2 .* finds 1 GPU.* --nproc-per-node 1,"),
        processes(torch.device("cuda")),
    ):
        pass


def test_each_process_takes_its_texts_and_all_that_belongs_to_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    texts = [[0, 1, 2], [3], [4, 5], [6, 7, 8, 9], [10]]  # each token's number is its place
    places = torch.arange(11)
    labels = torch.tensor([10, 11, 12, 13, 14])
    whole = Batch(pack(texts, causal=False), labels, places, places[:, None].float(), -places)
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    for rank, own in enumerate(([3, 1, 4], [0, 2])):  # 6 tokens and 5
        monkeypatch.setattr(dist, "get_rank", lambda rank=rank: rank)
        share = share_of(whole)
        tokens = [token for number in own for token in texts[number]]
        assert share.packed.input_ids.tolist() == tokens
        assert list(share.packed.lengths) == [len(texts[number]) for number in own]
        assert share.packed.causal is False
        assert share.labels.tolist() == [10 + number for number in own]
        assert share.hidden is not None
        assert share.log_odds is not None
        for rows in (share.token_labels, share.hidden[:, 0], -share.log_odds):
            assert rows.tolist() == tokens


def test_a_batch_has_a_text_for_each_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    check_batch_size(2, 2)
    with pytest.raises(TrainingError, match="batch_size is 1, 2 processes need a text each"):
        check_batch_size(1, 2)


def test_a_sparse_gradient_is_summed_before_the_others_begin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weights = [torch.nn.Parameter(torch.zeros(4, 2)) for _ in range(3)]
    for weight in weights:
        weight.grad = torch.ones(4, 2)
    weights[1].grad = torch.ones(4, 2).to_sparse(1)
    sums = Mock()
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "all_reduce", sums)
    sum_gradients(weights)
    told = [
        (call.args[0].is_sparse, call.kwargs.get("async_op", False)) for call in sums.call_args_list
    ]
    assert told[:2] == [(True, False), (False, True)]


def test_work_is_divided_by_size_and_told_to_all(monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = [torch.full((size,), float(size)) for size in (3, 1, 4, 2)]
    assert [found.tolist() for found in divide_work(torch.neg, tensors[:2])] == [[-3.0] * 3, [-1.0]]
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    for rank, own in enumerate(([1, 3], [2, 4])):
        work, broadcast = Mock(side_effect=torch.neg), Mock()
        monkeypatch.setattr(dist, "get_rank", lambda rank=rank: rank)
        monkeypatch.setattr(dist, "broadcast", broadcast)
        found = divide_work(work, tensors)
        assert [len(call.args[0]) for call in work.call_args_list] == own
        told = [(len(call.args[0]), call.kwargs["src"]) for call in broadcast.call_args_list]
        assert told == [(1, 0), (2, 1), (3, 0), (4, 1)]
        assert [len(tensor) for tensor in found] == [3, 1, 4, 2]
        assert all(-tensor[0] == len(tensor) for tensor in found if len(tensor) in own)


@pytest.mark.slow
def test_two_processes_give_what_one_gives(recipe: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.write_text("\n".join(synthetic_lines(60)) + "\n")
    command = ["-c", WORKER, str(recipe), str(corpus), str(tmp_path), json.dumps(RUNS)]
    first, second = in_two_processes(command)
    assert "epoch 1 ends" in first
    assert second == ""
    for number, changes in enumerate(RUNS):
        alone = finetune(
            load_config(recipe, epochs=1, **changes), read_sms(corpus), torch.device("cpu")
        )
        together = load_file(tmp_path / f"{number}.safetensors")
        for name, tensor in alone.model.state_dict().items():
            if name.endswith("c_attn.bias"):
                # The keys' bias adds the same to every score of a text: its gradient is rounding
                # alone, which AdamW scales up like any other.
                for parameter in (tensor, together[name]):
                    parameter.chunk(3)[1].zero_()
            torch.testing.assert_close(together[name], tensor, atol=1e-5, rtol=1e-5)
        losses = [point.validation_loss for point in alone.outcome.history.losses]
        assert json.loads((tmp_path / f"{number}.json").read_text()) == pytest.approx(
            losses, abs=1e-5
        )
    for name in ("error0", "error1"):
        assert "2 processes need a text each" in (tmp_path / name).read_text()
