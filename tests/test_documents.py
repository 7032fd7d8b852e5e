"""Texts without labels: split, cut into windows of which each token is guessed once, batched."""

from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from model.tokenizer import ENDOFTEXT, decode, encode
from tests.conftest import written
from training import documents
from training.config import TrainConfig
from training.corpora import Source, mail_paths, read_sms
from training.data import cluster_split
from training.documents import TextSplit, _text_files, batches, read_sources, windows


def test_each_token_is_guessed_once_and_documents_do_not_meet() -> None:
    text = " ".join(f"word{i}" for i in range(50))
    tokens = encode(text, 1000)[0]
    cut = list(windows(text, n_positions=20))
    assert [token for window in cut for token in window[1:]] == [*tokens, ENDOFTEXT]
    assert cut[0][0] == ENDOFTEXT
    assert cut[1][0] == cut[0][-1]
    assert max(len(window) - 1 for window in cut) == 20
    assert len(list(windows("word", n_positions=2))) == 1  # and none of which nothing is guessed


def test_letters_of_many_tokens_are_all_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "_PIECE_CHARACTERS", 10)
    [window] = windows("\U00012000" * 25, 1024)
    assert len(window) > 2 + 3 * 25
    assert decode(window[1:-1]) == "\U00012000" * 25


def test_a_long_run_of_one_character_is_read() -> None:
    assert sum(len(window) - 1 for window in windows(" " * 1_000_000, 1024)) > 1000


def test_texts_are_told_apart_by_where_windows_end() -> None:
    one, other = TextSplit([[1, 2], [3, 4]], {}), TextSplit([[1, 2, 3], [4]], {})
    assert one.sha256 != other.sha256


def test_what_is_read_alone_counts_for_no_guess() -> None:
    assert np.flatnonzero((counts := TextSplit([[7, 5, 5, 6]], {}).counts()) > 0).tolist() == [5, 6]
    assert counts[5] == 2


def test_batches_keep_the_budget_and_pass_over_everything() -> None:
    some = [[0] * length for length in (5, 9, 3, 2, 7, 4, 4)]
    assert [w for batch in batches(some, 10, seed=None) for w in batch] == some
    assert [len(batch) for batch in batches([[0] * 6] * 4, 10, seed=None)] == [2, 2]  # filled up
    shuffled = list(islice(batches(some, 10, seed=1), 40))
    assert all(sum(len(w) - 1 for w in batch) <= 10 for batch in shuffled)
    seen = Counter(len(w) for batch in shuffled for w in batch)
    assert set(seen) == {len(w) for w in some}
    order = [len(w) for batch in shuffled for w in batch]
    assert sorted(order[:7]) == sorted(order[7:14]) == sorted(map(len, some))
    assert order[:7] != order[7:14]
    assert shuffled != list(islice(batches(some, 10, seed=2), 40))


def test_labelled_corpora_keep_their_test_part_unread(corpus: Path) -> None:
    split = cluster_split(read_sms(corpus), TrainConfig(split_seed=7))
    texts = read_sources([Source("sms", corpus)], split_seed=7, n_positions=64)
    [held_back] = texts.held_back.values()
    assert len(texts.train) == len(split.train)
    assert [decode(window[1:-1]) for window in held_back] == [e.text for e in split.validation]


def test_plain_text_holds_back_its_end(tmp_path: Path) -> None:
    """Also where two folders have one name, and files lie in folders below them."""
    folders = [tmp_path / shelf / "books" for shelf in ("one", "two")]
    for folder in folders:
        (folder / "old").mkdir(parents=True)
        (folder / "old" / "a.txt").write_text("x" * 90 + "end of book")
    sources = [Source.parse(f"text={folder}") for folder in folders]
    texts = read_sources(sources, split_seed=0, n_positions=64)
    learnt, kept = (
        [decode(window[1:-1]) for window in part]
        for part in (texts.train, texts.held_back["text books"])
    )
    assert learnt == ["x" * 90 + "e"] * 2
    assert kept == ["nd of book"] * 2


def test_hidden_files_are_no_texts(tmp_path: Path) -> None:
    """As macOS puts one beside each that it copies."""
    for name in ("ham/1.eml", "ham/._1.eml", "spam/2.txt", "spam/.2.txt"):
        written(tmp_path / name, f"Subject: {name}\n\ntext\n")
    assert [path.name for path in mail_paths(tmp_path)] == ["1.eml", "2.txt"]
    assert [path.name for path in _text_files(tmp_path)] == ["2.txt"]
