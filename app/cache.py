"""Predictions of texts seen before, least recently used first out. For one model: it has no name in
the key. Not thread-safe: it belongs to the event loop."""

from collections import OrderedDict

from model.prediction import Prediction

_ENTRY_BYTES = 400
"""More than an entry occupies besides its key; tests/test_cache.py measures it."""


class PredictionCache:
    """Predictions by the keys of ``app.batcher.keys_of``.

    Args:
        max_bytes: memory it may fill; 0 keeps nothing.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._predictions: OrderedDict[bytes, Prediction] = OrderedDict()

    def __len__(self) -> int:
        return len(self._predictions)

    def get(self, key: bytes) -> Prediction | None:
        """The prediction, which thereby becomes the last to go."""
        prediction = self._predictions.get(key)
        if prediction is not None:
            self._predictions.move_to_end(key)
        return prediction

    def put(self, key: bytes, prediction: Prediction) -> None:
        """Keeps a prediction, and lets the oldest go where there is no room."""
        if key in self._predictions or len(key) + _ENTRY_BYTES > self._max_bytes:
            return
        self._predictions[key] = prediction
        self._bytes += len(key) + _ENTRY_BYTES
        while self._bytes > self._max_bytes:
            oldest, _ = self._predictions.popitem(last=False)
            self._bytes -= len(oldest) + _ENTRY_BYTES
