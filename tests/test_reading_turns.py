"""app.reading: a list is read in turns, and nothing of one that nobody waits for."""

import time
from collections.abc import Iterator
from itertools import count

import pytest

from app import reading
from app.batcher import keys_of
from app.reading import Reading
from model.windows import encode_windows


def read(texts: list[str], deadline: float = float("inf")) -> Reading:
    return Reading(texts, 64, 8, deadline)


def test_a_list_is_read_in_turns_that_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = count(step=0.03)  # a text takes as long
    monkeypatch.setattr(reading, "monotonic", lambda: next(ticks))
    texts = [f"text {n}" for n in range(5)]
    long = read(texts)
    turns = [long.take_turn()]
    assert len(long.texts) == 2
    assert long.windows == []
    while not turns[-1]:
        turns.append(long.take_turn())
    assert turns == [False, False, True]
    assert long.texts == [encode_windows(text, 64, 8) for text in texts]
    assert long.windows == [window for text in long.texts for window in text.windows]
    assert long.keys == keys_of(long.windows)


def test_after_the_deadline_nothing_more_is_read() -> None:
    late = read(["a", "b", "c"], deadline=time.monotonic() - 1)
    with pytest.raises(TimeoutError):
        late.take_turn()
    assert len(late.texts) == 1


def test_what_nobody_waits_for_is_kept_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = []

    def texts() -> Iterator[str]:
        try:
            yield from ("a", "b")
        finally:
            ended.append(True)

    monkeypatch.setattr(reading, "_TURN_SECONDS", -1.0)
    given_up = Reading(texts(), 64, 8, float("inf"))
    turn = given_up.take_turn  # what waits for a thread holds this
    assert not turn()
    given_up.stop()
    assert ended == [True]
    assert given_up.texts == []
    assert turn()  # as of no text
