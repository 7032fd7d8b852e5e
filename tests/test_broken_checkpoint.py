"""Checkpoint folders that cannot be used: each is one clear error, whatever is wrong."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, load_file, save_file

from model.checkpoint import load_classifier
from model.classifier import Classifier
from model.folders import CheckpointError
from model.published import read_tensors


def _edit_config(**changes: object) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | changes))

    return edit


def _edit_weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file(weights, folder / "model.safetensors")

    return edit


def _write(name: str, content: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / name).write_text(content)

    return write


def _make_folder(name: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).mkdir()

    return make


def _link(name: str, target: str) -> Callable[[Path], None]:
    def link(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return link


def _make_pipe(folder: Path) -> None:
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")


def _truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def _write_weights(dtype: str, shape: list[int], num_bytes: int) -> Callable[[Path], None]:
    """One tensor, as the library would not write it."""

    def write(folder: Path) -> None:
        told = {"a": {"dtype": dtype, "shape": shape, "data_offsets": [0, num_bytes]}}
        head = json.dumps(told).encode()
        content = len(head).to_bytes(8, "little") + head + bytes(num_bytes)
        (folder / "model.safetensors").write_bytes(content)

    return write


def _write_index(content: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "model.safetensors").unlink()  # beside which an index does not count
        (folder / "model.safetensors.index.json").write_text(content)

    return write


def _only_pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


NOT_FINITE = {"transformer.ln_f.bias": torch.full((32,), float("nan"))}
INFINITE = {"transformer.ln_f.bias": torch.tensor([-torch.inf] + [0.0] * 31)}
FP8 = {"transformer.ln_f.bias": torch.zeros(32, dtype=torch.float8_e4m3fn)}
WRONG_SHAPE = {"transformer.ln_f.bias": torch.zeros(31)}
# No bytes in the file, and more rows than memory has room for.
NO_VALUES = {"transformer.h.0.attn.c_attn.weight": torch.zeros(2**50, 0)}

BROKEN = {
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "model.safetensors is missing"),
    "pickled weights": (_only_pickled, "never read"),
    "half a file": (_truncate, "not a whole safetensors file"),
    "no config": (lambda f: (f / "config.json").unlink(), "config.json is missing"),
    "config not JSON": (_write("config.json", "{"), "is not JSON"),
    "config far too deep": (_write("config.json", "[" * 100_000), "is not JSON"),
    "config not an object": (_write("config.json", "[]"), "holds a list"),
    "config a folder": (_make_folder("config.json"), r"config\.json cannot be read"),
    "config a pipe": (_make_pipe, r"config\.json is neither a file nor a folder"),
    "run.json without end": (_link("run.json", "/dev/zero"), "neither a file nor a folder"),
    "vocab.json that fails": (_link("vocab.json", "/proc/self/mem"), r"vocab\.json cannot be read"),
    "no sizes": (_edit_config(n_layer=None), "n_layer is None; a whole number above 0"),
    "heads do not divide": (_edit_config(n_head=5), "n_head = 5 does not divide"),
    "other model": (_edit_config(model_type="llama"), "model_type is 'llama'"),
    "other GELU": (_edit_config(activation_function="gelu"), "activation_function is 'gelu'"),
    "other vocabulary": (_edit_config(vocab_size=100), "GPT-2's own 50257 tokens"),
    "foreign vocab.json": (_write("vocab.json", "{}"), "GPT-2's own"),
    "vocab.json far too deep": (_write("vocab.json", "[" * 100_000), "GPT-2's own"),
    "foreign tokenizer.json": (_write("tokenizer.json", '{"model": {"vocab": {}}}'), "GPT-2's own"),
    "blank in front": (
        _write("tokenizer_config.json", '{"add_prefix_space": true}'),
        "add_prefix_space is True; only False",
    ),
    "tokenizer.json of a list": (_write("tokenizer.json", "[]"), "GPT-2's own"),
    "padding with a word": (_edit_config(pad_token_id=0), "pad_token_id is 0, which would not"),
    "other labels": (_edit_config(id2label={"0": "spam", "1": "ham"}), "id2label"),
    "language model": (_edit_config(id2label=None), "must be fine-tuned first"),
    "missing tensor": (_edit_weights(lambda w: w.pop("score.weight")), "score.weight is missing"),
    "extra tensor": (_edit_weights(lambda w: w.update(x=torch.ones(1))), "x is not a part"),
    "wrong shape": (_edit_weights(lambda w: w.update(WRONG_SHAPE)), r"\(31,\) instead of \(32,\)"),
    "no values": (_edit_weights(lambda w: w.update(NO_VALUES)), r"\(0, 1125899906842624\) instead"),
    "not finite": (_edit_weights(lambda w: w.update(NOT_FINITE)), "not finite"),
    "below every number": (_edit_weights(lambda w: w.update(INFINITE)), "not finite"),
    "fp8": (_edit_weights(lambda w: w.update(FP8)), "ln_f.bias are torch.float8_e4m3fn"),
    "fp4": (_write_weights("F4", [2], 1), r"safetensors: some values are F4; convert them to one"),
    "strides too long": (_write_weights("F32", [0, 2**62, 8], 0), r"file: Stride [^\n]+\Z"),
    "shape too large": (_write_weights("F32", [0, 2**63], 0), r"safetensors file: [^\n]+\Z"),
    "golden not JSON": (_write("golden.json", "{}x"), r"golden\.json is not JSON"),
    "golden not a list": (_write("golden.json", "{}"), r"golden\.json is not a list"),
    "golden a folder": (_make_folder("golden.json"), r"golden\.json cannot be read"),
    "golden of huge numbers": (
        _write("golden.json", f'[{{"text": "", "spam_probability": {10**400}}}]'),
        r"golden\.json is not a list",
    ),
    "a stray folder": (_make_folder("x.safetensors"), r"x\.safetensors cannot be read"),
    "index without files": (_write_index("{}"), "weight_map does not give"),
    "index a list": (_write_index('{"weight_map": ["a"]}'), "weight_map does not give"),
    "index of numbers": (_write_index('{"weight_map": {"a": 1}}'), "weight_map does not give"),
    "index leads out": (_write_index('{"weight_map": {"a": "../x"}}'), "x is missing"),
    "index of a long name": (_write_index(f'{{"weight_map": {{"a": "{"x" * 999}"}}}}'), "missing"),
}
BROKEN |= {
    f"{key} {value!r:.20}": (_edit_config(**{key: value}), f"config\\.json: {key} is ")
    for key, values in {
        "n_embd": (None, 32.0, True, 0, -32, 2**62),
        "n_positions": (None, 2**70),
        "n_layer": (2**40,),
        "vocab_size": (2**70,),
        "n_inner": (-1, [128]),
        "layer_norm_epsilon": (float("nan"), -1e-5, 0.0, float("inf"), 10**400, None, "small"),
        "initializer_range": (float("nan"), []),
        "id2label": (["ham", "spam"], "ham", 2, {"0": "ham"}),
        "scale_attn_weights": (False,),
        "scale_attn_by_inverse_layer_idx": (True,),
        "reorder_and_upcast_attn": (True,),
        "spamgate": (None, ["last"], "last"),
        "problem_type": ("multi_label_classification", "regression"),
    }.items()
    for value in values
}


BROKEN |= {
    f"tokenizer that writes {key}": (
        _write("tokenizer_config.json", json.dumps({key: True})),
        f"{key} is True",
    )
    for key in ("add_bos_token", "add_eos_token")
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_folder_is_one_clear_error(save_tiny: Callable[..., Path], name: str) -> None:
    breaks, message = BROKEN[name]
    folder = save_tiny()
    breaks(folder)
    with pytest.raises(CheckpointError, match=message):
        load_classifier(folder)


@pytest.mark.parametrize("special", [True, False])
def test_a_tokenizer_that_writes_tokens_in_front_is_refused(
    save_tiny: Callable[..., Path], special: bool
) -> None:
    folder = save_tiny()
    vocab = json.loads((folder / "vocab.json").read_text())
    begins = [{"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}] if special else []
    template = [*begins, {"Sequence": {"id": "A", "type_id": 0}}]
    processor = {"type": "TemplateProcessing", "single": template, "special_tokens": {}}
    tokenizer = {"model": {"vocab": vocab}, "post_processor": processor}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    if not special:
        assert load_classifier(folder)
        return
    with pytest.raises(CheckpointError, match="not made for GPT-2's own"):
        load_classifier(folder)


def test_a_file_cut_while_it_is_loaded_ends_no_process(
    save_tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by cp, which empties what it writes over; of a mapped file that is a SIGBUS."""
    path = save_tiny() / "model.safetensors"
    tensors = load_file(path)

    def load_and_cut(content: bytes) -> dict[str, torch.Tensor]:
        found = load(content)
        os.truncate(path, 0)
        return found

    monkeypatch.setattr("model.published.load", load_and_cut)
    assert read_tensors(path).keys() == tensors.keys()


def test_a_name_too_long_for_a_folder_is_one_clear_error() -> None:
    with pytest.raises(CheckpointError, match="x cannot be read: File name too long"):
        load_classifier("x" * 300)


def test_verdicts_that_are_no_numbers_are_refused_without_golden_messages(
    save_tiny: Callable[..., Path],
) -> None:
    folder = save_tiny()
    _edit_weights(lambda w: w.update({"score.weight": torch.full((2, 32), 3e38)}))(folder)
    (folder / "golden.json").unlink()
    with pytest.raises(CheckpointError, match=r"P\(spam\) of short texts is not a number"):
        Classifier.load(folder, "cpu")
