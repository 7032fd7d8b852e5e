"""What is said of a checkpoint as it is loaded."""

from collections.abc import Callable
from pathlib import Path

import pytest

from app.loading import load_model
from app.settings import Settings
from model.folders import CheckpointError
from model.hub import resolve


@pytest.mark.parametrize("missing", [[], ["golden.json"], ["golden.json", "run.json"]])
def test_checkpoint_that_was_copied_in_part_is_told(
    save_tiny: Callable[..., Path], missing: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    folder = save_tiny()
    (folder / "run.json").write_text('{"spam_prior": 0.5}')
    for name in missing:
        (folder / name).unlink()
    load_model(Settings(device="cpu", dtype="float32"), str(folder), {})
    told = [vars(record)["missing"] for record in caplog.records if record.levelname == "WARNING"]
    assert told == ([missing] if missing else [])


@pytest.mark.parametrize("name", ["runs/next", "./next", "../next"])
def test_mistyped_folder_is_asked_of_no_hub(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=f"no checkpoint folder at {name}"):
        resolve(name)
