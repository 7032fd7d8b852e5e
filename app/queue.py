"""The bounded queue between the event loop and the model thread, counted in tokens and texts.

Knows nothing of callers, results or the model. Its methods may be called from any thread.
"""

import heapq
import threading
from dataclasses import dataclass, field
from enum import Enum, auto
from time import monotonic
from typing import Any

from app.errors import NotReady, QueueFull
from model.prediction import EncodedText

_LONGEST_TEXT = 1024
"""Tokens of a text that gives way for the whole of ``PATIENCE_SECONDS``; shorter ones for less."""

PATIENCE_SECONDS = 1.0
"""A text may be overtaken by shorter ones that arrive this much later, and by no others."""

_LONGEST_MAIL = 4096
"""Tokens of a request whose last text, or window, gives way for ``PATIENCE_SECONDS`` more."""

_TOKENS_OF_A_LIST = 512
"""In a request with more than ``_LONGEST_MAIL`` tokens, each text gives way for another
``PATIENCE_SECONDS`` for every so many tokens before it: nobody waits for all of a list of a
thousand texts. Were it more, a few lists at once would keep all others out."""

_TOMBSTONES = 64


class State(Enum):
    """Where an entry is."""

    WAITING = auto()
    TAKEN = auto()
    DISCARDED = auto()


@dataclass(eq=False, slots=True)
class QueueEntry:
    """A text on its way through the model.

    Attributes:
        text: its tokens.
        key: equal for texts that must have the same prediction.
        deadline: ``time.monotonic()`` after which nobody wants the answer.
        arrival: ``time.monotonic()`` when it was made.
        waiters: whoever wants the answer, and where; the queue does not look at them.
        of_list: whether it came with other texts; kept by the queue, as are the following.
        state: where it is.
        turn: the least is taken first.
    """

    text: EncodedText
    key: bytes
    deadline: float
    arrival: float = field(default_factory=monotonic)
    waiters: dict[Any, list[int]] = field(default_factory=dict)
    of_list: bool = False
    state: State = State.WAITING
    turn: float = 0.0

    @property
    def num_tokens(self) -> int:
        """Tokens the model has to read."""
        return len(self.text.token_ids)

    def __lt__(self, other: "QueueEntry") -> bool:
        return self.turn < other.turn


def give_turns(entries: list[QueueEntry]) -> int:
    """Gives the entries of one request their turns; returns the number of their tokens."""
    total = sum(entry.num_tokens for entry in entries)
    enough = _LONGEST_MAIL if total <= _LONGEST_MAIL else _TOKENS_OF_A_LIST
    before = 0
    for entry in entries:
        gives_way = entry.num_tokens / _LONGEST_TEXT + before / enough
        entry.turn = entry.arrival + PATIENCE_SECONDS * gives_way
        before += entry.num_tokens
    return total


def bound_of(most: int, num_texts: int) -> int:
    """How much may wait for a request with so many texts to be admitted: lists leave an eighth to
    single texts."""
    return most if num_texts == 1 else most - most // 8


def counted(waiting: int, in_lists: int, most: int, num_texts: int) -> int:
    """What of that which waits counts against a request with so many texts: what lists have beyond
    their bound keeps further lists out, but no single text."""
    excess = max(0, in_lists - bound_of(most, 2))
    return waiting if num_texts > 1 else waiting - excess


class TokenQueue:
    """First come, first served, but for long texts and long lists of texts, which give way for a
    while."""

    def __init__(self, *, max_tokens: int, max_batch_tokens: int) -> None:
        self.max_tokens = max_tokens
        self.max_batch_tokens = max_batch_tokens
        self.tokens = 0
        self.texts = 0
        self._list_tokens = 0  # those of ``tokens`` that came in lists
        self._heap: list[QueueEntry] = []
        self._changed = threading.Condition()
        self._closed = False

    def has_room(self, tokens: int, num_texts: int = 1) -> bool:
        """Whether a request with so many tokens and texts would be admitted now.

        An empty queue admits any request, however large: it would never be admitted otherwise. A
        list that is admitted so keeps further lists out, but no single text.
        """
        waiting = self._waiting_before(num_texts)
        return not self.tokens or waiting + tokens <= bound_of(self.max_tokens, num_texts)

    def put(self, entries: list[QueueEntry], num_texts: int = 1) -> None:
        """Adds all entries of a request or none: the bound is checked and counted in one step.

        Args:
            entries: windows of its texts, or of what else is read of them.
            num_texts: of the request.

        Raises:
            QueueFull: they would bring the queue over its bound.
            NotReady: it is closed, and nobody will take them.
        """
        tokens = give_turns(entries)
        with self._changed:
            if self._closed:
                raise NotReady("The model was replaced just now. Try again.", retry_after_seconds=1)
            if not self.has_room(tokens, num_texts):
                waiting = self._waiting_before(num_texts)
                most = bound_of(self.max_tokens, num_texts)
                full = QueueFull(
                    f"{waiting} tokens wait for the model and {tokens} came; at most "
                    f"{most} may wait. Try again later, or elsewhere."
                )
                # An empty queue takes more than its bound.
                full.excess_tokens = min(waiting + tokens - most, waiting)
                raise full
            for entry in entries:
                entry.of_list = num_texts > 1
                heapq.heappush(self._heap, entry)
            self.tokens += tokens
            self._list_tokens += tokens if num_texts > 1 else 0
            self.texts += len(entries)
            self._changed.notify()

    def tokens_before(self, entry: QueueEntry) -> int:
        """Tokens that wait and will be taken before this entry, or would be if it were put."""
        with self._changed:
            waiting = (e for e in self._heap if e.state is State.WAITING and e.turn <= entry.turn)
            return sum(e.num_tokens for e in waiting)

    def take(self) -> list[QueueEntry]:
        """Waits for entries, then takes what fits into the token budget, at least one.

        Returns:
            The next batch, oldest turn first; empty once the queue is closed and nothing waits.
        """
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._heap or self._closed)
                if batch := self._next_batch(monotonic()):
                    return batch
                if self._closed:
                    return []

    def prolong(self, entry: QueueEntry, deadline: float, *, is_single: bool = False) -> bool:
        """Extends the deadline of an entry that a further request waits for.

        Where that request ``is_single``, the entry moves up to the turn that it would have got.

        Returns:
            False if the entry has been given up already.
        """
        with self._changed:
            entry.deadline = max(entry.deadline, deadline)
            turn = monotonic() + PATIENCE_SECONDS * entry.num_tokens / _LONGEST_TEXT
            if is_single and turn < entry.turn:
                entry.turn = turn
                heapq.heapify(self._heap)
            return entry.state is not State.DISCARDED

    def discard(self, entry: QueueEntry) -> None:
        """Takes back an entry that nobody wants any more, if it still waits."""
        with self._changed:
            if entry.state is not State.WAITING:
                return
            self._leave(entry, State.DISCARDED)
            # Its place in the heap stays until its turn comes, or until such places prevail.
            if len(self._heap) > 2 * self.texts + _TOMBSTONES:
                self._heap = [e for e in self._heap if e.state is State.WAITING]
                heapq.heapify(self._heap)

    def close(self) -> None:
        """Lets ``take`` end once nothing waits."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _next_batch(self, now: float) -> list[QueueEntry]:
        batch: list[QueueEntry] = []
        tokens = 0
        while self._heap:
            entry = self._heap[0]
            if entry.state is State.WAITING and entry.deadline > now:
                tokens += entry.num_tokens
                if batch and tokens > self.max_batch_tokens:
                    break
                self._leave(entry, State.TAKEN)
                batch.append(entry)
            elif entry.state is State.WAITING:  # expired: not worth the model's time
                self._leave(entry, State.DISCARDED)
            heapq.heappop(self._heap)
        return batch

    def _waiting_before(self, num_texts: int) -> int:
        return counted(self.tokens, self._list_tokens, self.max_tokens, num_texts)

    def _leave(self, entry: QueueEntry, state: State) -> None:
        entry.state = state
        self.tokens -= entry.num_tokens
        self._list_tokens -= entry.num_tokens if entry.of_list else 0
        self.texts -= 1
