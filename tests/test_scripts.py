"""The scripts: what they are told wrongly, Ctrl-C, and a checkout that has been moved."""

import os
import re
import select
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.mark.parametrize("arguments", [[], ["server"]])
def test_setup_without_a_known_extra_says_which_there_are(arguments: list[str]) -> None:
    done = subprocess.run([SCRIPTS / "setup", *arguments], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "spamgate: usage: scripts/setup serve|train|dev\n"


def test_no_script_runs_what_names_the_path_of_the_environment() -> None:
    """Of .venv/bin the interpreter alone works after the checkout has been moved."""
    for script in SCRIPTS.iterdir():
        run = re.findall(r"\.venv/bin/(\w+)", script.read_text(encoding="utf-8"))
        assert set(run) <= {"python"}, script.name


def make_data(folder: Path) -> None:
    (folder / "spamassassin").mkdir(parents=True)
    for name in ("SMSSpamCollection", "youtube-spam.jsonl.gz"):
        (folder / name).touch()


def test_a_build_ends_where_its_data_cannot_be_had(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    program = '#!/bin/sh\ncase $* in *training.get_data*) echo "$*" >told; exit 2;; esac\n'
    for name in ("scripts/setup", ".venv/bin/python"):
        (tmp_path / name).write_text(program)
        (tmp_path / name).chmod(0o755)
    script = shutil.copy(SCRIPTS / "build-starter", tmp_path / "scripts")
    assert subprocess.run([script, "my data", "out"], cwd=tmp_path).returncode == 2
    assert (tmp_path / "told").read_text() == f"-m training.get_data {tmp_path}/my data\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("pip_fails", [False, True])
def test_going_back_to_older_packages_installs_them(pip_fails: bool, tmp_path: Path) -> None:
    """Whatever was installed between, for another use or by half."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    setup = shutil.copy(SCRIPTS / "setup", tmp_path / "scripts")
    python = tmp_path / ".venv" / "bin" / "python"
    (tmp_path / "pyproject.toml").touch()

    def run(
        extra: str, constraints: str, code: int = 0, *, is_another_python: bool = False
    ) -> bool:
        (tmp_path / "constraints.txt").write_text(constraints)
        python.write_text(
            f"#!/bin/sh\ncase $* in *install*) touch installed; exit {code};;"
            f" *version*spamgate*) exit {int(is_another_python)};; esac\nexit 0\n"
        )
        python.chmod(0o755)
        (tmp_path / "installed").unlink(missing_ok=True)
        done = subprocess.run([setup, extra], capture_output=True, text=True)
        assert done.returncode == code, done.stderr
        return (tmp_path / "installed").exists()

    assert run("dev", "old")
    assert not run("serve", "old")
    assert run("serve", "new", code=2 if pip_fails else 0)
    assert run("serve", "old")
    assert not run("serve", "old")
    assert run("serve", "old", is_another_python=True)
    assert run("train", "old")
    assert not run("serve", "old")  # for another use nothing of it was taken away


def test_an_environment_without_pip_keeps_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    setup = shutil.copy(SCRIPTS / "setup", tmp_path / "scripts")
    for name in ("pyproject.toml", "constraints.txt", ".venv/torch"):
        (tmp_path / name).touch()
    python = tmp_path / ".venv" / "bin" / "python"
    python.write_text(
        "#!/bin/sh\ncase $* in *ensurepip*) touch pip;; *'pip --version'*) test -e pip;; esac\n"
    )
    python.chmod(0o755)
    done = subprocess.run([setup, "serve"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / ".venv" / "torch").exists()


def setup_in(checkout: Path, *cases: str) -> Path:
    """scripts/setup of a checkout whose Python notes what is to be installed, after these cases."""
    (checkout / "scripts").mkdir()
    (checkout / ".venv" / "bin").mkdir(parents=True)
    for name in ("pyproject.toml", "constraints.txt"):
        (checkout / name).touch()
    python = checkout / ".venv" / "bin" / "python"
    chosen = " ".join([*cases, '*install*) echo "$*" >>installed;;'])
    python.write_text(f"#!/bin/sh\ncase $* in {chosen} esac\n")
    python.chmod(0o755)
    return Path(shutil.copy(SCRIPTS / "setup", checkout / "scripts"))


@pytest.mark.parametrize("backend", ["", "cpu"])
def test_another_build_of_torch_is_installed_by_its_name(backend: str, tmp_path: Path) -> None:
    setup = setup_in(tmp_path)
    done = subprocess.run(
        [setup, "serve"],
        env=os.environ | {"TORCH_BACKEND": backend},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    *_, last = (tmp_path / "installed").read_text().splitlines()
    assert last.endswith("-e .[serve]")
    assert last.startswith("-m uv pip") is bool(backend)
    assert ("--torch-backend cpu --reinstall-package=torch" in last) is bool(backend)
    (tmp_path / "installed").unlink()
    again = {name: value for name, value in os.environ.items() if name != "TORCH_BACKEND"}
    subprocess.run([setup, "serve"], env=again, check=True)
    assert not (tmp_path / "installed").exists()
    (tmp_path / "constraints.txt").write_text("torch==3")
    subprocess.run([setup, "serve"], env=again, check=True)
    *_, last = (tmp_path / "installed").read_text().splitlines()
    assert ("--torch-backend cpu -c" in last) is bool(backend)  # as it was told before


@pytest.mark.parametrize(("backend", "code"), [("cpu", 0), ("cu126", 2)])
def test_without_the_index_of_torch_the_cpu_is_served_by_the_usual_one(
    backend: str, code: int, tmp_path: Path
) -> None:
    setup = setup_in(tmp_path, '*"uv pip"*) exit 2;;')
    environment = os.environ | {"TORCH_BACKEND": backend}

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run([setup, "serve"], env=environment, capture_output=True, text=True)

    done = run()
    assert done.returncode == code
    *_, last = (tmp_path / "installed").read_text().splitlines()
    assert last.startswith("-m pip")
    assert last.endswith("-e .[serve]" if code == 0 else " uv")
    assert ("taking the usual one" in done.stderr) is (code == 0)
    (tmp_path / "installed").unlink()
    assert run().returncode == code
    assert (tmp_path / "installed").exists() is (code != 0)  # quick, and not asked for again


def test_scripts_find_their_checkout_whatever_cdpath_says(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    done = subprocess.run(
        ["scripts/setup"],
        cwd=SCRIPTS.parent,
        env=os.environ | {"CDPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.parametrize("code", [0, 3])
def test_a_build_that_was_stopped_goes_on_and_one_that_fails_says_where(
    code: int, tmp_path: Path
) -> None:
    """Every program of the checkout is one that notes what it is told; the teacher takes long where
    another fails."""
    checkout, elsewhere = tmp_path / "check out", tmp_path / "else where"
    (checkout / "scripts").mkdir(parents=True)
    (checkout / ".venv" / "bin").mkdir(parents=True)
    # Not before the other has begun: a shell that has not yet forgotten its parent's traps loses
    # the signal.
    begun = "until grep -q training.features told; do sleep 0.02; done"
    fails = f"case $* in *training.pretrain*language.toml*) {begun}; exit {code};; esac"
    lasts = "case $* in *training.features*) exec sleep 60;; esac" if code else ""
    note = 'printf \'%s|\' "$@" >>told\necho >>told\necho "$OMP_NUM_THREADS|$*" >>threads'
    program = f"#!/bin/sh\n{note}\n{lasts}\n{fails}\n"
    for name in ("scripts/setup", ".venv/bin/python"):
        (checkout / name).write_text(program)
        (checkout / name).chmod(0o755)
    script = shutil.copy(SCRIPTS / "build-starter", checkout / "scripts")
    make_data(elsewhere / "my data")
    (elsewhere / "out" / "language.unfinished" / "step-0000350").mkdir(parents=True)
    process = subprocess.Popen(
        [script, "my data", "out"],
        cwd=elsewhere,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    _, told = process.communicate(timeout=60)
    assert process.returncode == code
    where = f"build-starter: not finished; the newest of {elsewhere}/out/*.log says why\n"
    assert told == (where if code else "")
    still_run = ["pgrep", "-r", "R,S,D", "-s", str(process.pid)]
    end = time.monotonic() + 10
    while subprocess.run(still_run).returncode == 0:
        assert time.monotonic() < end, "something still runs"
        time.sleep(0.02)
    lines = (checkout / "told").read_text().splitlines()
    pretrainings = [line for line in lines if "training.pretrain" in line]
    assert [line.endswith("|--resume|") for line in pretrainings] == [True, False][: 2 - bool(code)]
    corpora = f"|--data|sms={elsewhere}/my data/SMSSpamCollection|--data|"
    assert all(corpora in line for line in pretrainings)
    if not code:
        [starter] = [line for line in lines if line.endswith(f"|{elsewhere}/out/starter|")]
        assert f"|{elsewhere}/out/home-1|--data|sms=" in starter
        draft, *others = [line for line in lines if "|training.finetune|" in line]
        assert draft.startswith("-m|torch.distributed.run|--nproc-per-node|2|-m|training.finetune|")
        assert f"{elsewhere}/out/draft|" in draft
        assert len(others) == 4
        assert all(line.startswith("-m|training.finetune|") for line in others)
        threads = [line.split("|") for line in (checkout / "threads").read_text().splitlines()]
        assert {n for n, command in threads if "training.average" in command} == {""}
        assert {n for n, command in threads if "training.finetune" in command} == {"1"}


@pytest.mark.parametrize("command", [["test"], ["build-starter", "data", "out"]])
def test_ctrl_c_ends_what_runs_in_the_background_too(command: list[str], tmp_path: Path) -> None:
    """Every program of the checkout is one that tells its start, then holds a pipe open."""
    os.mkfifo(tmp_path / "starts")
    told = os.open(tmp_path / "starts", os.O_RDWR)
    held, holds = os.pipe()
    at_once = "*pip*|*training.get_data*|*training.transplant*"
    program = f"case $* in {at_once}) exit;; esac\necho >starts\nexec sleep 60\n"
    (tmp_path / "scripts").mkdir()
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    for name in ("scripts/setup", "scripts/check", ".venv/bin/python"):
        (tmp_path / name).write_text(f"#!/bin/sh\n{'' if name == 'scripts/setup' else program}")
        (tmp_path / name).chmod(0o755)
    script = shutil.copy(SCRIPTS / command[0], tmp_path / "scripts")
    make_data(tmp_path / "data")
    # A group of its own, as a terminal makes one for what it runs; where the tests run in the
    # background, they ignore SIGINT, and so would this.
    process = subprocess.Popen(
        [script, *command[1:]],
        cwd=tmp_path,
        start_new_session=True,
        pass_fds=[holds],
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    os.close(holds)
    try:
        for _ in range(2):  # one in front, one in the background
            assert select.select([told], [], [], 30)[0]
            os.read(told, 1)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=30) == 130
        assert select.select([held], [], [], 10)[0], "something still runs"
    finally:
        subprocess.run(["pkill", "-KILL", "-s", str(process.pid)])
        os.close(told)
        os.close(held)
