"""The report: a run's predictions again, one page without foreign parts, texts only on demand."""

import html
import json
import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

from app.feedback import FeedbackStore, Report, digest_of
from model.classifier import Classifier
from model.gpt2 import LABELS
from tests.tiny_training import TINY_RECIPE, synthetic_lines
from training import average, finetune, report
from training.corpora import Corpus, read_sms
from training.cutoffs import as_cutoff
from training.data import Splits
from training.evaluate import FIGURES, measure
from training.feedback import mix_in
from training.report import load_run, worst_mistakes

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every eighth label is wrong, so that there are errors to report; all texts need escaping."""
    lines = [f"{line} <h1>&" for line in synthetic_lines(200)]
    for number in range(0, len(lines), 8):
        label, _, text = lines[number].partition("\t")
        lines[number] = f"{'ham' if label == 'spam' else 'spam'}\t{text}"
    path = tmp_path_factory.mktemp("corpus") / "SMSSpamCollection"
    path.write_text("\n".join(lines) + "\n")
    return path


def make_run(tmp_path: Path, corpus: Path, extra: str = "") -> Path:
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(TINY_RECIPE + extra)
    out = tmp_path / "run"
    assert finetune.main([str(recipe), "--data", str(corpus), "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def plain_run(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Path:
    return make_run(tmp_path_factory.mktemp("plain"), corpus)


@pytest.fixture
def out(plain_run: Path, tmp_path: Path) -> Path:
    """A finished run's folder, a copy to write into."""
    return shutil.copytree(plain_run, tmp_path / "run")


class Assets(HTMLParser):
    """Collects what a page would fetch or run."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]


@pytest.mark.parametrize(
    "extra",
    ['selection = "book"\npadding = "longest"\n', 'read_token = "mean"\ncausal_mask = false\n'],
)
def test_report_repeats_the_figures_of_any_recipe(tmp_path: Path, corpus: Path, extra: str) -> None:
    check_figures(make_run(tmp_path, corpus, extra), str(corpus))


def test_models_beside_a_run_have_learnt_from_its_training_part(
    out: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learnt_from: list[Splits] = []

    def fit(splits: Splits, seed: int) -> dict:
        learnt_from.append(splits)
        return {}

    monkeypatch.setattr(report, "fit_baselines", fit)
    assert load_run(out, [str(corpus)], CPU).splits == learnt_from[0]


def test_report_repeats_the_runs_own_figures(out: Path, corpus: Path) -> None:
    check_figures(out, str(corpus))


def test_report_is_for_runs_on_several_corpora_and_averages_too(
    tmp_path: Path, corpus: Path
) -> None:
    comments = tmp_path / "comments.jsonl"
    rows = (line.partition("\t") for line in synthetic_lines(100))
    comments.write_text("\n".join(json.dumps({"label": a, "text": f"{b}!"}) for a, _, b in rows))
    recipe = tmp_path / "two.toml"
    recipe.write_text('corpora = ["sms", "jsonl"]\n' + TINY_RECIPE)
    out, data = tmp_path / "two", ["--data", f"sms={corpus}", "--data", f"jsonl={comments}"]
    assert finetune.main([str(recipe), *data, "--epochs", "1", "--out", str(out)]) == 0
    mean = tmp_path / "mean"
    assert average.main([str(out), str(out), *data, "--out", str(mean)]) == 0
    for folder in (out, mean):
        assert report.main([str(folder), *data]) == 0
        page = (folder / "report.html").read_text()
        assert "comments.jsonl, SHA-256" in page
        assert ("<h2>Learning</h2>" in page) == (folder == out)  # an average has no curves
        check_figures(folder, *data[1::2])
    comments.write_text(comments.read_text() + '\n{"label": "ham", "text": "one more"}')
    assert report.main([str(out), *data]) == 2


def test_run_with_feedback_is_read_again_with_it_alone(corpus: Path, tmp_path: Path) -> None:
    """Without, texts of its training part would be in the test part: the split is another."""
    recipe, file = tmp_path / "tiny.toml", tmp_path / "copy.sqlite"
    recipe.write_text(TINY_RECIPE)
    store = FeedbackStore(file, 1 << 20)
    corrected = read_sms(corpus)[0]
    for number in range(40):
        text = f"win prize of people {number}"
        store.add(Report(digest_of(text), "spam", f"s{number}", text))
    text = corrected.text
    store.add(Report(digest_of(text), LABELS[1 - corrected.label], "joe", text))
    store.close()
    [told, *_] = [e for e in mix_in(Corpus([corrected], {}), [file]).examples if e.text == text]
    assert told.label != corrected.label
    out, mean = tmp_path / "run", tmp_path / "mean"
    data, more = ["--data", str(corpus)], ["--feedback", str(file)]
    once = ["--epochs", "1", "--out", str(out)]
    assert finetune.main([str(recipe), *data, *more, *once]) == 0
    assert average.main([str(out), str(out), *data, "--out", str(mean)]) == 2
    assert average.main([str(out), str(out), *data, *more, "--out", str(mean)]) == 0
    assert report.main([str(out), *data]) == 2
    assert report.main([str(out), *data, *more]) == 0


def check_figures(out: Path, *places: str) -> None:
    run = load_run(out, places, CPU)
    recorded = run.facts["metrics"]["test"]
    again = measure(run.labels, run.spam_probabilities)
    assert again.loss == pytest.approx(recorded["loss"], abs=1e-6)
    assert again.accuracy == recorded["accuracy"]
    assert list(run.systems) == [out.name, "TF-IDF + linear SVM", "TF-IDF + logistic regression"]


def test_page_is_whole_and_shows_no_text_unless_asked(
    out: Path, tmp_path: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = json.loads((out / "run.json").read_text())
    run = load_run(out, [str(corpus)], CPU)
    mistakes = worst_mistakes(run, show_texts=True)
    assert mistakes
    surest = [abs(m.spam_probability - 0.5) for m in mistakes]
    assert surest == sorted(surest, reverse=True)

    assert report.main([str(out), "--data", str(corpus)]) == 0
    assert f"written to {out / 'report.html'}" in capsys.readouterr().out
    page = (out / "report.html").read_text()
    assets = Assets()
    assets.feed(page)
    assert len(assets.sources) == 6
    assert all(source.startswith("data:image/svg+xml;base64,") for source in assets.sources)
    assert not assets.tags & {"script", "link", "iframe", "object"}
    assert "url(" not in page
    assert facts["data_sha256"]["SMSSpamCollection"] in page
    assert "TF-IDF + linear SVM" in page
    assert f"{facts['metrics']['test']['accuracy']:.2%}" in page
    assert f"spam from {as_cutoff(facts['cutoffs']['spam_from'])}" in page
    assert "&lt;h1&gt;" not in page
    # The same run gives the same page.
    assert page == report.render(load_run(out, [str(corpus)], CPU), show_texts=False)

    shown = tmp_path / "shown.html"
    arguments = [str(out), "--data", str(corpus), "--show-texts", "--out", str(shown)]
    assert report.main(arguments) == 0
    for mistake in mistakes:
        assert mistake.text is not None
        assert html.escape(mistake.text) in shown.read_text()
        assert mistake.text not in shown.read_text()


def test_a_run_that_ended_in_its_first_epoch_has_no_plot_of_nothing(
    out: Path, corpus: Path
) -> None:
    facts = json.loads((out / "run.json").read_text())
    facts["history"]["accuracies"] = []
    (out / "run.json").write_text(json.dumps(facts))
    page = report.render(load_run(out, [str(corpus)], CPU), show_texts=False)
    assert "<figcaption>Loss</figcaption>" in page
    assert "<figcaption>Accuracy</figcaption>" not in page


def test_tokens_are_those_that_went_through_the_model(tmp_path: Path, corpus: Path) -> None:
    out = make_run(tmp_path, corpus, "max_tokens = 8\n")
    run = load_run(out, [str(corpus)], CPU)
    verdicts = Classifier.load(out, "cpu").classify([e.text for e in run.splits.test])
    assert run.num_tokens == [verdict.num_tokens for verdict in verdicts]
    assert max(run.num_tokens) > 8
    (tmp_path / "padded").mkdir()
    padded = make_run(tmp_path / "padded", corpus, 'padding = "context"\nmax_tokens = 8\n')
    assert set(load_run(padded, [str(corpus)], CPU).num_tokens) == {8}


def test_a_base_whose_weights_were_thrown_away_is_not_told_as_the_start(
    out: Path, corpus: Path
) -> None:
    facts = json.loads((out / "run.json").read_text())
    for drawn, told in ((True, "random weights of the sizes of some/gpt2"), (False, "some/gpt2")):
        recipe = facts["recipe"] | {"base": "some/gpt2", "random_weights": drawn}
        (out / "run.json").write_text(json.dumps(facts | {"recipe": recipe}))
        page = report.render(load_run(out, [str(corpus)], CPU), show_texts=False)
        assert f"<dt>Base</dt><dd>{told}</dd>" in page


@pytest.mark.parametrize(
    "changes",
    [
        *({key: None} for key in ("counts", "cutoffs", "best_validation_loss", "versions")),
        *({key: ...} for key in ("best_step", "training_seconds", "interrupted", "finished")),
        {"counts": {"test": {"ham": 1}}},
        {"cutoffs": {"ham_below": 0.5, "spam_from": "high"}},
    ],
    ids=str,
)
def test_a_record_that_lacks_what_the_page_tells_is_refused_before_the_work(
    changes: dict[str, object],
    out: Path,
    corpus: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    facts = json.loads((out / "run.json").read_text()) | changes
    facts = {key: fact for key, fact in facts.items() if fact is not ...}
    (out / "run.json").write_text(json.dumps(facts))
    monkeypatch.setattr(report, "read_corpora", None)
    assert report.main([str(out), "--data", str(corpus)]) == 2
    assert "the run.json of run is not of this version of training.fin" in capsys.readouterr().err


def test_balanced_figures_are_all_those_that_the_mix_changes(out: Path, corpus: Path) -> None:
    run = load_run(out, [str(corpus)], CPU)
    natural, balanced = (
        measure(run.labels, run.spam_probabilities, balanced=balanced) for balanced in (False, True)
    )
    changed = {
        name
        for metric, (name, _) in FIGURES.items()
        if getattr(natural, metric) != pytest.approx(getattr(balanced, metric))
    }
    page = report.render(run, show_texts=False)
    section = page.partition("weighing the same</h2>")[2].partition("<h2>")[0]
    assert set(re.findall("<tr><th>([^<]+)</th>", section)) == changed


def test_a_place_that_takes_no_page_is_refused_before_the_work(
    out: Path,
    tmp_path: Path,
    corpus: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = [str(out), "--data", str(corpus), "--out"]
    with monkeypatch.context() as patch:
        patch.setattr(report, "load_run", None)
        assert report.main([*arguments, str(corpus / "page.html")]) == 2
    assert "cannot read or write" in capsys.readouterr().err
    page = tmp_path / "new" / "page.html"
    assert report.main([*arguments, str(page)]) == 0
    assert page.exists()


def test_what_cannot_be_reported_is_one_clear_line(
    out: Path, tmp_path: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    other.write_text(corpus.read_text() + "ham\tone more\n")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    cases = [
        ([str(tmp_path / "absent"), "--data", str(corpus)], "no checkpoint folder at"),
        ([str(out), "--data", str(tmp_path / "absent")], "cannot read the corpus"),
        (
            [str(out), "--data", str(other)],
            r"run was made from SMSSpamCollection \(SHA-256 .* given: other",
        ),
        ([str(out), "--data", str(corpus), "--out", str(tmp_path)], "is not a file"),
        ([str(out), "--data", str(corpus), "--out", str(pipe)], "is not a file"),
        ([str(out), "--data", str(corpus), "--device", "nonsense"], "device 'nonsense'"),
    ]
    capsys.readouterr()
    for arguments, message in cases:
        assert report.main(arguments) == 2
        error = capsys.readouterr().err
        assert re.search(message, error)
        assert error.count("\n") == 1
    facts = json.loads((out / "run.json").read_text())
    (out / "run.json").write_text(json.dumps(facts | {"recipe": {"epoch": 1}}))
    assert report.main([str(out), "--data", str(corpus)]) == 2
    assert "not of this version of training.finetune: recipe.epoch" in capsys.readouterr().err
    (out / "run.json").unlink()
    assert report.main([str(out), "--data", str(corpus)]) == 2
    assert "holds no run.json" in capsys.readouterr().err
    assert not (out / "report.html").exists()
