"""Checkpoint folders: saved is loaded, here and by transformers; broken ones say what is wrong."""

import json
import math
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from model.checkpoint import (
    GoldenMessage,
    load_base,
    load_classifier,
    load_language_model,
    save_classifier,
    save_language_model,
)
from model.classifier import Classifier
from model.folders import CheckpointError, new_folder
from model.gpt2 import GPT2LMHeadModel
from model.packing import PackedBatch, pack
from model.published import write_tensors
from model.tokenizer import encode
from tests.conftest import AWKWARD_TEXTS, HAM, SPAM, TINY, randomize, tiny_classifier_model

BATCH = pack([encode(text, 64)[0] for text in AWKWARD_TEXTS])


@pytest.mark.parametrize("storage_dtype", [torch.float32, torch.float16])
def test_loaded_model_gives_the_logits_of_the_saved_one(
    tmp_path: Path, storage_dtype: torch.dtype
) -> None:
    model = tiny_classifier_model(head_bias=True)
    save_classifier(tmp_path, model, read_token="last", storage_dtype=storage_dtype)
    loaded = load_classifier(tmp_path)
    with torch.no_grad():
        assert torch.equal(loaded.model(BATCH), model(BATCH))
    stored = load_file(tmp_path / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {storage_dtype}


def test_files_that_are_written_over_do_not_change_what_is_loaded(
    tmp_path: Path,
) -> None:
    """As a new model is copied over an old one that is served: until it is loaded anew."""
    save_classifier(tmp_path, tiny_classifier_model(), read_token="last")
    loaded = load_classifier(tmp_path)
    path = tmp_path / "model.safetensors"
    with torch.no_grad():
        path.write_bytes(bytes(path.stat().st_size))
        assert torch.equal(loaded.model(BATCH), tiny_classifier_model()(BATCH))


def test_loading_leaves_the_compiler_of_torch_alone(save_tiny: Callable[..., Path]) -> None:
    """Importing it doubles the start-up time, and fails without a temporary folder."""
    code = (
        "import sys; from model.classifier import Classifier; "
        "Classifier.load(sys.argv[1], device='cpu').classify(['a']); "
        "assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(save_tiny())], check=True)


def test_float16_storage_stays_close_to_the_trained_weights(tmp_path: Path) -> None:
    model = tiny_classifier_model(head_bias=True)
    with torch.no_grad():
        before = model(BATCH).softmax(-1)
        save_classifier(tmp_path, model, read_token="last", storage_dtype=torch.float16)
        torch.testing.assert_close(model(BATCH).softmax(-1), before, atol=5e-3, rtol=0)


@pytest.mark.parametrize("storage_dtype", [torch.float32, torch.float16])
def test_transformers_pipeline_gives_the_same_probabilities(
    tmp_path: Path, storage_dtype: torch.dtype
) -> None:
    model = tiny_classifier_model(head_bias=True)
    save_classifier(tmp_path, model, read_token="last", storage_dtype=storage_dtype)
    texts = [SPAM, HAM, "Word" + " word" * 299]
    ours = Classifier.load(tmp_path, "cpu").classify(texts)
    theirs = transformers.pipeline("text-classification", str(tmp_path), top_k=None, device="cpu")
    for prediction, scores in zip(ours, theirs(texts), strict=True):
        by_label = {score["label"]: score["score"] for score in scores}
        assert by_label["spam"] == pytest.approx(prediction.spam_probability, abs=1e-5)
        assert by_label["ham"] == pytest.approx(prediction.ham_probability, abs=1e-5)


def test_classifier_made_by_transformers_loads_here(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        n_layer=2, n_head=4, n_embd=32, pad_token_id=50256, id2label={0: "ham", 1: "spam"}
    )
    theirs = transformers.GPT2ForSequenceClassification(config).eval()
    randomize(theirs)
    theirs.save_pretrained(tmp_path)
    token_ids = encode(SPAM, 64)[0]
    with torch.no_grad():
        expected = theirs(torch.tensor([token_ids])).logits
        ours = load_classifier(tmp_path).model(pack([token_ids]))
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


def test_language_model_of_transformers_becomes_a_base(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config(n_layer=2, n_head=4, n_embd=32))
    theirs.eval().save_pretrained(tmp_path, max_shard_size="3MB")
    assert (tmp_path / "model.safetensors.index.json").exists()
    tokens = encode(SPAM, 64)[0]
    with torch.no_grad():
        expected = theirs.transformer(torch.tensor([tokens])).last_hidden_state[0]
        torch.testing.assert_close(load_base(tmp_path)(pack([tokens])), expected)


def test_own_language_model_and_classifier_serve_as_bases(tmp_path: Path) -> None:
    language_model = GPT2LMHeadModel(TINY)
    save_language_model(tmp_path, language_model)
    with torch.no_grad():
        assert torch.equal(load_base(tmp_path)(BATCH), language_model.transformer(BATCH))
    model = tiny_classifier_model()
    save_classifier(tmp_path, model, read_token="last")
    with torch.no_grad():
        assert torch.equal(load_base(tmp_path)(BATCH), model.transformer(BATCH))


def test_bases_without_prefix_and_with_masks_load(tmp_path: Path) -> None:
    """The published file leaves out ``transformer.`` and holds each block's causal mask."""
    model = GPT2LMHeadModel(TINY)
    save_language_model(tmp_path, model)
    weights = {
        name.removeprefix("transformer."): tensor
        for name, tensor in load_file(tmp_path / "model.safetensors").items()
    }
    weights["h.0.attn.bias"] = torch.ones(1, 1, 4, 4).tril()
    save_file(weights, tmp_path / "model.safetensors")
    with torch.no_grad():
        assert torch.equal(load_base(tmp_path)(BATCH), model.transformer(BATCH))


def test_changed_weights_fail_their_golden_messages(save_tiny: Callable[..., Path]) -> None:
    folder, other = save_tiny("one"), save_tiny("two", seed=1)
    (folder / "model.safetensors").write_bytes((other / "model.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match="golden message 0 has P\\(spam\\)"):
        Classifier.load(folder, "cpu")


def test_golden_messages_fail_without_a_number_or_with_the_other_label(
    save_tiny: Callable[..., Path],
) -> None:
    checkpoint = load_classifier(save_tiny())
    classifier = Classifier(checkpoint, device=torch.device("cpu"), dtype=torch.bfloat16)
    [before] = classifier.classify([SPAM])
    classifier.log_odds_shift = math.log(before.ham_probability / before.spam_probability) + 0.02
    for stored in (0.506, 0.515):  # of 0.505: what bfloat16 may lose
        classifier.golden = (GoldenMessage(SPAM, stored),)
        classifier.check_golden()
    for stored, shift in ((0.499, 0.0), (0.53, 0.0), (math.nan, -0.04)):
        classifier.log_odds_shift += shift
        classifier.golden = (GoldenMessage(SPAM, stored),)
        with pytest.raises(CheckpointError, match="golden message 0"):
            classifier.check_golden()


def test_padded_position_checkpoint_is_refused_with_the_recipe_to_use(
    save_tiny: Callable[..., Path],
) -> None:
    folder = save_tiny(read_token=119)
    with pytest.raises(CheckpointError, match=r"position 119.*gpt2_last_block\.toml"):
        Classifier.load(folder, "cpu")


def test_checkpoint_that_saw_later_tokens_is_refused(tmp_path: Path) -> None:
    save_classifier(tmp_path, tiny_classifier_model(), read_token="last", causal_mask=False)
    with pytest.raises(CheckpointError, match="without a causal mask"):
        Classifier.load(tmp_path, "cpu")


def test_name_and_hash_tell_checkpoints_apart(save_tiny: Callable[..., Path]) -> None:
    names = [Classifier.load(save_tiny(f"m{seed}", seed=seed), "cpu").name for seed in (0, 1)]
    assert names[0].startswith("m0@")
    assert names[0].split("@")[1] != names[1].split("@")[1]
    before = load_classifier(folder := save_tiny()).sha256
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"layer_norm_epsilon": 1e-4}))
    assert load_classifier(folder).sha256 != before


def test_a_folder_has_its_own_name_however_it_is_given(
    save_tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_tiny()
    monkeypatch.chdir(folder.parent.parent)
    like_a_hub_id = f"{folder.parent.name}/{folder.name}"
    for source in (folder, like_a_hub_id, f"./{like_a_hub_id}"):
        assert load_classifier(source).name == "tiny"


def test_new_folder_appears_only_when_complete(tmp_path: Path) -> None:
    target = tmp_path / "run"

    def write_and_fail() -> None:
        with new_folder(target) as folder:
            (folder / "half").write_text("x")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_and_fail()
    assert list(tmp_path.iterdir()) == []
    with new_folder(target) as folder:
        (folder / "whole").write_text("x")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    with pytest.raises(CheckpointError, match="exists already"), new_folder(target):
        pass


def test_two_at_once_do_not_get_into_each_others_way(tmp_path: Path) -> None:
    """Of two containers on one volume, with the same number of a process, too."""
    with new_folder(tmp_path / "run") as first, new_folder(tmp_path / "run") as second:
        assert first != second
        assert {*tmp_path.iterdir()} == {first, second}


def test_unknown_source_says_what_is_allowed() -> None:
    with pytest.raises(CheckpointError, match=r"Give a folder .* or a hub id"):
        load_classifier("/no/such/folder")


def test_batches_of_any_size_give_the_same_predictions(save_tiny: Callable[..., Path]) -> None:
    checkpoint = load_classifier(save_tiny())
    device, dtype = torch.device("cpu"), torch.float32
    whole = Classifier(checkpoint, device=device, dtype=dtype).classify(AWKWARD_TEXTS)
    cut = Classifier(checkpoint, device=device, dtype=dtype)
    cut.max_batch_tokens = 10
    for one, other in zip(whole, cut.classify(AWKWARD_TEXTS), strict=True):
        assert one.spam_probability == pytest.approx(other.spam_probability, abs=1e-5)
        assert (one.num_tokens, one.truncated) == (other.num_tokens, other.truncated)
    assert cut.classify([]) == []
    read: list[PackedBatch] = []
    cut._model.register_forward_hook(lambda module, inputs, logits: read.append(inputs[0]))
    cut.classify(AWKWARD_TEXTS)
    assert len(read) > 2
    assert all(batch.num_tokens <= 10 or batch.num_texts == 1 for batch in read)


def test_weights_that_cannot_be_written_are_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "none" / "model.safetensors"
    with pytest.raises(CheckpointError, match=f"cannot write {path}: .*No such file"):
        write_tensors({"a": torch.zeros(1)}, path)


def test_weights_can_be_read_by_the_user_that_serves_them(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_tensors({"a": torch.zeros(1)}, path)
    assert path.stat().st_mode & 0o777 == 0o644


class Hub(BaseHTTPRequestHandler):
    """Stands in for the hub on loopback that holds ``owner/tiny`` and hangs up on ``owner/cut``."""

    files: dict[str, bytes]
    asked: list[str]

    def do_GET(self) -> None:  # the name that http.server calls
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, *, with_body: bool) -> None:
        self.asked.append(self.path)
        path = self.path.split("?")[0]
        name = path.rsplit("/", 1)[-1]
        if path.startswith("/api/models/owner/cut/"):
            return
        if path.startswith("/api/models/owner/tiny/revision/"):
            siblings = [{"rfilename": file} for file in self.files]
            facts = {"id": "owner/tiny", "sha": "0" * 40, "siblings": siblings}
            status, body = 200, json.dumps(facts).encode()
        elif path.startswith("/api/models/owner/tiny/tree/"):
            tree = [{"type": "file", "path": f, "size": len(c)} for f, c in self.files.items()]
            status, body = 200, json.dumps([entry | {"oid": "0"} for entry in tree]).encode()
        elif path.startswith("/owner/tiny/resolve/") and name in self.files:
            status, body = 200, self.files[name]
        else:
            status, body = 404, b"{}"
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/json")
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("ETag", f'"{name}"')
        self.end_headers()
        if with_body:
            self.wfile.write(body)


@pytest.fixture
def hub(save_tiny: Callable[..., Path]) -> Iterator[str]:
    files = {path.name: path.read_bytes() for path in save_tiny().iterdir()}
    files["pytorch_model.bin"] = b"a pickle"
    files["checkpoint-500/model.safetensors"] = files["model.safetensors"]
    asked: list[str] = []
    handler = type("TinyHub", (Hub,), {"files": files, "asked": asked})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()
    assert asked
    unread = ("pytorch_model.bin", "checkpoint-500", "merges.txt")
    assert not [path for path in asked if any(name in path for name in unread)]


LOAD = """
import sys
from model.checkpoint import (load_classifier)
from model.folders import CheckpointError
for source in sys.argv[1:]:
    try:
        checkpoint = load_classifier(source)
        print(checkpoint.name, len(checkpoint.golden))
    except CheckpointError as error:
        print(error)
"""


def test_hub_id_is_downloaded_without_pickles_or_a_clear_error(hub: str, tmp_path: Path) -> None:
    """In a process of its own: the hub's client reads its endpoint once, at import."""
    sources = ["owner/tiny", "owner/other", "owner/cut"]
    run = subprocess.run(
        [sys.executable, "-c", LOAD, *sources],
        env=os.environ | {"HF_ENDPOINT": hub, "HF_HUB_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    loaded, *refused = run.stdout.splitlines()
    assert loaded == "owner/tiny 2"
    for message, source in zip(refused, sources[1:], strict=True):
        assert message.startswith(f"{source} is not a folder here, and the hub did not give it")
        assert message.endswith(".")
        assert "Got: " not in message


@pytest.mark.parametrize("name", ["golden.json", "run.json"])
def test_a_link_to_nothing_is_no_file_left_out(save_tiny: Callable[..., Path], name: str) -> None:
    folder = save_tiny()
    (folder / name).unlink(missing_ok=True)
    load_classifier(folder)
    (folder / name).symlink_to("/nonexistent")
    with pytest.raises(CheckpointError, match=name):
        load_classifier(folder)


def test_a_tensor_that_is_there_twice_is_refused(save_tiny: Callable[..., Path]) -> None:
    folder = save_tiny()
    weights = load_file(folder / "model.safetensors")
    key = next(key for key in weights if key.startswith("transformer."))
    save_file(
        weights | {key.removeprefix("transformer."): weights[key] + 1}, folder / "model.safetensors"
    )
    with pytest.raises(CheckpointError, match="a second time"):
        load_classifier(folder)


def test_a_stale_index_beside_whole_weights_is_left_alone(save_tiny: Callable[..., Path]) -> None:
    folder = save_tiny()
    before = load_classifier(folder).model.score.weight
    (folder / "model.safetensors.index.json").write_text(
        '{"weight_map": {"a": "gone.safetensors"}}'
    )
    assert load_classifier(folder).model.score.weight.equal(before)


def test_a_language_model_whose_output_layer_is_not_its_embeddings_is_refused(
    tiny_base: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_base, tmp_path / "untied")
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"tie_word_embeddings": False}))
    with pytest.raises(CheckpointError, match="its output layer is not its embeddings"):
        load_language_model(folder)
