"""What a machine with an NVIDIA GPU can prove: agreement with the CPU, speed, fine-tuning time.

    python -m benchmarks.gpu [--checkpoint FOLDER] [--base FOLDER_OR_HUB_ID [--data SMS_FILE]]

Writes results/gpu.json and prints it as the last line. Without a GPU it says so and exits 0. It
needs a network for a base by its hub id, and for the SMS collection where that lies nowhere here.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

import torch

from benchmarks.environment import describe
from benchmarks.server import ROOT, free_port, spamgate, started, wait_for_workers
from benchmarks.texts import SMS_FILE, load_texts
from model import bf16
from model.classifier import Classifier
from model.folders import write_json
from model.gpt2 import GPT2Config, GPT2ForSequenceClassification, init_weights
from model.packing import pack
from model.tokenizer import encode

RESULT = Path(__file__).parent / "results" / "gpu.json"
WORKERS = (1, 4)
POST_SECONDS = {"book_last_block": 15, "book_all_layers": 42}
"""What the post on the book reports of these recipes, on an RTX 3090."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default=str(ROOT / "checkpoints" / "starter"))
    parser.add_argument("--base", help="GPT-2 124M for the book's recipes; without it none is run")
    parser.add_argument("--data", default=SMS_FILE, type=Path, help="the SMS collection")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print(json.dumps({"gpu": None, "reason": "torch finds no NVIDIA GPU on this machine"}))
        return
    gpu = torch.cuda.get_device_name()
    result: dict = {"gpu": gpu, **describe("benchmarks.gpu", gpu)}
    # GPUs before Ampere compute in float32 alone.
    dtypes = ["float32", "bfloat16"] if bf16.is_native(torch.device("cuda")) else ["float32"]
    result["agreement"] = agreement(arguments.checkpoint, dtypes)
    result[f"{dtypes[-1]}_124M"] = forward_speed(dtypes[-1])
    result["service"] = service_speed(arguments.checkpoint)
    write(result)
    if arguments.base:
        result["fine_tuning"] = {
            recipe: fine_tune(recipe, arguments.base, arguments.data) for recipe in POST_SECONDS
        }
        write(result)
    print(json.dumps(result))


def write(result: dict) -> None:
    """Puts what there is so far into the file: the next measurement may fail."""
    write_json(RESULT, result)


def agreement(checkpoint: str, dtypes: list[str]) -> dict:
    """How far CUDA's probabilities lie from the CPU's, on golden messages and 1,000 texts.

    Args:
        checkpoint: folder or hub id.
        dtypes: number formats that the GPU computes in.
    """
    texts = load_texts()[0][:1000]
    exact = Classifier.load(checkpoint, "cpu", "float32")
    texts += [message.text for message in exact.golden]
    expected = exact.classify(texts)
    figures = {}
    for dtype in dtypes:
        answers = Classifier.load(checkpoint, "cuda", dtype).classify(texts)
        pairs = list(zip(expected, answers, strict=True))
        figures[dtype] = {
            "largest_difference": max(
                abs(a.spam_probability - b.spam_probability) for a, b in pairs
            ),
            "labels_that_differ": sum(a.label != b.label for a, b in pairs),
        }
    return figures


def forward_speed(dtype_name: str) -> dict:
    """Tokens a second of a random 124M classifier, and its share of a measured matrix product.

    The share counts every weight of the blocks for every token; the last block spares most of its.
    Both are in this number format.
    """
    dtype = getattr(torch, dtype_name)
    config = GPT2Config()
    model = GPT2ForSequenceClassification(config)
    init_weights(model, config)
    model = model.eval().to("cuda", dtype)
    texts = islice(cycle(load_texts()[0]), 700)
    batch = pack([encode(text, 1024)[0] for text in texts]).to(torch.device("cuda"))
    tokens = len(batch.input_ids)
    with torch.inference_mode():
        seconds = _seconds(lambda: model(batch))
        a = torch.randn(8192, 8192, device="cuda", dtype=dtype)
        peak = 2 * 8192**3 / _seconds(lambda: a @ a)
    weights = sum(p.numel() for name, p in model.named_parameters() if ".h." in name)
    return {
        "tokens_per_second": round(tokens / seconds),
        "matrix_product_tflops": round(peak / 1e12, 1),
        "share_of_matrix_product": round(2 * weights * tokens / seconds / peak, 3),
    }


def service_speed(checkpoint: str) -> dict:
    """Texts a second over HTTP at 64 and 256 one-text clients, cache off, by number of workers."""
    figures: dict[str, dict] = {}
    for workers in WORKERS:
        port = free_port()
        command = spamgate(port, "--checkpoint", checkpoint, "--device", "cuda")
        command += ["--cache-bytes", "0", "--log-level", "warning", "--workers", str(workers)]
        own = figures[f"{workers} workers"] = {}
        with started(command, port) as server:
            wait_for_workers(server, workers)
            for clients in (64, 256):
                load = [sys.executable, "-m", "benchmarks.http_load", f"{server.url}/classify"]
                load += ["--fresh", "--clients", str(clients)]
                subprocess.check_output([*load, "--seconds", "3"], cwd=ROOT)  # warms up
                output = subprocess.check_output(load, cwd=ROOT, text=True)
                own[str(clients)] = json.loads(output.splitlines()[-1])
    return figures


def fine_tune(recipe: str, base: str, data: Path) -> dict:
    """Seconds of the whole command of one of the book's recipes, beside those of the post's loop.

    Args:
        recipe: name of its file.
        base: folder or hub id of GPT-2 124M.
        data: the SMS collection; where it is not there, the command downloads it.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "training.finetune", f"training/configs/{recipe}.toml"]
        command += ["--base", base, "--out", f"{folder}/run"]
        command += ["--data", str(data)] if data.exists() else []
        begin = time.perf_counter()
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - begin
    return {"seconds": round(seconds, 1), "post_seconds_on_rtx_3090": POST_SECONDS[recipe]}


def _seconds(run) -> float:
    """The shortest of ten runs, the device waited for."""
    run()
    times = []
    for _ in range(10):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        run()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    return min(times)


if __name__ == "__main__":
    main()
