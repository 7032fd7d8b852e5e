"""Training reads texts as the service does."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from model.checkpoint import load_classifier
from model.classifier import Classifier
from model.windows import read_in_windows
from tests.conftest import AWKWARD_TEXTS, HAM, SPAM
from training.config import TrainConfig
from training.reading import is_served, read_texts


def test_a_model_in_training_reads_windows_as_its_checkpoint_will(
    save_tiny: Callable[..., Path],
) -> None:
    folder = save_tiny()
    model = load_classifier(folder).model
    texts = [*AWKWARD_TEXTS, f"{HAM} " * 300 + SPAM, SPAM, "f r e e \u0441ash"]
    served = Classifier.load(folder, "cpu", "float32")
    expected = read_in_windows(served.predict, texts, served.max_tokens)
    found = read_texts(model, texts, torch.device("cpu"))
    assert found == pytest.approx([e.spam_probability for e in expected], abs=1e-5)
    assert max(e.num_tokens for e in expected) > served.max_tokens


@pytest.mark.parametrize(
    "changes", [{"padding": "longest"}, {"read_token": "first"}, {"causal_mask": False}]
)
def test_what_the_service_refuses_is_not_read_as_if_served(changes: dict[str, object]) -> None:
    assert is_served(TrainConfig())
    assert not is_served(TrainConfig.model_validate(changes))
