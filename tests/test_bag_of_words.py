"""A bag of words' view of training texts, learnt beside the labels and not saved."""

import math
from pathlib import Path

import pytest
import torch

from model.checkpoint import load_classifier
from model.tokenizer import decode, encode
from tests.tiny_training import TINY_RECIPE, synthetic_lines
from training import finetune
from training.augment import Augmenter, Reading
from training.bag_of_words import BagOfWords, EvidenceHead
from training.config import ConfigError, TrainConfig, TrainingError, load_config
from training.corpora import Example
from training.data import make_loader

AUGMENTS = "prefix_loss = 0.5\nrecasing = 0.3\n"


def examples() -> list[Example]:
    lines = [line.split("\t") for line in synthetic_lines(60)]
    return [Example(text, int(label == "spam"), "sms") for label, text in lines]


def test_a_text_is_judged_by_a_model_that_has_not_read_it() -> None:
    odd = Example("zyzzyva quincunx ptarmigan", 1, "sms")
    others = [Example("see you at the office", 0, "sms"), Example("free prize call", 1, "sms")] * 20
    bag = BagOfWords([odd, *others], seed=0)
    number = next(n for n in range(1, 41) if bag._part[n] != bag._part[0])
    unread, read, other = bag.log_odds([0, number, 0], [odd.text, odd.text, "free prize call"])
    assert unread < read - 0.5
    assert [other] == bag.log_odds([0], ["free prize call"])
    spam, ham = bag.log_odds([0, 0], ["free prize call", "see you at the office"])
    assert 10 >= spam > 1 > -1 > ham >= -10


def test_texts_of_which_a_part_is_all_ham_are_too_few_for_it() -> None:
    few = [Example(f"lunch at {n}?", 0, "sms") for n in range(40)]
    with pytest.raises(TrainingError, match="take more texts, or bag_of_words = 0"):
        BagOfWords([*few, Example("win cash", 1, "sms")], 0)


def test_an_augmenter_asks_of_beginnings_of_a_passage_and_not_of_a_disguised_one() -> None:
    base = {"seed": 0, "prefix_loss": 0.5, "trained": "all", "bag_of_words": 1.0}
    joined = Augmenter(examples(), TrainConfig(**base, joining=1.0))
    for number, example in enumerate(examples()):
        reading, passage = joined(number), encode(example.text, 1024)[0]
        places = [place for place, _ in reading.passages]
        start = places[-1] + 1 - len(passage)
        assert reading.tokens[start : places[-1] + 1] == passage
        assert len(places) == 4
        for place, text in reading.passages:
            assert text == decode(reading.tokens[start : place + 1])
    for change in ("obfuscation", "chaff", "furniture"):
        config = TrainConfig.model_validate(base | {change: 1.0})
        augmented = Augmenter([e for e in examples() if e.label], config)
        assert not any(augmented(number).passages for number in range(10))
    config = TrainConfig.model_validate(base | {"bag_of_words": 0.0, "joining": 1.0})
    assert not Augmenter(examples(), config)(0).passages


def test_a_batch_holds_the_evidence_at_the_tokens_it_is_of() -> None:
    bag = BagOfWords(examples(), seed=0)
    passages = ["free prize", "free prize call", "see you"]
    readings = [
        Reading([5, 6, 7], 1, passages=((1, passages[0]), (2, passages[1]))),
        Reading([8], 0, passages=((0, passages[2]),)),
    ]
    tokenized = [([5], 1), ([8], 0)]
    (batch,) = make_loader(tokenized, 2, augment=readings.__getitem__, bag_of_words=bag)
    expected = torch.tensor([math.nan, *bag.log_odds([0, 0, 1], passages)], dtype=torch.float32)
    torch.testing.assert_close(batch.log_odds, expected, equal_nan=True)
    second = list(make_loader(tokenized, 1, augment=readings.__getitem__, bag_of_words=bag))[1]
    assert bag._part[0] != bag._part[1]  # who has read the one has not read the other
    torch.testing.assert_close(second.log_odds, expected[3:])
    (batch,) = make_loader(tokenized, 2, augment=readings.__getitem__)
    assert batch.log_odds is not None
    assert batch.log_odds.isnan().all()


def test_the_loss_is_of_known_log_odds_alone_and_learns_them() -> None:
    torch.manual_seed(0)
    head, states = EvidenceHead(8), torch.randn(40, 8)
    log_odds = 4 * (states @ torch.randn(8)) + 1
    log_odds[::2] = math.nan
    first = head.loss(states, log_odds)
    assert first.item() == pytest.approx(log_odds[1::2].square().sum().item() / 16 / 4, rel=1e-5)
    optimizer = torch.optim.AdamW(head.parameters(), lr=0.1, weight_decay=0)
    for _ in range(200):
        optimizer.zero_grad()
        head.loss(states, log_odds).backward()
        optimizer.step()
    assert head.loss(states, log_odds) < 0.01 * first


def test_a_run_learns_the_evidence_and_saves_a_plain_head(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missed: list[float] = []
    moved: list[float] = []
    loss_of = EvidenceHead.loss

    def recorded(head: EvidenceHead, states: torch.Tensor, log_odds: torch.Tensor) -> torch.Tensor:
        loss = loss_of(head, states, log_odds)
        missed.append(loss.item())
        moved.append(torch.autograd.grad(loss, states, retain_graph=True)[0].norm().item())
        return loss

    monkeypatch.setattr(EvidenceHead, "loss", recorded)
    data, recipe = tmp_path / "data", tmp_path / "recipe.toml"
    data.write_text("\n".join(synthetic_lines(150)), encoding="utf-8")
    recipe.write_text(TINY_RECIPE + AUGMENTS + "bag_of_words = 1.0\n", encoding="utf-8")
    assert finetune.main([str(recipe), "--data", str(data), "--out", str(tmp_path / "run")]) == 0
    assert sum(missed[-5:]) < 0.3 * sum(missed[:5])
    assert max(moved) > 0  # the network learns it, not the head alone
    assert load_classifier(tmp_path / "run").model.score.weight.shape == (2, 32)


def test_a_recipe_that_could_not_use_it_is_refused(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(TINY_RECIPE + "bag_of_words = 1.0\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="bag_of_words goes with prefix_loss"):
        load_config(recipe)
