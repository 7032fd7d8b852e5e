"""The benchmark of disguises and good words counts what it says."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from benchmarks import disguises, robustness
from benchmarks.disguises import FOLDED, UNFOLDED
from benchmarks.robustness import compare, measure, windows_on_ham
from model.classifier import Classifier
from model.fold import fold_text
from model.windows import MAX_WINDOWS
from tests.conftest import HAM, SPAM
from training.config import TrainConfig
from training.corpora import read_sms, sha256_of
from training.data import split_examples
from training.evaluate import spam_probabilities


@pytest.mark.parametrize("name", FOLDED)
def test_folded_disguises_are_undone(name: str) -> None:
    text = "Claim your prize now and take it home"
    assert fold_text(FOLDED[name](text)) == text


@pytest.mark.parametrize("name", UNFOLDED)
def test_other_disguises_change_what_is_read(name: str) -> None:
    """In part: of three letters or four digits it may be a code, a name in capitals is no name."""
    text = f"{SPAM} Wichai (lad) 1,000 2003 2003 a.co.uk a.co.uk psn,x psn,x"
    assert fold_text(UNFOLDED[name](text)) != fold_text(text)


def test_shares_are_of_turned_verdicts() -> None:
    found = compare([0.9, 0.7, 0.4, 0.1], [0.9, 0.4, 0.6, 0.7], cutoff=0.65)
    assert found == {
        "turned": 0.75,
        "turned_at_cutoff": 0.5,
        "evaded": 0.25,
        "evaded_at_cutoff": 0.25,
        "caught": 0.75,
    }


def test_good_words_defeat_a_reader_of_shares_and_disguises_one_of_words() -> None:
    def read(texts: Sequence[str]) -> list[float]:
        return [text.split().count("prize") / len(text.split()) for text in texts]

    turned = measure(read, ["prize prize prize"], [HAM] * 200, cutoff=0.3)["turned"]
    assert turned["50 good words in front"]["turned"] == 1
    assert turned["2000 good words behind"]["caught"] == 0
    assert turned["lower case"]["turned"] == 0
    assert turned["leet"]["turned_at_cutoff"] == 0
    assert turned["upper case"]["turned"] == 1


def test_each_text_gets_good_words_of_its_own() -> None:
    read: list[Sequence[str]] = []

    def remember(texts: Sequence[str]) -> list[float]:
        read.append(texts)
        return [0.0] * len(texts)

    ham = [f"word{number}" for number in range(500)]
    measure(remember, ["prize"] * 9, ham, cutoff=0.5)
    front = [texts for texts in read if "word" in texts[0] and texts[0].endswith("prize")]
    assert all(len(set(texts)) > 6 for texts in front)
    # 500 are all there are: the first stands behind the last.
    assert [len(texts[0].split()) - 1 for texts in front] == [50, 200, 500, 2000]


def test_texts_are_read_as_the_service_reads_them(save_tiny: Callable[..., Path]) -> None:
    classifier = Classifier.load(save_tiny(), "cpu")
    short = [SPAM, HAM, "", "\u200bH\u0435llo"]
    expected = [prediction.spam_probability for prediction in classifier.classify(short)]
    assert spam_probabilities(classifier, short) == pytest.approx(expected, abs=1e-5)
    long = [f"{HAM} " * 100 + SPAM, f"{SPAM} " * 200]
    alone = spam_probabilities(classifier, long, max_windows=1)
    windowed = spam_probabilities(classifier, long)
    odds = [[p / (1 - p) for p in found] for found in (alone, windowed)]
    assert all(new >= old / MAX_WINDOWS - 1e-6 for old, new in zip(*odds, strict=True))
    assert alone != pytest.approx(windowed, abs=1e-3)
    costs = windows_on_ham(classifier, long, cutoff=0.0)
    for name, found in (("beginning alone", alone), ("with windows", windowed)):
        assert costs[name]["blocked"] == sum(p > 0.5 for p in found) / 2
        assert costs[name]["blocked_at_cutoff"] == 1


def test_spam_is_disguised_and_ham_read_in_windows_at_the_checkpoints_own_cutoff(
    save_tiny: Callable[..., Path],
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, out = save_tiny(), tmp_path / "robustness.json"
    cutoffs = {"ham_below": 0.3, "spam_from": 0.65}
    known = {"recipe": {}, "data_sha256": {corpus.name: sha256_of(corpus)}, "cutoffs": cutoffs}
    (folder / "run.json").write_text(json.dumps(known))

    def prizes(_: Classifier, texts: Sequence[str], max_windows: int = 0) -> list[float]:
        """Ham seems the likelier spam the further it is said to be read."""
        ham = {1: 0.5, MAX_WINDOWS: 0.66}.get(max_windows, 0.1)
        return [0.7 if "prize" in text else ham for text in texts]

    monkeypatch.setattr(robustness, "spam_probabilities", prizes)
    assert robustness.main([str(folder), "--data", f"sms={corpus}", "--out", str(out)]) == 0
    result = json.loads(out.read_text())
    found = result["corpora"]["sms"]
    assert result["cutoff"] == 0.65
    assert (found["caught"], found["caught_at_cutoff"]) == (1, 1)
    assert found["turned"]["50 good words in front"]["caught"] == 1
    assert found["turned"]["upper case"]["turned_at_cutoff"] == 1
    assert found["windows"]["beginning alone"] == {"blocked": 0, "blocked_at_cutoff": 0}
    assert found["windows"]["with windows"] == {"blocked": 1, "blocked_at_cutoff": 1}


def test_what_was_asked_is_written_down_without_this_machines_folders(
    save_tiny: Callable[..., Path], corpus: Path, tmp_path: Path
) -> None:
    folder, out = save_tiny(), tmp_path / "robustness.json"
    known = {"recipe": {}, "data_sha256": {corpus.name: sha256_of(corpus)}}
    (folder / "run.json").write_text(json.dumps(known))
    asked = [str(folder), "--data", f"sms={corpus}", "--most", "1", "--out", str(out)]
    assert robustness.main(asked) == 0
    result = json.loads(out.read_text())
    test = split_examples(read_sms(corpus), TrainConfig()).test
    found = result["corpora"]["sms"]
    assert found["spam"] == 1
    assert found["windows"]["ham"] == sum(example.label == 0 for example in test)
    command = result["command"]
    assert command.endswith("robustness tiny --most 1 --data sms=SMSSpamCollection")


def test_missing_texts_and_recipes_of_other_versions_end_in_one_line(
    save_tiny: Callable[..., Path], corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert disguises.main(["absent"]) == 2
    assert "cannot read the corpus absent" in capsys.readouterr().err
    folder = save_tiny()
    (folder / "run.json").write_text(json.dumps({"recipe": {}, "data_sha256": {"sms": "00"}}))
    assert robustness.main([str(folder), "--data", str(corpus)]) == 2
    assert "was made from sms (SHA-256 00…); given: SMSSpam" in capsys.readouterr().err
    (folder / "run.json").write_text(json.dumps({"recipe": {"of_old": 1}}))
    assert robustness.main([str(folder), "--data", str(corpus)]) == 2
    assert "recipe.of_old: Extra inputs" in capsys.readouterr().err
