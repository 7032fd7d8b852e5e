"""python -m training.zero_shot --base FOLDER_OR_HUB_ID: what the untuned model says.

Asks a language model in two ways whether a text is spam, before anything has taught it to: prints
its answers to two sentences, and scores the book's test texts by which of " yes" and " no" is the
likelier next token.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from model.checkpoint import load_language_model
from model.devices import pick_device
from model.gpt2 import GPT2LMHeadModel
from model.packing import within_budget
from model.tokenizer import decode, encode
from training.card import GOLDEN_TEXTS
from training.command import add_device, exit_code
from training.config import TrainingError, load_config
from training.corpora import Example, read_sms_as_the_book
from training.data import split_examples
from training.download import find_sms_file
from training.evaluate import as_long_table, measure_with_intervals
from training.generate import generate, next_token_logits

_RECIPE = Path(__file__).parent / "configs" / "book_last_block.toml"
_QUESTION = "Is the following text 'spam'? Answer with 'yes' or 'no': '{text}'"
_PREAMBLE = (
    "This is a transcript of a conversation between a helpful bot, 'Bot', and a human, 'User'. "
    "The bot is very intelligent and always answers the human's questions with a useful reply."
)
PROMPTS = {"question": _QUESTION, "transcript": f"{_PREAMBLE}\n\nHuman: {_QUESTION}"}
"""The two ways of asking, with ``{text}`` for the text."""

# The post's two sentences, spam and ham.
_SENTENCES = GOLDEN_TEXTS[:2]
_ANSWER_TOKENS = 32
_BATCH_TOKENS = 4096


def longest_prompt(model: GPT2LMHeadModel) -> int:
    """Tokens that a prompt may have, so that an answer still fits.

    Raises:
        TrainingError: not even an empty text fits.
    """
    longest = model.config.n_positions - _ANSWER_TOKENS
    needed = max(len(encode(template, 1024)[0]) for template in PROMPTS.values())
    if longest < needed:
        raise TrainingError(
            f"the base reads {model.config.n_positions} tokens, prompt and answer need "
            f"{needed + _ANSWER_TOKENS}."
        )
    return longest


def make_prompt(template: str, text: str, max_tokens: int) -> list[int]:
    """The template around a text, as tokens; of a long text the end is cut, never the question."""
    before, after = (encode(part, max_tokens)[0] for part in template.split("{text}"))
    whole, truncated = encode(template.format(text=text), max_tokens)
    if not truncated:
        return whole
    room = max_tokens - len(before) - len(after)
    return before + encode(text, max(1, room))[0] + after


def spam_probabilities(
    model: GPT2LMHeadModel, template: str, texts: Sequence[str], max_tokens: int
) -> list[float]:
    """P(" yes") / (P(" yes") + P(" no")) after each prompt."""
    yes, no = (encode(answer, 1)[0][0] for answer in (" yes", " no"))
    prompts = [make_prompt(template, text, max_tokens) for text in texts]
    probabilities: list[float] = []
    for batch in within_budget(prompts, len, _BATCH_TOKENS):
        logits = next_token_logits(model, batch)[:, [no, yes]]  # (B, 2)
        probabilities += logits.softmax(-1)[:, 1].tolist()
    return probabilities


def print_answers(model: GPT2LMHeadModel, max_tokens: int) -> None:
    """The likeliest continuation of both prompts with both sentences."""
    for name, template in PROMPTS.items():
        prompts = [make_prompt(template, text, max_tokens) for text in _SENTENCES]
        answers = generate(model, prompts, _ANSWER_TOKENS)
        probabilities = spam_probabilities(model, template, _SENTENCES, max_tokens)
        for text, answer, p in zip(_SENTENCES, answers, probabilities, strict=True):
            print(f'{name}: {text}\n  " yes" against " no": {p:.4f}\n  answer: {decode(answer)!r}')


def read_test_texts(data: Path | None, count: int | None) -> list[Example]:
    """The first ``count`` of the book's 300 test texts, all by default.

    Args:
        data: the SMS collection, or a file like it; None to download it.
        count: how many.

    Raises:
        TrainingError: a corpus that cannot be read or split, or a count without ham or spam.
    """
    config = load_config(_RECIPE)
    file = find_sms_file(data, config.data_urls, "" if data else config.data_sha256)
    texts = split_examples(read_sms_as_the_book(file), config).test
    if count is not None:
        texts = texts[: max(0, count)]
    if len({e.label for e in texts}) != 2:
        raise TrainingError(f"the first {len(texts)} test texts are not both ham and spam.")
    return texts


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints answers and figures. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.zero_shot", description=__doc__)
    parser.add_argument("--base", required=True, help="language model: folder or hub id")
    parser.add_argument("--data", type=Path, help="the SMS collection; without it, downloaded")
    parser.add_argument("--texts", type=int, help="how many test texts (default: all 300)")
    add_device(parser)
    options = parser.parse_args(arguments)
    return exit_code("training.zero_shot", lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    texts = read_test_texts(options.data, options.texts)
    model = load_language_model(options.base).eval().to(pick_device(options.device))
    longest = longest_prompt(model)
    print_answers(model, longest)
    labels = [e.label for e in texts]
    figures = {}
    for name, template in PROMPTS.items():
        probabilities = spam_probabilities(model, template, [e.text for e in texts], longest)
        figures[name] = measure_with_intervals(labels, probabilities)
    print(as_long_table(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
