"""The decision by cut-offs, and verdicts for another share of spam than that of the training."""

import asyncio
import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest

from app.decision import Cutoffs, _shifted, score_of
from app.main import create_app
from model.classifier import Classifier
from model.folders import CheckpointError
from tests.conftest import AWKWARD_TEXTS, HAM, SPAM
from tests.serving import make_settings, running, serving

STATED = {"ham_below": 0.3, "spam_from": 0.9}


def with_run(folder: Path, **run: object) -> Path:
    (folder / "run.json").write_text(json.dumps(run))
    return folder


def ask(folder: Path, path: str, body: bytes = b"", **settings: object) -> dict[str, Any]:
    async def scenario() -> httpx.Response:
        async with serving(folder, **settings) as client:
            if not body:
                return await client.get(path)
            return await client.post(path, content=body, headers={"content-type": "text/plain"})

    reply = asyncio.run(scenario())
    assert reply.status_code == 200, reply.text
    answer: dict[str, Any] = reply.json()
    return answer


def odds(probability: float) -> float:
    return probability / (1 - probability)


def test_cutoffs_bound_the_unsure() -> None:
    cutoffs = Cutoffs(0.3, 0.9)
    probabilities = [0.0, 0.2999, 0.3, 0.8999, 0.9, 1.0]
    assert list(map(cutoffs.decide, probabilities)) == ["ham"] * 2 + ["unsure"] * 2 + ["spam"] * 2


def test_cutoffs_that_a_caller_tells_take_the_place_of_others() -> None:
    cutoffs = Cutoffs(0.3, 0.9)
    assert cutoffs.override(None, None) == cutoffs
    assert cutoffs.override(0, None) == Cutoffs(0, 0.9)
    assert cutoffs.override(0.95, None) == Cutoffs(0.95, 0.9)
    assert cutoffs.override(0.5, 0.5) == Cutoffs(0.5, 0.5)
    with pytest.raises(ValueError, match=r"0\.6, must not be above spam_from, 0\.5"):
        cutoffs.override(0.6, 0.5)


def test_score_goes_from_minus_to_plus_the_weight() -> None:
    assert [score_of(p, 5.0) for p in (0, 0.5, 0.9, 1)] == [-5, 0, 4, 5]
    assert score_of(0.123456, 5.0) == -3.7654


def test_cutoffs_are_the_checkpoints(save_tiny: Callable[..., Path]) -> None:
    folder = with_run(save_tiny(), cutoffs=STATED | {"blocks_1_percent": 0.4})
    info = ask(folder, "/info")
    assert (info["ham_below"], info["spam_from"]) == (0.3, 0.9)
    reply = ask(folder, "/checkv2", SPAM.encode(), score_weight=10)
    assert reply["required_score"] == 8


def cutoffs_of(**cutoffs: object) -> Cutoffs:
    stub = SimpleNamespace(name="tiny", run={"cutoffs": cutoffs}, log_odds_shift=0.0)
    return Cutoffs.of(cast(Classifier, stub))


def test_without_cutoffs_of_the_checkpoint_the_unsure_are_from_0_2_to_0_8() -> None:
    stub = SimpleNamespace(name="tiny", run={}, log_odds_shift=0.0)
    assert Cutoffs.of(cast(Classifier, stub)) == Cutoffs(0.2, 0.8)


def test_cutoffs_may_be_equal_and_at_the_ends() -> None:
    assert cutoffs_of(ham_below=0.5, spam_from=0.5) == Cutoffs(0.5, 0.5)
    assert cutoffs_of(ham_below=0, spam_from=1) == Cutoffs(0, 1)


@pytest.mark.parametrize(
    ("ham_below", "spam_from"),
    [(0.2, None), (0.9, 0.1), ("x", 1), (-0.1, 0.5), (0.5, 1.1), (float("nan"), 0.5), (10**400, 1)],
)
def test_unusable_cutoffs_are_refused(ham_below: object, spam_from: object) -> None:
    with pytest.raises(CheckpointError, match=r"run\.json"):
        cutoffs_of(ham_below=ham_below, spam_from=spam_from)


def test_unusable_cutoffs_refuse_the_start(save_tiny: Callable[..., Path]) -> None:
    app = create_app(make_settings(with_run(save_tiny(), cutoffs={"ham_below": 0.2})))

    async def failure() -> str | None:
        async with running(app):
            reason: str | None = app.state.service.failure
            return reason

    assert "run.json" in str(asyncio.run(failure()))


def test_another_prior_shifts_the_log_odds_alike(save_tiny: Callable[..., Path]) -> None:
    folder = with_run(save_tiny(), spam_prior=0.2)
    classifier = Classifier.load(folder, "cpu")
    before = classifier.classify(AWKWARD_TEXTS)
    classifier.assume_spam_prior(0.5)
    after = classifier.classify(AWKWARD_TEXTS)
    for old, new in zip(before, after, strict=True):
        # 0.5 : 0.5 instead of 0.2 : 0.8.
        assert odds(new.spam_probability) == pytest.approx(4 * odds(old.spam_probability), rel=1e-3)
    classifier.assume_spam_prior(0.2)
    assert classifier.classify([HAM])[0].spam_probability == pytest.approx(
        before[1].spam_probability, abs=1e-6
    )


@pytest.mark.parametrize("run", [{}, {"spam_prior": None}, {"spam_prior": 1.0}])
def test_another_prior_needs_that_of_the_training(
    save_tiny: Callable[..., Path], run: dict[str, object]
) -> None:
    classifier = Classifier.load(with_run(save_tiny(), **run), "cpu")
    with pytest.raises(CheckpointError, match="run.json has no spam_prior"):
        classifier.assume_spam_prior(0.5)


TEXT = json.dumps({"texts": [SPAM]}).encode()
CHAT = json.dumps({"messages": [{"role": "user", "content": SPAM}]}).encode()


@pytest.mark.parametrize(
    ("path", "body", "read"),
    [
        ("/classify", TEXT, lambda a: a["results"][0]["probabilities"]["spam"]),
        (
            "/classify/message",
            b"\n" + SPAM.encode(),
            lambda a: a["results"][0]["probabilities"]["spam"],
        ),
        ("/checkv2", b"\n" + SPAM.encode(), lambda a: (a["score"] / 5 + 1) / 2),
        ("/v1/classify", json.dumps({"input": SPAM}).encode(), lambda a: a["data"][0]["probs"][1]),
        (
            "/v1/chat/completions",
            CHAT,
            lambda a: float(a["choices"][0]["message"]["content"].split()[0]),
        ),
    ],
)
def test_every_endpoint_answers_for_the_prior_of_the_settings(
    save_tiny: Callable[..., Path], path: str, body: bytes, read: Callable[[dict[str, Any]], float]
) -> None:
    folder = with_run(save_tiny(), spam_prior=0.2)
    plain = read(ask(folder, path, body))
    shifted = read(ask(folder, path, body, spam_prior=0.5))
    assert shifted == pytest.approx(4 * odds(plain) / (4 * odds(plain) + 1), abs=2e-4)
    assert shifted != pytest.approx(plain, abs=1e-3)


def test_cutoffs_keep_their_shares_under_another_prior(save_tiny: Callable[..., Path]) -> None:
    folder = with_run(save_tiny(), spam_prior=0.2, cutoffs=STATED)
    info = ask(folder, "/info", spam_prior=0.5)
    assert info["spam_prior"] == 0.5
    assert odds(info["spam_from"]) == pytest.approx(4 * odds(0.9))
    assert odds(info["ham_below"]) == pytest.approx(4 * odds(0.3))
    assert ask(folder, "/info")["spam_prior"] == 0.2


@pytest.mark.parametrize("spam_prior", [1e-12, 1e-15, 1e-17])
def test_a_cutoff_of_1_stays_1_whatever_the_share_of_spam(spam_prior: float) -> None:
    assert _shifted(1.0, math.log(spam_prior)) == 1.0
