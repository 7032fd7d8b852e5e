"""Postfix, the real one, with the milter of examples/postfix.

Debian's package excludes Exim's. Where postfix is not installed, POSTFIX_ROOT may name a folder
with its files: ``apt-get download postfix libtlsrpt0``, then ``dpkg -x`` each into FOLDER.
"""

import contextlib
import os
import pwd
import re
import shutil
import smtplib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmarks.server import free_port
from tests.mail_programs import (
    HAM_MAIL,
    SPAM_MAIL,
    process,
    save_decided_classifier,
    spamgate,
    stuck_service,
)

pytestmark = pytest.mark.integration

EXAMPLE = Path(__file__).parents[1] / "examples" / "postfix"
ROOT = Path(os.environ.get("POSTFIX_ROOT", "/"))
LIBRARIES = ROOT / "usr" / "lib" / "postfix"
DAEMONS = LIBRARIES / "sbin"
LIBRARY_PATH = ":".join(map(str, [LIBRARIES, *(ROOT / "usr" / "lib").glob("*-linux-gnu")]))
# Any account and group of their own will do.
OWNER, GROUP = "daemon", "games"

# No queue manager: what smtpd and the milter let in stays in the queue, to be looked at.
MASTER = """\
127.0.0.1:{port} inet n - n - 100 smtpd
cleanup unix n - n - 0 cleanup
rewrite unix - - n - - trivial-rewrite
proxymap unix - - n - - proxymap
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
"""
MAIN = """\
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
daemon_directory = {daemons}
command_directory = {root}/usr/sbin
shlib_directory = {libraries}
import_environment = MAIL_CONFIG TZ LANG=C LD_LIBRARY_PATH={library_path}
mail_owner = {owner}
setgid_group = {group}
maillog_file = {folder}/log
maillog_file_prefixes = {folder}
myhostname = mx.example.net
mydestination =
alias_maps =
relay_domains = example.net
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
smtpd_peername_lookup = no
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_client_connection_count_limit = 0
"""
QUEUES = "incoming active deferred bounce defer flush hold saved corrupt trace".split()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("postfix")
    with spamgate(save_decided_classifier(folder / "decided"), folder / "log") as port:
        yield port


def example_settings(milter_port: int) -> str:
    """The lines for main.cf that the example's README gives."""
    lines = re.findall(r"^    (\w+ = .*)$", (EXAMPLE / "README.md").read_text(), re.M)
    assert len(lines) >= 3
    return "\n".join(lines).replace(":8898", f":{milter_port}") + "\n"


@contextlib.contextmanager
def postfix(milter_port: int) -> Iterator[tuple[int, Path]]:
    """Postfix with a queue of its own; the port of smtpd, and the folder of what came in."""
    if not (DAEMONS / "master").exists() or os.geteuid() != 0:
        pytest.skip("needs root, and postfix installed or in POSTFIX_ROOT")
    # Not under pytest's folder, into which Postfix's own user may not look.
    with tempfile.TemporaryDirectory(prefix="spamgate-postfix-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        owner = pwd.getpwnam(OWNER).pw_uid
        for queue in ("data", "queue", "queue/pid", "queue/private", "queue/public"):
            (folder / queue).mkdir()
        for queue in QUEUES:
            (folder / "queue" / queue).mkdir(mode=0o700)
            os.chown(folder / "queue" / queue, owner, -1)
        for place in ("data", "queue/private"):
            (folder / place).chmod(0o700)
            os.chown(folder / place, owner, -1)
        (folder / "queue/public").chmod(0o710)
        shutil.chown(folder / "queue/public", OWNER, GROUP)
        configuration = folder / "etc"
        configuration.mkdir()
        port = free_port()
        places = {"folder": folder, "daemons": DAEMONS, "libraries": LIBRARIES, "root": ROOT}
        settings = MAIN.format(**places, library_path=LIBRARY_PATH, owner=OWNER, group=GROUP)
        (configuration / "main.cf").write_text(settings + example_settings(milter_port))
        (configuration / "master.cf").write_text(MASTER.format(port=port))
        command = [DAEMONS / "master", "-c", configuration, "-d"]
        environment = {"PATH": os.environ["PATH"], "LD_LIBRARY_PATH": LIBRARY_PATH}
        log = folder / "master.out"
        with process(command, log, port=port, env=environment):
            yield port, folder / "queue" / "incoming"


@contextlib.contextmanager
def milter(service_port: int, folder: Path, *options: str) -> Iterator[int]:
    port = free_port()
    command = [sys.executable, EXAMPLE / "milter.py", "--port", port]
    command += ["--spamgate", f"http://127.0.0.1:{service_port}", *options]
    with process(command, folder / "milter.log", port=port):
        yield port


def send(port: int, message: bytes) -> None:
    with smtplib.SMTP("127.0.0.1", port, timeout=60) as client:
        client.sendmail("sender@example.org", ["reader@example.net"], message)


def queued(incoming: Path) -> list[str]:
    """What Postfix has queued, the headers of each message and its body."""
    messages = []
    for path in sorted(incoming.rglob("*"), key=lambda path: path.stat().st_mtime_ns):
        if path.is_file():
            postcat = [ROOT / "usr/sbin/postcat", "-c", incoming.parents[1] / "etc", "-hb", path]
            environment = {**os.environ, "LD_LIBRARY_PATH": LIBRARY_PATH}
            command = list(map(str, postcat))
            done = subprocess.run(command, capture_output=True, text=True, env=environment)
            assert done.returncode == 0, done.stderr
            messages.append(done.stdout)
    return messages


def marks(incoming: Path) -> list[str]:
    """The verdict on each queued message; empty without one."""
    found = [re.search(r"^X-Spamgate: (\w+) [01]\.\d{4}$", text, re.M) for text in queued(incoming)]
    return [match[1] if match else "" for match in found]


def test_postfix_marks_mail(service: int, tmp_path: Path) -> None:
    with milter(service, tmp_path) as milter_port, postfix(milter_port) as (port, incoming):
        send(port, SPAM_MAIL)
        send(port, HAM_MAIL)
        assert marks(incoming) == ["spam", "ham"]
        assert "winner" in queued(incoming)[0]


def test_postfix_refuses_spam_where_it_is_asked_for(service: int, tmp_path: Path) -> None:
    with (
        milter(service, tmp_path, "--reject") as milter_port,
        postfix(milter_port) as (port, incoming),
    ):
        with pytest.raises(smtplib.SMTPDataError, match="classified as spam") as refused:
            send(port, SPAM_MAIL)
        assert refused.value.smtp_code == 550
        send(port, HAM_MAIL)
        assert marks(incoming) == ["ham"]


def test_postfix_takes_64_messages_at_once(service: int, tmp_path: Path) -> None:
    with milter(service, tmp_path) as milter_port, postfix(milter_port) as (port, incoming):
        with ThreadPoolExecutor(64) as pool:
            list(pool.map(lambda mail: send(port, mail), [SPAM_MAIL, HAM_MAIL] * 32))
        assert sorted(marks(incoming)) == ["ham"] * 32 + ["spam"] * 32


def test_postfix_takes_mail_when_the_milter_or_the_service_is_down(tmp_path: Path) -> None:
    with postfix(free_port()) as (port, incoming):
        send(port, SPAM_MAIL)
        assert marks(incoming) == [""]
    with (
        milter(free_port(), tmp_path, "--reject") as milter_port,
        postfix(milter_port) as (port, incoming),
    ):
        send(port, SPAM_MAIL)
        assert marks(incoming) == [""]


def test_postfix_takes_mail_in_time_when_the_service_hangs(tmp_path: Path) -> None:
    with (
        stuck_service() as stuck,
        milter(stuck, tmp_path, "--reject") as milter_port,
        postfix(milter_port) as (port, incoming),
    ):
        begin = time.monotonic()
        send(port, SPAM_MAIL)
        assert time.monotonic() - begin < 8
        assert marks(incoming) == [""]
