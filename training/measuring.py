"""What a trained model is worth: calibrated, and measured on each part as it will be read."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

import torch

from model.checkpoint import ReadToken, finalize
from model.gpt2 import GPT2ForSequenceClassification
from model.ngrams import add_ngrams
from training.activations import ActivationCache
from training.calibration import assumed_spam_prior, calibrate_head, fit_calibration
from training.config import TrainConfig
from training.corpora import Example
from training.cutoffs import decision_facts
from training.data import Splits, TokenizedExample, make_loader, sample_of_both, tokenize_parts
from training.evaluate import Metrics, measure
from training.loop import Outcome, autocast
from training.reading import network_shares, read_texts, read_worst_windows

_EVALUATION_BATCH = 64  # texts, where nothing is learnt and only speed matters


@dataclass(frozen=True)
class TrainedClassifier:
    """A model at its best snapshot, as it will be saved, and what is known of it.

    Attributes:
        model: on the CPU.
        read_token: where its verdict is read.
        splits: the texts it was trained, chosen and tested on.
        outcome: how the training went.
        metrics: its figures on each part, on the test part of each corpus too where there are
            several, and on a sample of the training part where that is large.
        facts: cut-offs and reliability, both from the validation part, and the share of spam that
            the verdicts assume, where it is known.
        temperature: what its logits were divided by; 1 without calibration.
        shift: what was added to the logit of spam then; 0 without.
        trained_parameters: how many parameters learnt.
    """

    model: GPT2ForSequenceClassification
    read_token: ReadToken
    splits: Splits
    outcome: Outcome
    metrics: dict[str, Metrics]
    facts: dict[str, object]
    temperature: float
    shift: float
    trained_parameters: int


def measure_model(
    model: GPT2ForSequenceClassification,
    read_token: ReadToken,
    splits: Splits,
    parts: dict[str, list[TokenizedExample]],
    outcome: Outcome,
    config: TrainConfig,
    device: torch.device,
    trained_parameters: int | None = None,
    caches: dict[str, ActivationCache] | None = None,
) -> TrainedClassifier:
    """Makes a trained model the one that will be saved, and measures it on all parts.

    At the recipe's precision, and as the service reads, if it takes what the recipe makes.

    Args:
        model: with its updates merged; rounded and calibrated here, in place.
        read_token: as ``tokenize_parts`` told it.
        splits: the texts.
        parts: the same as tokens.
        outcome: how the training went.
        config: the recipe.
        device: where to compute.
        trained_parameters: how many learnt; None for all.
        caches: activations of the parts that the model's frozen blocks gave.
    """
    model.to(device)
    whole = {n: all(len(ids) < config.max_tokens for ids, _ in part) for n, part in parts.items()}
    caches = {n: c for n, c in (caches or {}).items() if whole[n] or not config.is_served}
    finalize(model, getattr(torch, config.storage_dtype))
    if config.storage_dtype != "float32":
        caches = {}  # the frozen blocks were rounded just now
    temperature, shift = 1.0, 0.0
    if config.calibrate:
        temperature, shift = _calibration(model, splits, parts, config, device, caches)
        calibrate_head(model, temperature, shift)
        finalize(model, getattr(torch, config.storage_dtype))
    verdicts = _read_parts(model, splits, parts, config, device, caches)
    verdicts |= _by_corpus(splits.test, *verdicts["test"])
    facts = decision_facts(*verdicts["validation"])
    facts |= assumed_spam_prior(config, splits)
    return TrainedClassifier(
        model.cpu(),
        read_token,
        splits,
        outcome,
        {name: measure(*pair) for name, pair in verdicts.items()},
        facts,
        temperature,
        shift,
        trained_parameters or sum(p.numel() for p in model.parameters()),
    )


def _calibration(
    model: GPT2ForSequenceClassification,
    splits: Splits,
    parts: dict[str, list[TokenizedExample]],
    config: TrainConfig,
    device: torch.device,
    caches: dict[str, ActivationCache],
) -> tuple[float, float]:
    """The temperature and shift for the validation part, read as it is measured."""
    part, cache = parts["validation"], caches.get("validation")
    if not config.is_served or cache:
        logits, labels = predict(model, part, config, device, cache)
        shares = network_shares(model, [token_ids for token_ids, _ in part])
        return fit_calibration(logits, labels, shares=shares)
    with autocast(config.precision, device):
        texts = [example.text for example in splits.validation]
        logits, num_windows, shares = read_worst_windows(model, texts, device)
    labels = torch.tensor([label for _, label in part])
    return fit_calibration(logits, labels, num_windows, shares)


def _read_parts(
    model: GPT2ForSequenceClassification,
    splits: Splits,
    parts: dict[str, list[TokenizedExample]],
    config: TrainConfig,
    device: torch.device,
    caches: dict[str, ActivationCache],
) -> dict[str, tuple[list[int], list[float]]]:
    """Labels and P(spam) of each part; of a large training part, of a sample."""
    verdicts = {}
    for name, part in parts.items():
        texts, cache = getattr(splits, name), caches.get(name)
        if name == "train" and not cache:
            sample = sample_of_both(texts)
            part, texts = [part[n] for n in sample], [texts[n] for n in sample]
        if config.is_served and not cache:
            with autocast(config.precision, device):
                found = read_texts(model, [example.text for example in texts], device)
        else:
            logits, _ = predict(model, part, config, device, cache)
            found = logits.softmax(-1)[:, 1].tolist()
        verdicts[name] = [label for _, label in part], found
    return verdicts


def _by_corpus(
    examples: Sequence[Example], labels: Sequence[int], probabilities: Sequence[float]
) -> dict[str, tuple[list[int], list[float]]]:
    """The test part's labels and probabilities of each corpus, if there are several.

    A corpus of which only ham or only spam is there, as of some feedback, has no figures.
    """
    places: dict[str, list[int]] = {}
    for place, example in enumerate(examples):
        places.setdefault(example.source, []).append(place)
    if len(places) < 2:
        return {}
    return {
        f"test {source}": ([labels[i] for i in own], [probabilities[i] for i in own])
        for source, own in sorted(places.items())
        if {labels[i] for i in own} == {0, 1}
    }


def read_as_trained(
    model: GPT2ForSequenceClassification,
    texts: Sequence[Example],
    splits: Splits,
    config: TrainConfig,
    device: torch.device,
) -> list[float]:
    """P(spam) of each text in float32, read as a run of this recipe and split reads its test part.

    The model is on ``device``, and reads the recipe's token from here on.
    """
    model.read = config.read_token
    if config.is_served:
        return read_texts(model, [example.text for example in texts], device)
    exact = config.model_copy(update={"precision": "float32"})
    parts, _ = tokenize_parts(replace(splits, test=list(texts)), config)
    logits, _ = predict(model, parts["test"], exact, device)
    probabilities: list[float] = logits.softmax(-1)[:, 1].tolist()
    return probabilities


@torch.no_grad()
def predict(
    model: GPT2ForSequenceClassification,
    part: Sequence[TokenizedExample],
    config: TrainConfig,
    device: torch.device,
    cache: ActivationCache | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (N, 2) and labels (N,) of all texts of a part, on the CPU, at the recipe's precision.

    ``cache`` holds the part's activations, where the model's lower blocks still give the same.
    """
    num_blocks = cache.num_blocks if cache else 0
    logits, labels = [], []
    texts = iter(part)
    for batch in make_loader(part, _EVALUATION_BATCH, causal=config.causal_mask, cache=cache):
        hidden = None if batch.hidden is None else batch.hidden.to(device)
        with autocast(config.precision, device):
            found = model(batch.packed.to(device), hidden, num_blocks)
        token_lists = [token_ids for token_ids, _ in islice(texts, len(batch.labels))]
        logits.append(add_ngrams(found, model.ngrams, token_lists).cpu())
        labels.append(batch.labels)
    return torch.cat(logits), torch.cat(labels)
