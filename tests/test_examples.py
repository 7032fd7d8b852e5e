"""The commands and scripts in the READMEs of examples/ let messages pass without a verdict."""

import json
import re
import shutil
import subprocess
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import pytest

from benchmarks.server import free_port
from tests.fake_server import server

EXAMPLES = Path(__file__).parents[1] / "examples"
URL = "http://127.0.0.1:8000"
RESULT = {"decision": "spam", "probabilities": {"ham": 0.02, "spam": 0.98}}
SPAM_REPLY = json.dumps({"results": [RESULT]}).encode()
HAM_RESULT = {"decision": "ham", "probabilities": {"ham": 0.98, "spam": 0.02}}
HAM_REPLY = json.dumps({"results": [HAM_RESULT]}).encode()


def say_with_curl(url: str, folder: Path) -> str:
    """What the command of examples/curl for the decision prints."""
    if not (shutil.which("curl") and shutil.which("jq")):
        pytest.skip("curl and jq are not installed")
    text = (EXAMPLES / "curl" / "README.md").read_text(encoding="utf-8")
    [command] = re.findall(r"^    curl.*\\\n.*echo pass$", text, re.M)
    (folder / "message.eml").write_bytes(b"Subject: x\n\ny\n")
    shell = ["sh", "-c", command.replace(URL, url)]
    return subprocess.run(shell, cwd=folder, stdout=subprocess.PIPE, text=True).stdout.strip()


def say_with_jasmin(url: str, folder: Path, field: str = "short_message") -> str:
    """Whether the interceptor script of examples/sms holds an SMS back."""
    text = (EXAMPLES / "sms" / "README.md").read_text(encoding="utf-8")
    script = textwrap.dedent(text[text.index("    import json") :])
    coding = "DataCoding[scheme: DEFAULT, schemeData: UCS2]"
    pdu = SimpleNamespace(params={field: "чек".encode("utf-16-be"), "data_coding": coding})
    names: dict[str, object] = {"routable": SimpleNamespace(pdu=pdu)}
    exec(script.replace(URL, url), names)
    return "spam" if names["smpp_status"] else "pass"


@pytest.mark.parametrize("field", ["short_message", "message_payload"])
def test_jasmin_sends_what_a_message_says(tmp_path: Path, field: str) -> None:
    with server(SPAM_REPLY) as (url, got):
        assert say_with_jasmin(url, tmp_path, field) == "spam"
    assert json.loads(got[0][2]) == {"texts": ["чек"]}


def test_jasmin_lets_a_message_without_a_text_pass(tmp_path: Path) -> None:
    assert say_with_jasmin(URL, tmp_path, "other") == "pass"


@pytest.mark.parametrize("say", [say_with_curl, say_with_jasmin])
def test_spam_is_told_and_without_a_verdict_messages_pass(
    say: Callable[[str, Path], str], tmp_path: Path
) -> None:
    with server(SPAM_REPLY) as (url, _):
        assert say(url, tmp_path) == "spam"
    with server(HAM_REPLY) as (url, _):
        assert say(url, tmp_path) in ("ham", "pass")
    with server(SPAM_REPLY[:-9], missing=9) as (url, _):
        assert say(url, tmp_path) == "pass"
    with server(b'{"title": "the queue is full"}', status=503) as (url, _):
        assert say(url, tmp_path) == "pass"
    assert say(f"http://127.0.0.1:{free_port()}", tmp_path) == "pass"


@pytest.mark.parametrize("key", [None, "secret"])
def test_sieve_asks_with_an_access_key_where_there_is_one(tmp_path: Path, key: str | None) -> None:
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    header = tmp_path / "header"
    if key:
        header.write_text(f"X-API-Key: {key}\n")
    text = (EXAMPLES / "dovecot" / "spamgate-check").read_text(encoding="utf-8")
    with server(SPAM_REPLY.replace(b": ", b":")) as (url, got):
        text = text.replace("/etc/dovecot/spamgate-header", str(header)).replace(URL, url)
        shell = ["sh", "-c", text, "spamgate-check", "-o", "what a script says"]
        assert subprocess.run(shell, input=b"Subject: x\n\ny\n", check=False).returncode == 0
    with server(HAM_REPLY.replace(b": ", b":")) as (other, _):
        shell[2] = text.replace(url, other)
        assert subprocess.run(shell, input=b"Subject: x\n\ny\n", check=False).returncode == 1
    [(path, headers, body)] = got
    assert (path, headers.get("X-Api-Key"), body) == (
        "/classify/message",
        key,
        b"Subject: x\n\ny\n",
    )


def test_name_of_a_user_cannot_change_what_is_reported(tmp_path: Path) -> None:
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    header = tmp_path / "header"
    header.write_text("X-API-Key: secret\n")
    text = (EXAMPLES / "dovecot" / "spamgate-learn").read_text(encoding="utf-8")
    with server(b"{}") as (url, got):
        text = text.replace("/etc/dovecot/spamgate-feedback-header", str(header))
        shell = ["sh", "-c", text.replace(URL, url), "spamgate-learn", "spam", "a+b&label=ham #@c"]
        subprocess.run(shell, input=b"Subject: x\n\ny\n", check=True)
    [(path, headers, body)] = got
    asked = {"label": ["spam"], "source": ["imapsieve:a+b&label=ham #@c"]}
    assert parse_qs(urlsplit(path).query) == asked
    assert (headers["X-Api-Key"], body) == ("secret", b"Subject: x\n\ny\n")
