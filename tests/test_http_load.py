"""The load generator ends in time, whatever the server does."""

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterator
from itertools import islice, repeat
from typing import Any

import pytest

from benchmarks.http_load import (
    Outcome,
    Target,
    closed_loop,
    cycle_requests,
    is_answered,
    main,
    open_loop,
)
from benchmarks.server import free_port
from benchmarks.texts import load_texts, own_words
from model.tokenizer import encode
from tests.fake_server import server

PROBABILITY = b'[[{"label": "spam", "score": 0.98}]]'
REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


Load = Callable[[Target, Iterator[bytes]], Coroutine[Any, Any, Outcome]]


async def loaded(load: Load, answered: int, seconds: float = 0.0) -> Outcome:
    """The outcome of a load on a server that answers so many requests, each of a connection in so
    long, and hangs on the rest."""
    left = answered

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal left
        try:
            while await reader.read(65536):
                await asyncio.sleep(seconds)
                left -= 1
                if left >= 0:
                    writer.write(REPLY)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        target = Target(f"http://127.0.0.1:{port}/")
        request = target.request(["text"])
        return await asyncio.wait_for(load(target, repeat(request)), 20)


def closed(target: Target, requests: Iterator[bytes]) -> Coroutine[Any, Any, Outcome]:
    return closed_loop(target, requests, clients=5, seconds=0.2, drain_seconds=0.3)


def opened(target: Target, requests: Iterator[bytes]) -> Coroutine[Any, Any, Outcome]:
    return open_loop(target, requests, rate=100, seconds=0.2, drain_seconds=0.3)


@pytest.mark.parametrize("load", [closed, opened])
def test_requests_that_are_never_answered_are_given_up_and_counted(load: Load) -> None:
    outcome = asyncio.run(loaded(load, answered=3))
    assert outcome.statuses == {200: 3}
    assert outcome.unfinished == 5 if load is closed else outcome.unfinished > 5
    assert 0 < outcome.seconds < 5


def test_a_stall_counts_from_the_time_at_which_a_request_was_due(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ten in a tenth of a second, on one connection, of a server that takes as long for each."""

    async def scenario() -> Outcome:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while await reader.read(65536):
                    await asyncio.sleep(0.1)
                    writer.write(REPLY)
            finally:
                writer.close()

        listener = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        target = Target(f"http://127.0.0.1:{port}/classify")
        requests = repeat(target.request(["hello"]))
        async with listener:
            return await open_loop(target, requests, rate=100, seconds=0.1, drain_seconds=5)

    monkeypatch.setattr("benchmarks.http_load._OPEN_LOOP_CONNECTIONS", 1)
    latencies = asyncio.run(scenario()).latencies
    assert len(latencies) > 3
    assert max(latencies) > 0.1 * (len(latencies) - 1)


@pytest.mark.parametrize("load", [closed, opened])
def test_a_server_that_is_not_there_and_one_that_hangs_up_are_counted(load: Load) -> None:
    """What others had answered before is not lost."""
    refused = asyncio.run(load(Target(f"http://127.0.0.1:{free_port()}/"), repeat(b"")))
    assert set(refused.statuses) == {0}
    assert refused.summary()["ok_per_second"] == 0

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.close()

    async def scenario() -> Outcome:
        listener = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        async with listener:
            target = Target(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/")
            return await load(target, repeat(target.request(["text"])))

    assert set(asyncio.run(scenario()).statuses) == {0}


def test_late_replies_count_with_their_time() -> None:
    with server(b"ok", seconds=0.5) as (url, _):
        load = closed_loop(Target(url), repeat(Target(url).request(["text"])), 5, 0.1)
        outcome = asyncio.run(load)
    assert outcome.statuses == {200: 5}
    assert outcome.seconds >= 0.5


def test_an_open_loop_sends_as_many_as_it_was_told() -> None:
    def at_200_a_second(target: Target, requests: Iterator[bytes]) -> Coroutine[Any, Any, Outcome]:
        return open_loop(target, requests, rate=200, seconds=0.5)

    outcome = asyncio.run(loaded(at_200_a_second, answered=1000))
    assert 70 < outcome.statuses[200] < 130


def test_each_round_over_the_texts_has_its_own() -> None:
    target = Target("http://127.0.0.1:9/")
    requests = cycle_requests(target, ["a", "b", "c"], 2, lambda n: f" {n}")
    assert [request.split(b"\r\n\r\n")[1] for request in islice(requests, 2)] == [
        b'{"texts": ["a 0", "b 0"]}',
        b'{"texts": ["a 1", "b 1"]}',
    ]


@pytest.mark.parametrize(("flag", "is_fresh"), [(["--fresh"], True), ([], False)])
def test_fresh_texts_are_never_sent_twice_by_this_run_or_the_next(
    flag: list[str], is_fresh: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.http_load.load_texts", lambda: (["one", "two"], {}))
    bodies = []
    with server(PROBABILITY) as (url, got):
        command = ["http_load", url, "--clients", "1", "--seconds", "0.5", *flag]
        monkeypatch.setattr("sys.argv", command)
        for _ in range(2):
            got.clear()
            main()
            bodies += [body for _, _, body in got[1:]]  # the first asks whether it is answered
            assert len(got) > 2
    assert (len(set(bodies)) == len(bodies)) is is_fresh


def test_own_words_are_others_each_time_and_of_one_token_each() -> None:
    found = [own_words() for _ in range(50)]
    assert len(set(found)) == 50
    assert {len(encode(f"a {words}", 99)[0]) for words in found} == {5}


def test_latency_of_a_closed_loop_counts_from_when_each_request_was_sent() -> None:
    """One client's waits lie one after another, so that they fill the load and no more."""

    def of_one(target: Target, requests: Iterator[bytes]) -> Coroutine[Any, Any, Outcome]:
        return closed_loop(target, requests, clients=1, seconds=0.4)

    outcome = asyncio.run(loaded(of_one, answered=1000, seconds=0.05))
    assert len(outcome.latencies) > 2
    assert min(outcome.latencies) >= 0.05
    assert outcome.seconds / 2 < sum(outcome.latencies) <= outcome.seconds


def test_a_load_of_which_nothing_is_answered_fails_and_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with server(PROBABILITY, status=503) as (url, got):
        command = ["http_load", url, "--seconds", "0.1"]
        monkeypatch.setattr("sys.argv", command)
        with pytest.raises(SystemExit, match="no server there answers a text"):
            main()
        assert len(got) == 1
        monkeypatch.setattr("sys.argv", [*command, "--no-probe"])
        with pytest.raises(SystemExit, match="no request was answered with 200"):
            main()
        assert not any(b"Are you there" in body for _, _, body in got[1:])
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert printed["statuses"]["503"] == len(got) - 1


@pytest.mark.parametrize("load", [closed, opened])
def test_a_server_that_stalls_has_no_higher_rate_for_it(load: Load) -> None:
    """Three replies in a moment, then none to the end of the load."""
    assert asyncio.run(loaded(load, answered=3)).seconds >= 0.2


@pytest.mark.parametrize(
    ("reply", "status", "expected"),
    [
        (b'{"results": [{"probabilities": {"ham": 0.25, "spam": 0.75}}]}', 200, True),
        (PROBABILITY, 200, True),
        (PROBABILITY, 503, False),
        (b'{"error": "the model could not be loaded", "code": 1}', 200, False),
        (b"ok", 200, False),
    ],
)
def test_a_server_is_measured_if_it_answers_with_a_probability(
    reply: bytes, status: int, expected: bool
) -> None:
    with server(reply, status=status) as (url, _):
        assert asyncio.run(is_answered(Target(url))) is expected


def test_no_text_is_there_twice() -> None:
    texts, _ = load_texts()
    assert len(texts) == len(set(texts))


def test_percentiles_are_the_least_latency_that_the_share_of_replies_keeps() -> None:
    outcome = Outcome(seconds=1.0)
    for milliseconds in range(100, 0, -1):
        outcome.add(200, milliseconds / 1000)
    outcome.add(503, 9.0)
    summary = outcome.summary()
    assert summary["ok_per_second"] == 100  # what was refused is no throughput
    assert [summary[f"p{p}_ms"] for p in ("50", "99", "99.9")] == [50.0, 99.0, 100.0]


@pytest.mark.parametrize("flag", ["--seconds", "--clients"])
def test_a_load_of_no_time_or_clients_is_refused(
    flag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["http_load", "http://127.0.0.1:9/", flag, "0"])
    with pytest.raises(SystemExit, match="2"):
        main()
