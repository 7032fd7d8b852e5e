"""The published form of GPT-2: its ``config.json`` and tensors, here turned into ours and back.

Never unpickles anything.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from model.folders import CheckpointError, read_json
from model.gpt2 import GPT2Config, GPT2ForSequenceClassification, GPT2LMHeadModel
from model.tokenizer import ENDOFTEXT, VOCAB_SIZE, is_gpt2_vocab

# Published files hold these four as Conv1D, (in, out); torch's Linear holds (out, in).
_CONV1D = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
# In published files, but not weights: the causal mask, and the output layer tied to wte.
_NOT_WEIGHTS = (".attn.bias", ".attn.masked_bias", "lm_head.weight")

# Variants of GPT-2 that are computed here; what stands first is meant where nothing is said.
_VARIANTS: dict[str, tuple[object, ...]] = {
    "model_type": ("gpt2",),
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "reorder_and_upcast_attn": (False,),
}
# The largest sizes, many times those of any GPT-2: a larger one is damage, and ends here rather
# than in an allocation.
_LARGEST_SIZES = {
    "n_layer": 1024,
    "n_head": 1024,
    "n_embd": 1 << 16,
    "n_positions": 1 << 20,
    "vocab_size": 1 << 20,
}
_FRACTIONS = ("layer_norm_epsilon", "initializer_range")
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_CONVERT = f"convert them to one of {', '.join(map(str, _FLOATS))}"


def gpt2_config(settings: dict[str, Any], folder: Path) -> GPT2Config:
    """The sizes in a ``config.json``; refuses variants of GPT-2 that this code does not compute."""
    path = folder / "config.json"
    for key, allowed in _VARIANTS.items():
        _check_variant(settings, key, allowed, path)
    sizes = {
        name: _number(settings, name, int, most, path) for name, most in _LARGEST_SIZES.items()
    }
    _check_variant(settings, "n_inner", (None, 4 * sizes["n_embd"]), path)
    stated = [name for name in _FRACTIONS if name in settings]
    fractions = {name: _number(settings, name, float, 1, path) for name in stated}
    try:
        config = GPT2Config(**sizes, **fractions)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error
    files = [folder / name for name in ("vocab.json", "tokenizer.json")]
    if config.vocab_size != VOCAB_SIZE or not all(map(_is_known, files)):
        raise CheckpointError(
            f"{folder} is not made for GPT-2's own {VOCAB_SIZE} tokens, the only ones known here."
        )
    stated_file = folder / "tokenizer_config.json"
    if stated_file.is_file():
        tokenizer = read_json(stated_file)
        for key in ("add_prefix_space", "add_bos_token", "add_eos_token"):
            _check_variant(tokenizer, key, (None, False), stated_file)
    return config


def _is_known(vocab_file: Path) -> bool:
    try:
        return not vocab_file.is_file() or is_gpt2_vocab(vocab_file)
    except OSError as error:
        raise CheckpointError(f"{vocab_file} cannot be read: {error.strerror}.") from error


def _check_variant(
    settings: dict[str, Any], key: str, allowed: tuple[object, ...], path: Path
) -> None:
    if settings.get(key, allowed[0]) not in allowed:
        raise CheckpointError(
            f"{path}: {key} is {settings[key]!r}; only {allowed[-1]!r} can be computed here."
        )


def _number(
    settings: dict[str, Any], name: str, kind: type[int] | type[float], most: int, path: Path
) -> Any:
    value = settings.get(name)
    if type(value) is not kind or not 0 < value <= most:  # nor NaN, nor True
        wanted = "a whole number" if kind is int else "a fraction"
        raise CheckpointError(
            f"{path}: {name} is {value!r}; {wanted} above 0 and at most {most} is needed. Take "
            "config.json from where the weights come from."
        )
    return value


def published_config(config: GPT2Config) -> dict[str, Any]:
    """What every ``config.json`` says, whatever stands on top of the network."""
    return {
        "model_type": "gpt2",
        "activation_function": "gelu_new",
        **asdict(config),
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
    if index.exists() and not (folder / names[0]).exists():  # as transformers has it
        names = _indexed_files(index)
    present = {path.name for path in folder.glob("*.safetensors")}
    tensors: dict[str, Tensor] = {}
    for name in names:
        path = folder / name
        if name not in present:
            pickled = any(folder.glob("*.bin")) or any(folder.glob("*.pt"))
            hint = " Pickled weights (.bin, .pt) are never read: convert them." if pickled else ""
            raise CheckpointError(f"{path} is missing: weights are read from safetensors.{hint}")
        for key, tensor in read_tensors(path).items():
            key = key.removeprefix("transformer.")
            if key in tensors:
                raise CheckpointError(f"{path} has {key} a second time: remove one of the two.")
            tensors[key] = tensor
    return tensors


def _indexed_files(index: Path) -> list[str]:
    files = read_json(index).get("weight_map")
    if not isinstance(files, dict) or not all(isinstance(name, str) for name in files.values()):
        raise CheckpointError(
            f"{index}: weight_map does not give each tensor's file by name. Take the index from "
            "where the weights come from."
        )
    return sorted(set(files.values()))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The weights of one file in float32.

    Raises:
        CheckpointError: not a whole safetensors file, or weights in a format not read here.
    """
    try:
        tensors = load(path.read_bytes())  # not mapped: whoever cuts a mapped file ends the process
    except KeyError as error:  # for which torch has no name
        raise CheckpointError(f"{path}: some values are {error.args[0]}; {_CONVERT}.") from error
    # The last two of a shape beyond all bounds, behind whose reason torch tells its own calls.
    except (SafetensorError, OSError, TypeError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"{path} is not a whole safetensors file: {reason}") from error
    weights = {name: t for name, t in tensors.items() if not name.endswith(_NOT_WEIGHTS)}
    for name, tensor in weights.items():
        if tensor.dtype not in _FLOATS:
            raise CheckpointError(f"{path}: the values of {name} are {tensor.dtype}; {_CONVERT}.")
    # Copies: the library's tensors lie in what was read, one behind the other.
    return {name: tensor.to(torch.float32, copy=True) for name, tensor in weights.items()}


def write_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Writes a safetensors file that every user of the machine can read.

    Raises:
        CheckpointError: the disk is full, or the folder does not take it.
    """
    try:
        save_file(tensors, path, metadata={"format": "pt"})
    except SafetensorError as error:  # whatever the system said
        raise CheckpointError(f"cannot write {path}: {error}") from error
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
            tensor.t() if name.endswith(_CONV1D) and tensor.ndim == 2 else tensor
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
    rows = {name: tensor.contiguous() for name, tensor in given.items()}
    model.load_state_dict(rows, assign=True)


def _all_finite(tensor: Tensor) -> bool:
    """As ``tensor.isfinite().all()``, in a fifteenth of its time: NaN wins any comparison."""
    return bool(torch.stack(tensor.aminmax()).isfinite().all())


def to_published_form(
    model: GPT2ForSequenceClassification | GPT2LMHeadModel, dtype: torch.dtype
) -> dict[str, Tensor]:
    """The model's tensors as published files hold them, in this number format."""
    return {
        name: (tensor.t() if name.endswith(_CONV1D) else tensor).to(dtype).contiguous()
        for name, tensor in model.state_dict().items()
    }
