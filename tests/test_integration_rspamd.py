"""rspamd, the real one: the rule of examples/rspamd, and the gpt plugin that rspamd ships."""

import atexit
import functools
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks.server import free_port
from tests.hostile import HOSTILE
from tests.mail_programs import (
    HAM_MAIL,
    SPAM_MAIL,
    process,
    require,
    save_decided_classifier,
    spamgate,
    stuck_service,
)

pytestmark = pytest.mark.integration

EXAMPLE = Path(__file__).parents[1] / "examples" / "rspamd"
# What asks other machines, and greylisting, which answers before the rules are asked.
SWITCHED_OFF = (
    "arc asn dkim dkim_signing dmarc fuzzy_check greylist mx_check phishing rbl reputation "
    "rspamd_update spf surbl url_redirector whitelist"
).split()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("rspamd")
    with spamgate(save_decided_classifier(folder / "decided"), folder / "log") as port:
        yield port


@functools.cache
def compiled_patterns() -> str:
    """A folder where rspamd keeps what it compiles at its start, so that it does so once."""
    folder = tempfile.mkdtemp(prefix="spamgate-patterns-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@contextmanager
def rspamd(service_port: int, *, plugin: bool = False) -> Iterator[int]:
    """rspamd with one worker and the example's files; the worker's port."""
    require("rspamd", "redis-server")
    with tempfile.TemporaryDirectory(prefix="spamgate-rspamd-") as name:
        folder = Path(name)
        folder.chmod(0o777)
        local = folder / "local.d"
        local.mkdir()
        port, redis_port = free_port(), free_port()
        for module in SWITCHED_OFF:
            (local / f"{module}.conf").write_text("enabled = false;\n")
        (local / "worker-normal.inc").write_text(f'bind_socket = "127.0.0.1:{port}";\ncount = 1;\n')
        for worker in ("controller", "proxy"):
            free = f'bind_socket = "127.0.0.1:{free_port()}";\n'
            (local / f"worker-{worker}.inc").write_text(free)
        (local / "options.inc").write_text(
            'dns { nameserver = ["127.0.0.1:1"]; timeout = 0.1s; }\n'
            f'hs_cache_dir = "{compiled_patterns()}";\n'
        )
        (local / "redis.conf").write_text(f'servers = "127.0.0.1:{redis_port}";\n')
        shutil.copy(EXAMPLE / "local.d" / "groups.conf", local)
        if plugin:
            text = (EXAMPLE / "local.d" / "gpt.conf").read_text()
            (local / "gpt.conf").write_text(text.replace(":8000/", f":{service_port}/"))
        else:
            shutil.copytree(EXAMPLE / "lua.local.d", folder / "lua.local.d")
            url = f"http://127.0.0.1:{service_port}/classify/message"
            (folder / "rspamd.conf.local").write_text(f'spamgate {{ url = "{url}"; }}\n')
        places = {"LOCAL_CONFDIR": folder, "DBDIR": folder, "RUNDIR": folder, "LOGDIR": folder}
        variables = [f"--var={key}={value}" for key, value in places.items()]
        redis = ["redis-server", "--port", redis_port, "--bind", "127.0.0.1", "--save", ""]
        command = [
            "rspamd",
            "-f",
            "-i",
            "-u",
            "root",
            "-g",
            "root",
            "-c",
            "/etc/rspamd/rspamd.conf",
        ]
        environment = {**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin"}
        with (
            process([*redis, "--dir", folder], folder / "redis.out", port=redis_port),
            process(
                [*command, *variables],
                folder / "rspamd.out",
                port=port,
                seconds=240,  # it compiles thousands of patterns
                env=environment,
            ),
        ):
            yield port


def scan(port: int, message: bytes) -> dict[str, Any]:
    """What rspamd says of a message."""
    headers = {"From": "sender@example.org", "Rcpt": "reader@example.net", "IP": "192.0.2.1"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/checkv2", message, headers)
    with urllib.request.urlopen(request, timeout=60) as reply:
        answer: dict[str, Any] = json.load(reply)
    return answer


def own_symbols(port: int, message: bytes) -> set[str]:
    return {name for name in scan(port, message)["symbols"] if name.startswith("SPAMGATE")}


@pytest.fixture(scope="module")
def with_rule(service: int) -> Iterator[int]:
    with rspamd(service) as port:
        yield port


def test_rule_sets_the_symbol_and_its_score(with_rule: int) -> None:
    spam = scan(with_rule, SPAM_MAIL)["symbols"]["SPAMGATE_SPAM"]
    assert 4 < spam["score"] <= 5
    assert float(spam["options"][0]) > 0.9
    ham = scan(with_rule, HAM_MAIL)["symbols"]["SPAMGATE_HAM"]
    assert -2 <= ham["score"] < -1.6


def test_64_messages_at_once_through_one_worker(with_rule: int) -> None:
    mails = [SPAM_MAIL, HAM_MAIL] * 32
    begin = time.monotonic()
    with ThreadPoolExecutor(64) as pool:
        symbols = list(pool.map(lambda mail: own_symbols(with_rule, mail), mails))
    assert symbols == [{"SPAMGATE_SPAM"}, {"SPAMGATE_HAM"}] * 32
    assert time.monotonic() - begin < 8


def test_hostile_messages_get_a_verdict_through_rspamd(with_rule: int) -> None:
    unscored = [
        name
        for name, raw in HOSTILE.items()
        # rspamd asks no rule about an empty message.
        if raw.strip() and len(raw) < 100_000 and not own_symbols(with_rule, raw)
    ]
    assert unscored == []


def test_mail_passes_when_the_service_is_down() -> None:
    with rspamd(free_port()) as port:
        reply = scan(port, SPAM_MAIL)
        assert not [name for name in reply["symbols"] if name.startswith("SPAMGATE")]
        assert reply["action"] in ("no action", "greylist", "add header")


def test_mail_passes_in_time_when_the_service_hangs() -> None:
    with stuck_service() as stuck, rspamd(stuck) as port:
        begin = time.monotonic()
        assert own_symbols(port, SPAM_MAIL) == set()
        assert time.monotonic() - begin < 8


def test_gpt_plugin_of_rspamd_asks_the_service(service: int) -> None:
    with rspamd(service, plugin=True) as port:
        assert "GPT_SPAM" in scan(port, SPAM_MAIL)["symbols"]
        assert "GPT_HAM" in scan(port, HAM_MAIL)["symbols"]


def test_mail_passes_through_the_gpt_plugin_when_the_service_is_down() -> None:
    with rspamd(free_port(), plugin=True) as port:
        symbols = scan(port, SPAM_MAIL)["symbols"]
        assert not [name for name in symbols if re.match("GPT_", name)]


def test_rspamc_takes_the_service_for_an_rspamd(service: int) -> None:
    require("rspamc")
    for mail, action in ((SPAM_MAIL, "add header"), (HAM_MAIL, "no action")):
        command = ["rspamc", "-h", f"127.0.0.1:{service}", "symbols"]
        done = subprocess.run(command, input=mail, capture_output=True, timeout=30, check=True)
        assert f"Action: {action}" in done.stdout.decode()
