"""Labelled texts of corpora that a recipe does not read, to judge by."""

from collections.abc import Sequence

import numpy as np

from training.config import ConfigError
from training.corpora import CORPORA, Example, Source, refuse_same_names
from training.data import folded, letters_and_digits, near_duplicate_clusters


def read_foreign(places: Sequence[str], sample: int, known: Sequence[Example]) -> list[Example]:
    """Labelled texts of corpora that a recipe does not read, as many drawn of each.

    Args:
        places: ``KIND=PATH`` of each; none gives no texts.
        sample: texts drawn of each corpus, always the same ones.
        known: the recipe's; what nearly equals one of them is left out, after the draw.

    Raises:
        ConfigError: not one text is to be drawn.
        CorpusError: one that cannot be read, or two of one name.
    """
    if sample < 1:
        raise ConfigError(f"--sample is {sample}: at least 1 is needed.")
    sources = [Source.labelled(place) for place in places]
    foreign: list[Example] = []
    kinds: dict[str, str] = {}
    for source in sources:
        drawn = _sample(CORPORA[source.kind](source.path), sample)
        refuse_same_names(kinds, source.kind, drawn)
        foreign += drawn
    kept = unlike(foreign, known) if foreign else []
    if foreign:
        print(f"foreign: {len(kept)} of {len(foreign)} texts; the others nearly equal known ones")
    return kept


def _sample(examples: Sequence[Example], size: int) -> list[Example]:
    order = np.random.default_rng(0).permutation(len(examples))[:size]
    return [examples[number] for number in order.tolist()]


def unlike(texts: Sequence[Example], others: Sequence[Example]) -> list[Example]:
    """The texts that none of the others equals, or nearly equals."""
    both = folded([*texts, *others], typing=False)
    clusters = near_duplicate_clusters([example.text for example in both]).tolist()
    near = set(clusters[len(texts) :])
    equal = {letters_and_digits(example.text) for example in both[len(texts) :]}
    return [
        example
        for example, plain, cluster in zip(texts, both, clusters, strict=False)
        if cluster not in near and letters_and_digits(plain.text) not in equal
    ]
