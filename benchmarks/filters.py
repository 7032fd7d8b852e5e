"""Spam filters that people run, asked message by message: SpamAssassin, rspamd, bogofilter.

Each is the distribution's, with the configuration it comes with, in a process of its own that
reaches no other machine: no block lists, no DNS, no fuzzy hashes. What it learns lies in a
temporary folder.
"""

import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from benchmarks.server import free_port, started
from model.gpt2 import LABELS

# What asks other machines, and what answers before the rules are asked.
_RSPAMD_OFF = (
    "arc asn dkim dkim_signing dmarc fuzzy_check greylist hfilter mx_check phishing rbl "
    "reputation rspamd_update spf surbl url_redirector whitelist"
).split()
# Of every message of a corpus, ham or spam, it is true.
_RSPAMD_GROUPS = 'symbols { "DATE_IN_PAST" { weight = 0.0; } }\n'


class Filter(Protocol):
    """A running filter."""

    @property
    def threshold(self) -> float:
        """From which score on it calls a message spam, as it comes."""

    def learn(self, paths: Sequence[Path], label: int) -> None:
        """Learns messages of this label, 0 ham or 1 spam."""

    def score(self, path: Path) -> float:
        """The score of one message."""


def _require_learnt(name: str, learnt: int, given: int, label: int) -> None:
    """Ends what would be judged with nothing learnt."""
    if not learnt:
        raise RuntimeError(
            f"{name} learnt none of {given} {LABELS[label]} messages: give it longer or other ones"
        )


@dataclass(frozen=True)
class SpamAssassin:
    """Mail::SpamAssassin in a Perl process, one line in, one line out."""

    process: subprocess.Popen[str]
    threshold: float = 5.0

    def learn(self, paths: Sequence[Path], label: int) -> None:
        """As sa-learn does."""
        learnt = 0
        for path in paths:
            answer = self._ask(LABELS[label], path).strip()
            if answer not in ("learnt", "known"):
                raise RuntimeError(f"SpamAssassin could not learn {path.name}; why stands above")
            learnt += answer == "learnt"
        _require_learnt("SpamAssassin", learnt, len(paths), label)

    def score(self, path: Path) -> float:
        """The sum of the rules that hit."""
        return float(self._ask("check", path))

    def _ask(self, what: str, path: Path) -> str:
        stdin, stdout = self.process.stdin, self.process.stdout
        if stdin is None or stdout is None:  # it was started with both
            raise RuntimeError("SpamAssassin has no pipes")
        print(what, path, file=stdin, flush=True)
        answer = stdout.readline()
        if not answer:
            raise RuntimeError(f"SpamAssassin ended at {path.name}; its errors stand above")
        return answer


@contextmanager
def spamassassin(folder: Path, *, bayes: bool) -> Iterator[SpamAssassin]:
    """SpamAssassin's rules, and its Bayes filter where asked for."""
    script = Path(__file__).with_name("spamassassin.pl")
    pipe = subprocess.PIPE
    command = ["perl", str(script), str(folder), str(int(bayes))]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=folder) as process:
        try:
            yield SpamAssassin(process)
        finally:
            process.terminate()


@dataclass(frozen=True)
class Rspamd:
    """rspamd's worker and its controller, over HTTP."""

    port: int
    controller_port: int
    threshold: float = 6.0  # its action "add header"; it rejects from 15 on

    def learn(self, paths: Sequence[Path], label: int) -> None:
        """All of them, as ``rspamc --header Learn-Type=bulk learn_spam``: without that it passes
        over what it is sure of already. What has too few words it leaves out, and what it has
        learnt before."""
        learnt = 0
        for path in paths:
            status, answer, _ = self._post(self.controller_port, f"learn{LABELS[label]}", path)
            is_short = status == 204 and "less tokens than required" in answer
            if status not in (200, 208) and not is_short:
                raise RuntimeError(f"rspamd did not learn {path.name}: {status} {answer}")
            learnt += status == 200
        _require_learnt("rspamd", learnt, len(paths), label)

    def score(self, path: Path) -> float:
        """The sum of the symbols."""
        _, _, content = self._post(self.port, "checkv2", path)
        return float(json.loads(content)["score"])

    def _post(self, port: int, what: str, path: Path) -> tuple[int, str, bytes]:
        """Status, reason and content of the answer.

        Raises:
            RuntimeError: an error, or none in time.
        """
        url = f"http://127.0.0.1:{port}/{what}"
        headers = {"Learn-Type": "bulk"} if what.startswith("learn") else {}
        request = urllib.request.Request(url, path.read_bytes(), headers)
        try:
            with urllib.request.urlopen(request, timeout=120) as reply:
                return reply.status, reply.reason, reply.read()
        except OSError as error:  # HTTPError, too
            raise RuntimeError(f"rspamd gave /{what} no answer to {path.name}: {error}") from error


@contextmanager
def rspamd(folder: Path) -> Iterator[Rspamd]:
    """rspamd with the Debian package's configuration, less what asks other machines."""
    local = folder / "local.d"
    local.mkdir()
    port, controller_port, redis_port = free_port(), free_port(), free_port()
    for module in _RSPAMD_OFF:
        (local / f"{module}.conf").write_text("enabled = false;\n")
    for worker, at in (("normal", port), ("controller", controller_port), ("proxy", free_port())):
        (local / f"worker-{worker}.inc").write_text(
            f'bind_socket = "127.0.0.1:{at}";\ncount = 1;\n'
        )
    (local / "options.inc").write_text('dns { nameserver = ["127.0.0.1:1"]; timeout = 0.1s; }\n')
    (local / "groups.conf").write_text(_RSPAMD_GROUPS)
    for name in ("redis.conf", "classifier-bayes.conf"):
        (local / name).write_text(f'servers = "127.0.0.1:{redis_port}";\n')
    places = dict.fromkeys(("LOCAL_CONFDIR", "DBDIR", "RUNDIR", "LOGDIR"), folder)
    command = ["rspamd", "-f", "-i", "-u", "root", "-g", "root", "-c", "/etc/rspamd/rspamd.conf"]
    command += [f"--var={key}={value}" for key, value in places.items()]
    redis = ["redis-server", "--port", str(redis_port), "--bind", "127.0.0.1", "--save", ""]
    with ExitStack() as stack:
        stack.callback(_end, subprocess.Popen([*redis, "--dir", folder], stdout=subprocess.DEVNULL))
        stack.enter_context(started(command, port, health="/ping", log=folder / "log"))
        yield Rspamd(port, controller_port)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(30)


@dataclass(frozen=True)
class Bogofilter:
    """bogofilter, a process for each message, as mail delivery starts it."""

    folder: Path
    threshold: float = 0.99

    def learn(self, paths: Sequence[Path], label: int) -> None:
        """Registers messages."""
        names = "\n".join(map(str, paths))
        command = ["bogofilter", "-d", str(self.folder), "-b", ("-n", "-s")[label]]
        subprocess.run(command, input=names, text=True, check=True)

    def score(self, path: Path) -> float:
        """Its spamicity, 0 to 1."""
        command = ["bogofilter", "-d", str(self.folder), "-T", "-I", str(path)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode == 3:  # 0 to 2 are verdicts
            raise RuntimeError(f"bogofilter: {result.stderr.strip()}")
        return float(result.stdout.split()[1])


@dataclass(frozen=True)
class Contender:
    """A filter to be judged.

    Attributes:
        programs: that must be installed, by the names of their Debian packages.
        start: starts it with what it learns in a folder; it ends with the block.
        learns: whether it is given the training part first.
    """

    programs: tuple[str, ...]
    start: Callable[[Path], AbstractContextManager[Filter]]
    learns: bool

    @property
    def missing(self) -> list[str]:
        """What is not installed."""
        path = os.environ.get("PATH", "") + ":/usr/sbin"
        return [program for program in self.programs if not shutil.which(program, path=path)]


def _bogofilter(folder: Path) -> AbstractContextManager[Filter]:
    return nullcontext(Bogofilter(folder))


CONTENDERS = {
    "SpamAssassin, rules alone": Contender(
        ("spamassassin",), partial(spamassassin, bayes=False), learns=False
    ),
    "SpamAssassin with Bayes": Contender(
        ("spamassassin",), partial(spamassassin, bayes=True), learns=True
    ),
    "rspamd, rules alone": Contender(("rspamd", "redis-server"), rspamd, learns=False),
    "rspamd with Bayes": Contender(("rspamd", "redis-server"), rspamd, learns=True),
    "bogofilter": Contender(("bogofilter",), _bogofilter, learns=True),
}
