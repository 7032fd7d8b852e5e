"""GPT-2's byte-level BPE: any string to token ids, never an error, never the network.

Knows nothing of models. The ranks ship beside this file (OpenAI's, see NOTICE); tiktoken runs them.
"""

import base64
import functools
import hashlib
import json
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import tiktoken

ENDOFTEXT = 50256
VOCAB_SIZE = 50257

_RANKS_FILE = Path(__file__).with_name("r50k_base.tiktoken")
_RANKS_SHA256 = "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930"
# Of vocab.json as it is written here; others space it differently.
_VOCAB_SHA256 = "141c90441406d2a71a00089fa4f021bd9bd17c16ae9aec33681c1f3661c2ae69"
# How GPT-2 cuts text before merging: contractions, words, numbers, the rest, white space.
_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
# The longest token is 128 bytes, so N tokens never hold more than 128 N characters.
_MAX_TOKEN_CHARACTERS = 128
# White space beyond this is left out: tiktoken panics on a million blanks in a row.
_LONG_GAP = re.compile(r"(?<!\s)(\s{10000})\s+")
# How often the rank of a word with capitals goes into that of the same in small letters, for it to
# be a name: "linux" is one, "windows" is none.
_MUCH_LOWER = 4


@functools.cache
def _ranks() -> dict[bytes, int]:
    # tiktoken's own reader first copies the file into a temporary folder that users share.
    contents = _RANKS_FILE.read_bytes()
    if hashlib.sha256(contents).hexdigest() != _RANKS_SHA256:
        raise ValueError(f"{_RANKS_FILE} is not the file that was shipped: install spamgate again.")
    lines = (line.split() for line in contents.splitlines())
    return {base64.b64decode(token): int(rank) for token, rank in lines}


@functools.cache
def _encoding() -> tiktoken.Encoding:
    special = {"<|endoftext|>": ENDOFTEXT}
    return tiktoken.Encoding(
        "gpt2", pat_str=_PATTERN, mergeable_ranks=_ranks(), special_tokens=special
    )


def encode(text: str, max_tokens: int | None = None) -> tuple[list[int], bool]:
    """Token ids of a text, and whether it was cut.

    ``<|endoftext|>`` inside the text is plain characters. A surrogate without its partner becomes
    U+FFFD. The empty text is the one token ENDOFTEXT, so that it has a last token as well.

    >>> encode("hello world", max_tokens=1024)
    ([31373, 995], False)

    Args:
        text: anything.
        max_tokens: tokens kept, at least 1; None keeps all. Characters that these cannot hold are
            not even looked at, which bounds time and memory.

    Returns:
        Between 1 and ``max_tokens`` ids, and True if any of the text is not among them but white
        space behind 10,000 characters of it.
    """
    if max_tokens is None:  # a character of four bytes makes four tokens at most
        max_tokens = 4 * len(text) + 1
    max_characters = _MAX_TOKEN_CHARACTERS * max_tokens
    head = _LONG_GAP.sub(r"\1", text[:max_characters])
    repaired = head.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    token_ids = _encoding().encode_ordinary(repaired) or [ENDOFTEXT]
    truncated = len(text) > max_characters or len(token_ids) > max_tokens
    return token_ids[:max_tokens], truncated


def decode(token_ids: Sequence[int]) -> str:
    """The text of these tokens; bytes that are no UTF-8, as where a character was cut, are U+FFFD.

    >>> decode([31373, 995])
    'hello world'
    """
    return _encoding().decode(list(token_ids), errors="replace")


def token_bytes(token_id: int) -> bytes:
    """The bytes that a token stands for; those of ENDOFTEXT are its name.

    >>> token_bytes(995)
    b' world'
    """
    return _encoding().decode_single_token_bytes(token_id)


def word_ranks(min_letters: int) -> dict[str, int]:
    """Words that are tokens with a blank before them, in lower case, with their lowest rank.

    Ranks are about in the order of how common a token is.

    Args:
        min_letters: of ASCII; shorter words are left out.
    """
    found: dict[str, int] = {}
    for token, rank in _ranks().items():  # by rank
        word = token[1:].decode("latin-1")
        if token[:1] == b" " and len(word) >= min_letters and word.isascii() and word.isalpha():
            found.setdefault(word.lower(), rank)
    return found


@functools.cache
def usual_spellings() -> dict[str, str]:
    """Words of ASCII letters that GPT-2's vocabulary has rather with capitals, by small letters.

    A name is a token with a capital alone, or one of a much lower rank, since it was read so more
    often: "houston" is two tokens, "Houston" is one.
    """
    found: dict[str, str] = {}
    ranks = _ranks()
    for token, rank in ranks.items():  # by rank
        word = token[1:].decode("latin-1")
        if not (token[:1] == b" " and word.isascii() and word.isalpha()):
            continue
        small = ranks.get(token.lower(), VOCAB_SIZE)
        if word[0].isupper() and _MUCH_LOWER * rank < small:
            found.setdefault(word.lower(), word)
    return found


def write_tokenizer_files(folder: Path, max_tokens: int) -> None:
    """Writes ``vocab.json``, ``merges.txt`` and ``tokenizer_config.json`` for other programs."""
    settings = {
        "tokenizer_class": "GPT2Tokenizer",
        "model_max_length": max_tokens,
        "add_prefix_space": False,
        "bos_token": "<|endoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
    }
    _write(folder / "vocab.json", _vocab_json())
    _write(folder / "merges.txt", _merges_txt())
    _write(folder / "tokenizer_config.json", json.dumps(settings, indent=2) + "\n")


def is_gpt2_vocab(vocab_file: Path) -> bool:
    """Whether a ``vocab.json`` or ``tokenizer.json`` numbers the tokens as GPT-2 does; the latter
    may neither change a text before nor put a blank in front, nor a token before or behind."""
    content = vocab_file.read_bytes()
    if hashlib.sha256(content).hexdigest() == _VOCAB_SHA256:
        return True
    try:
        found = json.loads(content)
        if vocab_file.name == "tokenizer.json":
            begins = found.get("pre_tokenizer") or {}
            if found.get("normalizer") or begins.get("add_prefix_space"):
                return False
            if begins.get("type", "ByteLevel") != "ByteLevel":  # a Sequence splits otherwise
                return False
            if "SpecialToken" in json.dumps(found.get("post_processor")):
                return False
            found = found["model"]["vocab"]
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        return False
    return bool(found == _vocab())


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def _vocab() -> dict[str, int]:
    """The vocabulary in its published spelling, derived from the ranks."""
    spelling = byte_spelling()
    vocab = {token.decode("latin-1").translate(spelling): rank for token, rank in _ranks().items()}
    vocab["<|endoftext|>"] = ENDOFTEXT
    return vocab


@functools.cache
def _vocab_json() -> str:
    return json.dumps(_vocab(), ensure_ascii=False) + "\n"


@functools.cache
def _merges_txt() -> str:
    """The merges in their published spelling, derived from the ranks: a second of work."""
    ranks = _ranks()
    spelling = byte_spelling()
    merges = ["#version: 0.2"]
    for token, rank in ranks.items():
        if len(token) > 1:
            pair = _last_merge(ranks, token, rank)
            merges.append(" ".join(part.decode("latin-1").translate(spelling) for part in pair))
    return "\n".join(merges) + "\n"


def _last_merge(ranks: dict[bytes, int], token: bytes, rank: int) -> tuple[bytes, bytes]:
    """The two pieces that the merge of this rank joins: BPE of the token by all earlier merges."""
    parts = [bytes([byte]) for byte in token]
    while len(parts) > 2:
        pair_ranks = [ranks.get(a + b, rank) for a, b in pairwise(parts)]
        at = pair_ranks.index(min(pair_ranks))
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts[0], parts[1]


def byte_spelling() -> dict[int, str]:
    """The printable stand-in for each byte in files of byte-level BPE: itself where printable, else
    U+0100 and up.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = (byte for byte in range(256) if byte not in printable)
    spelling = {byte: chr(byte) for byte in printable}
    spelling.update((byte, chr(0x100 + n)) for n, byte in enumerate(others))
    return spelling
