"""Training reads texts as the service does."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from tqdm import tqdm

from model.checkpoint import load_classifier
from model.classifier import Classifier
from model.ngrams import NgramTable
from model.windows import read_in_windows
from tests.conftest import AWKWARD_TEXTS, HAM, SPAM
from training.calibration import calibrate_head, calibrated, fit_calibration
from training.config import TrainConfig
from training.reading import read_texts, read_worst_windows

CPU = torch.device("cpu")


def test_a_model_in_training_reads_windows_as_its_checkpoint_will(
    save_tiny: Callable[..., Path],
) -> None:
    folder = save_tiny()
    model = load_classifier(folder).model
    texts = [*AWKWARD_TEXTS, f"{HAM} " * 300 + SPAM, SPAM, "f r e e \u0441ash"]
    served = Classifier.load(folder, "cpu", "float32")
    expected = read_in_windows(served.predict, texts, served.max_tokens)
    found = read_texts(model, texts, CPU)
    assert found == pytest.approx([e.spam_probability for e in expected], abs=1e-5)
    assert max(e.num_tokens for e in expected) > served.max_tokens


def test_a_bar_shows_how_far_a_long_reading_is(
    save_tiny: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = load_classifier(save_tiny()).model
    read_texts(model, [HAM, SPAM], CPU)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("training.reading._SECONDS_OF_PATIENCE", 0)
    monkeypatch.setattr("training.reading.tqdm", partial(tqdm, mininterval=0))
    read_texts(model, [HAM, SPAM] * 32, CPU)
    assert "reading: 100%" in capsys.readouterr().err


def test_calibration_is_of_verdicts_as_they_are_read(save_tiny: Callable[..., Path]) -> None:
    """Cross-entropy of what is read after it, not of the windows', beside what is likely at first:
    no other temperature or shift gives less."""
    model = load_classifier(save_tiny()).model
    texts = [HAM, SPAM, f"{HAM} " * 300 + SPAM, f"{SPAM} " * 500, f"{HAM} " * 400]
    labels = torch.tensor([0, 1, 1, 0, 1])
    logits, num_windows, shares = read_worst_windows(model, texts, CPU)
    assert shares.tolist() == [1] * 5  # there is no table
    assert num_windows.tolist()[:2] == [1, 1]
    assert num_windows.max() > 2
    temperature, shift = fit_calibration(logits, labels, num_windows)
    calibrate_head(model, temperature, shift)
    log_odds = torch.tensor(read_texts(model, texts, CPU)).double().logit()
    of_worst = (logits[:, 1] - logits[:, 0]).double() / temperature + shift
    assert log_odds.tolist() == pytest.approx((of_worst - num_windows.log()).tolist(), abs=1e-4)

    def loss(factor: float, added: float) -> float:
        changed = factor * of_worst + added - num_windows.log()
        first = math.log(temperature / factor) ** 2 + (factor * shift + added) ** 2
        return first / 2 + float(torch.nn.functional.softplus((1 - 2 * labels) * changed).sum())

    for factor, added in ((1.05, 0), (0.95, 0), (1, 0.05), (1, -0.05)):
        assert loss(1, 0) < loss(factor, added)


def test_the_shift_is_fitted_as_it_will_be_read_where_the_table_says_more(
    save_tiny: Callable[..., Path],
) -> None:
    """It stands in the head, so it is scaled with what the network says."""
    model = load_classifier(save_tiny()).model
    torch.manual_seed(0)
    model.ngrams = NgramTable(torch.randn(2, 1024))
    texts = [
        "\u0427\u0435\u043a\u0430\u044e \u043d\u0430 \u0442\u0435\u0431\u0435 " * n
        for n in (1, 2, 4, 8, 400)
    ] + [HAM, SPAM, SPAM[:20]]
    labels = torch.tensor([0, 1, 1, 1, 1, 0, 1, 1])
    logits, num_windows, shares = read_worst_windows(model, texts, CPU)
    assert 0.3 < shares.min() < 0.7
    assert shares.max() == 1
    temperature, shift = fit_calibration(logits, labels, num_windows, shares)
    assert abs(shift) > 0.2
    calibrate_head(model, temperature, shift)
    log_odds = torch.tensor(read_texts(model, texts, CPU)).double().logit()
    of_worst = (
        calibrated(logits.double(), temperature, shift, shares) @ torch.tensor([-1.0, 1.0]).double()
    )
    assert log_odds.tolist() == pytest.approx((of_worst - num_windows.log()).tolist(), abs=1e-3)


@pytest.mark.parametrize(
    "changes", [{"padding": "longest"}, {"read_token": "first"}, {"causal_mask": False}]
)
def test_what_the_service_refuses_is_not_read_as_if_served(changes: dict[str, object]) -> None:
    assert TrainConfig().is_served
    assert not TrainConfig.model_validate(changes).is_served
