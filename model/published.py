"""The published form of GPT-2: its ``config.json`` and tensors, here turned into ours and back.

Never unpickles anything.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.folders import CheckpointError, read_json
from model.gpt2 import GPT2Config, GPT2ForSequenceClassification, GPT2LMHeadModel
from model.tokenizer import ENDOFTEXT, VOCAB_SIZE, is_gpt2_vocab

# Published files hold these four as Conv1D, (in, out); torch's Linear holds (out, in).
_CONV1D = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
# In published files, but not weights: the causal mask, and the output layer tied to wte.
_NOT_WEIGHTS = (".attn.bias", ".attn.masked_bias", "lm_head.weight")


def gpt2_config(settings: dict[str, Any], folder: Path) -> GPT2Config:
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


def published_config(config: GPT2Config) -> dict[str, Any]:
    """What every ``config.json`` says, whatever stands on top of the network."""
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


def read_weights(folder: Path) -> dict[str, Tensor]:
    """All of a network's tensors, in float32, without the prefix that some publishers leave out."""
    index = folder / "model.safetensors.index.json"
    names = ["model.safetensors"]
    if index.exists():
        names = sorted(set(read_json(index).get("weight_map", {}).values()))
    tensors: dict[str, Tensor] = {}
    for name in names:
        path = folder / name
        if path.parent != folder or not path.is_file():
            pickled = any(folder.glob("*.bin")) or any(folder.glob("*.pt"))
            hint = " Pickled weights (.bin, .pt) are never read: convert them." if pickled else ""
            raise CheckpointError(f"{path} is missing: weights are read from safetensors.{hint}")
        tensors |= read_tensors(path)
    return {
        name.removeprefix("transformer."): tensor.to(torch.float32)
        for name, tensor in tensors.items()
        if not name.endswith(_NOT_WEIGHTS)
    }


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of one file as they are.

    Raises:
        CheckpointError: not a whole safetensors file.
    """
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a whole safetensors file: {error}") from error


def write_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Writes a safetensors file that every user of the machine can read."""
    save_file(tensors, path, metadata={"format": "pt"})
    path.chmod(0o644)  # safetensors writes for the owner alone; the service is another user


def assign(
    model: GPT2ForSequenceClassification | GPT2LMHeadModel, tensors: dict[str, Tensor], folder: Path
) -> None:
    """Puts published tensors into a model made on the meta device, after checking every one.

    Raises:
        CheckpointError: a tensor is missing, unknown, of another shape or not finite.
    """
    wanted = model.state_dict()
    given = {
        name if name.startswith("score.") else f"transformer.{name}": (
            _turned(tensor) if name.endswith(_CONV1D) and tensor.ndim == 2 else tensor
        )
        for name, tensor in tensors.items()
    }
    problems = [f"{name} is missing" for name in sorted(wanted.keys() - given.keys())]
    problems += [f"{name} is not a part of GPT-2" for name in sorted(given.keys() - wanted.keys())]
    for name in sorted(wanted.keys() & given.keys()):
        if given[name].shape != wanted[name].shape:
            shapes = f"{tuple(given[name].shape)} instead of {tuple(wanted[name].shape)}"
            problems.append(f"{name} has shape {shapes}")
        elif not _all_finite(given[name]):
            problems.append(f"{name} holds values that are not finite")
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise CheckpointError(f"{folder}: {'; '.join(problems[:3])}{more}.")
    model.load_state_dict(given, assign=True)


def _turned(tensor: Tensor) -> Tensor:
    """As ``tensor.t().contiguous()``, in a third of its time: in pieces that all cores copy."""
    return torch.cat([rows.t() for rows in torch.split(tensor, 64)], dim=1)


def _all_finite(tensor: Tensor) -> bool:
    """As ``tensor.isfinite().all()``, in a fifteenth of its time: NaN wins any comparison."""
    return bool(torch.stack(tensor.aminmax()).isfinite().all())


def to_published_form(
    model: GPT2ForSequenceClassification | GPT2LMHeadModel,
) -> dict[str, Tensor]:
    """The model's tensors as published files hold them."""
    return {
        name: (tensor.t() if name.endswith(_CONV1D) else tensor).contiguous()
        for name, tensor in model.state_dict().items()
    }
