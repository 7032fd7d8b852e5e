"""SpamAssassin, Haraka and Dovecot's Sieve, the real ones, with the files of examples/."""

import os
import re
import shutil
import smtplib
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.server import free_port
from tests.mail_programs import (
    HAM_MAIL,
    SPAM_MAIL,
    process,
    require,
    save_decided_classifier,
    spamgate,
    stuck_service,
)
from training.feedback import read_feedback

pytestmark = pytest.mark.integration

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def feedback_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("feedback") / "feedback.sqlite"


@pytest.fixture(scope="module")
def service(feedback_file: Path) -> Iterator[int]:
    folder = feedback_file.parent
    settings = {"feedback_key": "secret", "feedback_file": feedback_file}
    with spamgate(save_decided_classifier(folder / "decided"), folder / "log", **settings) as port:
        yield port


# SpamAssassin


def spamassassin(service_port: int, message: bytes, folder: Path) -> str:
    """The rules that hit, with the example's plugin loaded."""
    status = marked_by_spamassassin(service_port, message, folder).partition("X-Spam-Status: ")[2]
    return status.replace("\n\t", "").partition("tests=")[2].partition(" ")[0]


def marked_by_spamassassin(service_port: int, message: bytes, folder: Path, more: str = "") -> str:
    """The message as it is passed on, judged by the example's rules and some more."""
    require("spamassassin")
    site = folder / "spamassassin"
    shutil.copytree(EXAMPLES / "spamassassin", site, dirs_exist_ok=True)
    rules = (site / "spamgate.cf").read_text().replace(":8000/", f":{service_port}/")
    (site / "spamgate.cf").write_text(rules + more)
    for path in Path("/etc/spamassassin").glob("*.pre"):
        shutil.copy(path, site)
    preferences = folder / "user_prefs"
    preferences.touch()
    command = ["spamassassin", "-L", "--siteconfigpath", str(site), "-p", str(preferences)]
    environment = {**os.environ, "HOME": str(folder)}
    done = subprocess.run(
        command, input=message, capture_output=True, timeout=120, check=True, env=environment
    )
    return done.stdout.decode()


def test_spamassassin_rules_hit(service: int, tmp_path: Path) -> None:
    spam = spamassassin(service, SPAM_MAIL, tmp_path)
    assert "SPAMGATE_99" in spam
    assert "SPAMGATE_00" not in spam
    ham = spamassassin(service, HAM_MAIL, tmp_path)
    assert "SPAMGATE_00" in ham
    assert "SPAMGATE_99" not in ham


def test_spamassassin_tells_of_mail_that_it_did_not_ask_about(tmp_path: Path) -> None:
    rules = """
loadplugin Mail::SpamAssassin::Plugin::Shortcircuit
header TRUSTED exists:Subject
priority TRUSTED -1000
shortcircuit TRUSTED on
"""
    marked = marked_by_spamassassin(free_port(), SPAM_MAIL, tmp_path, rules)
    assert "SHORTCIRCUIT" in marked
    assert "X-Spam-Spamgate: no answer" in marked


def test_spamassassin_goes_on_without_the_service(tmp_path: Path) -> None:
    assert "SPAMGATE" not in spamassassin(free_port(), SPAM_MAIL, tmp_path)
    with stuck_service() as stuck:
        assert "SPAMGATE" not in spamassassin(stuck, SPAM_MAIL, tmp_path)


# Haraka


@contextmanager
def haraka(service_port: int, folder: Path) -> Iterator[int]:
    """Haraka with its stock rspamd plugin, which writes what it takes into ``folder``."""
    require("haraka")
    subprocess.run(["haraka", "-i", str(folder)], capture_output=True, timeout=60, check=True)
    configuration = folder / "config"
    port = free_port()
    ini = (EXAMPLES / "haraka" / "rspamd.ini").read_text().replace("8000", str(service_port))
    files = {
        "smtp.ini": f"listen=127.0.0.1:{port}\nnodes=0\n",
        "plugins": "rcpt_to.in_host_list\nrspamd\nqueue/test\n",
        "host_list": "example.net\n",
        "me": "mx.example.net\n",
        # This machine's own mail is not checked otherwise.
        "rspamd.ini": ini + "\n[check]\nlocal_ip = true\nprivate_ip = true\n",
        "plugin_timeout": "30\n",
    }
    for name, text in files.items():
        (configuration / name).write_text(text)
    environment = {**os.environ, "TMPDIR": str(folder)}
    with process(["haraka", "-c", folder], folder / "haraka.log", port=port, env=environment):
        yield port


def through_haraka(port: int, message: bytes, folder: Path) -> str:
    """The message as Haraka queued it."""
    before = set(folder.glob("mail_*.eml"))
    with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
        client.sendmail("sender@example.org", ["reader@example.net"], message)
    [queued] = set(folder.glob("mail_*.eml")) - before
    return queued.read_text()


def test_haraka_marks_by_its_stock_rspamd_plugin(service: int, tmp_path: Path) -> None:
    with haraka(service, tmp_path) as port:
        assert "X-Spamgate: spam 0.99" in through_haraka(port, SPAM_MAIL, tmp_path)
        assert "X-Spamgate: ham 0.0" in through_haraka(port, HAM_MAIL, tmp_path)
        forged = through_haraka(port, b"X-Spamgate: ham 0.0001\r\n" + SPAM_MAIL, tmp_path)
        assert re.findall("^X-Spamgate: (.*) 0", forged, re.M) == ["spam"]


def test_haraka_takes_mail_without_the_service(tmp_path: Path) -> None:
    with haraka(free_port(), tmp_path) as port:
        assert "X-Spamgate" not in through_haraka(port, SPAM_MAIL, tmp_path)


def test_haraka_takes_mail_in_time_when_the_service_hangs(tmp_path: Path) -> None:
    with stuck_service() as stuck, haraka(stuck, tmp_path) as port:
        begin = time.monotonic()
        assert "X-Spamgate" not in through_haraka(port, SPAM_MAIL, tmp_path)
        assert time.monotonic() - begin < 30


# Dovecot


def place_helpers(folder: Path, service_port: int) -> None:
    """Copies the example's helpers, with another address and another file of the key."""
    for name in ("spamgate-check", "spamgate-learn"):
        text = (EXAMPLES / "dovecot" / name).read_text().replace(":8000", f":{service_port}")
        helper = folder / name
        helper.write_text(text.replace("/etc/dovecot/", f"{folder}/"))
        helper.chmod(0o755)


def sieve(service_port: int, message: bytes) -> str:
    """What sieve-test says the example's script does with a message."""
    require("sieve-test", "curl")
    # Dovecot reads mail as no root, and others may not look into pytest's folder.
    with tempfile.TemporaryDirectory(prefix="spamgate-sieve-") as name:
        folder = Path(name)
        folder.chmod(0o777)
        configuration = folder / "dovecot.conf"
        configuration.write_text(
            "dovecot_config_version = 2.4.0\ndovecot_storage_version = 2.4.0\n"
            "log_path = /dev/stderr\nmail_uid = nobody\nmail_gid = nogroup\n"
            f"mail_driver = maildir\nmail_path = {folder}/Maildir\nmail_home = {folder}\n"
            "sieve_plugins {\n  sieve_extprograms = yes\n}\n"
            "sieve_extensions {\n  vnd.dovecot.execute = yes\n}\n"
            f"sieve_execute_bin_dir = {folder}\n"
        )
        (folder / "message.eml").write_bytes(message)
        place_helpers(folder, service_port)
        script = shutil.copy(EXAMPLES / "dovecot" / "spam-to-junk.sieve", folder)
        command = ["sieve-test", "-c", str(configuration), str(script)]
        command.append(str(folder / "message.eml"))
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_helper(folder: Path, message: bytes, *command: str) -> int:
    """The exit code of one of the helpers in a folder."""
    require("curl")
    words = [str(folder / command[0]), *command[1:]]
    return subprocess.run(words, input=message, timeout=60, check=False).returncode


def test_sieve_files_spam_into_junk(service: int) -> None:
    assert "Junk" in sieve(service, SPAM_MAIL)
    assert "Junk" not in sieve(service, HAM_MAIL)


def test_sieve_keeps_mail_in_the_inbox_without_the_service() -> None:
    assert "Junk" not in sieve(free_port(), SPAM_MAIL)


def test_spam_that_is_deleted_stays_spam() -> None:
    require("doveadm")
    with tempfile.TemporaryDirectory(prefix="spamgate-imap-") as name:
        folder = Path(name)
        for place in (folder, folder / "run"):
            place.mkdir(exist_ok=True)
            place.chmod(0o777)
        for script in EXAMPLES.glob("dovecot/report-*.sieve"):
            shutil.copy(script, folder)
        learn = folder / "spamgate-learn"
        learn.write_text(f"#!/bin/sh\ncat >/dev/null\necho $1 >>{folder}/learnt\n")
        learn.chmod(0o755)
        text = (EXAMPLES / "dovecot" / "README.md").read_text()
        configured = text.split("conf.d/90-sieve.conf`:")[1].split("`/etc/dovecot/")[0]
        configured = configured.replace("/etc/dovecot/sieve", name)
        configuration = folder / "dovecot.conf"
        configuration.write_text(
            "dovecot_config_version = 2.4.0\ndovecot_storage_version = 2.4.0\n"
            f"log_path = /dev/stderr\nbase_dir = {folder}/run\nstate_dir = {folder}/run\n"
            f"mail_uid = nobody\nmail_gid = nogroup\nmail_driver = maildir\n"
            f"mail_path = {folder}/Maildir\nmail_home = {folder}\n"
            "namespace inbox {\n  inbox = yes\n  separator = /\n"
            "  mailbox Junk {\n    auto = create\n  }\n"
            "  mailbox Trash {\n    auto = create\n  }\n}\n"
            + configured.replace("/usr/local/lib/dovecot/sieve", name)
        )
        wanted = ["APPEND INBOX {3+}\r\nA: ", "APPEND INBOX {3+}\r\nB: ", "SELECT INBOX"]
        wanted += ["MOVE 1:2 Junk", "SELECT Junk", "UID MOVE 1 Trash", "UID MOVE 2 INBOX", "LOGOUT"]
        said = "".join(f"{number} {command}\r\n" for number, command in enumerate(wanted))
        imap = ["doveadm", "-c", str(configuration), "exec", "imap"]
        variables = {"USER": "nobody", "HOME": name, "CONFIG_FILE": str(configuration)}
        subprocess.run(
            imap, input=said, env=os.environ | variables, text=True, timeout=60, check=True
        )
        assert (folder / "learnt").read_text().split() == ["spam", "spam", "ham"]


def test_sieve_helper_gives_up_in_time(tmp_path: Path) -> None:
    with stuck_service() as stuck:
        place_helpers(tmp_path, stuck)
        begin = time.monotonic()
        assert run_helper(tmp_path, SPAM_MAIL, "spamgate-check") == 1
        assert time.monotonic() - begin < 8


def test_moved_mail_becomes_feedback(service: int, feedback_file: Path, tmp_path: Path) -> None:
    place_helpers(tmp_path, service)
    (tmp_path / "spamgate-feedback-header").write_text("X-API-Key: secret\n")
    assert run_helper(tmp_path, SPAM_MAIL, "spamgate-learn", "spam", "joe") == 0
    assert run_helper(tmp_path, HAM_MAIL, "spamgate-learn", "ham", "joe") == 0
    kept = read_feedback([feedback_file])
    assert sorted(example.label for example in kept.examples) == [0, 1]
    # Without the service the mail is moved all the same.
    place_helpers(tmp_path, free_port())
    assert run_helper(tmp_path, SPAM_MAIL, "spamgate-learn", "spam", "joe") == 0
