"""Single texts are measured while lists are under way, however long a list takes."""

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import pytest

from benchmarks import lists, peers
from benchmarks.peers import Contender
from benchmarks.server import Running
from tests.fake_server import QuietHandler, listening

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs taskset")

Got = list[tuple[float, float, list[str]]]
"""Of each request when it came, when it was answered, and its texts."""


@contextmanager
def first_in_first_out(list_seconds: float, list_status: int = 200) -> Iterator[tuple[str, Got]]:
    """A server that answers one request at a time: a list in so long, a text at once."""
    got: Got = []
    turn = threading.Lock()

    class Handler(QuietHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            texts = json.loads(body)["texts"]
            is_list = len(texts) > 1
            came = time.perf_counter()
            with turn:
                time.sleep(list_seconds if is_list else 0)
            got.append((came, time.perf_counter(), texts))
            self.send_response(list_status if is_list else 200)
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"[0.5]")

    with listening(Handler) as url:
        yield url, got


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict]:
    """Measures what serves at a URL: briefly, on a core of this machine."""
    core = str(min(os.sched_getaffinity(0)))
    for module in (lists, peers):
        monkeypatch.setattr(module, "CLIENT_CORE", core)
    monkeypatch.setattr(lists, "HEAD_START", 0.1)
    monkeypatch.setattr(lists, "RATE", 20.0)
    monkeypatch.setattr(lists, "WARM_UP", ("--clients", "1", "--seconds", "0.1"))

    def measured(url: str) -> dict:
        def serving(*_: object) -> AbstractContextManager[Running]:
            return nullcontext(Running(url, 0, 0.0))

        monkeypatch.setattr(lists, "serving", serving)
        return lists.measure(Contender("fake", [], path="/"), 0, 0.5)

    return measured


@pytest.mark.parametrize("list_seconds", [0.3, 0.9])
def test_single_texts_wait_for_lists_until_the_last_is_answered(
    measure: Callable[[str], dict], list_seconds: float
) -> None:
    with first_in_first_out(list_seconds) as (url, got):
        found = measure(url)
    assert found["beside_lists"]["statuses"] == found["alone"]["statuses"]
    assert found["beside_lists"]["p50_ms"] > found["alone"]["p50_ms"] + 100
    assert found["lists"]["p50_ms"] >= 1000 * list_seconds
    answered = [(came, end) for came, end, texts in got if len(texts) == lists.TEXTS_PER_LIST]
    assert found["lists"]["statuses"] == {"200": len(answered)}
    singles = [(came, texts[0]) for came, _, texts in got if len(texts) == 1]
    assert answered[0][0] < max(singles)[0] < answered[-1][1]
    probes = [came for came, text in singles if text.startswith("Are you there")]
    assert len(probes) == 2  # of the warm-up and the load alone
    assert max(probes) < answered[0][0]


def test_single_texts_beside_which_no_list_was_answered_are_no_result(
    measure: Callable[[str], dict],
) -> None:
    with (
        first_in_first_out(0.0, list_status=503) as (url, _),
        pytest.raises(RuntimeError, match=r"fake answered no list beside .*'503'"),
    ):
        measure(url)
