"""What a teacher sees at tokens: aligned, reduced, kept, found again, and learnt in pretraining."""

import copy
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from model.folders import CheckpointError
from model.packing import pack
from model.tokenizer import ENDOFTEXT, encode, token_bytes
from tests.tiny_training import synthetic_lines
from training import features, pretrain, teacher
from training.config import TrainingError
from training.corpora import Source
from training.documents import TextSplit, Window, read_sources, windows
from training.documents import batches as pretrain_batches
from training.features import Lessons, Reduction, every_window, look, save_lessons
from training.pretrain_config import PretrainConfig
from training.pretrain_loop import Pretrainer
from training.teacher import TokenStates, token_states

CPU = torch.device("cpu")
TEXTS = ("win a prize", "see you at home", "naïve 😀 ", "")
WINDOWS = [window for text in TEXTS for window in windows(text, 64)]

TINY_RECIPE = """
n_layer = 1
n_head = 2
n_embd = 16
n_positions = 64
steps = 6
batch_tokens = 128
eval_every = 3
precision = "float32"
distillation = 0.5
"""


class Letters:
    """A tokenizer of the teacher's interface that takes two letters at a time."""

    def __call__(self, text: str, **_: bool) -> dict[str, Any]:
        cuts = [(start, min(start + 2, len(text))) for start in range(0, len(text), 2)]
        ids = [1 + sum(map(ord, text[start:end])) % 48 for start, end in cuts]
        return {"input_ids": ids, "offset_mapping": cuts}


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A random network of the teacher's kind in its place."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2}
    config = transformers.LlamaConfig(vocab_size=50, num_hidden_layers=18, **sizes)
    language_model = transformers.LlamaForCausalLM(config).eval()
    torch.nn.init.uniform_(language_model.model.norm.weight, 0.2, 5.0)  # what is not seen
    whole = copy.deepcopy(language_model.model)
    monkeypatch.setattr(teacher, "teacher_folder", lambda: Path("."))
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda *_, **__: Letters())
    monkeypatch.setattr(
        transformers.AutoModelForCausalLM, "from_pretrained", lambda *_, **__: language_model
    )
    return whole


def test_token_states_stand_where_tokens_of_both_end(network: Any) -> None:
    found = dict(token_states(WINDOWS))
    assert sorted(found) == list(range(len(WINDOWS)))
    # "see", " you", " at", " home" end at 3, 7, 10, 15; pairs of letters at 2, 4, ... 14, 15.
    assert encode(TEXTS[1], 9)[0] == WINDOWS[1][1:-1]
    assert found[1].places.tolist() == [3, 4]
    tokens = torch.tensor([[0, *Letters()(TEXTS[1])["input_ids"]]])
    hidden = network(tokens, output_hidden_states=True).hidden_states
    states = torch.stack([hidden[layer][0, [5, 8]] for layer in (8, 16)], 1)
    expected = (states / states.square().mean(-1, keepdim=True).sqrt()).flatten(1)
    np.testing.assert_allclose(found[1].states, expected.detach().numpy(), atol=2e-3)


def test_characters_of_several_bytes_and_empty_texts_are_aligned(network: Any) -> None:
    found = dict(token_states(WINDOWS))
    tokens = [token_bytes(token) for token in WINDOWS[2]]
    ends = [b"".join(tokens[1 : place + 1]).decode() for place in found[2].places]
    assert all(len(text) % 2 == 0 for text in ends)
    assert TEXTS[2] in ends
    assert found[3].places.tolist() == []
    face = encode("😀", 9)[0]
    cut = [*face[-1:], *encode("win!", 9)[0], *face[:-1], 0]  # the window cuts two characters
    assert [token_bytes(token) for token in cut[1:3]] == [b"win", b"!"]
    assert dict(token_states([cut]))[0].places.tolist() == [2]


def test_the_token_that_is_only_guessed_is_not_seen(network: Any) -> None:
    """A window of n guesses has n rows in a batch: one more would be the next window's."""
    cut = [ENDOFTEXT, *encode("see you at home", 9)[0]]
    assert dict(token_states([cut]))[0].places.tolist() == [3]


def test_tokens_beyond_the_most_are_not_seen(network: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher, "MOST_TOKENS", 4)  # ENDOFTEXT, "see", " you", " at"
    assert dict(token_states([WINDOWS[1]]))[0].places.tolist() == [3]


def test_texts_are_batched_once_each_and_few_tokens_at_a_time() -> None:
    lengths = [5, 4096, 1, 300, 2, 299] * 7
    batches = list(teacher._batches(lengths))
    assert sorted(n for batch in batches for n in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) * max(lengths[n] for n in batch) <= 4096


def test_without_the_teacher_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(teacher, "find_spec", lambda name: None)
    with pytest.raises(TrainingError, match="scripts/build-starter"):
        next(token_states([[ENDOFTEXT, 1]]))


def test_the_reduction_is_to_principal_components_of_standardized_columns() -> None:
    rng = np.random.default_rng(0)
    states = (rng.normal(size=(50, 4)) @ rng.normal(size=(4, 9)) + 3).astype(np.float32)
    states[:, 8] = 7  # a column that never changes says nothing, and divides by nothing
    reduced = Reduction.of(states, 3)(states.astype(np.float16)).astype(np.float32)
    expected = PCA(3).fit_transform(StandardScaler().fit_transform(states))
    expected /= np.sqrt(expected.var(0).mean())
    np.testing.assert_allclose(np.abs(reduced), np.abs(expected), atol=2e-2)
    assert reduced.var(0).mean() == pytest.approx(1, abs=1e-2)
    lost = Reduction.of(states, 3)(np.full((1, 9), 6e4, np.float16))
    assert np.abs(lost).max() < 60  # one huge column is clipped


def test_lessons_come_back_for_each_window(tmp_path: Path) -> None:
    path = tmp_path / "lessons.safetensors"
    seen = [
        (np.arange(n, dtype=np.int16), np.full((n, 2), n, np.float16)) for n in range(len(WINDOWS))
    ]
    save_lessons(path, WINDOWS, seen, 3)
    lessons = Lessons(path)
    assert lessons.components == 2
    for number in (3, 0, 2):
        places, found = lessons.of(WINDOWS[number])
        assert places.tolist() == list(range(number))
        assert found.tolist() == [[number, number]] * number
    with pytest.raises(TrainingError, match="made from other texts"):
        lessons.of([ENDOFTEXT, 1, 2])
    assert [place.name for place in tmp_path.iterdir()] == [path.name]


def test_lessons_to_learn_from_are_drawn_whole_each_once_before_any_again(tmp_path: Path) -> None:
    path = tmp_path / "lessons.safetensors"
    seen = [(np.array([0], np.int16), np.full((1, 2), n, np.float16)) for n in range(len(WINDOWS))]
    save_lessons(path, WINDOWS, seen, 3)
    batches = Lessons(path).batches(1, seed=0)
    for _ in range(4):
        with torch.autocast("cpu", torch.bfloat16):  # as the training loop asks for them
            drawn = [next(batches) for _ in range(3)]
        assert sorted(int(lesson.features[0, 0]) for lesson in drawn) == [0, 1, 2]
        for lesson in drawn:
            own = WINDOWS[int(lesson.features[0, 0])]
            assert lesson.batch.input_ids.tolist() == own[:-1]
    every = sum(len(window) - 1 for window in WINDOWS[:3])
    both = next(Lessons(path).batches(every, seed=0))
    first, second, _ = both.batch.lengths
    assert both.rows.tolist() == [0, first, first + second]


def test_lessons_that_are_not_written_whole_take_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_half(tensors: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise CheckpointError("the disk is full")

    monkeypatch.setattr(features, "write_tensors", write_half)
    path = tmp_path / "lessons.safetensors"
    with pytest.raises(CheckpointError):
        save_lessons(path, WINDOWS[:1], [(np.zeros(1, np.int16), np.zeros((1, 2), np.float16))], 1)
    assert not path.exists()


def test_a_file_that_holds_no_lessons_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "lessons.safetensors"
    path.write_bytes(b"no tensors")
    for place in (path, tmp_path / "none"):
        with pytest.raises(TrainingError, match=r"no file of training\.features"):
            Lessons(place)


def test_every_window_is_looked_at_once_and_kept_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(features, "_SAMPLED_WINDOWS", 2)
    monkeypatch.setattr(features, "token_states", fake_states)
    texts = TextSplit(WINDOWS[:2] * 2, {"test": WINDOWS[1:]})
    every = every_window(texts)
    assert every == WINDOWS
    done: list[None] = []
    seen = look(every, 0, lambda: done.append(None))
    assert len(done) == len(WINDOWS)
    assert [own[0].tolist() for own in seen] == [list(range(len(w) - 1)) for w in WINDOWS]


def fake_states(texts: Sequence[Window]) -> Iterator[tuple[int, TokenStates]]:
    """States that are the tokens' own numbers, and noise of each place."""
    rng = np.random.default_rng(0)
    for number, window in reversed(list(enumerate(texts))):
        states = rng.normal(size=(len(window) - 1, 4))
        states[:, 0] = np.array(window[:-1]) / 5000
        places: NDArray[np.int16] = np.arange(len(window) - 1, dtype=np.int16)
        yield number, TokenStates(places, states.astype(np.float16))


def lessons_of(texts: TextSplit, path: Path, seen: float = 1.0) -> Lessons:
    every = every_window(texts)
    rows = [np.array([[window[0] % 7, seen]] * (len(window) - 1), np.float16) for window in every]
    places = [np.arange(len(own), dtype=np.int16) for own in rows]
    save_lessons(path, every, list(zip(places, rows, strict=True)), len(every))
    return Lessons(path)


def test_the_loss_is_the_mean_square_at_the_tokens_the_teacher_saw(tmp_path: Path) -> None:
    texts = TextSplit(WINDOWS, {"test": WINDOWS[:1]})
    path = tmp_path / "lessons.safetensors"
    seen = [(np.array([1], np.int16), np.full((1, 2), 3, np.float16)) for _ in WINDOWS]
    save_lessons(path, WINDOWS, seen, len(WINDOWS))
    config = PretrainConfig(n_layer=1, n_head=1, n_embd=8, n_positions=64, precision="float32")
    trainer = Pretrainer(config, texts, CPU, Lessons(path))
    assert trainer.pupil
    hidden = trainer.model.transformer(pack([window[:-1] for window in WINDOWS[:2]]))
    rows = [1, len(WINDOWS[0]) - 1 + 1]
    expected = F.mse_loss(trainer.pupil(hidden[rows]), torch.full((2, 2), 3.0))
    assert trainer.lessons_loss(hidden, WINDOWS[:2]).item() == pytest.approx(expected.item())


def test_a_batch_in_which_the_teacher_saw_nothing_changes_no_figure(tmp_path: Path) -> None:
    path = tmp_path / "lessons.safetensors"
    nothing = (np.zeros(0, np.int16), np.zeros((0, 2), np.float16))
    seen = [(np.array([1], np.int16), np.ones((1, 2), np.float16))] * 3 + [nothing]
    save_lessons(path, WINDOWS, seen, 3)
    sizes = {"n_layer": 1, "n_head": 1, "n_embd": 8, "n_positions": 8, "batch_tokens": 8}
    config = PretrainConfig.model_validate({**sizes, "precision": "float32", "distillation": 1.0})
    unlearnt = []
    for held_back in (WINDOWS[:1], [WINDOWS[0], WINDOWS[3]]):  # of two batches, the second empty
        trainer = Pretrainer(config, TextSplit(WINDOWS, {"test": held_back}), CPU, Lessons(path))
        unlearnt.append(trainer.held_back_lessons())
    assert unlearnt[0] == unlearnt[1]
    assert np.isfinite(trainer.step(WINDOWS[3:]))


def test_a_distilling_run_learns_and_resumes_with_its_pupil(tmp_path: Path) -> None:
    texts = TextSplit(WINDOWS[:3] * 4, {"test": WINDOWS[1:2]})
    lessons = lessons_of(texts, tmp_path / "lessons.safetensors")
    config = PretrainConfig(
        n_layer=1,
        n_head=1,
        n_embd=8,
        n_positions=64,
        steps=40,
        batch_tokens=64,
        learning_rate=2e-2,
        distillation=5.0,
        precision="float32",
    )
    straight = Pretrainer(config, texts, CPU, lessons)
    before = straight.held_back_lessons()
    halfway = Pretrainer(config, texts, CPU, lessons)
    for number, batch in enumerate(features_batches(config, texts)):
        straight.step(batch)
        if number < 20:
            halfway.step(batch)
    after = straight.held_back_lessons()
    assert before is not None
    assert after is not None
    assert after < before / 4
    halfway.save(tmp_path / "half")
    resumed = Pretrainer(config, texts, CPU, lessons)
    resumed.restore(tmp_path / "half")
    for number, batch in enumerate(features_batches(config, texts)):
        if number >= 20:
            resumed.step(batch)
    assert resumed.held_back_lessons() == pytest.approx(after, rel=1e-4)
    every = every_window(texts)
    path = tmp_path / "fewer.safetensors"
    save_lessons(
        path, every, [(np.array([0], np.int16), np.ones((1, 1), np.float16))] * len(every), 1
    )
    like_it = lessons_of(texts, tmp_path / "other.safetensors", seen=2.0)
    for other in (Lessons(path), like_it):
        with pytest.raises(CheckpointError, match="from another --teacher"):
            Pretrainer(config, texts, CPU, other).restore(tmp_path / "half")
    (tmp_path / "half" / "state.json").write_bytes(b"\xff")
    with pytest.raises(CheckpointError, match="is not JSON"):
        resumed.restore(tmp_path / "half")


def features_batches(config: PretrainConfig, texts: TextSplit) -> list[list[Window]]:
    batches = pretrain_batches(texts.train, config.batch_tokens, config.seed)
    return [next(batches) for _ in range(config.steps)]


def test_features_command_and_a_pretraining_that_distils(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus, recipe = tmp_path / "SMSSpamCollection", tmp_path / "tiny.toml"
    corpus.write_text("\n".join(synthetic_lines(120)) + "\n")
    recipe.write_text(TINY_RECIPE)
    monkeypatch.setattr(features, "token_states", fake_states)
    path, out = tmp_path / "new" / "teacher.safetensors", tmp_path / "base"
    data = ["--data", f"sms={corpus}"] * 2  # each text twice
    assert features.main([str(recipe), *data, "--out", str(path)]) == 0
    assert features.main([str(recipe), *data, "--out", str(path)]) == 2
    assert "exists already" in capsys.readouterr().err
    texts = read_sources([Source("sms", corpus)], PretrainConfig().split_seed, 64)
    learnt = {tuple(window[:-1]) for window in texts.train}
    lessons = Lessons(path).batches(1, seed=0)
    drawn = [next(lessons).batch.input_ids.tolist() for _ in range(2 * len(learnt))]
    assert set(map(tuple, drawn)) == learnt  # nothing that is held back

    command = [str(recipe), *data, "--out", str(out)]
    # Told before the texts are read.
    assert pretrain.main([str(recipe), "--data", "sms=absent", "--out", str(out)]) == 2
    assert "give --teacher" in capsys.readouterr().err
    plain = tmp_path / "plain.toml"
    plain.write_text(TINY_RECIPE.replace("distillation = 0.5", ""))
    assert pretrain.main([str(plain), *command[1:], "--teacher", str(path)]) == 2
    assert "leave --teacher out" in capsys.readouterr().err
    assert pretrain.main([*command, "--teacher", str(path)]) == 0
    assert "left unlearnt" in capsys.readouterr().out
    record = json.loads((out / "run.json").read_text())
    assert 0 < record["held_back_variance_unlearnt"] < 3
