"""What a teacher saw: reduced, kept, found again, and learnt beside the verdict."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from tests.conftest import tiny_classifier_model
from tests.tiny_training import TINY_RECIPE
from training import features, finetune, teacher
from training.config import TrainConfig, TrainingError, load_config
from training.corpora import Example, read_sms
from training.data import make_loader, split_examples
from training.features import read_features, reduce, save_features
from training.loop import _Trainer, train

CPU = torch.device("cpu")
TEXTS = ("win a prize", "see you at home", "lone surrogate \ud800")


def test_reduced_features_are_the_principal_components_of_standardized_columns() -> None:
    rng = np.random.default_rng(0)
    states = (rng.normal(size=(50, 4)) @ rng.normal(size=(4, 9)) + 3).astype(np.float32)
    states[:, 8] = 7  # a column that never changes says nothing, and divides by nothing
    reduced = reduce(states, 3)
    expected = PCA(3).fit_transform(StandardScaler().fit_transform(states))
    expected /= expected.std(0)
    np.testing.assert_allclose(np.abs(reduced), np.abs(expected), atol=1e-3)


def test_features_come_back_in_the_order_of_the_texts(tmp_path: Path) -> None:
    path = tmp_path / "features.safetensors"
    save_features(path, TEXTS, np.arange(6, dtype=np.float32).reshape(3, 2))
    examples = [Example(TEXTS[number], 0, "test") for number in (2, 0)]
    assert read_features(path, examples).tolist() == [[4, 5], [0, 1]]
    assert [place.name for place in tmp_path.iterdir()] == ["features.safetensors"]


def test_other_texts_other_files_and_none_are_clear_errors(tmp_path: Path) -> None:
    path = tmp_path / "features.safetensors"
    save_features(path, TEXTS, np.zeros((3, 2), np.float32))
    with pytest.raises(TrainingError, match="made from other texts"):
        read_features(path, [Example("never seen", 0, "test")])
    path.write_bytes(b"no tensors")
    for place in (path, tmp_path / "none"):
        with pytest.raises(TrainingError, match=r"no file of training\.features"):
            read_features(place, [])


def test_the_teachers_part_of_the_loss_is_the_mean_square_at_the_last_tokens() -> None:
    model = tiny_classifier_model(head_bias=True)
    examples = [([1, 2, 3], 1), ([4, 5], 0)]
    lessons = torch.randn(2, 5)
    loader = make_loader(examples, 2, lessons=lessons)
    pupil = torch.nn.Linear(model.config.n_embd, 5)
    losses = []
    for weight in (0.0, 0.25):
        config = TrainConfig(
            trained="all", prefix_loss=0.5, distillation=weight, batch_size=2, precision="float32"
        )
        trainer = _Trainer(model, loader, loader, config, CPU, pupil=pupil)
        batch = next(iter(loader))
        losses.append(trainer.training_loss(batch).item())
    states = model.transformer(batch.packed)[[2, 4]]
    expected = 0.25 * F.mse_loss(pupil(states), lessons).item()
    assert losses[1] - losses[0] == pytest.approx(expected, abs=1e-5)


def test_the_pupil_learns_with_the_model() -> None:
    model = tiny_classifier_model(head_bias=True)
    examples = [([n, n + 1, n + 2], n % 2) for n in range(1, 17)]
    lessons = torch.tensor([[float(label), -1.0] for _, label in examples])
    loader = make_loader(examples, 4, training=True, lessons=lessons)
    pupil = torch.nn.Linear(model.config.n_embd, 2)
    config = TrainConfig(
        trained="all",
        prefix_loss=0.5,
        distillation=1.0,
        batch_size=4,
        epochs=60,
        eval_every=100,
        learning_rate=1e-2,
        precision="float32",
    )
    train(model, loader, make_loader(examples, 4), config, CPU, pupil=pupil)
    batch = next(iter(make_loader(examples, 16, lessons=lessons)))
    states = model.transformer(batch.packed)[batch.packed.last_rows]
    assert F.mse_loss(pupil(states), lessons).item() < 0.1


def test_features_command_and_a_run_that_distils(
    corpus: Path,
    recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The teacher is asked for the training part alone; the run says what it learnt from."""
    recipe.write_text(TINY_RECIPE + "prefix_loss = 0.5\ndistillation = 0.5\n")
    asked: list[str] = []

    def pooled_states(texts: list[str], progress: object) -> object:
        asked.extend(texts)
        return np.random.default_rng(0).normal(size=(len(texts), 6)).astype(np.float32)

    monkeypatch.setattr(features, "pooled_states", pooled_states)
    path, out = tmp_path / "teacher.safetensors", tmp_path / "run"
    data = ["--data", str(corpus)]
    assert features.main([str(recipe), *data, "--out", str(path)]) == 0
    splits = split_examples(read_sms(corpus), load_config(recipe))
    assert asked == [example.text for example in splits.train]
    assert features.main([str(recipe), *data, "--out", str(path)]) == 2
    assert "exists already" in capsys.readouterr().err

    command = [str(recipe), *data, "--out", str(out)]
    assert finetune.main(command) == 2
    assert "give --teacher" in capsys.readouterr().err
    assert finetune.main([*command, "--teacher", str(path)]) == 0
    assert '"teacher.safetensors": ' in (out / "run.json").read_text()


def test_without_the_teacher_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(teacher, "find_spec", lambda name: None)
    with pytest.raises(TrainingError, match="scripts/build-starter"):
        teacher.pooled_states(["a text"])


def test_texts_are_batched_once_each_and_few_tokens_at_a_time() -> None:
    lengths = [5, 4096, 1, 300, 2, 299] * 7
    batches = list(teacher._batches(lengths))
    assert sorted(n for batch in batches for n in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) * max(lengths[n] for n in batch) <= 4096


def test_pooled_states_are_means_over_real_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a random network of the teacher's kind: padding beside other texts changes nothing."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2}
    config = transformers.LlamaConfig(vocab_size=50, num_hidden_layers=26, **sizes)
    language_model = transformers.LlamaForCausalLM(config)
    network = copy.deepcopy(language_model.model)

    class Tokenizer:
        def encode(self, text: str) -> list[int]:
            return [ord(letter) % 50 for letter in text]

    monkeypatch.setattr(teacher, "teacher_folder", lambda: Path("."))
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda *_, **__: Tokenizer())
    monkeypatch.setattr(
        transformers.AutoModelForCausalLM, "from_pretrained", lambda *_, **__: language_model
    )
    texts = ["short", "a longer text of letters", "", "short"]
    found = teacher.pooled_states(texts)
    tokens = torch.tensor([Tokenizer().encode(texts[1])])
    hidden = network(tokens, output_hidden_states=True).hidden_states
    expected = torch.cat([hidden[layer].mean(1) for layer in (8, 16, 24)], -1)[0]
    np.testing.assert_allclose(found[1], expected.detach().numpy(), atol=1e-5)
    np.testing.assert_allclose(found[0], found[3], atol=1e-6)
    assert np.isfinite(found).all()
