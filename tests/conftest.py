"""Tiny random models and the real corpora, where they lie beside the checkout."""

import atexit
import functools
import gc
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

# Tiny models gain nothing from threads, and two spinning beside another process lose much. Set
# before torch is imported, and inherited by the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from torch import nn

from model.checkpoint import (
    ReadToken,
    save_classifier,
    save_language_model,
)
from model.classifier import store_golden
from model.gpt2 import GPT2Config, GPT2ForSequenceClassification, GPT2LMHeadModel, init_weights
from tests.tiny_training import TINY_RECIPE, synthetic_lines

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"

TINY = GPT2Config(n_layer=2, n_head=4, n_embd=32)


class OnGpu(torch.Tensor):
    """A tensor on the CPU that says it lies on a GPU, and so does what is made of it."""

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return True


# The two sentences of the post that the project comes from.
SPAM = "You are a winner you have been specially selected to receive $1000 cash or a $2000 reward"
HAM = "Hey, just wanted to check if we're still on for dinner tonight? Let me know!"

AWKWARD_TEXTS = [
    SPAM,
    HAM,
    "",
    " ",
    "a",
    "<|endoftext|> is text here",
    "lone \ud83d surrogate",
    "\x00 null and \u202e bidi",
    "\ud800 half a pair and \u202e bidi",
    "ünïcödé 字 😀",
    "word " * 300,
]


def randomize(model: nn.Module) -> None:
    """Gives every parameter, biases and norms too, a value that a parity test would notice."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            mean = 1.0 if "ln_" in name and name.endswith("weight") else 0.0
            parameter.normal_(mean, 0.2)


def tiny_classifier_model(
    seed: int = 0, *, head_bias: bool = False, config: GPT2Config = TINY
) -> GPT2ForSequenceClassification:
    """A random two-block classifier whose verdicts differ from text to text."""
    torch.manual_seed(seed)
    model = GPT2ForSequenceClassification(config, head_bias=head_bias)
    init_weights(model, config)
    randomize(model)
    return model.eval()


@functools.cache
def tiny_checkpoint(seed: int, read_token: ReadToken) -> Path:
    """A tiny classifier with golden messages, made once for all tests; they get copies."""
    private = tempfile.mkdtemp(prefix="spamgate-tests-")
    atexit.register(shutil.rmtree, private, ignore_errors=True)
    folder = Path(private) / "tiny"  # its copies are readable for others, such as a container
    folder.mkdir()
    save_classifier(folder, tiny_classifier_model(seed), read_token=read_token)
    if read_token == "last":
        store_golden(folder, [SPAM, HAM])
    return folder


@pytest.fixture(autouse=True)
def quick_collections(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A collection of garbage that is asked for leaves the oldest objects alone.

    They are those of all libraries here, and each start of a service asks for one. Tests of what a
    collection frees ask for ``whole_collections``.
    """
    if "whole_collections" not in request.fixturenames:
        monkeypatch.setattr(gc, "collect", functools.partial(gc.collect, 1))


@pytest.fixture
def whole_collections() -> None:
    """Turns ``quick_collections`` off."""


@pytest.fixture
def save_tiny(tmp_path: Path) -> Callable[..., Path]:
    """Puts a tiny classifier with golden messages into a fresh folder and returns the folder."""

    def save(name: str = "tiny", *, seed: int = 0, read_token: ReadToken = "last") -> Path:
        return shutil.copytree(tiny_checkpoint(seed, read_token), tmp_path / name)

    return save


@pytest.fixture(scope="session")
def sms_file() -> Path:
    """The SMS Spam Collection."""
    path = SHARED_DATA / "sms" / "SMSSpamCollection"
    if not path.exists():
        pytest.skip(f"the SMS Spam Collection is not at {path}")
    return path


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "SMSSpamCollection"
    path.write_text("\n".join(synthetic_lines()) + "\n")
    return path


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY_RECIPE)
    return path


@pytest.fixture
def tiny_base(tmp_path: Path) -> Path:
    """A random language model in the published form, in place of OpenAI's weights."""
    save_random_base(folder := tmp_path / "base")
    return folder


def save_random_base(folder: Path) -> None:
    """Writes the language model that ``tiny_base`` gives."""
    torch.manual_seed(0)
    model = GPT2LMHeadModel(TINY)
    init_weights(model, TINY)
    folder.mkdir()
    save_language_model(folder, model)


def written(path: Path, content: bytes | str) -> Path:
    """Writes a file and the folders above it; returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, str):
        content = content.encode("utf-8", "surrogatepass")
    path.write_bytes(content)
    return path
