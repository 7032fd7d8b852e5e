"""Checkpoint folders: GPT-2 weights from safetensors files or a hub, and back.

Knows files and tensors, nothing of texts. Never unpickles anything. A classifier's folder is in
Hugging Face's form, so that others can read it and the reverse:
``model.safetensors``, ``config.json`` (``GPT2ForSequenceClassification``), the tokenizer files and
``golden.json``, the messages with known answers that the service repeats before it opens. Where
``config.json`` says so, the table of n-grams in ``ngrams.safetensors`` has a say that others do not
know of.
"""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from model.folders import CheckpointError, is_there, parse_json, read_json, write_json
from model.gpt2 import (
    LABELS,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    GPT2Model,
    fold_head_bias,
)
from model.hub import resolve
from model.ngrams import KINDS, NgramTable
from model.published import (
    assign,
    gpt2_config,
    published_config,
    read_tensors,
    read_weights,
    to_published_form,
    write_tensors,
)
from model.tokenizer import ENDOFTEXT, write_tokenizer_files

ReadToken = Literal["last", "first", "mean"] | int
"""Which token's logits are the verdict: a text's last, its first, the mean of all, or, as a number,
one position of a padded text. The service takes ``last`` alone, the rest are the book's."""


_WEIGHTS_FILE = "model.safetensors"
_NGRAMS_FILE = "ngrams.safetensors"


@dataclass(frozen=True)
class GoldenMessage:
    """A message and the probability of spam that the checkpoint gave it when it was saved."""

    text: str
    spam_probability: float


@dataclass(frozen=True)
class Checkpoint:
    """A loaded classifier.

    Attributes:
        model: on the CPU, float32, in evaluation mode.
        name: the folder's name or the hub id.
        sha256: over the weights and the configuration, 64 hex digits.
        read_token: the token whose logits are the verdict.
        causal_mask: whether tokens were kept from seeing what follows them.
        golden: messages with known answers; empty for checkpoints made elsewhere.
        run: how it was made, from ``run.json``; empty for checkpoints made elsewhere.
    """

    model: GPT2ForSequenceClassification
    name: str
    sha256: str
    read_token: ReadToken
    causal_mask: bool
    golden: tuple[GoldenMessage, ...]
    run: dict[str, Any]


def load_classifier(source: str | Path) -> Checkpoint:
    """Loads a classifier from a local folder or a hub id.

    Raises:
        CheckpointError: files missing or unreadable, not a two-class GPT-2, wrong shapes, weights
            that are not finite.
    """
    found = resolve(source)
    folder = found.resolve()  # a link that is switched meanwhile names another checkpoint
    settings = read_json(folder / "config.json")
    config = gpt2_config(settings, folder)
    _check_classifier(settings, folder / "config.json")
    own = settings.get("spamgate", {})
    # Names of folders need not be text, and this one is told in every answer.
    own_name = os.fsencode(folder.name).decode("utf-8", "replace")
    tensors = read_weights(folder)
    with undrawn():
        model = GPT2ForSequenceClassification(config)
    assign(model, tensors, folder)
    if own.get("ngrams", False):
        model.ngrams = _read_ngrams(folder / _NGRAMS_FILE)
    return Checkpoint(
        model=model.eval(),
        name=own_name if found == Path(source) else str(source),
        sha256=hash_files(folder),
        read_token=own.get("read_token", "last"),
        causal_mask=own.get("causal_mask", True),
        golden=_read_golden(folder / "golden.json"),
        run=read_json(folder / "run.json") if is_there(folder / "run.json") else {},
    )


def load_base(source: str | Path) -> GPT2Model:
    """Loads the network below the head from a language model or a classifier, ready to be trained.

    Raises:
        CheckpointError: as for ``load_classifier``.
    """
    return load_language_model(source).transformer


def load_language_model(source: str | Path) -> GPT2LMHeadModel:
    """Loads a language model; of a classifier, its network under the tied output layer.

    Raises:
        CheckpointError: as for ``load_classifier``.
    """
    folder = resolve(source)
    settings = read_json(folder / "config.json")
    if not settings.get("tie_word_embeddings", True):
        raise CheckpointError(
            f"{folder}: its output layer is not its embeddings (tie_word_embeddings is false); "
            "only tied models are read."
        )
    config = gpt2_config(settings, folder)
    tensors = read_weights(folder)
    tensors.pop("score.weight", None)
    with undrawn():
        model = GPT2LMHeadModel(config)
    assign(model, tensors, folder)
    return model


def _read_ngrams(path: Path) -> NgramTable:
    if not path.is_file():
        raise CheckpointError(f"{path} is missing: config.json says that the verdicts need it.")
    weight = read_tensors(path).get("weight")
    if weight is None or not _is_table(weight):
        raise CheckpointError(
            f"{path} does not hold finite weights of shape ({KINDS}, a power of two)."
        )
    return NgramTable(weight)


def _is_table(weight: torch.Tensor) -> bool:
    if weight.ndim != 2 or len(weight) != KINDS or weight.shape[1].bit_count() != 1:
        return False
    return bool(weight.isfinite().all())


@contextlib.contextmanager
def undrawn() -> Iterator[None]:
    """Networks made in this block have no weights yet: they cost neither memory nor randomness.

    On the meta device there is nothing to draw, but torch would import its compiler to find that
    out: two seconds, and a temporary folder that a read-only container need not have.
    """
    with torch.device("meta"), _NoInit():
        yield


class _NoInit(TorchFunctionMode):
    """Leaves weights undrawn."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return None if func is nn.init.normal_ else func(*args, **(kwargs or {}))


@torch.no_grad()
def finalize(model: GPT2ForSequenceClassification, storage_dtype: torch.dtype) -> None:
    """Makes the model in memory the one that will be loaded again: measure it only after this.

    Folds the head's bias into ``ln_f`` and rounds the weights to ``storage_dtype``, in place.
    """
    fold_head_bias(model)
    for parameter in model.parameters():
        parameter.copy_(parameter.to(storage_dtype))
    if model.ngrams is not None:
        model.ngrams = NgramTable(model.ngrams.weight.to(storage_dtype).float())


def save_classifier(
    folder: Path,
    model: GPT2ForSequenceClassification,
    *,
    read_token: ReadToken,
    causal_mask: bool = True,
    temperature: float = 1.0,
    shift: float = 0.0,
    storage_dtype: torch.dtype = torch.float32,
) -> None:
    """Writes weights, configuration and tokenizer files into an existing folder.

    Finalizes the model first, in place. Temperature and shift are in the head already; they are
    only told.
    """
    finalize(model, storage_dtype)
    write_tensors(to_published_form(model, storage_dtype), folder / _WEIGHTS_FILE)
    if model.ngrams is not None:
        table = {"weight": model.ngrams.weight.to(storage_dtype)}
        write_tensors(table, folder / _NGRAMS_FILE)
    settings = published_config(model.config) | {
        "architectures": ["GPT2ForSequenceClassification"],
        "id2label": {str(i): label for i, label in enumerate(LABELS)},
        "label2id": {label: i for i, label in enumerate(LABELS)},
        "problem_type": "single_label_classification",
        "spamgate": {
            "read_token": read_token,
            "causal_mask": causal_mask,
            "temperature": temperature,
            "shift": shift,
            "ngrams": model.ngrams is not None,
        },
    }
    write_json(folder / "config.json", settings)
    write_tokenizer_files(folder, model.config.n_positions)


def save_language_model(
    folder: Path, model: GPT2LMHeadModel, storage_dtype: torch.dtype = torch.float32
) -> None:
    """Writes a language model into an existing folder, as ``load_base`` and others read it."""
    write_tensors(to_published_form(model, storage_dtype), folder / _WEIGHTS_FILE)
    settings = published_config(model.config) | {"architectures": ["GPT2LMHeadModel"]}
    write_json(folder / "config.json", settings)
    write_tokenizer_files(folder, model.config.n_positions)


def write_golden(folder: Path, golden: list[GoldenMessage]) -> None:
    """Writes the messages that the service repeats before it opens."""
    entries = [{"text": g.text, "spam_probability": g.spam_probability} for g in golden]
    write_json(folder / "golden.json", entries)


def _read_golden(path: Path) -> tuple[GoldenMessage, ...]:
    if not is_there(path):
        return ()
    entries = parse_json(path)
    try:
        if not isinstance(entries, list):
            raise TypeError(f"it holds a {type(entries).__name__}")
        return tuple(
            GoldenMessage(str(entry["text"]), float(entry["spam_probability"])) for entry in entries
        )
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise CheckpointError(
            f"{path} is not a list of {{text, spam_probability}}: {error!r}"
        ) from error


def _check_classifier(settings: dict[str, Any], path: Path) -> None:
    labels, own = settings.get("id2label"), settings.get("spamgate", {})
    wanted = {str(i): label for i, label in enumerate(LABELS)}
    if labels != wanted:
        raise CheckpointError(
            f"{path}: id2label is {labels}, a spam classifier has {wanted}. A language model must "
            "be fine-tuned first: python -m training.finetune."
        )
    if settings.get("problem_type") not in (None, "single_label_classification"):
        raise CheckpointError(
            f"{path}: problem_type is {settings['problem_type']!r}; only the two classes of "
            "'single_label_classification', one or the other, can be computed here."
        )
    if settings.get("pad_token_id") not in (None, ENDOFTEXT):
        raise CheckpointError(
            f"{path}: pad_token_id is {settings['pad_token_id']!r}, which would not be read at a "
            f"text's end; only {ENDOFTEXT}, which ends none, can be computed here."
        )
    if not isinstance(own, dict):
        raise CheckpointError(
            f"{path}: spamgate is {own!r}, not an object; checkpoints made elsewhere have none: "
            "leave it out."
        )


def hash_files(folder: Path) -> str:
    """``sha256`` of the checkpoint in a folder.

    Raises:
        CheckpointError: a file that cannot be read.
    """
    digest = hashlib.sha256()
    for path in [*sorted(folder.glob("*.safetensors")), folder / "config.json"]:
        try:
            with path.open("rb") as file:
                hashlib.file_digest(file, lambda: digest)
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from error
    return digest.hexdigest()
