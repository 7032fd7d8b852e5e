"""Checkpoint folders: GPT-2 weights from safetensors files or a hub, and back.

Knows files and tensors, nothing of texts. Never unpickles anything. A classifier's folder is in
Hugging Face's form, so that others can read it and the reverse:
``model.safetensors``, ``config.json`` (``GPT2ForSequenceClassification``), the tokenizer files and
``golden.json``, the messages with known answers that the service repeats before it opens.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from model.gpt2 import (
    LABELS,
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    GPT2Model,
    fold_head_bias,
)
from model.tokenizer import ENDOFTEXT, VOCAB_SIZE, is_gpt2_vocab, write_tokenizer_files

ReadToken = Literal["last", "first", "mean"] | int
"""Which token's logits are the verdict: a text's last, its first, the mean of all, or, as a number,
one position of a padded text. The service takes ``last`` alone, the rest are the book's."""

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_HUB_FILES = ["*.safetensors", "model.safetensors.index.json", "*.json", "merges.txt"]
# Published files hold these four as Conv1D, (in, out); torch's Linear holds (out, in).
_CONV1D = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
# In published files, but not weights: the causal mask, and the output layer tied to wte.
_NOT_WEIGHTS = (".attn.bias", ".attn.masked_bias", "lm_head.weight")


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message says which file, what it holds, what to do."""


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
        run: how it was made, from ``run.json``; None for checkpoints made elsewhere.
    """

    model: GPT2ForSequenceClassification
    name: str
    sha256: str
    read_token: ReadToken
    causal_mask: bool
    golden: tuple[GoldenMessage, ...]
    run: dict[str, Any] | None


def load_classifier(source: str | Path) -> Checkpoint:
    """Loads a classifier from a local folder or a hub id.

    Raises:
        CheckpointError: files missing or unreadable, not a two-class GPT-2, wrong shapes, weights
            that are not finite.
    """
    folder = resolve(source)
    settings = _read_json(folder / "config.json")
    config = _gpt2_config(settings, folder)
    _check_classifier(settings, folder)
    tensors = _read_weights(folder)
    with torch.device("meta"), _NoInit():
        model = GPT2ForSequenceClassification(config)
    _assign(model, tensors, folder)
    return Checkpoint(
        model=model.eval(),
        name=str(source) if _HUB_ID.fullmatch(str(source)) else folder.resolve().name,
        sha256=_hash_files(folder),
        read_token=settings.get("spamgate", {}).get("read_token", "last"),
        causal_mask=settings.get("spamgate", {}).get("causal_mask", True),
        golden=_read_golden(folder / "golden.json"),
        run=_read_json(folder / "run.json") if (folder / "run.json").exists() else None,
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
    config = _gpt2_config(_read_json(folder / "config.json"), folder)
    tensors = _read_weights(folder)
    tensors.pop("score.weight", None)
    with torch.device("meta"), _NoInit():
        model = GPT2LMHeadModel(config)
    _assign(model, tensors, folder)
    return model


class _NoInit(TorchFunctionMode):
    """Leaves weights on the meta device undrawn.

    There is nothing to draw, but torch would import its compiler to find that out: two seconds, and
    a temporary folder that a read-only container need not have.
    """

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


def save_classifier(
    folder: Path,
    model: GPT2ForSequenceClassification,
    *,
    read_token: ReadToken,
    causal_mask: bool = True,
    temperature: float = 1.0,
    storage_dtype: torch.dtype = torch.float32,
) -> None:
    """Writes weights, configuration and tokenizer files into an existing folder.

    Finalizes the model first, in place. The temperature is in the head already; it is only told.
    """
    finalize(model, storage_dtype)
    tensors = _to_published_form(model)
    tensors = {name: tensor.to(storage_dtype) for name, tensor in tensors.items()}
    _write_weights(tensors, folder)
    settings = _published_config(model.config) | {
        "architectures": ["GPT2ForSequenceClassification"],
        "id2label": {str(i): label for i, label in enumerate(LABELS)},
        "label2id": {label: i for i, label in enumerate(LABELS)},
        "problem_type": "single_label_classification",
        "spamgate": {
            "read_token": read_token,
            "causal_mask": causal_mask,
            "temperature": temperature,
        },
    }
    write_json(folder / "config.json", settings)
    write_tokenizer_files(folder, model.config.n_positions)


def save_language_model(folder: Path, model: GPT2LMHeadModel) -> None:
    """Writes a language model into an existing folder, as ``load_base`` and others read it."""
    _write_weights(_to_published_form(model), folder)
    settings = _published_config(model.config) | {"architectures": ["GPT2LMHeadModel"]}
    write_json(folder / "config.json", settings)
    write_tokenizer_files(folder, model.config.n_positions)


def write_golden(folder: Path, golden: list[GoldenMessage]) -> None:
    """Writes the messages that the service repeats before it opens."""
    entries = [{"text": g.text, "spam_probability": g.spam_probability} for g in golden]
    write_json(folder / "golden.json", entries)


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yields an empty folder beside ``target`` that takes its name once all is written.

    Raises:
        CheckpointError: if ``target`` exists; nothing is ever overwritten.
    """
    if target.exists():
        raise CheckpointError(f"{target} exists already: give another name, or remove it first.")
    partial = target.with_name(f".{target.name}.partial-{os.getpid()}")
    partial.mkdir(parents=True)
    try:
        yield partial
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_json(path: Path, value: object) -> None:
    """Writes indented JSON with a final newline."""
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8", newline="\n")


def resolve(source: str | Path) -> Path:
    """The local folder of a checkpoint; of a hub id, its safetensors and JSON files are downloaded.

    Raises:
        CheckpointError: neither a folder nor a hub id, or the hub does not have it.
    """
    folder = Path(source)
    if folder.is_dir():
        return folder
    if not _HUB_ID.fullmatch(str(source)):
        raise CheckpointError(
            f"no checkpoint folder at {source!s}. Give a folder that holds config.json and "
            "model.safetensors, or a hub id such as openai-community/gpt2."
        )
    try:
        import huggingface_hub
    except ImportError as error:
        raise CheckpointError(
            f"{source!s} is not a folder here, and to ask a hub for it the package huggingface_hub "
            "is needed: pip install -e '.[train]'"
        ) from error
    try:
        return Path(huggingface_hub.snapshot_download(str(source), allow_patterns=_HUB_FILES))
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(
            f"{source!s} is not a folder here, and the hub did not give it: {reason}"
        ) from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing: a checkpoint folder holds it.") from error
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds a {type(value).__name__}, not a JSON object.")
    return value


def _read_golden(path: Path) -> tuple[GoldenMessage, ...]:
    if not path.exists():
        return ()
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return tuple(
            GoldenMessage(str(entry["text"]), float(entry["spam_probability"])) for entry in entries
        )
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(
            f"{path} is not a list of {{text, spam_probability}}: {error!r}"
        ) from error


def _gpt2_config(settings: dict[str, Any], folder: Path) -> GPT2Config:
    """The sizes in a ``config.json``; refuses variants of GPT-2 that this code does not compute."""
    path = folder / "config.json"
    expected = {
        "model_type": ("gpt2",),
        "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
        "scale_attn_weights": (True,),
        "scale_attn_by_inverse_layer_idx": (False,),
        "reorder_and_upcast_attn": (False,),
        "n_inner": (None, 4 * settings.get("n_embd", 0)),
    }
    for key, allowed in expected.items():
        if settings.get(key, allowed[0]) not in allowed:
            raise CheckpointError(
                f"{path}: {key} is {settings[key]!r}; only {allowed[-1]!r} can be computed here."
            )
    names = ("n_layer", "n_head", "n_embd", "n_positions", "vocab_size")
    missing = [name for name in names if not isinstance(settings.get(name), int)]
    if missing:
        raise CheckpointError(f"{path} does not say {', '.join(missing)} as whole numbers.")
    try:
        config = GPT2Config(
            **{name: settings[name] for name in names},
            layer_norm_epsilon=float(settings.get("layer_norm_epsilon", 1e-5)),
            initializer_range=float(settings.get("initializer_range", 0.02)),
        )
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{path}: {error}") from error
    vocab_file = folder / "vocab.json"
    if config.vocab_size != VOCAB_SIZE or (vocab_file.exists() and not is_gpt2_vocab(vocab_file)):
        raise CheckpointError(
            f"{folder} is not made for GPT-2's own {VOCAB_SIZE} tokens, the only ones known here."
        )
    return config


def _check_classifier(settings: dict[str, Any], folder: Path) -> None:
    labels = settings.get("id2label") or {}
    if [labels.get(str(i)) for i in range(len(labels))] != list(LABELS):
        raise CheckpointError(
            f"{folder / 'config.json'}: id2label is {labels}, a spam classifier has "
            f"{dict(enumerate(LABELS))}. A language model must be fine-tuned first: "
            "python -m training.finetune."
        )


def _read_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder, in float32, without the prefix that some publishers leave out."""
    index = folder / "model.safetensors.index.json"
    names = ["model.safetensors"]
    if index.exists():
        names = sorted(set(_read_json(index).get("weight_map", {}).values()))
    tensors: dict[str, Tensor] = {}
    for name in names:
        path = folder / name
        if path.parent != folder or not path.is_file():
            pickled = any(folder.glob("*.bin")) or any(folder.glob("*.pt"))
            hint = " Pickled weights (.bin, .pt) are never read: convert them." if pickled else ""
            raise CheckpointError(f"{path} is missing: weights are read from safetensors.{hint}")
        try:
            tensors |= load_file(path)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path} is not a whole safetensors file: {error}") from error
    return {
        name.removeprefix("transformer."): tensor.to(torch.float32)
        for name, tensor in tensors.items()
        if not name.endswith(_NOT_WEIGHTS)
    }


def _write_weights(tensors: dict[str, Tensor], folder: Path) -> None:
    path = folder / "model.safetensors"
    save_file(tensors, path, metadata={"format": "pt"})
    path.chmod(0o644)  # safetensors writes for the owner alone; the service is another user


def _assign(
    model: GPT2ForSequenceClassification | GPT2LMHeadModel, tensors: dict[str, Tensor], folder: Path
) -> None:
    """Puts published tensors into a model made on the meta device, after checking every one."""
    wanted = model.state_dict()
    given = {
        name if name.startswith("score.") else f"transformer.{name}": (
            tensor.t().contiguous() if name.endswith(_CONV1D) and tensor.ndim == 2 else tensor
        )
        for name, tensor in tensors.items()
    }
    problems = [f"{name} is missing" for name in sorted(wanted.keys() - given.keys())]
    problems += [f"{name} is not a part of GPT-2" for name in sorted(given.keys() - wanted.keys())]
    for name in sorted(wanted.keys() & given.keys()):
        if given[name].shape != wanted[name].shape:
            shapes = f"{tuple(given[name].shape)} instead of {tuple(wanted[name].shape)}"
            problems.append(f"{name} has shape {shapes}")
        elif not given[name].isfinite().all():
            problems.append(f"{name} holds values that are not finite")
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise CheckpointError(f"{folder}: {'; '.join(problems[:3])}{more}.")
    model.load_state_dict(given, assign=True)


def _to_published_form(
    model: GPT2ForSequenceClassification | GPT2LMHeadModel,
) -> dict[str, Tensor]:
    return {
        name: (tensor.t() if name.endswith(_CONV1D) else tensor).contiguous()
        for name, tensor in model.state_dict().items()
    }


def _published_config(config: GPT2Config) -> dict[str, Any]:
    return {
        "model_type": "gpt2",
        "activation_function": "gelu_new",
        "n_layer": config.n_layer,
        "n_head": config.n_head,
        "n_embd": config.n_embd,
        "n_positions": config.n_positions,
        "vocab_size": config.vocab_size,
        "layer_norm_epsilon": config.layer_norm_epsilon,
        "initializer_range": config.initializer_range,
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
        "dtype": "float32",
        "bos_token_id": ENDOFTEXT,
        "eos_token_id": ENDOFTEXT,
        "pad_token_id": ENDOFTEXT,
    }


def _hash_files(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in [*sorted(folder.glob("*.safetensors")), folder / "config.json"]:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
