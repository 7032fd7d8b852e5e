"""Cut-offs keep their promise on further texts; the reliability table adds up."""

import json

import numpy as np
import pytest

from training.config import TrainingError
from training.cutoffs import (
    as_cutoff,
    as_reliability_table,
    decision_facts,
    find_cutoffs,
    reliability,
    upper_quantile,
)


def probabilities(logits: np.ndarray) -> list[float]:
    return [float(p) for p in 1 / (1 + np.exp(-logits))]


def test_quantile_of_equally_spaced_values() -> None:
    values = np.arange(1.0, 100.0)
    assert upper_quantile(values, 0.1) == 90
    assert upper_quantile(values[::-1], 0.105) == pytest.approx(89.5)
    assert upper_quantile(values, 0.01) == 99
    assert upper_quantile(values, 0.015) == pytest.approx(98.5)


def test_the_tail_is_drawn_from_the_ten_largest_alone() -> None:
    values = np.concatenate([np.full(90, -50.0), np.arange(11.0)])
    # Half a text of 101 lies above: as far beyond 10 as e-folds make of 5.5, the mean of 1 to 10.
    assert upper_quantile(values, 0.5 / 102) == pytest.approx(10 + 5.5 * np.log(2))


@pytest.mark.parametrize("num_texts", [200, 450, 2000])
@pytest.mark.parametrize("share", [0.001, 0.01])
def test_share_above_the_quantile_is_the_promised_one(num_texts: int, share: float) -> None:
    # Of exponential tails the share is known: exp(-x). The largest of 200 would be 5 times 0.001.
    rng = np.random.default_rng(0)
    found = [upper_quantile(rng.exponential(size=num_texts), share) for _ in range(400)]
    assert np.exp(-np.array(found)).mean() == pytest.approx(share, rel=0.6)


@pytest.mark.parametrize("num_texts", [200, 900, 4000])
def test_no_more_than_the_share_lies_above_with_the_stated_confidence(num_texts: int) -> None:
    rng = np.random.default_rng(0)
    draws = [rng.exponential(size=num_texts) for _ in range(400)]
    found = np.array([upper_quantile(draw, 0.005, confidence=0.95) for draw in draws])
    assert (np.exp(-found) <= 0.005).mean() == pytest.approx(0.95, abs=0.05)


def test_the_largest_value_has_the_confidence_that_it_must() -> None:
    values = np.arange(59.0)  # that one of 59 lies above all but 0.05: 1 - 0.95**59
    assert upper_quantile(values, 0.05, confidence=1 - 0.95**59) == pytest.approx(58)


def test_quantile_goes_on_beyond_the_last_value() -> None:
    values = np.random.default_rng(0).normal(size=500)
    at = [upper_quantile(values, share) for share in (0.01, 1 / 501, 0.001, 0.0001)]
    assert at == sorted(at)
    assert at[1] == pytest.approx(values.max())
    assert at[2] > values.max()


def test_cutoffs_enclose_what_is_unsure() -> None:
    rng = np.random.default_rng(0)
    ham, spam = rng.normal(-4, 2, 4000), rng.normal(3, 2, 1000)
    labels = [0] * 4000 + [1] * 1000
    found = find_cutoffs(labels, probabilities(np.concatenate([ham, spam])))
    assert 0 < found.ham_below < 0.5 < found.spam_from < 1
    blocked = (np.array(probabilities(ham)) >= found.spam_from).mean()
    assert blocked == pytest.approx(0.0034, abs=0.0003)  # surely no more than 0.005 of further ham
    for share, beyond in (
        (0.01, np.array(probabilities(ham)) >= found.blocks_1_percent),
        (0.01, np.array(probabilities(spam)) < found.ham_below),
        (0.001, np.array(probabilities(ham)) >= found.blocks_0_1_percent),
    ):
        assert 0.9 * share <= beyond.mean() <= share
    assert found.blocks_1_percent < found.spam_from < found.blocks_0_1_percent


def test_cutoffs_of_separated_classes_meet_at_the_label() -> None:
    found = find_cutoffs([0] * 2000 + [1] * 200, [0.001] * 2000 + [0.999] * 200)
    assert (found.ham_below, found.spam_from) == (0.5, 0.5)
    assert found.blocks_1_percent == pytest.approx(0.001)


@pytest.mark.parametrize("num_ham", [40, 1000])
def test_of_ham_with_the_same_verdict_none_lies_at_the_cutoff(num_ham: int) -> None:
    ham = [0.1] * (num_ham // 2) + [0.9] * (num_ham // 2)
    found = find_cutoffs([0] * num_ham + [1] * 200, [*ham, *[0.95] * 200])
    assert 0.9 < found.spam_from < 0.95


def test_certain_verdicts_give_finite_cutoffs() -> None:
    found = find_cutoffs([0, 0, 0, 1, 1, 1], [0.0, 1.0, 0.0, 1.0, 0.0, 1.0])
    assert 0 <= found.ham_below <= 0.5 <= found.spam_from <= 1


def test_one_class_is_refused() -> None:
    with pytest.raises(TrainingError, match="here are 3 and 1"):
        find_cutoffs([0, 0, 0, 1], [0.1, 0.2, 0.3, 0.9])


def test_reliability_bins_count_every_text_once() -> None:
    labels, scores = [0, 0, 1, 1, 1], [0.0, 0.05, 0.1, 0.95, 1.0]
    table = reliability(labels, scores)
    assert [row.texts for row in table] == [2, 1, 0, 0, 0, 0, 0, 0, 0, 2]
    assert [table[n].predicted for n in (0, 1, 5, 9)] == pytest.approx([0.025, 0.1, None, 0.975])
    assert [table[n].observed for n in (0, 1, 5, 9)] == [0, 1, None, 1]
    lines = as_reliability_table(table).splitlines()
    assert len(lines) == 12
    assert lines[2] == "| 0.0 to 0.1 | 2 | 0.025 | 0.000 |"
    assert lines[7] == "| 0.5 to 0.6 | 0 |  |  |"


def test_facts_are_what_the_service_reads() -> None:
    facts = json.loads(json.dumps(decision_facts([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9])))
    assert {"ham_below", "spam_from"} <= set(facts["cutoffs"])
    assert len(facts["reliability"]) == 10


@pytest.mark.parametrize(
    ("ham", "spam", "decided"),
    [
        # So few ham tell no cut-off that is not above all spam.
        ([0.01] * 90 + [0.6] * 10, [0.7, 0.99] * 50, {"ham": 0.9, "spam": 0.0}),
        ([0.001] * 2000, [0.5] * 200, {"ham": 1.0, "spam": 1.0}),  # at spam_from it is spam
        ([0.001, 0.5] * 1000, [0.5] * 200, {"ham": 0.5, "spam": 0.0}),  # at ham_below no ham
    ],
)
def test_what_the_cutoffs_decide_is_counted(
    ham: list[float], spam: list[float], decided: dict[str, float]
) -> None:
    facts = decision_facts([0] * len(ham) + [1] * len(spam), ham + spam)
    assert facts["decided"] == decided


def test_a_cutoff_is_told_from_certainty() -> None:
    found = [as_cutoff(p) for p in (0.0, 0.09, 0.9321, 0.9995, 0.99996, 1 - 3e-10, 1.0, 0.00002)]
    assert found == ("0.0000 0.0900 0.9321 0.99950 0.999960 0.99999999970 1.0000 0.000020".split())
