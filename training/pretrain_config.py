"""PretrainConfig: everything that makes one pretraining run, read from a TOML recipe."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class PretrainConfig(BaseModel):
    """One pretraining recipe. Each key of the TOML file is a field; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    seed: int = Field(
        123, ge=0, lt=1 << 32, description="Of the weights, the order of texts and the draws."
    )
    split_seed: int = Field(
        123,
        ge=0,
        lt=1 << 32,
        description="As in the fine-tuning recipe, so that its test texts stay unread; they do "
        "where that keeps the default selection and fractions.",
    )

    base: str = Field(
        "", description="Folder to go on from, whose sizes hold then; empty: random weights."
    )
    n_layer: int = Field(4, ge=1, description="Blocks.")
    n_head: int = Field(4, ge=1, description="Attention heads; divides n_embd.")
    n_embd: int = Field(128, ge=1, description="Width.")
    n_positions: int = Field(1024, ge=2, description="Longest text in tokens; longer ones are cut.")

    steps: int = Field(1000, ge=1, description="Optimizer steps.")
    batch_tokens: int = Field(4096, ge=2, description="Tokens a step; at least n_positions.")
    optimizer: Literal["adamw", "muon"] = Field(
        "adamw", description="muon: Muon for the matrices of the blocks, AdamW for all else."
    )
    learning_rate: float = Field(2e-3, gt=0, description="At its peak.")
    embedding_rate: float = Field(
        1.0, ge=0, description="Of the token embeddings, as a share of learning_rate."
    )
    weight_decay: float = Field(0.1, ge=0, description="Decoupled, on matrices.")
    warmup_fraction: float = Field(
        0.05, ge=0, lt=1, description="Share of steps with a rising rate; then half a cosine to 0."
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="auto: bfloat16 autocast where the processor computes in it, else float32.",
    )
    output_layer: Literal["exact", "unigram", "log_uniform"] = Field(
        "exact",
        description="exact: softmax over the whole vocabulary. unigram, log_uniform: over drawn "
        "tokens, in proportion to their frequency in the training text, or to their rank.",
    )
    sampled_tokens: int = Field(
        4096,
        ge=64,
        le=50256,
        description="Tokens drawn a step, on average; fewer are quicker and noisier, and of a few "
        "a step may draw none.",
    )

    distillation: float = Field(
        0.0,
        ge=0,
        description="Weight in the loss of predicting what a larger model sees at a token: the "
        "file of training.features that --teacher gives.",
    )

    eval_every: int = Field(250, ge=1, description="Steps between evaluations, samples and saves.")
    eval_tokens: int = Field(
        16384, ge=1, description="Held-back tokens read in evaluations on the way; all at the end."
    )
    prompts: tuple[str, ...] = Field((), description="Texts that the samples continue.")
    sample_tokens: int = Field(24, ge=1, description="Tokens in each sample.")

    storage_dtype: Literal["float32", "float16", "bfloat16"] = Field(
        "float32", description="Of the weights in the final file; float16 halves it."
    )

    @model_validator(mode="after")
    def _check_sizes(self) -> "PretrainConfig":
        if self.batch_tokens < self.n_positions:
            raise ValueError("batch_tokens is less than n_positions: the longest would fit nowhere")
        if self.n_embd % self.n_head:
            raise ValueError("n_head does not divide n_embd")
        return self
