"""Pretraining: documents and windows, generation, resume, whole runs."""

import json
import os
import signal
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from model.checkpoint import load_base, load_language_model, save_language_model
from model.folders import CheckpointError
from model.gpt2 import GPT2Config, GPT2LMHeadModel, init_weights
from model.packing import pack
from model.tokenizer import ENDOFTEXT
from tests.conftest import TINY
from tests.tiny_training import synthetic_lines
from training import finetune, pretrain
from training.config import TrainingError, read_recipe
from training.corpora import Source
from training.documents import TextSplit, batches, read_sources, windows
from training.generate import generate, next_token_logits
from training.pretrain_config import PretrainConfig
from training.pretrain_loop import Pretrainer, saved_steps

CPU = torch.device("cpu")
CONFIGS = Path(__file__).parents[1] / "training" / "configs" / "pretrain"

TINY_RECIPE = """
n_layer = 1
n_head = 2
n_embd = 16
n_positions = 64
steps = 25
batch_tokens = 128
learning_rate = 1e-2
precision = "float32"
output_layer = "unigram"
sampled_tokens = 200
eval_every = 10
eval_tokens = 200
prompts = ["see you"]
sample_tokens = 3
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY_RECIPE)
    return path


def language_model(seed: int = 0) -> GPT2LMHeadModel:
    torch.manual_seed(seed)
    model = GPT2LMHeadModel(TINY)
    init_weights(model, TINY)
    return model.eval()


# Generation


def test_greedy_continuation_is_that_of_the_whole_logits() -> None:
    model = language_model()
    prompts = [[5, 6, 7], [8], [9, 10]]
    with torch.no_grad():
        expected = []
        for prompt in prompts:
            text = list(prompt)
            for _ in range(4):
                text.append(int(model(pack([text]))[-1].argmax()))
            expected.append(text[len(prompt) :])
        torch.testing.assert_close(
            next_token_logits(model, prompts)[1], model(pack([prompts[1]]))[-1]
        )
    assert generate(model, prompts, 4) == expected


def test_continuation_ends_at_endoftext_and_at_the_last_position() -> None:
    model = language_model()
    full = [1] * TINY.n_positions
    assert generate(model, [full, full[:-1]], 5)[0] == []
    assert len(generate(model, [full, full[:-1]], 5)[1]) == 1
    with torch.no_grad():
        model.transformer.ln_f.weight.zero_()
        model.transformer.ln_f.bias.copy_(model.transformer.wte.weight[ENDOFTEXT] * 100)
    assert generate(model, [[1]], 5) == [[]]


def test_sampling_repeats_with_its_seed() -> None:
    model = language_model()
    drawn = [
        generate(
            model,
            [[1, 2]],
            8,
            temperature=1.0,
            generator=torch.Generator().manual_seed(seed),
        )
        for seed in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def tiny_texts() -> TextSplit:
    lines = [line.partition("\t")[2] for line in synthetic_lines(90)]
    split = [window for line in lines for window in windows(line, 64)]
    return TextSplit(split[:80], {"lines": split[80:]})


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_resumed_run_equals_an_uninterrupted_one(
    optimizer: str, recipe: Path, tmp_path: Path
) -> None:
    config = read_recipe(recipe, PretrainConfig).model_copy(update={"optimizer": optimizer})
    straight = Pretrainer(config, tiny_texts(), CPU)
    assert straight.run(tmp_path / "straight")
    assert [path.name for path in saved_steps(tmp_path / "straight")] == ["step-0000025"]

    stopped = Pretrainer(config, tiny_texts(), CPU)
    for batch in islice(batches(stopped.texts.train, 128, config.seed), 10):
        stopped.step(batch)
    stopped.save(tmp_path / "half")
    resumed = Pretrainer(config, tiny_texts(), CPU)
    resumed.restore(tmp_path / "half")
    assert resumed.run()
    for one, other in zip(straight.model.parameters(), resumed.model.parameters(), strict=True):
        assert one.equal(other)
    assert straight.history[-1].held_back_loss == resumed.history[-1].held_back_loss
    assert straight.history[-1].samples == resumed.history[-1].samples
    faster, texts = config.model_copy(update={"learning_rate": 1.0}), tiny_texts()
    with pytest.raises(CheckpointError, match="of another recipe"):
        Pretrainer(faster, texts, CPU).restore(tmp_path / "half")
    texts.train.reverse()
    with pytest.raises(CheckpointError, match="learns from other texts"):
        Pretrainer(config, texts, CPU).restore(tmp_path / "half")
    (tmp_path / "half" / "optimizer.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="cannot go on from"):
        Pretrainer(config, tiny_texts(), CPU).restore(tmp_path / "half")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_resumed_run_goes_on_as_the_stopped_one_on_a_gpu(
    optimizer: str, recipe: Path, tmp_path: Path
) -> None:
    config = read_recipe(recipe, PretrainConfig, optimizer=optimizer)
    stopped, resumed = (Pretrainer(config, tiny_texts(), torch.device("cuda")) for _ in range(2))
    some = list(islice(batches(stopped.texts.train, 128, config.seed), 5))
    for batch in some[:3]:
        stopped.step(batch)
    stopped.save(tmp_path / "half")
    resumed.restore(tmp_path / "half")
    losses = [[trainer.step(batch) for batch in some[3:]] for trainer in (stopped, resumed)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize("output_layer", ["exact", "unigram", "log_uniform"])
def test_held_back_loss_falls_well_below_guessing(recipe: Path, output_layer: str) -> None:
    config = read_recipe(recipe, PretrainConfig, output_layer=output_layer, steps=40)
    trainer = Pretrainer(config, tiny_texts(), CPU)
    before = trainer.held_back_loss(trainer.texts.held_back["lines"])
    assert before == pytest.approx(np.log(50257), abs=0.1)
    trainer.run()
    assert trainer.held_back_loss(trainer.texts.held_back["lines"]) < 7.5


@pytest.mark.parametrize("output_layer", ["exact", "unigram"])
def test_bfloat16_autocast_learns_as_float32_does(recipe: Path, output_layer: str) -> None:
    losses = []
    for precision in ("float32", "bfloat16"):
        config = read_recipe(recipe, PretrainConfig, output_layer=output_layer, precision=precision)
        trainer = Pretrainer(config, tiny_texts(), CPU)
        some = islice(batches(trainer.texts.train, 128, config.seed), 12)
        losses.append([trainer.step(batch) for batch in some])
        assert {p.dtype for p in trainer.model.parameters()} == {torch.float32}
    assert losses[0][-1] < losses[0][0] - 0.3
    assert losses[0] == pytest.approx(losses[1], abs=0.05)
    assert losses[0] != losses[1]


def test_loss_that_is_not_finite_ends_the_run(recipe: Path) -> None:
    trainer = Pretrainer(read_recipe(recipe, PretrainConfig), tiny_texts(), CPU)
    with torch.no_grad():
        trainer.model.transformer.wpe.weight.fill_(float("nan"))
    with pytest.raises(TrainingError, match="the loss is nan at step 0"):
        trainer.run()


def test_embeddings_move_at_a_rate_of_their_own_and_matrices_alone_decay(recipe: Path) -> None:
    config = read_recipe(recipe, PretrainConfig)
    weights = []
    for change in ("embedding_rate", "weight_decay", None):
        changed = config.model_copy(update={change: 0.0} if change else {})
        trainer = Pretrainer(changed, tiny_texts(), CPU)
        before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
        trainer.step(next(batches(trainer.texts.train, 128, config.seed)))
        weights.append({name: p.detach() for name, p in trainer.model.named_parameters()})
    still, undecayed, decayed = weights
    embeddings = "transformer.wte.weight"
    assert still[embeddings].equal(before[embeddings])
    assert not decayed[embeddings].equal(before[embeddings])
    for name, start in before.items():  # the first step's rate is the recipe's
        lost = (undecayed[name] - decayed[name]) / (config.learning_rate * config.weight_decay)
        expected = start if start.ndim > 1 else torch.zeros_like(start)
        torch.testing.assert_close(lost, expected, atol=1e-3, rtol=1e-2, msg=name)


def test_gradient_is_cut_to_length_1(recipe: Path) -> None:
    trainer = Pretrainer(read_recipe(recipe, PretrainConfig), tiny_texts(), CPU)
    with torch.no_grad():
        trainer.model.transformer.ln_f.weight.fill_(50.0)
    trainer.step(next(batches(trainer.texts.train, 128, 0)))
    gradients = [p.grad.norm() for p in trainer.model.parameters() if p.grad is not None]
    assert torch.stack(gradients).norm().item() == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("is_ignored", [False, True])
def test_ctrl_c_stops_after_the_step_and_saves(
    is_ignored: bool, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless it is ignored, as in what a script runs in the background."""
    trainer = Pretrainer(read_recipe(recipe, PretrainConfig), tiny_texts(), CPU)
    step: Callable[..., float] = trainer.step

    def interrupted_step(batch: list[list[int]]) -> float:
        if trainer.steps_done == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return step(batch)

    monkeypatch.setattr(trainer, "step", interrupted_step)
    handler = signal.SIG_IGN if is_ignored else signal.default_int_handler
    before = signal.signal(signal.SIGINT, handler)
    try:
        assert trainer.run(tmp_path) is is_ignored
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert trainer.steps_done == (25 if is_ignored else 4)
    if not is_ignored:
        assert [path.name for path in saved_steps(tmp_path)] == ["step-0000004"]
        resumed, straight = (Pretrainer(trainer.config, tiny_texts(), CPU) for _ in range(2))
        resumed.restore(saved_steps(tmp_path)[0])
        assert resumed.run()
        assert straight.run()
        told = [[point.train_loss for point in run.history] for run in (resumed, straight)]
        assert told[0] == told[1]


def test_run_writes_a_base_that_finetune_takes(
    recipe: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "base"
    arguments = [str(recipe), "--data", f"sms={corpus}", "--out", str(out)]
    assert pretrain.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "> 'see you" in printed
    assert f"saved to {out}" in printed
    assert not out.with_name("base.unfinished").exists()
    facts = json.loads((out / "run.json").read_text())
    assert facts["held_back_loss"]["all"] == pytest.approx(
        facts["held_back_loss"]["sms SMSSpamCollection"]
    )
    assert [point["step"] for point in facts["history"]] == [10, 20, 25]
    assert load_base(out).config.n_embd == 16
    (tmp_path / "f.toml").write_text(
        f'base = "{out}"\ntrained = "head"\nepochs = 1\nmax_tokens = 64\n'
    )
    tuned = [str(tmp_path / "f.toml"), "--data", str(corpus), "--out", str(tmp_path / "run")]
    assert finetune.main(tuned) == 0
    # What a base of this one has learnt is known of whatever comes of it.
    (tmp_path / "on.toml").write_text(recipe.read_text() + f'base = "{tmp_path / "run"}"\n')
    on = [str(tmp_path / "on.toml"), *arguments[1:-1], str(tmp_path / "on")]
    assert pretrain.main(on) == 0
    (tmp_path / "f.toml").write_text(
        f'base = "{tmp_path / "on"}"\ntrained = "head"\nmax_tokens = 64\nsplit_seed = 9\n'
    )
    capsys.readouterr()
    assert finetune.main([*tuned[:-1], str(tmp_path / "run2")]) == 2
    assert "was trained with split_seed = 123 on texts that this" in capsys.readouterr().err
    assert pretrain.main(arguments) == 2
    assert "exists already" in capsys.readouterr().err


def test_stopped_run_goes_on_with_resume_alone(
    recipe: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "base"
    arguments = [str(recipe), "--data", f"sms={corpus}", "--out", str(out)]
    assert pretrain.main([*arguments, "--resume"]) == 2
    assert "holds no stopped run" in capsys.readouterr().err
    texts = read_sources([Source("sms", corpus)], 123, 64)
    trainer = Pretrainer(read_recipe(recipe, PretrainConfig), texts, CPU)
    trainer.step(next(batches(texts.train, 128, 123)))
    trainer.save(tmp_path / "base.unfinished" / "step-0000001")
    assert pretrain.main(arguments) == 2
    assert "holds a stopped run: add --resume" in capsys.readouterr().err
    assert pretrain.main([*arguments, "--resume"]) == 0
    assert load_language_model(out).config.n_positions == 64


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.toml", "--data", "sms=x"], "cannot read the recipe"),
        (["{recipe}", "--data", "sms=absent"], "cannot read the corpus"),
        (["{recipe}", "--data", "mail=absent"], "no such file or folder"),
        (["{recipe}", "--data", "text={short}"], "too small to learn from"),
        (["{recipe}", "--data", "sms={empty}"], "too small to learn from"),
        (["{recipe}", "--data", "jsonl={empty}"], "too small to learn from"),
        (["{recipe}", "--data", "sms"], "is not KIND=PATH"),
        (["{recipe}", "--data", "sms={corpus}", "--device", "nonsense"], "device 'nonsense'"),
        (["{recipe}", "--data", "sms={corpus}", "--base", "{base}"], "takes at most 16"),
    ],
)
def test_what_cannot_be_done_exits_with_2_and_one_line(
    arguments: list[str],
    message: str,
    recipe: Path,
    corpus: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    short, empty = tmp_path / "short.txt", tmp_path / "empty"
    short.write_text("a")
    empty.write_text("")
    base = tmp_path / "short_base"
    base.mkdir()
    save_language_model(base, GPT2LMHeadModel(GPT2Config(1, 2, 16, n_positions=16)))
    names = {"recipe": recipe, "corpus": corpus, "short": short, "empty": empty, "base": base}
    filled = [a.format(**names) for a in arguments]
    assert pretrain.main([*filled, "--out", str(tmp_path / "out")]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert message in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("out", [".", "/"])
def test_folder_without_a_name_of_its_own_is_a_clear_error(
    out: str, recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pretrain.main([str(recipe), "--data", "sms=absent", "--out", out]) == 2
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    ["batch_tokens = 100\nn_positions = 200", "n_head = 3", "step = 1", "sampled_tokens = 1"],
)
def test_wrong_recipe_is_a_clear_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(TrainingError, match="Known keys: seed, "):
        read_recipe(path, PretrainConfig)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_recipes_are_valid(path: Path) -> None:
    assert read_recipe(path, PretrainConfig).prompts
