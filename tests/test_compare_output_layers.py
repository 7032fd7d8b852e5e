"""Output layers side by side: the same steps, the same start."""

import json
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from tests.test_pretrain import TINY_RECIPE, tiny_texts
from tests.tiny_training import synthetic_lines
from training import compare_output_layers
from training.compare_output_layers import measure
from training.config import read_recipe
from training.pretrain_config import PretrainConfig


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY_RECIPE)
    return path


def test_whole_and_exact_train_the_same_network_and_sampled_another(recipe: Path) -> None:
    config = read_recipe(recipe, PretrainConfig, steps=8)
    rows = {
        layer: measure(layer, config, tiny_texts()) for layer in ("whole", "exact", "unigram:100")
    }
    losses = {layer: row["held_back_loss"] for layer, row in rows.items()}
    assert losses["exact"] == pytest.approx(losses["whole"], abs=1e-3)
    assert losses["unigram:100"] != pytest.approx(losses["whole"], abs=1e-3)
    assert all(row["peak_memory_bytes"] > 1e8 for row in rows.values())


def test_a_process_that_was_ended_is_a_clear_error(
    recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def be_ended(*_: object) -> None:
        raise BrokenProcessPool  # as where the system ends it, since memory is out

    monkeypatch.setattr(ProcessPoolExecutor, "submit", be_ended)
    corpus = tmp_path / "sms"
    corpus.write_text("\n".join(synthetic_lines(120)) + "\n")
    arguments = [str(recipe), "--data", f"sms={corpus}", "--layers", "exact"]
    assert compare_output_layers.main(arguments) == 2
    assert "the process of exact was ended" in capsys.readouterr().err


def test_command_writes_figures_and_refuses_bad_input(
    recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    corpus = tmp_path / "sms"
    corpus.write_text("\n".join(synthetic_lines(120)) + "\n")
    arguments = [str(recipe), "--data", f"sms={corpus}", "--steps", "2"]
    out = tmp_path / "out.json"
    main = compare_output_layers.main
    assert main([*arguments, "--layers", "unigram:64", "--out", str(out)]) == 0
    assert "| unigram:64 | " in capsys.readouterr().out
    assert [row["output_layer"] for row in json.loads(out.read_text())["rows"]] == ["unigram:64"]
    with monkeypatch.context() as patch:
        patch.setattr(compare_output_layers, "read_sources", None)  # refused before the work
        assert main([*arguments, "--out", str(corpus / "out.json")]) == 2
    assert "cannot read or write" in capsys.readouterr().err
    for layer in ("bigram", "unigram:0", "unigram:many"):
        assert main([*arguments, "--layers", layer]) == 2
        assert "is no output layer" in capsys.readouterr().err
    assert main([str(recipe), "--data", "sms=absent"]) == 2
    assert "cannot read the corpus" in capsys.readouterr().err
