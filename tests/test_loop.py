"""The training loop: the book's mathematics, snapshots, options of the loss."""

import contextlib
import os
import signal
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from benchmarks.book_loop import book_loop
from model.gpt2 import GPT2ForSequenceClassification
from model.packing import pack
from tests.conftest import tiny_classifier_model
from training import run
from training.augment import Reading
from training.config import TrainConfig, TrainingError, load_config
from training.corpora import read_sms
from training.data import make_loader, split_examples
from training.loop import Outcome, Snapshot, Trainer, _OutOfPatience, autocast, chosen_precision
from training.muon import Muon
from training.optimizer import make_optimizers, parameter_groups, schedule

CPU = torch.device("cpu")


@pytest.mark.parametrize("trained", ["last_block", "all"])
def test_losses_are_those_of_the_books_own_loop(
    trained: Literal["last_block", "all"], corpus: Path, tiny_base: Path
) -> None:
    """Packed, cached, last token only, against padded and computed whole: the same mathematics."""
    config = TrainConfig(
        base=str(tiny_base),
        trained=trained,
        selection="book",
        epochs=2,
        eval_every=5,
        max_tokens=24,
        precision="float32",
    )
    examples = read_sms(corpus)
    theirs = book_loop(config, split_examples(examples, config))
    points = run.finetune(config, examples, CPU).outcome.history.losses[:-1]
    ours = [(point.train_loss, point.validation_loss) for point in points]
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert len(ours) == 4


def test_validation_loss_that_is_no_number_ends_the_run(corpus: Path, recipe: Path) -> None:
    config = load_config(recipe, epochs=1, learning_rate=1e20, batch_size=100)  # a single step
    with pytest.raises(TrainingError, match="the validation loss is nan at step 1: lower"):
        run.finetune(config, read_sms(corpus), CPU)


def test_accumulated_steps_equal_one_larger_batch(corpus: Path, recipe: Path) -> None:
    """Texts of one length, or the mean over a batch would weigh them differently."""
    examples = read_sms(corpus)
    small = load_config(recipe, batch_size=4, accumulation_steps=2, epochs=1)
    large = load_config(recipe, batch_size=8, epochs=1)
    weights = [run.finetune(c, examples, CPU).model.score.weight for c in (small, large)]
    torch.testing.assert_close(weights[0], weights[1], atol=1e-4, rtol=1e-3)


EXAMPLES = [([1 + i % 2, 3 + i], i % 2) for i in range(16)]


def contrary_run(**changes: object) -> tuple[GPT2ForSequenceClassification, Outcome]:
    """A run whose validation texts bear the opposite labels: it gets worse with every step."""
    model = tiny_classifier_model(head_bias=True)
    fields = {"trained": "all", "batch_size": 8, "learning_rate": 1e-2, "eval_every": 1}
    config = TrainConfig.model_validate(fields | changes)
    contrary = [(tokens, 1 - label) for tokens, label in EXAMPLES]
    loaders = make_loader(EXAMPLES, 8, training=True), make_loader(contrary, 8)
    return model, Trainer(model, *loaders, config, CPU).run()


def test_accuracies_are_kept_of_every_epoch_and_of_each_part() -> None:
    points = contrary_run(epochs=9)[1].history.accuracies
    assert [point.epoch for point in points] == list(range(1, 10))
    assert [point.examples for point in points] == [16 * epoch for epoch in range(1, 10)]
    assert (points[-1].train_accuracy, points[-1].validation_accuracy) == (1, 0)


@pytest.mark.parametrize("spam_weight", [0.5, 1.0, 5.0])
def test_loss_of_all_validation_texts_is_one_number_in_batches_of_any_size(
    spam_weight: float,
) -> None:
    texts = [([1 + i, 3 + i % 5], int(i % 3 == 0)) for i in range(32)]
    config = TrainConfig(batch_size=8, precision="float32", spam_weight=spam_weight)
    losses = []
    for batch_size in (1, 8, 32):
        loaders = make_loader(EXAMPLES, 8, training=True), make_loader(texts, batch_size)
        trainer = Trainer(tiny_classifier_model(), *loaders, config, CPU)
        trainer.evaluate()
        losses.append(trainer.snapshot.validation_loss)
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)


def test_precision_auto_is_float32_on_a_gpu_without_bfloat16(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    gpu = torch.device("cuda")
    assert isinstance(autocast("auto", gpu), contextlib.nullcontext)
    # Torch would imitate it, but for FlashAttention, which ends the first step.
    with pytest.raises(TrainingError, match=r"capability 8\.0 .* write auto or float32"):
        autocast("bfloat16", gpu)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    assert chosen_precision("auto", gpu) == chosen_precision("bfloat16", gpu) == "bfloat16"
    assert chosen_precision("bfloat16", CPU) == "bfloat16"


def test_patience_ends_a_run_that_gets_no_better() -> None:
    outcome = contrary_run(epochs=50, patience=2)[1]
    assert not outcome.interrupted
    assert [point.step for point in outcome.history.losses] == [1, 2, 3]


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_ctrl_c_before_the_first_evaluation_leaves_nothing_to_keep(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Trainer, "evaluate", interrupt)
    with pytest.raises(KeyboardInterrupt):
        contrary_run(epochs=1)


def test_ctrl_c_at_the_first_line_keeps_what_it_tells_of(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []

    def write(_: object, line: str) -> None:
        lines.append(line)
        if len(lines) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr("training.loop.tqdm.write", write)
    outcome = contrary_run(epochs=5)[1]
    assert outcome.interrupted
    assert lines[0].startswith("epoch ")
    assert outcome.snapshot.tensors


def test_ctrl_c_keeps_what_was_learnt_since_the_last_evaluation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Trainer, "print_accuracies", interrupt)
    config = TrainConfig(trained="all", epochs=3, batch_size=8, learning_rate=1e-3, eval_every=99)
    loaders = make_loader(EXAMPLES, 8, training=True), make_loader(EXAMPLES, 8)
    trainer = Trainer(tiny_classifier_model(head_bias=True), *loaders, config, CPU)
    outcome = trainer.run()
    assert outcome.interrupted
    assert outcome.snapshot.step == len(loaders[0]) > 1


def test_ctrl_c_in_one_of_several_processes_keeps_what_was_learnt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("training.loop.num_processes", lambda: 2)
    monkeypatch.setattr(Trainer, "step", lambda _: os.kill(os.getpid(), signal.SIGINT))
    config = TrainConfig(batch_size=8, epochs=3, eval_every=99, snapshot="last")
    loaders = make_loader(EXAMPLES, 8, training=True), make_loader(EXAMPLES, 8)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background
    try:
        outcome = Trainer(tiny_classifier_model(), *loaders, config, CPU).run()
    finally:
        signal.signal(signal.SIGINT, before)
    assert outcome.interrupted
    assert outcome.snapshot.step == 2


def test_patience_begins_anew_with_every_gain(monkeypatch: pytest.MonkeyPatch) -> None:
    is_best = iter([True, False, True, False, True, False, False])
    monkeypatch.setattr(Snapshot, "offer", lambda *_: next(is_best))
    loaders = make_loader(EXAMPLES, 8, training=True), make_loader(EXAMPLES, 8)
    config = TrainConfig(batch_size=8, eval_every=1, patience=2)
    trainer = Trainer(tiny_classifier_model(), *loaders, config, CPU)
    for _ in range(6):
        trainer.evaluate()
    with pytest.raises(_OutOfPatience):
        trainer.evaluate()


def test_accumulated_gradients_are_those_of_one_larger_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To AdamW, which the weights come of, all gradients twice as large would be the same."""
    found: list[torch.Tensor] = []
    monkeypatch.setattr(Trainer, "step", lambda t: found.append(t.model.score.weight.grad.clone()))
    for batch_size, accumulation_steps in ((4, 2), (8, 1)):
        loader = make_loader(EXAMPLES[:8], batch_size)
        config = TrainConfig(
            batch_size=batch_size, accumulation_steps=accumulation_steps, precision="float32"
        )
        Trainer(tiny_classifier_model(), loader, loader, config, CPU).run_epoch()
    torch.testing.assert_close(*found)


def test_batches_left_over_at_the_end_of_an_epoch_make_a_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps: list[int] = []
    monkeypatch.setattr(Trainer, "step", lambda trainer: steps.append(trainer.passes))
    loader = make_loader(EXAMPLES, 5)
    config = TrainConfig(batch_size=5, accumulation_steps=3, eval_every=100)
    Trainer(tiny_classifier_model(), loader, loader, config, CPU).run_epoch()
    assert steps == [3, 4]


def test_run_ends_at_its_best_snapshot() -> None:
    model, outcome = contrary_run(epochs=2)
    assert outcome.snapshot.step == 1
    first = contrary_run(epochs=1)[1].snapshot.tensors
    assert all(tensor.equal(first[name]) for name, tensor in model.state_dict().items())


def test_running_average_is_what_is_kept() -> None:
    losses = {}
    for decay in (0.0, 0.9999):
        config = TrainConfig(
            trained="all",
            epochs=4,
            batch_size=8,
            learning_rate=1e-2,
            eval_every=1,
            averaging=decay,
        )
        loaders = make_loader(EXAMPLES, 8, training=True), make_loader(EXAMPLES, 8)
        model = tiny_classifier_model(head_bias=True)
        outcome = Trainer(model, *loaders, config, CPU).run()
        losses[decay] = [point.validation_loss for point in outcome.history.losses]
    assert losses[0.0][0] == pytest.approx(losses[0.9999][0])
    assert losses[0.0][-1] < 0.5 * losses[0.0][0]
    assert losses[0.0][-1] < losses[0.9999][-1] < 0.5 * losses[0.0][0]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"label_smoothing": 0.3},
        {"spam_weight": 4.0},
        {"label_smoothing": 0.3, "spam_weight": 4.0},
        {"ignore_index": 1},
    ],
    ids=str,
)
def test_loss_is_the_weighted_smoothed_cross_entropy(changes: dict[str, Any]) -> None:
    """From the definition: sum of w_c t_c (-log p_c), over the sum of the labels' weights."""
    model = tiny_classifier_model(head_bias=True)
    config = TrainConfig(batch_size=5, precision="float32", **changes)
    loader = make_loader(EXAMPLES, 5)
    trainer = Trainer(model, loader, loader, config, CPU, 0)
    batch = next(iter(loader))
    log_p = model(batch.packed).log_softmax(-1).detach()
    weights = torch.tensor([1.0, config.spam_weight])
    smoothing, total, weight = config.label_smoothing, 0.0, 0.0
    for row, label in zip(log_p, batch.labels.tolist(), strict=True):
        if label != config.ignore_index:
            target = torch.full((2,), smoothing / 2)
            target[label] += 1 - smoothing
            total -= float((weights * target * row).sum())
            weight += float(weights[label])
    assert trainer.training_loss(batch).item() == pytest.approx(total / weight, rel=1e-5)


def test_learning_rate_rises_in_a_line_and_falls_along_a_cosine() -> None:
    config = TrainConfig(
        batch_size=8, epochs=10, learning_rate=1e-3, schedule="cosine", warmup_fraction=0.2
    )
    loader = make_loader(EXAMPLES, 8, training=True)
    trainer = Trainer(tiny_classifier_model(), loader, loader, config, CPU, 0)
    rates = []
    for _ in range(20):
        rates.append(1e3 * trainer.optimizers[0].param_groups[0]["lr"])
        trainer.step()
    assert rates[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    assert rates[12] == pytest.approx(0.5)
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert rates[-1] < 0.02
    constant = config.model_copy(update={"schedule": "constant"})
    assert {schedule(constant, 20)(step) for step in range(20)} == {1.0}


def test_muon_takes_the_trained_matrices_of_the_blocks_and_adamw_the_rest() -> None:
    model = tiny_classifier_model()
    model.get_submodule("transformer.h.0").requires_grad_(False)
    config = TrainConfig(embedding_rate=0.5, learning_rate=1e-3)
    groups = parameter_groups(model, config)
    adamw, muon = make_optimizers("muon", model.transformer, groups, 0.1, betas=(0.8, 0.9))
    names = {parameter: name for name, parameter in model.named_parameters()}
    taken, left = (
        [names[p] for group in optimizer.param_groups for p in group["params"]]
        for optimizer in (muon, adamw)
    )
    assert all(name.startswith("transformer.h.1.") for name in taken)
    assert len(taken) == 4
    assert sorted(taken + left) == sorted(n for n, p in model.named_parameters() if p.requires_grad)
    assert [group["lr"] for group in muon.param_groups] == [1e-3]
    assert [group["lr"] for group in adamw.param_groups] == [5e-4, 1e-3]
    assert [group["betas"] for group in adamw.param_groups] == [(0.8, 0.9)] * 2
    every = adamw.param_groups + muon.param_groups
    assert [group["weight_decay"] for group in every] == [0.1] * 3


def test_muon_steps_every_direction_of_a_matrix_alike() -> None:
    """The size of AdamW's step, 0.2 of the rate an entry, whatever the gradient's spectrum."""
    model = tiny_classifier_model()
    groups = parameter_groups(model, TrainConfig(learning_rate=1e-2))
    _, muon = make_optimizers("muon", model.transformer, groups, weight_decay=0.0)
    weight = model.get_parameter("transformer.h.0.mlp.c_proj.weight")
    before = weight.detach().clone()
    scales = torch.logspace(0, -1, weight.shape[0])[:, None]
    weight.grad = torch.nn.init.orthogonal_(torch.empty_like(weight)) * scales
    muon.step()
    step = (weight.detach() - before) / 1e-2
    spectrum = torch.linalg.svdvals(step) / (0.2 * max(weight.shape) ** 0.5)
    assert 0.6 < spectrum.min()
    assert spectrum.max() < 1.3


@pytest.mark.parametrize("shape", [(12, 48), (48, 12), (16, 16)])
def test_muon_steps_as_torch_does_and_in_float32_nearly_so(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    stepped = []
    for native in (None, True, False):
        monkeypatch.setattr("training.muon.is_native", lambda _, native=native: native)
        torch.manual_seed(0)
        matrix = torch.nn.Parameter(torch.randn(shape))
        still = torch.nn.Parameter(torch.ones(2, 2))  # without a gradient
        groups = [{"params": [matrix, still], "lr": 0.1}]
        if native is None:
            muon = torch.optim.Muon(groups, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
        else:
            muon = Muon(groups, weight_decay=0.1)
        start = matrix.detach().clone()
        for _ in range(3):
            matrix.grad = torch.randn(shape)
            muon.step()
        assert still.equal(torch.ones(2, 2))
        stepped.append(matrix.detach() - start)
    torchs, bfloat16, float32 = stepped
    assert bfloat16.equal(torchs)
    assert not float32.equal(torchs)
    assert (float32 - torchs).norm() < 0.02 * torchs.norm()


def test_prefix_loss_is_the_mean_over_every_beginning_of_each_text() -> None:
    """By the recipe's weight of spam, which a text with good words in front is from its onset."""
    model = tiny_classifier_model(head_bias=True)
    config = TrainConfig(
        trained="all", batch_size=2, prefix_loss=0.25, spam_weight=3.0, precision="float32"
    )
    readings = [Reading([1, 2, 3], 1, onset=1), Reading([4, 5], 0)]
    loader = make_loader([([0], 0)] * 2, 2, augment=lambda index: readings[index])
    trainer = Trainer(model, loader, loader, config, CPU)
    expected = 0.0
    for reading in readings:
        losses = []
        for end in range(1, len(reading.tokens) + 1):
            label = reading.label if end > reading.onset else 0
            logits = model(pack([reading.tokens[:end]]))
            losses.append((1, 3)[label] * F.cross_entropy(logits, torch.tensor([label])).item())
        expected += (0.25 * sum(losses) / len(losses) + 0.75 * losses[-1]) / 2
    assert trainer.training_loss(next(iter(loader))).item() == pytest.approx(expected, abs=1e-5)


def test_loss_that_is_not_finite_ends_the_run() -> None:
    model = tiny_classifier_model()
    with torch.no_grad():
        model.score.weight.fill_(float("nan"))
    loader = make_loader([([1, 2], 0)] * 8, 4, training=True)
    with pytest.raises(TrainingError, match="the loss is nan at step 1: lower learning_rate"):
        Trainer(model, loader, loader, TrainConfig(epochs=1, batch_size=4), CPU).run()


def test_fewer_texts_than_a_batch_are_refused() -> None:
    loader = make_loader([([1], 0)] * 3, 4, training=True)
    with pytest.raises(TrainingError, match="are 3 texts .*one batch of 4: give more, or lower"):
        Trainer(tiny_classifier_model(), loader, loader, TrainConfig(batch_size=4), CPU).run()


@pytest.mark.parametrize(("num_cached_blocks", "expected"), [(0, "bfloat16"), (1, "float32")])
def test_a_last_block_with_its_input_kept_learns_in_float32(
    num_cached_blocks: int, expected: str
) -> None:
    """It computes a few rows a step: rounding its weights for them takes longer than it saves."""
    model = tiny_classifier_model()
    assert model.config.n_layer == 2
    loader = make_loader(EXAMPLES, 4)
    trainer = Trainer(model, loader, loader, TrainConfig(precision="bfloat16"), CPU)
    few = Trainer(model, loader, loader, TrainConfig(precision="bfloat16"), CPU, num_cached_blocks)
    assert trainer.precision == "bfloat16"
    assert few.precision == expected
