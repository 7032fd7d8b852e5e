"""Recipes: those that ship are valid, wrong ones say what is wrong."""

from pathlib import Path

import pytest

from training.config import ConfigError, TrainConfig, load_config, refuse_seeds

CONFIGS = Path(__file__).parents[1] / "training" / "configs"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_recipes_are_valid(path: Path) -> None:
    config = load_config(path)
    assert bool(config.data_sha256) == ("sms" in config.corpora)
    assert config.trained == "all" or "embedding_rate" not in config.model_fields_set  # frozen


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rat = 1", "learning_rat: Extra inputs"),
        ("epochs = 0", "epochs: .*greater than or equal to 1.*got 0"),
        ("ngrams = inf", "ngrams: .*finite number"),
        ("trained = 'some'", "trained: .*'last_block'"),
        ("epochs =", "cannot read the recipe"),
        ("padding = 'longest'\nrecasing = 0.1", "padding = 'none' only"),
        ("selection = 'book'\ntraining_only = ['a']", "training_only, table_only and replay go"),
        ("table_only = ['a']", "table_only goes with ngrams only"),
        ("selection = 'book'\nreplay = ['a']", "training_only, table_only and replay go"),
        ("prefix_loss = 0.5", "prefix_loss goes with trained = 'all'"),
        ("train_fraction = 0.9\nvalidation_fraction = 0.1", "leave nothing to test by"),
        ("max_tokens = 99\nwindow_tokens = 100", "window_tokens is 100, more than max_tokens, 99"),
        ("base = 'random'\nn_head = 5", r"wrong\.toml: n_head does not divide n_embd\. Known"),
        ("seed = 18446744073709551616", "seed: .*less than 4294967296"),
    ],
)
def test_wrong_recipe_is_a_clear_error(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(path)


def test_a_flag_wins_although_it_is_zero(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text("seed = 5\nepochs = 2\n")
    config = load_config(path, seed=0, epochs=None)
    assert (config.seed, config.epochs) == (0, 2)


def test_book_recipes_hold_the_books_numbers() -> None:
    for name, trained in (("book_last_block", "last_block"), ("book_all_layers", "all")):
        config = load_config(CONFIGS / f"{name}.toml")
        assert (config.trained, config.padding, config.selection) == (trained, "longest", "book")
        assert (config.seed, config.split_seed, config.epochs, config.batch_size) == (
            123,
            123,
            5,
            8,
        )
        assert (config.learning_rate, config.weight_decay) == (5e-5, 0.1)
        assert config.base == "openai-community/gpt2"


def test_a_recipe_may_begin_with_a_mark_as_windows_has_it(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text('base = "random"\n', encoding="utf-8-sig")
    assert load_config(path).base == "random"


def test_seeds_beyond_the_last_are_refused() -> None:
    refuse_seeds(TrainConfig(seed=(1 << 32) - 2), 2)
    with pytest.raises(ConfigError, match="smaller --seed"):
        refuse_seeds(TrainConfig(seed=(1 << 32) - 1), 2)
