"""Asking the untuned language model: prompts, the two answers, the command."""

from pathlib import Path

import pytest
import torch

from model.checkpoint import load_language_model, save_language_model
from model.gpt2 import GPT2Config, GPT2LMHeadModel
from model.packing import pack
from model.tokenizer import decode, encode
from tests.conftest import HAM, SPAM, TINY, randomize
from training import download, zero_shot
from training.zero_shot import PROMPTS, longest_prompt, make_prompt, spam_probabilities


def save_base(folder: Path, config: GPT2Config = TINY) -> Path:
    torch.manual_seed(0)
    model = GPT2LMHeadModel(config)
    randomize(model)
    folder.mkdir()
    save_language_model(folder, model)
    return folder


def test_prompts_are_the_posts() -> None:
    question = f"Is the following text 'spam'? Answer with 'yes' or 'no': '{HAM}'"
    assert decode(make_prompt(PROMPTS["question"], HAM, 1000)) == question
    transcript = decode(make_prompt(PROMPTS["transcript"], HAM, 1000))
    assert transcript.startswith("This is a transcript of a conversation between a helpful bot")
    assert transcript.endswith(f"Human: {question}")


def test_long_text_is_cut_inside_its_quotes() -> None:
    prompt = make_prompt(PROMPTS["question"], "word " * 200 + "{braces}", 60)
    assert len(prompt) <= 60
    assert decode(prompt).endswith("word word'")


def test_probability_is_that_of_yes_against_no(tmp_path: Path) -> None:
    model = load_language_model(save_base(tmp_path / "base"))
    texts = [SPAM, HAM, "word " * 3000, "", *(f"text {n}" for n in range(200))]
    probabilities = spam_probabilities(model, PROMPTS["question"], texts, 900)
    yes, no = (encode(answer, 2)[0] for answer in (" yes", " no"))
    assert len(yes) == len(no) == 1
    for text, probability in list(zip(texts, probabilities, strict=True))[::50]:
        with torch.no_grad():
            logits = model(pack([make_prompt(PROMPTS["question"], text, 900)]))[-1]
        expected = logits[[*no, *yes]].softmax(-1)[1]
        assert probability == pytest.approx(expected.item(), abs=1e-5)
    assert len(set(probabilities)) > 100


def test_so_many_tokens_are_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def count(_: GPT2LMHeadModel, prompts: list[list[int]]) -> torch.Tensor:
        read.append(sum(map(len, prompts)))
        return torch.zeros(len(prompts), TINY.vocab_size)

    monkeypatch.setattr(zero_shot, "next_token_logits", count)
    texts = ["word " * 300] * 40
    found = spam_probabilities(GPT2LMHeadModel(TINY), PROMPTS["question"], texts, 900)
    assert found == [0.5] * 40
    assert len(read) > 1
    assert max(read) <= 4096


def test_command_prints_answers_and_figures(
    sms_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = save_base(tmp_path / "base")
    assert zero_shot.main(["--base", str(base), "--data", str(sms_file), "--texts", "40"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("answer: ") == 4
    assert f"question: {SPAM}" in printed
    assert "| texts | 40 | 40 |" in printed
    assert "spam missed at 1 % ham blocked" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--base", "absent", "--data", "{sms}"], "no checkpoint folder at absent"),
        (["--base", "{base}", "--data", "absent"], "cannot read the corpus"),
        (["--base", "{base}", "--data", "{sms}", "--texts", "0"], "not both ham and spam"),
        (["--base", "{base}", "--data", "{sms}", "--texts", "-1"], "not both ham and spam"),
        (["--base", "{base}", "--data", "{sms}", "--device", "nonsense"], "device 'nonsense'"),
        (["--base", "{short}", "--data", "{sms}"], "the base reads 64 tokens, prompt and answer"),
    ],
)
def test_what_cannot_be_done_exits_with_2_and_one_line(
    arguments: list[str],
    message: str,
    sms_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    base = save_base(tmp_path / "base")
    short = save_base(tmp_path / "short", GPT2Config(n_layer=1, n_head=1, n_embd=8, n_positions=64))
    filled = [a.format(base=base, short=short, sms=sms_file) for a in arguments]
    assert zero_shot.main(filled) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_without_data_the_collection_is_fetched_and_its_hash_checked(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(download, "_CACHE", corpus.parent)
    assert zero_shot.main(["--base", "absent"]) == 2
    assert "is not the file that the recipes were written for" in capsys.readouterr().err


def test_longest_prompt_leaves_room_for_the_answer(tmp_path: Path) -> None:
    assert longest_prompt(load_language_model(save_base(tmp_path / "base"))) == 1024 - 32
