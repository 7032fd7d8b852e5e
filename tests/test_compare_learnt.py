"""What a checkpoint or its base has learnt from is nothing to judge it by."""

import json
from pathlib import Path

import pytest

from training import average, compare, finetune
from training.corpora import Corpus, sha256_of


def test_a_checkpoint_that_has_learnt_from_the_test_part_is_refused(
    corpus: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, other, more = tmp_path / "run", tmp_path / "other.toml", tmp_path / "more"
    flags = ["--data", str(corpus), "--epochs", "1", "--out", str(run)]
    assert finetune.main([str(recipe), *flags]) == 0
    other.write_text(recipe.read_text() + "split_seed = 9\n")
    arguments = [str(other), "--checkpoint", str(run), "--data"]
    assert compare.main([*arguments, str(corpus)]) == 2
    assert "run was trained with split_seed = 123 on texts that" in capsys.readouterr().err
    more.write_text(corpus.read_text() + "ham\tone more\n")  # which nobody says that it has read
    assert compare.main([*arguments, str(more)]) == 0


@pytest.fixture
def learnt(corpus: Path, recipe: Path, tmp_path: Path) -> Path:
    """A classifier that the recipe made of the corpus."""
    run = tmp_path / "learnt"
    assert (
        finetune.main([str(recipe), "--data", str(corpus), "--epochs", "1", "--out", str(run)]) == 0
    )
    return run


def started_from(base: Path, recipe: Path, extra: str = "") -> Path:
    """The recipe of a second training, which starts from what a first one made."""
    path = recipe.with_name("second.toml")
    path.write_text(recipe.read_text().replace('"random"', f'"{base}"\nmax_tokens = 512') + extra)
    return path


def test_a_base_that_has_learnt_from_the_test_part_is_refused(
    corpus: Path,
    recipe: Path,
    learnt: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = ["--data", str(corpus)]
    monkeypatch.setattr(compare, "compare", lambda *_: {})
    assert compare.main([str(started_from(learnt, recipe)), *data]) == 0
    assert compare.main([str(started_from(learnt, recipe, "split_seed = 9\n")), *data]) == 2
    assert "learnt was trained with split_seed = 123 on texts that" in capsys.readouterr().err
    drawn_anew = started_from(learnt, recipe, "split_seed = 9\nrandom_weights = true\n")
    assert compare.main([str(drawn_anew), *data]) == 0


def test_foreign_texts_that_a_checkpoint_or_a_base_has_learnt_are_refused(
    corpus: Path, recipe: Path, learnt: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["--data", str(corpus)]
    comments, mails = tmp_path / "comments.jsonl", tmp_path / "mails"
    rows = [{"label": label, "text": f"some {label} to read"} for label in ("ham", "spam")]
    comments.write_text("\n".join(map(json.dumps, rows)))
    for row in rows:
        (mails / row["label"]).mkdir(parents=True)
        (mails / row["label"] / "1.txt").write_text(f"Subject: mail\n\n{row['text']}\n")
    facts = json.loads((learnt / "run.json").read_text())
    read = {place.name: sha256_of(place) for place in (comments, mails)}
    more = facts | {"data_sha256": facts["data_sha256"] | read}
    (learnt / "run.json").write_text(json.dumps(more))
    judged = [str(recipe), *data, "--checkpoint", str(learnt)]
    trained = [str(started_from(learnt, recipe)), *data, "--seeds", "1"]
    for arguments in (judged, trained):
        for place in (f"jsonl={comments}", f"mail={mails}"):
            assert compare.main([*arguments, "--foreign", place]) == 2
            message = f"learnt was trained on {place.partition('=')[2]}, which so is not foreign"
            assert message in capsys.readouterr().err
    assert compare.main(judged) == 2
    assert "; given: SMSSpamCollection" in capsys.readouterr().err
    (learnt / "run.json").write_text(json.dumps(facts))
    assert compare.main([*judged, "--foreign", f"jsonl={comments}"]) == 0


def test_a_run_tells_what_its_base_has_learnt_and_so_does_an_average(
    corpus: Path, recipe: Path, learnt: Path, tmp_path: Path
) -> None:
    second = str(started_from(learnt, recipe))
    runs = [str(tmp_path / name) for name in ("one", "two")]
    for run in runs:
        flags = ["--data", str(corpus), "--epochs", "1", "--out", run]
        assert finetune.main([second, *flags]) == 0
    mean = str(tmp_path / "mean")
    assert average.main([*runs, "--data", str(corpus), "--out", mean]) == 0
    before, one, _, of_both = (
        json.loads((Path(run) / "run.json").read_text()) for run in (str(learnt), *runs, mean)
    )
    for run in runs:
        told = json.loads((Path(run) / "run.json").read_text())["base_run"]
        assert told == {key: before[key] for key in ("recipe", "data_sha256", "base_run")}
    ancestors = [{key: own[key] for key in ("recipe", "data_sha256")} for own in (one, before)]
    assert of_both["base_run"] == ancestors[0] | {"base_run": ancestors[1]}


def test_what_has_learnt_labels_is_no_base_to_leave_them_out_of(
    corpus: Path,
    recipe: Path,
    learnt: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = ["--data", str(corpus)]
    monkeypatch.setattr(compare, "leave_out", lambda *_: {})
    assert compare.main([str(started_from(learnt, recipe)), *data, "--leave-out"]) == 2
    assert "learnt is a classifier, which may have learnt the labels" in capsys.readouterr().err
    (learnt / "run.json").unlink()
    kept = started_from(learnt, recipe, "keep_head = true\n")
    assert compare.main([str(kept), *data, "--leave-out"]) == 2
    assert "learnt is a classifier, which may have learnt the labels" in capsys.readouterr().err


def test_the_base_that_ships_is_one_to_leave_corpora_out_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(Path(__file__).parents[1])
    known = json.loads(Path("checkpoints/starter/run.json").read_text())["data_sha256"]
    monkeypatch.setattr(compare, "read_corpora", lambda *_: Corpus([], known))
    monkeypatch.setattr(compare, "leave_out", lambda *_: {})
    monkeypatch.setattr(compare, "Lessons", lambda _: None)
    monkeypatch.setattr(compare, "sha256_of", lambda _: "")
    assert compare.main(["training/configs/starter_draft.toml", "--leave-out"]) == 0
