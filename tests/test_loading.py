"""What is said of a checkpoint as it is loaded."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from app import loading
from app.loading import load_model
from app.settings import Settings
from model import checkpoint
from model.checkpoint import hash_files
from model.folders import CheckpointError
from model.hub import resolve
from model.published import read_weights


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


@pytest.mark.parametrize(
    ("threads", "workers", "cores", "expected"),
    [
        (3, 1, 8, 3),
        (3, 4, 8, 3),
        (0, 1, 8, 7),
        (0, 3, 8, 2),
        (0, 1, 1, 1),
        (0, 4, 2, 1),
    ],
)
def test_threads_are_those_of_the_settings_or_a_share_of_the_cores(
    save_tiny: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    threads: int,
    workers: int,
    cores: int,
    expected: int,
) -> None:
    taken: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", taken.append)
    monkeypatch.setattr(loading, "usable_cores", lambda: cores)
    settings = Settings(device="cpu", dtype="float32", threads=threads, workers=workers)
    load_model(settings, str(save_tiny()), {})
    assert taken == [expected]


@pytest.mark.parametrize("name", ["runs/next", "./next", "../next"])
def test_mistyped_folder_is_asked_of_no_hub(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=f"no checkpoint folder at {name}"):
        resolve(name)


def test_a_link_that_is_switched_meanwhile_mixes_no_checkpoints(
    save_tiny: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other, link = save_tiny("one", seed=1), save_tiny("other", seed=2), tmp_path / "link"
    link.symlink_to(one)

    def read_and_switch(folder: Path) -> dict[str, torch.Tensor]:
        weights = read_weights(folder)
        link.unlink()
        link.symlink_to(other)
        return weights

    monkeypatch.setattr(checkpoint, "read_weights", read_and_switch)
    loaded = checkpoint.load_classifier(link)
    assert (loaded.name, loaded.sha256) == ("one", hash_files(one))
