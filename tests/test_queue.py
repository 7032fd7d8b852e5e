"""The bounded queue: budget, order, bound, expiry, taking back."""

import threading
from time import monotonic

import pytest

from app.errors import NotReady, QueueFull
from app.queue import PATIENCE_SECONDS, QueueEntry, State, TokenQueue, give_turns
from tests.fake_model import encoded

NOW = monotonic()


def entry(length: int, arrival: float = 0.0, deadline: float = 1e9) -> QueueEntry:
    return QueueEntry(encoded(1, length), b"", NOW + deadline, arrival=NOW + arrival)


def queue(*entries: QueueEntry, max_batch_tokens: int = 100) -> TokenQueue:
    queue = TokenQueue(max_tokens=10_000, max_batch_tokens=max_batch_tokens)
    for each in entries:  # a request of its own
        queue.put([each])
    return queue


def taken(queue: TokenQueue) -> list[int]:
    return [entry.num_tokens for entry in queue.take()]


def test_a_batch_never_exceeds_the_token_budget_but_for_a_single_text() -> None:
    waiting = queue(
        *(entry(n, 10 * i) for i, n in enumerate([4, 6, 1, 50, 3, 7])), max_batch_tokens=10
    )
    assert [taken(waiting) for _ in range(4)] == [[4, 6], [1], [50], [3, 7]]
    assert (waiting.tokens, waiting.texts) == (0, 0)


def test_room_is_what_would_be_admitted_now() -> None:
    waiting = queue()
    assert waiting.has_room(10_001)  # an empty queue takes anything
    waiting.put([entry(8_000)])
    assert waiting.has_room(2_000)
    assert not waiting.has_room(2_001)
    assert waiting.has_room(750, num_texts=2)
    assert not waiting.has_room(751, num_texts=2)


def test_what_is_read_of_one_text_is_no_list() -> None:
    waiting = queue(entry(8_500))
    parts = [entry(300), entry(300)]
    with pytest.raises(QueueFull, match="at most 8750 may wait"):
        waiting.put(parts, num_texts=2)
    waiting.put(parts, num_texts=1)
    assert waiting.tokens == 9_100


def test_a_list_that_came_when_nothing_waited_keeps_no_single_text_out() -> None:
    waiting = queue()
    listed = [entry(500) for _ in range(60)]
    waiting.put(listed, num_texts=60)
    waiting.put([entry(1_250)])
    with pytest.raises(QueueFull, match="10000 tokens wait for the model and 1 came"):
        waiting.put([entry(1)])
    with pytest.raises(QueueFull, match="31250 tokens wait for the model and 2 came"):
        waiting.put([entry(1), entry(1)], num_texts=2)
    for each in listed[:43]:
        waiting.discard(each)
    assert waiting.has_room(250)  # 8,500 of the list are left, and those that came alone
    assert not waiting.has_room(251)


def test_what_has_left_counts_against_no_single_text() -> None:
    waiting = TokenQueue(max_tokens=10_000, max_batch_tokens=5_000)
    waiting.put([entry(9_000, deadline=0), *(entry(4_000) for _ in range(3))], num_texts=4)
    waiting.put([entry(1_250)])
    with pytest.raises(QueueFull) as full:
        waiting.put([entry(100)])
    assert full.value.excess_tokens == 100
    while waiting.tokens > 4_000:
        waiting.take()
    assert waiting.has_room(6_000)
    assert not waiting.has_room(6_001)


def test_short_texts_overtake_a_giant_but_not_for_ever() -> None:
    giant = entry(1024, arrival=0)
    soon = entry(20, arrival=0.9 * PATIENCE_SECONDS)
    late = entry(20, arrival=1.1 * PATIENCE_SECONDS)
    waiting = queue(giant, late, soon, max_batch_tokens=30)
    assert [taken(waiting), taken(waiting), taken(waiting)] == [[20], [1024], [20]]
    assert soon.state is late.state is State.TAKEN


@pytest.mark.parametrize(("texts", "places"), [(60, [30, 61]), (100, [4, 11])])
def test_a_list_gives_way_to_what_comes_while_it_is_read(texts: int, places: list[int]) -> None:
    """Each 64 tokens for a 64th of a second, or where there are more than 4,096 for an eighth."""
    listed = [entry(64) for _ in range(texts)]
    soon, late = entry(20, arrival=0.5), entry(20, arrival=1.2)
    waiting = queue(max_batch_tokens=64)
    for request in (listed, [late], [soon]):
        waiting.put(request, len(request))
    order = []
    while waiting.texts:
        order += waiting.take()
    assert [e for e in order if e in listed] == listed
    assert [order.index(soon), order.index(late)] == places


def test_a_text_of_a_list_that_is_asked_for_alone_is_taken_soon() -> None:
    listed = [entry(64, arrival=monotonic() - NOW) for _ in range(100)]
    waiting = queue(max_batch_tokens=64)
    waiting.put(listed, num_texts=100)
    assert waiting.prolong(listed[90], 1e9)
    assert waiting.prolong(listed[80], 1e9, is_single=True)
    order = [waiting.take() for _ in range(100)]
    assert order.index([listed[80]]) < 20
    assert [e for [e] in order if e is not listed[80]] == listed[:80] + listed[81:]


def test_tokens_before_an_entry_are_those_that_will_be_taken_first() -> None:
    waiting = queue(entry(300), entry(100, arrival=0.1), gone := entry(10), entry(7, arrival=9))
    waiting.discard(gone)
    fresh = entry(200, arrival=0.15)
    give_turns([fresh])
    assert waiting.tokens_before(fresh) == 400
    fresh = entry(100, arrival=0.15)
    give_turns([fresh])
    assert waiting.tokens_before(fresh) == 100


def test_a_full_queue_takes_none_of_a_request() -> None:
    waiting = TokenQueue(max_tokens=10, max_batch_tokens=100)
    waiting.put([entry(6)])
    with pytest.raises(QueueFull, match="6 tokens wait for the model and 4 came; at most 9"):
        waiting.put([entry(1), entry(3)], num_texts=2)  # an eighth is for single ones
    assert (waiting.tokens, waiting.texts) == (6, 1)
    waiting.put([entry(4)])
    assert waiting.tokens == 10


def test_an_empty_queue_takes_a_request_of_any_size() -> None:
    waiting = TokenQueue(max_tokens=10, max_batch_tokens=100)
    waiting.put([entry(50)])
    assert taken(waiting) == [50]


def test_expired_and_discarded_entries_cost_the_model_nothing() -> None:
    expired, discarded, wanted = entry(1, deadline=-1), entry(2), entry(3)
    waiting = queue(expired, discarded, wanted)
    waiting.discard(discarded)
    waiting.discard(discarded)
    assert taken(waiting) == [3]
    waiting.discard(wanted)
    assert (discarded.state, wanted.state) == (State.DISCARDED, State.TAKEN)
    assert (waiting.tokens, waiting.texts) == (0, 0)


def test_an_entry_waits_as_long_as_the_last_deadline_that_it_was_given() -> None:
    shared, discarded = entry(1, deadline=-2), entry(2)
    waiting = queue(shared, discarded)
    assert waiting.prolong(shared, NOW + 1e9)
    assert waiting.prolong(shared, NOW - 1)
    waiting.discard(discarded)
    assert not waiting.prolong(discarded, NOW + 1e9)
    waiting.close()
    assert taken(waiting) == [1]
    assert waiting.prolong(shared, NOW + 1e9)


def test_discarded_entries_leave_the_others_in_their_turn() -> None:
    entries = [entry(n % 7 + 1, arrival=n * 37 % 300) for n in range(300)]
    waiting = queue(*entries, max_batch_tokens=1)
    passing = sorted(entries)[:220]
    for each in passing:
        waiting.discard(each)
    assert len(waiting._heap) < 300
    batches = [waiting.take() for _ in range(80)]
    assert batches == [[each] for each in sorted(entries)[220:]]


def test_discarded_entries_do_not_pile_up_while_nothing_is_taken() -> None:
    waiting = TokenQueue(max_tokens=10_000, max_batch_tokens=100)
    for _ in range(10_000):
        passing = entry(1)
        waiting.put([passing])
        waiting.discard(passing)
    assert len(waiting._heap) < 200


def test_a_closed_queue_gives_what_it_has_and_then_the_end() -> None:
    waiting = queue(entry(5))
    waiting.close()
    assert taken(waiting) == [5]
    assert waiting.take() == []


def test_what_comes_after_the_end_is_refused() -> None:
    waiting = queue()
    waiting.close()
    with pytest.raises(NotReady):
        waiting.put([entry(5)])


def test_take_waits_for_an_entry_or_the_end() -> None:
    waiting = TokenQueue(max_tokens=10, max_batch_tokens=100)
    batches: list[list[int]] = []
    for go_on in (lambda: waiting.put([entry(7)]), waiting.close):
        thread = threading.Thread(target=lambda: batches.append(taken(waiting)), daemon=True)
        thread.start()
        while not waiting._changed._waiters:  # type: ignore[attr-defined]
            pass
        go_on()
        thread.join(10)
    assert batches == [[7], []]
