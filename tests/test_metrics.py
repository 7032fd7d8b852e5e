"""What is counted of a batch, and of one model after another."""

import asyncio
import errno
import fcntl
import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest
from prometheus_client import generate_latest
from uvicorn.server import ServerState

from app import workers
from app.metrics import Metrics
from app.model_thread import BatchReport
from app.queue import QueueEntry
from app.server import Server
from app.settings import SettingsError
from model.prediction import EncodedText, Prediction
from tests.serving import make_settings
from tests.test_process import start


def values_of(metrics: Metrics) -> dict[str, float]:
    """All series, whoever is asked for them."""
    lines = generate_latest(metrics._registry).decode().splitlines()
    pairs = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
    return {name.removeprefix("spamgate_"): float(value) for name, value in pairs}


def test_a_batch_is_counted_by_size_time_and_waiting() -> None:
    metrics = Metrics()
    texts = [EncodedText([1, 2, 3]), EncodedText([4])]
    arrivals = (10.0, 11.5)
    entries = [
        QueueEntry(text, b"key", deadline=60.0, arrival=arrival)
        for text, arrival in zip(texts, arrivals, strict=True)
    ]
    outcomes: list[Prediction | Exception] = [Prediction(0.5, 0.5, 3, False), ValueError()]
    metrics.count_batch(BatchReport(entries, outcomes, started=12.0, seconds=0.25))
    found = values_of(metrics)
    assert found["tokens_total"] == found["batch_tokens_sum"] == 4
    assert found["batch_texts_sum"] == 2
    assert found["forward_seconds_sum"] == 0.25
    assert (found["queue_seconds_count"], found["queue_seconds_sum"]) == (2, 2.5)
    assert found["failed_texts_total"] == 1


def test_a_canary_is_no_text_of_anybody() -> None:
    metrics = Metrics()
    canary = QueueEntry(EncodedText([1]), b"", deadline=60.0)
    for outcome in (Prediction(0.5, 0.5, 1, False), ValueError()):
        metrics.count_batch(BatchReport([canary], [outcome], started=12.0, seconds=0.25))
    counted = {name: value for name, value in values_of(metrics).items() if value}
    assert {name for name in counted if "created" not in name} == {"tokens_total"}


def test_times_and_probabilities_are_counted_as_they_are() -> None:
    metrics = Metrics()
    metrics.count_request("ok", 0.25)
    metrics.count_tokenizing(0.125)
    metrics.count_verdicts([Prediction(0.25, 0.75, 3, truncated=False)])
    metrics.set_state(ready=True, waiting_texts=2, waiting_tokens=30)
    found = values_of(metrics)
    assert found["request_seconds_sum"] == 0.25
    assert found["tokenize_seconds_sum"] == 0.125
    assert found["spam_probability_sum"] == 0.75
    assert (found["ready"], found["queue_texts"], found["queue_tokens"]) == (1, 2, 30)


@pytest.mark.parametrize("several", [False, True])
def test_one_model_at_a_time_is_told(several: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = Metrics()
    if several:
        monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "unused")
    for model in ("old", "new"):
        metrics.set_model(model, "cpu", "float32")
    models = {
        re.findall('model="(.*?)"', name)[0]: value
        for name, value in values_of(metrics).items()
        if name.startswith("model_info")
    }
    assert models == ({"old": 0, "new": 1} if several else {"new": 1})


def test_workers_need_a_folder_that_nobody_tidies_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with workers._metrics_folder() as folder:
        other = os.open(folder, os.O_RDONLY)
        with pytest.raises(BlockingIOError):  # as what tidies asks
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(other)

    def refuse(**_: object) -> None:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr("app.workers.tempfile.TemporaryDirectory", refuse)
    with pytest.raises(SettingsError, match="set TMPDIR"), workers._metrics_folder():
        pass


def test_a_folder_of_another_program_for_metrics_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    process = start("--port", "0")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert errors.count("\n") == 1
    assert "PROMETHEUS_MULTIPROC_DIR is set by spamgate for its own workers" in errors


def test_what_is_no_http_is_counted(save_tiny: Callable[..., Path]) -> None:
    async def scenario() -> str:
        server = Server(make_settings(save_tiny()))
        server.config.load()
        protocol = server._protocol()(server.config, ServerState(), {})
        protocol.connection_made(Mock())
        protocol.data_received(b"no HTTP\r\n\r\n")
        return server._service.render_metrics().decode()

    found = asyncio.run(scenario())
    assert 'spamgate_requests_total{outcome="invalid_http"} 1.0' in found


def test_a_request_that_breaks_off_in_its_body_is_counted_once(
    save_tiny: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> str:
        server = Server(make_settings(save_tiny()))
        server.config.load()
        protocol = server._protocol()(server.config, ServerState(), {})
        protocol.connection_made(transport := Mock())
        transport.is_closing.return_value = False
        head = b"POST /classify HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        protocol.data_received(head + b"zz\r\n")
        await asyncio.gather(*protocol.tasks)
        return server._service.render_metrics().decode()

    with caplog.at_level(logging.INFO, "spamgate"):
        found = asyncio.run(scenario())
    assert 'spamgate_requests_total{outcome="invalid_http"} 1.0' in found
    assert 'spamgate_requests_total{outcome="client_gone"} 0.0' in found
    refused, logged = (vars(record) for record in caplog.records if hasattr(record, "status"))
    assert (logged["status"], logged["outcome"]) == (400, "invalid_http")
    assert refused["request_id"] == logged["request_id"]
