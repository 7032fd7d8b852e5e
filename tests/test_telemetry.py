"""OpenTelemetry: sent where it is wanted, with the caller's trace, and without message text."""

import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from app.settings import SettingsError, read_settings
from tests.conftest import SPAM
from tests.fake_server import server
from tests.test_process import served

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
DEADLINE_SECONDS = 20


def test_a_callers_trace_goes_on_and_no_text_is_sent(
    save_tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with server() as (endpoint, received):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "100")
        monkeypatch.setenv("OTEL_BLRP_SCHEDULE_DELAY", "100")
        with served(save_tiny(), "--telemetry", "true") as (_, address):
            headers = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
            for path in ("/feedback", "//feedback", "/feedback/"):
                httpx.post(f"{address}{path}?label=spam&source=joe@example.org", headers=headers)
            for texts, status in (([SPAM], 200), (SPAM, 422)):
                reply = httpx.post(f"{address}/classify", json={"texts": texts}, headers=headers)
                assert reply.status_code == status
            wanted = {"/v1/traces": bytes.fromhex(TRACE), "/v1/metrics": b"/classify"}
            end = time.monotonic() + DEADLINE_SECONDS
            while wanted and time.monotonic() < end:
                for path, _, body in list(received):
                    if wanted.get(path, body + b".") in body:
                        del wanted[path]
                time.sleep(0.05)
    assert not wanted
    assert {path for path, *_ in received} == {"/v1/traces", "/v1/metrics"}  # no logs
    sent = b"".join(body for _, _, body in received)
    assert SPAM[:20].encode() not in sent
    assert b"/feedback" not in sent  # who reported a message stands in its query
    assert b"example.org" not in sent
    assert b"unknown_service" not in sent


def test_nothing_is_sent_unasked(
    save_tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with server() as (endpoint, received):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        with served(save_tiny()) as (_, address):
            assert httpx.post(f"{address}/classify", json={"texts": [SPAM]}).status_code == 200
            time.sleep(0.5)
    assert received == []


def test_a_receiver_that_does_not_answer_does_not_hold_up_the_end(
    save_tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        with served(save_tiny(), "--telemetry", "true") as (process, address):
            assert httpx.post(f"{address}/classify", json={"texts": [SPAM]}).status_code == 200
            begin = time.monotonic()
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)
            assert process.returncode == 0
            assert time.monotonic() - begin < 15


def test_no_receiver_or_no_sdk_is_told_before_anything_is_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "key=1")  # says nothing of where
    with pytest.raises(SettingsError, match="OTEL_EXPORTER_OTLP_ENDPOINT"):
        read_settings(["--telemetry", "true"])
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://127.0.0.1:4318")  # never sent
    for wrong in "localhost:4318", "http://:4318", "http://", "http://[", "":
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", wrong)
        with pytest.raises(SettingsError, match="URL"):
            read_settings(["--telemetry", "true"])
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    assert read_settings(["--telemetry", "true"]).telemetry
    for name, value in (
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "http/json"),
        ("OTEL_TRACES_EXPORTER", "console"),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            with pytest.raises(SettingsError, match=value):
                read_settings(["--telemetry", "true"])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SettingsError, match="not installed"):
        read_settings(["--telemetry", "true"])
