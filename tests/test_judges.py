"""The benchmark beside other filters gives all the same messages and counts what they say."""

import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import cast

import pytest

from benchmarks import judges
from benchmarks.filters import Contender, Filter
from benchmarks.judges import (
    Form,
    Message,
    as_mail,
    as_plain,
    judge,
    raw_messages,
    without_verdicts,
    write_set,
)
from model.classifier import Classifier
from model.mail import message_to_text
from model.prediction import Prediction
from tests.conftest import HAM, SPAM
from tests.tiny_training import synthetic_lines
from training.config import TrainConfig
from training.corpora import mail_paths, read_mail_folder, sha256_of
from training.data import folded, split_examples


@dataclass
class Counting:
    """A filter that scores a message by the prizes in it, and remembers what it met."""

    threshold: float = 2.0
    learnt: dict[int, list[bytes]] = field(default_factory=dict)
    judged: list[bytes] = field(default_factory=list)

    def learn(self, paths: Sequence[Path], label: int) -> None:
        self.learnt.setdefault(label, []).extend(path.read_bytes() for path in paths)

    def score(self, path: Path) -> float:
        self.judged.append(path.read_bytes())
        return self.judged[-1].count(b"prize")

    def start(self, folder: Path) -> AbstractContextManager[Filter]:
        return nullcontext(self)


def write_messages(folder: Path, texts: dict[str, int]) -> list[Message]:
    return write_set(folder, [(as_mail(text), label) for text, label in texts.items()])


def test_text_becomes_a_mail_that_reads_as_the_text() -> None:
    raw = as_mail("Subject: Wählen Sie\ttoday\nClaim your prize,\n100 €")
    assert message_to_text(raw).text.split() == "Wählen Sie today Claim your prize, 100 €".split()
    assert message_from_bytes(raw, policy=default)["Subject"] == "Wählen Sie today"


def test_plain_form_keeps_what_is_read_and_no_field() -> None:
    raw = b"List-Id: <a.example>\nSubject: Hi\nContent-Type: text/html\n\n<p>See <b>you</b></p>"
    ((plain, label),) = as_plain([(raw, 1)])
    assert message_to_text(plain).text.split() == message_to_text(raw).text.split()
    assert b"List-Id" not in plain
    assert b"<b>" not in plain
    assert label == 1


def test_hostile_text_becomes_a_mail() -> None:
    for text in (
        "",
        "\n",
        "Subject:",
        "a\r\nBcc: x@example.org\n",
        "\x00\x1b",
        "\ud800",
        "x" * 5000,
    ):
        raw = as_mail(text)
        assert message_from_bytes(raw, policy=default)["Bcc"] is None
        assert ("Bcc" in message_to_text(raw).text) is ("Bcc" in text)


def test_verdicts_of_other_filters_are_taken_out() -> None:
    raw = (
        b"From a@example.org Tue\nX-Spam-Status: Yes,\n\thits=7\nSubject: Hi\n there\n"
        b"x-spam-level: ***\nTo: b@example.org\n\nX-Spam-Flag: YES\n"
    )
    left = b"Subject: Hi\n there\nTo: b@example.org\n\nX-Spam-Flag: YES\n"
    assert without_verdicts(raw) == left
    assert without_verdicts(raw.replace(b"\n", b"\r\n")) == left.replace(b"\n", b"\r\n")


def test_every_text_of_a_split_finds_its_raw_message(tmp_path: Path) -> None:
    for group, text in (("ham-1", HAM), ("spam-1", f"W1nner: {SPAM} T R U T H O U T uses it")):
        (tmp_path / group).mkdir()
        (tmp_path / group / "1.txt").write_bytes(as_mail(text))
    drawn = folded(read_mail_folder(tmp_path))
    raws = [(path.read_bytes(), label) for label, path in enumerate(mail_paths(tmp_path))]
    assert raw_messages(drawn[::-1], tmp_path) == raws[::-1]


def test_score_on_the_threshold_is_spam(tmp_path: Path) -> None:
    texts = {"a prize": 0, "prize prize": 1, "prize prize prize": 1, "none": 0, "prize  prize": 0}
    found = judge(
        "counting",
        Contender((), Counting().start, learns=False),
        Form([], {"some": write_messages(tmp_path / "some", texts)}),
    )
    assert found["some"]["messages"] == 5
    assert found["some"]["spam_caught"][0] == 1
    assert found["some"]["ham_blocked"][0] == pytest.approx(1 / 3, abs=1e-4)
    assert found["some"]["roc_auc"][0] == pytest.approx(5.5 / 6, abs=1e-4)


def test_own_verdicts_are_those_at_one_half_and_at_the_cutoff(
    save_tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judges, "own_scores", lambda *_: [0.1, 0.7, 0.7, 0.95])
    monkeypatch.setattr(judges, "cutoff_of", lambda _: 0.9)
    messages = [Message(Path("x"), label) for label in (0, 0, 1, 1)]
    found = judges.judge_own(Classifier.load(save_tiny(), "cpu", "float32"), messages)
    shares = [(row["ham_blocked"][0], row["spam_caught"][0]) for row in found.values()]
    assert shares == [(0.5, 1.0), (0.0, 0.5)]
    assert [row["roc_auc"][0] for row in found.values()] == [0.875, 0.875]


def test_own_score_of_each_message_is_that_of_its_worst_reading(tmp_path: Path) -> None:
    """What is hidden from some counts with half the odds; more messages than fit at once."""

    class Prizes:
        def classify(self, texts: Sequence[str]) -> list[Prediction]:
            spam = [0.9 if "prize" in text else 0.1 for text in texts]
            return [Prediction(1 - p, p, 1) for p in spam]

    html = b"Content-Type: text/html\n\n<p>you</p>"
    raws = [as_mail("none"), as_mail("a prize"), html + b"<p style='display:none'>a prize</p>"]
    messages = write_set(tmp_path / "some", [(raw, 0) for raw in raws * 23])
    found = judges.own_scores(cast("Classifier", Prizes()), messages)
    assert found == pytest.approx([0.1, 0.9, 0.9 / (0.9 + 2 * 0.1)] * 23)


def test_far_scores_stay_in_order() -> None:
    @dataclass
    class Ranking(Counting):
        def score(self, path: Path) -> float:
            return float(path.name)

    messages = [Message(Path(score), 1) for score in ("-200", "0", "2", "150", "151")]
    found = judges.filter_scores("ranking", Ranking(), messages)
    assert found == sorted(set(found))


@pytest.mark.parametrize("learns", [True, False])
def test_only_a_filter_that_learns_is_given_the_training_part(tmp_path: Path, learns: bool) -> None:
    running = Counting()
    train = write_messages(tmp_path / "train", {HAM: 0, SPAM: 1})
    sets = {"some": write_messages(tmp_path / "some", {"none": 0, "prize prize": 1})}
    judge("counting", Contender((), running.start, learns=learns), Form(train, sets))
    assert running.learnt == ({m.label: [m.path.read_bytes()] for m in train} if learns else {})


@pytest.fixture
def mails(tmp_path: Path) -> Path:
    """A folder of 90 mails as the SpamAssassin corpus has them, a third of them spam."""
    folder = tmp_path / "mails"
    for line in synthetic_lines(90):
        label, _, text = line.partition("\t")
        group = folder / f"{label}-1"
        group.mkdir(parents=True, exist_ok=True)
        (group / f"{text.split()[-1]}.txt").write_bytes(as_mail(f"Hello\n{text}"))
    return folder


def test_command_judges_the_test_part_and_foreign_texts(
    mails: Path, corpus: Path, save_tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, out = save_tiny(), mails.parent / "judges.json"
    run = {"recipe": {"corpora": ["mail"]}, "data_sha256": {"mails": sha256_of(mails)}}
    (checkpoint / "run.json").write_text(json.dumps(run))
    counting = Contender((), Counting(threshold=1).start, learns=True)
    absent = Contender(("no-such-filter",), Counting().start, learns=True)
    monkeypatch.setattr(judges, "CONTENDERS", {"counting": counting, "absent": absent})
    asked = [str(checkpoint), "--data", f"mail={mails}", "--foreign", f"sms={corpus}"]
    assert judges.main([*asked, "--sample", "30", "--out", str(out)]) == 0
    result = json.loads(out.read_text())
    assert result["left_out"] == {"absent": "not installed: no-such-filter"}
    assert list(result["systems"]) == [
        "spamgate at 0.5",
        "spamgate at its cut-off, 0.80",
        "counting",
    ]
    assert all(
        list(sets) == ["mail", "mail, text alone", "sms"] for sets in result["systems"].values()
    )
    assert result["systems"]["counting"]["mail"]["mcc"] == [1, 1, 1]
    assert sum(result["learnt"].values()) + result["systems"]["counting"]["mail"]["messages"] < 90
    assert str(mails) not in result["command"]


def test_a_filter_learns_the_training_part_and_is_judged_on_the_test_part_in_each_form(
    mails: Path, save_tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = save_tiny()
    run = {"recipe": {"corpora": ["mail"]}, "data_sha256": {"mails": sha256_of(mails)}}
    (checkpoint / "run.json").write_text(json.dumps(run))
    runs: list[Counting] = []

    def start(folder: Path) -> AbstractContextManager[Filter]:
        runs.append(Counting())
        return nullcontext(runs[-1])

    monkeypatch.setattr(judges, "CONTENDERS", {"counting": Contender((), start, learns=True)})
    asked = [str(checkpoint), "--data", f"mail={mails}", "--out", str(mails.parent / "judges.json")]
    assert judges.main(asked) == 0
    splits = split_examples(folded(read_mail_folder(mails)), TrainConfig(corpora=("mail",)))

    def numbers(texts: Iterable[str]) -> list[str]:
        return sorted(text.split()[-1] for text in texts)

    assert len(runs) == 2
    for running in runs:
        for label in (0, 1):
            texts = [message_to_text(raw).text for raw in running.learnt[label]]
            assert numbers(texts) == numbers(e.text for e in splits.train if e.label == label)
        judged = [message_to_text(raw).text for raw in running.judged]
        assert numbers(judged) == numbers(e.text for e in splits.test)


def test_filter_that_fails_does_not_end_the_others(
    tmp_path: Path, save_tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(Counting):
        def score(self, path: Path) -> float:
            raise RuntimeError("it ended")

    contenders = {
        name: Contender((), filter_.start, learns=False)
        for name, filter_ in (("failing", Failing()), ("counting", Counting()))
    }
    monkeypatch.setattr(judges, "CONTENDERS", contenders)
    sets = {"some": write_messages(tmp_path / "some", {"none": 0, "prize prize": 1})}
    classifier = Classifier.load(save_tiny(), "cpu", "float32")
    systems, left_out = judges.judge_all(classifier, [Form([], sets)])
    assert left_out == {"failing": "it ended"}
    assert "counting" in systems


def test_without_mail_the_command_says_what_to_give(
    corpus: Path, save_tiny: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = save_tiny()
    run = {"recipe": {}, "data_sha256": {corpus.name: sha256_of(corpus)}}
    (checkpoint / "run.json").write_text(json.dumps(run))
    assert judges.main([str(checkpoint), "--data", f"sms={corpus}"]) == 2
    assert "give --data mail=FOLDER" in capsys.readouterr().err
