"""The cache of predictions: bounded in bytes, the least recently used goes first."""

from app.cache import PredictionCache
from model.prediction import Prediction

PREDICTION = Prediction(0.25, 0.75, 1, False)


def test_what_was_used_last_stays() -> None:
    cache = PredictionCache(max_bytes=2 * 402)
    cache.put(b"aa", PREDICTION)
    cache.put(b"bb", PREDICTION)
    assert cache.get(b"aa") == PREDICTION
    cache.put(b"cc", PREDICTION)
    assert cache.get(b"bb") is None
    assert cache.get(b"aa") == cache.get(b"cc") == PREDICTION


def test_keys_of_any_length_and_put_again_fill_no_more_than_the_bytes() -> None:
    cache = PredictionCache(max_bytes=3 * 402)
    for key in (b"aa", b"aa", b"bb", b"cc"):
        cache.put(key, PREDICTION)
    assert len(cache) == 3
    cache.put(b"x" * 3 * 402, PREDICTION)  # fits nowhere, and makes nobody go
    assert len(cache) == 3
    cache.put(b"y" * (402 + 2), PREDICTION)
    assert cache.get(b"bb") is None
    assert cache.get(b"cc") == PREDICTION
    for key in (b"aa", b"bb", b"dd"):
        cache.put(key, PREDICTION)
    assert len(cache) == 3


def test_an_entry_that_fills_the_cache_is_kept() -> None:
    cache = PredictionCache(max_bytes=402)
    cache.put(b"aa", PREDICTION)
    assert cache.get(b"aa") == PREDICTION


def test_a_cache_of_no_bytes_keeps_nothing() -> None:
    cache = PredictionCache(max_bytes=0)
    cache.put(b"aa", PREDICTION)
    assert len(cache) == 0


def test_the_stated_size_of_an_entry_is_what_it_takes() -> None:
    import tracemalloc

    tracemalloc.start()
    cache = PredictionCache(max_bytes=10_000_000)
    before = tracemalloc.get_traced_memory()[0]
    for n in range(10_000):
        cache.put(b"%044d" % n, Prediction(n / 20_000, 1 - n / 20_000, 1000 + n, False))
    measured = (tracemalloc.get_traced_memory()[0] - before) / 10_000
    tracemalloc.stop()
    assert 0.6 * 444 < measured <= 444
