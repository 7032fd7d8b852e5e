"""Splits that do not leak, and batches."""

import dataclasses
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.sparse.csgraph import connected_components
from sklearn.feature_extraction.text import CountVectorizer

from model import fold
from model.tokenizer import ENDOFTEXT
from training import data
from training.config import TrainConfig, TrainingError
from training.corpora import (
    Example,
    read_corpora,
    read_sms,
    read_sms_as_the_book,
)
from training.data import (
    cluster_split,
    drop_duplicates,
    make_loader,
    near_duplicate_clusters,
    pad_to,
    sample_of_both,
    split_examples,
    tokenize,
)


def test_book_split_is_the_books(sms_file: Path) -> None:
    """1,045 / 149 / 300 texts, the longest training text of 120 tokens."""
    config = TrainConfig(selection="book", padding="longest")
    splits = split_examples(read_sms_as_the_book(sms_file), config)
    assert [len(part) for part in vars(splits).values()] == [1045, 149, 300]
    assert sum(count["spam"] for count in splits.counts().values()) == 747
    assert max(len(tokens) for tokens, _ in tokenize(splits.train, 1024)) == 120


def test_near_duplicates_share_a_cluster() -> None:
    texts = [
        "You have won a prize of 100 pounds call now",
        "You have won a prize of 100 pounds call today",
        "See you at the station at nine then",
        "ok",
        "OK!",
        "see you",
        "See you!",
        "one two three four five six",  # with the next it shares three of five triples
        "one two three four five seven",
    ]
    clusters = near_duplicate_clusters(texts).tolist()
    assert clusters[0] == clusters[1]
    assert clusters[3::2] == clusters[4::2]
    assert len(set(clusters)) == 5


@pytest.mark.parametrize("pairs_at_once", [1, 500, 1 << 21])
def test_clusters_are_those_of_all_pairs_at_once(
    pairs_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    words = np.array([f"w{number}" for number in range(30)])
    texts = [" ".join(rng.choice(words, 8)) for _ in range(60)]
    for _ in range(240):  # with one word changed at its end, again and again
        source = texts[rng.integers(len(texts))].split()
        texts.append(" ".join([*source[rng.integers(2) :], rng.choice(words)]))
    vectorizer = CountVectorizer(analyzer=data._word_triples, binary=True, dtype=np.int32)
    matrix = vectorizer.fit_transform(texts).toarray()
    shared, sizes = matrix @ matrix.T, matrix.sum(1)
    near = shared >= data.NEAR_DUPLICATE * (sizes[:, None] + sizes - shared)
    expected = connected_components(near, directed=False)[1]
    monkeypatch.setattr(data, "_PAIRS_AT_ONCE", pairs_at_once)
    clusters = near_duplicate_clusters(texts)
    assert clusters.dtype == np.int32
    assert clusters.tolist() == expected.tolist()
    assert 20 < len(set(expected.tolist())) < 200


@pytest.mark.parametrize("words", [20, 0])  # texts that share a footer, and that are all alike
def test_a_phrase_in_all_texts_does_not_make_memory_of_all_pairs(
    words: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "_PAIRS_AT_ONCE", 1 << 16)
    texts = [
        " ".join(f"{number}x{place}" for place in range(words)) + " leave this list here"
        for number in range(2000)
    ]
    tracemalloc.start()
    try:
        clusters = near_duplicate_clusters(texts)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(set(clusters.tolist())) == (2000 if words else 1)
    assert peak < 25_000_000  # at once, four million pairs take 160


def test_equal_texts_are_kept_once() -> None:
    texts = ["Call now!", "call  NOW", "...", "?!", "other"]
    kept = drop_duplicates([Example(text, 0, "sms") for text in texts])
    assert [e.text for e in kept] == ["Call now!", "...", "?!", "other"]


def test_no_cluster_straddles_the_split(sms_file: Path) -> None:
    config = TrainConfig()
    splits = cluster_split(read_sms(sms_file), config)
    parts = list(vars(splits).values())
    texts = [e.text for part in parts for e in part]
    part_of = np.repeat([0, 1, 2], [len(part) for part in parts])
    clusters = near_duplicate_clusters(texts)
    straddling = [c for c in np.unique(clusters) if len(set(part_of[clusters == c])) > 1]
    # Split as they came; "... call later &lt;#&gt; mins" is nearly equal to others as it is read.
    assert [texts[n] for n in np.flatnonzero(np.isin(clusters, straddling) & (part_of == 2))] == [
        "Sorry, I'll call later 5 mins"
    ]
    assert len(straddling) == 1
    shares = [len(part) / len(texts) for part in parts]
    assert shares == pytest.approx([0.7, 0.1, 0.2], abs=0.01)
    spam = [sum(e.label for e in part) / len(part) for part in parts]
    assert max(spam) - min(spam) < 0.02
    assert len(texts) == len(set(texts))


def test_split_seed_decides_the_split(corpus: Path) -> None:
    examples = read_sms(corpus)
    first, again, other = (
        cluster_split(examples, TrainConfig(split_seed=seed)) for seed in (1, 1, 2)
    )
    assert first == again
    assert set(first.test) != set(other.test)  # not their order alone


def test_parts_do_not_depend_on_the_order_or_on_other_corpora(corpus: Path) -> None:
    examples = read_sms(corpus)
    others = [Example(f"written {n * 7919} elsewhere {n}", n % 2, "other") for n in range(60)]
    parts = [
        [{e.text for e in part if e.source == "sms"} for part in vars(splits).values()]
        for splits in (
            cluster_split(given, TrainConfig())
            for given in (examples, examples[::-1], others + examples)
        )
    ]
    assert parts[0] == parts[1] == parts[2]


def test_leet_is_read_after_the_split(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = [
        Example(e.text.replace("book", "b00k").replace("home", "h0me"), e.label, e.source)
        for e in read_sms(corpus)
    ]
    read = cluster_split(examples, TrainConfig())
    monkeypatch.setattr(fold, "read_leet", lambda text: text)
    unread = cluster_split(examples, TrainConfig())
    for part, other in zip(vars(read).values(), vars(unread).values(), strict=True):
        assert "b00k" in str(other)
        assert "b00k" not in str(part)
        assert [e.text.lower() for e in part] == [
            e.text.lower().replace("b00k", "book").replace("h0me", "home") for e in other
        ]


def test_texts_are_read_as_the_service_reads_them(corpus: Path) -> None:
    spaced = "i t s  e a s y  t o  r e a d  {} times"
    assert fold.fold_text(spaced) != fold.fold_text(fold.fold_text(spaced, typing=False))
    raw = [Example(spaced.format(n), n % 2, "sms", training_only=n > 40) for n in range(50)]
    splits = cluster_split(read_sms(corpus) + raw, TrainConfig())
    texts = {e.text for part in vars(splits).values() for e in part}
    assert texts >= {fold.fold_text(e.text) for e in raw}


def test_texts_for_training_only_are_in_no_other_part(corpus: Path, tmp_path: Path) -> None:
    """Nor do they move others; what nearly equals a text of the corpora is left out."""
    config = TrainConfig(corpora=("sms",))
    alone = cluster_split(read_corpora([str(corpus)], config).examples, config)
    own = [f"Written for training, {word} and nothing else" for word in ("one", "two", "three")]
    near = f"{alone.test[0].text} and {alone.test[0].text}"
    lines = [{"label": "spam", "text": text} for text in [*own, alone.test[1].text.upper(), near]]
    path = tmp_path / "synthetic.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = config.model_copy(update={"training_only": (str(path),)})
    both = read_corpora([str(corpus)], config)
    splits = cluster_split(both.examples, config)
    assert splits.validation == alone.validation
    assert splits.test == alone.test
    extra = [example for example in splits.train if example.training_only]
    assert sorted(example.text for example in extra) == sorted(own)
    assert {example.source for example in extra} == {"synthetic"}
    assert len(splits.train) == len(alone.train) + len(own)
    assert set(both.sha256) == {corpus.name, "synthetic.jsonl"}


def test_a_text_for_training_only_joins_no_two_texts_of_a_corpus(corpus: Path) -> None:
    """Two campaigns' mails that are no near-duplicates, and one that is nearly equal to both."""
    words = iter(f"word{n}" for n in range(40 * 28))
    pairs, between = [], []
    for _ in range(40):
        core, left, right = ([next(words) for _ in range(size)] for size in (16, 6, 6))
        pairs += [Example(" ".join(core + end), 1, "csv") for end in (left, right)]
        between.append(Example(" ".join(core + left[:1]), 1, "more", training_only=True))
    examples = read_sms(corpus) + pairs
    joined = near_duplicate_clusters([e.text for e in (pairs[0], between[0], pairs[1])])
    assert joined.tolist() == [0, 0, 0]
    assert near_duplicate_clusters([e.text for e in pairs[:2]]).tolist() == [0, 1]
    alone, beside = (
        cluster_split(given, TrainConfig()) for given in (examples, examples + between)
    )
    assert beside == alone


def test_split_without_spam_is_refused() -> None:
    examples = [Example(f"text {i} {i} {i}", 0, "sms") for i in range(100)]
    with pytest.raises(TrainingError, match="the train part would hold"):
        split_examples(examples, TrainConfig())


def texts_again(examples: list[Example]) -> list[Example]:
    """The same with disguised letters and other marks, which count for nothing."""
    return [dataclasses.replace(e, text=e.text.replace("o", "\u043e") + "!") for e in examples]


def test_what_is_taken_of_equal_texts_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    texts = [f"{word} text about {word * 2} and {word * 3}" for word in map(str, range(100))]
    examples = [Example(text, label, "csv") for label in (0, 1) for text in texts]
    with pytest.raises(TrainingError, match=r"Of 200 given 100 differ; of equal"):
        split_examples(examples, TrainConfig(corpora=("csv",)))
    other = [Example(f"win {text} now", 1, "csv") for text in texts]
    with pytest.raises(TrainingError, match=r"too few texts to train with\.$"):
        split_examples(examples[:-90], TrainConfig(corpora=("csv",), selection="book"))
    capsys.readouterr()
    split_examples([*examples[:130], *texts_again(examples[:7]), *other], TrainConfig())
    assert capsys.readouterr().out == (
        "30 texts left out contradict the label of an equal one, which came first\n"
        "of 237 texts 200 differ; of equal ones the first counts\n"
    )
    split_examples([*texts_again(examples[:7]), *examples[:100], *other], TrainConfig())
    assert capsys.readouterr().out == "of 207 texts 200 differ; of equal ones the first counts\n"


def test_a_sample_of_the_training_part_has_both_classes() -> None:
    examples = [Example("", int(n in (7, 9)), "") for n in range(10)]
    assert sample_of_both(examples, 4) == [0, 1, 2, 3, 7]
    assert sample_of_both(examples, 8) == list(range(8))
    assert sample_of_both(examples, 20) == list(range(10))
    assert sample_of_both(examples[:5], 3) == [0, 1, 2]


def test_no_texts_are_refused() -> None:
    with pytest.raises(TrainingError, match="no texts to split"):
        split_examples([], TrainConfig())


def test_split_from_which_no_cutoffs_come_is_refused_before_the_training() -> None:
    ham = [Example(f"text {i} {i} {i}", 0, "sms") for i in range(100)]
    spam = [Example(f"win {i} {i} {i}", 1, "sms") for i in range(10)]
    with pytest.raises(TrainingError, match="the validation part would hold.*'spam': 1"):
        split_examples(ham + spam, TrainConfig())


def test_each_class_is_cut_at_its_shares_exactly() -> None:
    examples = [Example(f"{n * 7919} {n} {n * 31}", n % 2, "sms") for n in range(200)]
    counts = split_examples(examples, TrainConfig()).counts()
    assert [count["ham"] for count in counts.values()] == [70, 10, 20]
    assert [count["spam"] for count in counts.values()] == [70, 10, 20]


def test_balanced_draw_of_more_spam_than_ham_is_refused() -> None:
    examples = [Example(str(n), int(n > 0), "sms") for n in range(3)]
    with pytest.raises(TrainingError, match="more ham than spam: 1 < 2"):
        split_examples(examples, TrainConfig(selection="book"))


def test_padding_fills_and_cuts() -> None:
    assert pad_to([([1, 2, 3, 4], 1), ([5], 0)], 3) == [
        ([1, 2, 3], 1),
        ([5, ENDOFTEXT, ENDOFTEXT], 0),
    ]


def test_training_loader_shuffles_and_leaves_out_the_small_batch() -> None:
    examples = [([number], number % 2) for number in range(20)]
    torch.manual_seed(0)
    batches = list(make_loader(examples, 8, training=True))
    assert [len(batch.labels) for batch in batches] == [8, 8]
    seen = torch.cat([batch.packed.input_ids for batch in batches]).tolist()
    assert seen != sorted(seen)
    for batch in batches:
        assert (batch.packed.input_ids % 2).tolist() == batch.labels.tolist()
    batches = list(make_loader(examples, 8))
    assert [len(batch.labels) for batch in batches] == [8, 8, 4]
    assert torch.cat([batch.packed.input_ids for batch in batches]).tolist() == list(range(20))


def test_the_books_texts_are_folded_where_the_service_takes_the_recipe() -> None:
    texts = [Example(f"fr33 c@$h {n} [email protected]", n % 2, "sms") for n in range(60)]
    for padding, first in (("none", "Free"), ("longest", "fr33")):
        config = TrainConfig.model_validate({"selection": "book", "padding": padding})
        parts = vars(split_examples(texts, config)).values()
        assert {e.text.split()[0].capitalize() for part in parts for e in part} == {
            first.capitalize()
        }
