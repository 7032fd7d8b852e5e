"""One training run: examples in, a measured classifier out. No files but base and teacher's."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from model.checkpoint import load_base, load_classifier, undrawn
from model.gpt2 import GPT2Config, GPT2ForSequenceClassification, init_weights
from training.activations import ActivationCache, cache_activations
from training.augment import Augmenter
from training.bag_of_words import BagOfWords
from training.config import TrainConfig, TrainingError
from training.corpora import Example
from training.data import Splits, TokenizedExample, make_loader, split_examples, tokenize_parts
from training.distillation import Distillation
from training.features import Lessons
from training.freeze import freeze, num_frozen_blocks
from training.loop import Outcome, Trainer, autocast
from training.lora import merge_lora
from training.measuring import TrainedClassifier, measure_model
from training.memory import (
    keep_freed_memory,
    learn_embeddings_in_use,
    make_embeddings_whole,
    settled_objects,
)
from training.ngrams import fit_ngrams


def finetune(
    config: TrainConfig,
    examples: Sequence[Example],
    device: torch.device,
    on_trained: Callable[[], None] = lambda: None,
) -> TrainedClassifier:
    """Splits, trains, and measures the best snapshot.

    Args:
        config: the recipe.
        examples: all labelled texts.
        device: where to compute.
        on_trained: called when the training has ended, before anything is measured.

    Raises:
        TrainingError: too few texts, keys that do not go together, a loss that is not finite.
        CheckpointError: a base that cannot be used.
    """
    if config.accumulation_steps > 1 and config.spam_weight != 1 and not config.prefix_loss:
        raise TrainingError(
            "accumulation_steps and spam_weight go together with prefix_loss only: each pass would "
            "be weighed by its own share of spam, not by that of all."
        )
    if device.type == "cpu":
        keep_freed_memory(large_pages=config.trained == "all")
    splits = (whole := split_examples(examples, config)).for_network()
    parts, read_token = tokenize_parts(splits, config)
    table = fit_ngrams(whole.train, config.ngrams, config.seed) if config.ngrams else None
    torch.manual_seed(config.seed)
    model = make_model(config)
    trained_parameters = freeze(model, config)
    num_parameters = sum(p.numel() for p in model.parameters())
    if not config.augments and not config.teacher:  # those could read any token
        in_use = {token for part in parts.values() for tokens, _ in part for token in tokens}
        learn_embeddings_in_use(model, in_use)
    model.to(device)
    print(
        f"training {trained_parameters:,} of {num_parameters:,} parameters on {device}: "
        f"{splits.counts()}"
    )
    with settled_objects():
        caches = _cache_activations(model, parts, config, device)
        outcome = _train(model, splits, parts, caches, config, device)
        on_trained()
    merge_lora(model)
    make_embeddings_whole(model)
    model.ngrams = table or model.ngrams  # one that came with a kept head stays
    return measure_model(
        model, read_token, splits, parts, outcome, config, device, trained_parameters, caches
    )


def make_model(config: TrainConfig) -> GPT2ForSequenceClassification:
    """The base with a two-class head, or random weights. The head is fresh and has no table beside
    it, unless the recipe keeps the base's.

    What is drawn comes from torch's global generator.
    """
    if config.base == "random":
        sizes = GPT2Config(n_layer=config.n_layer, n_head=config.n_head, n_embd=config.n_embd)
        _check_max_tokens(config, sizes)
        model = GPT2ForSequenceClassification(sizes, head_bias=True, read=config.read_token)
        init_weights(model, sizes)
        return model
    classifier = load_classifier(config.base).model if config.keep_head else None
    backbone = classifier.transformer if classifier else load_base(config.base)
    _check_max_tokens(config, backbone.config)
    if config.random_weights:
        init_weights(backbone, backbone.config)
    with undrawn():
        model = GPT2ForSequenceClassification(
            backbone.config, head_bias=True, read=config.read_token
        )
    model.transformer = backbone
    model.score = torch.nn.Linear(backbone.config.n_embd, 2)
    if classifier:
        with torch.no_grad():
            model.score.weight.copy_(classifier.score.weight)
            model.score.bias.zero_()  # saved without one: ln_f does its work
        model.ngrams = classifier.ngrams
    return model


def _check_max_tokens(config: TrainConfig, sizes: GPT2Config) -> None:
    if config.max_tokens > sizes.n_positions:
        raise TrainingError(
            f"max_tokens is {config.max_tokens}, {config.base} takes {sizes.n_positions}: write so "
            "many into the recipe."
        )


def _cache_activations(
    model: GPT2ForSequenceClassification,
    parts: dict[str, list[TokenizedExample]],
    config: TrainConfig,
    device: torch.device,
) -> dict[str, ActivationCache]:
    """Activations of all parts; none where keeping them saves nothing."""
    num_blocks = num_frozen_blocks(config.trained, model.config.n_layer)
    if num_blocks < 1 or config.augments or not config.cached_activations:
        return {}
    token_ids = {name: [tokens for tokens, _ in part] for name, part in parts.items()}
    with autocast(config.precision, device):
        return cache_activations(
            model,
            token_ids,
            num_blocks,
            device,
            causal=config.causal_mask,
            max_memory_bytes=config.cache_memory_bytes,
        )


def _train(
    model: GPT2ForSequenceClassification,
    splits: Splits,
    parts: dict[str, list[TokenizedExample]],
    caches: dict[str, ActivationCache],
    config: TrainConfig,
    device: torch.device,
) -> Outcome:
    augment = Augmenter(splits.train, config) if config.augments else None
    bag_of_words = BagOfWords(splits.train, config.seed) if config.bag_of_words else None
    # The book seeds before the head is made, before the loaders and before the training.
    torch.manual_seed(config.seed)
    train_loader = make_loader(
        parts["train"],
        config.batch_size,
        training=True,
        causal=config.causal_mask,
        augment=augment,
        bag_of_words=bag_of_words,
        cache=caches.get("train"),
    )
    validation_loader = make_loader(
        parts["validation"],
        config.batch_size,
        causal=config.causal_mask,
        cache=caches.get("validation"),
    )
    torch.manual_seed(config.seed)
    num_cached_blocks = caches["train"].num_blocks if caches else 0
    distillation = None
    if config.teacher:
        with autocast(config.precision, device):
            distillation = Distillation(
                model.transformer, Lessons(Path(config.teacher)), config.seed, device
            )
    return Trainer(
        model, train_loader, validation_loader, config, device, num_cached_blocks, distillation
    ).run()
