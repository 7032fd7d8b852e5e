"""The OpenAPI document is true: requests made from it get the replies that it names, over a socket.

Schemathesis makes the requests, within what the document allows and outside of it.
"""

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from app.main import create_app
from app.settings import Settings
from benchmarks.server import free_port, spamgate, started
from tests.serving import serving

CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
schemathesis.serializer.alias("message/rfc822", "application/octet-stream")

KEY = "key-of-the-test"
# 503 and 504 answer a request that leaves the service too little time, nothing else here.
SERVER_ERRORS = {503, 504}


@pytest.fixture
def address(
    save_tiny: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """Of a real service with every endpoint switched on."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # a made-up checkpoint may look like a hub's
    flags = ["--checkpoint", str(save_tiny()), "--device", "cpu", "--dtype", "float32"]
    flags += ["--admin-key", KEY, "--feedback-key", KEY, "--log-level", "warning"]
    flags += ["--feedback-file", str(tmp_path / "feedback.sqlite")]
    port = free_port()
    with started(spamgate(port, *flags), port) as server:
        yield server.url


def check_operation(
    operation: schemathesis.APIOperation, address: str, mode: GenerationMode, examples: int
) -> None:
    session = requests.Session()

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(mode))
    def every_reply_is_documented(case: schemathesis.Case) -> None:
        headers = {"Authorization": f"Bearer {KEY}"}
        reply = case.call(base_url=address, session=session, headers=headers)
        case.validate_response(reply, checks=CHECKS)
        assert reply.status_code < 500 or reply.status_code in SERVER_ERRORS, reply.text

    with session:
        every_reply_is_documented()


@pytest.mark.slow
def test_every_reply_is_one_that_the_document_names(address: str) -> None:
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
    assert {"POST /classify", "POST /feedback", "POST /admin/reload"} <= {
        operation.label for operation in operations
    }
    for operation in operations:
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            try:
                check_operation(operation, address, mode, examples=100)
            except Unsatisfiable:
                assert mode is GenerationMode.NEGATIVE  # it takes nothing that could be wrong
    assert requests.get(f"{address}/readyz", timeout=5).status_code == 200


def test_forms_are_defined_once_and_keys_asked_for_where_they_count(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("somebody long-key\n")
    document = create_app(Settings(api_keys_file=keys)).openapi()
    known = {"#/components/schemas/" + name for name in document["components"]["schemas"]}
    text = json.dumps(document["paths"])
    named = set(re.findall(r'"\$ref": "([^"]+)"', text))
    assert named <= known
    assert "#/components/schemas/ProblemResponse" in named
    assert '"ProblemResponse"' not in text  # as the title of one more copy
    secured = {
        path for path, of in document["paths"].items() for op in of.values() if op.get("security")
    }
    assert secured >= {"/classify", "/checkv2", "/metrics"}
    assert not secured & {"/livez", "/readyz", "/health"}


def test_no_operation_is_tagged_twice() -> None:
    document = create_app(Settings()).openapi()
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    tags = [operation.get("tags", []) for operation in operations]
    assert ["front doors"] in tags
    assert all(len(given) == len(set(given)) for given in tags)


def test_the_example_of_every_json_body_is_answered(
    save_tiny: Callable[..., Path], tmp_path: Path
) -> None:
    own = {"feedback_key": "key", "feedback_file": tmp_path / "feedback", "admin_key": "key"}

    async def talk() -> dict[str, int]:
        statuses = {}
        async with serving(save_tiny(), **own) as client:
            document = (await client.get("/openapi.json")).json()
            for path, schema in json_bodies(document):
                [example] = schema["examples"]
                reply = await client.post(path, json=example, headers={"X-API-Key": "key"})
                statuses[path] = reply.status_code
        return statuses

    statuses = asyncio.run(talk())
    assert len(statuses) == 5
    assert set(statuses.values()) == {200}, statuses


def json_bodies(document: dict) -> Iterator[tuple[str, dict]]:
    """Path and schema of every body in JSON that must be sent."""
    for path, operations in document["paths"].items():
        body = operations.get("post", {}).get("requestBody", {})
        schema = body.get("content", {}).get("application/json", {}).get("schema", {})
        if schema and body.get("required"):
            name = schema.get("$ref", "").rpartition("/")[2]
            yield path, document["components"]["schemas"][name] if name else schema
