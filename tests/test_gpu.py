"""What only a GPU can show: the shipped model there, and whole trainings."""

import time
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from app.settings import STARTER
from model.bf16 import is_native
from model.classifier import Classifier
from model.prediction import EncodedText
from training.config import load_config
from training.corpora import read_sms
from training.run import finetune

GPU = torch.device("cuda")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]


def texts_of_many_shapes(batches: int) -> list[list[EncodedText]]:
    """Batches of which hardly two have as many texts, tokens and as long a text."""
    rng = np.random.default_rng(0)
    shapes = [rng.integers(1, 200, rng.integers(2, 40)) for _ in range(batches)]
    return [
        [EncodedText(rng.integers(0, 50257, length).tolist()) for length in of] for of in shapes
    ]


@pytest.mark.parametrize("dtype", ["auto", "float32"])
def test_the_starter_says_on_a_gpu_what_it_says_on_a_cpu(dtype: str) -> None:
    exact, tried = Classifier.load(STARTER, "cpu"), Classifier.load(STARTER, GPU.type, dtype)
    if dtype == "auto" and is_native(GPU):
        assert tried.dtype_name == "bfloat16"
    for batch in texts_of_many_shapes(5):
        expected = [p.spam_probability for p in exact.predict(batch)]
        tolerance = 0.02 if tried.dtype_name == "bfloat16" else 0.001
        found = [p.spam_probability for p in tried.predict(batch)]
        assert found == pytest.approx(expected, abs=tolerance)


def test_a_batch_of_a_new_shape_takes_no_longer_than_one_seen_before() -> None:
    """A kernel that plans anew for each would take tens of milliseconds."""
    classifier = Classifier.load(STARTER, GPU.type, "auto")
    batches = texts_of_many_shapes(60)
    seconds: list[list[float]] = [[], []]
    for _, batch in product(range(10), batches[:1]):  # warms up
        classifier.predict(batch)
    for round_, batch in product(range(2), batches):
        begin = time.perf_counter()
        classifier.predict(batch)
        seconds[round_].append(time.perf_counter() - begin)
    new, known = map(np.median, seconds)
    assert new < 3 * known + 0.002


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("trained", ["head", "last_block", "all", "lora"])
def test_a_training_on_a_gpu_learns(
    trained: str, optimizer: str, corpus: Path, recipe: Path
) -> None:
    config = load_config(
        recipe, trained=trained, optimizer=optimizer, precision="auto", averaging=0.9
    )
    run = finetune(config, read_sms(corpus), GPU)
    losses = [point.train_loss for point in run.outcome.history.losses]
    assert losses[-1] < losses[0]
    assert run.model.score.weight.device.type == "cpu"
