"""Other filters learn what they are told to, decide by their own threshold, and fail aloud."""

import io
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from benchmarks import filters
from benchmarks.filters import CONTENDERS, Bogofilter, Rspamd, SpamAssassin, spamassassin
from benchmarks.judges import Message, as_mail, filter_scores, write_set
from tests.fake_server import server
from tests.mail_programs import require


@pytest.fixture
def message(tmp_path: Path) -> Path:
    path = tmp_path / "0.eml"
    path.write_bytes(b"Subject: prize\n\nx\n")
    return path


def rspamd_at(url: str) -> Rspamd:
    port = int(url.rpartition(":")[2])
    return Rspamd(port, port)


def spamassassin_that_says(*answers: str) -> tuple[SpamAssassin, io.StringIO]:
    """One that answers so, and what it is asked."""
    asked = io.StringIO()
    process = SimpleNamespace(stdin=asked, stdout=io.StringIO("\n".join(answers) + "\n"))
    return SpamAssassin(cast("subprocess.Popen[str]", process)), asked


def test_rspamd_learns_under_the_label_and_what_it_is_sure_of_too(message: Path) -> None:
    with server(b'{"score": 7.5}') as (url, got):
        rspamd = rspamd_at(url)
        rspamd.learn([message], 0)
        rspamd.learn([message], 1)
        assert rspamd.score(message) == 7.5
    asked = [(path, headers.get("Learn-Type")) for path, headers, _ in got]
    assert asked == [("/learnham", "bulk"), ("/learnspam", "bulk"), ("/checkv2", None)]


def test_spamassassin_learns_under_the_label(message: Path) -> None:
    running, asked = spamassassin_that_says("learnt", "known", "learnt", "7.5")
    running.learn([message, message], 0)
    running.learn([message], 1)
    assert running.score(message) == 7.5
    words = [line.split()[0] for line in asked.getvalue().splitlines()]
    assert words == ["ham", "ham", "spam", "check"]


def test_bogofilter_registers_under_the_label(
    message: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """-n is non-spam, -s spam."""
    ran: list[tuple[str, str]] = []

    def run(command: list[str], *, input: str, **_: object) -> None:
        ran.append((command[-1], input))

    monkeypatch.setattr(subprocess, "run", run)
    for label in (0, 1):
        Bogofilter(message.parent).learn([message], label)
    assert ran == [("-n", str(message)), ("-s", str(message))]


@pytest.mark.parametrize(("score", "is_spam"), [(5.99, False), (6.0, True), (14.0, True)])
def test_rspamd_calls_spam_what_it_adds_a_header_to(
    message: Path, score: float, is_spam: bool
) -> None:
    with server(b'{"score": %f}' % score) as (url, _):
        (found,) = filter_scores("rspamd", rspamd_at(url), [Message(message, 1)])
    assert (found > 0.5) is is_spam


@pytest.mark.parametrize("status", [400, 403, 500])
def test_a_refusal_of_rspamd_is_no_learning_and_no_score(message: Path, status: int) -> None:
    with server(b'{"error": "Unauthorized"}', status=status) as (url, _):
        rspamd = rspamd_at(url)
        for ask in (lambda: rspamd.learn([message] * 3, 1), lambda: rspamd.score(message)):
            with pytest.raises(RuntimeError, match=rf"no answer to 0.eml: HTTP Error {status}"):
                ask()


SHORT = "<1@example.org> contains less tokens than required for bayes classifier: 5 < 11"


def answering(*answers: tuple[int, str]) -> Callable[..., tuple[int, str, bytes]]:
    """rspamd's answers, one after another."""
    left = iter(answers)
    return lambda *_: (*next(left), b"")


def test_rspamd_leaves_out_what_is_short_or_known(
    message: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = answering((204, SHORT), (208, "has been already learned as spam"), (200, "OK"))
    monkeypatch.setattr(Rspamd, "_post", answers)
    Rspamd(0, 0).learn([message] * 3, 1)


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ([(200, "OK"), (204, "all learn conditions denied")], "0.eml: 204 all learn conditions"),
        ([(204, SHORT), (204, SHORT)], "rspamd learnt none of 2 spam messages"),
    ],
)
def test_rspamd_that_learns_nothing_is_not_judged(
    message: Path, answers: list[tuple[int, str]], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Rspamd, "_post", answering(*answers))
    with pytest.raises(RuntimeError, match=told):
        Rspamd(0, 0).learn([message] * 2, 1)


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        (["learnt", "failed"], "could not learn 0.eml"),
        (["known", "known"], "learnt none of 2 spam messages"),
        (["learnt"], "ended at 0.eml"),
    ],
)
def test_spamassassin_that_learns_nothing_is_not_judged(
    message: Path, answers: list[str], told: str
) -> None:
    running, _ = spamassassin_that_says(*answers)
    with pytest.raises(RuntimeError, match=f"SpamAssassin {told}"):
        running.learn([message] * 2, 1)


def test_a_filter_that_is_absent_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    absent = ("no-such-filter", "redis-server-of-none")
    contender = filters.Contender(absent, CONTENDERS["bogofilter"].start, learns=True)
    assert contender.missing == [*absent]


@pytest.mark.integration
def test_spamassassin_that_cannot_write_says_so(message: Path) -> None:
    require("spamassassin")
    with (
        spamassassin(Path("/proc"), bayes=True) as running,
        pytest.raises(RuntimeError, match="could not learn"),
    ):
        running.learn([message], 1)


@pytest.mark.integration
def test_rspamd_passes_over_what_is_short_and_fails_on_what_is_empty(
    message: Path, tmp_path: Path
) -> None:
    contender = CONTENDERS["rspamd with Bayes"]
    require(*contender.programs)
    empty, long = tmp_path / "empty.eml", tmp_path / "long.eml"
    empty.touch()
    long.write_bytes(as_mail(" ".join(f"word{chr(97 + n)}" for n in range(26))))
    state = tmp_path / "state"
    state.mkdir()
    with contender.start(state) as running:
        running.learn([message, long, long], 1)
        with pytest.raises(RuntimeError, match="learnt none of 1 ham"):
            running.learn([message], 0)
        with pytest.raises(RuntimeError, match="HTTP Error 400"):
            running.learn([empty], 0)


@pytest.mark.integration
@pytest.mark.parametrize("name", CONTENDERS)
def test_filter_learns_and_scores(name: str, tmp_path: Path) -> None:
    contender = CONTENDERS[name]
    require(*contender.programs)
    words = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu omicron".split()
    texts = {
        f"{tag}\n{tag} {number} "
        + " ".join(f"{tag}{word}" for word in words[number % 7 : number % 7 + 7]): label
        for label, tag in enumerate(("meeting", "lottery"))
        for number in range(220)
    }
    raws = [(as_mail(text), label) for text, label in texts.items()]
    train = write_set(tmp_path / "train", raws)
    state = tmp_path / "state"
    state.mkdir()
    with contender.start(state) as running:
        for label in (0, 1) if contender.learns else ():
            running.learn([m.path for m in train if m.label == label], label)
        ham, spam = (running.score(train[number].path) for number in (0, -1))
    apart = spam - ham
    assert apart > 0.5 if contender.learns else abs(apart) < 0.5
