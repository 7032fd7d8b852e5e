"""The network against transformers' on random weights: logits, gradients, the last token alone."""

from pathlib import Path

import pytest
import torch
import transformers
from torch import Tensor

from model.checkpoint import save_classifier
from model.gpt2 import (
    PUBLISHED_SIZES,
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    fold_head_bias,
)
from model.packing import PackedBatch, pack
from model.tokenizer import ENDOFTEXT, encode
from tests.conftest import AWKWARD_TEXTS, TINY, randomize, tiny_classifier_model

TOKENS = [encode(text, 64)[0] for text in AWKWARD_TEXTS]


def load_theirs(
    folder: Path, model: GPT2ForSequenceClassification
) -> transformers.GPT2ForSequenceClassification:
    save_classifier(folder, model, read_token="last")
    return transformers.GPT2ForSequenceClassification.from_pretrained(
        folder, attn_implementation="eager"
    ).eval()


def padded(token_lists: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Right-padded ids and attention mask, as transformers takes them."""
    width = max(map(len, token_lists))
    ids = torch.full((len(token_lists), width), ENDOFTEXT)
    mask = torch.zeros(len(token_lists), width, dtype=torch.int64)
    for row, tokens in enumerate(token_lists):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        mask[row, : len(tokens)] = 1
    return ids, mask


def assert_padded_packed_and_single_agree(folder: Path, config: GPT2Config) -> None:
    ours = tiny_classifier_model(config=config, head_bias=True)
    # transformers finds the last token by its id, so the empty text (ENDOFTEXT alone) is left out.
    texts = [tokens for tokens in TOKENS if tokens != [ENDOFTEXT]]
    with torch.no_grad():
        theirs = load_theirs(folder, ours)
        input_ids, attention_mask = padded(texts)
        reference = theirs(input_ids=input_ids, attention_mask=attention_mask).logits
        packed = ours(pack(texts))
        single = torch.cat([ours(pack([text])) for text in texts])
    scale = reference.abs().max().clamp(min=1.0)
    torch.testing.assert_close(packed / scale, reference / scale, atol=1e-5, rtol=0)
    torch.testing.assert_close(single / scale, reference / scale, atol=1e-5, rtol=0)


def test_padded_packed_and_single_logits_agree_with_transformers(tmp_path: Path) -> None:
    assert_padded_packed_and_single_agree(tmp_path, TINY)


@pytest.mark.slow
def test_124m_logits_agree_with_transformers(tmp_path: Path) -> None:
    assert_padded_packed_and_single_agree(tmp_path, PUBLISHED_SIZES["gpt2"])


def test_book_padding_read_at_a_fixed_position_agrees_with_transformers(tmp_path: Path) -> None:
    """The book pads with ENDOFTEXT, masks nothing and reads the last position: a text of pads."""
    ours = tiny_classifier_model()
    texts = [(tokens + [ENDOFTEXT] * 20)[:20] for tokens in TOKENS]
    backbone = load_theirs(tmp_path, ours)
    with torch.no_grad():
        hidden = backbone.transformer(torch.tensor(texts)).last_hidden_state[:, 19]
        reference = backbone.score(hidden)
        torch.testing.assert_close(ours(pack(texts)), reference, atol=1e-5, rtol=1e-5)


def test_gradients_agree_with_transformers(tmp_path: Path) -> None:
    ours = tiny_classifier_model()
    theirs = load_theirs(tmp_path, ours)
    texts = [tokens for tokens in TOKENS if tokens != [ENDOFTEXT]]
    labels = torch.arange(len(texts)) % 2
    input_ids, attention_mask = padded(texts)
    theirs(input_ids=input_ids, attention_mask=attention_mask, labels=labels).loss.backward()
    torch.nn.functional.cross_entropy(ours(pack(texts)), labels).backward()
    gradients = {name: p.grad for name, p in ours.named_parameters()}
    for name, parameter in theirs.named_parameters():
        reference = parameter.grad
        if name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")):
            reference = reference.t()
        torch.testing.assert_close(gradients[name], reference, atol=1e-5, rtol=1e-4, msg=name)


def test_language_model_logits_agree_with_transformers() -> None:
    torch.manual_seed(0)
    ours = GPT2LMHeadModel(TINY)
    randomize(ours)
    theirs = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(n_layer=2, n_head=4, n_embd=32, attn_pdrop=0, resid_pdrop=0)
    ).eval()
    weights = {
        name: tensor.t()
        if name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight"))
        else tensor
        for name, tensor in ours.state_dict().items()
    }
    missing, unexpected = theirs.load_state_dict(weights, strict=False)
    assert (missing, unexpected) == (["lm_head.weight"], [])
    with torch.no_grad():
        for tokens in TOKENS:
            reference = theirs(torch.tensor([tokens])).logits[0]
            torch.testing.assert_close(ours(pack([tokens])), reference, atol=1e-4, rtol=1e-5)


def test_last_token_alone_equals_all_tokens_computed() -> None:
    model = tiny_classifier_model().transformer
    batch = pack(TOKENS)
    with torch.no_grad():
        every = model(batch)[batch.last_rows]
        torch.testing.assert_close(model(batch, last_only=True), every, atol=1e-5, rtol=1e-5)


def test_probabilities_do_not_depend_on_neighbours() -> None:
    model = tiny_classifier_model()

    def spam_probability(batch: PackedBatch, row: int) -> float:
        with torch.no_grad():
            return float(model(batch).softmax(-1)[row, 1])

    for text in TOKENS:
        alone = spam_probability(pack([text]), 0)
        for neighbours in (TOKENS, TOKENS[::-1], [text] * 30):
            assert spam_probability(pack([*neighbours, text]), len(neighbours)) == pytest.approx(
                alone, abs=1e-5
            )


def test_folding_the_head_bias_changes_no_logit() -> None:
    model = tiny_classifier_model(head_bias=True)
    batch = pack(TOKENS)
    with torch.no_grad():
        before = model(batch)
        fold_head_bias(model)
        assert model.score.bias is None
        torch.testing.assert_close(model(batch), before, atol=1e-5, rtol=1e-5)


def test_published_sizes_have_their_published_parameter_counts() -> None:
    counts = {}
    for name, config in PUBLISHED_SIZES.items():
        with torch.device("meta"):
            counts[name] = sum(p.numel() for p in GPT2LMHeadModel(config).parameters())
    assert counts == {
        "gpt2": 124_439_808,
        "gpt2-medium": 354_823_168,
        "gpt2-large": 774_030_080,
        "gpt2-xl": 1_557_611_200,
    }


def test_head_count_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="n_head = 3 does not divide n_embd = 32"):
        GPT2Config(n_head=3, n_embd=32)
