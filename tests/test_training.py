"""Training: recipes, data, splits that do not leak, the loop, and runs from the command line."""

import json
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from benchmarks.book_loop import book_loop
from model.checkpoint import load_classifier, save_language_model
from model.classifier import Classifier
from model.gpt2 import PUBLISHED_SIZES, GPT2LMHeadModel, init_weights
from model.packing import pack
from model.tokenizer import ENDOFTEXT, encode
from tests.conftest import TINY, tiny_classifier_model
from training import compare, corpora, evaluate, finetune, run
from training.calibration import fit_temperature
from training.config import ConfigError, TrainConfig, TrainingError, load_config
from training.corpora import (
    CorpusError,
    Example,
    find_sms_file,
    read_sms,
    read_sms_as_the_book,
    sha256_of,
)
from training.data import (
    cluster_split,
    drop_duplicates,
    make_loader,
    near_duplicate_clusters,
    pad_to,
    split_examples,
    tokenize,
)
from training.evaluate import measure
from training.freeze import freeze
from training.loop import Snapshot, _Trainer, train
from training.lora import merge_lora

CONFIGS = Path(__file__).parents[1] / "training" / "configs"
CPU = torch.device("cpu")

TINY_RECIPE = """
base = "random"
n_layer = 2
n_head = 4
n_embd = 32
trained = "all"
epochs = 3
batch_size = 8
learning_rate = 3e-3
schedule = "cosine"
eval_every = 10
"""


def synthetic_lines(count: int = 300) -> list[str]:
    """Texts that differ from each other, a third of them spam with a word that gives it away."""
    rng = np.random.default_rng(0)
    words = "meet call home lunch see you later train ticket mum rain shop book".split()
    lines = []
    for number in range(count):
        text = " ".join(rng.choice(words, 6)) + f" {number}"
        lines.append(f"spam\twin prize {text}" if number % 3 == 0 else f"ham\t{text}")
    return lines


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "SMSSpamCollection"
    path.write_text("\n".join(synthetic_lines()) + "\n")
    return path


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY_RECIPE)
    return path


@pytest.fixture
def tiny_base(tmp_path: Path) -> Path:
    """A random language model in the published form, in place of OpenAI's weights."""
    torch.manual_seed(0)
    model = GPT2LMHeadModel(TINY)
    init_weights(model, TINY)
    folder = tmp_path / "base"
    folder.mkdir()
    save_language_model(folder, model)
    return folder


# Recipes


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_recipes_are_valid(path: Path) -> None:
    assert load_config(path).data_sha256


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rat = 1", "learning_rat: Extra inputs"),
        ("epochs = 0", "epochs: .*greater than or equal to 1.*got 0"),
        ("trained = 'some'", "trained: .*'last_block'"),
        ("epochs =", "cannot read the recipe"),
        ("padding = 'longest'\nrecasing = 0.1", "padding = 'none' only"),
        ("prefix_loss = 0.5", "prefix_loss goes with trained = 'all'"),
    ],
)
def test_wrong_recipe_is_a_clear_error(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(path)


def test_book_recipes_hold_the_books_numbers() -> None:
    for name, trained in (("book_last_block", "last_block"), ("book_all_layers", "all")):
        config = load_config(CONFIGS / f"{name}.toml")
        assert (config.trained, config.padding, config.selection) == (trained, "longest", "book")
        assert (config.seed, config.split_seed, config.epochs, config.batch_size) == (
            123,
            123,
            5,
            8,
        )
        assert (config.learning_rate, config.weight_decay) == (5e-5, 0.1)
        assert config.base == "openai-community/gpt2"


# Corpora


def test_sms_file_reads_as_its_authors_wrote_it(sms_file: Path) -> None:
    examples = read_sms(sms_file)
    assert (len(examples), sum(e.label for e in examples)) == (5574, 747)


def test_book_reads_two_rows_less(sms_file: Path) -> None:
    examples = read_sms_as_the_book(sms_file)
    assert (len(examples), sum(e.label for e in examples)) == (5572, 747)


def test_book_split_is_the_books(sms_file: Path) -> None:
    """1,045 / 149 / 300 texts, the longest training text of 120 tokens."""
    splits = split_examples(read_sms_as_the_book(sms_file), TrainConfig(selection="book"))
    assert [len(part) for part in vars(splits).values()] == [1045, 149, 300]
    assert sum(count["spam"] for count in splits.counts().values()) == 747
    assert max(len(tokens) for tokens, _ in tokenize(splits.train, 1024)) == 120


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"ham\tfine\nmaybe\tunsure\n", "line 2: expected ham or spam"),
        (b"ham\tfine\nspam\n", "line 2: expected ham or spam"),
        (b"ham\t\xff\n", "not UTF-8 at byte 4"),
    ],
)
def test_unreadable_corpus_is_a_clear_error(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "corpus"
    path.write_bytes(content)
    with pytest.raises(CorpusError, match=message):
        read_sms(path)


def test_missing_and_altered_files_are_clear_errors(tmp_path: Path, corpus: Path) -> None:
    with pytest.raises(CorpusError, match="cannot read the corpus"):
        find_sms_file(tmp_path / "none", (), "")
    with pytest.raises(CorpusError, match=f"its SHA-256 is {sha256_of(corpus)}, expected 00"):
        find_sms_file(corpus, (), "00")
    assert find_sms_file(corpus.parent, (), sha256_of(corpus)) == corpus


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves a folder without a line for each request."""

    def log_message(self, *_: object) -> None:
        pass


def test_download_tries_each_url_and_checks_the_inner_file(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setattr(corpora, "_CACHE", cache)
    with zipfile.ZipFile(tmp_path / "sms.zip", "w") as archive:
        archive.write(corpus, "SMSSpamCollection")
    handler = partial(QuietHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        site = f"http://127.0.0.1:{server.server_port}"
        urls = [f"{site}/absent.zip", f"{site}/sms.zip"]
        with pytest.raises(CorpusError, match="expected 00"):
            find_sms_file(None, urls, "00")
        assert not cache.exists()
        found = find_sms_file(None, urls, sha256_of(corpus))
        server.shutdown()
        thread.join()
    assert found.read_bytes() == corpus.read_bytes()
    assert find_sms_file(None, (), sha256_of(corpus)) == found  # from the cache, no URL asked
    found.unlink()
    with pytest.raises(CorpusError, match="could not be downloaded.*--data"):
        find_sms_file(None, urls, "")


# Splits


def test_near_duplicates_share_a_cluster() -> None:
    texts = [
        "You have won a prize of 100 pounds call now",
        "You have won a prize of 100 pounds call today",
        "See you at the station at nine then",
        "ok",
        "OK!",
    ]
    clusters = near_duplicate_clusters(texts).tolist()
    assert clusters[0] == clusters[1]
    assert clusters[3] == clusters[4]
    assert len(set(clusters)) == 3


def test_equal_texts_are_kept_once() -> None:
    texts = ["Call now!", "call  NOW", "...", "?!", "other"]
    kept = drop_duplicates([Example(text, 0, "sms") for text in texts])
    assert [e.text for e in kept] == ["Call now!", "...", "?!", "other"]


def test_no_cluster_straddles_the_split(sms_file: Path) -> None:
    config = TrainConfig()
    splits = cluster_split(read_sms(sms_file), config)
    parts = list(vars(splits).values())
    texts = [e.text for part in parts for e in part]
    part_of = np.repeat([0, 1, 2], [len(part) for part in parts])
    clusters = near_duplicate_clusters(texts)
    for cluster in np.unique(clusters):
        assert len(set(part_of[clusters == cluster])) == 1
    shares = [len(part) / len(texts) for part in parts]
    assert shares == pytest.approx([0.7, 0.1, 0.2], abs=0.01)
    spam = [sum(e.label for e in part) / len(part) for part in parts]
    assert max(spam) - min(spam) < 0.02
    assert len(texts) == len(set(texts))


def test_split_seed_decides_the_split(corpus: Path) -> None:
    examples = read_sms(corpus)
    first, again, other = (
        cluster_split(examples, TrainConfig(split_seed=seed)) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_split_without_spam_is_refused() -> None:
    examples = [Example(f"text {i} {i} {i}", 0, "sms") for i in range(100)]
    with pytest.raises(TrainingError, match="the train part would hold"):
        split_examples(examples, TrainConfig())


# Batches


def test_padding_fills_and_cuts() -> None:
    assert pad_to([([1, 2, 3, 4], 1), ([5], 0)], 3) == [
        ([1, 2, 3], 1),
        ([5, ENDOFTEXT, ENDOFTEXT], 0),
    ]


def test_training_loader_shuffles_and_leaves_out_the_small_batch() -> None:
    examples = [([number], number % 2) for number in range(20)]
    torch.manual_seed(0)
    batches = list(make_loader(examples, 8, training=True))
    assert [len(batch.labels) for batch in batches] == [8, 8]
    seen = torch.cat([batch.packed.input_ids for batch in batches]).tolist()
    assert seen != sorted(seen)
    for batch in batches:
        assert (batch.packed.input_ids % 2).tolist() == batch.labels.tolist()
    assert [len(batch.labels) for batch in make_loader(examples, 8)] == [8, 8, 4]


# Freezing and the loop


@pytest.mark.parametrize(
    ("trained", "expected"),
    [
        ("head", {"score"}),
        ("last_block", {"score", "ln_f", "h.1"}),
        ("last_two_blocks", {"score", "ln_f", "h.0", "h.1"}),
        ("all", {"score", "ln_f", "h.0", "h.1", "wte", "wpe"}),
    ],
)
def test_only_the_named_part_learns(trained: str, expected: set[str]) -> None:
    model = tiny_classifier_model(head_bias=True)
    config = TrainConfig(
        trained=trained,
        epochs=1,
        batch_size=4,
        learning_rate=1e-2,
    )
    count = freeze(model, config)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    examples = [([1 + i, 2, 3], i % 2) for i in range(8)]
    loader = make_loader(examples, 4, training=True)
    train(model, loader, make_loader(examples, 4), config, CPU)
    changed = {
        name for name, parameter in model.named_parameters() if not parameter.equal(before[name])
    }
    parts = {
        ".".join(name.removeprefix("transformer.").split(".")[: 2 if ".h." in name else 1])
        for name in changed
    }
    assert parts == expected
    assert count == sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("trained", ["head", "last_block", "last_two_blocks"])
@pytest.mark.parametrize("cache_memory_bytes", [0, 1 << 30])
def test_cached_activations_change_no_result(
    trained: str, cache_memory_bytes: int, corpus: Path, recipe: Path
) -> None:
    """The same weights as without, from memory as from the file on disk."""
    config = load_config(recipe, trained=trained, n_layer=3, cache_memory_bytes=cache_memory_bytes)
    uncached = config.model_copy(update={"cached_activations": False})
    runs = [run.finetune(c, read_sms(corpus), CPU) for c in (config, uncached)]
    for one, other in zip(*(done.model.parameters() for done in runs), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    losses = [[point.train_loss for point in done.outcome.history.losses] for done in runs]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_merged_lora_gives_the_logits_of_unmerged_lora() -> None:
    model = tiny_classifier_model()
    names = set(model.state_dict())
    before = model.score.weight.clone()
    freeze(model, TrainConfig(trained="lora", lora_rank=4, lora_alpha=2.0))
    batch = pack([[1, 2, 3], [4, 5]])
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(".B"):
                parameter.normal_(0, 0.1)
        unmerged = model(batch)
        merge_lora(model)
        torch.testing.assert_close(model(batch), unmerged, atol=1e-5, rtol=1e-5)
    assert set(model.state_dict()) == names
    assert not model.score.weight.equal(before)


def test_lora_starts_at_the_base_and_trains_only_its_factors() -> None:
    model = tiny_classifier_model()
    batch = pack([[1, 2, 3], [4, 5]])
    with torch.no_grad():
        before = model(batch)
    freeze(model, TrainConfig(trained="lora", lora_rank=4))
    with torch.no_grad():
        torch.testing.assert_close(model(batch), before)
    model(batch).sum().backward()
    trained = {name for name, p in model.named_parameters() if p.grad is not None}
    assert all(name.endswith((".A", ".B")) for name in trained)
    # two factors for each of four layers in two blocks, and the head's
    assert len(trained) == 2 * (4 * 2 + 1)


def test_accumulated_steps_equal_one_larger_batch(corpus: Path, recipe: Path) -> None:
    """Texts of one length, or the mean over a batch would weigh them differently."""
    examples = read_sms(corpus)
    small = load_config(recipe, batch_size=4, accumulation_steps=2, epochs=1)
    large = load_config(recipe, batch_size=8, epochs=1)
    weights = [run.finetune(c, examples, CPU).model.score.weight for c in (small, large)]
    torch.testing.assert_close(weights[0], weights[1], atol=1e-4, rtol=1e-3)


def test_patience_ends_a_run_that_gets_no_better(corpus: Path, recipe: Path) -> None:
    config = load_config(recipe, epochs=50, learning_rate=1e-2, patience=2)
    outcome = run.finetune(config, read_sms(corpus), CPU).outcome
    assert not outcome.interrupted
    assert outcome.history.losses[-1].epoch < 50
    assert outcome.snapshot.step < outcome.history.losses[-1].step


def test_running_average_is_what_is_kept(corpus: Path, recipe: Path) -> None:
    """A decay near 1 hardly leaves the start."""
    slow = run.finetune(load_config(recipe, averaging=0.9999), read_sms(corpus), CPU)
    plain = run.finetune(load_config(recipe), read_sms(corpus), CPU)
    assert plain.metrics["train"].loss < 0.1 < 0.4 < slow.metrics["train"].loss


def test_temperature_divides_overconfident_logits_only_in_size() -> None:
    torch.manual_seed(0)
    labels = torch.randint(0, 2, (4000,))
    honest = torch.randn(4000, 2) + 1.0 * torch.nn.functional.one_hot(labels, 2)
    fitted = fit_temperature(honest, labels)
    assert fit_temperature(3 * honest, labels) == pytest.approx(3 * fitted, rel=1e-3)


def test_calibrated_run_keeps_verdicts_and_tells_its_temperature(
    corpus: Path, recipe: Path, tmp_path: Path
) -> None:
    recipe.write_text(TINY_RECIPE + "calibrate = true\n")
    out = tmp_path / "run"
    assert finetune.main([str(recipe), "--data", str(corpus), "--out", str(out)]) == 0
    temperature = json.loads((out / "config.json").read_text())["spamgate"]["temperature"]
    plain = run.finetune(load_config(recipe, calibrate=False), read_sms(corpus), CPU)
    calibrated = run.finetune(load_config(recipe), read_sms(corpus), CPU)
    assert calibrated.temperature == pytest.approx(temperature)
    batch = pack([[1, 2, 3], [4, 5]])
    with torch.no_grad():
        expected = plain.model(batch) / temperature
        torch.testing.assert_close(calibrated.model(batch), expected, atol=1e-4, rtol=1e-4)
    assert calibrated.metrics["test"].accuracy == plain.metrics["test"].accuracy


@pytest.mark.parametrize("read", ["first", "mean"])
def test_other_tokens_can_be_read(read: Literal["first", "mean"]) -> None:
    model = tiny_classifier_model()
    batch = pack([[1, 2, 3], [4, 5]])
    with torch.no_grad():
        states = model.transformer(batch)
        wanted = {
            "first": states[[0, 3]],
            "mean": torch.stack([states[:3].mean(0), states[3:].mean(0)]),
        }[read]
        model.read = read
        torch.testing.assert_close(model(batch), model.score(wanted))


def test_without_causal_mask_earlier_tokens_see_later_ones() -> None:
    model = tiny_classifier_model()
    model.read = "first"
    with torch.no_grad():
        causal = [model(pack([[1, last]])) for last in (2, 3)]
        free = [model(pack([[1, last]], causal=False)) for last in (2, 3)]
    assert causal[0].equal(causal[1])
    assert not free[0].equal(free[1])


def test_prefix_loss_is_the_mean_over_every_beginning_of_each_text() -> None:
    model = tiny_classifier_model(head_bias=True)
    config = TrainConfig(trained="all", prefix_loss=0.25, batch_size=2)
    examples = [([1, 2, 3], 1), ([4, 5], 0)]
    loader = make_loader(examples, 2)
    trainer = _Trainer(model, loader, loader, config, CPU, 0)
    expected = 0.0
    for tokens, label in examples:
        target = torch.tensor([label])
        losses = [
            F.cross_entropy(model(pack([tokens[:end]])), target).item()
            for end in range(1, len(tokens) + 1)
        ]
        expected += (0.25 * sum(losses) / len(losses) + 0.75 * losses[-1]) / 2
    assert trainer.training_loss(next(iter(loader))).item() == pytest.approx(expected, abs=1e-5)


def test_snapshot_restores_the_best_and_ignores_the_rest() -> None:
    model = torch.nn.Linear(2, 2)
    snapshot = Snapshot()
    snapshot.offer(model, 1, 0.5)
    best = model.weight.detach().clone()
    with torch.no_grad():
        model.weight.add_(1)
    snapshot.offer(model, 2, 0.6)
    snapshot.restore(model)
    assert (snapshot.step, snapshot.validation_loss) == (1, 0.5)
    assert model.weight.equal(best)


def test_loss_that_is_not_finite_ends_the_run() -> None:
    model = tiny_classifier_model()
    with torch.no_grad():
        model.score.weight.fill_(float("nan"))
    loader = make_loader([([1, 2], 0)] * 8, 4, training=True)
    with pytest.raises(TrainingError, match="the loss is nan at step 1: lower learning_rate"):
        train(model, loader, loader, TrainConfig(epochs=1, batch_size=4), CPU)


def test_fewer_texts_than_a_batch_are_refused() -> None:
    loader = make_loader([([1], 0)], 4, training=True)
    with pytest.raises(TrainingError, match="one batch of 4"):
        train(tiny_classifier_model(), loader, loader, TrainConfig(batch_size=4), CPU)


def test_metrics_of_a_worked_example() -> None:
    metrics = measure([0, 0, 0, 0, 1, 1], [0.1, 0.2, 0.3, 0.9, 0.8, 0.4])
    assert metrics.accuracy == pytest.approx(4 / 6)
    assert (metrics.spam_caught, metrics.ham_blocked) == (0.5, 0.25)
    assert metrics.mcc == pytest.approx((1 * 3 - 1 * 1) / np.sqrt(2 * 2 * 4 * 4))
    assert metrics.roc_auc == pytest.approx(6 / 8)
    with pytest.raises(TrainingError, match="ham and spam"):
        measure([1, 1], [0.5, 0.5])


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
        eval_every=10,
        max_tokens=24,
    )
    examples = read_sms(corpus)
    theirs = book_loop(config, split_examples(examples, config))
    points = run.finetune(config, examples, CPU).outcome.history.losses[:-1]
    ours = [(point.train_loss, point.validation_loss) for point in points]
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert len(ours) == 4


# Whole runs


def test_run_writes_a_checkpoint_that_the_service_takes(
    corpus: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    arguments = [str(recipe), "--data", str(corpus), "--out", str(out)]
    assert finetune.main(arguments) == 0
    assert {path.name for path in out.iterdir()} == {
        "README.md",
        "accuracy.png",
        "config.json",
        "golden.json",
        "loss.png",
        "merges.txt",
        "model.safetensors",
        "run.json",
        "tokenizer_config.json",
        "vocab.json",
    }
    assert (out / "model.safetensors").stat().st_mode & 0o444 == 0o444
    classifier = Classifier.load(out, "cpu")
    verdicts = classifier.classify(["win prize train rain", "see you at home"])
    assert [verdict.label for verdict in verdicts] == ["spam", "ham"]
    facts = json.loads((out / "run.json").read_text())
    assert facts["recipe"]["epochs"] == 3
    assert facts["data_sha256"] == {"SMSSpamCollection": sha256_of(corpus)}
    assert facts["metrics"]["test"]["mcc"] > 0.9
    assert f"saved to {out}" in capsys.readouterr().out
    assert finetune.main(arguments) == 2
    assert "exists already" in capsys.readouterr().err


def test_metrics_of_a_run_are_those_of_the_saved_file(
    corpus: Path, recipe: Path, tmp_path: Path
) -> None:
    recipe.write_text(TINY_RECIPE + 'storage_dtype = "bfloat16"\n')
    out = tmp_path / "run"
    assert finetune.main([str(recipe), "--data", str(corpus), "--out", str(out)]) == 0
    facts = json.loads((out / "run.json").read_text())
    splits = split_examples(read_sms(corpus), load_config(recipe))
    again = evaluate.evaluate(Classifier.load(out, "cpu"), splits.test)
    assert again.loss == pytest.approx(facts["metrics"]["test"]["loss"], abs=1e-6)


def test_same_seed_gives_the_same_weights(corpus: Path, recipe: Path, tmp_path: Path) -> None:
    outs = [tmp_path / name for name in ("a", "b", "c")]
    for out, seed in zip(outs, ("1", "1", "2"), strict=True):
        arguments = [str(recipe), "--data", str(corpus), "--out", str(out), "--seed", seed]
        assert finetune.main([*arguments, "--epochs", "1"]) == 0
    weights = [load_classifier(out).model.score.weight for out in outs]
    assert weights[0].equal(weights[1])
    assert not weights[0].equal(weights[2])


@pytest.mark.parametrize("name", ["book_last_block", "gpt2_all_layers"])
def test_pretrained_recipes_run_from_a_base_folder(
    name: str, corpus: Path, tiny_base: Path, tmp_path: Path
) -> None:
    text = (CONFIGS / f"{name}.toml").read_text().replace("7d039a24", "") + "\n"
    sha = load_config(CONFIGS / f"{name}.toml").data_sha256
    (tmp_path / "r.toml").write_text(text.replace(sha.removeprefix("7d039a24"), ""))
    out = tmp_path / "run"
    arguments = [str(tmp_path / "r.toml"), "--data", str(corpus), "--base", str(tiny_base)]
    assert finetune.main([*arguments, "--out", str(out), "--epochs", "1"]) == 0
    read_token = load_classifier(out).read_token
    assert read_token == "last" if name.startswith("gpt2") else isinstance(read_token, int)


def test_head_alone_leaves_the_base_as_it_was(
    corpus: Path, tiny_base: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "head.toml"
    recipe.write_text(f'base = "{tiny_base}"\ntrained = "head"\nepochs = 1\n')
    out = tmp_path / "run"
    assert finetune.main([str(recipe), "--data", str(corpus), "--out", str(out)]) == 0
    base = load_classifier(out).model.transformer.wte.weight
    from model.checkpoint import load_base

    assert base.equal(load_base(tiny_base).wte.weight)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.toml"], "cannot read the recipe"),
        (["{recipe}", "--data", "absent"], "cannot read the corpus"),
        (["{recipe}", "--data", "{corpus}", "--device", "nonsense"], "device 'nonsense'"),
        (["{recipe}", "--data", "{corpus}", "--base", "absent"], "no checkpoint folder at absent"),
    ],
)
def test_what_cannot_be_done_exits_with_2_and_one_line(
    arguments: list[str],
    message: str,
    corpus: Path,
    recipe: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "run"
    filled = [argument.format(recipe=recipe, corpus=corpus) for argument in arguments]
    assert finetune.main([*filled, "--out", str(out)]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_ctrl_c_keeps_the_best_snapshot_and_says_where(
    corpus: Path, recipe: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "-m", "training.finetune", str(recipe), "--data", str(corpus)]
    process = subprocess.Popen(
        [*command, "--out", str(out), "--epochs", "100000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert process.stdout is not None
    for line in process.stdout:  # the progress bar's own lines go to standard output
        if line.startswith("epoch 1 ends"):
            break
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"saved to {out} (interrupted)" in rest
    Classifier.load(out, "cpu")
    assert json.loads((out / "run.json").read_text())["interrupted"] is True


def test_evaluate_prints_figures_and_refuses_bad_input(
    corpus: Path, save_tiny: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save_tiny()
    assert evaluate.main([str(folder), "--data", str(corpus), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["texts"] == 300
    assert evaluate.main([str(folder), "--data", str(corpus)]) == 0
    assert "| 300 |" in capsys.readouterr().out
    assert evaluate.main(["absent", "--data", str(corpus)]) == 2
    assert "no checkpoint folder" in capsys.readouterr().err


def test_compare_judges_all_systems_on_the_same_texts(
    corpus: Path, recipe: Path, tmp_path: Path
) -> None:
    out = tmp_path / "compare.json"
    arguments = [str(recipe), "--data", str(corpus), "--seeds", "2", "--out", str(out)]
    assert compare.main(arguments) == 0
    report = json.loads(out.read_text())
    assert set(report["runs"]) == {
        "spamgate",
        "TF-IDF + linear SVM",
        "TF-IDF + logistic regression",
    }
    for runs in report["runs"].values():
        assert len(runs) == 2
        assert {run["texts"] for run in runs} == {60}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["book_last_block", "book_all_layers"])
def test_book_recipes_run_on_124m_random_weights(name: str, sms_file: Path, tmp_path: Path) -> None:
    """Real sizes, form, data and recipes; one epoch of the five."""
    config = PUBLISHED_SIZES["gpt2"]
    torch.manual_seed(0)
    model = GPT2LMHeadModel(config)
    init_weights(model, config)
    base = tmp_path / "gpt2"
    base.mkdir()
    save_language_model(base, model)
    out = tmp_path / "run"
    arguments = [str(CONFIGS / f"{name}.toml"), "--data", str(sms_file), "--base", str(base)]
    assert finetune.main([*arguments, "--out", str(out), "--epochs", "1"]) == 0
    checkpoint = load_classifier(out)
    assert checkpoint.read_token == 119
    with torch.no_grad():
        assert checkpoint.model(pack([[1] * 120])).isfinite().all()
