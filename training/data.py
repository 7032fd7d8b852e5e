"""Examples to batches: duplicates, splits that do not leak, tokens, loaders."""

import hashlib
import math
import re
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor
from torch.utils.data import DataLoader

from model.checkpoint import ReadToken
from model.fold import fold_text
from model.packing import PackedBatch, concatenate, pack
from model.tokenizer import ENDOFTEXT, encode
from training.activations import ActivationCache
from training.augment import Reading
from training.bag_of_words import BagOfWords
from training.config import TrainConfig, TrainingError
from training.corpora import Example

# Two texts are near-duplicates where their sets of word triples overlap (Jaccard) by this much.
NEAR_DUPLICATE = 0.6
# What is neither letter nor digit: \w is what isalnum() says yes to, and the underscore.
_NEITHER = re.compile(r"[\W_]+")
# Pairs of texts with a triple in common that are looked at at once: some 100 MB.
_PAIRS_AT_ONCE = 1 << 21

TokenizedExample = tuple[list[int], int]
"""Token ids and label."""


@dataclass(frozen=True)
class Batch:
    """B packed texts with their labels.

    Attributes:
        packed: the texts.
        labels: int64 (B,), 0 ham, 1 spam.
        token_labels: int64 (T,), what each token's reading of the text so far should say.
        hidden: (T, C), the activations that enter the first trained block, where they are kept.
        log_odds: float (T,), what a bag of words says of some beginnings of texts, at their last
            tokens; NaN at all others.
    """

    packed: PackedBatch
    labels: Tensor
    token_labels: Tensor
    hidden: Tensor | None = None
    log_odds: Tensor | None = None


def join(batches: Sequence[Batch]) -> Batch:
    """The texts of several batches, which are all of one kind, as one; without ``log_odds``."""
    if len(batches) == 1:
        return batches[0]
    hidden = [batch.hidden for batch in batches if batch.hidden is not None]
    return Batch(
        concatenate([batch.packed for batch in batches]),
        torch.cat([batch.labels for batch in batches]),
        torch.cat([batch.token_labels for batch in batches]),
        torch.cat(hidden) if hidden else None,
    )


@dataclass(frozen=True)
class Splits:
    """One corpus in three parts. The test part never chooses anything."""

    train: list[Example]
    validation: list[Example]
    test: list[Example]

    def for_network(self) -> "Splits":
        """Without the training texts that a table of n-grams alone is fitted to."""
        return replace(self, train=[e for e in self.train if not e.table_only])

    def counts(self) -> dict[str, dict[str, int]]:
        """Ham and spam in each part."""
        return {
            name: {
                "ham": sum(e.label == 0 for e in part),
                "spam": sum(e.label == 1 for e in part),
            }
            for name, part in vars(self).items()
        }


def split_examples(examples: Sequence[Example], config: TrainConfig) -> Splits:
    """Splits as the recipe says: ``all`` or ``book``.

    Raises:
        TrainingError: no texts, a part without ham or without spam, or one of either in the
            validation part, from which no cut-offs could be found.
    """
    if not examples:
        raise TrainingError("there are no texts to split: the files of --data are empty.")
    if config.selection == "book":
        splits = book_split(examples, config)
        if config.is_served:
            splits = Splits(*(folded(part) for part in vars(splits).values()))
    else:
        splits = cluster_split(examples, config)
    num_texts = sum(map(len, vars(splits).values()))
    for name, count in splits.counts().items():
        if min(count.values()) < (2 if name == "validation" else 1):
            hint = f" Of {len(examples)} given {num_texts} differ; of equal ones the first counts, "
            hint += "with its label, and nearly equal ones stand in one part."
            raise TrainingError(
                f"the {name} part would hold {count}: too few texts to train with."
                + hint * (config.selection == "all")
            )
    if config.selection == "all" and num_texts < len(examples):
        print(f"of {len(examples):,} texts {num_texts:,} differ; of equal ones the first counts")
    return splits


def sample_of_both(examples: Sequence[Example], size: int = 2000) -> list[int]:
    """Positions of the first ``size`` texts, and of the first of a class that none of them is.

    Of a training part: a sample of what was split, behind which stands what is for training only.
    """
    sample = list(range(min(size, len(examples))))
    found = {examples[n].label for n in sample}
    later = (n for n in range(size, len(examples)) if examples[n].label not in found)
    return sample + list(islice(later, 1))


def book_split(examples: Sequence[Example], config: TrainConfig) -> Splits:
    """The book's draw: as many ham as spam, shuffled, cut in order.

    pandas' ``sample(n, random_state=123)`` is ``RandomState(123).choice`` without replacement.
    """
    ham = [e for e in examples if e.label == 0]
    spam = [e for e in examples if e.label == 1]
    if len(ham) < len(spam):
        raise TrainingError(f"a balanced draw needs more ham than spam: {len(ham)} < {len(spam)}.")
    drawn = np.random.RandomState(config.split_seed).choice(len(ham), len(spam), replace=False)
    balanced = [ham[i] for i in drawn] + spam
    order = np.random.RandomState(config.split_seed).choice(
        len(balanced), len(balanced), replace=False
    )
    shuffled = [balanced[i] for i in order]
    first = int(len(shuffled) * config.train_fraction)
    second = first + int(len(shuffled) * config.validation_fraction)
    return Splits(shuffled[:first], shuffled[first:second], shuffled[second:])


def cluster_split(examples: Sequence[Example], config: TrainConfig) -> Splits:
    """Every distinct text, near-duplicates on one side, the same shares of ham and spam and of each
    corpus in every part. Texts for training only are all in the training part, but for those that
    nearly equal one of another corpus.

    Letters are made plain to compare, so that no disguise hides a duplicate; leet, marks and case
    are not, so that the split stays what it was for checkpoints from before. What the parts hold is
    read as the service reads it.
    Where a cluster goes is drawn from a hash of its text: the same for a base as for the classifier
    made from it, in whatever order and with whatever other corpora both read it; but for the few
    texts that another corpus has, too, or whose equals are spelled otherwise, of which the first to
    be read stands for all.
    """
    plain = folded(examples, typing=False)
    as_it_came = {id(example): raw for example, raw in zip(plain, examples, strict=True)}
    equals = _equals(plain)
    distinct = [first for first, *_ in equals]
    if wrong := sum(e.label != first.label for first, *others in equals for e in others):
        print(f"{wrong:,} texts left out contradict the label of an equal one, which came first")
    training_only = [
        example
        for cluster in clustered(distinct)
        if all(example.training_only for example in cluster)
        for example in cluster
    ]
    strata: dict[tuple[str, int], list[tuple[bytes, list[Example]]]] = {}
    # Without the others, by which two of these texts could come to be of one cluster.
    for group in clustered([example for example in distinct if not example.training_only]):
        first = min(group, key=lambda e: (e.source, e.label, e.text))  # hardly any holds two labels
        place = hashlib.sha256(f"{config.split_seed} {first.text}".encode("utf-8", "replace"))
        strata.setdefault((first.source, first.label), []).append((place.digest(), group))
    parts: tuple[list[Example], list[Example], list[Example]] = ([], [], [])
    for stratum in strata.values():
        total = sum(len(group) for _, group in stratum)
        bounds = np.cumsum([config.train_fraction, config.validation_fraction]) * total
        placed = 0
        for _, group in sorted(stratum, key=itemgetter(0)):
            part = int(np.searchsorted(bounds, placed, side="right"))
            parts[part].extend(group)
            placed += len(group)
    rng = np.random.default_rng(config.split_seed)
    train, validation, test = (
        folded([as_it_came[id(part[i])] for i in rng.permutation(len(part))]) for part in parts
    )
    return Splits(train + folded([as_it_came[id(e)] for e in training_only]), validation, test)


def folded(examples: Sequence[Example], *, typing: bool = True) -> list[Example]:
    """The same texts as the service's model reads them: with letters made plain."""
    return [replace(example, text=fold_text(example.text, typing=typing)) for example in examples]


def drop_duplicates(examples: Sequence[Example]) -> list[Example]:
    """The first of each set of texts that differ in nothing but case, blanks and punctuation."""
    return [first for first, *_ in _equals(examples)]


def _equals(examples: Sequence[Example]) -> list[list[Example]]:
    equals: dict[str, list[Example]] = {}
    for example in examples:
        equals.setdefault(letters_and_digits(example.text), []).append(example)
    return list(equals.values())


def clustered(examples: Sequence[Example]) -> list[list[Example]]:
    """The examples of each cluster of near-duplicates."""
    clusters = near_duplicate_clusters([example.text for example in examples])
    members: dict[int, list[Example]] = {}
    for example, cluster in zip(examples, clusters.tolist(), strict=True):
        members.setdefault(cluster, []).append(example)
    return list(members.values())


def near_duplicate_clusters(texts: Sequence[str]) -> NDArray[np.int32]:
    """A cluster number for each text; near-duplicates, also of near-duplicates, share theirs.

    Numbers are in the order of the clusters' first texts. The work grows with the pairs of texts
    that have a triple in common, the memory does not: a footer makes pairs of all texts.
    """
    matrix = _triples_of(texts)  # (texts, triples)
    transposed = matrix.T.tocsr()
    sizes = np.asarray(matrix.sum(axis=1)).ravel()
    num_texts = np.asarray(matrix.sum(axis=0)).ravel()  # of each triple
    num_pairs = np.minimum(matrix @ num_texts, len(texts))  # of each text, at most
    blocks = np.cumsum(num_pairs) // _PAIRS_AT_ONCE
    starts = np.flatnonzero(np.diff(blocks, prepend=-1)).tolist()
    clusters = np.arange(len(texts), dtype=np.int32)
    for start, end in zip(starts, [*starts[1:], len(texts)], strict=True):
        shared = (matrix[start:end] @ transposed).tocoo()
        rows, columns = shared.row + start, shared.col
        near = shared.data >= NEAR_DUPLICATE * (sizes[rows] + sizes[columns] - shared.data)
        pairs = clusters[rows[near]], clusters[columns[near]]
        graph = coo_array((np.ones(len(pairs[0]), np.int8), pairs), shape=(len(texts),) * 2)
        clusters = connected_components(graph, directed=False)[1][clusters]
    return clusters


def tokenize(examples: Sequence[Example], max_tokens: int) -> list[TokenizedExample]:
    """Token ids of each text, cut after ``max_tokens``."""
    return [(encode(example.text, max_tokens)[0], example.label) for example in examples]


def pad_to(examples: Sequence[TokenizedExample], length: int) -> list[TokenizedExample]:
    """Texts of exactly ``length`` tokens, cut or filled up with ENDOFTEXT, as in the book."""
    return [
        ((tokens + [ENDOFTEXT] * (length - len(tokens)))[:length], label)
        for tokens, label in examples
    ]


def tokenize_parts(
    splits: Splits, config: TrainConfig
) -> tuple[dict[str, list[TokenizedExample]], ReadToken]:
    """Token ids of each part, padded as the recipe says, and where the verdict is then read."""
    parts = {name: tokenize(part, config.max_tokens) for name, part in vars(splits).items()}
    if config.padding == "none":
        return parts, config.read_token
    length = config.max_tokens
    if config.padding == "longest":
        length = max(len(tokens) for tokens, _ in parts["train"])
    parts = {name: pad_to(part, length) for name, part in parts.items()}
    return parts, length - 1 if config.read_token == "last" else config.read_token


def make_loader(
    examples: Sequence[TokenizedExample],
    batch_size: int,
    *,
    training: bool = False,
    causal: bool = True,
    augment: Callable[[int], Reading] | None = None,
    bag_of_words: BagOfWords | None = None,
    cache: ActivationCache | None = None,
) -> DataLoader[Any]:
    """Batches of examples; for training shuffled, without a smaller last one.

    The order comes from torch's global generator.

    Args:
        examples: what the batches are made of.
        batch_size: texts a batch.
        training: see above.
        causal: whether a token sees only what stands before it.
        augment: reads the text of a number anew; not together with ``cache``.
        bag_of_words: is asked about the passages of what was read so.
        cache: the examples' activations, where the lower blocks are frozen.
    """

    def collate(indices: list[int]) -> Batch:
        readings = [augment(i) if augment else Reading(*examples[i]) for i in indices]
        token_labels = [
            reading.label * (place >= reading.onset)
            for reading in readings
            for place in range(len(reading.tokens))
        ]
        log_odds = torch.full((len(token_labels),), math.nan)
        starts = np.cumsum([0, *(len(reading.tokens) for reading in readings)]).tolist()
        passages = [
            (start + place, index, text)
            for start, index, reading in zip(starts, indices, readings, strict=False)
            for place, text in reading.passages
        ]
        if bag_of_words and passages:
            places, numbers, texts = (list(column) for column in zip(*passages, strict=True))
            log_odds[places] = torch.from_numpy(bag_of_words.log_odds(numbers, texts)).float()
        return Batch(
            pack([reading.tokens for reading in readings], causal=causal),
            torch.tensor([reading.label for reading in readings]),
            torch.tensor(token_labels),
            cache.gather(indices) if cache else None,
            log_odds,
        )

    return DataLoader(
        range(len(examples)),  # type: ignore[arg-type]  # any sequence serves as a dataset
        batch_size,
        shuffle=training,
        drop_last=training,
        collate_fn=collate,
    )


def letters_and_digits(text: str) -> str:
    """A text in small letters, without blanks and marks; one that has nothing else as it is."""
    return _NEITHER.sub("", text.lower()) or text


def _triples_of(texts: Sequence[str]) -> csr_array:
    """Which triples of words a text has, (texts, triples), numbered as they come.

    scikit-learn's CountVectorizer sorts them, too, which takes as long again.
    """
    number_of: dict[str, int] = {}
    numbers, ends = array("i"), [0]
    for text in texts:
        triples = dict.fromkeys(_word_triples(text))
        numbers.extend(number_of.setdefault(triple, len(number_of)) for triple in triples)
        ends.append(len(numbers))
    ones = np.ones(len(numbers), np.int32)
    return csr_array((ones, np.asarray(numbers), ends), shape=(len(texts), len(number_of)))


def _word_triples(text: str) -> list[str]:
    words = re.findall(r"\w+", text.lower())
    if len(words) < 3:
        return [" ".join(words) or text]
    return [" ".join(words[i : i + 3]) for i in range(len(words) - 2)]
