"""The texts of one request to what the model reads, in turns: a long list holds up no other."""

from collections.abc import Iterable
from time import monotonic

from app.batcher import keys_of
from model.prediction import EncodedText
from model.windows import WindowedText, encode_windows

# After it the thread reads of the next list what it can in such a time.
_TURN_SECONDS = 0.05


class Reading:
    """What has been read of a request, and what is to come.

    Args:
        texts: may be a generator, which then runs where ``take_turn`` does.
        max_tokens: of a window.
        max_windows: of a text.
        deadline: of ``time.monotonic``, after which nobody waits.

    Attributes:
        texts: those that have been read.
        windows: of all, once all are read.
        keys: of these, as ``keys_of`` gives them.
    """

    def __init__(
        self, texts: Iterable[str], max_tokens: int, max_windows: int, deadline: float
    ) -> None:
        self.texts: list[WindowedText] = []
        self.windows: list[EncodedText] = []
        self.keys: list[bytes] = []
        self._unread = iter(texts)
        self._size = max_tokens, max_windows
        self._deadline = deadline

    def take_turn(self) -> bool:
        """Reads one text at least, and others while its turn lasts. Returns whether all are read.

        Raises:
            TimeoutError: nobody waits for the others.
        """
        end = monotonic() + _TURN_SECONDS
        for text in self._unread:
            self.texts.append(encode_windows(text, *self._size))
            now = monotonic()
            if now > self._deadline:
                raise TimeoutError
            if now > end:
                return False
        self.windows = [window for text in self.texts for window in text.windows]
        self.keys = keys_of(self.windows)
        return True

    def stop(self) -> None:
        """Nobody waits any more: a turn that has begun ends after its text, and one that waits for
        a thread keeps nothing in memory until it gets one."""
        self._unread, self._deadline = iter(()), 0.0
        self.texts, self.windows, self.keys = [], [], []
