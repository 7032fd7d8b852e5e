"""GPT-2's byte-level BPE: known ids, equality with transformers, and strings that break others."""

import hashlib
import json
import random
import sys
import tempfile
from pathlib import Path

import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from model import tokenizer
from model.tokenizer import (
    ENDOFTEXT,
    VOCAB_SIZE,
    encode,
    is_gpt2_vocab,
    write_tokenizer_files,
)


def test_known_ids() -> None:
    assert encode("hello world", 1024) == ([31373, 995], False)


def test_ranks_are_read_without_a_temporary_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """A read-only container need not have one."""

    def fail() -> str:
        raise FileNotFoundError("no usable temporary directory")

    monkeypatch.setattr(tempfile, "gettempdir", fail)
    assert len(tokenizer._ranks.__wrapped__()) == VOCAB_SIZE - 1


def test_special_token_in_a_message_is_plain_text() -> None:
    token_ids, _ = encode("a<|endoftext|>b", 1024)
    assert ENDOFTEXT not in token_ids
    assert len(token_ids) > 3


def test_empty_text_has_a_token_to_read() -> None:
    assert encode("", 1024) == ([ENDOFTEXT], False)


def test_lone_surrogates_become_replacement_characters() -> None:
    assert encode("a\ud83db", 1024) == encode("a\ufffdb", 1024)
    assert encode("\ud83d\ude00", 1024) == encode("😀", 1024)


def test_cut_is_reported_and_keeps_the_first_tokens() -> None:
    long = "word " * 100
    whole, _ = encode(long, 1024)
    assert encode(long, 7) == (whole[:7], True)
    assert encode(long, len(whole)) == (whole, False)


def test_as_many_of_the_longest_token_are_read_as_of_any() -> None:
    longest = " " + "=" * 65
    [token_id] = encode(longest, 1024)[0]
    assert encode(longest * 10, 10) == ([token_id] * 10, False)


def test_what_stands_behind_a_gap_without_end_is_told_to_be_cut() -> None:
    token_ids, truncated = encode("free" + "\xa0" * 300_000 + "cash", 700)
    assert len(token_ids) < 700
    assert truncated


@pytest.mark.parametrize("text", ["a" * 1_000_000, " " * 1_000_000 + "x", "\n" * 999_999 + "é"])
def test_giants_are_cut_before_they_are_tokenized(text: str) -> None:
    token_ids, truncated = encode(text, 1024)
    assert len(token_ids) == 1024
    assert truncated


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(exclude_categories=[]), max_size=200))
def test_no_string_raises(text: str) -> None:
    token_ids, _ = encode(text, 64)
    assert 1 <= len(token_ids) <= 64
    assert all(0 <= token < VOCAB_SIZE for token in token_ids)


def test_written_files_give_transformers_the_same_ids(tmp_path: Path) -> None:
    write_tokenizer_files(tmp_path, 1024)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    rng = random.Random(0)
    alphabet = [chr(c) for c in range(sys.maxunicode) if not 0xD800 <= c <= 0xDFFF]
    texts = ["hello world", "  two  blanks\n\n\tand tabs ", "don't £100 字 😀"]
    texts += ["".join(rng.choices(alphabet, k=50)) for _ in range(50)]
    assert [encode(text, 1024)[0] for text in texts] == theirs(texts)["input_ids"]


def test_foreign_vocabulary_is_recognised(tmp_path: Path) -> None:
    write_tokenizer_files(tmp_path, 1024)
    path = tmp_path / "vocab.json"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == tokenizer._VOCAB_SHA256
    assert is_gpt2_vocab(path)
    path.write_text(json.dumps(json.loads(path.read_text())))  # the same, spelt otherwise
    assert is_gpt2_vocab(path)
    whole = tmp_path / "tokenizer.json"
    same = {"model": {"vocab": json.loads(path.read_text())}}
    for more, is_same in (
        ({}, True),
        ({"normalizer": None, "pre_tokenizer": {"add_prefix_space": False}}, True),
        ({"normalizer": {"type": "Lowercase"}}, False),
        ({"pre_tokenizer": {"add_prefix_space": True}}, False),
        ({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "ByteLevel"}]}}, False),
    ):
        whole.write_text(json.dumps(same | more))
        assert is_gpt2_vocab(whole) is is_same
    whole.write_text(json.dumps(same))
    whole.write_text(whole.read_text().replace('"!": 0', '"!": 1'))
    assert not is_gpt2_vocab(whole)
    (tmp_path / "vocab.json").write_text('{"a": 0}')
    assert not is_gpt2_vocab(tmp_path / "vocab.json")
