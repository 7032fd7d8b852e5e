"""TrainConfig: everything that makes one training run, read from a TOML recipe and flags."""

import tomllib
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

_AUGMENTATIONS = (
    "token_dropout",
    "recasing",
    "respacing",
    "obfuscation",
    "joining",
    "chaff",
    "furniture",
    "window_tokens",
)
_Recipe = TypeVar("_Recipe", bound=BaseModel)
# The publisher's, then what it was called before.
_SMS_URLS = (
    "https://archive.ics.uci.edu/static/public/228/sms+spam+collection.zip",
    "https://archive.ics.uci.edu/ml/machine-learning-databases/00228/smsspamcollection.zip",
)


class TrainingError(Exception):
    """A training run that cannot start or go on; the message says why and what to do."""


class ConfigError(TrainingError):
    """A recipe that cannot be followed."""


class CorpusError(TrainingError):
    """A corpus that is missing, altered or unreadable."""


_NUM_SEEDS = 1 << 32


class TrainConfig(BaseModel):
    """One recipe. Each key of the TOML file is a field here; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    seed: int = Field(
        123,
        ge=0,
        lt=_NUM_SEEDS,
        description="Of all that is drawn: new weights, the order of texts, their changes, which "
        "part of replay is read.",
    )

    # Data
    corpora: tuple[Literal["sms", "jsonl", "csv", "mail"], ...] = Field(
        ("sms",), min_length=1, description="What it is trained on: the kinds that --data gives."
    )
    training_only: tuple[str, ...] = Field(
        (),
        description="JSON lines files with label and text, besides: all trained on, none to choose "
        "or to test by; what nearly equals a text of the corpora is left out.",
    )
    table_only: tuple[str, ...] = Field(
        (),
        description="Files as of training_only that the table of n-grams alone is fitted to: one "
        "weight of it learns from them and others stay, while a network would forget other texts.",
    )
    replay: tuple[str, ...] = Field(
        (),
        description="Files as of training_only that a step before has read: a run reads one part "
        "of their messages again, by the recipe's seed, and forgets less of them. Runs with seeds "
        "in a row, which are averaged, read all.",
    )
    replay_parts: int = Field(4, ge=1, description="Equal parts that replay is dealt into.")
    data_urls: tuple[str, ...] = Field(
        _SMS_URLS, description="Zip files of the SMS collection to try in order without --data."
    )
    data_sha256: str = Field("", description="Of the unpacked file; empty accepts any file.")
    selection: Literal["all", "book"] = Field(
        "all",
        description="all: every distinct text, disguised letters made plain, near-duplicates kept "
        "on one side of the split. book: the book's balanced draw and its split in order, letters "
        "made plain where the service takes what comes of it.",
    )
    split_seed: int = Field(
        123, ge=0, lt=1 << 32, description="Of the split; apart from the training's seed."
    )
    train_fraction: float = Field(0.7, gt=0, lt=1, description="Share of texts trained on.")
    validation_fraction: float = Field(0.1, gt=0, lt=1, description="Share that chooses.")
    padding: Literal["none", "longest", "context"] = Field(
        "none",
        description="none: packed, the last token is the last real one. longest: every text padded "
        "or cut to the longest training text, as in the book, the last token mostly padding; three "
        "to five times the work, and the service does not take such a checkpoint. context: the "
        "same, to max_tokens.",
    )
    max_tokens: int = Field(1024, ge=1, description="Texts are cut after this many tokens.")

    # Model
    base: str = Field(
        "openai-community/gpt2",
        description="Folder or hub id of the pretrained network; 'random' draws one of the sizes "
        "below instead.",
    )
    keep_head: bool = Field(
        False,
        description="Learn on with the two-class head of the base, which is a classifier, and keep "
        "its table of n-grams.",
    )
    random_weights: bool = Field(
        False, description="Take the base's sizes and draw its weights anew: an experiment."
    )
    n_layer: int = Field(12, ge=1, description="Blocks, where base is random.")
    n_head: int = Field(12, ge=1, description="Attention heads, where base is random.")
    n_embd: int = Field(768, ge=1, description="Width, where base is random.")
    read_token: Literal["last", "first", "mean"] = Field(
        "last", description="Token whose logits are the verdict; first and mean are experiments."
    )
    causal_mask: bool = Field(True, description="False lets every token see all: an experiment.")
    trained: Literal["head", "last_block", "last_two_blocks", "all", "lora"] = Field(
        "last_block",
        description="head: the new head alone; last_block: with the last block and the final norm.",
    )
    lora_rank: int = Field(16, ge=1, description="Rank of each update, where trained is lora.")
    lora_alpha: float = Field(16.0, gt=0, description="Factor on each update, as in the book.")

    # Optimization
    epochs: int = Field(5, ge=1, description="Passes over the training texts.")
    batch_size: int = Field(8, ge=1, description="Texts a forward pass.")
    accumulation_steps: int = Field(1, ge=1, description="Forward passes a step.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="auto: bfloat16 autocast where the processor computes in it, else float32.",
    )
    optimizer: Literal["adamw", "muon"] = Field(
        "adamw", description="muon: Muon for the matrices of the blocks, AdamW for all else."
    )
    learning_rate: float = Field(5e-5, gt=0, description="At its peak.")
    embedding_rate: float = Field(
        1.0,
        ge=0,
        description="Of the token embeddings, as a share of learning_rate, where trained is all.",
    )
    weight_decay: float = Field(0.1, ge=0, description="Decoupled, on every trained tensor.")
    schedule: Literal["constant", "cosine"] = Field(
        "constant", description="cosine: linear warm-up, then down to zero along half a cosine."
    )
    warmup_fraction: float = Field(0.1, ge=0, lt=1, description="Share of steps, under cosine.")
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="Share of each label spread evenly."
    )
    spam_weight: float = Field(
        1.0,
        gt=0,
        description="Weight of a spam text in the loss, ham being 1; for unbalanced data.",
    )
    prefix_loss: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of the loss that comes from reading the verdict at every token of a "
        "training text instead of the last alone: each beginning of a text is an example too.",
    )
    distillation: float = Field(
        0.0,
        ge=0,
        description="Weight in the loss of what the network can no longer tell of what a teacher "
        "sees, in texts as they are; the base has learnt it in pretraining.",
    )
    teacher: str = Field("", description="The file of training.features, where it distils.")
    bag_of_words: float = Field(
        0.0,
        ge=0,
        description="Weight in the loss of what the network cannot tell of a bag of words' view of "
        "a text, which comes from the other texts alone; 0 is off.",
    )
    ngrams: float = Field(
        0.0,
        ge=0,
        description="Share of a table of n-grams in the verdict: its log odds times this are added "
        "to the network's, more where tokens are short. It is fitted on the same texts; 0 is off.",
    )
    ignore_index: int = Field(-100, description="Label left out of the loss; the book tries 50256.")
    averaging: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Decay of a running average of the trained tensors, which then is what is "
        "evaluated and saved; 0 is off, 0.99 remembers about 100 steps.",
    )
    patience: int = Field(
        0,
        ge=0,
        description="Evaluations without a better validation loss before stopping; 0 never.",
    )
    snapshot: Literal["best", "last"] = Field(
        "best",
        description="Which weights are saved: those of the lowest validation loss, or the last.",
    )
    calibrate: bool = Field(
        False,
        description="Fit a temperature and a shift on the validation part and fold them into the "
        "head.",
    )
    token_dropout: float = Field(
        0.0,
        ge=0,
        le=0.5,
        description="Chance of each training token to be left out, anew each time; from text to "
        "text anything up to its double.",
    )
    recasing: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Chance of a training text to be put in lower case, capitals or title case, "
        "and read as the service reads that.",
    )
    respacing: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Chance of a training text to be written as published corpora often are, lower "
        "case, blanks around punctuation or none of it, and read as the service reads that.",
    )
    obfuscation: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Chance of a training text to get half of its words disguised.",
    )
    joining: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Chance of a training text to get a ham text's words in front or behind.",
    )
    chaff: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Chance of a spam text to get words drawn at random beside it or in its place.",
    )
    furniture: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Chance of a training text to get lines of page furniture around and between "
        "its own, whatever its label (training/furniture.json).",
    )
    joined_tokens: int = Field(
        256, ge=8, description="Most tokens of such words; the fewest are 8, short ones likelier."
    )
    window_tokens: int = Field(
        0,
        ge=0,
        description="Longer training texts are mostly read by passages of this many tokens; 0: up "
        "to max_tokens from their beginning.",
    )
    cached_activations: bool = Field(
        True,
        description="Compute the frozen blocks once instead of once an epoch; changes no result "
        "beyond rounding. Off where texts change from reading to reading or nothing is frozen.",
    )
    cache_memory_bytes: int = Field(
        4 << 30, ge=0, description="Of those activations; what is more goes to a file on disk."
    )
    eval_every: int = Field(50, ge=1, description="Batches between evaluations and snapshots.")
    eval_batches: int = Field(5, ge=1, description="Batches in the losses printed on the way.")

    # Saving
    storage_dtype: Literal["float32", "float16", "bfloat16"] = Field(
        "float32", description="Of the weights in the file; float16 halves it."
    )

    @property
    def is_served(self) -> bool:
        """Whether the service takes what this recipe makes: texts are read in training as there,
        with letters made plain and, where they are measured, in windows."""
        return self.padding == "none" and self.read_token == "last" and self.causal_mask

    @property
    def augments(self) -> bool:
        """Whether training texts change from one reading to the next."""
        return any(getattr(self, name) > 0 for name in _AUGMENTATIONS)

    @model_validator(mode="after")
    def _parts_fit_together(self) -> "TrainConfig":
        if self.augments and self.padding != "none":
            raise ValueError(f"{', '.join(_AUGMENTATIONS)} go with padding = 'none' only")
        if self.prefix_loss and (self.trained != "all" or self.read_token != "last"):
            raise ValueError("prefix_loss goes with trained = 'all' and read_token = 'last' only")
        if self.keep_head and (self.base == "random" or self.random_weights):
            raise ValueError("keep_head goes with a classifier as base, not with random weights")
        if self.ngrams and (self.keep_head or self.padding != "none" or self.read_token != "last"):
            raise ValueError(
                "ngrams goes with a new head, padding = 'none' and read_token = 'last' only"
            )
        if self.distillation and (self.trained != "all" or not self.prefix_loss):
            raise ValueError("distillation goes with trained = 'all' and prefix_loss only")
        if self.bag_of_words and not (self.augments and self.prefix_loss):
            raise ValueError(
                "bag_of_words goes with prefix_loss and texts that change from reading to reading "
                f"({', '.join(_AUGMENTATIONS)})"
            )
        if self.patience and self.snapshot == "last":
            raise ValueError("patience goes with snapshot = 'best' only")
        return self

    @model_validator(mode="after")
    def _files_fit_together(self) -> "TrainConfig":
        if (self.training_only or self.table_only or self.replay) and self.selection == "book":
            raise ValueError("training_only, table_only and replay go with selection = 'all' only")
        if self.table_only and not self.ngrams:
            raise ValueError("table_only goes with ngrams only: no table would be fitted")
        if bool(self.distillation) != bool(self.teacher):
            raise ValueError("distillation and teacher go together: the weight, and the file")
        return self

    @model_validator(mode="after")
    def _numbers_fit_together(self) -> "TrainConfig":
        if self.window_tokens > self.max_tokens:
            raise ValueError(
                f"window_tokens is {self.window_tokens}, more than max_tokens, {self.max_tokens}"
            )
        if self.train_fraction + self.validation_fraction >= 1:
            raise ValueError("train_fraction and validation_fraction leave nothing to test by")
        if self.base == "random" and self.n_embd % self.n_head:
            raise ValueError("n_head does not divide n_embd")
        return self


def refuse_seeds(config: TrainConfig, count: int) -> None:
    """Refuses several seeds at once where each reads other texts.

    Raises:
        ConfigError: there is ``replay``, and more than one seed; or one is no seed any more.
    """
    if config.seed + count > _NUM_SEEDS:
        raise ConfigError(f"seeds go from 0 to {_NUM_SEEDS - 1}: begin with a smaller --seed.")
    if count > 1 and config.replay:
        raise ConfigError(
            f"replay deals each seed another part of its files: not {count} seeds at once, but one "
            "by one, with `training.finetune --seed`."
        )


def load_config(path: Path, **overrides: object) -> TrainConfig:
    """Reads a fine-tuning recipe; overrides that are not None win.

    Raises:
        ConfigError: as for ``read_recipe``.
    """
    return read_recipe(path, TrainConfig, **overrides)


def read_recipe(path: Path, schema: type[_Recipe], **overrides: object) -> _Recipe:
    """Reads a TOML file into a recipe class; overrides that are not None win.

    Raises:
        ConfigError: no such file, not TOML, an unknown key, a value out of range.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the recipe {path}: {error}") from error
    values |= {key: value for key, value in overrides.items() if value is not None}
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        # What does not fit together is of no one key.
        problems = "; ".join(
            f"{'.'.join(map(str, e['loc']))}: {e['msg']} (got {e['input']!r})"
            if e["loc"]
            else e["msg"].removeprefix("Value error, ")
            for e in error.errors()
        )
        known = ", ".join(schema.model_fields)
        raise ConfigError(f"{path}: {problems}. Known keys: {known}.") from error
