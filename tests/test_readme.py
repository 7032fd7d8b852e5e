"""README and docs/ are true: commands exist, the request is answered, figures are the measured."""

import asyncio
import json
import re
import runpy
import shlex
import sys
import tomllib
import warnings
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from app.metrics import Metrics
from app.settings import Settings
from benchmarks.tables import DOCUMENTS, updated
from tests.serving import serving
from training.evaluate import main as evaluate

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
OPERATION = (ROOT / "docs" / "operation.md").read_text(encoding="utf-8")
DOCUMENTED = "\n".join(
    [
        README,
        OPERATION,
        *((ROOT / "docs" / f"{name}.md").read_text() for name in ("training", "figures")),
    ]
)
COMMANDS = [
    line
    for block in re.findall(r"```sh\n(.*?)```", DOCUMENTED, re.S)
    for line in block.splitlines()
]


def test_every_script_and_file_that_it_names_exists() -> None:
    for command in COMMANDS:
        program = shlex.split(command)[0]
        if program.startswith("scripts/"):
            assert (ROOT / program).stat().st_mode & 0o111, program
    for path in re.findall(r"(?:training/configs|scripts|checkpoints|docs)/[\w./-]+", DOCUMENTED):
        assert (ROOT / path.rstrip(".")).exists(), path


def test_its_tree_names_every_file_and_no_other() -> None:
    tree = re.search(r"## How a request is processed\n\n```\n(.*?)```", README, re.S)
    assert tree
    folder, named = "", set()
    for line in tree[1].splitlines():
        if not line.startswith(" "):
            folder = line.split()[0]
            assert (ROOT / folder).is_dir(), folder
        for name in re.findall(r"\b\w+\.py\b", line.replace("/", " / ")):
            assert (ROOT / folder / name).exists(), f"{folder}{name}"
            named.add(f"{folder}{name}")
    for package in ("app/", "model/", "training/"):
        files = {f"{package}{path.name}" for path in (ROOT / package).glob("*.py")}
        assert files - named == {f"{package}__init__.py"}


def run_as_main(command: list[str], monkeypatch: pytest.MonkeyPatch) -> object:
    """The exit code, as of python -m, but in this process, which has imported torch."""
    monkeypatch.setattr(sys, "argv", command)
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):
        # Other tests have imported the module already.
        with pytest.raises(SystemExit) as exit:
            runpy.run_module(command[0], run_name="__main__", alter_sys=True)
    return exit.value.code


@pytest.mark.parametrize(
    "module", sorted(set(re.findall(r"python -m ((?:training|app)\b[\w.]*)", DOCUMENTED)))
)
def test_every_module_that_it_runs_explains_itself(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_as_main([module, "--help"], monkeypatch) == 0
    told = capsys.readouterr().out
    assert "usage: python -m " + module in told
    assert told.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    "command", re.findall(r"python -m (training\.\w+(?: [^\s`…]+)*)[`\n]", DOCUMENTED)
)
def test_every_training_command_takes_its_arguments(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # All that comes once the arguments are read.
    monkeypatch.setattr("training.command.exit_code", lambda module, run: 0)
    assert run_as_main(shlex.split(command), monkeypatch) == 0


def test_its_request_is_answered(save_tiny: Callable[..., Path]) -> None:
    curl = next(shlex.split(command) for command in COMMANDS if command.startswith("curl"))
    body = curl[curl.index("-d") + 1]
    # curl's own content type for -d.
    headers = {"Content-Type": "application/x-www-form-urlencoded"}

    async def ask() -> httpx.Response:
        async with serving(save_tiny()) as client:
            return await client.post("/classify", content=body, headers=headers)

    response = asyncio.run(ask())
    assert response.status_code == 200
    assert len(response.json()["results"]) == len(json.loads(body)["texts"])


def test_settings_table_has_real_names_and_defaults() -> None:
    rows = re.findall(r"\| `SPAMGATE_(\w+)` \| `(.*?)` \|", README)
    assert len(rows) >= 6
    for name, default in rows:
        known = str(Settings.model_fields[name.lower()].default)
        assert known.removeprefix(f"{ROOT}/") == default, name


def test_series_and_outcomes_to_watch_are_served() -> None:
    served = Metrics().render().decode()
    series = re.findall(r"`(spamgate_\w+)", OPERATION)
    [watched] = re.findall(r"with `outcome`(.*?)\n\| `spamgate", OPERATION, re.S)
    outcomes = re.findall(r"`(\w+)`", watched)
    assert len(series) >= 3
    assert len(outcomes) >= 5
    for name in [*series, *(f'outcome="{outcome}"' for outcome in outcomes)]:
        assert name in served, name


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_figures_are_those_of_the_results(document: Path) -> None:
    assert updated(document) == document.read_text(), "run python -m benchmarks.tables"


def test_changelog_names_the_version_of_the_package() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    versions = re.findall(r"^## (\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert versions[0] == version


def test_evaluate_takes_the_starter(
    sms_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = tmp_path / "SMSSpamCollection"
    corpus.write_text("".join(sms_file.read_text(encoding="utf-8").splitlines(True)[:300]))
    assert evaluate([str(ROOT / "checkpoints" / "starter"), "--data", str(corpus), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["texts"] == 300
    assert figures["accuracy"] > 0.97
