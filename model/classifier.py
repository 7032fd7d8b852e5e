"""The one door to the model: texts in, predictions out."""

import copy
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from model import bf16, int8
from model.checkpoint import Checkpoint, GoldenMessage, load_classifier, write_golden
from model.devices import faster_formats, pick_device, pick_dtype
from model.folders import CheckpointError
from model.gpt2 import GPT2ForSequenceClassification
from model.ngrams import add_ngrams
from model.packing import pack, within_budget
from model.prediction import EncodedText, Prediction
from model.windows import MAX_WINDOWS, read_in_windows

# How far a golden message may move from its stored probability: other processors round
# differently, and the reduced formats carry 8 bits.
GOLDEN_TOLERANCE = {torch.float32: 0.001, torch.bfloat16: 0.02, torch.int8: 0.02}


_log = logging.getLogger(__name__)

_ROUNDING = 0.001
# A faster number format is taken if it needs less than this share of float32's time.
_WORTH_IT = 0.85


class Classifier:
    """A checkpoint on a device. Verdicts are for one thread at a time."""

    def __init__(self, checkpoint: Checkpoint, *, device: torch.device, dtype: torch.dtype) -> None:
        """Moves the model to the device.

        Raises:
            CheckpointError: the checkpoint reads another token than the last, such as a padded
                one, which no text has here, or has no causal mask.
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
        self.max_batch_tokens = 16384
        self.spam_prior = _spam_prior(checkpoint)
        self.log_odds_shift = 0.0
        stored_as = torch.float32 if dtype == torch.int8 else dtype
        self._model = checkpoint.model.to(device=device, dtype=stored_as).requires_grad_(False)
        if dtype == torch.int8:
            int8.quantize(self._model)
        elif dtype == torch.bfloat16 and device.type == "cpu" and bf16.is_supported():
            bf16.lay_out_weights(self._model)
        elif device.type == "cpu":
            _store_by_column(self._model)

    @property
    def dtype_name(self) -> str:
        """``float32``, ``bfloat16`` or ``int8``."""
        return str(self.dtype).removeprefix("torch.")

    @classmethod
    def load(cls, source: str | Path, device: str, dtype: str = "float32") -> "Classifier":
        """Loads a checkpoint folder or hub id and proves it on its golden messages.

        Without such, short texts must at least get a number.

        Args:
            source: folder or hub id.
            device: ``auto`` (CUDA where there is one, else the CPU) or torch's name of a device.
            dtype: ``float32``, ``bfloat16``, ``int8`` (CPU), or ``auto``: the fastest that gives
                the golden answers.

        Raises:
            CheckpointError: unusable files, golden messages that come out differently, or
                verdicts that are not numbers.
            DeviceError: the device or number format is not there.
        """
        chosen_device = pick_device(device)
        return cls.of(load_classifier(source), chosen_device, dtype)

    @classmethod
    def of(cls, checkpoint: Checkpoint, device: torch.device, dtype: str) -> "Classifier":
        """As ``load``, of a checkpoint that has been read."""
        if dtype == "auto":
            return cls._fastest(checkpoint, device)
        return cls._proved(checkpoint, device, pick_dtype(dtype, device))

    @classmethod
    def _proved(
        cls, checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype
    ) -> "Classifier":
        classifier = cls(checkpoint, device=device, dtype=dtype)
        if classifier.golden:
            classifier.check_golden()
        else:
            classifier._check_numbers()
        return classifier

    @classmethod
    def _fastest(cls, checkpoint: Checkpoint, device: torch.device) -> "Classifier":
        """A checkpoint in the number format that is fastest here and gives its answers.

        A short trial compares float32 with bfloat16, and int8 where a CPU has instructions for
        it. A faster one is taken only where it computes at all and ``check_golden`` passes; without
        golden messages there is nothing to tell that by, and float32 stays.
        """
        exact = best = cls._proved(checkpoint, device, torch.float32)
        for dtype in faster_formats(device) if best.golden else ():
            try:
                copied = replace(checkpoint, model=copy.deepcopy(exact._model))
                rival = cls._proved(copied, device, pick_dtype(dtype, device))
                seconds = rival.trial_seconds()
            # Rounding, but also a GPU without memory for both or a torch without the kernels:
            # whatever a rival lacks, float32 has been proved.
            except Exception as error:
                _log.warning("%s is not used: %s", dtype, error)
                continue
            if seconds < _WORTH_IT * best.trial_seconds():
                best = rival
        return best

    def trial_seconds(self) -> float:
        """The shortest of a few times that the trial texts take."""
        texts = self.trial_texts()
        times = []
        for _ in range(5):
            begin = time.perf_counter()
            self.predict(texts)
            times.append(time.perf_counter() - begin)
        return min(times)

    def trial_texts(self) -> list[EncodedText]:
        """Sixteen texts of 32 tokens, or of as many as the model reads, to try it on."""
        size = min(32, self.max_tokens)
        return [EncodedText([n] * size) for n in range(16)]

    def assume_spam_prior(self, spam_prior: float) -> None:
        """Makes all further verdicts those for texts of which this share is spam.

        The log-odds of spam move by logit(spam_prior) - logit(the share assumed so far); the order
        of the texts stays. Source: Saerens et al., "Adjusting the Outputs of a Classifier to New a
        Priori Probabilities", 2002.

        Args:
            spam_prior: above 0, below 1.

        Raises:
            CheckpointError: run.json does not say what share of spam they assume.
        """
        if self.spam_prior is None:
            raise CheckpointError(
                f"{self.name}: run.json has no spam_prior between 0 and 1, the share of spam that "
                "its verdicts assume, so they cannot be moved to another share: train it with "
                "calibrate = true, or leave the share as it is."
            )
        self.log_odds_shift += _logit(spam_prior) - _logit(self.spam_prior)
        self.spam_prior = spam_prior

    def predict(self, texts: Sequence[EncodedText]) -> list[Prediction]:
        """Verdicts in the order of the texts, whatever batches they were computed in."""
        probabilities: list[list[float]] = []
        for batch in within_budget(texts, lambda t: len(t.token_ids), self.max_batch_tokens):
            probabilities += self._forward(batch)
        return [
            Prediction(ham, spam, len(text.token_ids))
            for (ham, spam), text in zip(probabilities, texts, strict=True)
        ]

    def classify(self, texts: Sequence[str], max_windows: int = MAX_WINDOWS) -> list[Prediction]:
        """Verdicts on any strings, in their order, long ones read as the service reads them.

        Args:
            texts: any strings.
            max_windows: as for ``encode_windows``.
        """
        return read_in_windows(self.predict, texts, self.max_tokens, max_windows)

    def check_golden(self) -> None:
        """Repeats the checkpoint's golden messages.

        Raises:
            CheckpointError: a probability lies further from the stored one than rounding explains.
        """
        tolerance = GOLDEN_TOLERANCE[self.dtype]
        predictions = self.classify([message.text for message in self.golden])
        for number, (message, prediction) in enumerate(zip(self.golden, predictions, strict=True)):
            distance = abs(prediction.spam_probability - message.spam_probability)
            same_label = (prediction.spam_probability > 0.5) == (message.spam_probability > 0.5)
            # NaN must fail too. A label may turn where rounding alone explains it.
            if not distance <= tolerance or not (same_label or distance <= _ROUNDING):
                reason = (
                    "Weights and golden.json do not belong together, or are of an older version."
                    if self.dtype == torch.float32
                    else f"{self.dtype} rounds too much for these weights: take float32."
                )
                raise CheckpointError(
                    f"{self.name}: golden message {number} has P(spam) "
                    f"{prediction.spam_probability:.4f}, stored was {message.spam_probability:.4f} "
                    f"(allowed: {tolerance} apart). {reason}"
                )

    def _check_numbers(self) -> None:
        if any(math.isnan(p.spam_probability) for p in self.predict(self.trial_texts())):
            raise CheckpointError(
                f"{self.name}: P(spam) of short texts is not a number, so weights or config.json "
                "are damaged: fetch the checkpoint anew, or train it anew."
            )

    @torch.inference_mode()
    def _forward(self, texts: list[EncodedText]) -> list[list[float]]:
        logits = read_logits(self._model, texts, self.device)
        logits[:, 1] += self.log_odds_shift
        probabilities: list[list[float]] = torch.softmax(logits, dim=-1).tolist()
        return probabilities


def store_golden(folder: Path, texts: Sequence[str]) -> None:
    """Writes what a checkpoint on the disk says of these texts, in float32 on the CPU, beside it.

    ``Classifier.load`` repeats them, and refuses the checkpoint where they come out differently.
    """
    predictions = Classifier.load(folder, "cpu").classify(texts)
    golden = zip(texts, predictions, strict=True)
    write_golden(folder, [GoldenMessage(text, found.spam_probability) for text, found in golden])


def read_logits(
    model: GPT2ForSequenceClassification, texts: Sequence[EncodedText], device: torch.device
) -> Tensor:
    """Logits (B, 2) in float32 on the device, the table's log odds among them."""
    packed = pack([text.token_ids for text in texts]).to(device)
    return add_ngrams(model(packed), model.ngrams, [text.all_ids for text in texts])


def _spam_prior(checkpoint: Checkpoint) -> float | None:
    """The share of spam that the verdicts assume, where run.json states one."""
    stated = checkpoint.run.get("spam_prior")
    return stated if isinstance(stated, float) and 0 < stated < 1 else None


def _logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def _store_by_column(model: nn.Module) -> None:
    """Turns the memory of every linear layer's weights, in place; their shape and values stay.

    The matrix product of few tokens is faster by columns.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.weight.data = module.weight.data.t().contiguous().t()
