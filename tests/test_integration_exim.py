"""Exim (Debian: exim4-daemon-heavy) and spamc, the real ones, by the spamd protocol."""

import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmarks.server import free_port
from tests.fake_server import server
from tests.mail_programs import (
    HAM_MAIL,
    SPAM_MAIL,
    require,
    save_decided_classifier,
    spamd,
    spamgate,
    stuck_service,
)

pytestmark = pytest.mark.integration

EXIM_CONFIGURATION = Path(__file__).parents[1] / "examples" / "exim" / "exim.conf"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exim")


@pytest.fixture(scope="module")
def spamd_port(folder: Path) -> Iterator[int]:
    checkpoint = save_decided_classifier(folder / "decided")
    with (
        spamgate(checkpoint, folder / "service.log") as service_port,
        spamd(service_port, folder / "spamd.log") as port,
    ):
        yield port


def exim(port: int, message: bytes) -> str:
    """Exim's answer to a message, spoken by SMTP over standard input."""
    require("exim4")
    # Not under pytest's folder, into which Exim's own user may not look.
    with tempfile.TemporaryDirectory(prefix="spamgate-exim-") as spool:
        Path(spool).chmod(0o777)
        text = EXIM_CONFIGURATION.read_text().replace("SPOOL", spool)
        configuration = Path(spool) / "exim.conf"
        configuration.write_text(text.replace(" 1783 ", f" {port} "))
        lines = ["EHLO client.example.org", "MAIL FROM:<a@example.org>", "RCPT TO:<b@example.net>"]
        before = "".join(f"{line}\r\n" for line in [*lines, "DATA"]).encode()
        command = ["/usr/sbin/exim4", "-C", str(configuration), "-odq", "-bs"]
        done = subprocess.run(
            command,
            input=before + message + b".\r\nQUIT\r\n",
            capture_output=True,
            timeout=60,
            check=False,
        )
    replies = done.stdout.decode().splitlines()
    return replies[-2] if len(replies) > 1 else done.stderr.decode()


def test_exim_refuses_spam_and_takes_ham(spamd_port: int) -> None:
    assert exim(spamd_port, SPAM_MAIL).startswith("550 ")
    assert exim(spamd_port, HAM_MAIL).startswith("250 ")


def test_exim_takes_what_rounds_up_to_the_cut_off(folder: Path) -> None:
    answer = {"action": "no action", "score": 4.3622, "required_score": 4.4002, "symbols": {}}
    with server(json.dumps(answer).encode()) as (url, _):
        service_port = int(url.rpartition(":")[2])
        with spamd(service_port, folder / "spamd-almost.log") as port:
            assert exim(port, SPAM_MAIL).startswith("250 ")


def test_exim_takes_mail_when_the_listener_is_down() -> None:
    assert exim(free_port(), SPAM_MAIL).startswith("250 ")


def test_exim_takes_mail_when_the_service_is_down(folder: Path) -> None:
    with spamd(free_port(), folder / "spamd-alone.log") as port:
        assert exim(port, SPAM_MAIL).startswith("250 ")


def test_exim_takes_mail_when_the_service_hangs(folder: Path) -> None:
    with stuck_service() as stuck, spamd(stuck, folder / "spamd-stuck.log") as port:
        begin = time.monotonic()
        assert exim(port, SPAM_MAIL).startswith("250 ")
        # Two conditions, four seconds each.
        assert time.monotonic() - begin < 12


def spamc(port: int, message: bytes, *options: str) -> subprocess.CompletedProcess[bytes]:
    require("spamc")
    command = ["spamc", "-d", "127.0.0.1", "-p", str(port), *options]
    return subprocess.run(command, input=message, capture_output=True, timeout=60, check=False)


def test_spamc_check_exits_with_the_verdict(spamd_port: int) -> None:
    spam, ham = spamc(spamd_port, SPAM_MAIL, "-c"), spamc(spamd_port, HAM_MAIL, "-c")
    assert spam.returncode == 1
    assert ham.returncode == 0
    score, required = map(float, spam.stdout.split(b"/"))
    assert score >= required


def test_spamc_marks_the_message(spamd_port: int) -> None:
    marked = spamc(spamd_port, SPAM_MAIL).stdout
    assert marked.startswith(b"X-Spam-Flag: YES\r\nX-Spam-Status: Yes, score=")
    assert marked.endswith(SPAM_MAIL)
    assert b"X-Spam-Flag: NO\r\n" in spamc(spamd_port, HAM_MAIL).stdout


def test_spamc_reports_and_pings(spamd_port: int) -> None:
    assert spamc(spamd_port, SPAM_MAIL, "-y").stdout.strip() == b"SPAMGATE"
    assert b"points" in spamc(spamd_port, SPAM_MAIL, "-R").stdout
    assert spamc(spamd_port, b"", "-K").returncode == 0


def test_spamc_passes_the_message_on_without_a_verdict(folder: Path) -> None:
    with spamd(free_port(), folder / "spamd-down.log") as port:
        assert spamc(port, SPAM_MAIL).stdout == SPAM_MAIL
        assert spamc(port, SPAM_MAIL).returncode == 0
    with stuck_service() as stuck, spamd(stuck, folder / "spamd-late.log") as port:
        begin = time.monotonic()
        assert spamc(port, SPAM_MAIL).stdout == SPAM_MAIL
        assert time.monotonic() - begin < 8


def test_64_messages_at_once(spamd_port: int) -> None:
    require("spamc")
    mails = [SPAM_MAIL, HAM_MAIL] * 32
    with ThreadPoolExecutor(64) as pool:
        codes = list(pool.map(lambda mail: spamc(spamd_port, mail, "-c").returncode, mails))
    assert codes == [1, 0] * 32
