"""The one door to the model: texts in, predictions out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from model.checkpoint import Checkpoint, CheckpointError, load_classifier
from model.packing import pack
from model.tokenizer import encode

# How far a golden message may move from its stored probability: other processors round
# differently, and bfloat16 carries 8 bits.
GOLDEN_TOLERANCE = {torch.float32: 0.001, torch.bfloat16: 0.05}


class DeviceError(ValueError):
    """A device or number format that was asked for by name and is not there."""


@dataclass(frozen=True)
class EncodedText:
    """One text as the model reads it: at least one token id, and whether the text was cut."""

    token_ids: list[int]
    truncated: bool


@dataclass(frozen=True, slots=True)
class Prediction:
    """The verdict on one text.

    Attributes:
        ham_probability: softmax of the two logits, 0 to 1.
        spam_probability: 1 - ham_probability up to rounding.
        num_tokens: tokens read.
        truncated: whether the text was longer than what was read.
    """

    ham_probability: float
    spam_probability: float
    num_tokens: int
    truncated: bool

    @property
    def label(self) -> Literal["ham", "spam"]:
        """The likelier class, ``"ham"`` or ``"spam"``."""
        return "spam" if self.spam_probability > self.ham_probability else "ham"


class Classifier:
    """A checkpoint on a device. ``encode`` may run in any thread, ``predict`` in one at a time."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        device: torch.device,
        dtype: torch.dtype,
        max_batch_tokens: int = 16384,
    ) -> None:
        """Moves the model to the device.

        Raises:
            CheckpointError: the checkpoint reads a padded position, which no text has here.
        """
        if checkpoint.read_token != "last" or not checkpoint.causal_mask:
            read = checkpoint.read_token
            where = f"position {read} of a padded text" if isinstance(read, int) else f"the {read}"
            mask = "" if checkpoint.causal_mask else " without a causal mask"
            raise CheckpointError(
                f"{checkpoint.name} was trained to read {where}{mask}. That reproduces the book; "
                "here texts carry no padding and only the last real token is read: serve a "
                "checkpoint of gpt2_last_block.toml or gpt2_all_layers.toml."
            )
        self.name = f"{checkpoint.name}@{checkpoint.sha256[:12]}"
        self.golden = checkpoint.golden
        self.run = checkpoint.run
        self.device = device
        self.dtype = dtype
        self.max_tokens = checkpoint.model.config.n_positions
        self.max_batch_tokens = max_batch_tokens
        self._model = checkpoint.model.to(device=device, dtype=dtype).requires_grad_(False)

    @classmethod
    def load(cls, source: str | Path, device: str = "auto", dtype: str = "auto") -> "Classifier":
        """Loads a checkpoint folder or hub id and proves it on its golden messages.

        Args:
            source: folder or hub id.
            device: ``auto`` (CUDA where there is one, else the CPU) or torch's name of a device.
            dtype: ``auto`` (bfloat16 on CUDA, float32 elsewhere), ``float32`` or ``bfloat16``.

        Raises:
            CheckpointError: unusable files, or golden messages that come out differently.
            DeviceError: the device or number format is not there.
        """
        chosen_device = pick_device(device)
        chosen_dtype = pick_dtype(dtype, chosen_device)
        classifier = cls(load_classifier(source), device=chosen_device, dtype=chosen_dtype)
        classifier.check_golden()
        return classifier

    def encode(self, text: str) -> EncodedText:
        """Tokens of any string; cut after the model's longest text. Never raises."""
        return EncodedText(*encode(text, self.max_tokens))

    def predict(self, texts: Sequence[EncodedText]) -> list[Prediction]:
        """Verdicts in the order of the texts, whatever batches they were computed in."""
        probabilities: list[list[float]] = []
        for batch in self._batches(texts):
            probabilities += self._forward([text.token_ids for text in batch])
        return [
            Prediction(ham, spam, len(text.token_ids), text.truncated)
            for (ham, spam), text in zip(probabilities, texts, strict=True)
        ]

    def classify(self, texts: Sequence[str]) -> list[Prediction]:
        """``encode`` and ``predict`` in one."""
        return self.predict([self.encode(text) for text in texts])

    def check_golden(self) -> None:
        """Repeats the checkpoint's golden messages.

        Raises:
            CheckpointError: a probability lies further from the stored one than rounding explains.
        """
        tolerance = GOLDEN_TOLERANCE[self.dtype]
        predictions = self.classify([message.text for message in self.golden])
        for number, (message, prediction) in enumerate(zip(self.golden, predictions, strict=True)):
            distance = abs(prediction.spam_probability - message.spam_probability)
            if not distance <= tolerance:  # NaN must fail too
                raise CheckpointError(
                    f"{self.name}: golden message {number} has P(spam) "
                    f"{prediction.spam_probability:.4f}, stored was {message.spam_probability:.4f} "
                    f"(allowed: {tolerance} apart). Weights and golden.json do not belong together."
                )

    def _batches(self, texts: Sequence[EncodedText]) -> Iterator[list[EncodedText]]:
        """Cuts the texts, in order, where the next would pass the token budget."""
        batch: list[EncodedText] = []
        tokens = 0
        for text in texts:
            if batch and tokens + len(text.token_ids) > self.max_batch_tokens:
                yield batch
                batch, tokens = [], 0
            batch.append(text)
            tokens += len(text.token_ids)
        if batch:
            yield batch

    @torch.inference_mode()
    def _forward(self, token_lists: list[list[int]]) -> list[list[float]]:
        logits = self._model(pack(token_lists).to(self.device))  # (B, 2)
        probabilities: list[list[float]] = torch.softmax(logits.float(), dim=-1).tolist()
        return probabilities


def pick_device(name: str) -> torch.device:
    """The device of that name; ``auto`` is CUDA where there is one, else the CPU.

    Raises:
        DeviceError: no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise DeviceError(
            f"device {name!r} is not there ({reason}). Use auto, cpu, or cuda on a machine with an "
            "NVIDIA GPU, its driver and a CUDA build of torch."
        ) from error
    return device


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """The number format of that name; ``auto`` is bfloat16 on CUDA, float32 elsewhere.

    Raises:
        DeviceError: an unknown name.
    """
    dtypes = {
        "auto": torch.bfloat16 if device.type == "cuda" else torch.float32,
        "float32": torch.float32,
        "bfloat16": torch.bfloat16,
    }
    if name not in dtypes:
        raise DeviceError(f"dtype {name!r} is not known; allowed: {', '.join(dtypes)}.")
    return dtypes[name]
