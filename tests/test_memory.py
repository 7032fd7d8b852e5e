"""Embeddings that learn by the rows in use; freed memory that stays at hand, and its peak."""

import copy
import gc
import mmap
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import tiny_classifier_model
from training.config import TrainConfig
from training.data import make_loader
from training.freeze import freeze
from training.loop import Trainer
from training.memory import (
    EmbeddingsInUse,
    learn_embeddings_in_use,
    make_embeddings_whole,
    peak_memory_bytes,
    reset_peak_memory,
    settled_objects,
)

CPU = torch.device("cpu")
EXAMPLES = [([40 + i % 3, 3 + i, 9], i % 2) for i in range(16)]


@pytest.mark.parametrize(
    "changes", [{}, {"averaging": 0.5, "embedding_rate": 0.3, "schedule": "cosine"}]
)
def test_rows_in_use_alone_learn_what_all_rows_learn(changes: dict[str, object]) -> None:
    config = TrainConfig.model_validate(
        {"trained": "all", "epochs": 3, "batch_size": 4, "learning_rate": 1e-2, "eval_every": 2}
        | {"precision": "float32"}
        | changes
    )
    whole = tiny_classifier_model(head_bias=True)
    in_use = copy.deepcopy(whole)
    before = whole.transformer.wte.weight.detach().clone()
    for model in (whole, in_use):
        freeze(model, config)
        if model is in_use:
            learn_embeddings_in_use(model, (token for tokens, _ in EXAMPLES for token in tokens))
            assert len(model.transformer.wte.weight) < len(before) / 2
        torch.manual_seed(0)
        loader = make_loader(EXAMPLES, 4, training=True)
        Trainer(model, loader, make_loader(EXAMPLES, 4), config, CPU).run()
    make_embeddings_whole(in_use)
    assert not isinstance(in_use.transformer.wte, EmbeddingsInUse)
    theirs = whole.state_dict()
    assert list(in_use.state_dict()) == list(theirs)
    for name, value in in_use.state_dict().items():
        torch.testing.assert_close(value, theirs[name], atol=1e-6, rtol=1e-5)
    unseen = 100  # weight decay alone reached it
    moved = (theirs["transformer.wte.weight"][unseen] / before[unseen]).mean().item()
    assert 0.9 < moved < 0.9999


def test_no_buffer_holds_the_whole_embeddings() -> None:
    """A running average copies every buffer at every step."""
    model = tiny_classifier_model()
    before = model.transformer.wte.weight.detach().clone()
    learn_embeddings_in_use(model, [1, 2])
    assert [name for name, _ in model.named_buffers()] == ["transformer.wte.row_of_token"]
    assert [name for name in model.state_dict() if "wte" in name] == ["transformer.wte.weight"]
    twin = copy.deepcopy(model)
    make_embeddings_whole(twin)
    assert torch.equal(twin.transformer.wte.weight, before)


def test_frozen_embeddings_stay_as_they_are() -> None:
    model = tiny_classifier_model()
    freeze(model, TrainConfig(trained="last_block"))
    learn_embeddings_in_use(model, [1, 2])
    assert not isinstance(model.transformer.wte, EmbeddingsInUse)


def in_a_process_that_keeps_memory(script: str, *, large_pages: bool) -> list[int]:
    """Numbers that the script prints: what is set there stays set."""
    start = "import resource, torch\nfrom training.memory import keep_freed_memory\n"
    command = [
        sys.executable,
        "-c",
        f"{start}keep_freed_memory(large_pages={large_pages})\n{script}",
    ]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return [int(word) for word in run.stdout.split()]


@pytest.mark.skipif(sys.platform != "linux", reason="counts page faults of glibc's heap")
def test_a_large_block_is_faulted_in_once() -> None:
    script = """
faults = []
for _ in range(4):
    torch.ones(10_000_000)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print(faults[3] - faults[2])
"""
    (faults,) = in_a_process_that_keeps_memory(script, large_pages=False)
    assert faults < 500  # 40 MB are 9,766 pages


LARGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@pytest.mark.skipif(
    not LARGE_PAGES.exists() or "[never]" in LARGE_PAGES.read_text(), reason="no large pages here"
)
def test_the_heap_comes_in_large_pages_and_takes_no_more_than_is_used() -> None:
    script = """
tensors = [torch.ones(5_000_000) for _ in range(10)]
lines = dict(line.split(":") for line in open("/proc/self/smaps_rollup").readlines()[1:])
print(*(lines[name].split()[0] for name in ("AnonHugePages", "Rss")))
"""
    large, resident = in_a_process_that_keeps_memory(script, large_pages=True)
    assert 50_000 < large < 250_000  # of 195,313 kB; a system short of large pages gives fewer
    assert resident < 1_000_000


def test_settled_objects_can_be_garbage_again() -> None:
    with settled_objects():
        assert gc.get_freeze_count() > 1000
    assert gc.get_freeze_count() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the peak never falls")
def test_peak_memory_is_what_was_held_since_the_reset() -> None:
    reset_peak_memory(CPU)
    before = peak_memory_bytes(CPU)
    with mmap.mmap(-1, 100_000_000) as block:  # goes back to the system whatever glibc keeps
        for page in range(0, len(block), mmap.PAGESIZE):
            block[page] = 1
        assert peak_memory_bytes(CPU) > before + 90_000_000
    reset_peak_memory(CPU)
    assert peak_memory_bytes(CPU) < before + 50_000_000
