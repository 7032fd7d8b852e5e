"""What is said of a checkpoint as it is loaded."""

from collections.abc import Callable
from pathlib import Path

import pytest

from app.loading import load_model
from app.settings import Settings


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
