"""The table of n-grams: it counts what it says, alone as in a batch, and is a part of the file."""

import math
import re
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from model import bf16, int8
from model.checkpoint import finalize, load_base, load_classifier, save_classifier
from model.classifier import Classifier
from model.fold import fold_text
from model.folders import CheckpointError
from model.ngrams import KINDS, NgramTable, add_ngrams, network_share
from model.packing import pack
from model.prediction import EncodedText, Prediction
from model.tokenizer import encode
from model.windows import encode_windows
from tests.conftest import AWKWARD_TEXTS, HAM, SPAM, tiny_classifier_model
from tests.tiny_training import TINY_RECIPE, on_base, synthetic_lines
from training import average, finetune, measuring, ngrams, run
from training.calibration import calibrate_head
from training.config import ConfigError, TrainingError, load_config
from training.corpora import Example, read_corpora, read_sms

# So many buckets that no two n-grams of a text share one; they cost nothing, being one number.
NO_COLLISIONS = torch.zeros(1, 1).expand(KINDS, 1 << 28)


def tokens(text: str) -> list[int]:
    return encode(text, 4096)[0]


def random_table() -> NgramTable:
    torch.manual_seed(3)
    return NgramTable(torch.randn(KINDS, 1024))


def expected_counts(text: str) -> tuple[int, int]:
    """Different words and pairs of neighbours, and different stretches of 2 to 5 bytes."""
    data = b" " + text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()
    data = re.sub(rb"\s", b" ", (data + b" ").lower(), flags=re.ASCII)
    words = re.findall(rb"[a-z0-9\x80-\xff]+", data)
    stretches = {data[i : i + n] for n in (2, 3, 4, 5) for i in range(len(data) - n + 1)}
    return len({*words, *pairwise(words)}), len(stretches)


@pytest.mark.parametrize(
    "text", [*AWKWARD_TEXTS, "now won own now", "to be to be", ".", "\n", "ab"]
)
def test_each_word_pair_and_stretch_counts_once(text: str) -> None:
    found = NgramTable(NO_COLLISIONS).find(tokens(text))
    assert tuple(map(len, found)) == expected_counts(text)
    assert [len(set(buckets.tolist())) for buckets in found] == [len(buckets) for buckets in found]


def test_the_verdict_is_the_sum_of_weights_over_the_root_of_their_number() -> None:
    table = random_table()
    for text, read in zip(AWKWARD_TEXTS, table.read(list(map(tokens, AWKWARD_TEXTS))), strict=True):
        parts = [table.weight[kind, found] for kind, found in enumerate(table.find(tokens(text)))]
        by_hand = sum((part.sum() / (len(part) + 20) ** 0.5).item() for part in parts)
        assert read.item() == pytest.approx(by_hand, abs=1e-5)


def test_what_is_read_of_a_text_depends_on_no_other() -> None:
    """In whatever order, alone or beside any number of long and short ones."""
    table = random_table()
    lengths = [0, 1, 7, 255, 256, 257, 700, 3, 300, 256, 5, *[200] * 25, 1, 2000, 9]
    texts = [list(range(100 * n, 100 * n + length)) for n, length in enumerate(lengths)]
    alone = [table.read([text]).item() for text in texts]
    assert table.read(texts).tolist() == alone
    assert table.read(texts[::-1]).tolist() == alone[::-1]
    assert table.read([*texts, texts[3]]).tolist() == [*alone, alone[3]]
    assert table.read([]).tolist() == []
    assert len(set(alone)) > len(alone) - 3


def test_what_speaks_for_ham_counts_no_more_in_a_text_without_end() -> None:
    text = " ".join(str(number) for number in range(10_000, 11_500))
    ham, spam = (NgramTable(torch.full((KINDS, 1 << 20), weight)) for weight in (-1.0, 1.0))
    found = [len(buckets) for buckets in ham.find(tokens(text))]
    assert sum(found) > 8000
    by_hand = sum(number / (number + 20) ** 0.5 for number in found)
    assert spam.read([tokens(text)]).item() == pytest.approx(by_hand, rel=1e-5)
    bounded = -by_hand * (4000 / sum(found)) ** 0.5
    assert ham.read([tokens(text)]).item() == pytest.approx(bounded, rel=1e-5)


def test_the_network_says_less_of_what_its_vocabulary_cuts_small_and_the_table_more() -> None:
    table, texts = random_table(), [tokens(text) for text in AWKWARD_TEXTS]
    logits = torch.randn(len(texts), 2)
    found = (add_ngrams(logits, table, texts) @ torch.tensor([-1.0, 1.0])).tolist()
    for (ham, spam), text, own, log_odds in zip(
        logits.tolist(), texts, table.read(texts).tolist(), found, strict=True
    ):
        known = network_share(text)
        assert log_odds == pytest.approx(known * (spam - ham) + own / known, rel=1e-4)
    assert torch.equal(add_ngrams(logits, None, texts), logits)


def test_what_the_vocabulary_knows_is_counted_by_bytes_a_token() -> None:
    assert network_share(tokens("Shall we meet on Tuesday?")) == 1  # 25 bytes, 6 tokens
    text = tokens("Чекаю на тебе о сьомій") * 50
    num_bytes = 50 * len("Чекаю на тебе о сьомій".encode())
    assert network_share(text) == pytest.approx((num_bytes / 3.5 + 8) / (len(text) + 8))
    assert 0.4 < network_share(text) < 0.6
    assert network_share(tokens("")) == 1  # there is nothing that it does not know
    assert network_share(tokens("7") * 10_000) == pytest.approx(1 / 3.5, abs=1e-3)


def test_case_kinds_of_blanks_and_repetition_say_nothing() -> None:
    texts = (
        "win a prize now win a prize now win",
        "WIN a Prize\nnow\twin a prize now win",
        "win a prize now win a prize now win a prize now win",
        "now prize a win now prize a win now",
    )
    # The order in which the same weights are added up is the text's.
    plain, *others, turned = random_table().read([tokens(text) for text in texts]).tolist()
    assert others == pytest.approx([plain, plain], abs=1e-5)
    assert turned != pytest.approx(plain, abs=1e-3)


def save_with_table(folder: Path, *, storage_dtype: torch.dtype = torch.float32) -> Path:
    model = tiny_classifier_model()
    model.ngrams = random_table()
    folder.mkdir(exist_ok=True)
    save_classifier(folder, model, read_token="last", storage_dtype=storage_dtype)
    return folder


def log_odds(prediction: Prediction) -> float:
    return math.log(prediction.spam_probability / prediction.ham_probability)


def test_of_a_long_text_the_network_reads_windows_and_the_table_all_of_them(tmp_path: Path) -> None:
    classifier = Classifier.load(save_with_table(tmp_path / "both"), "cpu", "float32")
    table = load_classifier(tmp_path / "both").model.ngrams
    assert table is not None
    windowed = encode_windows(f"{HAM} " * 300 + SPAM, classifier.max_tokens, 8)
    alone = [EncodedText(window.token_ids) for window in windowed.windows]
    everything = [token_id for text in alone for token_id in text.token_ids]
    [evidence] = table.read([everything]).tolist()
    assert network_share(everything) == 1
    for own, window, whole in zip(
        table.read([text.token_ids for text in alone]).tolist(),
        classifier.predict(alone),
        classifier.predict(windowed.windows),
        strict=True,
    ):
        assert log_odds(whole) - log_odds(window) == pytest.approx(evidence - own, abs=1e-3)
    assert len(alone) > 2
    [again, single] = table.read([everything, alone[0].token_ids]).tolist()
    assert (again, single) == (evidence, table.read([alone[0].token_ids]).item())


@pytest.mark.parametrize("storage_dtype", [torch.float32, torch.float16])
def test_a_saved_table_is_loaded_and_other_programs_read_the_network(
    tmp_path: Path, storage_dtype: torch.dtype
) -> None:
    folder = save_with_table(tmp_path / "both", storage_dtype=storage_dtype)
    batch = pack([tokens(text) for text in AWKWARD_TEXTS])
    bare = tiny_classifier_model()
    bare_folder = tmp_path / "bare"
    bare_folder.mkdir()
    save_classifier(bare_folder, bare, read_token="last", storage_dtype=storage_dtype)
    bare.ngrams = random_table()
    finalize(bare, storage_dtype)
    loaded = load_classifier(folder)
    with torch.no_grad():
        assert torch.equal(loaded.model(batch), bare(batch))
        assert torch.equal(load_base(folder)(batch), bare.transformer(batch))
    assert loaded.model.ngrams is not None
    assert bare.ngrams is not None
    assert torch.equal(loaded.model.ngrams.weight, bare.ngrams.weight)
    assert torch.equal(loaded.model.ngrams.weight, random_table().weight.to(storage_dtype).float())
    served, alone = (Classifier.load(f, "cpu", "float32") for f in (folder, bare_folder))
    both = [log_odds(prediction) for prediction in served.classify(AWKWARD_TEXTS)]
    network = [log_odds(prediction) for prediction in alone.classify(AWKWARD_TEXTS)]
    read = [tokens(fold_text(text)) for text in AWKWARD_TEXTS]
    says = zip(
        network, loaded.model.ngrams.read(read).tolist(), map(network_share, read), strict=True
    )
    by_hand = [known * own + table / known for own, table, known in says]
    assert both == pytest.approx(by_hand, abs=1e-4)
    assert load_file(folder / "ngrams.safetensors")["weight"].dtype == storage_dtype
    assert loaded.sha256 != load_classifier(bare_folder).sha256
    theirs = transformers.pipeline("text-classification", str(folder), top_k=None, device="cpu")
    for prediction, scores in zip(
        Classifier.load(bare_folder, "cpu").classify([SPAM, HAM]), theirs([SPAM, HAM]), strict=True
    ):
        by_label = {score["label"]: score["score"] for score in scores}
        assert by_label["spam"] == pytest.approx(prediction.spam_probability, abs=1e-5)


def test_a_table_that_is_lost_or_broken_is_told(tmp_path: Path) -> None:
    path = save_with_table(tmp_path / "both") / "ngrams.safetensors"
    for wrong in (
        torch.zeros(KINDS + 1, 8),
        torch.zeros(KINDS, 9),
        torch.zeros(KINDS, 0),
        torch.full((KINDS, 8), torch.nan),
        torch.full((KINDS, 8), 1e300, dtype=torch.float64),
    ):
        save_file({"weight": wrong}, path)
        with pytest.raises(CheckpointError, match="finite weights of shape"):
            load_classifier(path.parent)
    save_file({"weight": torch.zeros(KINDS, 8, dtype=torch.float8_e4m3fn)}, path)
    with pytest.raises(CheckpointError, match=r"weight are torch\.float8_e4m3fn"):
        load_classifier(path.parent)
    path.write_bytes(b"no tensors")
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        load_classifier(path.parent)
    path.unlink()
    with pytest.raises(CheckpointError, match=r"ngrams\.safetensors is missing"):
        load_classifier(path.parent)


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_reduced_number_formats_keep_what_the_table_says(tmp_path: Path, dtype: str) -> None:
    if not (int8 if dtype == "int8" else bf16).is_supported():
        pytest.skip(f"this processor has no {dtype}")
    folder = save_with_table(tmp_path / "both")
    exact, rough = (
        [p.spam_probability for p in Classifier.load(folder, "cpu", d).classify(AWKWARD_TEXTS)]
        for d in ("float32", dtype)
    )
    assert rough == pytest.approx(exact, abs=0.02)


def examples(lines: list[str]) -> list[Example]:
    split = [line.split("\t", 1) for line in lines]
    return [Example(text, int(label == "spam"), "sms") for label, text in split]


def test_a_fitted_table_tells_further_texts_apart() -> None:
    known, new = examples(synthetic_lines(300)[:200]), examples(synthetic_lines(300)[200:])
    once, twice = (ngrams.fit_ngrams(known, factor, seed=0) for factor in (1.0, 2.0))
    texts = [tokens(example.text) for example in new]
    torch.testing.assert_close(twice.read(texts), 2 * once.read(texts))
    is_spam = np.array([example.label for example in new]) == 1
    found = once.read(texts).numpy()
    assert found[is_spam].min() > 0 > found[~is_spam].max()


def test_good_words_are_ham_of_the_same_source_and_the_label_stays() -> None:
    known = [
        Example("win a prize", 1, "sms"),
        Example("see you at home", 0, "sms"),
        Example("dear colleague", 0, "mail"),
        Example("cheap pills", 1, "mail"),
        Example("no ham here", 1, "other"),
    ]
    drawn = [copy for seed in range(20) for copy in ngrams.among_good_words(known, seed)]
    spam = {(copy.source, copy.text) for copy in drawn if copy.label}
    assert spam == {
        ("sms", "win a prize\nsee you at home"),
        ("sms", "see you at home\nwin a prize"),
        ("mail", "cheap pills\ndear colleague"),
        ("mail", "dear colleague\ncheap pills"),
    }
    assert len(drawn) == 20 * 4


def test_only_real_texts_are_read_among_good_words(monkeypatch: pytest.MonkeyPatch) -> None:
    real = examples(synthetic_lines()[:50])
    copied: list[Example] = []

    def copy_nothing(texts: list[Example], seed: int) -> list[Example]:
        copied.extend(texts)
        return []

    monkeypatch.setattr(ngrams, "among_good_words", copy_nothing)
    ngrams.fit_ngrams([*real, Example("made up", 1, "synthetic", training_only=True)], 1.0, seed=0)
    assert copied == [*real, *real]


def test_a_table_learns_to_see_spam_among_good_words(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = synthetic_lines(300)
    known, new = examples(lines[:200]), examples(lines[200:])
    ham = " ".join(example.text for example in new if example.label == 0)
    hidden = [tokens(f"{ham}\n{example.text}") for example in new if example.label == 1]
    aware = ngrams.fit_ngrams(known, 1.0, seed=0).read(hidden)
    monkeypatch.setattr(ngrams, "_WEIGHT_OF_COPY", 1e-9)
    assert aware.mean() > ngrams.fit_ngrams(known, 1.0, seed=0).read(hidden).mean() + 0.1


def test_a_recipe_adds_a_table_and_what_learns_on_with_its_head_keeps_it(
    corpus: Path, recipe: Path, tmp_path: Path
) -> None:
    recipe.write_text(TINY_RECIPE + "ngrams = 0.5\n")
    first = tmp_path / "first"
    assert finetune.main([str(recipe), "--data", str(corpus), "--out", str(first)]) == 0
    model = load_classifier(first).model
    assert model.ngrams is not None
    with_both = run.finetune(load_config(recipe), read_sms(corpus), torch.device("cpu"))
    alone = run.finetune(load_config(recipe, ngrams=0.0), read_sms(corpus), torch.device("cpu"))
    assert alone.model.ngrams is None
    assert torch.equal(alone.model.score.weight, with_both.model.score.weight)
    assert with_both.metrics["validation"].loss != alone.metrics["validation"].loss
    config = load_config(recipe, ngrams=0.0, base=str(first), keep_head=True, epochs=1)
    later = run.finetune(config, read_sms(corpus), torch.device("cpu")).model
    assert later.ngrams is not None
    assert torch.equal(later.ngrams.weight, model.ngrams.weight)
    for wrong in ({"keep_head": True}, {"padding": "longest"}, {"read_token": "mean"}):
        with pytest.raises(ConfigError, match="ngrams goes with"):
            load_config(recipe, base=str(first), **wrong)


def test_a_table_alone_learns_from_files_that_the_network_does_not_read(
    corpus: Path, recipe: Path, tmp_path: Path
) -> None:
    text = "lebar jintu praso"
    path = tmp_path / "others.jsonl"
    lines = (f'{{"label": "spam", "text": "{text} {word}"}}\n' for word in ("uno", "duo", "tri"))
    path.write_text("".join(lines))
    recipe.write_text(TINY_RECIPE + "ngrams = 0.5\n")
    found = []
    for table_only in ((), (str(path),)):
        config = load_config(recipe, table_only=table_only)
        examples = read_corpora([str(corpus)], config).examples
        found.append(run.finetune(config, examples, torch.device("cpu")))
    plain, both = found
    for name, tensor in plain.model.state_dict().items():
        assert torch.equal(tensor, both.model.state_dict()[name]), name
    assert both.splits == plain.splits
    tables = [trained.model.ngrams for trained in found]
    [before], [after] = (table.read([encode(text, 99)[0]]) for table in tables if table is not None)
    assert after > before + 0.1


def test_calibration_and_averages_treat_the_table_as_they_treat_the_head(
    corpus: Path, recipe: Path, tmp_path: Path, tiny_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny_classifier_model()
    model.ngrams = random_table()
    part = [(tokens(text), 1) for text in (SPAM, HAM)]
    config = load_config(recipe, precision="float32")
    before, _ = measuring.predict(model, part, config, torch.device("cpu"))
    calibrate_head(model, 2.0, 0.5)
    after, _ = measuring.predict(model, part, config, torch.device("cpu"))
    torch.testing.assert_close(after, before / 2 + torch.tensor([0.0, 0.5]))
    recipe.write_text(on_base(TINY_RECIPE, tiny_base) + "ngrams = 0.5\n")
    runs = [tmp_path / "one", tmp_path / "other"]
    for seed, out in enumerate(runs):
        flags = ["--data", str(corpus), "--seed", str(seed), "--epochs", "1", "--out", str(out)]
        assert finetune.main([str(recipe), *flags]) == 0
    flags = ["--data", str(corpus), "--out", str(tmp_path / "mean")]
    assert average.main([*map(str, runs), *flags]) == 0
    tables = [load_classifier(folder).model.ngrams for folder in (*runs, tmp_path / "mean")]
    assert all(table is not None for table in tables)
    weights = [table.weight for table in tables if table is not None]
    torch.testing.assert_close((weights[0] + weights[1]) / 2, weights[2])
    recipe.write_text(on_base(TINY_RECIPE, tiny_base))
    shutil.rmtree(runs[1])
    plain = ["--data", str(corpus), "--seed", "1", "--epochs", "1", "--out", str(runs[1])]
    assert finetune.main([str(recipe), *plain]) == 0
    flags = ["--data", str(corpus), "--out", str(tmp_path / "none")]
    assert average.main([*map(str, runs), *flags]) == 2
    assert "other has a table of 0 n-grams, one one of 262,144" in capsys.readouterr().err


def test_too_many_texts_for_a_table_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ngrams, "_MOST_ENTRIES", 20)
    texts = [Example("a few words of ham", 0, "sms"), Example("and of spam", 1, "sms")]
    with pytest.raises(TrainingError, match="texts hold more n-grams than a table can be fitted"):
        ngrams.fit_ngrams(texts, 0.5, 0)
